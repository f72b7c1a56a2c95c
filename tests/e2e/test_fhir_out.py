"""``fhir-out`` against a FHIR server that nobody of this project wrote (Medplum's), which also validates against R4."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bridge.codecs import fhir
from bridge.codecs.fhir import Entry
from bridge.engine.state import StoredState
from bridge.errors import BridgeError, Permanent, StoreUnavailable, Temporary, Uncertain, Unreachable
from bridge.message import Delivery
from bridge.ports import Answer, Outgoing, Services, channel_type
from bridge.state import MemoryState, State
from bridge.store.store import Store
from channels.fhir_client import Conflict
from tests.rigs.fhir_server import FhirServer, fhir_server, fhir_server_process

__all__ = ["fhir_server", "fhir_server_process"]

OID = "urn:oid:2.16.840.1.113883.19.5"
Send = Callable[[bytes], Awaitable[Answer]]


def sink(base_url: str, state: State | None = None, **settings: Any) -> Any:
    kind = channel_type("fhir-out")
    services = Services(name="his-fhir", site=None, state=state or MemoryState())
    return kind.build(kind.settings(type="fhir-out", base_url=base_url, **settings), services)


def outgoing(data: bytes) -> Outgoing:
    delivery = Delivery("d1", "m1", 20240301, "reports", "his-fhir", "report-to-fhir", "r1", ("patient:P1",))
    return Outgoing(data, delivery, format="fhir")


@pytest.fixture
async def send(fhir_server: FhirServer) -> AsyncIterator[Send]:
    out = sink(fhir_server.base_url, timeout="2s")
    yield lambda data: out.send(outgoing(data))
    await out.close()


def entry(kind: str, value: str, write: Any = "update", **more: Any) -> Entry:
    resource = {"resourceType": kind, "identifier": [{"system": OID, "value": value}], **more}
    return Entry(f"{kind}-{value}", resource, write, f"identifier={fhir.token(OID, value)}")


def report(
    status: str = "final", hour: int = 10, length: str | None = "12.50", conclusion: str = "no bleeding"
) -> bytes:
    """A patient, a report and perhaps one observation, as a transaction."""
    patient = {"reference": "entry:Patient-P1"}
    made = [entry("Patient", "P1", "create", name=[{"family": "TESTPATIENT", "given": ["Hélène"]}])]
    links = []
    if length:
        value = {"value": Decimal(length), "unit": "mm"}
        named = {"status": status, "code": {"text": "length"}, "subject": patient, "valueQuantity": value}
        made.append(entry("Observation", "F1/1", **named))
        links = [{"reference": "entry:Observation-F1/1"}]
    issued = f"2024-03-01T{hour:02}:00:00+01:00"
    rest = {"code": {"text": "CT head"}, "subject": patient, "result": links, "conclusion": conclusion}
    return fhir.build_bundle([*made, entry("DiagnosticReport", "F1", status=status, issued=issued, **rest)])


async def test_a_transaction_arrives_valid_and_linked(fhir_server: FhirServer, send: Send) -> None:
    answer = await send(report())

    assert answer.summary == "200 transaction 3 entries: 3 created"
    patient, made = fhir_server.one("Patient"), fhir_server.one("DiagnosticReport")
    assert made["subject"]["reference"] == f"Patient/{patient['id']}"
    assert made["result"][0]["reference"] == f"Observation/{fhir_server.one('Observation')['id']}"
    assert patient["name"][0]["given"] == ["Hélène"]


async def test_a_repeat_changes_nothing_at_all_on_the_server(fhir_server: FhirServer, send: Send) -> None:
    await send(report())
    state, history = fhir_server.state(), fhir_server.history()

    answer = await send(report())

    assert answer.summary == "nothing to write 3 entries: 3 unchanged"
    assert (fhir_server.state(), fhir_server.history()) == (state, history)


async def test_a_correction_replaces_just_what_it_changes(fhir_server: FhirServer, send: Send) -> None:
    await send(report())

    answer = await send(report("corrected", 11, conclusion="small bleeding"))

    assert answer.summary == "200 transaction 3 entries: 2 updated 1 unchanged"
    assert fhir_server.one("DiagnosticReport")["conclusion"] == "small bleeding"
    assert set(fhir_server.history()["Patient"].values()) == {1}


async def test_a_late_preliminary_never_replaces_a_final(fhir_server: FhirServer, send: Send) -> None:
    await send(report("final", 10))
    state = fhir_server.state()

    for hour in (9, 11):
        answer = await send(report("preliminary", hour, "9.0", "perhaps bleeding"))
        assert answer.summary == "nothing to write 3 entries: 1 unchanged 2 superseded"

    assert fhir_server.state() == state


async def test_a_retraction_withdraws_the_report_and_its_observations(fhir_server: FhirServer, send: Send) -> None:
    await send(report())

    await send(report("cancelled", 11, length=None, conclusion=""))

    assert fhir_server.one("DiagnosticReport")["status"] == "cancelled"
    assert "conclusion" not in fhir_server.one("DiagnosticReport")
    assert fhir_server.one("Observation")["status"] == "entered-in-error"
    state = fhir_server.state()
    await send(report("cancelled", 11, length=None, conclusion=""))
    assert fhir_server.state() == state


async def test_an_observation_that_the_server_lost_does_not_hold_up_the_retraction(
    fhir_server: FhirServer, send: Send
) -> None:
    await send(report())
    fhir_server.delete("Observation", fhir_server.one("Observation")["id"])

    await send(report("cancelled", 11, length=None, conclusion=""))

    assert fhir_server.one("DiagnosticReport")["status"] == "cancelled"


async def test_demographics_that_the_hospital_owns_stay_as_they_are(fhir_server: FhirServer, send: Send) -> None:
    owned = {"resourceType": "Patient", "identifier": [{"system": OID, "value": "P1"}], "birthDate": "1950-01-01"}
    fhir_server.post(owned)

    await send(report())

    assert fhir_server.one("Patient")["birthDate"] == "1950-01-01"
    assert "name" not in fhir_server.one("Patient")


@pytest.mark.parametrize("status", [409, 412])
async def test_a_change_between_reading_and_writing_is_read_anew_and_not_overwritten(
    fhir_server: FhirServer, send: Send, status: int
) -> None:
    await send(report())
    fhir_server.mode(status=status, on="transaction", times=2)

    answer = await send(report("corrected", 11))

    asked = [one["type"] for one in fhir_server.requests()]
    assert answer.summary.endswith("2 updated 1 unchanged")
    assert fhir_server.one("DiagnosticReport")["status"] == "corrected"
    assert asked == ["batch", "transaction"] + 3 * ["batch", "transaction"]


async def test_what_somebody_changes_all_the_time_is_left_for_later(fhir_server: FhirServer, send: Send) -> None:
    fhir_server.mode(status=412, on="transaction")

    with pytest.raises(Conflict):
        await send(report())

    assert len([one for one in fhir_server.requests() if one["type"] == "transaction"]) == 4


async def test_the_server_refuses_an_update_of_a_version_that_is_gone(fhir_server: FhirServer) -> None:
    out = sink(fhir_server.base_url, read_first=False)
    await out.send(outgoing(report()))
    held = fhir_server.one("DiagnosticReport")
    stale = {**held, "conclusion": "stale"}
    request = {"method": "PUT", "url": f"DiagnosticReport/{held['id']}", "ifMatch": 'W/"gone"'}
    transaction = {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": stale, "request": request}]}

    with pytest.raises(Temporary, match="412"):
        await out.send(outgoing(fhir.encode(transaction)))

    assert fhir_server.one("DiagnosticReport") == held
    await out.close()


async def test_a_server_that_cannot_search_is_tried_again_and_not_written_to(
    fhir_server: FhirServer, send: Send
) -> None:
    refused = [{"response": {"status": "403 Forbidden"}}] * 3
    fhir_server.mode(status=200, on="batch", body={"resourceType": "Bundle", "entry": refused})

    with pytest.raises(Temporary, match="403"):
        await send(report())

    assert fhir_server.state() == {}


async def test_two_patients_with_one_identifier_are_for_a_person_to_settle(fhir_server: FhirServer, send: Send) -> None:
    for _ in range(2):
        fhir_server.post({"resourceType": "Patient", "identifier": [{"system": OID, "value": "P1"}]})

    with pytest.raises(Permanent) as caught:
        await send(report())

    assert caught.value.kind == "duplicate_key"
    assert "DiagnosticReport" not in fhir_server.state()


async def test_what_the_server_finds_invalid_is_dead_with_its_reason_and_no_content(
    fhir_server: FhirServer, send: Send
) -> None:
    bundle = fhir.decode(report())
    bundle["entry"][0]["resource"]["birthDate"] = "TESTPATIENT"

    with pytest.raises(Permanent) as caught:
        await send(fhir.encode(bundle))

    assert caught.value.what.startswith("HTTP 400 ")
    assert "TESTPATIENT" not in str(caught.value)
    assert fhir_server.state() == {}


async def test_a_long_bundle_goes_out_in_parts_and_still_links(fhir_server: FhirServer) -> None:
    patient = {"reference": "entry:Patient-P1"}
    observations = [
        entry("Observation", f"F1/{i}", status="final", code={"text": "x"}, subject=patient) for i in range(12)
    ]
    links = [{"reference": f"entry:{one.name}"} for one in observations]
    head = entry("DiagnosticReport", "F1", status="final", code={"text": "CT"}, subject=patient, result=links)
    data = fhir.build_bundle([entry("Patient", "P1", "create"), *observations, head])

    whole = sink(fhir_server.base_url)
    with pytest.raises(Permanent, match="HTTP 400"):
        await whole.send(outgoing(data))
    cut = sink(fhir_server.base_url, max_entries=8)
    answer = await cut.send(outgoing(data))
    state = fhir_server.state()
    again = await cut.send(outgoing(data))

    assert answer.summary == "200 transaction 14 entries: 14 created"
    linked = {one["reference"] for one in fhir_server.one("DiagnosticReport")["result"]}
    assert linked == {f"Observation/{id}" for id in state["Observation"]}
    assert again.summary.endswith("14 unchanged") and fhir_server.state() == state
    await whole.close()
    await cut.close()


@pytest.mark.parametrize("on", ["batch", "transaction"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (503, Unreachable),
        (502, Unreachable),
        (429, Unreachable),
        (401, Unreachable),
        (408, Temporary),
        (409, Conflict),
        (412, Conflict),
        (425, Temporary),
        (500, Temporary),
        (400, Permanent),
        (403, Permanent),
        (404, Permanent),
        (413, Permanent),
        (422, Permanent),
        (302, Permanent),
    ],
)
async def test_each_refusal_means_what_the_table_says(
    fhir_server: FhirServer, send: Send, on: str, status: int, kind: type[Exception]
) -> None:
    issue = {
        "severity": "error",
        "code": "invalid",
        "diagnostics": "TESTPATIENT is unwelcome",
        "expression": ["Bundle.entry[0].resource", "Patient.where(name='TESTPATIENT')"],
    }
    fhir_server.mode(status=status, on=on, body={"resourceType": "OperationOutcome", "issue": [issue]}, retryAfter=7)

    with pytest.raises(kind) as caught:
        await send(report())

    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"HTTP {status} invalid at Bundle.entry[0].resource")
    assert "TESTPATIENT" not in str(caught.value)
    assert getattr(caught.value, "retry_after", 7) == 7
    assert fhir_server.state() == {}


async def test_an_outage_ends_and_the_report_arrives_once(fhir_server: FhirServer, send: Send) -> None:
    fhir_server.mode(status=503, retryAfter=1, times=2)

    for _ in range(2):
        with pytest.raises(Unreachable):
            await send(report())
    await send(report())

    assert len(fhir_server.all("DiagnosticReport")) == 1


async def test_a_server_that_works_but_never_answers_leaves_it_uncertain_and_the_repeat_writes_nothing(
    fhir_server: FhirServer,
) -> None:
    out = sink(fhir_server.base_url, timeout="500ms")
    fhir_server.mode(late=True, on="transaction", times=1)

    with pytest.raises(Uncertain):
        await out.send(outgoing(report()))
    state = fhir_server.state()
    await out.send(outgoing(report()))

    assert len(state["DiagnosticReport"]) == 1
    assert fhir_server.state() == state
    await out.close()


async def test_a_server_that_does_not_answer_the_reading_was_not_written_to(fhir_server: FhirServer) -> None:
    out = sink(fhir_server.base_url, timeout="500ms")
    fhir_server.mode(hang=True)

    with pytest.raises(Unreachable):
        await out.send(outgoing(report()))

    assert fhir_server.state() == {}
    await out.close()


async def test_nobody_at_home_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        out = sink(f"http://127.0.0.1:{taken.getsockname()[1]}/fhir")
        with pytest.raises(Unreachable):
            await out.send(outgoing(report()))
        await out.close()


async def test_something_that_is_no_fhir_server_is_tried_again_not_believed() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n<html")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    out = sink(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/fhir")

    with pytest.raises(Temporary, match="0 of 3"):
        await out.send(outgoing(report()))

    await out.close()
    server.close()


async def test_a_message_that_is_no_transaction_is_refused_with_the_fix(send: Send) -> None:
    for data in (b"MSH|^~\\&|", b"{}", b'{"resourceType":"Patient"}'):
        with pytest.raises(Permanent, match="target fhir"):
            await send(data)


async def test_no_identifier_of_a_patient_stands_in_a_url_and_the_token_goes_along(fhir_server: FhirServer) -> None:
    out = sink(fhir_server.base_url, token="s3cret", headers={"X-Site": "demo"})

    await out.send(outgoing(report()))

    requests = fhir_server.requests()
    assert {one["url"] for one in requests} == {"/fhir"}
    assert {one["headers"]["authorization"] for one in requests} == {"Bearer s3cret"}
    assert {one["headers"]["x-site"] for one in requests} == {"demo"}
    assert {one["headers"]["content-type"] for one in requests} == {"application/fhir+json"}
    await out.close()


def test_a_password_in_the_address_is_not_shown() -> None:
    out = sink("https://user:s3cret@his.example/fhir/")

    assert out.endpoint == "https://his.example/fhir"


def test_certificates_that_cannot_be_read_are_a_mistake_in_the_settings(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")

    for file in (empty, tmp_path / "absent.pem"):
        with pytest.raises(BridgeError) as caught:
            sink("https://his.example/fhir", verify=str(file))
        assert caught.value.kind == "settings"


async def test_a_server_whose_search_lags_gets_no_second_one_also_over_a_restart(
    fhir_server: FhirServer, store_url: str
) -> None:
    # Given a server that has what was written, and finds none of it yet
    fhir_server.mode(lags=True)
    for data, change in ((report(), "3 created"), (report(), "3 unchanged"), (report("corrected", 11), "2 updated")):
        # When it is sent, sent again and corrected, each time by an engine that was started anew
        store = Store(store_url)
        out = sink(fhir_server.base_url, StoredState(store, "his-fhir", ""))
        answer = await out.send(outgoing(data))
        await out.close()
        store.close()
        assert change in answer.summary

    # Then there is one of each
    assert {kind: len(some) for kind, some in fhir_server.state().items()} == {
        "DiagnosticReport": 1,
        "Observation": 1,
        "Patient": 1,
    }
    assert fhir_server.one("DiagnosticReport")["status"] == "corrected"


async def test_another_report_of_a_patient_who_is_not_found_yet_refers_to_the_one_there_is(
    fhir_server: FhirServer, send: Send
) -> None:
    fhir_server.mode(lags=True)
    await send(report())
    links = {"status": "final", "code": {"text": "CT"}, "subject": {"reference": "entry:Patient-P1"}}
    both = [entry("Patient", "P1", "create"), entry("DiagnosticReport", "F2", **links)]

    await send(fhir.build_bundle(both))

    patient = fhir_server.one("Patient")
    subjects = {one["subject"]["reference"] for one in fhir_server.all("DiagnosticReport")}
    assert subjects == {f"Patient/{patient['id']}"}


async def test_what_was_deleted_on_the_server_is_made_anew(fhir_server: FhirServer, send: Send) -> None:
    await send(report(length=None))
    fhir_server.delete("DiagnosticReport", fhir_server.one("DiagnosticReport")["id"])

    answer = await send(report(length=None))

    assert answer.summary.endswith("1 created 1 unchanged")


async def test_without_remembering_a_lagging_server_gets_a_second_one(fhir_server: FhirServer) -> None:
    out = sink(fhir_server.base_url, remember="0s")
    fhir_server.mode(lags=True)

    for _ in range(2):
        await out.send(outgoing(report()))

    assert len(fhir_server.all("DiagnosticReport")) == 2
    await out.close()


async def test_what_the_store_cannot_keep_now_is_known_and_kept_with_the_next(fhir_server: FhirServer) -> None:
    class Failing(MemoryState):
        fails = True

        async def put(self, values: Mapping[str, Any], keep: float | None = None) -> None:
            if self.fails:
                raise StoreUnavailable("the disk is full")
            await super().put(values, keep)

    state = Failing()
    out = sink(fhir_server.base_url, state)
    fhir_server.mode(lags=True)
    await out.send(outgoing(report()))
    again = await out.send(outgoing(report()))
    state.fails = False
    await out.send(outgoing(report("corrected", 11, length="9.0")))
    await out.send(outgoing(fhir.build_bundle([entry("Patient", "P2", "create")])))
    await out.close()

    fresh = sink(fhir_server.base_url, state)
    last = await fresh.send(outgoing(report("corrected", 11, length="9.0")))

    assert again.summary.endswith("3 unchanged") and last.summary.endswith("3 unchanged")
    assert len(fhir_server.all("DiagnosticReport")) == 1
    await fresh.close()


async def test_a_transaction_of_which_one_entry_failed_is_an_error_whatever_its_status_says(
    fhir_server: FhirServer,
) -> None:
    out = sink(fhir_server.base_url)
    entries: list[Any] = [{"response": {"status": "201 Created", "location": "Patient/1/_history/1"}}]
    issue = {"severity": "error", "code": "invariant", "diagnostics": "TESTPATIENT"}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    for status, kind in (("422", Permanent), ("412 Precondition Failed", Conflict), ("500", Temporary)):
        failed = [*entries, {"response": {"status": status, "outcome": outcome}}, entries[0]]
        fhir_server.mode(status=200, on="transaction", body={"resourceType": "Bundle", "entry": failed})

        with pytest.raises(kind) as caught:
            await out.send(outgoing(report()))

        assert caught.value.at == "Bundle.entry[1]"
        assert "TESTPATIENT" not in str(caught.value)
    await out.close()
