"""``worklist-files``: the folder of ``.wl`` files that a worklist server (DCMTK's wlmscpfs, Orthanc) answers from.

Each version of a file is a message, and so is that one has gone. Files stay where they are: they are the other's.
What was taken is kept in the channel's state, so that a restart finds what has changed or gone since.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Literal
from zlib import crc32

import structlog
from pydantic import Field

from bridge.codecs.worklist_file import gone_file, known_by, parse_item
from bridge.errors import BridgeError
from bridge.ports import ChannelType, Inbound, Receive, Services, SourceSettings
from channels.folder import Watch, WatchSettings, inode, printable, usable, write_whole

log = structlog.get_logger(__name__)

MARK = ".radbridge"
"""A file of ours in the folder, which names it: without it, what is there is not the folder that was watched (an
unmounted share). An empty one is a person's word that it is."""
_FOLDER = "folder"
"""Under this key the folder's name, as it stands in its mark, is kept."""
_LOCK = "lockfile"
"""What DCMTK's programs lock while they write (exclusively) or read (shared)."""
_NOT_STORED = ("overload", "unavailable")
_SHARDS = 1024
_OFTEN = 100
"""Files after which what was taken is kept, when there are many at once."""
_BUSY = 5.0
"""Seconds for which this node alone looks at the folder."""

Record = dict[str, Any]
"""Of one file: ``size`` and ``changed`` of the version that was looked at last, ``digest`` of the version that was
taken last, and what its item is ``known`` by."""


class WorklistFilesSettings(SourceSettings, WatchSettings):
    format: Literal["dicom"] = "dicom"
    """Worklist items as DICOM files."""
    pattern: str = Field(default="*.wl", min_length=1)
    """Which file names to take. Names that start with a dot or end in .tmp or .part never are."""


class WorklistFiles:
    """Takes what appears or changes in a folder, oldest first, then tells what has gone."""

    def __init__(self, settings: WorklistFilesSettings, services: Services) -> None:
        self._settings, self._channel, self._state = settings, services.name, services.state
        self._folder = settings.folder.absolute()
        self._watch = Watch(self._folder, services.name, settings)
        self._taken, self._named = _Taken({}), ""
        self._unreadable: set[str] = set()
        self._until = 0.0
        """Until then nobody else looks at the folder."""
        self._missing: dict[str, float] = {}
        """Since when taken files have not been there."""

    @property
    def endpoint(self) -> str:
        return self._folder.as_uri()

    async def start(self, receive: Receive) -> None:
        with usable(self._folder):
            os.scandir(self._folder).close()
        self._watch.start(lambda names: self._visit(names, receive))

    async def stop(self) -> None:
        """Returns when the file under way, if any, is done."""
        await self._watch.stop()

    async def _visit(self, names: list[str], receive: Receive) -> None:
        try:
            mine = self._until > asyncio.get_running_loop().time()
            if not await self._my_turn():
                return
            if not mine:
                kept = dict(await self._state.get([_FOLDER, *(str(number) for number in range(_SHARDS))]))
                self._named = kept.pop(_FOLDER, "")
                self._taken = _Taken(kept)
            if await self._is_the_same():
                await self._take_all(names, receive)
            else:
                fix = f"mount the share; or, if this is the folder, make an empty file {MARK} there"
                log.warning("folder_is_another", channel=self._channel, fix=fix)
        except BridgeError as error:
            log.warning("worklist_files_not_taken", channel=self._channel, what=error.what)

    async def _is_the_same(self) -> bool:
        """Whether this is the folder whose files were taken. While none was, any is, and is marked."""
        there = await asyncio.to_thread(_mark, self._folder)
        if there and there == self._named:
            return True
        if self._taken.records and (there is None or (there and self._named)):
            return False
        self._named = there or uuid.uuid4().hex
        await self._state.put({_FOLDER: self._named})
        await asyncio.to_thread(write_whole, self._folder, MARK, self._named.encode())
        return True

    async def _my_turn(self) -> bool:
        now = asyncio.get_running_loop().time()
        mine = await self._state.turn(_BUSY)
        self._until = now + _BUSY if mine else 0.0
        return mine

    async def _take_all(self, names: list[str], receive: Receive) -> None:
        """What is new, then what has gone; until the engine can take no more now."""
        try:
            for number, name in enumerate(name for name in names if self._is_news(name)):
                if self._watch.stopping or not await self._take(name, receive):
                    return
                if number % _OFTEN == _OFTEN - 1:
                    await self._keep()
                    if not await self._my_turn():
                        return
            for name in self._gone_for_good():
                if self._watch.stopping or not await self._gone(name, receive):
                    return
        finally:
            await self._keep()

    def _gone_for_good(self) -> list[str]:
        """Taken files that were not there at two looks, and for as long as a file needs to settle: some programs delete
        what they are about to write anew, and a share may come back between a look and a glance at its mark."""
        now = asyncio.get_running_loop().time()
        gone = self._taken.records.keys() - self._watch.seen.keys()
        before, self._missing = self._missing, {name: self._missing.get(name, now) for name in gone}
        return sorted(name for name in gone & before.keys() if now - before[name] >= self._settings.settle)

    def _is_news(self, name: str) -> bool:
        seen, record = self._watch.seen[name], self._taken.records.get(name, {})
        return (record.get("size"), record.get("changed")) != (seen.size, seen.changed)

    async def _take(self, name: str, receive: Receive) -> bool:
        """Hand one version of a file over; False when the engine can take nothing now."""
        path, seen = self._folder / name, self._watch.seen[name]
        record = {**self._taken.records.get(name, {}), "size": seen.size, "changed": seen.changed}
        if seen.size > self._settings.max_size:
            log.warning("file_refused", channel=self._channel, inode=inode(path), kind="overload", fix="raise max_size")
            self._taken.put(name, record)
            return True
        try:
            data = await asyncio.to_thread(_read, path)
        except BlockingIOError:
            return False
        except OSError as error:
            if name not in self._unreadable:
                log.warning("file_unreadable", channel=self._channel, inode=inode(path), reason=error.strerror)
            self._unreadable.add(name)
            return True
        self._unreadable.discard(name)
        digest = blake2b(data, digest_size=16).hexdigest()
        if digest != record.get("digest"):
            known = _known(data)
            former = record.get("known")
            if former and known and former != known and not await self._tell_gone(name, former, receive):
                return False
            if known != former:
                self._taken.put(name, {**record, "size": None, "known": known})
                await self._keep()  # after a crash the file may be gone: that will be told
            reply = await receive(Inbound(data, printable(name)))
            if reply.error and reply.error.kind in _NOT_STORED:
                return False
            if reply.ok:
                record |= {"digest": digest, "known": known}
                log.info("file_taken", channel=self._channel, message=reply.message)
            else:
                log.warning("file_refused", channel=self._channel, message=reply.message, inode=inode(path))
        self._taken.put(name, record)
        return True

    async def _gone(self, name: str, receive: Receive) -> bool:
        known = self._taken.records[name].get("known")
        if known and not await self._tell_gone(name, known, receive):
            return False
        self._taken.drop(name)
        return True

    async def _tell_gone(self, name: str, known: Record, receive: Receive) -> bool:
        """Tell that the item of a file is gone, unless another file has it."""
        if self._taken.has_another(name, known):
            return True
        reply = await receive(Inbound(gone_file(known), printable(name)))
        log.info("file_gone", channel=self._channel, message=reply.message)
        return not (reply.error and reply.error.kind in _NOT_STORED)

    async def _keep(self) -> None:
        if changed := self._taken.changed():
            await self._state.put(changed)
            self._taken.kept()


