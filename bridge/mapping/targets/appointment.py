"""The ``appointment:`` block of a worklist mapping: SIU messages say when and where the steps of an order are done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.errors import MappingError
from bridge.mapping.place import Place
from bridge.mapping.refs import Names
from bridge.mapping.scope import Made, Make, Scope
from bridge.mapping.slices import compile_anchors, slices
from bridge.mapping.sources import Source, compile_names, compile_source
from bridge.mapping.targets.dicom import Attribute, attribute
from bridge.model import AppointmentStatus, AppointmentUpdate, WorklistDocument
from bridge.yamlfile import suggest

_HEAD = ("target", "messages", "let", "appointment")
_BLOCK = ("each", "let", "identifiers", "appointment", "status", "service")
_SEQUENCE = ("ScheduledProcedureStepSequence",)
_IGNORE = "ignore"

Identifiers = Callable[[dict[str, Any], Place, Names], list[tuple[str, Source]]]
"""Compiles the ``identifiers:`` of an order."""


@dataclass(slots=True)
class _Appointment:
    """The compiled block and the lines of the step's attributes."""

    identifiers: list[tuple[str, Source]]
    appointment: Source
    status: Source
    service: Source
    each: tuple[str, ...]
    lines: list[tuple[Attribute, Source]]


def compile_appointments(
    own: dict[str, Any], targets: dict[Any, Any], place: Place, names: Names, identifiers: Identifiers
) -> Make:
    """The renderer: a :class:`bridge.model.WorklistDocument` with an update for each order of the message's
    appointment, and for each service where it books several.

    ``own`` are the mapping's own words, ``targets`` its lines by DICOM keyword.
    """
    names.findings.unknown_keys(own, _HEAD, place)
    block, here = own["appointment"], place.child("appointment")
    if not isinstance(block, dict):
        names.findings.report(here, "`appointment` is a mapping", f"it has {', '.join(_BLOCK)}")
        block = {}
    names.findings.unknown_keys(block, _BLOCK, here)
    inside = names.inner()
    compile_names(block.get("let"), here.child("let"), inside)
    order = identifiers(block, here, inside)
    sources = {word: _needed(word, block, here, inside) for word in ("appointment", "status")}
    service = Source(lambda scope: "")
    if "service" in block:
        service = compile_source(block["service"], here.child("service"), inside, "service")
    each = compile_anchors(block["each"], here.child("each"), inside) if "each" in block else ()
    compiled = _Appointment(order, **sources, service=service, each=each, lines=_lines(targets, place, inside))

    def render(scope: Scope) -> Made:
        found = [one for service, inner in _services(compiled, scope) for one in _updates(compiled, service, inner)]
        return Made(WorklistDocument(appointments=tuple(found)).to_json())

    return render


def _services(compiled: _Appointment, scope: Scope) -> list[tuple[str, Scope]]:
    """Each service that is booked, with the part of the message that says so first; the whole message if there are
    not several."""
    parts = slices(scope.message, compiled.each, whole=True)
    scopes = [scope.inner(view, number) for number, (_, view) in enumerate(parts, start=1)]
    found: dict[str, Scope] = {}
    for inner in scopes:
        if name := compiled.service.read(inner):
            found.setdefault(name, inner)
    if len(found) > 1:
        return list(found.items())
    return [(next(iter(found), ""), scope.inner(scope.message))]


def _needed(word: str, block: dict[str, Any], place: Place, names: Names) -> Source:
    if word not in block:
        names.findings.report(place, f"`appointment` needs `{word}:`", "see siu-to-worklist.yaml for an example")
        return Source(lambda scope: "")
    return compile_source(block[word], place.child(word), names, word)


def _lines(targets: dict[Any, Any], place: Place, names: Names) -> list[tuple[Attribute, Source]]:
    lines = []
    for key, line in targets.items():
        here = place.child(key)
        target = attribute(str(key), here, names.findings)
        if target is None:
            continue
        if target.path != _SEQUENCE:
            fix = suggest(f"{_SEQUENCE[0]}.{target.keyword}", [str(other) for other in targets])
            names.findings.report(here, f"`{key}` is no attribute of a scheduled step", fix)
        lines.append((target, compile_source(line, here, names, target.keyword, target.fitter())))
    return lines


def _updates(compiled: _Appointment, service: str, scope: Scope) -> tuple[AppointmentUpdate, ...]:
    """What the message says of a service, for each of its orders; none, noted, if the worklist stays as it is."""
    word = compiled.status.read(scope)
    if not word:
        raise compiled.status.missing(scope, "the message does not say what happens to the appointment")
    if word == _IGNORE:
        scope.note(f"the appointment changes nothing in the worklist ({compiled.status.where(scope)})")
        return ()
    orders = _orders(compiled, scope)
    if not orders:
        scope.note("the appointment names no order: it changes nothing in the worklist")
        return ()
    try:
        status = AppointmentStatus(word)
    except ValueError:
        what = f"`{word}` is none of {', '.join(AppointmentStatus)}, {_IGNORE}"
        raise compiled.status.error(scope, what, "correct the table", "code") from None
    attributes = _booked(compiled, scope) if status is AppointmentStatus.BOOKED else {}
    appointment = compiled.appointment.read(scope)
    return tuple(AppointmentUpdate(order, appointment, status, attributes, service) for order in orders)


def _orders(compiled: _Appointment, scope: Scope) -> list[tuple[str, ...]]:
    """The identifiers of each order: the numbers at one place. A kind that has fewer of them is left out."""
    found = {kind: source.read(scope) for kind, source in compiled.identifiers}
    numbers = {kind: value if isinstance(value, list) else [value] for kind, value in found.items() if value}
    count = max(map(len, numbers.values()), default=0)
    return [
        tuple(f"{kind}:{values[place]}" for kind, values in numbers.items() if len(values) == count)
        for place in range(count)
    ]


def _booked(compiled: _Appointment, scope: Scope) -> dict[str, Any]:
    read = ((target.keyword, source.read(scope)) for target, source in compiled.lines)
    attributes = {keyword: value for keyword, value in read if value}
    if not attributes:
        what, fix = "the appointment says neither when nor where", "send AIS-4, AIL-6 or TQ1-7"
        raise MappingError(what, at="AIS-4", fix=fix, kind="required")
    return attributes
