"""``worklist-files``: what appears, changes and goes in a folder of ``.wl`` files becomes messages, each once."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge.codecs.dicom_file import from_file, to_file
from bridge.codecs.formats import FORMATS
from bridge.codecs.worklist_file import parse_item
from bridge.errors import BridgeError, CodecError, Overloaded, StoreUnavailable
from bridge.model import StepStatus
from bridge.ports import Inbound, Reply, Services, channel_type
from bridge.state import MemoryState
from channels.worklist_files import MARK
from tests.rigs.worklist import attributes

SITE = type("Site", (), {"name": "test", "timezone": "UTC", "order_issuer": "RIS"})()


class Engine:
    """Takes what is a good worklist file, as ``receive`` does; ``error`` instead, once it is set."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.refused: list[str] = []
        self.error: BridgeError | None = None

    async def receive(self, inbound: Inbound) -> Reply:
        try:
            if self.error:
                raise self.error
            read: Any = FORMATS["dicom"].read(inbound.data, "")
            FORMATS["dicom"].check(read)
        except BridgeError as error:
            self.refused.append(inbound.peer)
            return Reply(False, "m", error=error)
        self.told.append((inbound.peer, read.header.type, read.header.accession))
        return Reply(True, f"m{len(self.told)}")


@asynccontextmanager
async def watching(folder: Path, engine: Engine, state: MemoryState | None = None, **more: Any) -> AsyncIterator[Any]:
    kind = channel_type("worklist-files")
    settings = {"type": kind.name, "folder": folder, "poll": "10ms", "settle": 0, **more}
    made = kind.build(
        kind.settings.model_validate(settings, context={"folder": folder}),
        Services("files", SITE, state=state or MemoryState()),
    )
    await made.start(engine.receive)
    try:
        yield made
    finally:
        await made.stop()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def put(folder: Path, name: str, number: int, **changed: Any) -> None:
    """As a careful program does: the file appears whole."""
    (folder / f".{name}").write_bytes(to_file(attributes(number, **changed)))
    (folder / f".{name}").rename(folder / name)


async def test_what_appears_changes_and_goes_is_told_and_the_files_stay(tmp_path: Path) -> None:
    engine = Engine()
    put(tmp_path, "a.wl", 1)
    async with watching(tmp_path, engine):
        await until(lambda: engine.told == [("a.wl", "MWL^ITEM", "A1")])
        put(tmp_path, "a.wl", 1, PatientName="OTHER^NAME")
        await until(lambda: len(engine.told) == 2)
        put(tmp_path, "b.wl", 2)
        await until(lambda: len(engine.told) == 3)
        assert (tmp_path / "a.wl").exists()
        (tmp_path / "a.wl").unlink()
        await until(lambda: len(engine.told) == 4)

    assert engine.told[1:] == [("a.wl", "MWL^ITEM", "A1"), ("b.wl", "MWL^ITEM", "A2"), ("a.wl", "MWL^GONE", "A1")]


async def test_a_restart_tells_what_happened_since_and_nothing_twice(tmp_path: Path) -> None:
    # Given three files that were taken
    engine, state = Engine(), MemoryState()
    for number in (1, 2, 3):
        put(tmp_path, f"{number}.wl", number)
    async with watching(tmp_path, engine, state):
        await until(lambda: len(engine.told) == 3)

    # When one changes, one goes, one is merely touched, and one comes while nobody looks
    put(tmp_path, "1.wl", 1, PatientName="OTHER^NAME")
    (tmp_path / "2.wl").unlink()
    (tmp_path / "3.wl").touch()
    put(tmp_path, "4.wl", 4)
    async with watching(tmp_path, engine, state):
        await until(lambda: len(engine.told) == 6)

    # Then just that is told
    assert {(kind, accession) for _, kind, accession in engine.told[3:]} == {
        ("MWL^ITEM", "A1"),
        ("MWL^ITEM", "A4"),
        ("MWL^GONE", "A2"),
    }


async def test_a_file_that_is_none_is_refused_once_and_left_alone_until_it_changes(tmp_path: Path) -> None:
    engine, state = Engine(), MemoryState()
    (tmp_path / "junk.wl").write_bytes(b"no DICOM at all")
    (tmp_path / "lacks.wl").write_bytes(to_file({**attributes(7), "PatientID": ""}))
    (tmp_path / "notes.txt").write_bytes(b"not for us")
    put(tmp_path, "a.wl", 1)
    for _ in range(2):
        async with watching(tmp_path, engine, state):
            await until(lambda: len(engine.told) == 1)
            await asyncio.sleep(0.05)

    assert sorted(engine.refused) == ["junk.wl", "lacks.wl"]

    # It is taken when it is one; and that it goes again while it is none tells of the item that was taken
    async with watching(tmp_path, engine, state):
        put(tmp_path, "junk.wl", 8)
        await until(lambda: len(engine.told) == 2)
        (tmp_path / "junk.wl").write_bytes(b"broken again")
        await until(lambda: len(engine.refused) == 3)
        (tmp_path / "junk.wl").unlink()
        await until(lambda: len(engine.told) == 3)
    assert engine.told[-1] == ("junk.wl", "MWL^GONE", "A8")


