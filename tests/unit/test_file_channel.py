from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.errors import BridgeError, Overloaded, Refused, Unreachable
from channels.file import FileOutSettings
from tests.rigs.ends import Engine, channel, outgoing
from tests.rigs.need import REPOSITORY, missing, require

ORDER = b"MSH|^~\\&|RIS|A|B|C|20240301||ORM^O01|1|P|2.5\rPID|1||1\r"


@asynccontextmanager
async def watching(folder: Path, engine: Engine, **settings: Any) -> AsyncIterator[None]:
    source = channel("file-in", folder=folder, **{"poll": "10ms", "settle": 0, **settings})
    await source.start(engine.receive)
    try:
        yield
    finally:
        await source.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_an_accepted_file_moves_to_done(tmp_path: Path) -> None:
    engine = Engine()
    (tmp_path / "order.hl7").write_bytes(ORDER)

    async with watching(tmp_path, engine):
        await until(lambda: (tmp_path / "done/order.hl7").exists())

    assert engine.data == [ORDER]
    assert engine.received[0].peer == "order.hl7"
    assert names(tmp_path) == ["done", "refused"]
    assert (tmp_path / "done/order.hl7").read_bytes() == ORDER


async def test_an_accepted_file_is_deleted_where_the_site_says_so(tmp_path: Path) -> None:
    engine = Engine()
    (tmp_path / "order.hl7").write_bytes(ORDER)

    async with watching(tmp_path, engine, after="delete"):
        await until(lambda: not (tmp_path / "order.hl7").exists())

    assert names(tmp_path / "done") == []


async def test_a_refused_file_lies_beside_its_reason(tmp_path: Path) -> None:
    engine = Engine()
    engine.error = Refused("type not wanted", at="MSH-9", fix="send ORM^O01")
    (tmp_path / "order.hl7").write_bytes(ORDER)

    async with watching(tmp_path, engine):
        await until(lambda: (tmp_path / "refused/order.hl7.txt").exists())

    assert (tmp_path / "refused/order.hl7").read_bytes() == ORDER
    reason = (tmp_path / "refused/order.hl7.txt").read_text()
    assert reason == "what: type not wanted\nat: MSH-9\nfix: send ORM^O01\nmessage: m1\n"


async def test_a_file_that_could_not_be_stored_stays_and_is_tried_again(tmp_path: Path) -> None:
    engine = Engine()
    engine.error = Overloaded("the queue is full")
    (tmp_path / "order.hl7").write_bytes(ORDER)

    async with watching(tmp_path, engine):
        await until(lambda: len(engine.received) >= 2)
        assert (tmp_path / "order.hl7").exists()
        engine.error = None
        await until(lambda: (tmp_path / "done/order.hl7").exists())

    assert names(tmp_path / "refused") == []


async def test_files_are_taken_oldest_first(tmp_path: Path) -> None:
    engine = Engine()
    for age, name in ((30, "b"), (10, "a"), (20, "c")):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1_700_000_000 - age, 1_700_000_000 - age))

    async with watching(tmp_path, engine, format="bytes"):
        await until(lambda: len(names(tmp_path / "done")) == 3)

    assert engine.data == [b"b", b"c", b"a"]


async def test_a_file_that_still_grows_is_left_alone(tmp_path: Path) -> None:
    engine = Engine()
    (tmp_path / "finished").write_bytes(b"whole")

    async with watching(tmp_path, engine, settle="150ms"):
        with (tmp_path / "growing").open("wb", buffering=0) as file:
            while not engine.received:
                file.write(b"x")
                await asyncio.sleep(0.01)
            assert engine.data == [b"whole"]
            size = file.tell()
        await until(lambda: (tmp_path / "done/growing").exists())

    assert engine.data[1] == b"x" * size


async def test_unfinished_and_other_files_are_never_taken(tmp_path: Path) -> None:
    engine = Engine()
    outside = tmp_path / "outside.hl7"
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    outside.write_bytes(b"secret")
    (inbox / "link.hl7").symlink_to(outside)
    (inbox / "folder.hl7").mkdir()
    os.mkfifo(inbox / "pipe.hl7")
    for name in (".hidden.hl7", "x.hl7.part", "x.hl7.TMP", "x.txt", "wanted.hl7"):
        (inbox / name).write_bytes(name.encode())

    async with watching(inbox, engine, pattern="*.hl7*"):
        await until(lambda: (inbox / "done/wanted.hl7").exists())
        await asyncio.sleep(0.05)

    assert engine.data == [b"wanted.hl7"]


@pytest.mark.parametrize(
    "name", [b"caf\xc3\xa9 1.hl7", b"bad\xff.hl7", b"-rf *.hl7", b"new\nline.hl7", b"a'\"$(x)`.hl7", b"x" * 255]
)
async def test_a_file_name_may_be_odd(tmp_path: Path, name: bytes) -> None:
    engine = Engine()
    engine.error = Refused("no")
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(ORDER)

    async with watching(tmp_path, engine):
        await until(lambda: len(names(tmp_path / "refused")) == 2)

    assert engine.received[0].peer.isprintable()
    assert name in os.listdir(os.fsencode(tmp_path / "refused"))  # noqa: PTH208


