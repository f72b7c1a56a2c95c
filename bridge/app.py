"""The composition root: settings in, a running node out. Everything that is wired together is wired here."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import secrets
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import structlog

from bridge.engine.operations import Operations
from bridge.engine.plan import Plan
from bridge.engine.reload import keep_sequences
from bridge.engine.runtime import ROLES, Runtime
from bridge.errors import BridgeError
from bridge.settings import Loaded, from_files
from bridge.store import revisions
from bridge.store.store import Store

log = structlog.get_logger(__name__)

SWITCH_INTERVAL = 0.0005
"""Seconds a thread may keep the interpreter: the writer must not wait 5 ms for the event loop, nor the loop for it."""


@dataclass(slots=True)
class Node:
    """A node that was built and not yet started."""

    store: Store
    runtime: Runtime
    operations: Operations
    token: str
    new_token: bool
    """The token was made now: show it once."""
    web: str = ""
    """Where the web end listens, ``http://127.0.0.1:8080``; empty while it does not."""
    put_aside: str = ""
    """The revision of the files on disk, if it is not the one that runs: a person's deploy or rollback put it aside."""

    @property
    def loaded(self) -> Loaded:
        """The files of the revision that runs."""
        return self.runtime.loaded


def store_url(loaded: Loaded) -> str:
    """Where the database is: as configured, else SQLite in the data folder, which is made if missing."""
    config = loaded.config
    if config.store.url:
        return config.store.url
    folder = Path(config.data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BridgeError(
            f"cannot be made: {error.strerror}", at=str(folder), fix="set `data:`", kind="settings"
        ) from None
    return f"sqlite:///{folder / 'radbridge.db'}"


@contextmanager
def sole_owner(loaded: Loaded) -> Iterator[None]:
    """Hold the embedded store for this process alone. Raises BridgeError when another engine serves it."""
    if loaded.config.store.url:
        yield
        return
    store_url(loaded)
    lock: IO[str] = (Path(loaded.config.data) / "radbridge.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise BridgeError(
            "another radbridge serves this data folder",
            at=str(loaded.config.data),
            fix="stop it, or set another `data:`",
            kind="settings",
        ) from None
    try:
        yield
    finally:
        lock.close()


def open_operations(loaded: Loaded) -> tuple[Store, Operations]:
    """The store and what people do with it, without a running node; close the store when done.

    The plan is that of the revision that runs, or of these files before the first start. It is compiled when it is
    first needed: looking works with a broken mapping, too.
    """
    store = Store(store_url(loaded))

    def plan_of(revision: str) -> Plan:
        return Plan(from_files(store.revision_files(revision), loaded.folder))

    @cache
    def plan() -> Plan:
        running = store.read(revisions.active)
        compiled = plan_of(running.revision) if running else Plan(loaded)
        store.keep_revision(compiled.revision, compiled.files)
        store.ensure_destinations(compiled.destinations())
        keep_sequences(compiled, store, compiled, plan_of)
        return compiled

    return store, Operations(store, plan)


def build(loaded: Loaded, *, roles: frozenset[str] = ROLES) -> Node:
    """Wire a node. Raises SettingsError or StoreUnavailable, each with place and fix."""
    store = Store(store_url(loaded))
    try:
        chosen = _to_run(loaded, store)
        runtime = Runtime(chosen, store, roles=roles)
    except BaseException:
        store.close()
        raise
    configured = loaded.config.web.token.get_secret_value()
    token, new = (configured, False) if configured else store.meta("api-token", lambda: secrets.token_urlsafe(24))
    put_aside = "" if chosen is loaded else loaded.revision
    return Node(store, runtime, Operations(store, lambda: runtime.plan), token, new, put_aside=put_aside)


def _to_run(loaded: Loaded, store: Store) -> Loaded:
    """What an engine runs that is started with these files: them, unless a person's deploy or rollback put them aside
    (:func:`bridge.store.revisions.at_start`)."""
    revision: str = store.read(lambda connection: revisions.at_start(connection, loaded.revision))
    if revision == loaded.revision:
        return loaded
    return from_files(store.revision_files(revision), loaded.folder)


async def serve(node: Node, *, ready: Callable[[Node], None] = lambda _: None) -> None:
    """Run until SIGINT or SIGTERM. Channels come first: the web end starts once messages can be received."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await node.runtime.start()
    web: Any = None
    try:
        if "web" in node.runtime.roles:
            from bridge.web.server import WebServer

            web = WebServer(node)
            node.web = await web.start()
        _settle_memory()
        ready(node)
        await stop.wait()
    finally:
        if web is not None:
            await web.stop()
        await node.runtime.stop()


def _settle_memory() -> None:
    """What was loaded stays: the garbage collector need not look at it again, nor at every few hundred new objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def run(loaded: Loaded, *, roles: frozenset[str] = ROLES, ready: Callable[[Node], None] = lambda _: None) -> None:
    """Build a node and serve it in this process until a signal."""
    import uvloop

    sys.setswitchinterval(SWITCH_INTERVAL)
    configure_logging(loaded)
    with sole_owner(loaded):
        node = build(loaded, roles=roles)
        try:
            uvloop.run(serve(node, ready=ready))
        finally:
            node.store.close()


def configure_logging(loaded: Loaded) -> None:
    """structlog to standard error, as the configuration says."""
    settings = loaded.config.log
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _trace,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[settings.level]),
        logger_factory=structlog.PrintLoggerFactory(os.fdopen(os.dup(2), "w", buffering=1)),
        cache_logger_on_first_use=True,
    )


def _trace(_: Any, __: str, event: Any) -> Any:
    """An exception's type and where it came from, never its text: that may hold content (law 8)."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__name__
        event["trace"] = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return event
