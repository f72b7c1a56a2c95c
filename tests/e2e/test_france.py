"""French messages through the real engine: the letters of 8859/15 on scanners, documents as they were."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from tests.rigs.engine import Node, until, write_site
from tests.rigs.need import REPOSITORY, missing
from tests.rigs.processes import free_port
from tests.rigs.sender import END, VT, acknowledgement

SAMPLES = REPOSITORY / "mappings" / "fr" / "samples"
NAME = "TESTSŒUR€"


def in_latin_9(name: str) -> bytes:
    """A sample with a name that only 8859/15 can write among the sets of 8859, in that set."""
    text = (SAMPLES / f"{name}.hl7").read_bytes()
    text = text.decode("utf-8" if name.startswith("tlr") else "iso8859-15").encode("iso8859-15")
    declared = text.replace(b"|UNICODE UTF-8|", b"|8859/15|")
    return declared.replace("TESTCŒUR".encode("iso8859-15"), NAME.encode("iso8859-15"))


async def told(port: int, data: bytes) -> str:
    """MSA-1 of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(60):
        writer.write(VT + data + END)
        await writer.drain()
        answer = (await reader.readuntil(END)).strip(VT + END)
    writer.close()
    return acknowledgement(answer)[0]


def asked(port: int, folder: Path, caller: str) -> Dataset:
    program = shutil.which("findscu", path="/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin")
    if not program:
        missing("findscu", "apt-get install dcmtk")
    assert program
    into = folder / f"list-{caller}"
    into.mkdir()
    command = [program, "-W", "-X", "-od", str(into), "-aet", caller, "-aec", "RADBRIDGE", "-k", "0010,0010"]
    subprocess.run([*command, "127.0.0.1", str(port)], capture_output=True, timeout=120, check=True)
    (item,) = [dcmread(path, force=True) for path in into.iterdir()]
    return item


async def test_scanners_read_the_letters_of_8859_15_in_their_own_sets(tmp_path: Path) -> None:
    site_in, dicom = free_port(), free_port()
    (tmp_path / "out").mkdir()
    channels: dict[str, Any] = {
        "tlr-in": {"type": "mllp-in", "system": "tlr", "listen": f"127.0.0.1:{site_in}"},
        "out": {"type": "file-out", "folder": str(tmp_path / "out")},
        "worklist": {
            "type": "dicom-worklist",
            "listen": f"127.0.0.1:{dicom}",
            "ae_title": "RADBRIDGE",
            "callers": {"MR1": {"charset": "ISO_IR 203"}},
        },
    }
    routes = {"requests": {"from": "tlr-in", "to": [{"worklist": "fr/teleradiology-to-worklist"}, "out"]}}
    config = write_site(tmp_path, channels, routes, systems={"tlr": {"adapter": "fr-teleradiology"}})
    async with Node(config, roles="receive,deliver,dicom") as node:
        node.start()
        await node.ready()

        # When a request in 8859/15 comes, and one that lacks its modality
        request = in_latin_9("tlr_request")
        assert await told(site_in, request) == "AA"
        assert await told(site_in, request.replace(b"|TLR0001|", b"|TLR9|").replace(b"MODALITE_", b"X_")) == "AE"
        await until(lambda: any((tmp_path / "out").glob("*.hl7")), "the request passed on", node)

        # Then each scanner reads the name in its own set, and what is passed on is byte for byte
        by_set, by_default = [await asyncio.to_thread(asked, dicom, tmp_path, caller) for caller in ("MR1", "CT9")]
        (passed,) = (tmp_path / "out").glob("*.hl7")
    assert (by_set.SpecificCharacterSet, by_default.SpecificCharacterSet) == ("ISO_IR 203", "ISO_IR 192")
    assert by_set.PatientName.original_string.rstrip() == f"{NAME}^HÉLÈNE^MARIE".encode("iso8859-15")
    assert by_default.PatientName.original_string.rstrip() == f"{NAME}^HÉLÈNE^MARIE".encode()
    assert passed.read_bytes().strip(b"\r\n") == request.strip(b"\r\n")


async def test_a_document_passes_byte_for_byte_and_its_patient_reaches_fhir_in_full(tmp_path: Path) -> None:
    ris_in = free_port()
    for name in ("passed", "fhir"):
        (tmp_path / name).mkdir()
    channels: dict[str, Any] = {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{ris_in}"},
        "passed": {"type": "file-out", "folder": str(tmp_path / "passed")},
        "fhir": {"type": "file-out", "folder": str(tmp_path / "fhir")},
    }
    routes = {"documents": {"from": "ris-in", "to": [{"passed": "fr/ins-when-qualified"}, {"fhir": "fr/cda-to-fhir"}]}}
    async with Node(write_site(tmp_path, channels, routes), roles="receive,deliver") as node:
        node.start()
        await node.ready()
        document = in_latin_9("oru_cda")
        assert await told(ris_in, document) == "AA"
        await until(
            lambda: all(any((tmp_path / one).glob("[!.]*")) for one in ("passed", "fhir")), "both written", node
        )
        (passed,), (fhir,) = ((tmp_path / one).glob("[!.]*") for one in ("passed", "fhir"))

    assert passed.read_bytes().strip(b"\r\n") == document.strip(b"\r\n")
    resources = [one["resource"] for one in json.loads(fhir.read_bytes())["entry"]]
    assert resources[0]["name"][0]["family"] == NAME
    assert [one["resourceType"] for one in resources] == ["Patient", "DocumentReference", "DocumentReference"]
