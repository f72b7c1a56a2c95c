"""Files in a folder: ``file-in`` takes each one as a message, ``file-out`` writes one for each delivery."""

from __future__ import annotations

import asyncio
import os
import string
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import AfterValidator

from bridge.errors import BridgeError, Unreachable
from bridge.ports import (
    Answer,
    ChannelType,
    Inbound,
    LocalPath,
    Outgoing,
    Receive,
    Reply,
    Services,
    SinkSettings,
    SourceSettings,
)
from channels.folder import FIXES, Watch, WatchSettings, inode, printable, sync_folder, usable, write_whole

log = structlog.get_logger(__name__)

_NOT_STORED = ("overload", "unavailable")


class FileInSettings(SourceSettings, WatchSettings):
    after: Literal["move", "delete"] = "move"
    """What happens to an accepted file: moved to done/, or deleted. A refused one always moves to refused/."""


class FileIn:
    """Takes the files of a folder, oldest first, one at a time.

    A file leaves the folder only after the engine's answer: a crash in between makes it be taken again, and the
    receipt of its message answers the same (law 5). Where nothing could be stored, the file stays and is tried again.
    """

    def __init__(self, settings: FileInSettings, services: Services) -> None:
        self._settings, self._channel = settings, services.name
        self._folder = settings.folder.absolute()
        self._watch = Watch(self._folder, services.name, settings)

    @property
    def endpoint(self) -> str:
        return self._folder.as_uri()

    async def start(self, receive: Receive) -> None:
        with usable(self._folder):
            for name in ("done", "refused"):
                (self._folder / name).mkdir(exist_ok=True)
        self._watch.start(lambda names: self._visit(names, receive))

    async def stop(self) -> None:
        """Returns when the file under way, if any, is done."""
        await self._watch.stop()

    async def _visit(self, names: list[str], receive: Receive) -> None:
        for name in names:
            if self._watch.stopping or not await self._take(name, receive):
                break

    async def _take(self, name: str, receive: Receive) -> bool:
        """Hand one file over; False when the engine can take nothing now."""
        path = self._folder / name
        if self._watch.seen[name].size > self._settings.max_size:
            too_large = BridgeError("the file is too large", at="max_size", fix="raise max_size", kind="overload")
            await asyncio.to_thread(self._refuse, path, Reply(False, "", error=too_large))
            return True
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            log.warning("file_unreadable", channel=self._channel, inode=inode(path), reason=error.strerror)
            return True
        reply = await receive(Inbound(data, printable(name)))
        if reply.error and reply.error.kind in _NOT_STORED:
            return False
        await asyncio.to_thread(self._accept if reply.ok else self._refuse, path, reply)
        return True

    def _accept(self, path: Path, reply: Reply) -> None:
        if self._settings.after == "delete":
            path.unlink(missing_ok=True)
            sync_folder(self._folder)
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
        sync_folder(target.parent)
        sync_folder(self._folder)
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
            await asyncio.to_thread(write_whole, self._folder, name, outgoing.data)
        except OSError as error:
            reason, fix = error.strerror or "input/output error", FIXES.get(error.errno or 0, "look at the disk")
            raise Unreachable(f"the file cannot be written: {reason}", at=str(self._folder), fix=fix) from None
        return Answer(f"wrote {len(outgoing.data)} bytes")

    async def close(self) -> None:
        """Nothing is held open between two files."""


def _lengthened(name: str, ending: str) -> str:
    """``name`` with an ending, cut where file systems allow no more than 255 bytes."""
    return os.fsdecode(os.fsencode(name)[: 255 - len(ending)]) + ending


FILE_IN = ChannelType("file-in", "in", FileInSettings, FileIn)
FILE_OUT = ChannelType("file-out", "out", FileOutSettings, FileOut)
