"""The worklist projection on SQLite and on PostgreSQL: what orders leave behind, and what a query finds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from bridge.codecs.dicom_match import matches
from bridge.codecs.dicom_query import Query, restriction
from bridge.errors import Permanent, StoreUnavailable
from bridge.model import StepStatus, UnknownOrder, WorklistStep, WorklistUpdate
from bridge.store.database import Database
from bridge.store.worklist import Worklist, WorklistItem
from bridge.store.worklist_tables import TABLES, metadata
from tests.rigs.worklist import attributes, query, scheduled


class Bench:
    """A projection and the origins of what is applied to it."""

    def __init__(self, database: Database) -> None:
        self.worklist = Worklist(database.reader)
        self.writer: Engine = database.writer
        self.origin = 0

    def apply(self, *updates: WorklistUpdate, origin: int | None = None) -> str:
        """Apply each at the next origin, or all at a given one; the last one's summary."""
        summary = ""
        with self.writer.begin() as tx:
            for update in updates:
                self.origin += 1
                summary = self.worklist.apply(tx, update, self.origin if origin is None else origin)
        return summary

    def items(self, asked: Query | None = None, **options: Any) -> list[WorklistItem]:
        return list(self.worklist.find(asked or Query(()), **options))

    def names(self, asked: Query | None = None, **options: Any) -> list[str]:
        return [item.attributes["PatientName"].partition("^")[0] for item in self.items(asked, **options)]


@pytest.fixture
def bench(store_url: str) -> Iterator[Bench]:
    database = Database(store_url)
    metadata.create_all(database.writer, tables=TABLES)
    yield Bench(database)
    database.close()


def status(number: int, status: StepStatus, *steps: str, **more: Any) -> WorklistUpdate:
    """A message that says ``status`` of an order, or of the steps with these ids."""
    named = tuple(
        WorklistStep({"ScheduledProcedureStepSequence": [{"ScheduledProcedureStepID": step}]}) for step in steps
    )
    return WorklistUpdate((f"filler:{number}^RIS",), status, named, **{"known_only": True, **more})


def two_steps() -> WorklistUpdate:
    one = scheduled(1)
    second = WorklistStep(attributes(1, {"ScheduledProcedureStepID": "S1b", "ScheduledStationAETitle": "MR1"}))
    return replace(one, steps=(*one.steps, second))


# what orders leave behind


def test_a_scheduled_order_is_found_with_all_its_attributes(bench: Bench) -> None:
    assert bench.apply(scheduled(1)) == "1 scheduled"
    (item,) = bench.items()
    assert item.status is StepStatus.SCHEDULED
    step = item.attributes["ScheduledProcedureStepSequence"][0]
    assert step.pop("ScheduledProcedureStepStatus") == "SCHEDULED"
    assert item.attributes == attributes(1)


def test_the_same_order_again_changes_nothing(bench: Bench) -> None:
    bench.apply(scheduled(1))
    assert bench.apply(scheduled(1)) == "1 unchanged"
    assert len(bench.items()) == 1


def test_a_change_of_station_and_time_moves_the_step(bench: Bench) -> None:
    # Given a step on CT1 on the fifth
    bench.apply(scheduled(1))
    # When it is moved to CT2 on the sixth
    moved = {"ScheduledStationAETitle": "CT2", "ScheduledProcedureStepStartDate": "20260106"}
    assert bench.apply(replace(scheduled(1, moved), known_only=True)) == "1 moved"
    # Then only CT2's list of the sixth has it
    assert bench.names(query(step={"ScheduledStationAETitle": "CT1"})) == []
    there = {"ScheduledStationAETitle": "CT2", "ScheduledProcedureStepStartDate": "20260106"}
    assert bench.names(query(step=there)) == ["TEST00001"]


