"""A worklist provider on a free port with its projection, asked by DCMTK's programs as a scanner would."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import Connection

from bridge.message import Delivery
from bridge.model import WorklistDocument, WorklistUpdate
from bridge.ports import Inbound, Outgoing, Reply, Services, channel_type
from bridge.store import worklist_served
from bridge.store.database import Database
from bridge.store.worklist import Worklist
from bridge.store.worklist_tables import TABLES, metadata
from tests.rigs.need import missing

STEP = "0040,0100[0]."
DATE, TIME, STATION, MODALITY = STEP + "0040,0002", STEP + "0040,0003", STEP + "0040,0001", STEP + "0008,0060"


def dcmtk(program: str) -> str:
    """DCMTK's own program: Python environments may hold others of the same name."""
    found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin")
    if not found:
        missing(program, "apt-get install dcmtk")
    assert found
    return found


@dataclass(frozen=True)
class Response:
    code: int
    output: str
    items: list[Dataset]

    @property
    def names(self) -> list[str]:
        return [str(item.PatientName) for item in self.items]


class Site:
    """A provider on a free port, its projection, and scanners that ask it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = Database(f"sqlite:///{folder / 'worklist.db'}")
        metadata.create_all(self.database.writer, tables=[*TABLES, *worklist_served.TABLES])
        self.origin = 0
        self.channel: Any = None
        self.worklist = Worklist(self.database.reader, self.write)
        self._writing = threading.Lock()
        self._asked = 0

    def write(self, function: Callable[[Connection], Any]) -> Any:
        with self._writing, self.database.writer.begin() as tx:
            return function(tx)

    def start(self, systems: Mapping[str, Any] | None = None, **settings: Any) -> None:
        """Serve with these settings; ``systems`` by name, as the site file has them."""
        kind = channel_type("dicom-worklist")
        parsed = kind.settings.model_validate({"type": kind.name, "listen": "127.0.0.1:0", **settings})
        services = Services("worklist", site=None, worklist=self.worklist, systems=systems or {})
        self.channel = kind.build(parsed, services)
        asyncio.run(self.channel.start(nobody))

    def stop(self) -> None:
        if self.channel:
            asyncio.run(self.channel.stop())
            self.channel = None

    @property
    def port(self) -> int:
        return int(self.channel.endpoint.rpartition(":")[2])

    def apply(self, *updates: WorklistUpdate) -> str:
        """Bring updates in through the channel, as the engine does with a delivery."""
        self.origin += 1
        delivery = Delivery("d", "m", 20260105, "orders", "worklist", "order-to-worklist", "r", (), origin=self.origin)
        outgoing = Outgoing(WorklistDocument(updates).to_json(), delivery, format="worklist")
        with self.database.writer.begin() as tx:
            summary: str = self.channel.apply(tx, outgoing).summary
        return summary

    def find(self, *keys: str | bytes, caller: str = "CT1", options: tuple[str, ...] = ()) -> Response:
        """Ask with ``findscu -W``; the items are read from what it received."""
        self._asked += 1
        into = self.folder / f"answer{self._asked}"
        into.mkdir()
        command: list[str | bytes] = [dcmtk("findscu"), "-v", "-W", "-X", "-od", str(into), "-aet", caller]
        command += ["-aec", "RADBRIDGE", *options]
        for key in keys:
            command += ["-k", key]
        ran = subprocess.run([*command, "127.0.0.1", str(self.port)], capture_output=True, timeout=60, check=False)
        output = (ran.stdout + ran.stderr).decode("utf-8", errors="replace")
        return Response(ran.returncode, output, [dcmread(path, force=True) for path in sorted(into.iterdir())])

    def echo(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = [dcmtk("echoscu"), "-v", *options, "127.0.0.1", str(self.port)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def nobody(inbound: Inbound) -> Reply:
    raise AssertionError("a worklist provider receives no messages")
