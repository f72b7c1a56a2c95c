"""Files in a folder: ``file-in`` takes each one as a message, ``file-out`` writes one for each delivery."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fnmatch
import os
import stat
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import AfterValidator, ByteSize, Field

from bridge.errors import BridgeError, Unreachable
from bridge.ports import (
    Answer,
    ChannelType,
    Duration,
    Inbound,
    LocalPath,
    Outgoing,
    Receive,
    Reply,
    Services,
    SinkSettings,
    SourceSettings,
)

log = structlog.get_logger(__name__)

_UNFINISHED = (".tmp", ".part", ".filepart", ".crdownload")
_NOT_STORED = ("overload", "unavailable")
_FIXES = {
    errno.ENOENT: "create the folder, or mount the share it is on",
    errno.ENOTDIR: "name a folder, not a file",
    errno.ENOSPC: "free some space on the disk",
    errno.EDQUOT: "raise the quota, or free some space",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "let the user that runs radbridge read and write there",
    errno.EPERM: "let the user that runs radbridge read and write there",
}


class FileInSettings(SourceSettings):
    folder: LocalPath
    """Folder to watch; it must exist, so that an unmounted share is noticed."""
    pattern: str = Field(default="*", min_length=1)
    """Which file names to take, such as *.hl7. Names that start with a dot or end in .tmp or .part never are."""
    poll: Duration = Field(default=1.0, gt=0)
    """How often to look."""
    settle: Duration = Field(default=1.0, ge=0)
    """A file is taken when its size and time stayed the same for so long; 0 if senders rename when they are done."""
    after: Literal["move", "delete"] = "move"
    """What happens to an accepted file: moved to done/, or deleted. A refused one always moves to refused/."""
    max_size: ByteSize = Field(default=ByteSize(64 * 1024 * 1024), gt=0)
    """Larger files are refused unread."""


@dataclass(frozen=True, slots=True)
class _Seen:
    size: int
    changed: int
    since: float


class FileIn:
    """Takes the files of a folder, oldest first, one at a time.

    A file leaves the folder only after the engine's answer: a crash in between makes it be taken again, and the
    receipt of its message answers the same (law 5). Where nothing could be stored, the file stays and is tried again.
    """

    def __init__(self, settings: FileInSettings, services: Services) -> None:
        self._settings, self._channel = settings, services.name
        self._folder = settings.folder.absolute()
        self._seen: dict[str, _Seen] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        return self._folder.as_uri()

    async def start(self, receive: Receive) -> None:
        try:
            for name in ("done", "refused"):
                (self._folder / name).mkdir(exist_ok=True)
            if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise BridgeError(
                f"the folder cannot be used: {error.strerror}",
                at=str(self._folder),
                fix=_FIXES.get(error.errno or 0, ""),
                kind="settings",
            ) from None
        self._stopping.clear()
        self._task = asyncio.create_task(self._watch(receive), name=f"file-in {self._channel}")

    async def stop(self) -> None:
        """Returns when the file under way, if any, is done."""
        if self._task:
            self._stopping.set()
            await self._task
            self._task = None

    async def _watch(self, receive: Receive) -> None:
        while not self._stopping.is_set():
            try:
                for name in await asyncio.to_thread(self._ready, asyncio.get_running_loop().time()):
                    if self._stopping.is_set() or not await self._take(name, receive):
                        break
            except OSError as error:
                log.warning("folder_unreachable", channel=self._channel, reason=error.strerror)
            except Exception:
                log.exception("channel_failed", channel=self._channel)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._settings.poll)

    def _ready(self, now: float) -> list[str]:
        """Names of the files that have settled, oldest first."""
        found: dict[str, _Seen] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if self._wanted(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            found[entry.name] = self._look(entry.name, status, now)
        self._seen = found
        settled = [name for name, seen in found.items() if now - seen.since >= self._settings.settle]
        return sorted(settled, key=lambda name: (found[name].changed, name))

    def _wanted(self, name: str) -> bool:
        unfinished = name.startswith(".") or name.lower().endswith(_UNFINISHED)
        return not unfinished and fnmatch.fnmatchcase(name, self._settings.pattern)

    def _look(self, name: str, status: os.stat_result, now: float) -> _Seen:
        old = self._seen.get(name)
        same = old is not None and (old.size, old.changed) == (status.st_size, status.st_mtime_ns)
        return old if old is not None and same else _Seen(status.st_size, status.st_mtime_ns, now)

    async def _take(self, name: str, receive: Receive) -> bool:
        """Hand one file over; False when the engine can take nothing now."""
        path = self._folder / name
        if self._seen[name].size > self._settings.max_size:
            too_large = BridgeError("the file is too large", at="max_size", fix="raise max_size", kind="overload")
            await asyncio.to_thread(self._refuse, path, Reply(False, "", error=too_large))
            return True
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            log.warning("file_unreadable", channel=self._channel, inode=_inode(path), reason=error.strerror)
            return True
        reply = await receive(Inbound(data, _printable(name)))
        if reply.error and reply.error.kind in _NOT_STORED:
            return False
        await asyncio.to_thread(self._accept if reply.ok else self._refuse, path, reply)
        return True

    def _accept(self, path: Path, reply: Reply) -> None:
        if self._settings.after == "delete":
            path.unlink(missing_ok=True)
            _sync_folder(self._folder)
        else:
            self._move(path, "done")
        log.info("file_taken", channel=self._channel, message=reply.message, duplicate=reply.duplicate)

    def _refuse(self, path: Path, reply: Reply) -> None:
        moved = self._move(path, "refused")
        error = reply.error or BridgeError("refused")
        lines = [f"what: {error.what}", f"at: {error.at}", f"fix: {error.fix}", f"message: {reply.message}", ""]
        moved.with_name(_lengthened(moved.name, ".txt")).write_text("\n".join(lines), encoding="utf-8")
        log.warning("file_refused", channel=self._channel, message=reply.message, kind=error.kind)

    def _move(self, path: Path, folder: str) -> Path:
        """Into the subfolder under a name that is free there: ``order.hl7``, ``order.hl7.1``..."""
        target, number = self._folder / folder / path.name, 0
        while target.exists():
            number += 1
            target = target.with_name(_lengthened(path.name, f".{number}"))
        path.rename(target)
        _sync_folder(target.parent)
        _sync_folder(self._folder)
        return target


def _name_template(template: str) -> str:
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        example = template.format(message="m", delivery="d", route="r", position="0")
    except (ValueError, LookupError, AttributeError):
        raise ValueError("use {message}, {delivery}, {route} and {position} only") from None
    if "delivery" not in fields:
        raise ValueError("{delivery} must be in it, or one file would overwrite another")
    if "/" in example or "\0" in example or example.startswith("."):
        raise ValueError("it is a file name, not a path, and starts with no dot")
    return template


class FileOutSettings(SinkSettings):
    folder: LocalPath
    """Folder to write to; it must exist, so that an unmounted share is noticed."""
    name: Annotated[str, AfterValidator(_name_template)] = "{message}-{delivery}.hl7"
    """File name: ids as {message} and {delivery}, the {route}, and the {position} in sequence, which sorts by name."""


class FileOut:
    """Writes each delivery to a file that appears whole or not at all, and is on disk when ``send`` returns.

    The name follows from the delivery, so a repeat replaces the file by the same one.
    """

    def __init__(self, settings: FileOutSettings, services: Services) -> None:
        self._settings, self._folder = settings, settings.folder.absolute()

    @property
    def endpoint(self) -> str:
        return self._folder.as_uri()

    async def send(self, outgoing: Outgoing) -> Answer:
        delivery = outgoing.delivery
        name = self._settings.name.format(
            message=delivery.message, delivery=delivery.id, route=delivery.route, position=f"{delivery.position:012d}"
        )
        try:
            await asyncio.to_thread(self._write, name, outgoing.data)
        except OSError as error:
            reason, fix = error.strerror or "input/output error", _FIXES.get(error.errno or 0, "look at the disk")
            raise Unreachable(f"the file cannot be written: {reason}", at=str(self._folder), fix=fix) from None
        return Answer(f"wrote {len(outgoing.data)} bytes")

    async def close(self) -> None:
        """Nothing is held open between two files."""

    def _write(self, name: str, data: bytes) -> None:
        unfinished = self._folder / f".{name}.part"
        try:
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        _sync_folder(self._folder)


def _lengthened(name: str, ending: str) -> str:
    """``name`` with an ending, cut where file systems allow no more than 255 bytes."""
    return os.fsdecode(os.fsencode(name)[: 255 - len(ending)]) + ending


def _sync_folder(folder: Path) -> None:
    """Make a folder's entries survive a power cut (fsync(2) of the directory)."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _printable(name: str) -> str:
    """A file name as text that can be stored and shown; bytes that are not UTF-8, and controls, as ``\\xNN``."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _inode(path: Path) -> int:
    """Names a file in the log where its own name may hold a patient's."""
    with contextlib.suppress(OSError):
        return path.lstat().st_ino
    return 0


FILE_IN = ChannelType("file-in", "in", FileInSettings, FileIn)
FILE_OUT = ChannelType("file-out", "out", FileOutSettings, FileOut)
