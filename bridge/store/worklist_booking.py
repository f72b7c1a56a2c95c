"""What the appointments of an order say together, and a step as it is listed then.

An appointment that is booked owns what it says of the step (time, station, room), however new the order's own word is;
the order's word is kept beneath it. Of several that are booked, the newest one counts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

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


NONE = Booking()


def bookings(tx: Connection, orders: Collection[int]) -> dict[int, Booking]:
    """What is booked for each of ``orders`` that ever had an appointment."""
    table = t.appointment.c
    found: dict[int, Booking] = {}
    rows = tx.execute(select(t.appointment).where(table.order_id.in_(sorted(orders))).order_by(table.origin))
    for row in rows:
        booked: Mapping[str, Any] = found.get(row.order_id, NONE).attributes
        if row.status == AppointmentStatus.BOOKED:
            booked = json.loads(row.attributes)
        waits = not booked and row.status == AppointmentStatus.FREED
        found[row.order_id] = Booking(booked, waits, row.origin)
    return found


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