def test_a_corrected_name_is_found_by_the_new_name_only(bench: Bench) -> None:
    bench.apply(scheduled(1))
    assert bench.apply(scheduled(1, PatientName="TESTNEW^ÉLODIE")) == "1 changed"
    assert bench.names(query(PatientName="TEST00001*")) == []
    assert bench.names(query(PatientName="testnew*")) == ["TESTNEW"]


def test_a_cancel_without_steps_takes_all_steps_of_the_order_off(bench: Bench) -> None:
    bench.apply(two_steps(), scheduled(2))
    assert bench.apply(status(1, StepStatus.CANCELLED)) == "2 cancelled"
    assert bench.names() == ["TEST00002"]


def test_a_cancel_of_one_step_leaves_the_others(bench: Bench) -> None:
    bench.apply(two_steps())
    assert bench.apply(status(1, StepStatus.CANCELLED, "S1")) == "1 cancelled"
    (left,) = bench.items()
    assert left.attributes["ScheduledProcedureStepSequence"][0]["ScheduledProcedureStepID"] == "S1b"


@pytest.mark.parametrize("end", [StepStatus.COMPLETED, StepStatus.DISCONTINUED, StepStatus.CANCELLED])
def test_what_has_ended_leaves_the_view_and_is_kept(bench: Bench, end: StepStatus) -> None:
    bench.apply(scheduled(1), status(1, end))
    assert bench.items() == []
    assert [item.status for item in bench.items(statuses=[end])] == [end]


def test_a_held_order_is_off_the_list_is_no_cancelled_one_and_comes_back_as_it_is_by_then(bench: Bench) -> None:
    # Given an order that is put on hold
    bench.apply(scheduled(1), status(1, StepStatus.HELD))
    assert bench.items() == []
    assert [item.status for item in bench.items(statuses=[StepStatus.HELD])] == [StepStatus.HELD]

    # When it is released with another time, then it is listed at that
    released = scheduled(1, {"ScheduledProcedureStepStartTime": "1400"})
    assert bench.apply(replace(released, known_only=True)) == "1 scheduled"
    (item,) = bench.items()
    assert item.attributes["ScheduledProcedureStepSequence"][0]["ScheduledProcedureStepStartTime"] == "1400"


def test_what_a_modality_is_using_cannot_be_put_on_hold(bench: Bench) -> None:
    bench.apply(scheduled(1), status(1, StepStatus.STARTED))
    assert bench.apply(status(1, StepStatus.HELD)) == "1 kept (started)"
    assert len(bench.items()) == 1


def test_a_hold_that_comes_before_its_order_holds_it(bench: Bench) -> None:
    bench.apply(status(1, StepStatus.HELD), origin=5)
    bench.apply(scheduled(1), origin=3)
    assert [item.status for item in bench.items(statuses=[StepStatus.HELD])] == [StepStatus.HELD]


def test_what_has_started_stays_visible_and_says_so(bench: Bench) -> None:
    bench.apply(scheduled(1), status(1, StepStatus.STARTED))
    (item,) = bench.items()
    assert item.attributes["ScheduledProcedureStepSequence"][0]["ScheduledProcedureStepStatus"] == "STARTED"


def test_a_cancel_after_the_exam_began_keeps_what_the_modality_uses(bench: Bench) -> None:
    bench.apply(scheduled(1), status(1, StepStatus.STARTED))
    assert bench.apply(status(1, StepStatus.CANCELLED)) == "1 kept (started)"
    assert [item.status for item in bench.items()] == [StepStatus.STARTED]


def test_a_change_after_the_exam_began_is_taken_in_and_does_not_unstart_it(bench: Bench) -> None:
    bench.apply(scheduled(1), status(1, StepStatus.STARTED))
    bench.apply(scheduled(1, PatientWeight="70"))
    (item,) = bench.items()
    assert (item.status, item.attributes["PatientWeight"]) == (StepStatus.STARTED, "70")


