"""The rows of the FHIR projection: a resource with its versions and its index entries."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, delete, select, text, update

from bridge.fhir.index import Entries
from bridge.store import fhir_tables as t
from bridge.store.prepared import Prepared, PreparedIn, PreparedInsert

CHUNK = 250


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a resource."""

    type: str
    id: str
    version: str
    modified: int
    """Milliseconds since the epoch."""
    deleted: bool = False
    body: bytes = b""
    """JSON with ``meta.versionId`` and ``meta.lastUpdated``; empty where deleted."""
    sequence: int = 0
    """Its place among all versions of all resources."""
    method: str = ""
    """By which it came: POST, PUT or DELETE."""
    message: str = ""
    """Id of the message that wrote it."""
    row: int = 0
    """By what the index knows the resource; 0 where that was not asked for."""


def stored(row: Sequence[Any]) -> Stored:
    """From the columns of :data:`t.version` (and the resource's row, if it was asked for)."""
    sequence, kind, identifier, version, modified, method, message, body, *which = row
    place = which[0] if which else 0
    return Stored(
        kind, identifier, str(version), modified, body is None, bytes(body or b""), sequence, method, message, place
    )


def current() -> Select[Any]:
    """Resources as they are now, deleted ones too."""
    joined = t.resource.join(t.version, t.version.c.sequence == t.resource.c.sequence)
    return select(t.version, t.resource.c.row).select_from(joined)


_ONE = Prepared(current().where(t.resource.c.type == bindparam("kind"), t.resource.c.id == bindparam("identifier")))


def one(connection: Connection, kind: str, identifier: str) -> Stored | None:
    """A resource as it is now; None for one that never was."""
    found = _ONE.rows(connection, {"kind": kind, "identifier": identifier})
    return stored(found[0]) if found else None


_AT_VERSION = Prepared(
    select(t.version).where(
        t.version.c.type == bindparam("kind"),
        t.version.c.id == bindparam("identifier"),
        t.version.c.version == bindparam("version"),
    )
)


def at_version(connection: Connection, kind: str, identifier: str, version: int) -> Stored | None:
    """A resource as it was then; None for a version that never was."""
    found = _AT_VERSION.rows(connection, {"kind": kind, "identifier": identifier, "version": version})
    return stored(found[0]) if found else None


_BEARERS = Prepared(
    current()
    .join(t.token, t.token.c.resource == t.resource.c.row)
    .where(
        t.token.c.parameter == bindparam("number"),
        t.token.c.code == bindparam("code"),
        t.token.c.system == bindparam("system"),
    )
)


def bearers(connection: Connection, number: int, system: str, code: str) -> list[Stored]:
    """The resources that the index has under this token, by age."""
    values = {"number": number, "system": system, "code": code}
    return sorted(map(stored, _BEARERS.rows(connection, values)), key=lambda one: one.row)


_THERE = current().where(t.version.c.body.is_not(None))
_OF_ROWS = PreparedIn(lambda rows: _THERE.where(t.resource.c.row.in_(rows)))
_OF_IDS = PreparedIn(lambda ids: _THERE.where(t.resource.c.type == bindparam("kind"), t.resource.c.id.in_(ids)))


def of_rows(connection: Connection, rows: Sequence[int]) -> list[Stored]:
    """The resources of these rows, in their sequence, without those that were deleted meanwhile."""
    found = {row[-1]: stored(row) for part in chunks(rows) for row in _OF_ROWS.rows(connection, part)}
    return [found[row] for row in rows if row in found]


