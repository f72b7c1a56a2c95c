"""Questions in the store: kept once with what came of them, and answered alike when they come again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bridge.message import Delivery, new_id
from bridge.store.accept import Acceptance
from bridge.store.asked import Asked, keep, kept_answer
from bridge.store.search import MessageFilter
from bridge.store.store import Store
from tests.rigs.store import acceptance


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    store.ensure_destinations(["copy"])
    store.maintain(keep_days=90, receipt_window_ms=60_000)
    yield store
    store.close()


def asked(question: Acceptance, answer: str = "AA ORR^O02") -> Asked:
    message = question.message
    delivery = Delivery(
        new_id(), message.id, message.day, "numbers", "his", "", "rev", (), created_at=message.received_at
    )
    return Asked(delivery, b"sent", answer)


def test_a_question_whose_commit_went_through_unnoticed_is_kept_once(store: Store) -> None:
    question = acceptance("Q1", "copy")
    outcome = asked(question)

    first, again = (store.write(lambda tx: keep(tx, question, outcome)) for _ in range(2))

    assert first.answer == again.answer == question.answer
    assert not again.duplicate
    kept = store.message(question.message.id)
    assert sorted((one["destination"], one["status"]) for one in kept["deliveries"]) == [
        ("copy", "pending"),
        ("his", "answered"),
    ]
    assert len(store.messages(MessageFilter())) == 1


def test_of_two_nodes_that_asked_the_same_the_second_gives_the_first_ones_answer(store: Store) -> None:
    first, second = acceptance("Q1"), replace(acceptance("Q1"), answer=b"another number")

    store.write(lambda tx: keep(tx, first, asked(first)))
    kept = store.write(lambda tx: keep(tx, second, asked(second)))

    assert (kept.answer, kept.duplicate) == (first.answer, True)
    assert store.read(lambda c: kept_answer(c, second.message)) == first.answer
    assert [one["status"] for one in store.message(second.message.id)["deliveries"]] == ["answered"]


def test_what_is_asked_anew_each_time_leaves_no_answer_behind(store: Store) -> None:
    question = replace(acceptance("Q1"), receipt=False)

    store.write(lambda tx: keep(tx, question, asked(question, answer="")))

    assert store.read(lambda c: kept_answer(c, question.message)) is None
    assert [one["status"] for one in store.message(question.message.id)["deliveries"]] == ["unanswered"]
