"""Reading the journal: messages, their deliveries and attempts, by indexed keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, literal, null, select, union_all

from bridge.errors import NotFound
from bridge.store import schema as t

_SUMMARY = [column for column in t.message.c if column.name != "raw"]
_D, _L = t.delivery.c, t.delivery_log.c


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """What to look for; empty fields don't limit. Newest first."""

    status: str = ""
    channel: str = ""
    type: str = ""
    control_id: str = ""
    patient: str = ""
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
    query: Select[Any] = select(*_SUMMARY).order_by(m.id.desc()).limit(wanted.limit)
    for column, value in (
        (m.status, wanted.status),
        (m.channel, wanted.channel),
        (m.type, wanted.type),
        (m.control_id, wanted.control_id),
        (m.patient, wanted.patient),
        (m.order_number, wanted.order_number),
        (m.accession, wanted.accession),
    ):
        if value:
            query = query.where(column == value)
    if wanted.since:
        query = query.where(m.received_at >= wanted.since)
    if wanted.before:
        query = query.where(m.id < wanted.before)
    return [_plain(row) for row in connection.execute(query)]


def message(connection: Connection, identifier: str) -> dict[str, Any]:
    """One message with its bytes (``raw``), deliveries and attempts. Raises NotFound."""
    row = connection.execute(select(t.message).where(t.message.c.id == identifier)).first()
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
        *(_L[name] for name in _COMMON), literal(False).label("suspected"), _L.finished_at, _L.answer, null().label("retry_at")
    ).where(_L.message == message_id)
    found = [_plain(row) for row in connection.execute(union_all(open_, ended))]
    for item in found:
        item["tries"] = _attempts(connection, item["id"])
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
    )


def deliveries(
    connection: Connection, *, status: str = "", destination: str = "", limit: int = 100
) -> list[dict[str, Any]]:
    """Deliveries that have not ended (pending, dead), lowest position first."""
    query = _open_deliveries().order_by(_D.destination, _D.position).limit(limit)
    if status:
        query = query.where(_D.status == status)
    if destination:
        query = query.where(_D.destination == destination)
    return [_plain(row) for row in connection.execute(query)]


def delivery(connection: Connection, identifier: str) -> dict[str, Any]:
    """One delivery, ended or not. Raises NotFound."""
    row = connection.execute(_open_deliveries().where(_D.id == identifier)).first()
    if row is None:
        row = connection.execute(select(t.delivery_log).where(_L.id == identifier)).first()
    if row is None:
        raise NotFound(f"no delivery {identifier}", fix="list them with `radbridge messages ID`")
    return _plain(row)


def _attempts(connection: Connection, delivery_id: str) -> list[dict[str, Any]]:
    query = select(t.attempt).where(t.attempt.c.delivery == delivery_id).order_by(t.attempt.c.at)
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
