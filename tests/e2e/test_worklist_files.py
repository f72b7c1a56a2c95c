"""A site moves over from another worklist server: its folder of files, made by DCMTK, feeds a real engine that is
killed on the way, and DCMTK's findscu asks it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from tests.rigs.engine import Node, write_site
from tests.rigs.modality import worklist
from tests.rigs.processes import free_port
from tests.rigs.worklist_site import dcmtk

DUMP = """
(0008,0005) CS [ISO_IR 100]
(0008,0050) SH [{accession}]
(0009,0010) LO [ACME]
(0009,1001) LO [kept as it is]
(0010,0010) PN [TESTFILE^{accession}]
(0010,0020) LO [P{accession}]
(0020,000d) UI [1.2.826.0.1.{number}]
(0032,1060) LO [CT head]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [CT]
(0040,0001) AE [CT1]
(0040,0002) DA [20260105]
(0040,0003) TM [{time}]
(0040,0009) SH [S{number}]
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH [R{number}]
"""


def put(folder: Path, number: int, time: str = "0930") -> None:
    """As DCMTK makes them from text: written where it lies, not renamed."""
    text = folder.parent / "item.dump"
    text.write_text(DUMP.format(accession=f"A{number}", number=number, time=time))
    subprocess.run([dcmtk("dump2dcm"), text, folder / f"{number}.wl"], check=True, capture_output=True)


async def comes_to(port: int, folder: Path, **listed: str) -> None:
    """Return when this is on the list: accession number -> time."""
    for _ in range(300):
        found = await worklist(port, folder)
        if {accession: when[8:] for accession, when in found.items()} == listed:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"wanted {listed}, the modality sees {found}")


async def test_a_folder_is_followed_through_a_crash_and_every_attribute_comes_back(tmp_path: Path) -> None:
    # Given two files of another server
    folder, port = tmp_path / "files", free_port()
    folder.mkdir()
    put(folder, 1)
    put(folder, 2)
    channels = {
        "files": {"type": "worklist-files", "folder": "files", "poll": "50ms", "settle": "100ms"},
        "worklist": {"type": "dicom-worklist", "listen": f"127.0.0.1:{port}"},
    }
    config = write_site(tmp_path, channels, {"files": {"from": "files", "to": "worklist"}})
    async with Node(config) as node:
        node.start()
        await node.ready()
        # When the engine takes them, and dies while a file changes, one goes and one comes
        await comes_to(port, tmp_path, A1="0930", A2="0930")
        node.kill()
        put(folder, 1, time="1015")
        (folder / "2.wl").unlink()
        put(folder, 3)
        node.start()
        await node.ready()

        # Then a scanner sees what the folder has, and gets an item as its file has it
        await comes_to(port, tmp_path, A1="1015", A3="0930")
        into = tmp_path / "answer"
        into.mkdir()
        keys = ("0008,0050=A1", "0009,0010", "0009,1001", "0010,0010")
        ask = [dcmtk("findscu"), "-W", "-X", "-od", into, *(part for key in keys for part in ("-k", key))]
        subprocess.run([*ask, "127.0.0.1", str(port)], check=True, capture_output=True)
        shown = subprocess.run([dcmtk("dcmdump"), *into.iterdir()], check=True, capture_output=True, text=True).stdout
        assert "kept as it is" in shown and "TESTFILE^A1" in shown