async def test_a_file_that_becomes_another_item_takes_the_former_one_along(tmp_path: Path) -> None:
    engine = Engine()
    put(tmp_path, "a.wl", 1)
    async with watching(tmp_path, engine):
        await until(lambda: len(engine.told) == 1)
        put(tmp_path, "a.wl", 2)
        await until(lambda: len(engine.told) == 3)

    assert engine.told[1:] == [("a.wl", "MWL^GONE", "A1"), ("a.wl", "MWL^ITEM", "A2")]


async def test_a_file_that_is_renamed_does_not_take_its_item_off(tmp_path: Path) -> None:
    engine = Engine()
    put(tmp_path, "a.wl", 1)
    async with watching(tmp_path, engine):
        await until(lambda: len(engine.told) == 1)
        (tmp_path / "a.wl").rename(tmp_path / "b.wl")
        await until(lambda: len(engine.told) == 2)
        put(tmp_path, "c.wl", 3)
        await until(lambda: len(engine.told) == 3)

    assert [kind for _, kind, _ in engine.told] == ["MWL^ITEM"] * 3


async def test_what_could_not_be_stored_is_tried_again(tmp_path: Path) -> None:
    engine = Engine()
    engine.error = Overloaded("full", fix="wait")
    put(tmp_path, "a.wl", 1)
    async with watching(tmp_path, engine):
        await until(lambda: len(engine.refused) > 2)
        engine.error = None
        await until(lambda: engine.told == [("a.wl", "MWL^ITEM", "A1")])


async def test_while_a_program_of_dcmtk_writes_nothing_is_read(tmp_path: Path) -> None:
    engine = Engine()
    with (tmp_path / "lockfile").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with watching(tmp_path, engine):
            put(tmp_path, "a.wl", 1)
            await asyncio.sleep(0.1)
            assert engine.told == []
            fcntl.flock(lock, fcntl.LOCK_UN)
            await until(lambda: engine.told)


async def test_a_share_that_was_unmounted_takes_nothing_off(tmp_path: Path) -> None:
    engine, folder, away = Engine(), tmp_path / "share", tmp_path / "away"
    folder.mkdir()
    put(folder, "a.wl", 1)
    with structlog.testing.capture_logs() as logged:
        async with watching(folder, engine):
            await until(lambda: engine.told)
            folder.rename(away)
            folder.mkdir()
            await until(lambda: any(entry["event"] == "folder_is_another" for entry in logged))
            folder.rmdir()
            await until(lambda: any(entry["event"] == "folder_unreachable" for entry in logged))
            away.rename(folder)
            put(folder, "b.wl", 2)
            await until(lambda: len(engine.told) == 2)

    assert [kind for _, kind, _ in engine.told] == ["MWL^ITEM", "MWL^ITEM"]


async def test_a_share_that_is_not_mounted_when_the_engine_starts_takes_nothing_off(tmp_path: Path) -> None:
    # Given the share, and that the engine has once been started without it: it has left its mark in the mount point
    engine, state = Engine(), MemoryState()
    folder, share = tmp_path / "wl", tmp_path / "share"
    folder.mkdir()
    async with watching(folder, engine, state):
        await until((folder / MARK).exists)
    mount_point = folder.rename(tmp_path / "mount point")
    folder.mkdir()
    put(folder, "a.wl", 1)
    async with watching(folder, engine, state):
        await until(lambda: len(engine.told) == 1)
    folder.rename(share)

    # When it is started without the share again, in a mount point with and without that mark
    for empty in (mount_point, tmp_path / "other"):
        empty.mkdir(exist_ok=True)
        empty.rename(folder)
        with structlog.testing.capture_logs() as logged:
            async with watching(folder, engine, state):
                await until(lambda: sum(entry["event"] == "folder_is_another" for entry in logged) > 2)
        folder.rename(empty)

    # Then nothing is gone, and with the share it goes on
    share.rename(folder)
    put(folder, "b.wl", 2)
    async with watching(folder, engine, state):
        await until(lambda: len(engine.told) == 2)
    assert [kind for _, kind, _ in engine.told] == ["MWL^ITEM", "MWL^ITEM"]


