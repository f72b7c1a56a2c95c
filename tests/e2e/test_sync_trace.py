"""A positive answer means synced: seen in the engine's system calls, since a killed process leaves the page cache alone
(law 1)."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

from tests.rigs import trace
from tests.rigs.engine import CRASHING, Node, until, write_site
from tests.rigs.processes import free_port
from tests.rigs.radiology import order
from tests.rigs.sender import Journal, Sender

IDS = [f"C{number:05}" for number in range(8)]


async def answered_unsynced(folder: Path, synchronous: str) -> dict[str, str]:
    """Run the engine under strace and send messages one by one; those that were answered too early."""
    port, log = free_port(), folder / "trace"
    channels = {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{port}"},
        "pacs": {"type": "mllp-out", "connect": "127.0.0.1:9"},
    }
    config = write_site(folder, channels, {"all": {"from": "ris-in", "to": ["pacs"]}})
    async with Node(config, command=[*trace.command(log), *CRASHING], roles="receive") as node:
        node.start("--synchronous", synchronous)
        await node.ready()
        sender = Sender(Journal(), port)
        for number, name in enumerate(IDS):
            await sender.send(order(name, "P1", number))
        sender.close()
        (engine,) = psutil.Process(node.process.pid).children()
        engine.send_signal(signal.SIGTERM)
        await until(lambda: not node.process.running(), "the end of the trace")
    with log.open(encoding="utf-8", errors="replace") as lines:
        return trace.answered_unsynced(trace.calls(lines), str(folder / "var" / "radbridge.db"), port, IDS)


async def test_each_commit_is_synced_before_its_acknowledgement_is_written(tmp_path: Path) -> None:
    assert await answered_unsynced(tmp_path, "FULL") == {}


async def test_the_check_finds_every_answer_of_an_engine_that_does_not_sync(tmp_path: Path) -> None:
    for synchronous in ("OFF", "NORMAL"):
        folder = tmp_path / synchronous
        folder.mkdir()

        found = await answered_unsynced(folder, synchronous)

        assert found == dict.fromkeys(IDS, "answered before it was synced")


def test_calls_that_other_threads_interrupt_are_read_whole_and_in_sequence() -> None:
    log = """\
7  read(21<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\\vMSH|C1|", 65536) = 8
8  fdatasync(8</x/a.db-wal> <unfinished ...>
7  write(21<TCP:[127.0.0.1:1->127.0.0.1:2]>, "MSA|AA|C1", 9) = 9
8  <... fdatasync resumed>)                = 0
9  +++ exited with 0 +++
9  fsync(8</x/a.db-wal>) = -1 EIO (Input/output error)
"""
    read, write, sync, failed = trace.calls(log.splitlines())

    assert (read.name, read.file, read.done) == ("read", "TCP:[127.0.0.1:1->127.0.0.1:2]", True)
    assert (sync.name, sync.file, sync.done) == ("fdatasync", "/x/a.db-wal", True)
    assert sync.begun < write.begun and not sync.ended < write.begun
    assert not failed.done
