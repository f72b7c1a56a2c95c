"""The worklist projection: what orders say, kept so that a C-FIND finds its answer by an index.

An item is one Scheduled Procedure Step with all its attributes (PS3.4 table K.6-1). Finished items stay, with their
status, so that an old message that is replayed cannot bring them back.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, select
from sqlalchemy.exc import DBAPIError

from bridge.codecs.dicom import Problem, missing, problems
from bridge.codecs.dicom_match import matches
from bridge.codecs.dicom_query import Query
from bridge.errors import Permanent, StoreUnavailable
from bridge.model import AppointmentUpdate, PatientUpdate, StepStatus, UnknownOrder, WorklistStep, WorklistUpdate
from bridge.store import worklist_tables as t
from bridge.store.worklist_appointments import book
from bridge.store.worklist_change import change, find_orders
from bridge.store.worklist_find import Planner
from bridge.store.worklist_patients import refresh

VISIBLE = (StepStatus.SCHEDULED, StepStatus.STARTED)
"""What a station sees unless its profile says otherwise."""

_CHUNK = 250


@dataclass(frozen=True, slots=True)
class WorklistItem:
    """One answer to a query, its ScheduledProcedureStepStatus filled in from the projection."""

    id: int
    status: StepStatus
    attributes: dict[str, Any]


class Worklist:
    """Reads through ``reader``; writes in the transaction it is handed. Thread-safe."""

    def __init__(self, reader: Engine) -> None:
        self._reader = reader
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

    def find(
        self,
        query: Query,
        *,
        stations: Sequence[str] = (),
        statuses: Collection[StepStatus] = VISIBLE,
        limit: int | None = None,
    ) -> Iterator[WorklistItem]:
        """The items that match, by date and time; at most ``limit``. ``stations`` (empty: any) narrows the query.

        Which items match is decided at once; each is read when it comes near, so that no read lasts long.
        Raises StoreUnavailable.
        """
        plan = self._planner.plan(query, stations, statuses)
        wanted = select(t.item.c.id).where(*plan.where)
        wanted = wanted.order_by(t.item.c.start_date, t.item.c.start_time, t.item.c.id)
        if limit is not None and not plan.rest:
            wanted = wanted.limit(limit)
        ids = [row.id for row in self._read(wanted)]
        left = len(ids) if limit is None else limit
        for start in range(0, len(ids), _CHUNK):
            for item in self._items(ids[start : start + _CHUNK]):
                if left and matches(plan.rest, item.attributes):
                    left -= 1
                    yield item
            if not left:
                return

    def _items(self, ids: list[int]) -> Iterator[WorklistItem]:
        columns = select(t.item.c.id, t.item.c.status, t.item.c.attributes)
        rows = {row.id: row for row in self._read(columns.where(t.item.c.id.in_(ids)))}
        return (_item(rows[number]) for number in ids if number in rows)

    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        try:
            with self._reader.connect() as connection:
                return connection.execute(statement).all()
        except DBAPIError:
            raise StoreUnavailable("the worklist could not be read", fix="look at the database's own log") from None


def _item(row: Row[Any]) -> WorklistItem:
    attributes = json.loads(row.attributes)
    status = StepStatus(row.status)
    step = attributes["ScheduledProcedureStepSequence"][0]
    if status is StepStatus.STARTED:
        step["ScheduledProcedureStepStatus"] = "STARTED"
    elif status is StepStatus.SCHEDULED:
        step.setdefault("ScheduledProcedureStepStatus", "SCHEDULED")
    return WorklistItem(row.id, status, attributes)


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