async def test_a_folder_that_a_person_marks_is_the_right_one(tmp_path: Path) -> None:
    engine, state = Engine(), MemoryState()
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    for number, folder in ((1, old), (2, old), (1, new)):
        put(folder, f"{number}.wl", number)
    async with watching(old, engine, state):
        await until(lambda: len(engine.told) == 2)

    (new / MARK).touch()
    async with watching(new, engine, state):
        await until(lambda: len(engine.told) == 3)

    assert engine.told[2] == ("2.wl", "MWL^GONE", "A2")


async def test_a_file_that_was_taken_just_before_a_crash_and_goes_meanwhile_is_told_gone(tmp_path: Path) -> None:
    class Killed(MemoryState):
        """Keeps nothing any more once the first message is stored."""

        async def put(self, values: Any, keep: float | None = None) -> None:
            if not engine.told:
                await super().put(values, keep)

    engine, state = Engine(), Killed()
    put(tmp_path, "a.wl", 1)
    async with watching(tmp_path, engine, state):
        await until(lambda: len(engine.told) == 1)
    (tmp_path / "a.wl").unlink()
    async with watching(tmp_path, engine, state):
        await until(lambda: len(engine.told) == 2)

    assert [kind for _, kind, _ in engine.told] == ["MWL^ITEM", "MWL^GONE"]


async def test_what_is_no_plain_file_holds_nothing_up_and_is_told_once(tmp_path: Path) -> None:
    engine = Engine()
    os.mkfifo(tmp_path / "lockfile")
    os.mkfifo(tmp_path / "pipe.wl")
    (tmp_path / "folder.wl").mkdir()
    (tmp_path / "link.wl").symlink_to("/dev/zero")
    (tmp_path / "closed.wl").write_bytes(to_file(attributes(9)))
    (tmp_path / "closed.wl").chmod(0)
    put(tmp_path, "z.wl", 1)

    with structlog.testing.capture_logs() as logged:
        async with asyncio.timeout(20), watching(tmp_path, engine):
            await until(lambda: ("z.wl", "MWL^ITEM", "A1") in engine.told)
            put(tmp_path, "y.wl", 2)
            await until(lambda: ("y.wl", "MWL^ITEM", "A2") in engine.told)

    assert sum(entry["event"] == "file_unreadable" for entry in logged) <= 1


async def test_what_was_taken_is_kept_as_soon_as_the_database_is_back(tmp_path: Path) -> None:
    class Away(MemoryState):
        away = True

        async def put(self, values: Any, keep: float | None = None) -> None:
            if self.away:
                raise StoreUnavailable("away", fix="wait")
            await super().put(values, keep)

    engine, state = Engine(), Away()
    put(tmp_path, "a.wl", 1)
    with structlog.testing.capture_logs() as logged:
        async with watching(tmp_path, engine, state):
            await until(lambda: sum(entry["event"] == "worklist_files_not_taken" for entry in logged) > 1)
            state.away = False
            put(tmp_path, "b.wl", 2)
            await until(lambda: len(engine.told) == 2)
    async with watching(tmp_path, engine, state):
        await asyncio.sleep(0.1)

    assert [accession for _, _, accession in engine.told] == ["A1", "A2"]


async def test_another_node_does_not_take_the_files_too(tmp_path: Path) -> None:
    class Elsewhere(MemoryState):
        async def turn(self, seconds: float) -> bool:
            return False

    engine = Engine()
    put(tmp_path, "a.wl", 1)
    async with watching(tmp_path, engine, Elsewhere()):
        await asyncio.sleep(0.1)

    assert engine.told == []


def test_an_item_keeps_every_attribute_and_says_what_it_is_known_by() -> None:
    own = {"(0009,0010)": {"vr": "LO", "values": "ACME"}, "(0009,1001)": {"vr": "LO", "values": "é"}}
    item = attributes(1, **own, PlacerOrderNumberImagingServiceRequest="P1")
    raw = to_file(item, charset="ISO_IR 100")

    read = parse_item(raw)

    assert read.values == item == from_file(raw)
    assert read.header.orders == ("placer:P1^",) and read.header.patients == ("P1^",)
    assert read.get("ScheduledProcedureStepSequence.Modality") == "CT" and read.moment() == "202601050930"
    (update,) = read.document("RIS").updates
    assert update.order == ("placer:P1^RIS", "accession:A1^RIS") and update.status is StepStatus.SCHEDULED
    assert replace(update, steps=()) != update


@pytest.mark.parametrize("depth", [40, 400, 4000])
def test_sequences_that_are_nested_without_an_end_are_refused_at_once(depth: int) -> None:
    # pydicom's own decoding of such a file doubles its error message with every level
    data = b""
    for _ in range(depth):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data
        data = struct.pack("<HHL", 0x0040, 0x0100, len(item)) + item

    with pytest.raises(CodecError):
        parse_item(data)
