"""A data folder on a disk that can be filled and freed while a program works in it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

_libc = ctypes.CDLL(None, use_errno=True)
_DETACH = 2


class SmallDisk(Protocol):
    """``folder`` is on it."""

    folder: Path

    def fill(self, pid: int) -> None:
        """From now on process ``pid`` gets no more space."""
        ...

    def free(self, pid: int) -> None: ...


class _FileSystem:
    """A file system of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / "filler"

    def fill(self, pid: int) -> None:
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)

    def free(self, pid: int) -> None:
        self._filler.unlink()


class _FileSize:
    """Where nothing can be mounted: no file of the process may grow past where it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, pid: int) -> None:
        largest = max(path.stat().st_size for path in self.folder.rglob("*.db*"))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    def free(self, pid: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def small_disk(folder: Path, *, mount: bool = True) -> Iterator[SmallDisk]:
    """A file system of 32 MB mounted on ``folder``, or where that is not allowed a limit on the sizes of its files."""
    folder.mkdir()
    if not mount or _libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"size=32m"):
        if mount and ctypes.get_errno() not in (errno.EPERM, errno.EACCES):
            raise OSError(ctypes.get_errno(), "cannot mount", str(folder))
        yield _FileSize(folder)
        return
    try:
        yield _FileSystem(folder)
    finally:
        _libc.umount2(os.fsencode(folder), _DETACH)
