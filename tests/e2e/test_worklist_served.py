"""Who was given what, what nobody fetched, what a scanner would get and why not the rest; files of other servers."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydicom import dcmread

from bridge.bench.worklist import free_port
from bridge.codecs.dicom_file import from_file, to_file, update_of
from bridge.model import StepStatus, WorklistUpdate
from bridge.state import MemoryState
from bridge.store.store import Store
from channels.dicom_served import Served
from channels.worklist_export import Export, ExportSettings
from tests.rigs.engine import RADBRIDGE
from tests.rigs.processes import wait_until
from tests.rigs.worklist import attributes, scheduled
from tests.rigs.worklist_site import STATION, Site, dcmtk

TODAY = datetime.now().strftime("%Y%m%d")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()
    made.database.close()


def test_every_scanner_that_was_given_a_step_is_noted_with_when_and_how_often(site: Site) -> None:
    before = time.time() * 1000
    site.start()
    site.apply(scheduled(1), scheduled(2, {"ScheduledStationAETitle": "CT2"}))
    site.find("0010,0020")
    site.find("0010,0020", f"{STATION}=CT1")
    site.find("0010,0020", f"{STATION}=CT1", caller="DESK")
    site.stop()

    served = site.worklist.served_to([1, 2])
    assert [(fetch.ae_title, fetch.times) for fetch in served[1]] == [("CT1", 2), ("DESK", 1)]
    assert [(fetch.ae_title, fetch.times) for fetch in served[2]] == [("CT1", 1)]
    assert before <= served[1][0].first_at < served[1][0].last_at <= time.time() * 1000


def test_a_step_that_nobody_fetched_in_time_raises_one_alert_until_it_is_fetched(site: Site) -> None:
    # Given a step that was fetched, one that nobody did, one that is not due yet, one of last week and a cancelled one
    now = datetime(2026, 1, 5, 12, 0)

    def step(number: int, day: str, clock: str) -> WorklistUpdate:
        return scheduled(number, {"ScheduledProcedureStepStartDate": day, "ScheduledProcedureStepStartTime": clock})

    site.start()
    site.apply(step(1, "20260105", "1000"), step(2, "20260105", "1015"), step(3, "20260105", "1145"))
    site.apply(step(4, "20251229", "1000"), step(5, "20260105", "1000"))
    site.apply(WorklistUpdate(("filler:5^RIS",), StepStatus.CANCELLED, known_only=True))
    served = Served(site.worklist, "worklist", 3600.0, lambda: now)
    served.note("CT1", [1])
    served.write()

    # When it is looked twice for what nobody fetched within the hour
    with structlog.testing.capture_logs() as logged:
        served.alert()
        served.alert()

    # Then there is one alert, and it is counted until somebody fetches the step
    assert [(entry["event"], entry["item"], entry["stations"]) for entry in logged] == [
        ("worklist_item_not_fetched", 2, ["CT1"])
    ]
    assert (site.worklist.count_unfetched(), site.worklist.alerted([1, 2, 3])) == (1, {2})
    served.note("CT1", [2])
    served.write()
    assert (site.worklist.count_unfetched(), site.worklist.alerted([2])) == (0, set())


# the command


def configured(folder: Path, *updates: WorklistUpdate) -> Path:
    """A site file with two scanners, and a store with these orders."""
    file = folder / "bridge.yaml"
    file.write_text(
        "site: {name: test, timezone: UTC, order_issuer: RIS}\n"
        "systems:\n"
        "  ct1: {ae_title: CT1, worklist: {modalities: [CT], charset: ISO_IR 100, days_ahead: 1},"
        " transfers: [{at: 2999-12-01T06:00, ae_title: CT7}]}\n"
        'channels: {worklist: {type: dicom-worklist, listen: "127.0.0.1:0"}}\n'
        "routes: {}\ndata: var\n"
    )
    (folder / "var").mkdir()
    store = Store(f"sqlite:///{folder / 'var' / 'radbridge.db'}")
    for origin, update in enumerate(updates, 1):
        store.write(lambda tx, update=update, origin=origin: store.worklist.apply(tx, update, origin))
    store.worklist.note_served([(1, "CT1", 1_000, 2_000, 3)])
    store.close()
    return file


def command(*arguments: str, code: int = 0) -> Any:
    run = [str(RADBRIDGE), "worklist", *arguments, "--json"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_command_shows_what_a_scanner_gets_and_why_it_does_not_get_the_rest(tmp_path: Path) -> None:
    far = (datetime.now() + timedelta(9)).strftime("%Y%m%d")

    def order(number: int, step: dict[str, Any] | None = None, **changed: Any) -> WorklistUpdate:
        return scheduled(number, {"ScheduledProcedureStepStartDate": TODAY, **(step or {})}, **changed)

    config = configured(
        tmp_path,
        order(1),
        order(2, {"ScheduledStationAETitle": "CT2"}),
        order(3, {"Modality": "MR"}),
        order(4, PatientName="ΔΙΟΝΥΣΙΟΣ^ΝΙΚΟΣ"),
        order(5),
        WorklistUpdate(("filler:5^RIS",), StepStatus.COMPLETED),
        order(6, {"ScheduledProcedureStepStartDate": far}),
    )

    said = command("--as", "CT1", "--date", "all", "--config", str(config))

    assert [(row["accession"], row["given to"]) for row in said["shown"]] == [("A1", "CT1 1970-01-01 00:00")]
    assert {row["accession"]: row["missing because"] for row in said["missing"]} == {
        "A2": "other station",
        "A3": "other modality",
        "A4": "charset refused (PatientName)",
        "A5": "status completed",
        "A6": "outside window",
    }

    # And what it will get after its transfer, under the title that it has by then
    later = ("--date", "all", "--at", "2999-12-01T06:00", "--config", str(config))
    assert {row["missing because"] for row in command("--as", "CT1", *later)["missing"]} == {
        "title not in force (CT7 is)"
    }
    assert {row["missing because"] for row in command("--as", "CT7", *later)["missing"]} == {
        *("other station", "other modality", "charset refused (PatientName)", "status completed"),
    }


def test_a_folder_of_worklist_files_goes_in_and_out_with_every_attribute(tmp_path: Path, site: Site) -> None:
    # Given another server's files, one with attributes of its maker's own, and one that is none
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    own = {"(0009,0010)": {"vr": "LO", "values": "ACME"}, "(0009,1001)": {"vr": "LO", "values": "é"}}
    own |= {"(0018,9461)": {"vr": "FL", "base64": "AADAPwAAAEA="}, "PregnancyStatus": "4"}
    items = [attributes(1, {"ScheduledProcedureStepStartDate": TODAY}, **own), attributes(2)]
    for number, item in enumerate(items):
        (folder / f"{number}.wl").write_bytes(to_file(item, charset="ISO_IR 100"))
    (folder / "broken.wl").write_bytes(b"no DICOM at all")
    config = configured(tmp_path)

    # When they are taken in twice, and written again
    first = command("import", str(folder), "--config", str(config), code=3)
    assert (first["taken"], [one["file"] for one in first["refused"]]) == (2, ["broken.wl"])
    assert command("import", str(folder), "--config", str(config), code=3)["taken"] == 2
    assert command("export", str(out), "--config", str(config))["written"] == 2

    # Then they are the same, with their status; a scanner gets them so, and another server can answer from them
    for item in items:
        item["ScheduledProcedureStepSequence"][0]["ScheduledProcedureStepStatus"] = "SCHEDULED"
    written = [from_file(path.read_bytes()) for path in sorted(out.glob("*.wl"))]
    assert written == items
    site.start()
    site.apply(*(update_of(item, "RIS") for item in written))
    found = site.find("0010,0010", "0009,0010", "0009,1001", "0018,9461", "0008,0050=A1").items[0]
    assert (found[0x00091001].value, list(found[0x00189461].value)) == ("é", [1.5, 2.0])
    assert answers_of_wlmscpfs(out, tmp_path / "served") == {"A1", "A2"}


def test_a_folder_follows_the_worklist_for_a_server_that_answers_from_files(tmp_path: Path, site: Site) -> None:
    # Given a step that is open, one whose name the files cannot hold, and a file of a former life
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "step00000077.wl").write_bytes(b"of a former life")
    settings = ExportSettings.model_validate({"folder": folder, "charset": "ISO_IR 100"})
    site.start()
    site.apply(scheduled(1), scheduled(2, PatientName="ΔΙΟΝΥΣΙΟΣ^ΝΙΚΟΣ"))
    export = Export(settings, "worklist", site.worklist, MemoryState())
    export.check()

    def written() -> dict[str, Any]:
        export.write()
        return {path.name: from_file(path.read_bytes())["PatientName"] for path in folder.glob("*.wl")}

    # Then each is there as it is now, and no longer than it is open
    assert written() == {"step00000001.wl": "TEST00001^ÉLODIE"}
    site.apply(scheduled(1, PatientName="NEW^NAME"))
    assert written() == written() == {"step00000001.wl": "NEW^NAME"}
    site.apply(WorklistUpdate(("filler:1^RIS",), StepStatus.COMPLETED), scheduled(3))
    assert written() == {"step00000003.wl": "TEST00003^ÉLODIE"}
    assert answers_of_wlmscpfs(folder, tmp_path / "served") == {"A3"}


def answers_of_wlmscpfs(files: Path, served: Path) -> set[str]:
    """The accession numbers that DCMTK's server gives from a folder."""
    served.mkdir()
    files.rename(served / "WL")
    port, into = free_port(), served / "answers"
    into.mkdir()
    server = subprocess.Popen([dcmtk("wlmscpfs"), "-dfp", str(served), str(port)])
    ask = [dcmtk("findscu"), "-W", "-X", "-od", str(into), "-aec", "WL", "-k", "0008,0050", "127.0.0.1", str(port)]
    try:
        wait_until(lambda: subprocess.run(ask, capture_output=True, check=False).returncode == 0, "wlmscpfs")
    finally:
        server.terminate()
        server.wait()
    return {str(dcmread(path, force=True).AccessionNumber) for path in into.iterdir()}
