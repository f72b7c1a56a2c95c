"""The FHIR facade as programs of others see it: their clients, and a tester that reads its OpenAPI document."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle, BundleEntry, BundleEntryRequest
from fhirclient.models.humanname import HumanName
from fhirclient.models.identifier import Identifier
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRServer

from tests.rigs import npm
from tests.rigs.facade import facade

_NPM = Path(npm.__file__).with_name("fhir_npm")
_SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SYSTEM = "urn:oid:2.25.9"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with facade(tmp_path_factory.mktemp("facade")) as url:
        yield url


@pytest.mark.parametrize("client", ["fhir-kit", "medplum"])
async def test_clients_of_npm_do_all_they_can(base: str, client: str) -> None:
    (line,) = await npm.told(_NPM, "clients.mjs", {"client": client, "base": base, "number": client})

    assert json.loads(line) == {
        "version": "4.0.1",
        "read": True,
        "found": [True],
        "updated": [True, "2"],
        "patched": ["female", "3"],
        "history": 3,
        "answer": ["201", "201"],
        "linked": True,
        "refused": "Patient.gender",
    }


def patient(number: str) -> Patient:
    made = Patient()
    made.identifier = [Identifier({"system": SYSTEM, "value": number})]
    made.name = [HumanName({"family": "TESTPATIENT"})]
    return made


def test_pythons_fhirclient_reads_searches_and_writes(base: str) -> None:
    server: FHIRServer = FHIRClient(settings={"app_id": "test", "api_base": base}).server

    created = patient("P1").create(server)
    read = Patient.read(created["id"], server)
    read.gender = "other"
    updated = read.update(server)
    found = list(Patient.where({"identifier": f"{SYSTEM}|P1"}).perform_resources_iter(server))

    assert read.name[0].family == "TESTPATIENT"
    assert updated["meta"]["versionId"] == "2"
    assert [(one.id, one.gender) for one in found] == [(created["id"], "other")]
    assert server.capabilityStatement.fhirVersion == "4.0.1"


def test_pythons_fhirclient_posts_a_transaction(base: str) -> None:
    server: FHIRServer = FHIRClient(settings={"app_id": "test", "api_base": base}).server
    entry = BundleEntry()
    entry.resource = patient("P2")
    entry.request = BundleEntryRequest({"method": "POST", "url": "Patient"})
    bundle = Bundle({"type": "transaction"})
    bundle.entry = [entry]

    answer = Bundle(server.post_json("", bundle.as_json()).json())

    assert answer.type == "transaction-response"
    assert answer.entry[0].response.status.startswith("201")


def test_schemathesis_finds_nothing(base: str, tmp_path: Path) -> None:
    """But for `positive_data_acceptance`: FHIR has rules that JSON Schema does not tell (choices, the calendar, what is
    in an extension), and what breaks them is refused."""
    command = [_SCHEMATHESIS, "run", f"{base}/openapi.json", "--phases", "fuzzing", "--max-examples", "2"]
    command += ["--exclude-checks", "positive_data_acceptance", "--no-color"]
    command += ["--include-path-regex", "^/((Patient|ServiceRequest|Binary)(/|$)|metadata|_history|$)"]
    command += ["--generation-deterministic"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)

    assert done.returncode == 0, done.stdout[-6000:]
    assert "Tested: 34" in done.stdout
