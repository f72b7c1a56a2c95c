"""What channels that work with folders share: watching one for files that have settled, and writing files whole."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fnmatch
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, ByteSize, ConfigDict, Field

from bridge.errors import BridgeError
from bridge.ports import Duration, LocalPath

log = structlog.get_logger(__name__)

FIXES = {
    errno.ENOENT: "create the folder, or mount the share it is on",
    errno.ENOTDIR: "name a folder, not a file",
    errno.ENOSPC: "free some space on the disk",
    errno.EDQUOT: "raise the quota, or free some space",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "let the user that runs radbridge read and write there",
    errno.EPERM: "let the user that runs radbridge read and write there",
}
"""What to do about an OSError, by its number."""
_UNFINISHED = (".tmp", ".part", ".filepart", ".crdownload")


class WatchSettings(BaseModel):
    """Settings of every channel that watches a folder."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    folder: LocalPath
    """Folder to watch; it must exist, so that an unmounted share is noticed."""
    pattern: str = Field(default="*", min_length=1)
    """Which file names to take, such as *.hl7. Names that start with a dot or end in .tmp or .part never are."""
    poll: Duration = Field(default=1.0, gt=0)
    """How often to look."""
    settle: Duration = Field(default=1.0, ge=0)
    """A file is taken when its size and time stayed the same for so long; 0 if senders rename when they are done."""
    max_size: ByteSize = Field(default=ByteSize(64 * 1024 * 1024), gt=0)
    """Larger files are refused unread."""


@dataclass(frozen=True, slots=True)
class Seen:
    size: int
    changed: int
    """Time of its last change, in nanoseconds."""
    since: float


class Watch:
    """Looks into a folder every ``poll`` seconds and hands on the names of files that have settled, oldest first."""

    def __init__(self, folder: Path, channel: str, settings: WatchSettings) -> None:
        self._folder, self._channel, self._settings = folder, channel, settings
        self.seen: dict[str, Seen] = {}
        """Every file that was there at the last look, settled or not."""
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def start(self, visit: Callable[[list[str]], Awaitable[None]]) -> None:
        """Begin to look; ``visit`` gets what has settled, each time."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._keep(visit), name=f"watch {self._channel}")

    async def stop(self) -> None:
        """Returns when the visit under way, if any, is done."""
        if self._task:
            self._stopping.set()
            await self._task
            self._task = None

    async def _keep(self, visit: Callable[[list[str]], Awaitable[None]]) -> None:
        while not self.stopping:
            try:
                await visit(await asyncio.to_thread(self._ready, asyncio.get_running_loop().time()))
            except OSError as error:
                log.warning("folder_unreachable", channel=self._channel, reason=error.strerror)
            except Exception:
                log.exception("channel_failed", channel=self._channel)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.poll):
                    await self._stopping.wait()

    def _ready(self, now: float) -> list[str]:
        found: dict[str, Seen] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if self._wanted(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            found[entry.name] = self._look(entry.name, status, now)
        self.seen = found
        settled = [name for name, seen in found.items() if now - seen.since >= self._settings.settle]
        return sorted(settled, key=lambda name: (found[name].changed, name))

    def _wanted(self, name: str) -> bool:
        unfinished = name.startswith(".") or name.lower().endswith(_UNFINISHED)
        return not unfinished and fnmatch.fnmatchcase(name, self._settings.pattern)

    def _look(self, name: str, status: os.stat_result, now: float) -> Seen:
        old = self.seen.get(name)
        same = old is not None and (old.size, old.changed) == (status.st_size, status.st_mtime_ns)
        return old if old is not None and same else Seen(status.st_size, status.st_mtime_ns, now)


@contextlib.contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Around what a channel does in its folder when it starts. Raises BridgeError (kind ``settings``) for a folder that
    cannot be read and written."""
    try:
        yield
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        what, fix = f"the folder cannot be used: {error.strerror}", FIXES.get(error.errno or 0, "")
        raise BridgeError(what, at=str(folder), fix=fix, kind="settings") from None


def write_whole(folder: Path, name: str, data: bytes) -> None:
    """Write a file that appears whole or not at all, and is on disk when this returns. Raises OSError."""
    unfinished = folder / f".{name}.part"
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries survive a power cut (fsync(2) of the directory)."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def printable(name: str) -> str:
    """A file name as text that can be stored and shown; bytes that are not UTF-8, and controls, as ``\\xNN``."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def inode(path: Path) -> int:
    """Names a file in the log where its own name may hold a patient's."""
    with contextlib.suppress(OSError):
        return path.lstat().st_ino
    return 0
