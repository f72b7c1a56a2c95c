"""Orders that modalities carry out: what their steps' ends do to them, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import delete

from bridge.codecs.fhir import decode
from bridge.codecs.formats import read_any
from bridge.codecs.hl7v2 import parse
from bridge.codecs.performed import Event, encode_event
from bridge.codecs.performed_order import unsaid
from bridge.mapping.compile import compile_all
from bridge.model import WorklistDocument
from bridge.store.worklist_tables import TABLES
from tests.rigs.fhir import Facade, create, new_facade
from tests.rigs.need import REPOSITORY
from tests.rigs.performed import after, created, ended, event, order
from tests.rigs.radiology import hl7, pid, segment

MAPPINGS = REPOSITORY / "mappings"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
WANTED = [
    *(MAPPINGS / f"{name}.yaml" for name in ("order-to-worklist", "order-to-fhir", "mpps-to-fhir", "report-to-fhir")),
    *(MAPPINGS / "tables").glob("*.csv"),
]
COMPILED = compile_all({str(file.relative_to(MAPPINGS)): file.read_text("utf-8") for file in sorted(WANTED)}).mappings


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def projection(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    with new_facade(request, tmp_path_factory) as made:
        yield made


@pytest.fixture
def facade(projection: Facade) -> Facade:
    projection.clear()
    projection.store.write(lambda tx: [tx.execute(delete(table)) for table in TABLES])
    return projection


def place(
    facade: Facade, *steps: int, control: str = "NW", listed: bool = True, status: str = "SC", studies: int = 1
) -> None:
    """The RIS speaks of order F1 with these steps, of one study or a study for each."""
    numbers = {2: "1^RIS", 3: "F1^RIS"}
    orc = segment("ORC", {1: control, **numbers, 5: status, 7: "^^^20260105093000", 18: "CT1"})
    exam = {1: "1", **numbers, 4: "CTHEAD^CT head^99DEMO", 18: "A1", 19: "R1", 24: "CT"}
    uids = [min(step, studies) for step in steps]
    groups = [
        (orc, segment("OBR", {**exam, 20: f"S{step}"}), segment("ZDS", {1: f"1.2.826.0.1.{uid}^^Application^DICOM"}))
        for step, uid in zip(steps, uids, strict=True)
    ]
    message = parse(hl7("ORM^O01", f"{control}1", pid("P1"), *(line for group in groups for line in group)))
    if listed:
        document = WorklistDocument.from_json(COMPILED["order-to-worklist"].render(message, SITE).data)
        write = facade.store.write
        write(lambda tx: [facade.store.worklist.apply(tx, one, facade.clock) for one in document.updates])
    facade.apply(*decode(COMPILED["order-to-fhir"].render(message, SITE).data)["entry"])


def tell(facade: Facade, told: Event) -> Event:
    message = read_any(encode_event(told))
    facade.apply(*decode(COMPILED["mpps-to-fhir"].render(message, SITE).data)["entry"])
    return told


def perform(facade: Facade, step: int, status: str = "COMPLETED", reason: str = "") -> None:
    """A modality begins a step and ends it."""
    item = {**order(1), "PatientID": "P1", "IssuerOfPatientID": "HOSP"}
    ris = [{"LocalNamespaceEntityID": "RIS"}]
    item |= {"OrderPlacerIdentifierSequence": ris, "OrderFillerIdentifierSequence": ris}
    said = created(order(1, ScheduledProcedureStepID=f"S{step}"))
    known = unsaid(event(said).told, [item])
    begun = tell(facade, event(said, instance=f"1.2.{step}", ordered=known))
    tell(facade, event(ended(status, reason), after(begun), instance=f"1.2.{step}"))


def status(facade: Facade) -> str:
    (found,) = facade.page("ServiceRequest", ("identifier", "A1")).matches
    body: dict[str, Any] = decode(found.body)
    return str(body["status"])


def test_the_only_step_completes_its_order(facade: Facade) -> None:
    place(facade, 1)

    perform(facade, 1)

    assert status(facade) == "completed"


def test_of_several_steps_the_last_one_does(facade: Facade) -> None:
    place(facade, 1, 2)

    perform(facade, 1)
    before = status(facade)
    perform(facade, 2)

    assert (before, status(facade)) == ("active", "completed")


def test_a_step_of_a_study_that_nobody_has_begun_is_one_of_them_too(facade: Facade) -> None:
    place(facade, 1, 2, studies=2)

    perform(facade, 1)

    assert status(facade) == "active"


def test_what_somebody_else_has_done_for_an_order_is_no_step_of_it(facade: Facade) -> None:
    place(facade, 1, 2)
    (named,) = facade.found("ServiceRequest", ("identifier", "A1"))
    task = {"resourceType": "Task", "status": "completed", "intent": "order"}
    facade.write(create({**task, "focus": {"reference": f"ServiceRequest/{named}"}}))

    perform(facade, 1)

    assert status(facade) == "active"


def test_a_step_that_was_given_back_leaves_its_order_open(facade: Facade) -> None:
    place(facade, 1)

    perform(facade, 1, "DISCONTINUED", "110514")
    assert status(facade) == "active"

    perform(facade, 1)
    assert status(facade) == "completed"


def test_a_discontinued_step_completes_nothing(facade: Facade) -> None:
    place(facade, 1)

    perform(facade, 1, "DISCONTINUED")

    assert status(facade) == "active"


def test_an_order_that_the_worklist_does_not_know_is_completed_by_its_own_messages_alone(facade: Facade) -> None:
    place(facade, 1, listed=False)
    perform(facade, 1)
    assert status(facade) == "active"

    place(facade, 1, control="SC", status="CM")
    assert status(facade) == "completed"


def test_what_is_told_again_writes_nothing(facade: Facade) -> None:
    place(facade, 1)
    perform(facade, 1)
    newest = facade.fhir.newest()

    perform(facade, 1)

    assert facade.fhir.newest() == newest


def test_only_the_step_that_is_given_back_now_reopens_an_order(facade: Facade) -> None:
    """Given an order with a step that was given back, completed by the RIS all the same."""
    place(facade, 1, listed=False)
    perform(facade, 1, "DISCONTINUED", "110514")
    place(facade, 1, listed=False, control="SC", status="CM")

    perform(facade, 2)

    assert status(facade) == "completed"
