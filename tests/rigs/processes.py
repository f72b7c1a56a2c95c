"""Real programs as children of the test run: they end with it, whatever happens to it."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_running: set[Process] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now.

    Below those that the kernel gives to outgoing connections: one of them could take it before it is listened on, and
    who calls it meanwhile could even reach itself.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Return when ``ready()`` is true; fail with ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def listening(port: int) -> bool:
    """Does someone accept connections on this port of 127.0.0.1?"""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Process:
    """A running program in a session of its own, its output in ``log``.

    It is killed with its children at the end of the test run, and by the kernel if the run itself is killed.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        group: str | None = None,
    ) -> None:
        self.name, self.log = Path(command[0]).name, log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                user=user,
                group=group,
                extra_groups=[] if user else None,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        _running.add(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Return when ``ready()`` is true; fail with the end of the output if it takes longer, or the program ends."""
        end = time.monotonic() + seconds
        while not ready():
            if not self.running() or time.monotonic() > end:
                state = "did not get ready" if self.running() else f"ended with {self._process.returncode}"
                raise AssertionError(f"{self.name} {state}:\n{self.output()[-3000:]}")
            time.sleep(0.05)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def send(self, number: int) -> None:
        """Send a signal to the program, not to its children."""
        self._process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        """Exit code, when it ends by itself."""
        return self._process.wait(seconds)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20) -> int:
        """End it politely with ``number``, after ``seconds`` by force; its exit code."""
        self.send(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.kill()

    def kill(self) -> int:
        """End it and all its children at once (SIGKILL); its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        _running.discard(self)
        return code


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@atexit.register
def _kill_all() -> None:
    for process in list(_running):
        process.kill()