def test_a_completed_step_does_not_come_back_with_a_later_change(bench: Bench) -> None:
    bench.apply(scheduled(1), status(1, StepStatus.COMPLETED))
    assert "1 kept (completed)" in bench.apply(replace(scheduled(1, PatientWeight="70"), known_only=True))
    assert bench.items() == []


def test_a_cancelled_order_can_be_scheduled_again_by_newer_news(bench: Bench) -> None:
    bench.apply(scheduled(1), status(1, StepStatus.CANCELLED))
    assert bench.apply(scheduled(1)) == "1 scheduled"
    assert bench.names() == ["TEST00001"]


# replays


def test_a_replayed_order_does_not_undo_a_later_cancel(bench: Bench) -> None:
    bench.apply(scheduled(1), status(1, StepStatus.CANCELLED))
    assert "superseded" in bench.apply(scheduled(1), origin=1)
    assert bench.items() == []


def test_a_replayed_order_does_not_undo_a_later_move(bench: Bench) -> None:
    bench.apply(scheduled(1), scheduled(1, {"ScheduledStationAETitle": "CT2"}))
    assert bench.apply(scheduled(1), origin=1) == "1 superseded"
    assert bench.names(query(step={"ScheduledStationAETitle": "CT2"})) == ["TEST00001"]


def test_a_replayed_cancel_does_not_undo_a_later_schedule(bench: Bench) -> None:
    bench.apply(scheduled(1), status(1, StepStatus.CANCELLED), scheduled(1))
    assert "superseded" in bench.apply(status(1, StepStatus.CANCELLED), origin=2)
    assert bench.names() == ["TEST00001"]


@pytest.mark.parametrize("steps", [(), ("S1",)])
def test_an_order_that_comes_after_its_own_cancel_stays_cancelled(bench: Bench, steps: tuple[str, ...]) -> None:
    # Given a cancel whose order could not be applied before it
    cancel = status(1, StepStatus.CANCELLED, *steps, if_unknown=UnknownOrder.IGNORE)
    assert bench.apply(cancel, origin=6) == "unknown order ignored"
    # When the older order comes at last
    assert bench.apply(scheduled(1), origin=5) == "1 superseded"
    # Then it is not shown; a newer one is
    assert bench.items() == []
    assert bench.apply(scheduled(1), origin=7) == "1 scheduled"
    assert bench.names() == ["TEST00001"]


def test_applying_everything_twice_in_the_same_sequence_ends_the_same(bench: Bench) -> None:
    story = [
        two_steps(),
        scheduled(2),
        scheduled(1, {"ScheduledStationAETitle": "CT9"}),
        status(2, StepStatus.CANCELLED),
        status(1, StepStatus.STARTED, "S1"),
        scheduled(2, PatientWeight="70"),
    ]
    bench.apply(*story)
    once = bench.items(statuses=list(StepStatus))
    for origin, update in enumerate(story, 1):
        bench.apply(update, origin=origin)
    assert bench.items(statuses=list(StepStatus)) == once


# which order is meant


@pytest.mark.parametrize("names", [("placer:1^HIS",), ("filler:1^RIS",), ("accession:A1", "filler:1^RIS")])
def test_any_shared_identifier_means_the_same_order(bench: Bench, names: tuple[str, ...]) -> None:
    bench.apply(scheduled(1))
    bench.apply(WorklistUpdate(names, StepStatus.CANCELLED, known_only=True))
    assert bench.items() == []


def test_an_order_is_also_known_by_numbers_that_came_later(bench: Bench) -> None:
    bench.apply(replace(scheduled(1), order=("placer:1^HIS",)), scheduled(1))
    assert bench.apply(status(1, StepStatus.CANCELLED)) == "1 cancelled"


def test_two_filler_orders_that_share_an_accession_number_are_two_orders(bench: Bench) -> None:
    for number in (1, 2):
        bench.apply(replace(scheduled(number), order=(f"filler:{number}^RIS", "accession:A7")))
    bench.apply(WorklistUpdate(("filler:1^RIS", "accession:A7"), StepStatus.CANCELLED, known_only=True))
    assert bench.names() == ["TEST00002"]


