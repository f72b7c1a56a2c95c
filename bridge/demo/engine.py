"""The real engine as a process of its own, as ``radbridge run`` starts it; for the demo, the bench and tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from bridge.errors import BridgeError

_STOP = 20.0
"""Seconds for an orderly end before it is killed."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """Ours without what would set over the given site file (``RADBRIDGE_...``)."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RADBRIDGE_")}


class Engine:
    """One engine under the site file ``config``; what it prints goes to the file ``log``."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config, self._log = config, log
        self._process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        """When it was started, on the monotonic clock."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        command = [sys.executable, "-c", "from bridge.cli import main; main()", "run", "--config", str(self._config)]
        with self._log.open("ab") as output:
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )

    def wait_for(self, port: int, seconds: float = 30.0) -> None:
        """Return when somebody accepts connections on ``port``. Raises BridgeError if it ends or takes longer."""
        while time.monotonic() < self.started + seconds:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.005)
        raise BridgeError(f"the engine did not start:\n{self.output()[-2000:]}", at=str(self._log))

    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def stop(self) -> None:
        """End it in an orderly way; after 20 s by force."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
