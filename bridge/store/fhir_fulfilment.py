"""Orders that modalities have carried out: the last step completes its order, one that is given back reopens it.

Modalities tell of steps, one at a time, and none of them knows how many an order has. The worklist does: see
``worklist_tables.py``. An order of which it knows nothing is completed by its own messages alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, func, select

from bridge.codecs.fhir import decode
from bridge.codecs.fhir_changes import may_change
from bridge.fhir.interaction import Json, Outcome, interactions
from bridge.fhir.query import parse_text
from bridge.model import StepStatus
from bridge.store import fhir_rows, worklist_tables
from bridge.store.fhir_find import find
from bridge.store.fhir_write import Writing, write

_URN = "urn:oid:"
_OFF = (StepStatus.CANCELLED.value, StepStatus.DISCONTINUED.value)
_MOST = 200
"""Steps of one order that are looked at."""


def follow(tx: Connection, outcomes: Iterable[Outcome], writing: Writing) -> int:
    """Bring the status of the orders whose Tasks have just changed after them; how many orders changed."""
    changed = {outcome.id for outcome in outcomes if outcome.type == "Task" and outcome.changed}
    told: dict[str, set[str]] = {}
    for stored in fhir_rows.of_ids(tx, "Task", changed):
        task = decode(stored.body)
        told.setdefault(str(task.get("focus", {}).get("reference", "")), set()).add(str(task["status"]))
    changes = [change for reference in sorted(told) if (change := _change(tx, reference, told[reference], writing))]
    if changes:
        write(tx, interactions({"resourceType": "Bundle", "entry": changes}), writing)
    return len(changes)


def _change(tx: Connection, reference: str, told: set[str], writing: Writing) -> Json | None:
    """``told``: what the Tasks of the order that have just changed say."""
    kind, _, identifier = reference.partition("/")
    stored = fhir_rows.one(tx, kind, identifier) if kind == "ServiceRequest" else None
    if stored is None or stored.deleted:
        return None
    order = decode(stored.body)
    studies = _uids(_found(tx, "ImagingStudy", f"basedon={reference}", writing))
    tasks = [task for task in _found(tx, "Task", f"focus={reference}", writing) if task["status"] == "completed"]
    done, steps = sum(_is_step(task, studies) for task in tasks), _steps(tx, order, studies)
    if steps and done >= steps:
        status, reopens = "completed", False
    elif order["status"] == "completed" and "requested" in told:
        status, reopens = "active", True
    else:
        return None
    if order["status"] == status or not may_change(kind, order["status"], status, reopens=reopens):
        return None
    return {"request": {"method": "PUT", "url": reference}, "resource": {**order, "status": status}}


def _found(tx: Connection, kind: str, search: str, writing: Writing) -> list[Json]:
    query = replace(parse_text(kind, search, zone=writing.zone), count=_MOST, total="none")
    return [decode(one.body) for one in fhir_rows.of_rows(tx, find(tx, query).rows)]


def _uids(studies: list[Json]) -> list[str]:
    numbers = [one for study in studies for one in study.get("identifier", [])]
    return [str(one.get("value", "")).removeprefix(_URN) for one in numbers if one.get("system") == "urn:dicom:uid"]


def _is_step(task: Json, studies: list[str]) -> bool:
    """Whether a Task is a step of one of these studies, as ``mpps-to-fhir`` numbers it: ``<Study UID>/<step id>``."""
    return any(str(one.get("value", "")).partition("/")[0] in studies for one in task.get("identifier", []))


def _steps(tx: Connection, order: Json, studies: list[str]) -> int:
    """How many steps the worklist has of an order, known by its studies, without those that were called off."""
    item = worklist_tables.item.c
    where: list[ColumnElement[bool]] = [item.study_uid.in_(studies)]
    if accession := _accession(order):
        where.append(item.accession == accession)
    steps = select(func.count()).where(item.order_id.in_(select(item.order_id).where(*where)), item.status.not_in(_OFF))
    return int(tx.execute(steps).scalar_one()) if studies else 0


def _accession(order: Json) -> str:
    for one in order.get("identifier", []):
        if any(coding.get("code") == "ACSN" for coding in one.get("type", {}).get("coding", [])):
            return str(one.get("value", ""))
    return ""
