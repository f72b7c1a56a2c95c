"""A retraction and an addendum reach every place the report went: a PACS over MLLP, a FHIR server of third parties."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.command import TOKEN, Hl7Pacs, Hospital, reserve, send_with_hl7
from tests.rigs.engine import write_site
from tests.rigs.fhir_server import FhirServer, fhir_server, fhir_server_process
from tests.rigs.need import REPOSITORY

__all__ = ["fhir_server", "fhir_server_process"]

SAMPLES = REPOSITORY / "mappings" / "samples"
PRELIMINARY, FINAL, CORRECTED, ADDENDUM, WRONG_PATIENT, CANCELLED = (
    f"oru_{name}.hl7" for name in ("preliminary", "final", "corrected", "addendum", "wrong_patient", "cancelled")
)


def sample(name: str, control: str = "") -> bytes:
    raw = (SAMPLES / name).read_bytes()
    fields = raw.split(b"|", 10)
    return raw.replace(fields[9], control.encode(), 1) if control else raw


@pytest.fixture
def hospital(tmp_path: Path, fhir_server: FhirServer) -> Iterator[Hospital]:
    """The PACS gets every report, the hospital only those that are final and what changes them."""
    holders = [reserve() for _ in range(4)]
    mllp, dicom, web, pacs = (holder.getsockname()[1] for holder in holders)
    shutil.copytree(REPOSITORY / "mappings", tmp_path / "mappings")
    retry = {"first": "50ms", "max": "200ms"}
    channels = {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{mllp}"},
        "pacs-out": {"type": "mllp-out", "connect": f"127.0.0.1:{pacs}", "lane": "patient", "retry": retry},
        "his-fhir": {"type": "fhir-out", "base_url": fhir_server.base_url, "lane": "patient", "retry": retry},
    }
    signed = {"message": "ORU^R01", "report": "final"}
    routes = {
        "reports": {"from": "ris-in", "when": {"message": "ORU^R01"}, "to": "pacs-out"},
        "signed": {"from": "ris-in", "when": signed, "to": [{"his-fhir": "report-to-fhir"}]},
        "documents": {"from": "ris-in", "when": {"message": "MDM"}, "to": [{"his-fhir": "mdm-to-fhir"}]},
    }
    listens = {"listen": f"127.0.0.1:{web}", "token": TOKEN}
    config = write_site(tmp_path, channels, routes, web=listens, mappings=str(tmp_path / "mappings"))
    built = Hospital(config, mllp, dicom, web, Hl7Pacs(pacs), holders)
    yield built
    built.close()


async def comes(fhir_server: FhirServer, kind: str, ready: Callable[[list[dict[str, Any]]], bool]) -> list[Any]:
    """What the server has of ``kind``, once ``ready`` finds it so."""
    for _ in range(200):
        found = await asyncio.to_thread(fhir_server.all, kind)
        if ready(found):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"the server still has {[(one['id'], one.get('status')) for one in found]}")


async def settled(hospital: Hospital) -> None:
    """Return when nothing is owed any more."""
    await hospital.comes_to("/api/deliveries?status=pending", lambda found: not found)


def is_(*statuses: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda found: sorted(one["status"] for one in found) == sorted(statuses)


def texts(report: dict[str, Any]) -> list[str]:
    return [base64.b64decode(form["data"]).decode() for form in report.get("presentedForm", [])]


@pytest.mark.parametrize(("retraction", "status"), [(WRONG_PATIENT, "entered-in-error"), (CANCELLED, "cancelled")])
async def test_a_retraction_reaches_the_destination_that_only_wanted_final_reports(
    hospital: Hospital, fhir_server: FhirServer, retraction: str, status: str
) -> None:
    async with hospital.pacs.up(), hospital.open():
        # Given a report that both have, and a preliminary one before it that only the PACS wanted
        assert await send_with_hl7(hospital.mllp, sample(PRELIMINARY), sample(FINAL)) == ["AA", "AA"]
        (report,) = await comes(fhir_server, "DiagnosticReport", is_("final"))
        assert report["meta"]["versionId"] and len(await asyncio.to_thread(fhir_server.all, "Observation")) == 2
        # When it is withdrawn
        await send_with_hl7(hospital.mllp, sample(retraction))
        # Then both learn of it, and the server has nothing of it in force
        await hospital.pacs.has(3)
        (report,) = await comes(fhir_server, "DiagnosticReport", is_(status))
        assert texts(report) == []
        await comes(fhir_server, "Observation", is_("entered-in-error", "entered-in-error"))
        # And the final one sent once more, late, does not bring it back
        await send_with_hl7(hospital.mllp, sample(FINAL, "LATE1"), sample(PRELIMINARY, "LATE2"))
        await hospital.pacs.has(5)
        await settled(hospital)
        assert [one["status"] for one in await asyncio.to_thread(fhir_server.all, "DiagnosticReport")] == [status]


async def test_a_retraction_never_overtakes_its_report_at_a_destination_that_was_away(
    hospital: Hospital, fhir_server: FhirServer
) -> None:
    async with hospital.open():
        # Given a PACS that is away, while the report is sent and withdrawn
        await send_with_hl7(hospital.mllp, sample(FINAL), sample(WRONG_PATIENT))
        await comes(fhir_server, "DiagnosticReport", is_("entered-in-error"))
        # When it is back, it gets both, in their sequence
        async with hospital.pacs.up():
            await hospital.pacs.has(2)
    assert hospital.pacs.control_ids == ["ORU0003", "ORU0007"]


async def test_an_addendum_is_added_to_the_report_and_a_correction_replaces_both(
    hospital: Hospital, fhir_server: FhirServer
) -> None:
    async with hospital.pacs.up(), hospital.open():
        # Given a signed report
        await send_with_hl7(hospital.mllp, sample(FINAL))
        (report,) = await comes(fhir_server, "DiagnosticReport", is_("final"))
        # When an addendum comes, twice
        await send_with_hl7(hospital.mllp, sample(ADDENDUM), sample(ADDENDUM, "AGAIN"))
        await settled(hospital)
        (appended,) = await comes(fhir_server, "DiagnosticReport", is_("appended"))
        # Then the report says both, once
        await hospital.pacs.has(3)
        assert texts(appended) == [*texts(report), "Addendum: compared with the prior study of 2025."]
        assert appended["conclusion"] == report["conclusion"] and appended["result"] == report["result"]
        # And a correction, newer than both, is the whole report
        newer = sample(CORRECTED).replace(b"20260106150000||CT|C", b"20260106170000||CT|C")
        await send_with_hl7(hospital.mllp, newer)
        (corrected,) = await comes(fhir_server, "DiagnosticReport", is_("corrected"))
        assert len(texts(corrected)) == 1 and "on the right" in texts(corrected)[0]


async def test_a_document_lives_as_its_messages_say(hospital: Hospital, fhir_server: FhirServer) -> None:
    async with hospital.open():
        # Given a document that is the report of an exam, and its addendum
        await send_with_hl7(hospital.mllp, sample("mdm_original.hl7"), sample("mdm_status.hl7"))
        await send_with_hl7(hospital.mllp, sample("mdm_addendum.hl7"))
        await comes(fhir_server, "DocumentReference", is_("current", "current"))
        (report,) = await asyncio.to_thread(fhir_server.all, "DiagnosticReport")
        assert report["status"] == "final" and len(report["presentedForm"]) == 2
        # When it is replaced
        await send_with_hl7(hospital.mllp, sample("mdm_replacement.hl7"))
        # Then the former document is out of force and keeps its content, and the report is the new one
        found = await comes(fhir_server, "DocumentReference", is_("superseded", "current", "current"))
        by_number = {one["identifier"][0]["value"]: one for one in found}
        former = by_number["D1001"]
        assert former["status"] == "superseded" and "data" in former["content"][0]["attachment"]
        assert by_number["D1002"]["relatesTo"][0]["target"]["reference"] == f"DocumentReference/{former['id']}"
        assert by_number["D1003"]["relatesTo"][0]["code"] == "replaces"
        (report,) = await comes(fhir_server, "DiagnosticReport", is_("corrected"))
        assert "on the right" in texts(report)[0]
        # And the former one sent again, late, does not come back
        await send_with_hl7(hospital.mllp, sample("mdm_original.hl7", "LATE1"))
        cancel = sample("mdm_cancel.hl7").replace(b"D1001^RIS", b"D1003^RIS")
        await send_with_hl7(hospital.mllp, cancel)
        found = await comes(fhir_server, "DocumentReference", is_("superseded", "entered-in-error", "current"))
        assert {one["identifier"][0]["value"]: one["status"] for one in found}["D1001"] == "superseded"
        await comes(fhir_server, "DiagnosticReport", is_("entered-in-error"))
