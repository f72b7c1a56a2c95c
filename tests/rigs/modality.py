"""A modality that asks for its worklist: DCMTK's findscu."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

from pydicom import dcmread

from tests.rigs.need import missing

_KEYS = ("0008,0050", "0010,0010", "0040,0100[0].0040,0002", "0040,0100[0].0040,0003")


async def worklist(port: int, folder: Path, *, caller: str = "CT1") -> dict[str, str]:
    """Everything on the list: accession number -> the step's start, ``yyyymmddhhmm``."""
    return await asyncio.to_thread(_find, port, folder, caller)


def _find(port: int, folder: Path, caller: str) -> dict[str, str]:
    # Python environments may hold another program of this name.
    program = shutil.which("findscu", path="/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin")
    if not program:
        missing("findscu", "apt-get install dcmtk")
    assert program
    number = 1
    while (into := folder / f"worklist{number}").exists():
        number += 1
    into.mkdir()
    command = [program, "-W", "-X", "-od", str(into), "-aet", caller, "-aec", "RADBRIDGE"]
    for key in _KEYS:
        command += ["-k", key]
    subprocess.run([*command, "127.0.0.1", str(port)], capture_output=True, timeout=120, check=True)
    found: dict[str, str] = {}
    for path in into.iterdir():
        item = dcmread(path, force=True)
        step = item.ScheduledProcedureStepSequence[0]
        accession = str(item.AccessionNumber)
        assert accession not in found, f"{accession} is on the worklist twice"
        found[accession] = f"{step.ScheduledProcedureStepStartDate}{step.ScheduledProcedureStepStartTime}"[:12]
    return found
