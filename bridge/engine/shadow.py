"""A shadow run: what another revision would have sent of what was really received, beside what the running one would.

Nothing is sent, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from bridge.codecs.differences import differing_fields
from bridge.codecs.formats import FORMATS
from bridge.engine.plan import Plan
from bridge.errors import BridgeError
from bridge.store.shadow import Received, page
from bridge.store.store import Store

PAGE = 100
Target = tuple[str, str]
"""Destination and mapping."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One message, at one destination: what would leave, byte for byte; empty where nothing would."""

    message: str
    destination: str
    before: bytes
    after: bytes


@dataclass(slots=True)
class Difference:
    """One thing that is different for some messages."""

    destination: str
    what: str
    """``OBR-24 differs``, ``now goes there, too``, ``no longer goes there``, ``fails now: ...``."""
    messages: int
    example: Sample


@dataclass(slots=True)
class Report:
    """What a candidate would change."""

    messages: int = 0
    changed: int = 0
    """Of these, how many would make any difference."""
    unread: int = 0
    """Of these, how many this version cannot read any more."""
    found: dict[tuple[str, str], Difference] = field(default_factory=dict)

    @property
    def differences(self) -> list[Difference]:
        """By destination, the most frequent first."""
        return sorted(self.found.values(), key=lambda one: (one.destination, -one.messages, one.what))


@dataclass(frozen=True, slots=True)
class _Made:
    """What one revision makes of a message for one target."""

    data: bytes
    format: str
    error: str = ""


def received(store: Store, *, since: int = 0, last: int = 0) -> Iterator[Received]:
    """The newest ``last`` messages, or all since then (milliseconds); read by the hundred, so that none waits long."""
    before, left = "", last
    while left or not last:
        limit = min(PAGE, left) if last else PAGE
        found: list[Received] = store.read(partial(page, before=before, since=since, limit=limit))
        yield from found
        if len(found) < limit:
            return
        before, left = found[-1].id, left - len(found)


def shadow(running: Plan, candidate: Plan, messages: Iterable[Received]) -> Report:
    """Route and render every message by both revisions, and compare byte for byte what would be sent."""
    report = Report()
    for message in messages:
        report.messages += 1
        try:
            found = list(_compare(running, candidate, message))
        except BridgeError:
            report.unread += 1
            continue
        report.changed += bool(found)
        for what, sample in found:
            known = report.found.setdefault((sample.destination, what), Difference(sample.destination, what, 0, sample))
            known.messages += 1
    return report


def _compare(running: Plan, candidate: Plan, message: Received) -> Iterator[tuple[str, Sample]]:
    """Each difference once. Raises CodecError for a message that cannot be read any more."""
    formats = (plan.source(message.channel) for plan in (running, candidate))
    old, new = (FORMATS[message.format].read(message.raw, one.charset or message.charset) for one in formats)
    before = [(name, mapping) for name, mapping, _ in running.targets(message.channel, old)]
    after = [(name, mapping) for name, mapping, _ in candidate.targets(message.channel, new)]
    for one, other in _pairs(before, after):
        destination = (one or other or ("", ""))[0]
        made = _render(running, one, message, old) if one else None
        would = _render(candidate, other, message, new) if other else None
        sample = Sample(message.id, destination, made.data if made else b"", would.data if would else b"")
        for what in _differences(made, would):
            yield what, sample


def _pairs(before: list[Target], after: list[Target]) -> Iterator[tuple[Target | None, Target | None]]:
    """The same target with itself; at one destination, what is left over with what is left over."""
    for name in dict.fromkeys(name for name, _ in [*before, *after]):
        old, new = ([one for one in side if one[0] == name] for side in (before, after))
        same = [one for one in old if one in new]
        rest = [one for one in old if one not in same], [one for one in new if one not in same]
        yield from ((one, one) for one in same)
        for at in range(max(map(len, rest))):
            yield (rest[0][at] if at < len(rest[0]) else None, rest[1][at] if at < len(rest[1]) else None)


def _render(plan: Plan, target: Target, message: Received, parsed: object) -> _Made:
    destination, mapping = target
    if not mapping:
        return _Made(message.raw, message.format)
    context = message.contexts.get(destination) or next(iter(message.contexts.values()), {})
    try:
        rendered = plan.render(mapping, parsed, context)
    except BridgeError as error:
        return _Made(b"", "", f"{error.what} at {error.at}" if error.at else error.what)
    return _Made(rendered.data, rendered.format)


def _differences(made: _Made | None, would: _Made | None) -> list[str]:
    if made is None or would is None:
        return ["now goes there, too"] if made is None else ["no longer goes there"]
    if made.error or would.error:
        if made.error == would.error:
            return []
        return [f"fails now: {would.error}"] if would.error else [f"fails no longer: {made.error}"]
    if made.format != would.format:
        return [f"is {would.format} now, not {made.format}"]
    return [
        f"{name} differs" if " " not in name else name for name in differing_fields(made.format, made.data, would.data)
    ]
