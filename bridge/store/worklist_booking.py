"""What the appointments of an order say together of each of its steps, and a step as it is listed then.

An appointment that is booked owns what it says of the step (time, station, room), however new the order's own word is;
the order's word is kept beneath it. Of several that are booked for a step, the newest one counts. One for a service is
for the steps that are called so; if none is, for all of them: a scheduler may have names of its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from bridge.model import AppointmentStatus, StepStatus, WorklistStep
from bridge.store import worklist_tables as t

_SEQUENCE = "ScheduledProcedureStepSequence"
_STATION, _OF_STATION = "ScheduledStationAETitle", "ScheduledStationName"


@dataclass(frozen=True, slots=True)
class Booking:
    """``attributes`` of the step that are booked. ``waits``: the last appointment was taken away, none other is booked.
    ``origin`` is that of the newest word on any of them."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    waits: bool = False
    origin: int = 0


@dataclass(frozen=True, slots=True)
class Appointments:
    """What is told of one order's appointments, the oldest word first; ``called``: all names of all of its steps."""

    told: tuple[Row[Any], ...] = ()
    called: frozenset[str] = frozenset()

    @property
    def apart(self) -> bool:
        """Whether its steps may be booked apart from each other."""
        return any(row.service for row in self.told)

    def of(self, step: WorklistStep) -> Booking:
        """What is booked for one of the order's steps."""
        others = self.called - _names(step) if self.apart else frozenset()
        booked: Mapping[str, Any] = {}
        waits, origin = False, 0
        for row in self.told:
            if row.service in others:
                continue
            if row.status == AppointmentStatus.BOOKED:
                booked = json.loads(row.attributes)
            waits, origin = not booked and row.status == AppointmentStatus.FREED, row.origin
        return Booking(booked, waits, origin)


NONE = Appointments()


def appointments(
    tx: Connection, orders: Collection[int], steps: Iterable[WorklistStep] = ()
) -> dict[int, Appointments]:
    """What is told for each of ``orders`` that ever had an appointment; ``steps`` are about to be among theirs."""
    table = t.appointment.c
    told: dict[int, list[Row[Any]]] = {}
    rows = tx.execute(select(t.appointment).where(table.order_id.in_(sorted(orders))).order_by(table.origin))
    for row in rows:
        told.setdefault(row.order_id, []).append(row)
    called: dict[int, set[str]] = {order: set() for order, rows in told.items() if any(row.service for row in rows)}
    if called:
        new = {name for step in steps for name in _names(step)}
        here = select(t.item.c.order_id, t.item.c.attributes).where(t.item.c.order_id.in_(sorted(called)))
        for row in tx.execute(here):
            called[row.order_id] |= _names(as_ordered(row.attributes, ""))
        called = {order: names | new for order, names in called.items()}
    return {order: Appointments(tuple(rows), frozenset(called.get(order, ()))) for order, rows in told.items()}


def _names(step: WorklistStep) -> frozenset[str]:
    """What a scheduler may call a step: its id, its procedure's, and their codes."""
    item, inner = step.attributes, step.step
    codes = [*(item.get("RequestedProcedureCodeSequence") or ()), *(inner.get("ScheduledProtocolCodeSequence") or ())]
    names = (inner.get("ScheduledProcedureStepID"), item.get("RequestedProcedureID"))
    return frozenset(str(name) for name in (*names, *(code.get("CodeValue") for code in codes)) if name)


def listed(step: WorklistStep, booking: Booking) -> tuple[WorklistStep, str]:
    """The step with what is booked, and its own item to be kept beneath (empty where nothing is booked).

    A station that is booked does not keep the name of the one that was ordered.
    """
    if not booking.attributes:
        return step, ""
    own = {key: value for key, value in step.step.items() if key != _OF_STATION or _STATION not in booking.attributes}
    item = {**own, **booking.attributes}
    kept = json.dumps(step.step, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return WorklistStep({**step.attributes, _SEQUENCE: [item]}), kept


def visible_status(ordered: StepStatus, origin: int, booking: Booking) -> StepStatus:
    """The status of a step whose order said ``ordered`` at ``origin``: it waits if its appointment went after that."""
    waits = ordered is StepStatus.SCHEDULED and booking.waits and booking.origin > origin
    return StepStatus.WAITING if waits else ordered


def ordered_status(visible: str) -> StepStatus:
    """What the order gave a step of this status."""
    return StepStatus.SCHEDULED if visible == StepStatus.WAITING else StepStatus(visible)


def as_ordered(attributes: str, ordered: str) -> WorklistStep:
    """The step as the order said it, from the columns of its item."""
    item = json.loads(attributes)
    return WorklistStep({**item, _SEQUENCE: [json.loads(ordered)]} if ordered else item)
