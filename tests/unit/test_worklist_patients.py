"""What messages about patients do to the worklist, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.errors import Permanent
from bridge.mapping import compile_all
from bridge.model import PatientUpdate, StepStatus, WorklistDocument, WorklistStep, WorklistUpdate
from bridge.store.database import Database
from bridge.store.worklist import Worklist
from bridge.store.worklist_tables import TABLES, metadata
from tests.rigs.need import REPOSITORY
from tests.rigs.worklist import query, scheduled

MAPPINGS = REPOSITORY / "mappings"
NEW = {"PatientName": "TESTNEW^ALICE", "PatientBirthDate": "19700109", "PatientSex": "F"}


class Bench:
    """A projection; each thing that is said is newer than the one before, unless its origin is given."""

    def __init__(self, database: Database) -> None:
        self.database, self.worklist, self.origin = database, Worklist(database.reader), 0

    def order(self, number: int, *, origin: int = 0, status: StepStatus = StepStatus.SCHEDULED, **changed: Any) -> str:
        said = scheduled(number, IssuerOfPatientID="H", **changed)
        if status is not StepStatus.SCHEDULED:
            said = WorklistUpdate(said.order, status, known_only=True)
        with self.database.writer.begin() as tx:
            return self.worklist.apply(tx, said, self._next(origin))

    def patient(self, *patients: str, retired: tuple[str, ...] = (), origin: int = 0, **attributes: Any) -> str:
        with self.database.writer.begin() as tx:
            return self.worklist.refresh(tx, PatientUpdate(patients, retired, attributes), self._next(origin))

    def _next(self, origin: int) -> int:
        self.origin += 1
        return origin or self.origin

    def item(self, number: int = 1) -> dict[str, Any]:
        every = tuple(StepStatus)
        (found,) = self.worklist.find(query(AccessionNumber=f"A{number}"), statuses=every)
        return found.attributes


@pytest.fixture
def bench(store_url: str) -> Iterator[Bench]:
    database = Database(store_url)
    metadata.create_all(database.writer, tables=TABLES)
    yield Bench(database)
    database.close()


def test_an_update_refreshes_every_open_item_of_the_patient_and_no_others(bench: Bench) -> None:
    bench.order(1, PatientID="P")
    bench.order(2, PatientID="P")
    bench.order(2, PatientID="P", status=StepStatus.STARTED)
    bench.order(3)

    assert bench.patient("P^H", **NEW) == "2 refreshed"

    for number in (1, 2):
        assert {key: bench.item(number)[key] for key in NEW} == NEW
    assert bench.item(3)["PatientName"] == "TEST00003^ÉLODIE"
    assert [found.attributes["AccessionNumber"] for found in bench.worklist.find(query(PatientName="testnew*"))] == [
        "A1",
        "A2",
    ]


@pytest.mark.parametrize("status", [StepStatus.COMPLETED, StepStatus.DISCONTINUED, StepStatus.CANCELLED])
def test_an_update_leaves_finished_items_as_they_were_done(bench: Bench, status: StepStatus) -> None:
    bench.order(1)
    bench.order(1, status=status)

    assert bench.patient("P1^H", retired=("P0^H",), **NEW) == "no open step of this patient"

    assert bench.item()["PatientName"] == "TEST00001^ÉLODIE"


def test_the_same_number_of_another_issuer_is_another_patient(bench: Bench) -> None:
    bench.order(1)

    assert bench.patient("P1^OTHER", "P1^", **NEW) == "no open step of this patient"

    assert bench.item()["PatientName"] == "TEST00001^ÉLODIE"


def test_what_an_update_does_not_name_stays_and_none_takes_it_away(bench: Bench) -> None:
    bench.order(1)

    bench.patient("P1^H", PatientSex=None)

    assert "PatientSex" not in bench.item()
    assert bench.item()["PatientBirthDate"] == "19700101"


def test_an_update_never_changes_the_identifier_of_an_item(bench: Bench) -> None:
    bench.order(1)

    bench.patient("P1^H", "99^GROUP", PatientID="99", IssuerOfPatientID="GROUP", **NEW)

    assert (bench.item()["PatientID"], bench.item()["IssuerOfPatientID"]) == ("P1", "H")


def test_a_merge_moves_items_to_the_survivor(bench: Bench) -> None:
    bench.order(1, OtherPatientIDsSequence=[{"PatientID": "7", "IssuerOfPatientID": "LAB"}])

    assert bench.patient("S", retired=("P1^H",), PatientID="S", **NEW) == "1 moved"

    assert bench.item()["PatientID"] == "S"
    assert "IssuerOfPatientID" not in bench.item()
    assert "OtherPatientIDsSequence" not in bench.item()
    assert bench.item()["PatientName"] == "TESTNEW^ALICE"
    assert list(bench.worklist.find(query(PatientID="P1"))) == []
    assert len(list(bench.worklist.find(query(PatientID="S")))) == 1


def test_a_merge_told_again_changes_nothing(bench: Bench) -> None:
    bench.order(1)
    bench.patient("S^H", retired=("P1^H",), PatientID="S", IssuerOfPatientID="H", **NEW)
    before = bench.item()

    assert bench.patient("S^H", retired=("P1^H",), PatientID="S", IssuerOfPatientID="H", **NEW) == "1 unchanged"

    assert bench.item() == before


def test_an_old_update_never_replaces_a_newer_one(bench: Bench) -> None:
    bench.order(1)
    bench.patient("P1^H", origin=20, **NEW)

    assert bench.patient("P1^H", origin=10, PatientName="TESTOLD^ALICE") == "1 superseded"

    assert bench.item()["PatientName"] == "TESTNEW^ALICE"


def test_an_old_merge_still_moves_but_brings_no_old_name(bench: Bench) -> None:
    bench.order(1)
    bench.patient("P1^H", origin=20, **NEW)

    bench.patient(
        "S^H", retired=("P1^H",), origin=10, PatientID="S", IssuerOfPatientID="H", PatientName="TESTOLD^ALICE"
    )

    assert (bench.item()["PatientID"], bench.item()["PatientName"]) == ("S", "TESTNEW^ALICE")


def test_an_older_order_change_keeps_the_newer_patient(bench: Bench) -> None:
    bench.order(1, origin=5)
    bench.patient("P1^H", origin=20, **NEW)

    bench.order(1, origin=10, RequestedProcedureDescription="CT abdomen")

    assert bench.item()["RequestedProcedureDescription"] == "CT abdomen"
    assert bench.item()["PatientName"] == "TESTNEW^ALICE"


def test_a_newer_order_brings_its_own_patient_data(bench: Bench) -> None:
    bench.order(1, origin=5)
    bench.patient("P1^H", origin=10, **NEW)

    bench.order(1, origin=20, PatientName="TESTNEWER^ALICE")

    assert bench.item()["PatientName"] == "TESTNEWER^ALICE"


def test_a_value_that_no_scanner_can_be_sent_is_refused(bench: Bench) -> None:
    bench.order(1)

    with pytest.raises(Permanent) as caught:
        bench.patient("P1^H", PatientBirthDate="soon")

    assert caught.value.at == "PatientBirthDate"
    assert bench.item()["PatientBirthDate"] == "19700101"


def test_a_document_keeps_patients_on_its_way() -> None:
    document = WorklistDocument(
        (WorklistUpdate(("placer:1^R",), StepStatus.SCHEDULED, (WorklistStep({"PatientID": "1"}),)),),
        (PatientUpdate(("S^H",), ("O^H",), {"PatientName": "TEST^ÉLODIE", "PatientSex": None}),),
    )

    assert WorklistDocument.from_json(document.to_json()) == document


# the mapping


def rendered(*pid: str) -> PatientUpdate:
    files = {
        path.relative_to(MAPPINGS).as_posix(): path.read_text(encoding="utf-8")
        for path in MAPPINGS.rglob("*")
        if path.suffix in (".yaml", ".csv")
    }
    mapping = compile_all(files).mappings["adt-to-worklist"]
    raw = "\r".join(["MSH|^~\\&|HIS|H|R|H|20260105||ADT^A08|C1|P|2.5.1", *pid, ""]).encode()
    document = WorklistDocument.from_json(mapping.render(parse(raw), {"site": {"name": "x"}}).data)
    return document.patients[0]


def test_an_empty_field_is_not_named_and_a_null_takes_the_value_away() -> None:
    empty, null = rendered("PID|||1^^^H||TEST^ALICE"), rendered('PID|||1^^^H||""||""|""')

    assert empty.attributes == {"PatientID": "1", "IssuerOfPatientID": "H", "PatientName": "TEST^ALICE"}
    assert null.attributes == {
        "PatientID": "1",
        "IssuerOfPatientID": "H",
        "PatientBirthDate": None,
        "PatientSex": None,
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("target: worklist\nmessages: [ADT]\npatient: {each: PID}\n", "`patient` needs `identifiers:`"),
        ("target: worklist\nmessages: [ADT]\npatient: PID\n", "`patient` needs `identifiers:`"),
        (
            "target: worklist\nmessages: [ADT]\npatient: {identifiers: PID-3}\nModality: PID-4\n",
            "`Modality` is no attribute of a patient",
        ),
        ("target: worklist\nmessages: [ADT]\npatient: {identifiers: PID-3, retired: MRG-1}\n", "retired"),
        ("target: worklist\nmessages: [ADT]\npatient: {identifiers: PID-3}\norder: {}\n", "order"),
    ],
)
def test_a_mistake_in_a_patient_mapping_is_a_finding(text: str, what: str) -> None:
    findings = compile_all({"m.yaml": text}).findings

    assert any(what in finding.what and finding.line for finding in findings), findings
