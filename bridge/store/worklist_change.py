"""What one update does to the worklist: which orders it speaks of, and what becomes of their steps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from bridge.codecs.dicom_match import canonical, canonical_date, canonical_time, texts
from bridge.codecs.dicom_text import name_keys
from bridge.model import PATIENT_ATTRIBUTES, StepStatus, WorklistStep, WorklistUpdate
from bridge.store import worklist_tables as t
from bridge.store.worklist_booking import (
    NONE,
    Appointments,
    Booking,
    appointments,
    as_ordered,
    listed,
    ordered_status,
    visible_status,
)

KEEPS: dict[StepStatus, frozenset[StepStatus]] = {
    StepStatus.SCHEDULED: frozenset(),
    StepStatus.STARTED: frozenset({StepStatus.SCHEDULED, StepStatus.CANCELLED, StepStatus.HELD}),
    StepStatus.COMPLETED: frozenset(StepStatus) - {StepStatus.COMPLETED},
    StepStatus.DISCONTINUED: frozenset(),
    StepStatus.CANCELLED: frozenset(),
    StepStatus.HELD: frozenset(),
}
"""The statuses that an order message cannot give to a step, by the step's own: what a modality is using stays, and
what is completed stays completed."""

_KINDS = ("filler", "placer", "accession")
"""Kinds of order identifier, the strongest first: a shared accession number does not make two filler orders one."""

ITEM_COLUMNS = (
    t.item.c.id,
    t.item.c.order_id,
    t.item.c.study_uid,
    t.item.c.step_id,
    t.item.c.status,
    t.item.c.status_origin,
    t.item.c.origin,
    t.item.c.patient_origin,
    t.item.c.start_date,
    t.item.c.start_time,
    t.item.c.attributes,
    t.item.c.ordered,
)
_Reference = tuple[str, str]
"""Study UID and step id; an empty one stands for any."""


@dataclass(frozen=True, slots=True)
class Order:
    id: int
    identifiers: frozenset[str]


def find_orders(tx: Connection, identifiers: Collection[str]) -> list[Order]:
    """The orders that ``identifiers`` speak of, the surest first."""
    sharing = select(t.identifier.c.order_id).where(t.identifier.c.identifier.in_(sorted(identifiers)))
    known: dict[int, set[str]] = {}
    for row in tx.execute(select(t.identifier).where(t.identifier.c.order_id.in_(sharing))):
        known.setdefault(row.order_id, set()).add(row.identifier)
    ranked = [(_likeness(identifiers, names), Order(number, frozenset(names))) for number, names in known.items()]
    return [order for rank, order in sorted(ranked, key=lambda pair: (pair[0], pair[1].id)) if rank < len(_KINDS)]


def _likeness(ours: Collection[str], theirs: Collection[str]) -> int:
    """Place in ``_KINDS`` of the strongest kind that is shared; its length if a stronger one of that issuer differs."""
    for rank, kind in enumerate(_KINDS):
        mine, other = _numbers(ours, kind), _numbers(theirs, kind)
        common = mine.keys() & other.keys()
        if any(mine[issuer] & other[issuer] for issuer in common):
            return rank
        if common:
            break
    return len(_KINDS)


def _numbers(identifiers: Collection[str], kind: str) -> dict[str, set[str]]:
    """Numbers of one kind by issuer."""
    found: dict[str, set[str]] = {}
    for identifier in identifiers:
        name, _, rest = identifier.partition(":")
        if name == kind:
            number, _, issuer = rest.partition("^")
            found.setdefault(issuer, set()).add(number)
    return found


def change(tx: Connection, said: WorklistUpdate, origin: int, orders: list[Order]) -> Counter[str]:
    """Apply ``said`` to ``orders`` (none: a new one is made); counts what became of the steps."""
    orders = orders or [new_order(tx, origin)]
    work = _Change(tx, said, origin, orders)
    if said.status is StepStatus.SCHEDULED and said.steps:
        for step in said.steps:
            work.schedule(step)
    else:
        work.set_status()
    if len(orders) == 1:
        learn(tx, orders[0], said.order)
    return work.done


def new_order(tx: Connection, origin: int) -> Order:
    """An order that nothing is known of yet."""
    made = tx.execute(insert(t.order), {"origin": origin}).inserted_primary_key
    assert made is not None
    return Order(made[0], frozenset())


def learn(tx: Connection, order: Order, identifiers: Iterable[str]) -> None:
    """Know the order by these ``identifiers`` too."""
    fresh = [{"identifier": name, "order_id": order.id} for name in set(identifiers) - order.identifiers]
    if fresh:
        tx.execute(insert(t.identifier), fresh)


class _Change:
    def __init__(self, tx: Connection, said: WorklistUpdate, origin: int, orders: list[Order]) -> None:
        self._tx, self._said, self._origin = tx, said, origin
        self._orders = orders
        self.done: Counter[str] = Counter()
        self._items: list[Row[Any]] = []
        self._appointments: dict[int, Appointments] = {}
        if any(order.identifiers for order in orders):
            ids = [order.id for order in orders]
            rows = tx.execute(select(*ITEM_COLUMNS).where(t.item.c.order_id.in_(ids)).order_by(t.item.c.id))
            self._items = sorted(rows, key=lambda row: ids.index(row.order_id))
            self._appointments = appointments(tx, ids, said.steps)

    def schedule(self, step: WorklistStep) -> None:
        """Insert the step, or bring the one that is here up to date."""
        reference = _reference(step)
        here = next((row for row in self._items if (row.study_uid, row.step_id) == reference), None)
        if here is None:
            self._insert(step, reference)
            return
        if self._origin < here.origin:
            self.done["superseded"] += 1
            return
        status = self._new_status(here)
        if self._origin < here.patient_origin:
            step = _with_patient(step, json.loads(here.attributes))
        booked = self._booked(here.order_id, step)
        what, values = place(self._tx, here, *listed(step, booked))
        visible = here.status if status is None else visible_status(status, self._origin, booked)
        back = visible == StepStatus.SCHEDULED and here.status != StepStatus.SCHEDULED
        self.done["scheduled" if back else what] += 1
        origins = {"origin": self._origin, "patient_origin": max(self._origin, here.patient_origin)}
        self._update(here, {**values, **origins}, status)

    def set_status(self) -> None:
        """Give the status to the steps that are named, or to all."""
        named = [_reference(step) for step in self._said.steps]
        named = [reference for reference in named if any(reference)] or [("", "")]
        for row in self._items:
            if any(_means(reference, row) for reference in named):
                status = self._new_status(row)
                if status is not None:
                    self.done[str(status)] += 1
                    self._update(row, {}, status)
        for reference in named:
            if reference == ("", "") or not any(_means(reference, row) for row in self._items):
                self._note(reference)

    def _new_status(self, row: Row[Any]) -> StepStatus | None:
        """The status the step gets; None (counted) if it keeps its own."""
        current = ordered_status(row.status)
        if self._origin < row.status_origin:
            self.done[f"status superseded ({current})"] += 1
            return None
        if self._said.status in KEEPS[current]:
            if self._said.status is not StepStatus.SCHEDULED or current is not StepStatus.STARTED:
                self.done[f"kept ({current})"] += 1
            return None
        return self._said.status

    def _insert(self, step: WorklistStep, reference: _Reference) -> None:
        order = self._orders[0]
        booked = self._booked(order.id, step)
        noted = self._noted(order, reference) if order.identifiers else None
        status, status_origin = noted or (self._said.status, self._origin)
        visible = visible_status(status, status_origin, booked)
        step, ordered = listed(step, booked)
        values = columns(step)
        row = {
            **values,
            "ordered": ordered,
            "order_id": order.id,
            "study_uid": reference[0],
            "step_id": reference[1],
            "status": str(visible),
            "status_origin": status_origin,
            "origin": self._origin,
            "patient_origin": self._origin,
        }
        made = self._tx.execute(insert(t.item), row).inserted_primary_key
        assert made is not None
        _add_stations(self._tx, made[0], step, values["start_date"])
        self.done["superseded" if noted else str(visible)] += 1

    def _update(self, row: Row[Any], values: Mapping[str, Any], status: StepStatus | None) -> None:
        changes = dict(values)
        if status is not None:
            booked = self._booked(row.order_id, as_ordered(row.attributes, row.ordered))
            visible = visible_status(status, self._origin, booked)
            changes |= {"status": str(visible), "status_origin": self._origin}
        if changes:
            self._tx.execute(update(t.item).where(t.item.c.id == row.id), changes)

    def _booked(self, order: int, step: WorklistStep) -> Booking:
        return self._appointments.get(order, NONE).of(step)

    def _note(self, reference: _Reference) -> None:
        """Remember the status for older news of steps that are not here."""
        for order in self._orders:
            place = _note_place(order, reference)
            newer = self._tx.execute(select(t.note.c.origin).where(place)).scalar()
            if newer is None or newer <= self._origin:
                self._tx.execute(delete(t.note).where(place))
                self._tx.execute(
                    insert(t.note),
                    {
                        "order_id": order.id,
                        "study_uid": reference[0],
                        "step_id": reference[1],
                        "status": str(self._said.status),
                        "origin": self._origin,
                    },
                )

    def _noted(self, order: Order, reference: _Reference) -> tuple[StepStatus, int] | None:
        """The newest status, newer than this update, that was said of a step before it came."""
        row = self._tx.execute(
            select(t.note.c.status, t.note.c.origin)
            .where(
                t.note.c.order_id == order.id,
                t.note.c.origin > self._origin,
                t.note.c.study_uid.in_(["", reference[0]]),
                t.note.c.step_id.in_(["", reference[1]]),
            )
            .order_by(t.note.c.origin.desc())
        ).first()
        return (StepStatus(row.status), row.origin) if row else None


def _with_patient(step: WorklistStep, here: Mapping[str, Any]) -> WorklistStep:
    """The step with the patient's attributes of the item that is here: they are newer than the order's."""
    order = {key: value for key, value in step.attributes.items() if key not in PATIENT_ATTRIBUTES}
    return WorklistStep({**order, **{key: here[key] for key in PATIENT_ATTRIBUTES if key in here}})


def _add_stations(tx: Connection, item: int, step: WorklistStep, date: str) -> None:
    titles = sorted(_stations(step.attributes))
    tx.execute(insert(t.station), [{"ae_title": title, "start_date": date, "item": item} for title in titles])


def place(tx: Connection, here: Row[Any], step: WorklistStep, ordered: str) -> tuple[str, dict[str, Any]]:
    """Put an item's new content in place of its old one: what that does to it, and the columns to write.

    ``ordered`` as in the item's column of that name.
    """
    values = {**columns(step), "ordered": ordered}
    if values["attributes"] == here.attributes:
        return "unchanged" if ordered == here.ordered else "kept (booked)", values
    tx.execute(delete(t.station).where(t.station.c.item == here.id))
    _add_stations(tx, here.id, step, values["start_date"])
    return _difference(here, values, step), values


def _difference(here: Row[Any], values: Mapping[str, Any], step: WorklistStep) -> str:
    when = (here.start_date, here.start_time) == (values["start_date"], values["start_time"])
    where = _stations(json.loads(here.attributes)) == _stations(step.attributes)
    return "changed" if when and where else "moved"


def _note_place(order: Order, reference: _Reference) -> Any:
    study, step = reference
    return and_(t.note.c.order_id == order.id, t.note.c.study_uid == study, t.note.c.step_id == step)


def _reference(step: WorklistStep) -> _Reference:
    return _first(step.attributes, "UI", "StudyInstanceUID"), _first(step.step, "SH", "ScheduledProcedureStepID")


def _means(reference: _Reference, row: Row[Any]) -> bool:
    return reference[0] in ("", row.study_uid) and reference[1] in ("", row.step_id)


def _first(attributes: Mapping[str, Any], vr: str, keyword: str) -> str:
    values = texts(attributes.get(keyword))
    return canonical(vr, values[0]) if values else ""


def _stations(attributes: Mapping[str, Any]) -> set[str]:
    step = attributes["ScheduledProcedureStepSequence"][0]
    return {canonical("AE", title) for title in texts(step.get("ScheduledStationAETitle"))}


def columns(step: WorklistStep) -> dict[str, Any]:
    """What an item is found by, and the item itself."""
    item = step.attributes
    text = json.dumps(item, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    names = name_keys(_first(item, "PN", "PatientName"))
    return {
        "name": names[0],
        "name_ideographic": names[1],
        "name_phonetic": names[2],
        "patient_id": _first(item, "LO", "PatientID"),
        "accession": _first(item, "SH", "AccessionNumber"),
        "procedure_id": _first(item, "SH", "RequestedProcedureID"),
        "modality": _first(step.step, "CS", "Modality"),
        "start_date": canonical_date(_first(step.step, "DA", "ScheduledProcedureStepStartDate")),
        "start_time": canonical_time(_first(step.step, "TM", "ScheduledProcedureStepStartTime")),
        "attributes": text,
        "version": int.from_bytes(blake2b(text.encode(), digest_size=7).digest()),
    }
