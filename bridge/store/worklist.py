"""The worklist projection: what orders say, kept so that a C-FIND finds its answer by an index.

An item is one Scheduled Procedure Step with all its attributes (PS3.4 table K.6-1). Finished items stay, with their
status, so that an old message that is replayed cannot bring them back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select
from sqlalchemy.exc import DBAPIError

from bridge.codecs.dicom import Problem, missing, problems
from bridge.codecs.dicom_match import Key, matches
from bridge.codecs.dicom_query import EVERYTHING, Query
from bridge.codecs.performed import KnownStep
from bridge.errors import Permanent, StoreUnavailable
from bridge.model import (
    AppointmentUpdate,
    PatientUpdate,
    PerformedUpdate,
    StepStatus,
    UnknownOrder,
    WorklistStep,
    WorklistUpdate,
)
from bridge.store import mpps
from bridge.store import worklist_served as served
from bridge.store import worklist_tables as t
from bridge.store.worklist_appointments import book, resettle
from bridge.store.worklist_change import change, find_orders
from bridge.store.worklist_find import Planner
from bridge.store.worklist_patients import refresh
from bridge.store.worklist_performed import adopt, perform

VISIBLE = (StepStatus.SCHEDULED, StepStatus.STARTED)
"""What a station sees unless its profile says otherwise."""

Known = Callable[[int, int, StepStatus], bool]
"""Whether an item is known, by its id, version and status."""

Seen = Callable[[dict[str, Any]], dict[str, Any]]
"""An item's attributes as they are to be matched and shown."""

Write = Callable[[Callable[[Connection], Any]], Any]
"""Runs a function in the store's writer and waits for its commit."""

_CHUNK = 250


@dataclass(frozen=True, slots=True)
class WorklistItem:
    """One answer to a query, its ScheduledProcedureStepStatus filled in from the projection."""

    id: int
    status: StepStatus
    version: int
    """Changes with the attributes."""
    attributes: dict[str, Any] = field(default_factory=dict)


