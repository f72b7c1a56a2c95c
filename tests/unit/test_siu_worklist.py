"""What appointments do to the worklist, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bridge.errors import Permanent
from bridge.model import (
    AppointmentStatus,
    AppointmentUpdate,
    PatientUpdate,
    StepStatus,
    WorklistDocument,
    WorklistStep,
    WorklistUpdate,
)
from bridge.store.database import Database
from bridge.store.worklist import Worklist
from bridge.store.worklist_tables import TABLES, metadata
from tests.rigs.worklist import attributes, query, scheduled

DATE, TIME, STATION = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime", "ScheduledStationAETitle"
ORDERED = ("20260105", "0930", "CT1")
SLOT = {DATE: "20260107", TIME: "1430", STATION: "CT2", "ScheduledProcedureStepLocation": "ROOM 2"}
BOOKED = ("20260107", "1430", "CT2")
LATER = {DATE: "20260108", TIME: "0900"}


class Bench:
    """A projection; each thing that is said is newer than the one before, unless its origin is given."""

    def __init__(self, database: Database) -> None:
        self.database, self.worklist, self.origin = database, Worklist(database.reader), 0

    def order(self, update: WorklistUpdate, origin: int = 0) -> str:
        with self.database.writer.begin() as tx:
            return self.worklist.apply(tx, update, self._next(origin))

    def says(self, status: StepStatus, number: int = 1) -> str:
        return self.order(WorklistUpdate((f"filler:{number}^RIS",), status, known_only=True))

    def book(
        self, slot: dict[str, Any], number: int = 1, appointment: str = "AP1^S", origin: int = 0, service: str = ""
    ) -> str:
        return self._appointment(number, appointment, AppointmentStatus.BOOKED, slot, origin, service)

    def free(
        self,
        number: int = 1,
        appointment: str = "AP1^S",
        origin: int = 0,
        status: AppointmentStatus = AppointmentStatus.FREED,
    ) -> str:
        return self._appointment(number, appointment, status, {}, origin)

    def _appointment(
        self,
        number: int,
        appointment: str,
        status: AppointmentStatus,
        slot: dict[str, Any],
        origin: int,
        service: str = "",
    ) -> str:
        said = AppointmentUpdate((f"placer:{number}^HIS",), appointment, status, slot, service)
        with self.database.writer.begin() as tx:
            return self.worklist.book(tx, said, self._next(origin))

    def _next(self, origin: int) -> int:
        self.origin += 1
        return origin or self.origin

    def listed(self, **step: Any) -> list[tuple[str, str, str]]:
        """Date, time and station of what a scanner sees."""
        found = [item.attributes["ScheduledProcedureStepSequence"][0] for item in self.worklist.find(query(step=step))]
        return [(one[DATE], one[TIME], one[STATION]) for one in found]

    def status(self) -> StepStatus:
        (item,) = self.worklist.find(query(), statuses=tuple(StepStatus))
        return item.status


@pytest.fixture
def bench(store_url: str) -> Iterator[Bench]:
    database = Database(store_url)
    metadata.create_all(database.writer, tables=TABLES)
    yield Bench(database)
    database.close()


def test_an_appointment_puts_the_step_at_its_time_and_station(bench: Bench) -> None:
    bench.order(scheduled(1))

    assert bench.book(SLOT) == "1 moved"

    assert bench.listed() == [BOOKED]
    assert bench.listed(**{STATION: "CT1"}) == []
    assert bench.listed(**{STATION: "CT2", DATE: "20260107"}) == [BOOKED]


def test_an_appointment_that_comes_before_its_order_is_kept_for_it(bench: Bench) -> None:
    assert bench.book(SLOT) == "kept for the order that comes"

    assert bench.order(scheduled(1)) == "1 scheduled"

    assert bench.listed(**{STATION: "CT2"}) == [BOOKED]


def test_a_move_keeps_what_it_does_not_name(bench: Bench) -> None:
    bench.order(scheduled(1))
    bench.book(SLOT)

    assert bench.book(LATER) == "1 moved"

    assert bench.listed() == [("20260108", "0900", "CT2")]


def test_a_booked_station_does_not_keep_the_name_of_the_ordered_one(bench: Bench) -> None:
    bench.order(scheduled(1, {"ScheduledStationName": "CT-1"}))

    bench.book(SLOT)

    (item,) = bench.worklist.find(query())
    step = item.attributes["ScheduledProcedureStepSequence"][0]
    assert "ScheduledStationName" not in step
    assert step["ScheduledProcedureStepLocation"] == "ROOM 2"
    assert step["ScheduledProcedureStepDescription"] == "CT thorax"


def test_the_time_of_an_order_that_is_sent_again_does_not_move_what_is_booked(bench: Bench) -> None:
    # Given a booked step
    bench.order(scheduled(1))
    bench.book(SLOT)
    # When the order is changed, with another time of its own
    changed = replace(scheduled(1, {TIME: "1700"}, PatientWeight="70"), known_only=True)
    assert bench.order(changed) == "1 changed"
    assert bench.order(replace(scheduled(1, {TIME: "1800"}, PatientWeight="70"), known_only=True)) == "1 kept (booked)"
    # Then the change is taken in, and the appointment's time stays
    (item,) = bench.worklist.find(query())
    assert item.attributes["PatientWeight"] == "70"
    assert bench.listed() == [BOOKED]
    # And the order's own time counts once the appointment is gone for good
    bench.free(status=AppointmentStatus.OPEN)
    assert bench.listed() == [("20260105", "1800", "CT1")]


def test_a_freed_slot_is_empty_and_the_step_waits_until_it_is_booked_anew(bench: Bench) -> None:
    bench.order(scheduled(1))
    bench.book(SLOT)

    assert bench.free() == "1 waiting"

    assert bench.listed() == []
    assert bench.status() is StepStatus.WAITING
    assert bench.book(LATER) == "1 scheduled"
    assert bench.listed() == [("20260108", "0900", "CT1")]


def test_an_order_that_says_so_after_the_slot_was_freed_is_listed_again(bench: Bench) -> None:
    bench.order(scheduled(1))
    bench.book(SLOT)
    bench.free()

    assert bench.order(replace(scheduled(1, {TIME: "1700"}), known_only=True)) == "1 scheduled"

    assert bench.listed() == [("20260105", "1700", "CT1")]


def test_an_older_order_that_comes_late_does_not_take_a_freed_slot(bench: Bench) -> None:
    bench.book(SLOT, origin=4)
    bench.free(origin=5)

    assert bench.order(scheduled(1), origin=3) == "1 waiting"
    assert bench.listed() == []

    assert bench.book(LATER, origin=6) == "1 scheduled"
    assert bench.listed() == [("20260108", "0900", "CT1")]


def test_an_old_appointment_that_is_replayed_changes_nothing(bench: Bench) -> None:
    bench.order(scheduled(1))
    bench.book(SLOT, origin=10)
    bench.book(LATER, origin=11)
    bench.free(origin=12)

    assert bench.book(SLOT, origin=10) == "1 superseded"

    assert bench.status() is StepStatus.WAITING


def test_the_end_of_one_appointment_leaves_what_another_one_booked(bench: Bench) -> None:
    # Given a step that was booked anew before its first appointment is taken away
    bench.order(scheduled(1))
    bench.book(SLOT, appointment="AP1^S")
    bench.book(LATER, appointment="AP2^S")
    # When the first one goes
    assert bench.free(appointment="AP1^S") == "1 unchanged"
    # Then the step stays where the second one has it, until that goes too
    assert bench.listed() == [("20260108", "0900", "CT1")]
    assert bench.free(appointment="AP2^S") == "1 waiting"


def test_an_appointment_that_comes_late_counts_as_if_it_had_come_in_time(bench: Bench) -> None:
    # Given a step whose first appointment was taken away
    bench.order(scheduled(1), origin=1)
    bench.book(SLOT, appointment="AP1^S", origin=2)
    bench.free(appointment="AP1^S", origin=5)
    # When another one, made before that, is delivered after it
    assert bench.book(LATER, appointment="AP2^S", origin=4) == "1 scheduled"
    # Then the step is where it says
    assert bench.listed() == [("20260108", "0900", "CT1")]


def test_a_cancellation_that_comes_late_holds_whatever_its_appointments_say(bench: Bench) -> None:
    bench.order(scheduled(1), origin=1)
    bench.free(origin=5)

    bench.order(WorklistUpdate(("filler:1^RIS",), StepStatus.CANCELLED, known_only=True), origin=4)

    assert bench.status() is StepStatus.CANCELLED
    assert bench.book(LATER, origin=6) == "1 kept (cancelled)"


@pytest.mark.parametrize(
    "status", [StepStatus.STARTED, StepStatus.COMPLETED, StepStatus.CANCELLED, StepStatus.DISCONTINUED]
)
def test_what_has_begun_or_ended_is_left_alone(bench: Bench, status: StepStatus) -> None:
    bench.order(scheduled(1))
    bench.says(status)

    assert bench.book(SLOT) == f"1 kept ({status})"
    assert bench.free() == f"1 kept ({status})"

    assert bench.status() is status


def test_an_appointment_never_revives_a_cancelled_order(bench: Bench) -> None:
    bench.order(scheduled(1))
    bench.book(SLOT)
    bench.says(StepStatus.CANCELLED)

    bench.book(LATER)

    assert bench.listed() == []


def test_a_step_that_waits_can_be_started_and_cancelled(bench: Bench) -> None:
    bench.order(scheduled(1))
    bench.free()

    assert bench.says(StepStatus.STARTED) == "1 started"
    assert bench.listed() == [ORDERED]


def test_every_step_of_the_order_is_where_the_appointment_says_and_no_other_order_is(bench: Bench) -> None:
    second = WorklistStep(attributes(1, {"ScheduledProcedureStepID": "S1b"}))
    both = scheduled(1)
    bench.order(replace(both, steps=(*both.steps, second)))
    bench.order(scheduled(2))

    assert bench.book(SLOT) == "2 moved"

    assert sorted(bench.listed()) == [ORDERED, BOOKED, BOOKED]


def test_a_merge_moves_a_booked_step_and_its_time_stays(bench: Bench) -> None:
    bench.order(scheduled(1, IssuerOfPatientID="H"))
    bench.book(SLOT)

    with bench.database.writer.begin() as tx:
        bench.worklist.refresh(tx, PatientUpdate(("S^H",), ("P1^H",), {"PatientID": "S"}), 99)

    assert bench.listed() == [BOOKED]
    bench.free(status=AppointmentStatus.OPEN)
    (item,) = bench.worklist.find(query())
    assert item.attributes["PatientID"] == "S" and bench.listed() == [ORDERED]


def test_a_merge_moves_a_step_that_waits_for_its_appointment_too(bench: Bench) -> None:
    bench.order(scheduled(1, IssuerOfPatientID="H"))
    bench.free()

    with bench.database.writer.begin() as tx:
        said = bench.worklist.refresh(tx, PatientUpdate(("S^H",), ("P1^H",), {"PatientID": "S"}), 99)

    assert said == "1 moved"
    bench.book(LATER, origin=100)
    (item,) = bench.worklist.find(query())
    assert item.attributes["PatientID"] == "S"


def test_a_time_that_no_scanner_could_be_sent_is_refused(bench: Bench) -> None:
    with pytest.raises(Permanent) as refused:
        bench.book({DATE: "tomorrow"})

    assert refused.value.at.endswith(DATE)


def test_everything_said_again_in_sequence_gives_the_same_worklist(bench: Bench, store_url: str) -> None:
    # Given a worklist, and an empty one
    said: list[Any] = [
        AppointmentUpdate(("placer:1^HIS",), "AP1^S", AppointmentStatus.BOOKED, SLOT),
        scheduled(1),
        scheduled(2),
        AppointmentUpdate(("placer:2^HIS",), "AP2^S", AppointmentStatus.BOOKED, SLOT),
        AppointmentUpdate(("placer:1^HIS",), "AP1^S", AppointmentStatus.BOOKED, LATER),
        AppointmentUpdate(("placer:2^HIS",), "AP2^S", AppointmentStatus.FREED),
    ]

    def tell(origins: range) -> list[Any]:
        with bench.database.writer.begin() as tx:
            for one, origin in zip(said, origins, strict=True):
                apply = bench.worklist.book if isinstance(one, AppointmentUpdate) else bench.worklist.apply
                apply(tx, one, origin)
        return [(item.status, item.attributes) for item in bench.worklist.find(query(), statuses=tuple(StepStatus))]

    first = tell(range(1, 7))
    # When all of it is said again, at the same origins
    assert tell(range(1, 7)) == first
    # And once more from nothing
    with bench.database.writer.begin() as tx:
        for table in TABLES:
            tx.execute(table.delete())
    assert tell(range(1, 7)) == first


def test_an_appointment_travels_as_json_and_comes_back() -> None:
    booked = AppointmentUpdate(("placer:1^HIS",), "AP1^S", AppointmentStatus.BOOKED, SLOT)
    document = WorklistDocument(appointments=(booked,))

    assert WorklistDocument.from_json(document.to_json()) == document


def two_steps() -> WorklistUpdate:
    """An order for a CT and an MR, each with its code."""
    one = scheduled(1, {"ScheduledProtocolCodeSequence": [{"CodeValue": "CTHEAD"}]})
    second = {"ScheduledProcedureStepID": "S2", STATION: "MR1", "Modality": "MR"}
    other = scheduled(1, {**second, "ScheduledProtocolCodeSequence": [{"CodeValue": "MRHEAD"}]})
    return replace(one, steps=(*one.steps, *other.steps))


CT_SLOT = {DATE: "20260107", TIME: "1430"}
MR_SLOT = {DATE: "20260107", TIME: "1600"}
ORDERED_APART = [("20260105", "0930", "CT1"), ("20260105", "0930", "MR1")]


@pytest.mark.parametrize("first", ["order", "appointments"])
def test_steps_that_are_booked_apart_each_go_where_their_own_appointment_says(bench: Bench, first: str) -> None:
    # Given an order of two steps, and an appointment for each, by its code
    if first == "order":
        bench.order(two_steps())
    bench.book(CT_SLOT, appointment="AP1^S", service="CTHEAD")
    bench.book(MR_SLOT, appointment="AP2^S", service="MRHEAD")
    if first == "appointments":
        bench.order(two_steps())

    # Then each is at its time, also after the order comes again
    assert bench.listed() == [("20260107", "1430", "CT1"), ("20260107", "1600", "MR1")]
    bench.order(two_steps())
    assert bench.listed() == [("20260107", "1430", "CT1"), ("20260107", "1600", "MR1")]

    # And the end of one leaves the other where it is
    bench.free(appointment="AP1^S")
    assert bench.listed() == [("20260107", "1600", "MR1")]


def test_one_appointment_for_two_services_is_freed_as_a_whole_and_moved_in_part(bench: Bench) -> None:
    bench.order(two_steps())
    bench.book(CT_SLOT, service="CTHEAD")
    bench.book(MR_SLOT, service="MRHEAD")
    bench.book({TIME: "1700"}, service="MRHEAD")
    assert bench.listed() == [("20260107", "1430", "CT1"), ("20260107", "1700", "MR1")]

    bench.free()
    assert bench.listed() == []
    bench.book(CT_SLOT, service="CTHEAD")
    assert bench.listed() == [("20260107", "1430", "CT1")]


def test_a_service_that_the_order_does_not_know_is_about_all_its_steps(bench: Bench) -> None:
    bench.order(two_steps())

    bench.book(CT_SLOT, service="A NAME OF THE SCHEDULER")

    assert bench.listed() == [("20260107", "1430", "CT1"), ("20260107", "1430", "MR1")]


def test_a_step_that_comes_later_takes_its_appointment_from_the_one_that_had_it(bench: Bench) -> None:
    # Given an appointment for a step that the order does not have yet
    both = two_steps()
    bench.order(replace(both, steps=both.steps[:1]))
    bench.book(MR_SLOT, service="MRHEAD")
    assert bench.listed() == [("20260107", "1600", "CT1")]

    # When the step comes, then each is where it belongs
    bench.order(replace(both, steps=both.steps[1:]))
    assert bench.listed() == [ORDERED_APART[0], ("20260107", "1600", "MR1")]