async def test_two_files_of_one_name_are_both_kept(tmp_path: Path) -> None:
    engine = Engine()

    async with watching(tmp_path, engine):
        for data in (b"first", b"second"):
            (tmp_path / "order.hl7").write_bytes(data)
            await until(lambda: not (tmp_path / "order.hl7").exists())

    assert {path.read_bytes() for path in (tmp_path / "done").iterdir()} == {b"first", b"second"}


async def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    engine = Engine()
    (tmp_path / "large").write_bytes(b"x" * 2000)

    async with watching(tmp_path, engine, max_size="1kB"):
        await until(lambda: (tmp_path / "refused/large.txt").exists())

    assert engine.received == []
    assert "raise max_size" in (tmp_path / "refused/large.txt").read_text()


async def test_a_file_taken_before_a_crash_is_taken_again_after_it(tmp_path: Path) -> None:
    (tmp_path / "order.hl7").write_bytes(ORDER)
    crashed, engine = Engine(), Engine()
    crashed.bug = RuntimeError("stands for a crash between commit and answer")

    async with watching(tmp_path, crashed):
        await crashed.arrived.wait()
    async with watching(tmp_path, engine):
        await until(lambda: (tmp_path / "done/order.hl7").exists())

    assert crashed.data[0] == engine.data[0] == ORDER


async def test_a_folder_that_vanishes_and_returns_is_watched_again(tmp_path: Path) -> None:
    inbox, away = tmp_path / "inbox", tmp_path / "away"
    inbox.mkdir()
    engine = Engine()

    async with watching(inbox, engine):
        inbox.rename(away)
        await asyncio.sleep(0.05)
        (away / "order.hl7").write_bytes(ORDER)
        away.rename(inbox)
        await until(lambda: (inbox / "done/order.hl7").exists())

    assert engine.data == [ORDER]


async def test_a_folder_that_is_missing_is_told_at_the_start(tmp_path: Path) -> None:
    source = channel("file-in", folder=tmp_path / "nowhere")

    with pytest.raises(BridgeError) as caught:
        await source.start(Engine().receive)

    assert caught.value.at == str(tmp_path / "nowhere")
    assert caught.value.fix == "create the folder, or mount the share it is on"


async def test_a_delivery_becomes_a_file_of_its_own_name(tmp_path: Path) -> None:
    sink = channel("file-out", folder=tmp_path)

    answer = await sink.send(outgoing(ORDER))

    assert (tmp_path / "message0001-delivery0001.hl7").read_bytes() == ORDER
    assert answer.summary == f"wrote {len(ORDER)} bytes"


async def test_a_repeat_replaces_the_file_by_the_same_one(tmp_path: Path) -> None:
    sink = channel("file-out", folder=tmp_path)

    for _ in range(3):
        await sink.send(outgoing(ORDER))

    assert names(tmp_path) == ["message0001-delivery0001.hl7"]


async def test_names_can_sort_in_the_sequence_of_delivery(tmp_path: Path) -> None:
    sink = channel("file-out", folder=tmp_path, name="{position}-{route}-{delivery}.er7")

    for number in (9, 10, 100):
        await sink.send(outgoing(b"%d" % number, number))

    assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [b"9", b"10", b"100"]


@pytest.mark.parametrize(
    "name", ["{message}.hl7", "../{delivery}", "{delivery.__class__}", "{delivery", "{name}-{delivery}", ".{delivery}"]
)
def test_a_name_that_would_lose_or_misplace_files_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        FileOutSettings.model_validate({"type": "file-out", "folder": "x", "name": name})


async def test_a_missing_folder_makes_the_lane_wait(tmp_path: Path) -> None:
    sink = channel("file-out", folder=tmp_path / "share")

    with pytest.raises(Unreachable, match="No such file or directory"):
        await sink.send(outgoing(ORDER))
    (tmp_path / "share").mkdir()

    assert (await sink.send(outgoing(ORDER))).summary


async def test_a_full_disk_makes_the_lane_wait_and_leaves_no_half_file(tmp_path: Path) -> None:
    mount, umount = require("mount"), require("umount", "mount")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True, check=False)
    if done.returncode:
        missing("the right to mount", "run as root")
    try:
        sink = channel("file-out", folder=tmp_path)

        with pytest.raises(Unreachable) as caught:
            await sink.send(outgoing(b"x" * 100_000))

        assert caught.value.what == "the file cannot be written: No space left on device"
        assert caught.value.fix == "free some space on the disk"
        assert names(tmp_path) == []
    finally:
        subprocess.run([umount, tmp_path], check=True)


def test_every_file_is_synced_before_it_gets_its_name(tmp_path: Path) -> None:
    strace = require("strace")
    script = (
        "import asyncio, sys; from tests.rigs.ends import channel, outgoing;"
        "asyncio.run(channel('file-out', folder=sys.argv[1]).send(outgoing(b'x')))"
    )
    trace = tmp_path / "trace"
    out = tmp_path / "out"
    out.mkdir()

    tracing = [strace, "-f", "-y", "-e", "trace=fsync,rename,renameat,renameat2", "-o", trace]
    subprocess.run([*tracing, sys.executable, "-c", script, out], cwd=REPOSITORY, check=True)

    calls = [line for line in trace.read_text().splitlines() if str(out) in line]
    kinds = [next(kind for kind in ("fsync", "rename") if f"{kind}" in line.split("(")[0]) for line in calls]
    assert kinds == ["fsync", "rename", "fsync"]
    assert ".part>" in calls[0]
    assert f"{out}>" in calls[2]