class Worklist:
    """Reads through ``reader``; writes in the transaction it is handed, and notes through ``write``. Thread-safe."""

    def __init__(self, reader: Engine, write: Write | None = None) -> None:
        self._reader, self._write = reader, write
        self._planner = Planner(sqlite=reader.dialect.name == "sqlite")

    def apply(self, tx: Connection, update: WorklistUpdate, origin: int) -> str:
        """Bring one update into the worklist and say what became of it: ``2 scheduled``, ``1 kept (started)``.

        ``origin`` tells how new the update is; nothing newer is changed by it. Of several orders that share an
        identifier, those are meant that differ in no stronger one (filler number, then placer number, then
        accession number). Raises Permanent for an item that could never be sent, an order without any number, and
        an unknown order where ``if_unknown`` rejects it.
        """
        if not update.order:
            raise Permanent(
                "no number to know the order by", at="order", fix="map a placer or filler number", kind="required"
            )
        if update.status is StepStatus.SCHEDULED:
            for step in update.steps:
                _check(step)
        orders = find_orders(tx, update.order)
        if not orders and update.known_only:
            if update.if_unknown is UnknownOrder.REJECT:
                raise Permanent(
                    "no such order in the worklist", at="order number", fix="send the order first", kind="unknown_key"
                )
            if update.if_unknown is UnknownOrder.IGNORE and update.status is StepStatus.SCHEDULED:
                return "unknown order ignored"
        done = change(tx, update, origin, orders)
        if update.status is StepStatus.SCHEDULED:
            resettle(tx, orders)
            adopt(tx, update.steps)
        if not orders and update.status is not StepStatus.SCHEDULED:
            return "unknown order ignored"
        return ", ".join(f"{count} {what}" for what, count in done.items()) or "no step"

    def refresh(self, tx: Connection, patient: PatientUpdate, origin: int) -> str:
        """Bring what is said of a patient into the open items of that patient; says what became of them.

        Items under a retired identifier move. ``origin`` as in :meth:`apply`. Raises Permanent for what could never
        be sent.
        """
        _refuse(problems({key: value for key, value in patient.attributes.items() if value is not None}))
        done = refresh(tx, patient, origin)
        return ", ".join(f"{count} {what}" for what, count in done.items()) or "no open step of this patient"

    def book(self, tx: Connection, appointment: AppointmentUpdate, origin: int) -> str:
        """Bring what is said of an appointment into the open steps of its order; says what became of them.

        What is booked is kept, for steps that come later too, and goes before what the order says. ``origin`` as in
        :meth:`apply`. Raises Permanent for what could never be sent.
        """
        _refuse(problems({"ScheduledProcedureStepSequence": [appointment.attributes]}))
        done = book(tx, appointment, origin)
        return ", ".join(f"{count} {what}" for what, count in done.items()) or "kept for the order that comes"

    def perform(self, tx: Connection, performed: PerformedUpdate, origin: int) -> str:
        """See :func:`bridge.store.worklist_performed.perform`. ``origin`` as in :meth:`apply`."""
        return perform(tx, performed, origin)

    def performed(self, instance: str) -> KnownStep | None:
        """See :func:`bridge.store.mpps.find`. Raises StoreUnavailable."""
        try:
            with self._reader.connect() as connection:
                return mpps.find(connection, instance)
        except DBAPIError:
            raise StoreUnavailable("the worklist could not be read", fix="look at the database's own log") from None

    def find(
        self,
        query: Query,
        *,
        restrict: Query = EVERYTHING,
        statuses: Collection[StepStatus] = VISIBLE,
        limit: int | None = None,
        known: Known = lambda *_: False,
        seen: Seen = lambda attributes: attributes,
    ) -> Iterator[WorklistItem]:
        """The items that match ``query`` and ``restrict``, by date and time; at most ``limit``.

        Which items match is decided at once; each is read when it comes near, so that no read lasts long. Those for
        which ``known(id, version, status)`` is true come without their attributes. Raises StoreUnavailable.
        """
        plan = self._planner.plan((query, restrict), statuses)
        wanted = select(t.item.c.id, t.item.c.version, t.item.c.status).where(*plan.where)
        wanted = wanted.order_by(t.item.c.start_date, t.item.c.start_time, t.item.c.id)
        if limit is not None and not plan.rest:
            wanted = wanted.limit(limit)
        found = self._read(wanted)
        left = len(found) if limit is None else limit
        for start in range(0, len(found), _CHUNK):
            chunk = [WorklistItem(row[0], StepStatus(row[2]), row[1]) for row in found[start : start + _CHUNK]]
            for item in self._filled(chunk, plan.rest, known, seen):
                if left and (not plan.rest or matches(plan.rest, item.attributes)):
                    left -= 1
                    yield item
            if not left:
                return

    def _filled(
        self, items: list[WorklistItem], rest: Sequence[Key], known: Known, seen: Seen
    ) -> Iterator[WorklistItem]:
        """The items with their attributes as they are now; without, if nothing is to be looked at in known ones."""
        unknown = [item.id for item in items if rest or not known(item.id, item.version, item.status)]
        rows: dict[int, Row[Any]] = {}
        if unknown:
            columns = select(t.item.c.id, t.item.c.status, t.item.c.version, t.item.c.attributes)
            rows = {row.id: row for row in self._read(columns.where(t.item.c.id.in_(unknown)))}
        gone = set(unknown) - rows.keys()
        return (_item(rows[item.id], seen) if item.id in rows else item for item in items if item.id not in gone)

    def note_served(self, notes: Sequence[served.Note]) -> None:
        """See :func:`bridge.store.worklist_served.note`; waits for the commit. Raises StoreUnavailable."""
        if self._write:
            self._write(lambda tx: served.note(tx, notes))

    def newest(self, tx: Connection) -> int:
        """The origin of the newest news in the worklist: what a person brings in by hand counts as that new."""
        item = t.item.c
        newest = select(func.max(item.origin), func.max(item.patient_origin), func.max(item.status_origin))
        return max((number or 0 for number in tx.execute(newest).one()), default=0)

    def served_to(self, items: Collection[int]) -> dict[int, list[served.Fetch]]:
        """Which modalities were given these items and when; nothing for those that nobody was given."""
        return served.fetches(self._read, items)

    def alerted(self, items: Collection[int]) -> set[int]:
        """Those of these items that raised the alert, and that nobody has fetched since."""
        return served.alerted(self._read, items)

    def count_unfetched(self) -> int:
        """How many scheduled steps raised the alert and were not fetched since."""
        return served.count_unfetched(self._read)

    def unfetched(self, after: datetime, before: datetime) -> list[tuple[int, list[str]]]:
        """See :func:`bridge.store.worklist_served.raise_alerts`."""
        found: list[tuple[int, list[str]]] = []
        if self._write:
            found = self._write(lambda tx: served.raise_alerts(tx, after, before))
        return found

    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        try:
            with self._reader.connect() as connection:
                return connection.execute(statement).all()
        except DBAPIError:
            raise StoreUnavailable("the worklist could not be read", fix="look at the database's own log") from None


def _item(row: Row[Any], seen: Seen) -> WorklistItem:
    attributes = seen(json.loads(row.attributes))
    status = StepStatus(row.status)
    step = attributes["ScheduledProcedureStepSequence"][0]
    if status is StepStatus.STARTED:
        step["ScheduledProcedureStepStatus"] = "STARTED"
    elif status is StepStatus.SCHEDULED:
        step.setdefault("ScheduledProcedureStepStatus", "SCHEDULED")
    return WorklistItem(row.id, status, row.version, attributes)


def _check(step: WorklistStep) -> None:
    """Raises Permanent for the first attribute that a modality could not be sent."""
    found = problems(step.attributes) + missing(step.attributes)
    if len(step.attributes.get("ScheduledProcedureStepSequence", ())) > 1:
        found.append(Problem("ScheduledProcedureStepSequence", "several steps in one item", "give each its own item"))
    _refuse(found)


def _refuse(found: Sequence[Problem]) -> None:
    """Raises Permanent for the first problem, and says how many more there are."""
    if found:
        first, more = found[0], len(found) - 1
        what = f"{first.what} (and {more} more)" if more else first.what
        raise Permanent(what, at=first.at, fix=first.fix or "map a value, or a default", kind=first.kind)
