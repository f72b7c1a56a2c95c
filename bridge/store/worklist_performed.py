"""What a modality's work does to the worklist: each step stands as all that was performed for it says together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    and_,
    delete,
    insert,
    or_,
    select,
    update,
)

from bridge.model import PerformedUpdate, StepStatus, WorklistStep
from bridge.store import worklist_tables as t
from bridge.store.worklist_booking import NONE, appointments, as_ordered, ordered_status, visible_status
from bridge.store.worklist_change import ITEM_COLUMNS
from bridge.store.worklist_tables import performed

_STRONGEST = (StepStatus.COMPLETED, StepStatus.STARTED, StepStatus.DISCONTINUED, StepStatus.SCHEDULED)
"""Of several performed steps for one scheduled step, the first of these that one of them says is how it stands."""
_OPEN = (StepStatus.SCHEDULED, StepStatus.WAITING, StepStatus.STARTED, StepStatus.HELD)
_WORKED_ON = (StepStatus.STARTED, StepStatus.COMPLETED, StepStatus.DISCONTINUED)


def perform(tx: Connection, said: PerformedUpdate, origin: int) -> str:
    """Bring what ``said`` tells into the scheduled step that it names; says what became of that.

    Nothing newer is changed: neither what was said of the same performed step, nor what the order says by now. What no
    order has is kept for the one that comes.
    """
    if not _keep(tx, said, origin):
        return "superseded"
    found = _meant(tx, said)
    if not found:
        return "kept for the order that comes"
    if len(found) > 1:
        return "the order has several steps, and none is named"
    (row,) = found
    current = ordered_status(row.status)
    if origin < row.status_origin and current not in _WORKED_ON:
        return f"status superseded ({current})"
    return _bring(tx, row, said, origin)


def adopt(tx: Connection, steps: Iterable[WorklistStep]) -> None:
    """Bring into steps that were just scheduled what was performed for them before their order came."""
    table = performed.c
    named = [step.attributes.get(keyword) for step in steps for keyword in ("StudyInstanceUID", "AccessionNumber")]
    same = or_(table.study.in_(names := sorted({str(name) for name in named if name})), table.accession.in_(names))
    for row in tx.execute(select(performed).where(table.item.is_(None), same).order_by(table.origin)).all():
        said = _said(row)
        if len(found := _meant(tx, said)) == 1:
            _bring(tx, found[0], said, row.origin)


def without_order(connection: Connection) -> list[PerformedUpdate]:
    """What was performed and no order of the worklist has, the newest first: somebody has to order it, or to correct
    it at the modality."""
    found = connection.execute(select(performed).where(performed.c.item.is_(None)).order_by(performed.c.origin.desc()))
    return [_said(row) for row in found]


def _said(row: Row[Any]) -> PerformedUpdate:
    return PerformedUpdate(row.instance, StepStatus(row.status), row.study, row.accession, row.step)


def _meant(tx: Connection, said: PerformedUpdate) -> Sequence[Row[Any]]:
    """The items by study and step, else by accession number and step; without a step id, those that are still open."""
    for column, value in ((t.item.c.study_uid, said.study), (t.item.c.accession, said.accession)):
        if value:
            wanted = select(*ITEM_COLUMNS).where(column == value)
            wanted = wanted.where(t.item.c.step_id == said.step) if said.step else wanted.where(_is_open())
            if found := tx.execute(wanted.order_by(t.item.c.id)).all():
                return found
    return ()


def _is_open() -> Any:
    return t.item.c.status.in_([str(status) for status in _OPEN])


def _place(said: PerformedUpdate) -> Any:
    table = performed.c
    named = (table.study == said.study, table.accession == said.accession, table.step == said.step)
    return and_(table.instance == said.instance, *named)


def _keep(tx: Connection, said: PerformedUpdate, origin: int) -> bool:
    """Remember what the performed step says; False if something newer is known of it."""
    before = tx.execute(select(performed.c.origin, performed.c.item).where(_place(said))).first()
    if before is not None and origin < before.origin:
        return False
    tx.execute(delete(performed).where(_place(said)))
    values = {**asdict(said), "status": str(said.status), "origin": origin, "item": before.item if before else None}
    tx.execute(insert(performed), values)
    return True


def _bring(tx: Connection, row: Row[Any], said: PerformedUpdate, origin: int) -> str:
    """Let an item stand as all that was performed for it says together; what was performed before its order scheduled
    it anew counts no more."""
    table = performed.c
    current = ordered_status(row.status)
    if current not in _WORKED_ON:
        tx.execute(delete(performed).where(table.item == row.id, table.origin < row.status_origin))
    tx.execute(update(performed).where(_place(said)).values(item=row.id))
    told = set(tx.execute(select(table.status).where(table.item == row.id)).scalars())
    status = next(one for one in _STRONGEST if one in told)
    if current is StepStatus.COMPLETED or status is current:
        return f"kept ({current})"
    booked = appointments(tx, [row.order_id]).get(row.order_id, NONE).of(as_ordered(row.attributes, row.ordered))
    visible = visible_status(status, origin, booked)
    values = {"status": str(visible), "status_origin": max(origin, row.status_origin)}
    tx.execute(update(t.item).where(t.item.c.id == row.id), values)
    return "given back" if status is StepStatus.SCHEDULED else str(status)