class _Taken:
    """The records of all files, kept in many shards so that none is large."""

    def __init__(self, shards: Mapping[str, dict[str, Record]]) -> None:
        self.records = {name: record for shard in shards.values() for name, record in shard.items()}
        self._shards = {shard: dict(records) for shard, records in shards.items()}
        self._items = Counter(map(_item, self.records.values()))
        self._changed: set[str] = set()

    def put(self, name: str, record: Record) -> None:
        if name in self.records:
            self._uncount(name)
        self._items[_item(record)] += 1
        self.records[name] = self._shard(name)[name] = record

    def drop(self, name: str) -> None:
        self._uncount(name)
        del self.records[name], self._shard(name)[name]

    def _uncount(self, name: str) -> None:
        item = _item(self.records[name])
        self._items[item] -= 1
        if not self._items[item]:
            del self._items[item]

    def has_another(self, name: str, known: Record) -> bool:
        """Whether another file than this one has the item."""
        item = _item({"known": known})
        return self._items[item] > (_item(self.records[name]) == item)

    def _shard(self, name: str) -> dict[str, Record]:
        """The shard of a file, about to change."""
        shard = str(crc32(name.encode("utf-8", "surrogateescape")) % _SHARDS)
        self._changed.add(shard)
        return self._shards.setdefault(shard, {})

    def changed(self) -> dict[str, dict[str, Record]]:
        """The shards that changed since they were kept."""
        return {shard: dict(self._shards[shard]) for shard in self._changed}

    def kept(self) -> None:
        self._changed.clear()


def _item(record: Record) -> str:
    """What a file's item is known by, to be compared."""
    return json.dumps(record.get("known"), sort_keys=True)


def _known(data: bytes) -> Record:
    """What the item of a file is known by; nothing where the file is none."""
    try:
        return known_by(parse_item(data).values)
    except BridgeError:
        return {}


def _read(path: Path) -> bytes:
    """A file, while nobody writes in its folder, as DCMTK's programs tell one another (flock on ``lockfile``). Raises
    BlockingIOError while somebody does."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(FileNotFoundError):
            lock = held.enter_context(_opened(path.parent / _LOCK))
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return held.enter_context(_opened(path, os.O_NOFOLLOW)).read()


def _opened(path: Path, more: int = 0) -> BinaryIO:
    """What is no plain file is opened, too, without waiting for its other end."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | more))


def _mark(folder: Path) -> str | None:
    """The name that stands in the folder's mark; None without one."""
    try:
        return (folder / MARK).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None


WORKLIST_FILES = ChannelType("worklist-files", "in", WorklistFilesSettings, WorklistFiles)
