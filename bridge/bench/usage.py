"""What a process and its children use: processor time and resident memory."""

from __future__ import annotations

import threading
from contextlib import suppress

import psutil

MEBIBYTE = 1 << 20


class Usage:
    """Watches the process ``pid`` and all below it from the moment it is made until :meth:`stop`."""

    EVERY = 0.2

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self.rss_mib = 0.0
        """The most that all of them held at once; pages they share count for each."""
        self._before = self._seconds()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Processor seconds used since it was made."""
        self._stopping.set()
        self._thread.join()
        return self._seconds() - self._before

    def _all(self) -> list[psutil.Process]:
        return [self._root, *self._root.children(recursive=True)]

    def _seconds(self) -> float:
        total = 0.0
        for process in self._all():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def _watch(self) -> None:
        while True:
            total = 0
            for process in self._all():
                with suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            self.rss_mib = max(self.rss_mib, total / MEBIBYTE)
            if self._stopping.wait(self.EVERY):
                return
