"""The two ends of the bench as processes of their own, so that what is measured is the engine and not they."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from bridge.errors import BridgeError

PATIENCE = 300.0
"""Seconds after which a load that is not through means that nobody answers any more."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the load generator saw of each message: seconds on the machine's monotonic clock."""

    sent: list[float]
    answered: list[float]
    refused: int
    """Answers that were not AA with the message's own id, or of HTTP not 2xx."""


def generate(port: int, connections: int, messages: int, run: int) -> Load:
    """Send the orders of ``run`` to ``port``, a closed loop on each connection. Raises BridgeError if one breaks."""
    return _loaded(["bridge.bench.load", *map(str, (port, connections, messages, run))], port)


def ask(port: int, connections: int, requests: Sequence[str]) -> Load:
    """The same with HTTP requests, each the text of one."""
    return _loaded(["bridge.bench.fhir_load", str(port), str(connections)], port, json.dumps(requests))


def _loaded(program: Sequence[str], port: int, said: str = "") -> Load:
    command = [sys.executable, "-m", *program]
    try:
        done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise BridgeError(f"the load was not through after {PATIENCE:g} s", at=f"127.0.0.1:{port}") from None
    if done.returncode:
        raise BridgeError(f"the load generator failed: {done.stderr.strip().splitlines()[-1]}", at=f"127.0.0.1:{port}")
    return Load(**json.loads(done.stdout))


@dataclass(frozen=True, slots=True)
class Arrived:
    """What reached the sink, in the sequence in which it came."""

    ids: list[str]
    unedited: int
    """Messages without the three edited fields."""
    last: float
    """When the last one came, on the machine's monotonic clock."""


class Sink:
    """A running :mod:`bridge.bench.sink`, or another ``program`` like it; a context manager."""

    def __init__(self, program: str = "bridge.bench.sink") -> None:
        command = [sys.executable, "-m", program]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BridgeError("the bench's sink ended unexpectedly")
        return line

    def report(self, expected: int, seconds: float) -> Arrived:
        """What came since the last report, once ``expected`` different messages came or ``seconds`` are over."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{expected} {seconds}\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line())
        return Arrived(**found)

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()
