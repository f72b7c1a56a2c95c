"""What performed procedure steps do to the worklist, and what is kept of them in the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.codecs.performed import Event, KnownStep, encode_event, parse_step
from bridge.errors import BridgeError
from bridge.message import Message, MessageStatus, new_id
from bridge.model import PerformedUpdate, StepStatus, WorklistUpdate
from bridge.store import mpps
from bridge.store.accept import Acceptance
from bridge.store.retention import day_of
from bridge.store.store import Store
from bridge.store.worklist_performed import without_order
from tests.rigs.performed import after, created, ended, event
from tests.rigs.store import acceptance
from tests.rigs.worklist import query, scheduled

STARTED, COMPLETED, DISCONTINUED = StepStatus.STARTED, StepStatus.COMPLETED, StepStatus.DISCONTINUED
GIVEN_BACK = StepStatus.SCHEDULED


class Board:
    """A worklist, and what happens to it, each newer than what was before."""

    def __init__(self, store: Store) -> None:
        self.store, self.now = store, 0

    def order(self, update: WorklistUpdate) -> str:
        self.now += 1
        return str(self.store.write(lambda tx: self.store.worklist.apply(tx, update, self.now)))

    def performed(
        self, status: StepStatus, number: int = 1, instance: str = "1.2.9", *, at: int = 0, **changed: str
    ) -> str:
        self.now += not at
        names = {"study": f"1.2.826.0.1.{number}", "accession": f"A{number}", "step": f"S{number}", **changed}
        said = PerformedUpdate(instance, status, **names)
        return str(self.store.write(lambda tx: self.store.worklist.perform(tx, said, at or self.now)))

    def left(self) -> list[PerformedUpdate]:
        found: list[PerformedUpdate] = self.store.read(without_order)
        return found

    def status(self) -> dict[str, StepStatus]:
        """Status by step id."""
        items = self.store.worklist.find(query(), statuses=tuple(StepStatus))
        found = ((item.attributes["ScheduledProcedureStepSequence"][0], item.status) for item in items)
        return {str(step["ScheduledProcedureStepID"]): status for step, status in found}


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    store = Store(f"sqlite:///{tmp_path / 'radbridge.db'}")
    yield Board(store)
    store.close()


@pytest.fixture
def either(store_url: str) -> Iterator[Board]:
    """On SQLite and on PostgreSQL."""
    store = Store(store_url)
    yield Board(store)
    store.close()


def test_people_see_what_was_performed_without_an_order(board: Board, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("site: {name: test, timezone: Europe/Paris}\ndata: .\n")
    command = ["worklist", "--without-order", "--json", "--config", str(tmp_path / "site.yaml")]

    board.performed(STARTED)
    before = CliRunner().invoke(app, command)
    board.order(scheduled())
    after = CliRunner().invoke(app, command)

    told = {"status": "started", "accession": "A1", "step": "S1", "study": "1.2.826.0.1.1", "id": "1.2.9"}
    assert (json.loads(before.stdout), json.loads(after.stdout)) == ([told], [])


def test_a_step_is_started_and_completed(board: Board) -> None:
    board.order(scheduled())

    assert board.performed(STARTED) == "started"
    assert board.status() == {"S1": STARTED}
    assert board.performed(COMPLETED) == "completed"
    assert board.status() == {"S1": COMPLETED}


def test_a_wrong_worklist_entry_gives_the_step_back(either: Board) -> None:
    either.order(scheduled())
    either.performed(STARTED)

    assert either.performed(GIVEN_BACK) == "given back"

    assert either.status() == {"S1": StepStatus.SCHEDULED}
    assert either.performed(STARTED, instance="1.2.10") == "started"
    assert either.performed(COMPLETED, instance="1.2.10") == "completed"


def test_a_mistake_of_one_does_not_give_back_what_another_works_on(board: Board) -> None:
    board.order(scheduled())
    board.performed(STARTED, instance="1.2.10")
    board.performed(STARTED, instance="1.2.11")

    board.performed(GIVEN_BACK, instance="1.2.11")

    assert board.status() == {"S1": STARTED}


@pytest.mark.parametrize("then", [STARTED, DISCONTINUED, GIVEN_BACK])
def test_more_work_for_a_completed_step_leaves_it_completed(board: Board, then: StepStatus) -> None:
    board.order(scheduled())
    board.performed(COMPLETED)

    board.performed(then, instance="1.2.10")

    assert board.status() == {"S1": COMPLETED}


def test_a_step_that_was_given_up_is_done_by_another_attempt(board: Board) -> None:
    board.order(scheduled())
    board.performed(DISCONTINUED)

    assert board.performed(STARTED, instance="1.2.10") == "started"
    assert board.performed(COMPLETED, instance="1.2.10") == "completed"


def test_one_step_completed_does_not_complete_its_order(board: Board) -> None:
    board.order(scheduled(1))
    board.order(scheduled(1, {"ScheduledProcedureStepID": "S1-2"}))

    board.performed(COMPLETED)

    assert board.status() == {"S1": COMPLETED, "S1-2": StepStatus.SCHEDULED}
    assert board.performed(COMPLETED, instance="1.2.10", step="") == "completed"
    assert board.status() == {"S1": COMPLETED, "S1-2": COMPLETED}


def test_without_a_step_id_a_study_of_several_open_steps_is_left_alone(either: Board) -> None:
    either.order(scheduled(1))
    either.order(scheduled(1, {"ScheduledProcedureStepID": "S1-2"}))

    assert either.performed(COMPLETED, step="") == "the order has several steps, and none is named"

    assert set(either.status().values()) == {StepStatus.SCHEDULED}


def test_a_study_uid_of_the_modality_s_own_is_no_hindrance(board: Board) -> None:
    board.order(scheduled())

    assert board.performed(STARTED, study="1.2.840.77") == "started"


def test_what_no_order_has_is_kept_until_its_order_comes(either: Board) -> None:
    either.order(scheduled())

    assert either.performed(STARTED, 2) == "kept for the order that comes"
    assert either.performed(COMPLETED, 2) == "kept for the order that comes"
    assert either.performed(STARTED, step="S7", instance="1.2.10") == "kept for the order that comes"
    assert [(one.instance, one.status) for one in either.left()] == [("1.2.10", STARTED), ("1.2.9", COMPLETED)]
    assert either.status() == {"S1": StepStatus.SCHEDULED}

    either.order(scheduled(2))

    assert either.status() == {"S1": StepStatus.SCHEDULED, "S2": COMPLETED}
    assert [one.instance for one in either.left()] == ["1.2.10"]


def test_work_that_was_not_scheduled_is_found_by_an_order_for_its_study(board: Board) -> None:
    unscheduled = {"accession": "", "step": "", "study": "1.2.840.77"}
    assert board.performed(STARTED, **unscheduled) == "kept for the order that comes"

    board.order(scheduled(StudyInstanceUID="1.2.840.77"))

    assert board.status() == {"S1": STARTED}
    assert board.performed(COMPLETED, **unscheduled) == "completed"
    assert board.left() == []


def test_an_old_event_that_is_replayed_changes_nothing_newer(board: Board) -> None:
    board.order(scheduled())
    board.performed(STARTED)
    board.performed(GIVEN_BACK)

    assert board.performed(STARTED, at=2) == "superseded"

    assert board.status() == {"S1": StepStatus.SCHEDULED}


def test_a_step_that_was_ordered_anew_stands_as_the_work_after_that(board: Board) -> None:
    board.order(scheduled())
    board.performed(DISCONTINUED)
    board.order(scheduled())
    board.performed(STARTED, instance="1.2.10")

    board.performed(GIVEN_BACK, instance="1.2.10")

    assert board.status() == {"S1": StepStatus.SCHEDULED}


def test_a_cancelled_order_that_is_being_done_all_the_same_shows_so(board: Board) -> None:
    board.order(scheduled())
    board.order(WorklistUpdate(("placer:1^HIS",), StepStatus.CANCELLED))

    assert board.performed(STARTED) == "started"


# what is kept of each performed step


def accepted(told: Event, *destinations: str) -> Acceptance:
    step = parse_step(encode_event(told))
    rest = acceptance("x", *destinations)
    message = Message(
        new_id(), rest.message.day, rest.message.received_at, "mpps", "dicom", "", step.header, step.raw,
        MessageStatus.ROUTED,
    )  # fmt: skip
    for delivery in rest.deliveries:
        delivery.message = message.id
    return Acceptance(message, rest.deliveries)


async def test_what_is_known_of_a_step_changes_with_each_accepted_event(either: Board) -> None:
    either.store.ensure_destinations(["pacs"])
    begun = event(created())
    await either.store.accept(accepted(begun, "pacs"))
    known = either.store.worklist.performed("1.2.9")
    assert known == after(begun)

    done = event(ended(), known)
    await either.store.accept(accepted(done, "pacs"))

    assert either.store.worklist.performed("1.2.9") == after(done)
    assert either.store.worklist.performed("1.2.10") is None


async def test_the_same_event_again_is_a_duplicate_and_changes_nothing(either: Board) -> None:
    begun = event(created())
    await either.store.accept(accepted(begun))

    again = await either.store.accept(accepted(event(created(), after(begun), command="N-CREATE")))

    assert again.duplicate
    assert either.store.worklist.performed("1.2.9") == after(begun)


async def test_of_two_events_that_were_joined_to_the_same_state_one_comes_again_and_its_neighbours_go_through(
    either: Board,
) -> None:
    begun = event(created())
    await either.store.accept(accepted(begun))
    pair = [accepted(event(ended(status), after(begun))) for status in ("COMPLETED", "DISCONTINUED")]
    other = accepted(event(created(), instance="1.2.10"))

    results = await asyncio.gather(*map(either.store.accept, (*pair, other)), return_exceptions=True)

    failed = [one for one in results if isinstance(one, BaseException)]
    assert [type(one) for one in failed] == [BridgeError]
    assert failed[0].kind == "unavailable"  # type: ignore[attr-defined]
    known: KnownStep | None = either.store.worklist.performed("1.2.9")
    assert known is not None
    assert known.number == 2
    assert either.store.worklist.performed("1.2.10") is not None


async def test_steps_are_forgotten_with_the_journal(either: Board) -> None:
    one = accepted(event(created()))
    await either.store.accept(one)
    assert one.message.day == day_of(one.message.received_at)

    assert either.store.write(lambda tx: mpps.forget(tx, one.message.received_at)) == 0
    assert either.store.write(lambda tx: mpps.forget(tx, one.message.received_at + 1)) == 1

    assert either.store.worklist.performed("1.2.9") is None
