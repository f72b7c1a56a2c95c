"""What a message about an appointment does to the worklist: steps of its order are placed, moved, or taken off."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select, true, update

from bridge.model import AppointmentStatus, AppointmentUpdate, StepStatus
from bridge.store import worklist_tables as t
from bridge.store.worklist_booking import (
    NONE,
    Appointments,
    appointments,
    as_ordered,
    listed,
    ordered_status,
    visible_status,
)
from bridge.store.worklist_change import ITEM_COLUMNS, Order, find_orders, learn, new_order, place

_OPEN = (StepStatus.SCHEDULED, StepStatus.WAITING)
"""Steps that an appointment changes; what a modality has begun, and what has ended, stays as it is."""


def book(tx: Connection, said: AppointmentUpdate, origin: int) -> Counter[str]:
    """Keep what ``said`` tells, and bring it into the steps that are here; counts what became of them.

    An older message of the same appointment changes nothing. Without an order it is kept for the one that comes.
    """
    done: Counter[str] = Counter()
    orders = find_orders(tx, said.order) or [new_order(tx, origin)]
    if len(orders) == 1:
        learn(tx, orders[0], said.order)
    for order in orders:
        if not _keep(tx, order, said, origin):
            done["superseded"] += 1
            continue
        done += _settle_all(tx, order.id)
    return done


def resettle(tx: Connection, orders: Iterable[Order]) -> None:
    """Bring the steps of orders that have just changed to what is booked, where they are booked apart: which of them
    an appointment is for depends on all of them."""
    for order in orders:
        if appointments(tx, [order.id]).get(order.id, NONE).apart:
            _settle_all(tx, order.id)


def _settle_all(tx: Connection, order: int) -> Counter[str]:
    told = appointments(tx, [order]).get(order, NONE)
    steps = select(*ITEM_COLUMNS).where(t.item.c.order_id == order).order_by(t.item.c.id)
    return Counter(_settle(tx, row, told) for row in tx.execute(steps).all())


def _keep(tx: Connection, order: Order, said: AppointmentUpdate, origin: int) -> bool:
    """Remember the appointment; False if something newer is known of it. What names no service is about all of them."""
    table = t.appointment.c
    here = and_(table.order_id == order.id, table.appointment == said.appointment)
    named = table.service.in_(["", said.service]) if said.service else true()
    before = tx.execute(select(t.appointment).where(here, named).order_by(table.origin.desc())).first()
    if before is not None and origin < before.origin:
        return False
    attributes = said.attributes
    if before is not None and {before.status, said.status} == {AppointmentStatus.BOOKED}:
        attributes = {**json.loads(before.attributes), **attributes}
    values = {
        "order_id": order.id,
        "appointment": said.appointment,
        "service": said.service,
        "status": str(said.status),
        "origin": origin,
        "attributes": json.dumps(attributes, ensure_ascii=False),
    }
    tx.execute(delete(t.appointment).where(here, table.service == said.service if said.service else true()))
    tx.execute(insert(t.appointment), values)
    return True


def _settle(tx: Connection, row: Row[Any], told: Appointments) -> str:
    """Bring an item to what is booked now, in whatever sequence that was told; what that did to it."""
    if row.status not in _OPEN:
        return f"kept ({row.status})"
    own = as_ordered(row.attributes, row.ordered)
    booking = told.of(own)
    what, values = place(tx, row, *listed(own, booking))
    status = visible_status(ordered_status(row.status), row.status_origin, booking)
    tx.execute(update(t.item).where(t.item.c.id == row.id), {**values, "status": str(status)})
    return what if status == row.status else str(status)
