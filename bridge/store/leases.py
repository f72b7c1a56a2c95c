"""Ownership of destinations: a lease row on the database's clock, with an epoch that fences late writers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, update

from bridge.store import schema as t
from bridge.store.database import now_ms

TERM = 3.0
"""Seconds a lease lasts; its holder renews it every third of that."""
MARGIN = 0.5
"""Seconds before the term's end at which the holder stops on its own."""


@dataclass(frozen=True, slots=True)
class Lease:
    destination: str
    epoch: int
    deadline: float
    """On this process's monotonic clock; past it nothing more is sent or written under this lease."""

    @property
    def valid(self) -> bool:
        return time.monotonic() < self.deadline


def take(tx: Connection, owner: str, destinations: Iterable[str], *, alone: bool = False) -> list[Lease]:
    """Take or renew the leases of ``destinations`` for ``owner``; those held by a living other are left out.

    One that ran out is renewed with its epoch while nobody else has taken it: what was sent under it is still marked.

    ``alone``: the caller knows that no other process serves this database (it holds the embedded store's file lock),
    so that leases left by a killed one are taken at once.
    """
    started = time.monotonic()
    mine: list[Lease] = []
    free = t.lease.c.expires_at < now_ms()
    for destination in sorted(destinations):
        here = t.lease.c.destination == destination
        expires = now_ms() + int(TERM * 1000)
        row = tx.execute(
            update(t.lease).where(here, t.lease.c.owner == owner).values(expires_at=expires).returning(t.lease.c.epoch)
        ).first()
        if row is None:
            row = tx.execute(
                update(t.lease)
                .where(here, *(() if alone else (free,)))
                .values(owner=owner, epoch=t.lease.c.epoch + 1, expires_at=expires)
                .returning(t.lease.c.epoch)
            ).first()
        if row is not None:
            mine.append(Lease(destination, int(row.epoch), started + TERM - MARGIN))
    return mine


def give_back(tx: Connection, owner: str) -> None:
    """End all leases of ``owner`` so that another node can go on at once."""
    tx.execute(update(t.lease).where(t.lease.c.owner == owner).values(owner="", expires_at=0))
