"""The shipped mappings into our own projection, on SQLite and on PostgreSQL: what other servers get, the facade has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge.codecs.fhir import decode
from bridge.codecs.formats import read_any
from bridge.errors import Permanent
from bridge.mapping.compile import compile_all
from tests.rigs.fhir import Facade, new_facade
from tests.rigs.need import REPOSITORY

MAPPINGS = REPOSITORY / "mappings"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
FILES = [*MAPPINGS.glob("*-to-fhir.yaml"), *(MAPPINGS / "tables").glob("*.csv")]
COMPILED = compile_all({str(file.relative_to(MAPPINGS)): file.read_text("utf-8") for file in sorted(FILES)}).mappings
KINDS = [
    ("adt-to-fhir", "adt_admitted.hl7"),
    ("adt-to-fhir", "adt_merge.hl7"),
    ("order-to-fhir", "orm_new_ct.hl7"),
    ("order-to-fhir", "orm_two_orders.hl7"),
    ("order-to-fhir", "omi_new_mr.hl7"),
    ("order-to-fhir", "omg_new_us.hl7"),
    ("siu-to-fhir", "siu_booked.hl7"),
    ("mpps-to-fhir", "mpps_created.json"),
    ("report-to-fhir", "oru_final.hl7"),
    ("mdm-to-fhir", "mdm_original.hl7"),
]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def projection(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    with new_facade(request, tmp_path_factory) as made:
        yield made


@pytest.fixture
def facade(projection: Facade) -> Facade:
    projection.clear()
    return projection


def say(facade: Facade, mapping: str, name: str, **fields: str) -> str:
    """Render a sample, with fields changed before, and write it."""
    message = read_any((MAPPINGS / "samples" / name).read_bytes())
    if fields:
        editor = message.edit()
        for field, value in fields.items():
            editor.set_er7(field.replace("_", "-"), value)
        message = read_any(editor.encode())
    return facade.apply(*decode(COMPILED[mapping].render(message, SITE).data)["entry"])


def only(facade: Facade, kind: str, *parameters: tuple[str, str]) -> dict[str, Any]:
    (found,) = facade.page(kind, *parameters).matches
    return decode(found.body)


def test_a_resend_of_every_kind_of_message_writes_nothing(facade: Facade) -> None:
    for mapping, name in KINDS:
        first = say(facade, mapping, name)
        newest = facade.fhir.newest()

        again = say(facade, mapping, name)

        assert "created" in first or "updated" in first
        assert "created" not in again and "updated" not in again
        assert facade.fhir.newest() == newest


def test_an_order_is_found_as_people_look_for_it_until_it_is_revoked(facade: Facade) -> None:
    say(facade, "order-to-fhir", "orm_accepted_ct.hl7")
    looked_for = [
        ("identifier", "urn:radbridge:demo-hospital:RIS|A1101"),
        ("subject:Patient.identifier", "urn:radbridge:demo-hospital:DEMO|P1101"),
        ("occurrence", "2026-01-06"),
        ("status", "active"),
    ]

    order = only(facade, "ServiceRequest", *looked_for)
    say(facade, "order-to-fhir", "orm_accepted_ct.hl7", ORC_1="CA", ORC_5="")

    assert order["priority"] == "stat"
    assert facade.found("ServiceRequest", *looked_for) == []
    assert only(facade, "ServiceRequest", looked_for[0])["status"] == "revoked"


def test_a_modality_moves_the_step_of_its_order(facade: Facade) -> None:
    seen = []
    for name in ("mpps_created.json", "mpps_completed.json"):
        say(facade, "mpps-to-fhir", name)
        order = only(facade, "ServiceRequest")
        seen.append(only(facade, "Task", ("based-on", f"ServiceRequest/{order['id']}"))["status"])

    assert seen == ["in-progress", "completed"]


def test_what_comes_under_a_merged_away_id_is_the_survivors(facade: Facade) -> None:
    say(facade, "adt-to-fhir", "adt_update.hl7")
    say(facade, "adt-to-fhir", "adt_merge.hl7")
    survivor = only(facade, "Patient", ("identifier", "urn:radbridge:demo-hospital:DEMO|P2001"))

    say(facade, "order-to-fhir", "orm_new_ct.hl7")
    say(facade, "adt-to-fhir", "adt_update.hl7")

    retired = only(facade, "Patient", ("identifier", "urn:radbridge:demo-hospital:DEMO|P1001"))
    assert retired["active"] is False
    assert only(facade, "ServiceRequest")["subject"] == {"reference": f"Patient/{survivor['id']}"}


def test_an_appointment_of_another_patients_order_is_refused(facade: Facade) -> None:
    say(facade, "order-to-fhir", "orm_new_ct.hl7")
    newest = facade.fhir.newest()

    with pytest.raises(Permanent) as caught:
        say(facade, "siu-to-fhir", "siu_booked.hl7", PID_3="P7777^^^DEMO^PI")

    assert caught.value.at == "ServiceRequest" and "P7777" not in str(caught.value)
    assert facade.fhir.newest() == newest


def test_provenance_is_found_by_what_it_is_about(facade: Facade) -> None:
    say(facade, "order-to-fhir", "orm_new_ct.hl7")
    order = only(facade, "ServiceRequest")

    written = only(facade, "Provenance", ("target", f"ServiceRequest/{order['id']}"))

    assert written["entity"][0]["what"]["identifier"]["value"] == "RIS|ORM0001"


def noted(mapping: str, name: str, kind: str, **notes: str) -> list[str]:
    """The notes of what a sample becomes, with an NTE after each of these segments."""
    lines = (MAPPINGS / "samples" / name).read_text("utf-8").replace("\n", "\r").split("\r")
    with_notes = (f"{line}\rNTE|1||{notes[line[:3]]}" if line[:3] in notes else line for line in lines)
    entries = decode(COMPILED[mapping].render(read_any("\r".join(with_notes).encode()), SITE).data)["entry"]
    resources = [one["resource"] for one in entries if one["resource"]["resourceType"] == kind]
    return [note["text"] for one in resources for note in one.get("note", [])]


def test_a_comment_is_told_once_by_whom_it_is_about() -> None:
    """Given notes about the patient, the order and each of its results."""
    order = noted("order-to-fhir", "orm_new_ct.hl7", "ServiceRequest", PID="Deaf", OBR="Since Monday")
    results = noted("report-to-fhir", "oru_values.hl7", "Observation", PID="Deaf", OBR="Since Monday", OBX="By hand")

    assert order == ["Since Monday"]
    assert set(results) == {"By hand"}
