"""Deployments: which revision runs, who made it so, when and why, and which nodes serve it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from bridge.store import schema as t
from bridge.store.database import now_ms
from bridge.store.replay import record
from bridge.store.retention import now_millis

Kind = Literal["start", "deploy", "rollback"]
SILENT = 5_000
"""Milliseconds without a sign of life after which a node is taken to run no more."""
FORGOTTEN = 86_400_000
"""Milliseconds after which its row goes."""
SIGN_OFF = "sign-off"
"""Audit action: somebody looked at what a revision would change, and agreed."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One revision made the one that runs. Times are milliseconds since the epoch."""

    number: int
    at: int
    kind: Kind
    """``start``: the engine was started with changed files; the others are commands of a person."""
    revision: str
    former: str
    """The revision that ran before; empty for the first."""
    actor: str
    why: str
    refused: str
    """Why a node could not take it over: then the former one runs on. Empty: it holds."""


def history(connection: Connection, limit: int = 100) -> list[Deployment]:
    """The newest first, with those that were refused."""
    query = select(t.deployment).order_by(t.deployment.c.number.desc()).limit(limit)
    return [Deployment(**row._mapping) for row in connection.execute(query)]


def active(connection: Connection) -> Deployment | None:
    """The one that runs, or that every running node is about to take over; None before the first start."""
    query = select(t.deployment).where(t.deployment.c.refused == "").order_by(t.deployment.c.number.desc()).limit(1)
    row = connection.execute(query).first()
    return Deployment(**row._mapping) if row else None


def at_start(connection: Connection, revision: str) -> str:
    """The revision that an engine runs which is started with files of ``revision``: that one, as a rule.

    Files that a person's deploy or rollback has put aside do not come back by a mere restart.
    """
    newest = history(connection, 1)
    known = select(t.deployment.c.number).where(t.deployment.c.revision == revision).limit(1)
    if not newest or newest[0].kind == "start" or connection.execute(known).first() is None:
        return revision
    running = active(connection)
    return running.revision if running else revision


def before(connection: Connection) -> str:
    """The revision that a rollback goes back to: the one that ran before the active one came; empty if none did.

    One rollback after the other goes further and further back.
    """
    running = active(connection)
    if running is None or running.kind != "rollback":
        return running.former if running else ""
    c = t.deployment.c
    came = (
        select(c.former)
        .where(c.revision == running.revision, c.kind != "rollback", c.refused == "")
        .order_by(c.number.desc())
        .limit(1)
    )
    return connection.execute(came).scalar() or ""


def deploy(tx: Connection, revision: str, kind: Kind, *, actor: str, why: str = "") -> Deployment:
    """Make a kept revision the one that runs; nothing happens if it is. Recorded."""
    running = active(tx)
    if running and running.revision == revision:
        return running
    newest: int = tx.execute(select(func.max(t.deployment.c.number))).scalar() or 0
    former = running.revision if running else ""
    made = Deployment(newest + 1, now_millis(), kind, revision, former, actor, why, "")
    row = {column.name: getattr(made, column.name) for column in t.deployment.c}
    tx.execute(insert(t.deployment), row)
    record(tx, actor, kind, revision, {"number": made.number, "former": former, "why": why})
    return made


def refuse(tx: Connection, number: int, node: str, why: str) -> None:
    """A node cannot take a deployment over: no node keeps it, the former one is active again. Recorded."""
    c = t.deployment.c
    undone = tx.execute(update(t.deployment).where(c.number == number, c.refused == "").values(refused=why))
    if undone.rowcount:
        record(tx, node, "refuse", str(number), {"why": why})


def seen(tx: Connection, node: str, number: int) -> None:
    """A node runs, and serves this deployment."""
    c, values = t.node.c, {"deployment": number, "seen_at": now_ms()}
    if not tx.execute(update(t.node).where(c.id == node).values(values)).rowcount:
        tx.execute(delete(t.node).where(c.seen_at < now_ms() - FORGOTTEN))
        tx.execute(insert(t.node).values(id=node, **values))


def gone(tx: Connection, node: str) -> None:
    """A node has stopped."""
    tx.execute(delete(t.node).where(t.node.c.id == node))


def nodes(connection: Connection) -> dict[str, int]:
    """The nodes that run, each with the deployment that it serves."""
    c = t.node.c
    query = select(c.id, c.deployment).where(c.seen_at >= now_ms() - SILENT)
    return dict(connection.execute(query).tuples().all())


def refusal(connection: Connection, number: int) -> str:
    """Why a deployment was refused; empty while it holds."""
    c = t.deployment.c
    return connection.execute(select(c.refused).where(c.number == number)).scalar() or ""


def owed_elsewhere(connection: Connection, destinations: Collection[str]) -> dict[str, str]:
    """Destinations, other than these, to which something is still on its way -> the revision of the last of it."""
    known = set(connection.execute(select(t.lane_position.c.destination)).scalars())
    c, found = t.delivery.c, {}
    for name in sorted(known - set(destinations)):
        last = select(c.revision).where(c.destination == name, c.status == "pending")
        revision = connection.execute(last.order_by(c.position.desc()).limit(1)).scalar()
        if revision is not None:
            found[name] = revision
    return found


def named(connection: Connection) -> set[tuple[str, str]]:
    """(destination, revision) of all deliveries that have not ended."""
    query = select(t.delivery.c.destination, t.delivery.c.revision).distinct()
    return {(row.destination, row.revision) for row in connection.execute(query)}


def signed_off(connection: Connection, revision: str) -> bool:
    """Whether somebody looked at what this revision would change, and agreed."""
    c = t.audit.c
    return connection.execute(select(c.id).where(c.subject == revision, c.action == SIGN_OFF)).first() is not None


def matching(connection: Connection, prefix: str) -> list[str]:
    """Kept revisions whose id begins with ``prefix``."""
    c = t.revision.c
    return list(connection.execute(select(c.id).where(c.id.startswith(prefix, autoescape=True))).scalars())
