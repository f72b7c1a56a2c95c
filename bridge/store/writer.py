"""The group-commit writer: one thread, one transaction for everything that waits, one sync for all of it (law 1)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from bridge.errors import BridgeError, Overloaded, StoreUnavailable
from bridge.store.database import Database

log = structlog.get_logger(__name__)

BATCH = 512
QUEUE = 20_000
"""Jobs that may wait for a commit; past it receivers are told to come again."""
RETRY_FOR = 5.0
"""Seconds during which a batch is tried again on a new connection before its jobs are refused."""


class Step(Protocol):
    """A kind of job. ``run`` takes all jobs of the kind in a batch at once, so that each statement runs once.

    It must be safe to run again for jobs whose commit went through unnoticed. A returned BridgeError fails its job
    alone.
    """

    order: int

    def run(self, tx: Connection, items: Sequence[Any]) -> list[Any]: ...


@dataclass(slots=True)
class Job:
    step: Step
    item: Any
    loop: asyncio.AbstractEventLoop | None
    future: Any


class Writer:
    """Runs submitted jobs in the sequence of submission per step, many to a commit."""

    def __init__(self, database: Database, after_commit: Callable[[set[str]], None], *, queue: int = QUEUE) -> None:
        self._queue = queue
        self._database = database
        self._after_commit = after_commit
        self._gathering: deque[Job] = deque()
        """From event loops, not yet released to the writer's thread."""
        self._releasing: asyncio.AbstractEventLoop | None = None
        """The loop that releases them when it is through with what it has to do now."""
        self._timer: asyncio.TimerHandle | None = None
        """Releases those that may wait, in the loop ``_timing``."""
        self._timing: asyncio.AbstractEventLoop | None = None
        self._jobs: deque[Job] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._connection: Connection | None = None
        """The thread's own, from its first transaction on; made anew after anything went wrong with it."""
        self.commits = 0
        self.healthy = True
        self._thread = threading.Thread(target=self._loop, name="radbridge-writer", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Jobs waiting for a commit."""
        return len(self._jobs) + len(self._gathering)

    def submit(self, step: Step, item: Any, *, patience: float = 0.0) -> asyncio.Future[Any]:
        """Queue a job from a running event loop; the future ends when its transaction is synced.

        What one turn of the loop submits goes into one commit. A job with ``patience`` (seconds) waits so long for
        others to share theirs. Raises Overloaded when the queue is full.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._check_room()
        self._gathering.append(Job(step, item, loop, future))
        if patience:
            self._release_by(loop, loop.time() + patience)
        elif self._releasing is not loop:
            self._releasing = loop
            loop.call_soon(self._release)
        return future

    def _release_by(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Let the timer go off at ``due`` on the loop's clock, or earlier if others are due before."""
        if self._timer and self._timing is loop:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer, self._timing = loop.call_at(due, self._release), loop

    def call(self, step: Step, item: Any) -> Any:
        """Queue a job from a thread and wait for its result."""
        future: Future[Any] = Future()
        with self._wake:
            self._check_room()
            self._jobs.append(Job(step, item, None, future))
            self._wake.notify()
        return future.result()

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._wake:
            self._stopping = True
        self._flush()
        self._thread.join()

    def _check_room(self) -> None:
        if self._stopping:
            raise StoreUnavailable("the store is closing")
        if self.depth >= self._queue:
            raise Overloaded("more is arriving than can be stored", fix="wait, then send again")

    def _release(self) -> None:
        """A loop's turn or patience is over: give the thread what was gathered."""
        self._releasing = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._gathering:
            self._flush()

    def _flush(self) -> None:
        """Move what was gathered to the thread's queue; more may be gathered meanwhile."""
        with self._wake:
            while self._gathering:
                self._jobs.append(self._gathering.popleft())
            self._wake.notify()

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not self._jobs and not self._stopping:
                    self._wake.wait()
                if not self._jobs:
                    break
                batch = [self._jobs.popleft() for _ in range(min(BATCH, len(self._jobs)))]
            self._settle(batch, self._commit(batch))
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _commit(self, batch: list[Job]) -> list[Any]:
        """One result or exception per job; halves the batch until a bad row fails alone."""
        try:
            results = self._persist(batch)
        except StoreUnavailable as error:
            self.healthy = False
            log.error("store_unavailable", what=error.what, jobs=len(batch))
            return [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - any row can be the bad one; it is found by halving
            if len(batch) == 1:
                log.error("store_job_failed", step=type(batch[0].step).__name__, error=type(error).__name__)
                return [_refused(error) if isinstance(error, DBAPIError) else error]
            middle = len(batch) // 2
            return self._commit(batch[:middle]) + self._commit(batch[middle:])
        self.healthy = True
        return results

    def _persist(self, batch: list[Job]) -> list[Any]:
        deadline, raced = time.monotonic() + RETRY_FOR, self._database.embedded
        while True:
            try:
                return self._transact(batch)
            except DBAPIError as error:
                self._disconnect()
                if self._database.embedded or not _lost(error):
                    if not raced and isinstance(error, IntegrityError | ProgrammingError):
                        raced = True  # another node wrote the same meanwhile: this time it is seen
                        continue
                    raise _unavailable(error) from error
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        "the database is away", fix="start PostgreSQL or mend the network"
                    ) from error
                self.healthy = False
                time.sleep(0.2)

    def _transact(self, batch: list[Job]) -> list[Any]:
        results: list[Any] = [None] * len(batch)
        bells: set[str] = set()
        by_step: dict[Step, list[int]] = {}
        for index, job in enumerate(batch):
            by_step.setdefault(job.step, []).append(index)
        tx = self._connection = self._connection or self._database.writer.connect()
        with tx.begin():
            for step in sorted(by_step, key=lambda step: step.order):
                indexes = by_step[step]
                for index, result in zip(indexes, step.run(tx, [batch[i].item for i in indexes]), strict=True):
                    results[index] = result
                    bells.update(getattr(result, "bells", ()))
        self.commits += 1
        if bells:
            self._after_commit(bells)
        return results

    @staticmethod
    def _settle(batch: list[Job], results: list[Any]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, Any]]] = {}
        for job, result in zip(batch, results, strict=True):
            if job.loop is None:
                _resolve([(job.future, result)])
            else:
                by_loop.setdefault(job.loop, []).append((job.future, result))
        for loop, pairs in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: list[tuple[Any, Any]]) -> None:
    for future, result in pairs:
        if future.done():
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def _lost(error: DBAPIError) -> bool:
    if error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    return isinstance(error, OperationalError) and "connect" in str(error.orig).lower()


def _refused(error: DBAPIError) -> BridgeError:
    """The database answered, and would not write this one job; its words may hold content and are not passed on."""
    reason = type(error.orig).__name__ if error.orig else type(error).__name__
    return BridgeError(f"the database refused to write it ({reason})", fix="look at the database's own log")


def _unavailable(error: DBAPIError) -> BaseException:
    """A full disk or a failing database refuses everybody; anything else may be one row's fault."""
    if not isinstance(error, OperationalError | InterfaceError):
        return error
    reason = str(error.orig).splitlines()[0] if error.orig else type(error).__name__
    signs = ("full", "disk i/o", "readonly", "unable to open", "locked", "no space", "shutting down", "connect")
    if any(sign in reason.lower() for sign in signs):
        return StoreUnavailable(f"the database cannot write: {reason}", fix="free disk space or mend the database")
    return error


class Call:
    """A step for anything rare: the item is ``function(tx) -> result``."""

    order = 90

    def run(self, tx: Connection, items: Sequence[Callable[[Connection], Any]]) -> list[Any]:
        return [function(tx) for function in items]


CALL = Call()