def of_ids(connection: Connection, kind: str, identifiers: Collection[str]) -> list[Stored]:
    """Those of these resources that are there, by age."""
    found = [stored(row) for part in chunks(sorted(identifiers)) for row in _OF_IDS.rows(connection, part, kind=kind)]
    return sorted(found, key=lambda one: one.row)


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def lock(tx: Connection) -> None:
    """Keep all other writers of the projection out until this transaction ends. SQLite has one writer anyway."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(7205760)"))


_NEWEST = Prepared(select(t.version.c.sequence, t.version.c.modified).order_by(t.version.c.sequence.desc()).limit(1))


def newest(connection: Connection) -> tuple[int, int]:
    """The sequence number of the newest version, and when it was made; zeros if there is none."""
    found = _NEWEST.rows(connection, {})
    return (found[0][0], found[0][1]) if found else (0, 0)


_MODIFIED = Prepared(
    select(t.version.c.sequence, t.version.c.modified)
    .where(t.version.c.sequence >= bindparam("sequence"))
    .order_by(t.version.c.sequence)
    .limit(1)
)


def first_since(connection: Connection, moment: int) -> int:
    """The least sequence number from which on all versions are of ``moment`` (milliseconds) or later: their times go
    up with their numbers."""
    low, high = 1, newest(connection)[0] + 1
    while low < high:
        middle = (low + high) // 2
        ((sequence, modified),) = _MODIFIED.rows(connection, {"sequence": middle})
        low, high = (sequence + 1, high) if modified < moment else (low, middle)
    return low


_INDEXES = (t.token, t.string, t.span)
_INSERT_VERSIONS, _INSERT_RESOURCES = PreparedInsert(t.version), PreparedInsert(t.resource)
_INSERTS = [PreparedInsert(index) for index in _INDEXES]
_UPDATE_RESOURCE = Prepared(
    update(t.resource)
    .where(t.resource.c.row == bindparam("which"))
    .values({name: bindparam(name) for name in ("version", "sequence", "modified", "deleted")})
)


def _forget(index: Table) -> PreparedIn:
    return PreparedIn(lambda rows: delete(index).where(index.c.resource.in_(rows)))


_DELETES = [_forget(index) for index in _INDEXES]


def add_versions(tx: Connection, written: Sequence[tuple[Stored, Entries]]) -> None:
    """Write the first or next versions of resources, in their sequence, and what those are found by. ``row`` is 0 for a
    first one; each resource is there once."""
    _INSERT_VERSIONS.run(tx, [_version_row(new) for new, _ in written])
    _INSERT_RESOURCES.run(tx, [_resource_row(new) for new, _ in written if not new.row])
    if known := [new for new, _ in written if new.row]:
        _UPDATE_RESOURCE.many(tx, [{**_resource_row(new), "which": new.row} for new in known])
        for statement in _DELETES:
            statement.rows(tx, [new.row for new in known])
    tokens, strings, spans = _INSERTS
    by_row = [(new.row or new.sequence, entries) for new, entries in written]
    tokens.run(
        tx,
        [
            {"parameter": a, "system": b, "code": c, "resource": row}
            for row, entries in by_row
            for a, b, c in sorted(entries.tokens)
        ],
    )
    strings.run(
        tx,
        [
            {"parameter": a, "folded": b, "value": c, "resource": row}
            for row, entries in by_row
            for a, b, c in sorted(entries.strings)
        ],
    )
    spans.run(
        tx,
        [
            {"parameter": a, "low": b, "high": c, "unit": d, "resource": row}
            for row, entries in by_row
            for a, b, c, d in sorted(entries.spans)
        ],
    )


def _version_row(new: Stored) -> dict[str, Any]:
    return {
        "sequence": new.sequence,
        "type": new.type,
        "id": new.id,
        "version": int(new.version),
        "modified": new.modified,
        "method": new.method,
        "message": new.message,
        "body": None if new.deleted else new.body,
    }


def _resource_row(new: Stored) -> dict[str, Any]:
    return {
        "row": new.row or new.sequence,
        "type": new.type,
        "id": new.id,
        "version": int(new.version),
        "sequence": new.sequence,
        "modified": new.modified,
        "deleted": new.deleted,
    }


def referring(connection: Connection, numbers: Collection[int], kind: str, identifiers: Sequence[str]) -> list[int]:
    """Rows of the resources that refer to these by one of the search parameters with these numbers, by age."""
    found: set[int] = set()
    for part in chunks(identifiers):
        where = (t.token.c.parameter.in_(numbers), t.token.c.code.in_(part), t.token.c.system == kind)
        found.update(connection.execute(select(t.token.c.resource).where(*where)).scalars())
    return sorted(found)
