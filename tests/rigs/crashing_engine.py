"""The real engine, started as a program, with a place to die at.

``--die-after-accepts N``: SIGKILL when the N-th message is committed and its answer not yet given.
``--die-after-sends CHANNEL N``: SIGKILL when that channel's N-th message was taken by its receiver and not yet marked.
``--synchronous OFF``: the embedded store without syncing, as a control for what proves that it syncs.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import Any

import uvloop

from bridge import app
from bridge.engine.operations import Operations
from bridge.engine.plan import Plan
from bridge.engine.runtime import Runtime
from bridge.ports import Answer, Outgoing
from bridge.settings import load
from bridge.store.accept import Acceptance, Accepted
from bridge.store.store import Store


class Fuse:
    """Kills this process when it is burnt for the N-th time; never for 0."""

    def __init__(self, times: int) -> None:
        self._left = times

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class DyingStore(Store):
    """Dies between a commit and what follows it."""

    def __init__(self, url: str, fuse: Fuse, synchronous: str) -> None:
        super().__init__(url, synchronous=synchronous)
        self._fuse = fuse

    async def accept(self, acceptance: Acceptance) -> Accepted:
        accepted = await super().accept(acceptance)
        self._fuse.burn()
        return accepted


class DyingSink:
    """Dies between the receiver's answer and what follows it."""

    def __init__(self, sink: Any, fuse: Fuse) -> None:
        self._sink, self._fuse = sink, fuse
        self.endpoint, self.close = sink.endpoint, sink.close

    async def send(self, outgoing: Outgoing) -> Answer:
        answer: Answer = await self._sink.send(outgoing)
        self._fuse.burn()
        return answer


class DyingRuntime(Runtime):
    """Builds one of its channels as a :class:`DyingSink`."""

    channel, fuse = "", Fuse(0)

    def _build(self, plan: Plan, name: str) -> Any:
        end = super()._build(plan, name)
        return DyingSink(end, self.fuse) if name == self.channel else end


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--roles", required=True)
    parser.add_argument("--die-after-accepts", type=int, default=0)
    parser.add_argument("--die-after-sends", nargs=2, default=("", "0"))
    parser.add_argument("--synchronous", default="FULL")
    told = parser.parse_args()

    loaded = load(told.config)
    app.configure_logging(loaded)
    store = DyingStore(app.store_url(loaded), Fuse(told.die_after_accepts), told.synchronous)
    runtime = DyingRuntime(loaded, store, roles=frozenset(told.roles.split(",")))
    runtime.channel, runtime.fuse = told.die_after_sends[0], Fuse(int(told.die_after_sends[1]))
    node = app.Node(store, runtime, Operations(store, lambda: runtime.plan), "", False)
    with app.sole_owner(loaded):
        uvloop.run(app.serve(node))


if __name__ == "__main__":
    main()
