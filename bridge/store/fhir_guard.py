"""What a write may be about, and what may come of it, by what its author may do and see.

What he does not see is not there for him; and what he has written he has to see, for patients that he saw before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import tzinfo
from typing import Any

from sqlalchemy import Connection

from bridge.errors import Refused
from bridge.fhir.index import referred
from bridge.fhir.interaction import Interaction, Json
from bridge.fhir.query import restriction
from bridge.fhir.rights import Act, Forbidden, Sight
from bridge.store import fhir_rows, fhir_sight
from bridge.store.fhir_rows import Stored


def current(tx: Connection, asked: Interaction, identifier: str, sight: Sight, zone: tzinfo) -> Stored | None:
    """The resource that an update or delete is about, as it is now. Raises Refused for an update of what is not seen,
    or not there: who does not see all of a type does not choose ids in it."""
    now = fhir_rows.one(tx, asked.type, identifier)
    act: Act = "delete" if asked.method == "DELETE" else "update"
    hidden = restriction(asked.type, sight.restrict(asked.type, act), zone=zone)
    if not hidden:
        return now
    found = fhir_sight.shown(tx, hidden, now)
    if found is None and act == "update":
        raise Refused("no such resource", at=asked.at or asked.type, fix="create it", kind="unknown_key")
    return found


def check_patients(
    tx: Connection, asked: Interaction, body: Json, own: Collection[str], sight: Sight, zone: tzinfo
) -> None:
    """Raises Forbidden where ``body`` refers to a patient that its author does not see and that is not among ``own``,
    those he writes with it: else a reference would make others' data his."""
    act: Act = "create" if asked.method == "POST" else "update"
    hidden = restriction("Patient", sight.patients(asked.type, act), zone=zone)
    named = {one for one in _patients(body) if f"Patient/{one}" not in own} if hidden else set()
    known = [one.row for one in fhir_rows.of_ids(tx, "Patient", named)]
    if len(fhir_sight.among(tx, hidden, known)) < len(named):
        fix = "name one that you see, or send it along"
        raise Forbidden("it refers to a patient that you do not see", at=asked.at or asked.type, fix=fix)


def check_written(tx: Connection, sight: Sight, zone: tzinfo, written: Sequence[Stored]) -> None:
    """Raises Forbidden where one of the versions that were just written is not what its author may write."""
    for new in written:
        act: Act = "delete" if new.deleted else "create" if new.version == "1" else "update"
        hidden = restriction(new.type, sight.restrict(new.type, act), zone=zone)
        if hidden and not new.deleted and not fhir_sight.among(tx, hidden, [new.row or new.sequence]):
            what, fix = "you would not see what you write", "write it about a patient and in a way that you see"
            raise Forbidden(what, at=new.type, fix=fix)


def _patients(value: Any) -> Iterator[str]:
    """The ids of the patients that something refers to."""
    if isinstance(value, dict):
        if (found := referred(value.get("reference"))) and found[0] == "Patient":
            yield found[1]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _patients(item)
