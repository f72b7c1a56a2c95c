"""What a message about a patient does to the worklist: open items are refreshed, and move after a merge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from bridge.codecs.dicom_match import canonical
from bridge.model import PatientUpdate, StepStatus, WorklistStep
from bridge.store import worklist_tables as t
from bridge.store.worklist_change import columns

OPEN = (StepStatus.SCHEDULED, StepStatus.STARTED, StepStatus.WAITING, StepStatus.HELD)
"""Items that are refreshed; finished ones stay as they were done."""

_IDENTITY = ("PatientID", "IssuerOfPatientID", "OtherPatientIDsSequence")
"""They change together, and only when an item moves."""


def refresh(tx: Connection, said: PatientUpdate, origin: int) -> Counter[str]:
    """Apply ``said`` to the patient's open items; counts what became of them.

    Demographics that are newer than ``origin`` stay. A retired identifier is replaced however old the news is.
    """
    done: Counter[str] = Counter()
    keys = {*said.patients, *said.retired}
    numbers = {canonical("LO", key.rpartition("^")[0]) for key in keys}
    item = t.item.c
    found = (
        select(item.id, item.patient_origin, item.attributes)
        .where(item.patient_id.in_(sorted(numbers)), item.status.in_(OPEN))
        .order_by(item.id)
    )
    for row in tx.execute(found).all():
        here = json.loads(row.attributes)
        key = _key(here)
        if key not in keys:
            continue
        moves, newer = key in said.retired, origin >= row.patient_origin
        if not moves and not newer:
            done["superseded"] += 1
            continue
        merged = _merged(here, _wanted(said, moves, newer))
        done["moved" if moves else "unchanged" if merged == here else "refreshed"] += 1
        values = {**columns(WorklistStep(merged)), "patient_origin": max(origin, row.patient_origin)}
        tx.execute(update(t.item).where(item.id == row.id), values)
    return done


def _wanted(said: PatientUpdate, moves: bool, newer: bool) -> dict[str, Any]:
    """The attributes to change; None takes one away."""
    wanted = {name: value for name, value in said.attributes.items() if newer and name not in _IDENTITY}
    return {**wanted, **{name: said.attributes.get(name) for name in _IDENTITY}} if moves else wanted


def _key(attributes: Mapping[str, Any]) -> str:
    return f"{attributes.get('PatientID', '')}^{attributes.get('IssuerOfPatientID', '')}"


def _merged(here: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**here, **{name: value for name, value in wanted.items() if value is not None}}
    return {name: value for name, value in merged.items() if wanted.get(name, value) is not None}