def test_a_cancel_by_a_placer_number_alone_means_all_its_filler_orders(bench: Bench) -> None:
    for number in (1, 2):
        bench.apply(replace(scheduled(number), order=(f"filler:{number}^RIS", "placer:7^HIS")))
    bench.apply(WorklistUpdate(("placer:7^HIS",), StepStatus.CANCELLED, known_only=True))
    assert bench.items() == []


def test_equal_numbers_of_different_issuers_are_different_orders(bench: Bench) -> None:
    bench.apply(scheduled(1))
    cancel = WorklistUpdate(("filler:1^OTHER",), StepStatus.CANCELLED, known_only=True)
    assert bench.apply(cancel) == "unknown order ignored"
    assert bench.names() == ["TEST00001"]


def test_a_change_of_an_unknown_order_follows_its_policy(bench: Bench) -> None:
    change = replace(scheduled(1), known_only=True)
    assert bench.apply(replace(change, if_unknown=UnknownOrder.IGNORE)) == "unknown order ignored"
    with pytest.raises(Permanent) as caught:
        bench.apply(replace(change, if_unknown=UnknownOrder.REJECT))
    assert caught.value.kind == "unknown_key"
    assert bench.items() == []
    assert bench.apply(replace(change, if_unknown=UnknownOrder.CREATE)) == "1 scheduled"
    assert bench.names() == ["TEST00001"]


@pytest.mark.parametrize(
    ("update", "at", "kind"),
    [
        (scheduled(1, AccessionNumber="A" * 17), "AccessionNumber", "datatype"),
        (scheduled(1, PatientID=""), "PatientID", "required"),
        (scheduled(1, {"Modality": ""}), "ScheduledProcedureStepSequence.Modality", "required"),
        (replace(scheduled(1), order=()), "order", "required"),
    ],
)
def test_an_item_that_no_scanner_could_be_sent_is_refused_with_its_place(
    bench: Bench, update: WorklistUpdate, at: str, kind: str
) -> None:
    with pytest.raises(Permanent) as caught:
        bench.apply(update)
    assert (caught.value.at, caught.value.kind) == (at, kind)


# what a query finds


def crowd() -> list[WorklistUpdate]:
    """Sixty orders with names, stations, days and numbers that differ a little."""
    made = []
    families = ["LEFÈVRE", "Lefebvre", "ŁUKASZ", "O'TEST", "TEST_1", "TEST%", "TEST[1]", "山田", "LE", "TESTÄ"]
    for number in range(60):
        step = {
            "ScheduledStationAETitle": ["CT1", "CT2"] if number % 7 == 0 else f"CT{number % 3}",
            "Modality": ("CT", "MR", "DX")[number % 3],
            "ScheduledProcedureStepStartDate": f"202601{1 + number % 5:02d}",
            "ScheduledProcedureStepStartTime": f"{7 + number % 12:02d}{number % 60:02d}",
            "ScheduledProcedureStepDescription": ("thorax", "Abdomen")[number % 2],
        }
        name = f"{families[number % 10]}^GIVEN{number % 4}" + ("=山田^太郎=やまだ^たろう" if number % 6 == 0 else "")
        accession = ("A", "a")[number % 2] + f"[{number}]" if number % 5 == 0 else f"A_{number}"
        made.append(scheduled(number, step, PatientName=name, AccessionNumber=accession))
    return made


