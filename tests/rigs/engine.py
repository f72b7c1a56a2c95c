"""The real engine as a process of its own, under a site file written for the test; it can be killed as any process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.rigs.need import REPOSITORY
from tests.rigs.processes import Process

RADBRIDGE = Path(sys.executable).with_name("radbridge")
"""The installed command."""
CRASHING = (sys.executable, "-P", str(Path(__file__).with_name("crashing_engine.py")))
"""The same engine with a place to die at: see crashing_engine.py."""
ROLES = "receive,deliver,dicom"


class _Dumper(yaml.SafeDumper):
    """Without aliases: site files know none."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


async def until(ready: Callable[[], bool], what: str, *nodes: Node, seconds: float = 60) -> None:
    """Return when ``ready()`` is true; fail with ``what`` if that takes longer, or one of ``nodes`` ends meanwhile."""
    end = time.monotonic() + seconds
    while not ready():
        for node in nodes:
            assert node.process.running(), f"{what}: the engine ended:\n{node.output()[-3000:]}"
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        await asyncio.sleep(0.01)


def write_site(folder: Path, channels: Mapping[str, Any], routes: Mapping[str, Any], **more: Any) -> Path:
    """A site file in ``folder`` with the repository's mappings and adapters; its data folder lies beside it."""
    site = {
        "site": {"name": "demo-hospital", "timezone": "Europe/Paris"},
        "channels": dict(channels),
        "routes": dict(routes),
        "data": "var",
        "mappings": str(REPOSITORY / "mappings"),
        "adapters": str(REPOSITORY / "adapters"),
        "web": {"listen": "127.0.0.1:0"},
        **more,
    }
    path = folder / "bridge.yaml"
    path.write_text(yaml.dump(site, Dumper=_Dumper, sort_keys=False), encoding="utf-8")
    return path


class Node:
    """One engine. What all its lives print goes to one log."""

    def __init__(
        self,
        config: Path,
        *,
        command: Sequence[str | Path] = (RADBRIDGE, "run"),
        roles: str = ROLES,
        name: str = "node",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = config.with_name(f"{name}.log")
        self._command = [*command, "--config", config, "--roles", roles]
        ours = {key: value for key, value in os.environ.items() if not key.startswith("RADBRIDGE_")}
        self._env = {**ours, **(env or {})}
        self._process: Process | None = None
        self._from = 0
        self.children: list[psutil.Process] = []
        """Those of the lives that were killed."""

    @property
    def process(self) -> Process:
        assert self._process is not None, "the engine was not started"
        return self._process

    def start(self, *more: str) -> None:
        """Start it, with ``more`` arguments; see :meth:`ready`."""
        self._from = self.log.stat().st_size if self.log.exists() else 0
        self._process = Process([*self._command, *more], self.log, env=self._env)

    async def ready(self, seconds: float = 60) -> None:
        """Return when it receives and delivers; fail if it ends before."""
        await self.says("engine_started", seconds)

    async def says(self, text: str, seconds: float = 60, *, times: int = 1) -> None:
        """Return when this life has printed ``text`` so many times; fail if it ends before."""
        end = time.monotonic() + seconds
        while self.output().count(text) < times:
            assert self.process.running(), f"the engine ended:\n{self.output()[-3000:]}"
            assert time.monotonic() < end, f"no {text} within {seconds:.0f} s:\n{self.output()[-3000:]}"
            await asyncio.sleep(0.02)

    def output(self) -> str:
        """What this life has printed so far."""
        return self.log.read_bytes()[self._from :].decode("utf-8", errors="replace")

    def kill(self) -> None:
        """``kill -9`` of the engine alone; returns when it is dead."""
        assert self.process.running(), f"the engine ended before it was killed:\n{self.output()[-3000:]}"
        self.children += psutil.Process(self.process.pid).children(recursive=True)
        self.process.send(signal.SIGKILL)
        self.process.wait()

    async def dies(self, seconds: float = 60) -> int:
        """Its exit code, once it has ended by itself."""
        return await asyncio.to_thread(self.process.wait, seconds)

    def stop(self) -> None:
        """End it as a service manager does, with all that is left of its former lives."""
        if self._process is not None:
            if self._process.running():
                self._process.send(signal.SIGCONT)
                self._process.stop()
            else:
                self._process.kill()
            self._process = None
        for child in self.children:
            if child.is_running():
                child.kill()

    async def __aenter__(self) -> Node:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Not in the loop's own thread: the ends that the engine says goodbye to may be served there.
        await asyncio.to_thread(self.stop)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
