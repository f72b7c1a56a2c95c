"""The store as the engine sees it: accept, claim, freeze, finish, replay, search, revisions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text
from sqlalchemy.exc import DBAPIError

from bridge.errors import NotFound, StoreUnavailable
from bridge.message import Delivery
from bridge.model import Unmapped
from bridge.store import identity, identity_desk, leases, migrate, mpps, replay, retention, search, state, unmapped
from bridge.store import schema as t
from bridge.store.accept import Accept, Acceptance, Accepted, ensure_destinations
from bridge.store.audit import Trail
from bridge.store.database import Database
from bridge.store.deliveries import Front, LaneState, Owed, claim, lane_states
from bridge.store.fhir import FhirStore
from bridge.store.fhir_subscriptions import Subscriptions, forget_events
from bridge.store.finish import Finish, Finished, FinishStep, Freeze, Frozen
from bridge.store.worklist import Worklist
from bridge.store.writer import CALL, QUEUE, Writer

Bell = Callable[[set[str]], None]


class Store:
    """One database: the journal, the queue and the projections. Thread-safe; writes go through one writer thread.

    ``on_commit(destinations)`` is called in the writer thread after each commit that owes somebody something.
    Raises StoreUnavailable when the database cannot be opened or migrated.
    """

    def __init__(
        self, url: str, *, on_commit: Bell = lambda _: None, synchronous: str = "FULL", queue: int = QUEUE
    ) -> None:
        self.database = Database(url, synchronous=synchronous)
        migrate.upgrade(self.database)
        self._writer = Writer(self.database, lambda bells: self.on_commit(bells), queue=queue)
        self.on_commit = on_commit
        self._accept, self._freeze, self._finish = Accept(), Freeze(), FinishStep()
        self._taker: Callable[[Acceptance], None] | None = None
        self._checkpointer = retention.Checkpointer(self.database) if self.database.embedded else None
        if self._checkpointer:
            self._checkpointer.start()
        self.worklist = Worklist(self.database.reader, self.write)
        self.fhir = FhirStore(self.database.reader)
        self.subscriptions = Subscriptions(self.fhir, self.write)
        self.trail = Trail(self.read, self.write)

    # the main path

    async def accept(self, acceptance: Acceptance) -> Accepted:
        """Store a message and what it owes; returns once it is synced. Raises Overloaded or StoreUnavailable."""
        accepted: Accepted = await self._writer.submit(self._accept, acceptance)
        if self._taker is not None and not accepted.duplicate and acceptance.deliveries:
            self._taker(acceptance)
        return accepted

    def hand_over(self, taker: Callable[[Acceptance], None]) -> None:
        """From now on, what was accepted is told to ``taker`` in the event loop, in the sequence of acceptance, instead
        of ringing bells for it. Who misses it finds it by the next claim."""
        self._taker, self._accept.rings = taker, False

    def claim(self, destination: str, after: int, limit: int) -> tuple[list[Owed], Front]:
        """See :func:`bridge.store.deliveries.claim`. Blocks on the database: call it from a thread."""
        owed: tuple[list[Owed], Front] = self.read(lambda c: claim(c, destination, after, limit))
        return owed

    async def freeze(
        self, frozen: list[Frozen], *, unmapped: Sequence[tuple[str, Unmapped]] = (), patience: float = 0.0
    ) -> None:
        """Keep rendered bytes before they leave, and count the codes that no table has (with the message of each);
        returns once synced. ``patience`` as in :meth:`finish`."""
        await self._writer.submit(self._freeze, (frozen, unmapped), patience=patience)

    def finish(self, finish: Finish, *, patience: float = 0.0) -> asyncio.Future[Finished]:
        """Record how an attempt ended. The future raises Fenced, or what a projection raised.

        ``patience``: seconds that it may wait for others to share their commit.
        """
        return self._writer.submit(self._finish, finish, patience=patience)

    async def leases(self, owner: str, destinations: Iterable[str], *, alone: bool) -> list[leases.Lease]:
        """Take or renew ownership; see :func:`bridge.store.leases.take`."""
        held: list[leases.Lease] = await self._writer.submit(
            CALL, lambda tx: leases.take(tx, owner, destinations, alone=alone)
        )
        return held

    async def channel_state(self, channel: str, keys: Collection[str]) -> dict[str, Any]:
        """See :func:`bridge.store.state.get`."""
        found: dict[str, Any] = await asyncio.to_thread(self.read, lambda c: state.get(c, channel, keys))
        return found

    async def keep_channel_state(self, channel: str, values: Mapping[str, Any], keep: float | None) -> None:
        """See :func:`bridge.store.state.put`; returns once synced."""
        await self._writer.submit(CALL, lambda tx: state.put(tx, channel, values, keep))

    async def channel_turn(self, channel: str, owner: str, seconds: float) -> bool:
        """See :func:`bridge.store.state.take_turn`."""
        mine: bool = await self._writer.submit(CALL, lambda tx: state.take_turn(tx, channel, owner, seconds))
        return mine

    # rare writes, from any thread

    def write(self, function: Callable[[Connection], Any]) -> Any:
        """Run ``function(tx)`` in the writer and wait for its commit. What it returns may ring bells."""
        return self._writer.call(CALL, function)

    def answer_identity(
        self, number: int, *, accept: bool, actor: str, reason: str, survivor: str = ""
    ) -> identity_desk.Question:
        """See :func:`bridge.store.identity_desk.answer`."""
        done: identity_desk.Question = self.write(
            lambda tx: identity_desk.answer(tx, number, accept=accept, actor=actor, reason=reason, survivor=survivor)
        )
        return done

    def unmerge(self, identifier: str, *, actor: str, reason: str) -> None:
        """See :func:`bridge.store.identity_desk.unmerge`."""
        self.write(lambda tx: identity_desk.unmerge(tx, identifier, actor=actor, reason=reason))

    def ensure_destinations(self, names: Iterable[str]) -> None:
        self.write(lambda tx: ensure_destinations(tx, list(names)))

    def replay_dead(
        self, identifiers: list[str], *, actor: str, revision: str, payloads: Mapping[str, bytes] | None = None
    ) -> replay.Replayed:
        """See :func:`bridge.store.replay.replay_dead`."""
        done: replay.Replayed = self.write(
            lambda tx: replay.replay_dead(tx, identifiers, actor=actor, revision=revision, payloads=payloads)
        )
        return done

    def add_deliveries(self, deliveries: list[Delivery], *, actor: str) -> replay.Replayed:
        done: replay.Replayed = self.write(lambda tx: replay.add_deliveries(tx, deliveries, actor=actor))
        return done

    def skip(self, identifiers: list[str], *, actor: str, reason: str) -> replay.Replayed:
        done: replay.Replayed = self.write(lambda tx: replay.skip(tx, identifiers, actor=actor, reason=reason))
        return done

    def record(self, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
        """Add to the audit trail."""
        self.write(lambda tx: replay.record(tx, actor, action, subject, detail))

    def keep_revision(self, identifier: str, files: Mapping[str, str]) -> None:
        """Keep a revision's files for as long as deliveries name it. Does nothing if it is known."""

        def keep(tx: Connection) -> None:
            if tx.execute(select(t.revision.c.id).where(t.revision.c.id == identifier)).first() is None:
                row = {"id": identifier, "created_at": retention.now_millis(), "files": json.dumps(dict(files))}
                tx.execute(insert(t.revision), row)

        self.write(keep)

    def maintain(self, *, keep_days: int, receipt_window_ms: int) -> None:
        """Partitions ahead, receipts and journal days behind. Quick when there is nothing to do."""
        now = retention.now_millis()
        self.write(lambda tx: retention.ensure_partitions(tx, retention.day_of(now)))
        self.write(lambda tx: mpps.forget(tx, now - keep_days * 86_400_000))
        self.write(lambda tx: forget_events(tx, now - keep_days * 86_400_000))
        while self.write(lambda tx: retention.trim_receipts(tx, now - receipt_window_ms)) == retention.CHUNK:
            pass
        oldest = retention.day_of(now - keep_days * 86_400_000)
        self.write(lambda tx: unmapped.forget(tx, oldest))
        self.write(state.forget)
        while self.write(lambda tx: retention.drop_before(tx, oldest)) >= retention.CHUNK:
            pass

    # reading, from any thread

    def read(self, function: Callable[[Connection], Any]) -> Any:
        """Run ``function(connection)`` on a reader. Raises StoreUnavailable when the database cannot be read."""
        try:
            with self.database.reader.connect() as connection:
                return function(connection)
        except DBAPIError as error:
            reason = str(error.orig).splitlines()[0]
            raise StoreUnavailable(f"the database cannot be read: {reason}", fix="mend the database") from error

    def lanes(self) -> list[LaneState]:
        states: list[LaneState] = self.read(lane_states)
        return states

    def survivors(self, identifiers: Collection[str]) -> identity.Survivors:
        """See :func:`bridge.store.identity.survivors`. Blocks on the database."""
        found: identity.Survivors = self.read(lambda c: identity.survivors(c, identifiers))
        return found

    def messages(self, wanted: search.MessageFilter) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.read(lambda c: search.messages(c, wanted))
        return found

    def message(self, identifier: str) -> dict[str, Any]:
        found: dict[str, Any] = self.read(lambda c: search.message(c, identifier))
        return found

    def deliveries(self, **wanted: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.read(lambda c: search.deliveries(c, **wanted))
        return found

    def delivery(self, identifier: str) -> dict[str, Any]:
        found: dict[str, Any] = self.read(lambda c: search.delivery(c, identifier))
        return found

    def revision_files(self, identifier: str) -> dict[str, str]:
        """The files of a kept revision. Raises NotFound."""
        text_ = self.read(lambda c: c.execute(select(t.revision.c.files).where(t.revision.c.id == identifier)).scalar())
        if text_ is None:
            raise NotFound(f"no revision {identifier}")
        files: dict[str, str] = json.loads(text_)
        return files

    def meta(self, key: str, make: Callable[[], str]) -> tuple[str, bool]:
        """The value kept under ``key``, made on first use; and whether it was made now."""

        def get(tx: Connection) -> tuple[str, bool]:
            value = tx.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()
            if value is not None:
                return value, False
            value = make()
            tx.execute(insert(t.meta), {"key": key, "value": value})
            return value, True

        found: tuple[str, bool] = self.write(get)
        return found

    @property
    def healthy(self) -> bool:
        """The last commit went through."""
        return self._writer.healthy

    @property
    def commits(self) -> int:
        return self._writer.commits

    @property
    def waiting(self) -> int:
        """Jobs waiting for a commit."""
        return self._writer.depth

    def ping(self) -> None:
        """Raises StoreUnavailable if the database cannot be read, or written when the last write failed."""
        self.read(lambda connection: connection.execute(text("SELECT 1")).scalar())
        if not self.healthy:
            self.write(_probe)

    def give_back(self, owner: str) -> None:
        self.write(lambda tx: leases.give_back(tx, owner))

    def close(self) -> None:
        self._writer.close()
        if self._checkpointer:
            self._checkpointer.close()
        self.database.close()


def _probe(tx: Connection) -> None:
    tx.execute(delete(t.meta).where(t.meta.c.key == "probe"))
    tx.execute(insert(t.meta), {"key": "probe", "value": str(retention.now_millis())})
