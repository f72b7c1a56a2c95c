"""The ``worklist`` target: order messages become updates of the modality worklist (PS3.4 K.6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from bridge.codecs.paths import compile_path
from bridge.errors import MappingError
from bridge.mapping.place import Place
from bridge.mapping.refs import Names, where
from bridge.mapping.scope import Made, Make, Read, Scope
from bridge.mapping.slices import compile_anchors, slices
from bridge.mapping.sources import Source, compile_names, compile_source
from bridge.mapping.targets.appointment import compile_appointments
from bridge.mapping.targets.dicom import Attribute, attribute
from bridge.mapping.targets.patient import compile_patients
from bridge.mapping.targets.performed import compile_performed
from bridge.model import StepStatus, UnknownOrder, WorklistDocument, WorklistStep, WorklistUpdate
from bridge.yamlfile import suggest

SPS = "ScheduledProcedureStepSequence"
TYPE_1 = (
    "PatientName", "PatientID", "StudyInstanceUID", "RequestedProcedureID", f"{SPS}.ScheduledProcedureStepID",
    f"{SPS}.ScheduledStationAETitle", f"{SPS}.Modality", f"{SPS}.ScheduledProcedureStepStartDate",
    f"{SPS}.ScheduledProcedureStepStartTime",
)  # fmt: skip
"""Return keys that may not be empty in any worklist item (PS3.4 table K.6-1)."""
NAMING = ("StudyInstanceUID", f"{SPS}.ScheduledProcedureStepID")
"""What tells which steps a message is about that is not about the whole order."""

_HEAD = ("target", "messages", "let", "order", "step")
_ORDER = ("each", "let", "identifiers", "status", "change", "if_unknown")
_STEP = ("each", "let", "named")
KINDS = ("accession", "placer", "filler")
"""Kinds of order number, the strongest last."""
_IGNORE = "ignore"


@dataclass(slots=True)
class _Order:
    """The compiled ``order:`` block."""

    each: tuple[str, ...]
    identifiers: list[tuple[str, Source]]
    status: Source
    change: Source
    if_unknown: Source


@dataclass(slots=True)
class _Steps:
    """The compiled ``step:`` block and the lines of the attributes."""

    each: tuple[str, ...]
    lines: list[tuple[Attribute, Source, Read, bool]]
    """Each attribute, its source and what reads it, and whether it may not be empty."""
    naming: list[tuple[Attribute, Source]]
    """``named:``, what a message itself says of which step it means."""


_NO_STEPS = _Steps((), [], [])
"""Of a mapping that only says what has become of whole orders."""


def compile_worklist(data: dict[str, Any], place: Place, names: Names) -> Make:
    """The renderer of a worklist mapping: :class:`bridge.model.WorklistDocument` as JSON.

    Lower-case keys are the mapping's own, every other one is a DICOM keyword, or several joined by dots.
    """
    own = {key: value for key, value in data.items() if isinstance(key, str) and key[:1].islower()}
    targets = {key: value for key, value in data.items() if key not in own}
    if "patient" in data:
        return compile_patients(own, targets, place, names)
    if "performed" in data:
        return compile_performed(own, targets, place, names)
    if "appointment" in data:
        return compile_appointments(own, targets, place, names, _identifiers)
    names.findings.unknown_keys(own, _HEAD, place)
    inside = names.inner()
    order = _compile_order(data.get("order"), place.child("order"), inside)
    deepest = inside.inner()
    steps = _compile_steps(data.get("step"), targets, place, deepest) if targets or "step" in own else _NO_STEPS

    def render(scope: Scope) -> Made:
        updates: list[WorklistUpdate] = []
        for number, (_, view) in enumerate(slices(scope.message, order.each, whole=True), start=1):
            inner = scope.inner(view, number)
            update = _update(order, steps, inner)
            if update is not None:
                _merge(updates, update, inner)
        return Made(WorklistDocument(tuple(updates)).to_json())

    return render


def _compile_order(data: Any, place: Place, names: Names) -> _Order:
    block = _block(data, _ORDER, place, names)
    compile_names(block.get("let"), place.child("let"), names)
    identifiers = _identifiers(block, place, names)
    parts = {}
    for word in ("status", "change", "if_unknown"):
        if word in block:
            parts[word] = compile_source(block[word], place.child(word), names, f"order {word}")
        elif word == "status":
            names.findings.report(place, "`order` needs `status:`", "map ORC-1 and ORC-5 with a table")
    none = Source(lambda scope: "")
    each = compile_anchors(block["each"], place.child("each"), names) if "each" in block else ()
    return _Order(each, identifiers, *(parts.get(word, none) for word in ("status", "change", "if_unknown")))


def _identifiers(block: dict[str, Any], place: Place, names: Names) -> list[tuple[str, Source]]:
    """The ``identifiers:`` of a block: each kind of order number, and where it is read from."""
    given = block.get("identifiers")
    identifiers = []
    if not isinstance(given, dict) or not given:
        fix = "for example {placer: {from: ORC-2, as: number_and_issuer}}"
        names.findings.report(place.child("identifiers"), "`identifiers` says what the order is known by", fix)
        given = {}
    for kind, line in given.items():
        here = place.child("identifiers", kind)
        if kind not in KINDS:
            names.findings.report(here, f"unknown kind of identifier `{kind}`", suggest(str(kind), KINDS))
        identifiers.append((str(kind), compile_source(line, here, names)))
    return identifiers


def _compile_steps(data: Any, targets: dict[Any, Any], place: Place, names: Names) -> _Steps:
    here = place.child("step")
    block = _block(data, _STEP, here, names)
    compile_names(block.get("let"), here.child("let"), names)
    lines = [(one, source, source.read, str(one) in TYPE_1) for one, source in _lines(targets, place, names)]
    written = {str(target) for target, *_ in lines}
    for wanted in TYPE_1:
        if wanted not in written:
            names.findings.report(place, f"no line for `{wanted}`, which every worklist item needs", f"add `{wanted}:`")
    named = _block(block.get("named", {}), NAMING, here.child("named"), names)
    each = compile_anchors(block["each"], here.child("each"), names) if "each" in block else ()
    return _Steps(each, lines, _lines(named, here.child("named"), names))


def _lines(data: dict[Any, Any], place: Place, names: Names) -> list[tuple[Attribute, Source]]:
    lines = []
    for key, line in data.items():
        target = attribute(str(key), place.child(key), names.findings)
        if target is not None:
            lines.append((target, compile_source(line, place.child(key), names, target.keyword, target.fitter())))
    return lines


def _block(data: Any, known: tuple[str, ...], place: Place, names: Names) -> dict[str, Any]:
    if not isinstance(data, dict):
        names.findings.report(place, f"`{place.path[-1]}:` is missing", f"it has {', '.join(known)}")
        return {}
    names.findings.unknown_keys(data, known, place)
    return data


def _update(order: _Order, steps: _Steps, scope: Scope) -> WorklistUpdate | None:
    """What one order of the message says; None when that changes nothing in the worklist."""
    before = len(scope.notes)
    word = order.status.read(scope)
    if not word:
        raise order.status.missing(scope, "the message does not say what happens to the order")
    if word == _IGNORE:
        scope.note(f"order {scope.index} changes nothing in the worklist ({order.status.where(scope)})")
        return None
    found = tuple(f"{kind}:{number}" for kind, source in order.identifiers if (number := source.read(scope)))
    if not found:
        raise order.identifiers[0][1].missing(scope, "the order has no number")
    status = _enum(_STATES, word, order.status, scope)
    if status is StepStatus.SCHEDULED and steps is _NO_STEPS:
        fix = "map the step's attributes, or another action in the table"
        raise order.status.error(scope, "this mapping makes no steps, so nothing can be scheduled", fix, "code")
    if status is StepStatus.SCHEDULED:
        rendered = [_render_step(steps, inner) for inner in _step_scopes(steps, scope)]
    else:
        rendered = _named_steps(steps, scope)
    _distinct(rendered, scope)
    return WorklistUpdate(
        found,
        status,
        tuple(rendered),
        known_only=order.change.read(scope) in ("yes", True),
        if_unknown=_enum(_POLICIES, order.if_unknown.read(scope) or "create", order.if_unknown, scope),
        notes=tuple(scope.notes[before:]),
    )


_STATES = {one.value: one for one in StepStatus if one is not StepStatus.WAITING}
_POLICIES = {one.value: one for one in UnknownOrder}
E = TypeVar("E")


def _enum(known: Mapping[str, E], word: Any, source: Source, scope: Scope) -> E:
    if word not in known:
        what = f"`{word}` is none of {', '.join(known)}"
        raise source.error(scope, what, "correct the table or the mapping", "code")
    return known[word]


def _step_scopes(steps: _Steps, scope: Scope) -> list[Scope]:
    found = slices(scope.view, steps.each, whole=True)
    return [scope.inner(view, number) for number, (_, view) in enumerate(found, start=1)]


def _render_step(steps: _Steps, scope: Scope) -> WorklistStep:
    """All attributes of one step. An error names the first fault, and where there are more."""
    attributes: dict[str, Any] = {}
    faults: list[MappingError] = []
    for target, source, read, needed in steps.lines:
        try:
            value = read(scope)
        except MappingError as error:
            faults.append(error)
            continue
        if value and not target.path:
            attributes[target.keyword] = value
        elif value:
            _put(attributes, target, value)
        elif needed:
            faults.append(source.missing(scope, f"{target.keyword} is missing, and every worklist item needs it"))
    if faults:
        more = list(dict.fromkeys(fault.at for fault in faults[1:]))
        if more:
            faults[0].what += f" (more faults at {', '.join(more)})"
        raise faults[0]
    return WorklistStep(attributes)


def _named_steps(steps: _Steps, scope: Scope) -> list[WorklistStep]:
    """Which steps a message means that is not about scheduling: those it names, or - an empty list - all."""
    found = []
    for inner in _step_scopes(steps, scope):
        attributes: dict[str, Any] = {}
        for target, source in steps.naming:
            if value := source.read(inner):
                _put(attributes, target, value)
        if not attributes:
            return []
        found.append(WorklistStep(attributes))
    return found


def _put(attributes: dict[str, Any], target: Attribute, value: Any) -> None:
    for name in target.path:
        attributes = attributes.setdefault(name, [{}])[0]
    attributes[target.keyword] = value


def _distinct(found: Sequence[WorklistStep], scope: Scope) -> None:
    """Raises MappingError if two steps of one order could not be told apart."""
    numbers = {(one.attributes.get("StudyInstanceUID"), one.step.get("ScheduledProcedureStepID")) for one in found}
    if len(numbers) < len(found):
        raise MappingError(
            "two steps of one order have the same Scheduled Procedure Step ID",
            at=_step_place(scope),
            fix="send a step id of its own for each (OBR-20 or IPC-4)",
            kind="duplicate_key",
        )


def _step_place(scope: Scope) -> str:
    return where([(scope, compile_path("IPC-4.1")), (scope, compile_path("OBR-20.1"))])


def _merge(updates: list[WorklistUpdate], new: WorklistUpdate, scope: Scope) -> None:
    """Add an update; groups about the same order with the same status are one update with several steps."""
    for at, old in enumerate(updates):
        if not _same_order(old.order, new.order):
            continue
        if (old.status, old.known_only, old.if_unknown) != (new.status, new.known_only, new.if_unknown):
            if not (old.steps and new.steps):
                what = "two groups of one order say different things, and not of which step"
                fix = "send the step id (OBR-20 or IPC-4)"
                raise MappingError(what, at=_step_place(scope), fix=fix, kind="duplicate_key")
            continue
        both = (*old.steps, *new.steps) if old.steps and new.steps else ()
        _distinct(both, scope)
        identifiers = tuple(dict.fromkeys((*old.order, *new.order)))
        notes = tuple(dict.fromkeys((*old.notes, *new.notes)))
        updates[at] = replace(old, order=identifiers, steps=both, notes=notes)
        return
    updates.append(new)


def _same_order(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two lists of identifiers mean one order: by the strongest kind of number that both have."""
    for kind in reversed(KINDS):
        mine, theirs = ({number for number in numbers if number.startswith(kind)} for numbers in (one, other))
        if mine and theirs:
            return bool(mine & theirs)
    return False
