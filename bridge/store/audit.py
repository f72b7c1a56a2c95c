"""The audit trail: what people did, and who saw or changed which resources of the FHIR facades.

An access has a row of its own, and one for each patient whom it is about, so that both are found by their subject.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, false, insert, select

from bridge.codecs.fhir import decode
from bridge.fhir.audit import ACTION, Access
from bridge.fhir.index import entries
from bridge.fhir.parameters import PARAMETERS
from bridge.fhir.rights import COMPARTMENT
from bridge.message import new_id
from bridge.store import fhir_rows
from bridge.store import fhir_tables as t
from bridge.store.schema import audit

_BELONGING = [
    PARAMETERS[kind][name].number for kind, names in COMPARTMENT.items() if kind != "Patient" for name in names
]
Run = Callable[[Callable[[Connection], Any]], Any]


class Trail:
    """``read`` and ``write`` run a function with a connection, the second in the writer. They block."""

    def __init__(self, read: Run, write: Run) -> None:
        self._read, self._write = read, write

    def keep(self, accesses: Sequence[Access]) -> None:
        """Returns once they are synced. Raises StoreUnavailable or Overloaded."""
        shown = {one for access in accesses for one in access.shown}
        patients = self._read(lambda one: _patients(one, shown))
        rows = [row for access in accesses for row in _rows(access, patients)]
        self._write(lambda tx: tx.execute(insert(audit), rows))

    def find(
        self,
        *,
        actor: str = "",
        subject: str = "",
        prefix: str = "",
        since: int = 0,
        until: int = 0,
        before: str = "",
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Records, the newest first: id, at (milliseconds), actor, action, subject, detail, and a cursor.

        ``subject``: ``Type/id``, a patient's also where the access was about him; ``prefix`` of the action; ``since``
        and ``until`` (excluded) in milliseconds; ``before`` a cursor: what is older than that record.
        """
        c = audit.c
        where = [c.actor == actor] if actor else []
        where += [c.action.startswith(prefix, autoescape=True)] if prefix else []
        where += [c.at >= since, c.id >= _begin(since)] if since else []
        where += [c.at < until, c.id < _begin(until + 2)] if until else []
        where += [c.id < before] if before else []
        where += [c.subject == subject] if subject else [~c.action.endswith(_ABOUT)]
        wanted = select(audit).where(*where).order_by(c.id.desc()).limit(limit)
        found: list[dict[str, Any]] = self._read(lambda one: _records(one, wanted))
        return found

    def one(self, identifier: str) -> dict[str, Any] | None:
        wanted = select(audit).where(audit.c.id == identifier)
        found: list[dict[str, Any]] = self._read(lambda one: _records(one, wanted))
        return found[0] if found else None


_ABOUT = "#"
"""Ends the action of the row of a patient whom an access was about; its detail names the access."""


def _records(connection: Connection, wanted: Any) -> list[dict[str, Any]]:
    """Rows, those of patients replaced by the accesses that they are of."""
    rows = [dict(row) for row in connection.execute(wanted).mappings()]
    of = {row["id"]: json.loads(row["detail"])["access"] for row in rows if row["action"].endswith(_ABOUT)}
    known: dict[str, dict[str, Any]] = {}
    for part in fhir_rows.chunks(sorted(set(of.values()))):
        named = connection.execute(select(audit).where(audit.c.id.in_(part))).mappings()
        known |= {row["id"]: dict(row) for row in named}
    found = [known.get(of.get(row["id"], ""), row) for row in rows]
    return [
        {**record, "detail": json.loads(record["detail"]), "cursor": row["id"]}
        for record, row in zip(found, rows, strict=True)
    ]


def _begin(millis: int) -> str:
    """What all ids begin after that were made from then on."""
    return new_id(max(millis - 1, 0) / 1000)[:10]


def _rows(access: Access, patients: Mapping[tuple[str, str], set[str]]) -> list[dict[str, Any]]:
    """An access, and after it each patient whom it was about."""
    about = sorted({one for shown in access.shown for one in patients.get(shown, ())})
    row = {
        "id": new_id(access.at / 1000),
        "at": access.at,
        "actor": access.actor[:128],
        "action": f"{ACTION}{access.act}",
        "subject": access.subject,
        "detail": json.dumps(access.detail(about), sort_keys=True),
    }
    detail = json.dumps({"access": row["id"]})
    return [row] + [
        {**row, "id": new_id(access.at / 1000), "action": f"{row['action']}{_ABOUT}", "subject": f"Patient/{one}"}
        | {"detail": detail}
        for one in about
        if f"Patient/{one}" != access.subject
    ]


def _patients(connection: Connection, shown: set[tuple[str, str]]) -> dict[tuple[str, str], set[str]]:
    """The ids of the patients whom each of these resources is about."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    by_kind: dict[str, set[str]] = defaultdict(set)
    for kind, identifier in shown:
        by_kind[kind].add(identifier)
        if kind == "Patient":
            found[kind, identifier].add(identifier)
    for kind, identifiers in by_kind.items():
        if kind not in COMPARTMENT or kind == "Patient":
            continue
        there: set[str] = set()
        for part in fhir_rows.chunks(sorted(identifiers)):
            of = (t.resource.c.type == kind, t.resource.c.id.in_(part), t.resource.c.deleted == false())
            there.update(connection.execute(select(t.resource.c.id).where(*of)).scalars())
            joined = t.resource.join(t.token, t.token.c.resource == t.resource.c.row)
            where = (t.resource.c.type == kind, t.resource.c.id.in_(part), t.token.c.system == "Patient")
            wanted = select(t.resource.c.id, t.token.c.code).select_from(joined).where(*where)
            for identifier, patient in connection.execute(wanted.where(t.token.c.parameter.in_(_BELONGING))):
                found[kind, identifier].add(patient)
        for identifier in identifiers - there:
            found[kind, identifier] = _former(connection, kind, identifier)
    return found


def _former(connection: Connection, kind: str, identifier: str) -> set[str]:
    """The patients whom a resource was about when it was last there: the index knows no deleted ones."""
    c = t.version.c
    wanted = select(c.body).where(c.type == kind, c.id == identifier, c.body.is_not(None))
    body = connection.execute(wanted.order_by(c.version.desc()).limit(1)).scalar()
    tokens = entries(decode(bytes(body))).tokens if body else set()
    return {code for number, system, code in tokens if number in _BELONGING and system == "Patient"}
