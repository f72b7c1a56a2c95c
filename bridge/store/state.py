"""What channels keep beyond a restart: small JSON values, each of one channel, by key; and whose turn a channel is."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.store import schema as t
from bridge.store.database import now_ms

channel_state = Table(
    "channel_state",
    t.metadata,
    Column("channel", t.NAME, primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    Column("until", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)
"""``until``: when the value is forgotten, on the database's clock."""

FOREVER = 1 << 62
_TURN = "turn"


def get(connection: Connection, channel: str, keys: Collection[str]) -> dict[str, Any]:
    """The values that are kept under ``keys``."""
    c = channel_state.c
    query = select(c.key, c.value).where(c.channel == channel, c.key.in_(sorted(keys)), c.until > now_ms())
    return {key: json.loads(value) for key, value in connection.execute(query)} if keys else {}


def put(tx: Connection, channel: str, values: Mapping[str, Any], keep: float | None) -> None:
    """Keep ``values`` by key instead of what was there, for ``keep`` seconds (None: for good)."""
    until = FOREVER if keep is None else tx.execute(select(now_ms())).scalar_one() + int(keep * 1000)
    rows = [
        {"channel": channel, "key": key, "value": json.dumps(value), "until": until}
        for key, value in sorted(values.items())
    ]
    insert = _insert(tx)
    new = {"value": insert.excluded.value, "until": insert.excluded.until}
    tx.execute(insert.on_conflict_do_update(index_elements=["channel", "key"], set_=new), rows)


def take_turn(tx: Connection, channel: str, owner: str, seconds: float) -> bool:
    """Whether the channel is ``owner``'s alone for the next ``seconds``: it had it, or nobody has it now."""
    nobody = {"channel": channel, "key": _TURN, "value": "", "until": 0}
    tx.execute(_insert(tx).on_conflict_do_nothing(), nobody)
    mine = or_(channel_state.c.value == owner, channel_state.c.until < now_ms())
    taken = tx.execute(
        update(channel_state)
        .where(channel_state.c.channel == channel, channel_state.c.key == _TURN, mine)
        .values(value=owner, until=now_ms() + int(seconds * 1000))
    )
    return taken.rowcount == 1


def forget(tx: Connection) -> None:
    """Delete what need not be kept any more."""
    tx.execute(delete(channel_state).where(channel_state.c.until < now_ms()))


def _insert(tx: Connection) -> Any:
    return (postgresql if tx.dialect.name == "postgresql" else sqlite).insert(channel_state)
