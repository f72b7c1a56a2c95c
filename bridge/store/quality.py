"""Data quality: what is wrong with the messages of each sender, from what the journal holds anyway."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Select, func, literal, select, union_all

from bridge.message import DeliveryStatus, MessageStatus
from bridge.store import schema as t
from bridge.store.retention import day_of

Outcome = Literal["refused", "undeliverable", "remarked"]

_PLACE = re.compile(r"\b[A-Z][A-Z0-9]{2}(?:\(\d+\))?-\d+(?:\[\d+\])?(?:\.\d+){0,2}")
_IN_MESSAGE = re.compile(r"(?!MSA|ERR)[A-Z][A-Z0-9]{2}(?:\W.*)?")
"""What an error of a delivery is about: the message, not the receiver, its answer or an address."""
_NUMBERS = re.compile(r"\((?:\d+)\)|\[(?:\d+)\]")
_DIGITS = re.compile(r"\d+")
_MORE = " (more faults at "
_ID = 26


@dataclass(slots=True)
class QualityFinding:
    """One thing that is wrong with some of a sender's messages. Holds no patient content, as no error does."""

    place: str
    """Field or segment, without the numbers of occurrence and repetition; empty when the remark names none."""
    kind: str
    """As in :data:`bridge.errors.FACES`; ``remark`` for what was passed with a remark, empty where it was not kept."""
    outcome: Outcome
    what: str
    """As the newest of them was told."""
    fix: str
    messages: int
    first: int
    """When the oldest and the newest were received; milliseconds."""
    last: int
    example: str
    """Id of the newest message."""
    control_id: str
    """Its MSH-10, by which the sender knows it."""


@dataclass(slots=True)
class QualitySource:
    """All that one sender sent over one channel."""

    channel: str
    sender: str
    """MSH-3|MSH-4; empty for what could not be read that far."""
    messages: int = 0
    """Received in the span, resends of the same message left out."""
    refused: int = 0
    findings: list[QualityFinding] = field(default_factory=list)
    """The most frequent first."""

    @property
    def troubled(self) -> int:
        return sum(found.messages for found in self.findings)


def quality(connection: Connection, since: int, channel: str = "") -> list[QualitySource]:
    """What was refused, could not be delivered for its content, or was remarked upon since then, by sender.

    Reads the days from ``since`` (milliseconds) on once. Faults that differ in their numbers only are one finding; a
    message counts once for each. Sources with most messages in trouble come first; those without any are included.
    """
    report = _Report()
    for row in connection.execute(_received(since, channel)):
        source = report.source(row)
        source.messages += row.messages
        if row.status == MessageStatus.REFUSED.value:
            source.refused += row.messages
        for outcome, error in _problems(row):
            report.add(row, outcome, error)
    seen: set[tuple[Any, ...]] = set()
    for row in connection.execute(_undeliverable(since, channel)):
        error = json.loads(row.error)
        if _IN_MESSAGE.fullmatch(error["at"]):
            mark = (row.newest, *_sameness(error))
            if mark not in seen:
                report.add(row, "undeliverable", error)
            seen.add(mark)
    return report.sources()


class _Report:
    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], QualitySource] = {}
        self._findings: dict[tuple[Any, ...], QualityFinding] = {}

    def source(self, row: Any) -> QualitySource:
        return self._sources.setdefault((row.channel, row.sender), QualitySource(row.channel, row.sender))

    def add(self, row: Any, outcome: Outcome, error: dict[str, str]) -> None:
        """Count the messages of a row for the finding that this error belongs to."""
        key = (row.channel, row.sender, outcome, *_sameness(error))
        example, control_id = row.newest[:_ID], row.newest[_ID:]
        found = self._findings.get(key)
        if found is None:
            found = QualityFinding(
                place=_NUMBERS.sub("", error["at"]),
                kind=error["kind"],
                outcome=outcome,
                what=error["what"],
                fix=error["fix"],
                messages=0,
                first=row.first,
                last=row.last,
                example=example,
                control_id=control_id,
            )
            self._findings[key] = found
            self.source(row).findings.append(found)
        elif example > found.example:
            found.what, found.fix, found.example, found.control_id = error["what"], error["fix"], example, control_id
        found.messages += row.messages
        found.first, found.last = min(found.first, row.first), max(found.last, row.last)

    def sources(self) -> list[QualitySource]:
        for source in self._sources.values():
            source.findings.sort(key=lambda found: (-found.messages, found.place, found.what))
        return sorted(self._sources.values(), key=lambda one: (-one.troubled, one.channel, one.sender))