def random_query(dice: random.Random) -> Query:
    """A query that uses each kind of matching now and then."""
    top: dict[str, list[str]] = {
        "PatientName": [
            "",
            "*",
            "le*",
            "LEF?VRE*",
            "*given1",
            "LE",
            "test_*",
            "TEST[*",
            "TEST%*",
            "=山田*",
            "山田*",
            "*^*2",
        ],
        "AccessionNumber": ["", "A*", "a*", "A_?", "a[*", "A[5*", "*1*", "A_7", "?*"],
        "PatientID": ["", "P1*", "P12", "p12", "P1\\P2\\P3*"],
        "StudyInstanceUID": ["", "1.2.826.0.1.12", "1.2.826.0.1.1\\1.2.826.0.1.2"],
        "RequestedProcedureDescription": ["", "CT*", "ct*"],
    }
    step: dict[str, list[str]] = {
        "ScheduledStationAETitle": ["", "CT1", "CT*", "CT1\\CT2", "ct1"],
        "Modality": ["", "CT", "CT\\MR", "?R"],
        "ScheduledProcedureStepStartDate": ["", "20260102", "20260102-20260104", "-20260103", "20260104-"],
        "ScheduledProcedureStepStartTime": ["", "0800-1200", "0801-1003", "-1130", "1000-", "09", "0707"],
        "ScheduledProcedureStepDescription": ["", "thor*", "Abdomen"],
        "ScheduledProcedureStepID": ["", "S1?"],
    }

    def some(of: dict[str, list[str]]) -> dict[str, str]:
        return {keyword: dice.choice(values) for keyword, values in of.items() if dice.random() < 0.4}

    return query("ISO_IR 192", some(step), **some(top))


def test_the_index_finds_exactly_what_the_matching_rules_say(bench: Bench) -> None:
    # Given a crowd of items
    bench.apply(*crowd())
    everything = bench.items()
    assert len(everything) == 60
    # When it is asked all kinds of questions
    dice = random.Random(20260105)
    sizes = set()
    for _ in range(600):
        asked = random_query(dice)
        found = bench.items(asked)
        # Then the answer is the same as matching each item by the rules of the standard
        assert found == [item for item in everything if matches(asked.keys, item.attributes)], asked
        sizes.add(len(found))
    assert {0, 1, 60} < sizes


@pytest.mark.parametrize(
    ("time", "found"),
    [("0930", True), ("0930-1000", True), ("0900-0930", True), ("0931-1000", False), ("0900-0929", False)],
)
def test_both_ends_of_a_range_of_moments_are_included(bench: Bench, time: str, found: bool) -> None:
    bench.apply(scheduled(1))
    keys = {"ScheduledProcedureStepStartDate": "20260105", "ScheduledProcedureStepStartTime": time}
    assert bool(bench.items(query(step=keys))) is found


def test_items_come_by_date_and_time(bench: Bench) -> None:
    bench.apply(*crowd())
    steps = [item.attributes["ScheduledProcedureStepSequence"][0] for item in bench.items()]
    times = [step["ScheduledProcedureStepStartDate"] + step["ScheduledProcedureStepStartTime"] for step in steps]
    assert times == sorted(times)


@pytest.mark.parametrize("asked", [Query(()), query(RequestedProcedureDescription="CT*")])
def test_no_more_items_come_than_asked_for(bench: Bench, asked: Query) -> None:
    bench.apply(*crowd())
    assert bench.items(asked, limit=7) == bench.items(asked)[:7]


def test_forced_stations_narrow_every_query(bench: Bench) -> None:
    bench.apply(scheduled(1), scheduled(2, {"ScheduledStationAETitle": "CT2"}))
    assert bench.names(restrict=restriction(stations=["CT2"])) == ["TEST00002"]
    assert bench.names(query(step={"ScheduledStationAETitle": "CT1"}), restrict=restriction(stations=["CT2"])) == []


def test_a_database_that_is_away_is_said_so_without_content(bench: Bench) -> None:
    with bench.writer.begin() as tx:
        tx.execute(text("DROP TABLE worklist_item"))
    with pytest.raises(StoreUnavailable) as caught:
        bench.items(query(PatientName="TEST*"))
    assert "TEST" not in str(caught.value)
