"""The ``patient:`` block of a worklist mapping: ADT messages refresh and move what is on the worklist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.codecs.hl7v2 import NULL
from bridge.errors import MappingError
from bridge.mapping.conditions import compile_check
from bridge.mapping.place import Place
from bridge.mapping.refs import Names, Ref, compile_refs
from bridge.mapping.scope import Made, Make, Scope
from bridge.mapping.slices import compile_anchors, slices
from bridge.mapping.sources import Source, compile_source
from bridge.mapping.survivors import CONTEXT
from bridge.mapping.targets.dicom import Attribute, attribute
from bridge.model import PATIENT_ATTRIBUTES, PatientUpdate, WorklistDocument
from bridge.yamlfile import suggest

_HEAD = ("target", "messages", "let", "patient")
_BLOCK = ("each", "when", "identifiers")
_NEEDED = ("PatientName", "PatientID")
"""No message may take these away: a worklist item needs them (PS3.4 table K.6-1, type 1)."""

_Lines = list[tuple[Attribute, Source]]


def compile_patients(own: dict[str, Any], targets: dict[Any, Any], place: Place, names: Names) -> Make:
    """The renderer: a :class:`bridge.model.WorklistDocument` with one update for each patient.

    ``own`` are the mapping's own words, ``targets`` its lines by DICOM keyword.
    """
    names.findings.unknown_keys(own, _HEAD, place)
    block, here = own["patient"], place.child("patient")
    if not isinstance(block, dict) or "identifiers" not in block:
        names.findings.report(here, "`patient` needs `identifiers:`", "for example {each: PID, identifiers: PID-3}")
        block = {"identifiers": "PID-3"}
    names.findings.unknown_keys(block, _BLOCK, here)
    each = compile_anchors(block["each"], here.child("each"), names) if "each" in block else ()
    inside = names.inner()
    when = compile_check(block["when"], here.child("when"), inside) if "when" in block else None
    refs = compile_refs(block["identifiers"], here.child("identifiers"), inside)
    find = _finder(refs, here.child("identifiers"), inside)
    lines = _lines(targets, place, inside)

    def render(scope: Scope) -> Made:
        found = enumerate(slices(scope.message, each, whole=True), start=1)
        scopes = [scope.inner(view, number) for number, (_, view) in found]
        meant = [inner for inner in scopes if when is None or when(inner)]
        if len(meant) < len(scopes):
            scope.note("what the message says of a patient changes nothing in the worklist")
        patients = tuple(_update(find(inner), lines, inner) for inner in meant)
        return Made(WorklistDocument(patients=patients).to_json())

    return render


def _lines(targets: dict[Any, Any], place: Place, names: Names) -> _Lines:
    lines: _Lines = []
    for key, line in targets.items():
        here = place.child(key)
        if key not in PATIENT_ATTRIBUTES:
            names.findings.report(here, f"`{key}` is no attribute of a patient", suggest(str(key), PATIENT_ATTRIBUTES))
            continue
        target = attribute(str(key), here, names.findings)
        if target is not None:
            lines.append((target, compile_source(line, here, names, target.keyword, target.fitter())))
    return lines


def _finder(refs: list[Ref], place: Place, names: Names) -> Callable[[Scope], tuple[str, ...]]:
    """What finds the identifiers of a patient, each as ``number^issuer``."""

    def find(scope: Scope) -> tuple[str, ...]:
        fields = next((found for ref in refs if (found := ref.fields(scope))), [])
        named = [(one.text(1), one.text(4, 1) or one.text(4, 2)) for one in fields]
        patients = tuple(dict.fromkeys(f"{number}^{issuer}" for number, issuer in named if number))
        if not patients:
            at = next((path.text for ref in refs for _, path in ref.paths(scope)), "PID-3")
            raise MappingError("the patient has no identifier", at=at, fix=f"send {at}", kind="required")
        return patients

    if names.watch is None:
        return find
    return names.watch.act(place, "identifiers", "", find, lambda made, scope: (scope, made and list(made)))


def _update(patients: tuple[str, ...], lines: _Lines, scope: Scope) -> PatientUpdate:
    identity = scope.context.get(CONTEXT) or {}
    retired = tuple(sorted(key for key, known in identity.items() if known["survivor"] in patients))
    attributes: dict[str, Any] = {}
    for target, source in lines:
        value = source.read(scope)
        if value:
            attributes[target.keyword] = value
        elif target.keyword not in _NEEDED and _deleted(source, scope):
            attributes[target.keyword] = None
    return PatientUpdate(patients, retired, attributes)


def _deleted(source: Source, scope: Scope) -> bool:
    """The message says that there is no value (HL7's null), rather than nothing."""
    return any(inner.view.get(path.text) == NULL for inner, path in source.paths(scope))
