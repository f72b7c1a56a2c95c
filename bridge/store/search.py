"""Reading the journal: messages, their deliveries and attempts, by indexed keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    literal,
    literal_column,
    null,
    or_,
    select,
    union_all,
)

from bridge.errors import NotFound
from bridge.message import MessageStatus, id_millis
from bridge.store import identity
from bridge.store import schema as t
from bridge.store.retention import day_of

_SUMMARY = [column for column in t.message.c if column.name != "raw"]
_D, _L = t.delivery.c, t.delivery_log.c
_MAY_BE_EMPTY = frozenset({t.message.c.order_number, t.message.c.accession})
"""Columns whose index leaves empty values out: a query must say so too, or SQLite does not use it."""


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """What to look for; empty fields don't limit. Newest first."""

    status: str = ""
    channel: str = ""
    type: str = ""
    control_id: str = ""
    patient: str = ""
    """``id^issuer``, or the id alone: of any issuer. Messages under the person's other identifiers are found too."""
    order_number: str = ""
    accession: str = ""
    since: int = 0
    """Milliseconds."""
    before: str = ""
    """Only messages older than this id, for paging."""
    limit: int = 50


def messages(connection: Connection, wanted: MessageFilter) -> list[dict[str, Any]]:
    """Message rows without their bytes."""
    m = t.message.c
    query: Select[Any] = select(*_SUMMARY).order_by(m.day.desc(), m.id.desc()).limit(wanted.limit)
    for column, value in (
        (m.status, wanted.status),
        (m.channel, wanted.channel),
        (m.type, wanted.type),
        (m.control_id, wanted.control_id),
        (m.order_number, wanted.order_number),
        (m.accession, wanted.accession),
    ):
        if value:
            query = query.where(column == value)
            if column in _MAY_BE_EMPTY:
                query = query.where(column != literal_column("''"))
    if wanted.patient:
        query = query.where(_patients(connection, wanted.patient), m.patient != literal_column("''"))
    if wanted.status and wanted.status != MessageStatus.ROUTED.value:
        query = query.where(m.status != literal_column("'routed'"))
    if wanted.since:
        query = query.where(m.received_at >= wanted.since)
    if wanted.before:
        query = query.where(m.id < wanted.before)
    return [_plain(row) for row in connection.execute(query)]


def _patients(connection: Connection, identifier: str) -> ColumnElement[bool]:
    """This identifier, and all others that are known to be the same person's."""
    others = identity.names(connection, identifier) - {identifier}
    one = _patient(connection, identifier)
    return or_(one, t.message.c.patient.in_(sorted(others))) if others else one


def _patient(connection: Connection, identifier: str) -> ColumnElement[bool]:
    """This identifier; of whatever issuer when it names none. On SQLite as a range, which its index answers."""
    column = t.message.c.patient
    if "^" in identifier:
        return column == identifier
    if connection.dialect.name == "sqlite":
        return (column >= f"{identifier}^") & (column < f"{identifier}_")
    return column.startswith(f"{identifier}^", autoescape=True)


def message(connection: Connection, identifier: str) -> dict[str, Any]:
    """One message with its bytes (``raw``), deliveries and attempts. Raises NotFound."""
    row = _by_id(connection, t.message, identifier)
    if row is None:
        raise NotFound(f"no message {identifier}", fix="list them with `radbridge messages`")
    found = _plain(row)
    found["raw"] = bytes(row.raw)
    found["deliveries"] = deliveries_of(connection, identifier)
    return found


def deliveries_of(connection: Connection, message_id: str) -> list[dict[str, Any]]:
    """Every delivery of a message, ended or not, with its unsuccessful attempts."""
    open_ = _open_deliveries().where(_D.message == message_id)
    ended = select(
        *(_L[name] for name in _COMMON),
        literal(False).label("suspected"),
        _L.finished_at,
        _L.answer,
        null().label("retry_at"),
        _L.finished_at.label("changed_at"),
    ).where(_L.message == message_id)
    found = [_plain(row) for row in connection.execute(union_all(open_, ended))]
    for item in found:
        item["tries"] = _attempts(connection, item["day"], item["id"])
        item["suspected"] = bool(item["suspected"]) or any(one["outcome"] == t.SUSPECTED for one in item["tries"])
    return sorted(found, key=lambda item: (item["destination"], item["created_at"]))


_COMMON = (
    "id",
    "message",
    "day",
    "route",
    "destination",
    "mapping",
    "revision",
    "position",
    "origin",
    "status",
    "attempts",
    "error",
    "cause",
    "created_at",
)


def _open_deliveries() -> Select[Any]:
    return select(
        *(_D[name] for name in _COMMON),
        _D.suspected,
        null().label("finished_at"),
        literal("").label("answer"),
        _D.retry_at,
        _D.changed_at,
    )


def deliveries(
    connection: Connection, *, status: str = "", destination: str = "", limit: int = 100
) -> list[dict[str, Any]]:
    """Deliveries that have not ended (pending, dead), lowest position first, each with its message's ``type``."""
    query = (
        _open_deliveries()
        .add_columns(t.message.c.type)
        .join(t.message, (t.message.c.day == _D.day) & (t.message.c.id == _D.message))
        .order_by(_D.destination, _D.position)
        .limit(limit)
    )
    if status:
        query = query.where(_D.status == status)
    if destination:
        query = query.where(_D.destination == destination)
    return [_plain(row) for row in connection.execute(query)]


def delivery(connection: Connection, identifier: str) -> dict[str, Any]:
    """One delivery, ended or not. Raises NotFound."""
    row = connection.execute(_open_deliveries().where(_D.id == identifier)).first()
    if row is None:
        row = _by_id(connection, t.delivery_log, identifier)
    if row is None:
        raise NotFound(f"no delivery {identifier}", fix="list them with `radbridge messages ID`")
    return _plain(row)


def _by_id(connection: Connection, table: Table, identifier: str) -> Row[Any] | None:
    """The row of a table that is kept by day. An id tells its day; a replay's is younger than its message's."""
    query = select(table).where(table.c.id == identifier)
    own_day = connection.execute(query.where(table.c.day == day_of(id_millis(identifier)))).first()
    return own_day or connection.execute(query).first()


def _attempts(connection: Connection, day: int, delivery_id: str) -> list[dict[str, Any]]:
    attempt = t.attempt.c
    query = select(t.attempt).where(attempt.day == day, attempt.delivery == delivery_id).order_by(attempt.at)
    return [_plain(row) for row in connection.execute(query)]


def _plain(row: Row[Any]) -> dict[str, Any]:
    found = dict(row._mapping)
    found.pop("raw", None)
    for name in ("error", "warnings"):
        if found.get(name):
            found[name] = json.loads(found[name])
    if "digest" in found:
        found["digest"] = bytes(found["digest"]).hex() if found["digest"] else ""
    return found
