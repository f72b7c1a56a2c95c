"""A worklist query as SQL: what an index can answer becomes a condition, the rest is left for the matcher."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, and_, or_, select, union_all

from bridge.codecs.dicom_match import Between, Exact, Key, Name, Test, Wild, moments
from bridge.codecs.dicom_query import Query
from bridge.model import StepStatus
from bridge.store.worklist_tables import item, station

Where = ColumnElement[bool]
_STEP = "ScheduledProcedureStepSequence"
_DATE, _TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
_OF_ITEM = {
    "PatientID": item.c.patient_id,
    "AccessionNumber": item.c.accession,
    "StudyInstanceUID": item.c.study_uid,
    "RequestedProcedureID": item.c.procedure_id,
}
_OF_STEP = {
    "ScheduledProcedureStepID": item.c.step_id,
    "Modality": item.c.modality,
    _DATE: item.c.start_date,
    _TIME: item.c.start_time,
}
_NAMES = (item.c.name, item.c.name_ideographic, item.c.name_phonetic)
_INDEXED = frozenset(
    {"PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "ScheduledStationAETitle", "Modality"}
)
"""Keys with an index of their own."""
_HIGHEST = "\U0010ffff"
Days = Iterable[Sequence[Between]]
"""Of each query that names dates, those dates: any of them counts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``where``: conditions that all hold for a match. ``rest``: keys that still have to be matched on the item."""

    where: tuple[Where, ...]
    rest: tuple[Key, ...]


class Planner:
    """Plans queries for one kind of database."""

    def __init__(self, *, sqlite: bool) -> None:
        self._sqlite = sqlite

    def plan(self, queries: Sequence[Query], statuses: Collection[StepStatus]) -> Plan:
        """How to find what answers every one of ``queries``."""
        days = [found for query in queries if (found := _days(query.step))]
        where: list[Where] = []
        rest: list[Key] = []
        for query in queries:
            for key in query.keys:
                if key.universal:
                    continue
                if key.keyword == _STEP:
                    rest += self._step(key, where, days)
                elif key.keyword == "PatientName":
                    where.append(or_(*(self._name(test) for test in key.tests if isinstance(test, Name))))
                elif key.keyword in _OF_ITEM:
                    where.append(self._column(_OF_ITEM[key.keyword], key.tests))
                else:
                    rest.append(key)
        narrow = any(
            key.keyword in _INDEXED and not key.universal for query in queries for key in (*query.keys, *query.step)
        )
        return Plan((*where, _visible(statuses, narrow=narrow)), tuple(rest))

    def _step(self, sequence: Key, where: list[Where], days: Days) -> list[Key]:
        """Add the conditions of the step's keys; the sequence with those left over, if any are."""
        keys = sequence.item or ()
        joined = moments(keys)
        if joined:
            where.append(_in_moments(joined))
        rest = []
        for key in keys:
            if key.universal or (joined and key.keyword == _TIME):
                continue
            if key.keyword == "ScheduledStationAETitle":
                where.append(self._at_station(key.tests, days))
            elif key.keyword in _OF_STEP:
                where.append(self._column(_OF_STEP[key.keyword], key.tests))
            else:
                rest.append(key)
        return [replace(sequence, item=tuple(rest))] if rest else []

    def _at_station(self, titles: Sequence[Test], days: Days) -> Where:
        """The step is for one of the stations; the dates again, because the station's index holds them."""
        found = select(station.c.item).where(self._column(station.c.ae_title, titles))
        for tests in days:
            found = found.where(or_(*(_between(station.c.start_date, day) for day in tests)))
        return item.c.id.in_(found)

    def _column(self, column: ColumnElement[str], tests: Sequence[Test]) -> Where:
        return or_(*(self._test(column, test) for test in tests))

    def _test(self, column: ColumnElement[str], test: Test) -> Where:
        if isinstance(test, Exact):
            return column == test.value
        if isinstance(test, Between):
            return _between(column, test)
        if isinstance(test, Wild):
            found = self._wild(column, test.pattern)
            return and_(found, column.not_in(sorted(test.but))) if test.but else found
        raise TypeError(f"no condition for {type(test).__name__}")

    def _name(self, test: Name) -> Where:
        if test.anywhere:
            groups = [group for group in test.groups if group]
            return item.c.id.in_(
                union_all(*(select(item.c.id).where(self._column(column, groups)) for column in _NAMES))
            )
        pairs = zip(_NAMES, test.groups, strict=False)
        return and_(*(self._test(column, group) for column, group in pairs if group))

    def _wild(self, column: ColumnElement[str], pattern: str) -> Where:
        prefix = re.split(r"[*?]", pattern, maxsplit=1)[0]
        if self._sqlite:
            match = column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
        else:
            escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
            match = column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")
        known = column != ""
        return and_(column >= prefix, column < prefix + _HIGHEST, match) if prefix else and_(known, match)


def _visible(statuses: Collection[StepStatus], *, narrow: bool) -> Where:
    """The status condition; where others narrow the search, in a form that keeps the planner off the status index."""
    if narrow:
        return item.c.status.not_in(sorted(set(StepStatus) - set(statuses)))
    return item.c.status.in_(sorted(statuses))


def _days(step: Sequence[Key]) -> tuple[Between, ...]:
    """The step's date tests; empty if the query names no date."""
    return tuple(test for key in step if key.keyword == _DATE for test in key.tests if isinstance(test, Between))


def _between(column: ColumnElement[str], test: Between) -> Where:
    ends = []
    if test.low:
        ends.append(column >= test.low)
    if test.high:
        ends.append(column <= test.high)
    return and_(*ends)


def _in_moments(span: Between) -> Where:
    """From one date and time to another, as one range (the plain date range comes with the date key itself)."""
    ends: list[Where] = []
    date, time = item.c.start_date, item.c.start_time
    if span.low:
        ends.append(or_(date > span.low[:8], time >= span.low[8:]))
    if span.high:
        ends.append(or_(date < span.high[:8], time <= span.high[8:]))
    return and_(*ends)
