"""Orders and appointments over MLLP into a real engine, and the list that DCMTK's ``findscu`` gets."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.rigs.command import Hl7Pacs, Hospital, reserve, send_with_hl7
from tests.rigs.engine import write_site
from tests.rigs.need import REPOSITORY, missing
from tests.rigs.radiology import hl7, pid, segment

STEP = "0040,0100[0]."
DATE, TIME, STATION, ROOM = (STEP + tag for tag in ("0040,0002", "0040,0003", "0040,0001", "0040,0011"))
BOOKING = ["SIU^S12", "SIU^S13", "SIU^S14", "SIU^S15", "SIU^S16", "SIU^S17", "SIU^S26"]
Listed = tuple[str, str, str]
"""Date, time and station."""


def order(control: str, number: int, code: str = "NW", start: str = "") -> bytes:
    """An order for CT1; without ``start`` it names no time."""
    numbers = {2: f"P{number}^RIS", 3: f"F{number}^RIS"}
    exam = {1: "1", **numbers, 4: "CTHEAD^CT head^99DEMO", 18: f"A{number}", 24: "CT"}
    orc = {1: code, **numbers, 5: "SC", 7: f"^^^{start}", 9: "20260101120000", 18: "CT1"}
    return hl7("ORM^O01", control, pid(f"P{number}"), segment("ORC", orc), segment("OBR", exam))


def appointment(control: str, event: str, number: int, start: str, device: str = "CT1") -> bytes:
    sch = segment("SCH", {2: f"AF{number}^S", 25: "Booked", 26: f"P{number}^RIS", 27: f"F{number}^RIS"})
    service = segment("AIS", {1: "1", 2: "A", 3: "CTHEAD^CT head^99DEMO", 4: start})
    return hl7(
        f"SIU^{event}",
        control,
        sch,
        pid(f"P{number}"),
        segment("RGS", {1: "1"}),
        service,
        segment("AIG", {1: "1", 2: "A", 3: device}),
    )


@pytest.fixture
def hospital(tmp_path: Path, store_url: str) -> Iterator[Hospital]:
    holders = [reserve() for _ in range(4)]
    mllp, dicom, web, pacs = (holder.getsockname()[1] for holder in holders)
    shutil.copytree(REPOSITORY / "mappings", tmp_path / "mappings")
    channels = {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{mllp}"},
        "worklist": {"type": "dicom-worklist", "listen": f"127.0.0.1:{dicom}", "ae_title": "RADBRIDGE"},
    }
    routes = {
        "orders": {"from": "ris-in", "when": {"message": "ORM^O01"}, "to": [{"worklist": "order-to-worklist"}]},
        "appointments": {"from": "ris-in", "when": {"message": BOOKING}, "to": [{"worklist": "siu-to-worklist"}]},
    }
    more = {"store": {"url": store_url}, "mappings": str(tmp_path / "mappings")}
    config = write_site(tmp_path, channels, routes, web={"listen": f"127.0.0.1:{web}"}, **more)
    built = Hospital(config, mllp, dicom, web, Hl7Pacs(pacs), holders)
    yield built
    built.close()


class Scanner:
    """Asks the worklist as CT1 and CT2 would, with DCMTK's findscu."""

    def __init__(self, hospital: Hospital, folder: Path) -> None:
        found = shutil.which("findscu", path="/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin")
        if not found:
            missing("findscu", "apt-get install dcmtk")
        self._program, self._port, self._folder, self._asked = str(found), hospital.dicom, folder, 0

    async def sees(self, *wanted: Listed, keys: tuple[str, ...] = ()) -> None:
        """Return when the list is as ``wanted``; fail with what it is after 20 seconds."""
        for _ in range(100):
            listed = await asyncio.to_thread(self._ask, keys)
            if listed == sorted(wanted):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{keys}: wanted {sorted(wanted)}, the scanner sees {listed}")

    def _ask(self, keys: tuple[str, ...]) -> list[Listed]:
        self._asked += 1
        into = self._folder / f"answer{self._asked}"
        into.mkdir()
        command = [self._program, "-W", "-X", "-od", str(into), "-aet", "CT1", "-aec", "RADBRIDGE"]
        for key in ("0010,0010", *(name for name in (DATE, TIME, STATION) if not any(name in key for key in keys))):
            command += ["-k", key]
        for key in keys:
            command += ["-k", key]
        ran = subprocess.run([*command, "127.0.0.1", str(self._port)], capture_output=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr.decode()
        steps = [dcmread(path, force=True).ScheduledProcedureStepSequence[0] for path in sorted(into.iterdir())]
        return sorted(
            (
                str(one.ScheduledProcedureStepStartDate),
                str(one.ScheduledProcedureStepStartTime),
                str(one.ScheduledStationAETitle),
            )
            for one in steps
        )


@pytest.fixture
def scanner(hospital: Hospital, tmp_path: Path) -> Scanner:
    folder = tmp_path / "answers"
    folder.mkdir()
    return Scanner(hospital, folder)


async def test_an_order_without_a_time_is_placed_moved_and_taken_off_by_its_appointment(
    hospital: Hospital, scanner: Scanner
) -> None:
    async with hospital.open():
        # Given an order that names no time: it is listed when it was entered
        assert await send_with_hl7(hospital.mllp, order("C1", 1)) == ["AA"]
        await scanner.sees(("20260101", "120000", "CT1"))
        # When it is booked, it is listed at that time, and for that day
        await send_with_hl7(hospital.mllp, appointment("C2", "S12", 1, "20260107143000"))
        await scanner.sees(("20260107", "143000", "CT1"), keys=(f"{DATE}=20260107",))
        await scanner.sees(keys=(f"{DATE}=20260101",))
        # When it is moved, it is on the other scanner's list
        await send_with_hl7(hospital.mllp, appointment("C3", "S13", 1, "20260108090000", "CT2"))
        await scanner.sees(("20260108", "090000", "CT2"), keys=(f"{STATION}=CT2",))
        await scanner.sees(keys=(f"{STATION}=CT1",))
        # When it is cancelled, the slot is free
        await send_with_hl7(hospital.mllp, appointment("C4", "S15", 1, "20260108090000", "CT2"))
        await scanner.sees()
        # And a new appointment brings it back
        await send_with_hl7(hospital.mllp, appointment("C5", "S12", 1, "20260109101500"))
        await scanner.sees(("20260109", "101500", "CT1"))


async def test_an_appointment_before_its_order_is_not_lost(hospital: Hospital, scanner: Scanner) -> None:
    async with hospital.open():
        # Given an appointment whose order is not known, and a move
        await send_with_hl7(hospital.mllp, appointment("C1", "S12", 1, "20260107143000"))
        await send_with_hl7(hospital.mllp, appointment("C2", "S13", 1, "20260108090000", "CT2"))
        # When the order comes, and one of another patient
        await send_with_hl7(hospital.mllp, order("C3", 1), order("C4", 2, start="20260107100000"))
        # Then it is where the appointment says
        await scanner.sees(("20260108", "090000", "CT2"), ("20260107", "100000", "CT1"))
        # And a change of the order leaves it there
        await send_with_hl7(
            hospital.mllp, order("C5", 1, "XO", "20260111080000"), order("C6", 2, "XO", "20260107110000")
        )
        await scanner.sees(("20260108", "090000", "CT2"), ("20260107", "110000", "CT1"))
