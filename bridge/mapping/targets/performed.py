"""The ``performed:`` block of a worklist mapping: what a modality tells of its work moves the steps on the worklist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bridge.mapping.place import Place
from bridge.mapping.refs import Names
from bridge.mapping.scope import Made, Make, Scope
from bridge.mapping.slices import compile_anchors, slices
from bridge.mapping.sources import Source, compile_names, compile_source
from bridge.model import PerformedUpdate, StepStatus, WorklistDocument
from bridge.yamlfile import suggest

_HEAD = ("target", "messages", "let", "performed")
_NAMING = ("study", "accession", "step")
_NEEDED = ("instance", "status", *_NAMING)
_BLOCK = ("each", "let", *_NEEDED)
_STATUSES = (StepStatus.SCHEDULED, StepStatus.STARTED, StepStatus.COMPLETED, StepStatus.DISCONTINUED)
_IGNORE = "ignore"


@dataclass(slots=True)
class _Performed:
    each: tuple[str, ...]
    sources: dict[str, Source]


def compile_performed(own: dict[str, Any], targets: dict[Any, Any], place: Place, names: Names) -> Make:
    """The renderer: a :class:`bridge.model.WorklistDocument` with an update for each scheduled step that was worked on.

    ``own`` are the mapping's own words; ``targets``, lines by DICOM keyword, have no meaning here.
    """
    names.findings.unknown_keys(own, _HEAD, place)
    for key in targets:
        names.findings.report(place.child(key), f"`{key}` is not changed by a performed step", "take the line out")
    block, here = own["performed"], place.child("performed")
    if not isinstance(block, dict):
        names.findings.report(here, "`performed` is a mapping", f"it has {', '.join(_BLOCK)}")
        block = {}
    names.findings.unknown_keys(block, _BLOCK, here)
    inside = names.inner()
    compile_names(block.get("let"), here.child("let"), inside)
    each = compile_anchors(block["each"], here.child("each"), inside) if "each" in block else ()
    compiled = _Performed(each, {word: _needed(word, block, here, inside) for word in _NEEDED})

    def render(scope: Scope) -> Made:
        updates = tuple(dict.fromkeys(_updates(compiled, scope)))
        return Made(WorklistDocument(performed=updates).to_json())

    return render


def _needed(word: str, block: dict[str, Any], place: Place, names: Names) -> Source:
    if word not in block:
        names.findings.report(place, f"`performed` needs `{word}:`", "see mpps-to-worklist.yaml for an example")
        return Source(lambda scope: "")
    return compile_source(block[word], place.child(word), names, word)


def _updates(compiled: _Performed, scope: Scope) -> Iterator[PerformedUpdate]:
    """One for each scheduled step; for work that was not scheduled one that names the study alone."""
    for number, (_, view) in enumerate(slices(scope.view, compiled.each, whole=True), start=1):
        inner = scope.inner(view, number)
        status = _status(compiled.sources["status"], inner)
        study, accession, step = (str(compiled.sources[word].read(inner)) for word in _NAMING)
        if status is None:
            scope.note("the event changes nothing in the worklist")
        else:
            if not step and not accession:
                scope.note("work that was not scheduled: kept for an order of its study")
            yield PerformedUpdate(str(compiled.sources["instance"].read(inner)), status, study, accession, step)


def _status(source: Source, scope: Scope) -> StepStatus | None:
    word = source.read(scope)
    if word == _IGNORE:
        return None
    if not word:
        raise source.missing(scope, "the event does not say how far the step is")
    if word not in _STATUSES:
        fix = suggest(str(word), _STATUSES)
        raise source.error(scope, f"`{word}` is none of {', '.join((*_STATUSES, _IGNORE))}", fix, "code")
    return StepStatus(word)
