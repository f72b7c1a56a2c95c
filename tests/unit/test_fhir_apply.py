"""A mapping's bundle written into the FHIR projection, on SQLite and on PostgreSQL: by the rules of fhir-out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.codecs.fhir import Entry, build_bundle, decode
from bridge.errors import Permanent
from tests.rigs.fhir import Facade, Json, identifier, new_facade, order, patient, put, report


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def facade(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    """One for all: each test has patients and orders of its own."""
    with new_facade(request, tmp_path_factory) as made:
        yield made


TYPES = {"O": "PLAC", "PLACER": "PLAC", "FILLER": "FILL", "ACCESSION": "ACSN"}


class Case:
    """What systems say of one patient and his orders; numbers that no other test has."""

    def __init__(self, facade: Facade, number: int) -> None:
        self.facade, self.number = facade, number

    def number_of(self, text: str) -> str:
        return f"{text}-{self.number}"

    def say(self, *entries: Entry) -> str:
        return self.facade.apply(*decode(build_bundle(entries))["entry"])

    def patient(self, name: str = "P", write: str = "create", **more: object) -> Entry:
        resource = {**patient(1), "identifier": [identifier("his", self.number_of(name))], **more}
        return self._entry(name, resource, write)

    def order(self, *numbers: str, of: str = "P", write: str = "update", **more: object) -> Entry:
        ids = [
            {**identifier("orders", self.number_of(one)), "type": {"coding": [{"code": TYPES[one.strip("012")]}]}}
            for one in numbers
        ]
        return self._entry(f"order {numbers}", {**order(1, f"entry:{of}"), "identifier": ids, **more}, write)

    def report(self, status: str, of: str = "P", **more: object) -> Entry:
        resource = {**report(1, status, f"entry:{of}"), "identifier": [identifier("ris", self.number_of("R"))], **more}
        return self._entry("report", resource, "update")

    def _entry(self, name: str, resource: Json, write: str) -> Entry:
        tokens = [f"{one['system']}|{one['value']}" for one in resource["identifier"]]
        return Entry(name, resource, "create" if write == "create" else "update", f"identifier={','.join(tokens)}")

    def bodies(self, kind: str, system: str, name: str) -> list[Json]:
        found = self.facade.page(kind, ("identifier", f"urn:{system}|{self.number_of(name)}"))
        return [decode(one.body) for one in found.matches]

    def only(self, kind: str, system: str, name: str) -> Json:
        (one,) = self.bodies(kind, system, name)
        return one


NUMBERS = iter(range(1, 1000))


@pytest.fixture
def case(facade: Facade) -> Case:
    return Case(facade, next(NUMBERS))


def test_a_bundle_is_written_with_its_references(case: Case) -> None:
    assert case.say(case.patient(), case.order("O1"), case.report("final")) == "3 created"

    his = case.only("Patient", "his", "P")
    assert case.only("ServiceRequest", "orders", "O1")["subject"] == {"reference": f"Patient/{his['id']}"}
    assert case.only("DiagnosticReport", "ris", "R")["subject"] == {"reference": f"Patient/{his['id']}"}


def test_a_resend_writes_nothing(case: Case) -> None:
    said = (case.patient(), case.order("O1"), case.report("final"))
    case.say(*said)
    newest = case.facade.fhir.newest()

    assert case.say(*said) == "3 unchanged"
    assert case.facade.fhir.newest() == newest


def test_a_late_preliminary_never_replaces_a_final(case: Case) -> None:
    case.say(case.patient(), case.report("final"))

    assert "1 superseded" in case.say(case.patient(), case.report("preliminary"))
    assert case.only("DiagnosticReport", "ris", "R")["status"] == "final"


def test_an_order_of_another_patient_is_refused_and_nothing_is_written(case: Case) -> None:
    case.say(case.patient(), case.order("O1"))
    newest = case.facade.fhir.newest()

    with pytest.raises(Permanent):
        case.say(case.patient("Q"), case.order("O1", of="Q"))

    assert case.facade.fhir.newest() == newest


def test_numbers_of_one_order_that_two_systems_told_meet_in_one(case: Case) -> None:
    # Given an order that the hospital knows by its number, the same one by that of the radiology, and its report
    case.say(case.patient(), case.order("PLACER", priority="urgent"))
    case.say(case.patient(), case.order("FILLER", status="completed"))
    filler = case.only("ServiceRequest", "orders", "FILLER")
    case.facade.write(put(report(1, id=case.number_of("r"), basedOn=[{"reference": f"ServiceRequest/{filler['id']}"}])))

    # When a message names both
    said = case.say(case.patient(), case.order("PLACER", "FILLER", write="create"))

    # Then the older one has both numbers and what both said, and the report refers to it
    assert "1 joined" in said
    kept = case.only("ServiceRequest", "orders", "FILLER")
    assert kept == case.only("ServiceRequest", "orders", "PLACER")
    assert (kept["status"], kept["priority"]) == ("completed", "urgent")
    assert kept["replaces"] == [{"reference": f"ServiceRequest/{filler['id']}"}]
    based = case.facade.body("DiagnosticReport", case.number_of("r"))["basedOn"]
    assert based == [{"reference": f"ServiceRequest/{kept['id']}"}]
    # and the other one says of itself that it was a mistake
    assert case.facade.body("ServiceRequest", filler["id"])["status"] == "entered-in-error"
    # and saying it again changes nothing
    newest = case.facade.fhir.newest()
    case.say(case.patient(), case.order("PLACER", "FILLER", write="create"))
    assert case.facade.fhir.newest() == newest


def test_orders_that_only_share_an_accession_number_stay_apart(case: Case) -> None:
    # Given two orders of one exam
    for name in ("PLACER1", "PLACER2"):
        assert case.say(case.patient(), case.order(name, "ACCESSION")).startswith(("1 created", "2 created"))
    assert len(case.bodies("ServiceRequest", "orders", "ACCESSION")) == 2

    # When a message tells of the second
    said = case.say(case.patient(), case.order("PLACER2", "ACCESSION", status="completed"))

    # Then the first is what it was
    assert "joined" not in said
    assert case.only("ServiceRequest", "orders", "PLACER1")["status"] == "active"
    assert case.only("ServiceRequest", "orders", "PLACER2")["status"] == "completed"
    # and one that names nothing but what they share waits for a person
    with pytest.raises(Permanent):
        case.say(case.patient(), case.order("ACCESSION", status="completed"))


def test_a_number_that_a_report_adds_to_its_order_is_learned(case: Case) -> None:
    case.say(case.patient(), case.order("PLACER"))

    case.say(case.patient(), case.order("PLACER", "FILLER", write="create", status="completed"))

    known = case.only("ServiceRequest", "orders", "FILLER")
    assert len(known["identifier"]) == 2
    assert known["status"] == "active"


def test_orders_of_two_patients_are_not_joined(case: Case) -> None:
    case.say(case.patient(), case.order("PLACER"))
    case.say(case.patient("Q"), case.order("FILLER", of="Q"))
    newest = case.facade.fhir.newest()

    with pytest.raises(Permanent) as error:
        case.say(case.patient(), case.order("PLACER", "FILLER"))

    assert error.value.at == "ServiceRequest"
    assert case.facade.fhir.newest() == newest


def test_what_is_said_of_a_merged_patient_is_said_of_the_survivor(case: Case) -> None:
    # Given P, who was merged into Q
    case.say(case.patient("P"))
    case.say(case.patient("Q"))
    retired, survivor = case.only("Patient", "his", "P"), case.only("Patient", "his", "Q")
    link = [{"other": {"reference": f"Patient/{survivor['id']}"}, "type": "replaced-by"}]
    case.facade.write(put({**retired, "active": False, "link": link}))

    # When an order still names P
    case.say(case.patient("P"), case.order("O1"))

    # Then it is an order of Q
    assert case.only("ServiceRequest", "orders", "O1")["subject"] == {"reference": f"Patient/{survivor['id']}"}


def test_orders_of_a_patient_and_of_whom_he_was_merged_into_are_joined(case: Case) -> None:
    case.say(case.patient("P"), case.order("PLACER"))
    case.say(case.patient("Q"), case.order("FILLER", of="Q"))
    retired, survivor = case.only("Patient", "his", "P"), case.only("Patient", "his", "Q")
    link = [{"other": {"reference": f"Patient/{survivor['id']}"}, "type": "replaced-by"}]
    case.facade.write(put({**retired, "active": False, "link": link}))

    assert "1 joined" in case.say(case.patient("Q"), case.order("PLACER", "FILLER", of="Q"))


def test_several_patients_with_one_identifier_wait_for_a_person(case: Case) -> None:
    his = [identifier("his", case.number_of("P"))]
    case.facade.write(*(put(patient(1, id=case.number_of(name), identifier=his)) for name in "ab"))

    with pytest.raises(Permanent) as error:
        case.say(case.patient(), case.order("O1"))

    assert error.value.kind == "duplicate_key"


@pytest.mark.parametrize("bundle", [{}, {"type": "batch", "entry": [{}]}, {"type": "transaction"}])
def test_what_is_no_transaction_is_dead(facade: Facade, bundle: Json) -> None:
    with pytest.raises(Permanent):
        facade.store.write(lambda tx: facade.fhir.apply(tx, bundle, message="m", at=1))
