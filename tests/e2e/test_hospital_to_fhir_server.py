"""Patients, orders, appointments and performed steps, through the shipped mappings to a third-party server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from bridge.codecs.formats import read_any
from bridge.errors import Permanent
from bridge.mapping.compile import MappingSet, compile_all
from bridge.message import Delivery
from bridge.ports import Outgoing, Services, channel_type
from tests.rigs.fhir_server import FhirServer, fhir_server, fhir_server_process
from tests.rigs.need import REPOSITORY

__all__ = ["fhir_server", "fhir_server_process"]

MAPPINGS = REPOSITORY / "mappings"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
Send = Callable[..., Awaitable[str]]
STORY = [
    ("adt-to-fhir", "adt_admitted.hl7"),
    ("order-to-fhir", "omg_placed_ct.hl7"),
    ("order-to-fhir", "orm_accepted_ct.hl7"),
    ("order-to-fhir", "orm_two_orders.hl7"),
    ("order-to-fhir", "omi_new_mr.hl7"),
    ("siu-to-fhir", "siu_booked.hl7"),
    ("siu-to-fhir", "siu_moved.hl7"),
    ("mpps-to-fhir", "mpps_created.json"),
    ("report-to-fhir", "oru_final.hl7"),
    ("mdm-to-fhir", "mdm_original.hl7"),
    ("adt-to-fhir", "adt_merge.hl7"),
]


@pytest.fixture(scope="module")
def mappings() -> MappingSet:
    files = [*MAPPINGS.glob("*-to-fhir.yaml"), *(MAPPINGS / "tables").glob("*.csv")]
    return compile_all({str(file.relative_to(MAPPINGS)): file.read_text("utf-8") for file in sorted(files)})


@pytest.fixture
async def send(fhir_server: FhirServer, mappings: MappingSet) -> AsyncIterator[Send]:
    """Render a sample, with fields changed before, and send it: what the channel tells of it."""
    kind = channel_type("fhir-out")
    out = kind.build(
        kind.settings(type="fhir-out", base_url=fhir_server.base_url), Services(name="his-fhir", site=None)
    )
    delivery = Delivery("d1", "m1", 20260106, "all", "his-fhir", "a-mapping", "r1", ("patient:P1101",))

    async def bring(mapping: str, name: str, **fields: str) -> str:
        message = read_any((MAPPINGS / "samples" / name).read_bytes())
        if fields:
            editor = message.edit()
            for field, value in fields.items():
                editor.set_er7(field.replace("_", "-"), value)
            message = read_any(editor.encode())
        rendered = mappings.mappings[mapping].render(message, SITE)
        answer = await out.send(Outgoing(rendered.data, delivery, rendered.control_id, rendered.format))
        return str(answer.summary)

    yield bring
    await out.close()


def counts(server: FhirServer) -> dict[str, int]:
    return {kind: len(some) for kind, some in server.state().items()}


def numbers(resource: dict[str, Any]) -> set[str]:
    return {one["value"] for one in resource["identifier"]}


async def test_a_resend_of_every_kind_of_message_writes_nothing(fhir_server: FhirServer, send: Send) -> None:
    written = set()
    for mapping, name in STORY:
        await send(mapping, name)
        state, history = fhir_server.state(), fhir_server.history()

        again = await send(mapping, name)

        assert again.startswith("nothing to write"), name
        assert (fhir_server.state(), fhir_server.history()) == (state, history)
        written |= state.keys()

    assert written >= {"Patient", "Encounter", "ServiceRequest", "Appointment", "Task", "ImagingStudy", "Procedure"}


async def test_another_interface_that_sends_it_again_under_another_number_writes_nothing(
    fhir_server: FhirServer, send: Send
) -> None:
    await send("order-to-fhir", "orm_accepted_ct.hl7")
    state = fhir_server.state()

    await send("order-to-fhir", "orm_accepted_ct.hl7", MSH_7="20270101000000", MSH_10="ANOTHER-1")

    assert fhir_server.state() == state


async def test_the_numbers_of_hospital_and_ris_meet_in_one_order_and_none_is_lost(
    fhir_server: FhirServer, send: Send
) -> None:
    await send("order-to-fhir", "omg_placed_ct.hl7")
    await send("order-to-fhir", "orm_accepted_ct.hl7")
    await send("order-to-fhir", "omg_placed_ct.hl7", ORC_1="XO", TQ1_7="20260107")

    order = fhir_server.one("ServiceRequest")
    assert numbers(order) == {"PL1101", "FL1101", "A1101"}
    assert order["occurrenceDateTime"] == "2026-01-07"
    assert order["note"] == [{"text": "Since Monday"}]
    assert counts(fhir_server)["Patient"] == counts(fhir_server)["Encounter"] == 1


async def test_a_late_new_order_never_revives_a_cancelled_one(fhir_server: FhirServer, send: Send) -> None:
    await send("order-to-fhir", "orm_accepted_ct.hl7", ORC_1="CA", ORC_5="")

    late = await send("order-to-fhir", "omg_placed_ct.hl7")

    order = fhir_server.one("ServiceRequest")
    assert order["status"] == "revoked"
    assert "superseded" in late or "updated" in late


async def test_an_order_is_held_released_done_and_given_back(fhir_server: FhirServer, send: Send) -> None:
    statuses = []
    for control, status in (("NW", "SC"), ("HD", ""), ("RL", ""), ("SC", "CM"), ("XO", "SC"), ("SC", "SC"), ("CA", "")):
        await send("order-to-fhir", "orm_accepted_ct.hl7", ORC_1=control, ORC_5=status)
        statuses.append(fhir_server.one("ServiceRequest")["status"])

    assert statuses == ["active", "on-hold", "active", "completed", "completed", "active", "revoked"]


async def test_a_discharge_ends_a_visit_until_it_is_taken_back(fhir_server: FhirServer, send: Send) -> None:
    seen = []
    for event, left in (("A01", ""), ("A03", "20260108100000"), ("A01", ""), ("A08", ""), ("A13", ""), ("A11", "")):
        await send("adt-to-fhir", "adt_admitted.hl7", MSH_9=f"ADT^{event}", PV1_45=left)
        visit = fhir_server.one("Encounter")
        seen.append((event, visit["status"], visit["period"].get("end", "")))

    left = "2026-01-08T10:00:00+01:00"
    assert seen == [
        ("A01", "in-progress", ""),
        ("A03", "finished", left),
        ("A01", "finished", left),
        ("A08", "finished", left),
        ("A13", "in-progress", ""),
        ("A11", "cancelled", ""),
    ]


async def test_only_the_owner_of_identity_changes_a_patient(fhir_server: FhirServer, send: Send) -> None:
    await send("adt-to-fhir", "adt_admitted.hl7")
    await send("order-to-fhir", "orm_accepted_ct.hl7", PID_5="OTHERNAME^ALICE", PID_7="19690101")
    assert fhir_server.one("Patient")["name"][0]["family"] == "TESTPATIENT"

    await send("adt-to-fhir", "adt_admitted.hl7", MSH_9="ADT^A08", PID_5="NEWNAME^HÉLÈNE")

    patient = fhir_server.one("Patient")
    assert patient["name"][0]["family"] == "NEWNAME" and patient["birthDate"] == "1970-01-02"


async def test_a_null_deletes_and_an_empty_field_changes_nothing(fhir_server: FhirServer, send: Send) -> None:
    await send("adt-to-fhir", "adt_admitted.hl7")

    await send("adt-to-fhir", "adt_admitted.hl7", MSH_9="ADT^A08", PID_11='""', PID_13="", PID_14="")

    patient = fhir_server.one("Patient")
    assert "address" not in patient
    assert len(patient["telecom"]) == 2


async def test_what_comes_under_a_merged_away_id_is_about_the_survivor(fhir_server: FhirServer, send: Send) -> None:
    await send("adt-to-fhir", "adt_update.hl7")
    await send("order-to-fhir", "orm_new_ct.hl7")
    await send("adt-to-fhir", "adt_merge.hl7")

    revived = await send("adt-to-fhir", "adt_update.hl7")
    await send("order-to-fhir", "orm_new_ct.hl7", ORC_1="XO")
    await send("order-to-fhir", "orm_new_ct.hl7", ORC_2="PL1009^RIS", ORC_3="FL1009^RIS", OBR_2="", OBR_3="")

    people = {id: one.get("active", True) for id, one in fhir_server.state()["Patient"].items()}
    (survivor,) = [id for id, active in people.items() if active]
    (retired,) = [one for one in fhir_server.all("Patient") if not one.get("active", True)]
    assert "superseded" in revived
    assert retired["link"] == [{"other": {"reference": f"Patient/{survivor}"}, "type": "replaced-by"}]
    assert {one["subject"]["reference"] for one in fhir_server.all("ServiceRequest")} == {f"Patient/{survivor}"}


async def test_an_order_of_another_patient_is_refused_and_nobody_is_named(fhir_server: FhirServer, send: Send) -> None:
    await send("order-to-fhir", "orm_new_ct.hl7")
    state = fhir_server.state()

    with pytest.raises(Permanent) as caught:
        await send("order-to-fhir", "orm_new_ct.hl7", PID_3="P7777^^^DEMO^PI", PID_5="OTHERNAME^ALICE", PV1_19="")

    assert caught.value.at == "ServiceRequest"
    assert "P7777" not in str(caught.value) and "OTHERNAME" not in str(caught.value)
    assert fhir_server.state() == state


async def test_an_appointment_is_moved_cancelled_and_booked_anew(fhir_server: FhirServer, send: Send) -> None:
    await send("order-to-fhir", "orm_new_ct.hl7")
    order = fhir_server.one("ServiceRequest")

    seen = []
    for name in ("siu_booked.hl7", "siu_moved.hl7", "siu_cancelled.hl7", "siu_booked.hl7", "siu_moved.hl7"):
        await send("siu-to-fhir", name)
        appointment = fhir_server.one("Appointment")
        seen.append((appointment["status"], appointment["start"]))

    first, moved = "2026-01-07T14:30:00+01:00", "2026-01-08T09:00:00+01:00"
    assert seen == [
        ("booked", first), ("booked", moved), ("cancelled", moved), ("cancelled", moved), ("booked", moved),
    ]  # fmt: skip
    assert fhir_server.one("ServiceRequest") == order
    assert appointment["basedOn"] == [{"reference": f"ServiceRequest/{order['id']}"}]


async def test_a_step_moves_with_the_modality_and_is_requested_again_when_it_is_given_back(
    fhir_server: FhirServer, send: Send
) -> None:
    seen = []
    for name in ("mpps_created.json", "mpps_wrong_entry.json", "mpps_created.json", "mpps_completed.json"):
        await send("mpps-to-fhir", name)
        seen.append(fhir_server.one("Task")["status"])

    assert seen == ["in-progress", "requested", "in-progress", "completed"]
    assert counts(fhir_server)["ImagingStudy"] == counts(fhir_server)["ServiceRequest"] == 1


async def test_provenance_names_the_message_that_wrote_and_only_what_it_wrote(
    fhir_server: FhirServer, send: Send
) -> None:
    await send("adt-to-fhir", "adt_admitted.hl7")
    await send("order-to-fhir", "orm_accepted_ct.hl7")

    written = {
        one["entity"][0]["what"]["identifier"]["value"]: {it["reference"].partition("/")[0] for it in one["target"]}
        for one in fhir_server.all("Provenance")
    }
    assert written == {"HIS|ADT1101": {"Patient", "Encounter"}, "RIS|ORM1101": {"ServiceRequest"}}