def _sameness(error: dict[str, str]) -> tuple[str, str, str]:
    """What makes two errors the same fault: place, kind and wording, whatever the numbers in it."""
    return _NUMBERS.sub("", error["at"]), error["kind"], _DIGITS.sub("#", error["what"])


def _problems(row: Any) -> Iterator[tuple[Outcome, dict[str, str]]]:
    """What was said about the messages of a row, each fault once."""
    found: dict[tuple[str, ...], tuple[Outcome, dict[str, str]]] = {}
    for error in _faults(json.loads(row.error)) if row.error else ():
        found.setdefault(_sameness(error), ("refused", error))
    for text in json.loads(row.warnings or "[]"):
        remark = _remark(text)
        found.setdefault(_sameness(remark), ("remarked", remark))
    yield from found.values()


def _faults(error: dict[str, str]) -> Iterator[dict[str, str]]:
    """A refusal's fault, and the others whose places alone are kept (:class:`bridge.errors.Invalid`)."""
    what, _, others = error["what"].partition(_MORE)
    yield {**error, "what": what}
    for place in _PLACE.findall(others):
        yield {"kind": "", "what": "one more fault of a message with several", "at": place, "fix": ""}


def _remark(text: str) -> dict[str, str]:
    """A warning taken apart, if it was an error's text: what, place and fix."""
    what, _, fix = text.partition("; fix: ")
    place = _PLACE.search(what)
    at = place[0] if place else ""
    return {"kind": "remark", "what": what.removesuffix(f" at {at}"), "at": at, "fix": fix}


def _received(since: int, channel: str) -> Select[Any]:
    """Messages counted by sender and by what was said about them: as many rows as there are different texts."""
    m = t.message.c
    said = (m.channel, m.sender, m.status, m.error, m.warnings)
    query = select(
        *said,
        func.count().label("messages"),
        func.min(m.received_at).label("first"),
        func.max(m.received_at).label("last"),
        func.max(m.id + m.control_id).label("newest"),
    ).where(m.day >= day_of(since), m.received_at >= since, m.status != MessageStatus.DUPLICATE.value)
    return (query.where(m.channel == channel) if channel else query).group_by(*said)


def _undeliverable(since: int, channel: str) -> Select[Any]:
    """Deliveries that died, also those that a person has dealt with since; one row each."""
    m, dead, ended = t.message.c, t.delivery.c, t.delivery_log.c
    dealt_with = (DeliveryStatus.REPLAYED.value, DeliveryStatus.SKIPPED.value)
    deliveries = union_all(
        select(dead.day, dead.message, dead.error).where(dead.status == DeliveryStatus.DEAD.value),
        select(ended.day, ended.message, ended.error).where(ended.day >= day_of(since), ended.status.in_(dealt_with)),
    ).subquery()
    d = deliveries.c
    query = (
        select(
            m.channel,
            m.sender,
            d.error,
            (m.id + m.control_id).label("newest"),
            m.received_at.label("first"),
            m.received_at.label("last"),
            literal(1).label("messages"),
        )
        .join_from(deliveries, t.message, (m.day == d.day) & (m.id == d.message))
        .where(m.received_at >= since, d.error.is_not(None))
    )
    return query.where(m.channel == channel) if channel else query
