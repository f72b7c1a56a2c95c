"""Subscriptions in the store, on SQLite and on PostgreSQL: every version counts, once, in its sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bridge.errors import NotFound, Refused
from bridge.fhir.interaction import interactions
from bridge.fhir.subscription import Maker
from bridge.store.fhir_subscriptions import CHUNK, Watched
from bridge.store.store import Store
from tests.rigs.fhir import NOON, Facade, bundle, create, put, remove, report
from tests.rigs.subscriptions import plain, topical

HOOK = "https://his.example/notify"


class Subscribers(Facade):
    """A facade that notes subscriptions as a fhir-server does."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.subscriptions = store.subscriptions

    def asks(self, entry: dict[str, Any], *, owner: str = "his", most: int = 10, restrict: Sequence[Any] = ()) -> str:
        """The id of a Subscription that ``owner`` writes or deletes."""
        maker = Maker("fhir", owner, "http://here/fhir", lambda kind: restrict, lambda wanted: None, most)
        self.clock += 1000
        wanted = interactions(bundle(entry))

        def run(tx: Any) -> str:
            guarded = self.subscriptions.guarded(wanted, maker)
            done = self.fhir.write(tx, guarded, message=f"m{self.clock}", at=self.clock)
            self.subscriptions.note(tx, wanted, done, maker)
            return done[0].id

        made: str = self.store.write(run)
        return made

    def gathered(self, identifier: str) -> Watched:
        while self.subscriptions.gather("fhir"):
            pass
        return self.subscriptions.find(identifier)

    def told(self, identifier: str) -> list[tuple[int, str, str]]:
        self.gathered(identifier)
        return [(one.number, one.id, one.version) for one in self.subscriptions.events(identifier, 0, 10_000)]


@pytest.fixture
def facade(store_url: str) -> Iterator[Subscribers]:
    store = Store(store_url)
    yield Subscribers(store)
    store.close()


def test_what_is_written_after_a_subscription_is_its_events_also_more_than_one_look_takes(facade: Subscribers) -> None:
    facade.write(create(report(0)))
    made = facade.asks(create(plain("DiagnosticReport?status=final", HOOK)))
    facade.write(*(create(report(number)) for number in range(1, CHUNK + 3)))
    facade.write(create(report(999, "preliminary")))

    told = facade.told(made)

    assert [number for number, _, _ in told] == list(range(1, CHUNK + 3))
    assert facade.gathered(made).pending == CHUNK + 2


def test_a_topic_sees_each_change_also_of_versions_that_were_overtaken(facade: Subscribers) -> None:
    made = facade.asks(create(topical("report-final", HOOK)))
    (first,) = facade.write(create(report(1, "preliminary", id="r1")))
    facade.write(put(report(1, "final", id=first.id)))
    facade.write(put(report(1, "corrected", id=first.id)))
    facade.write(remove(f"DiagnosticReport/{first.id}"))
    facade.write(put(report(1, "final", id=first.id)))

    assert facade.told(made) == [(1, first.id, "2"), (2, first.id, "5")]


def test_many_looks_at_once_number_each_event_once(facade: Subscribers) -> None:
    made = facade.asks(create(plain("DiagnosticReport", HOOK)))
    facade.write(*(create(report(number)) for number in range(40)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(facade.subscriptions.gather, ["fhir"] * 8))

    told = facade.told(made)
    assert [number for number, _, _ in told] == list(range(1, 41))
    assert len({identifier for _, identifier, _ in told}) == 40


def test_what_its_maker_may_not_see_is_no_event(facade: Subscribers) -> None:
    seen = [("patient", "Patient/p1")]
    made = facade.asks(create(plain("DiagnosticReport", HOOK)), restrict=seen)

    _, mine = facade.write(create(report(1, subject="Patient/p2")), create(report(2, subject="Patient/p1")))

    assert facade.told(made) == [(1, mine.id, "1")]


def test_the_status_that_the_server_gives_is_a_version_unless_the_client_was_faster(facade: Subscribers) -> None:
    # Given a subscription as the sender saw it
    made = facade.asks(create(plain("Patient", HOOK, header=["Authorization: Bearer s3cret"], status="active")))
    seen = facade.subscriptions.find(made)
    assert facade.body("Subscription", made)["status"] == "requested"
    assert seen.headers == (("Authorization", "Bearer s3cret"),)

    # When it fails, and its client asks again, with the mask that it was shown, before the sender says so a second time
    facade.subscriptions.settle(seen, "error", facade.clock, "HTTP 503")
    failed = facade.body("Subscription", made)
    assert (failed["status"], failed["error"]) == ("error", "HTTP 503")
    facade.asks(put({**failed, "status": "requested"}))
    facade.subscriptions.settle(seen, "off", facade.clock, "too late")

    # Then what the client asked for stands
    now = facade.subscriptions.find(made)
    assert (now.status, now.error, now.failures) == ("requested", "", 0)
    assert now.headers == seen.headers
    body = facade.body("Subscription", made)
    assert (body["status"], body["channel"]["header"], "error" in body) == ("requested", ["Authorization: ***"], False)


def test_attempts_are_counted_until_one_is_taken_and_a_person_may_have_it_tried_again(facade: Subscribers) -> None:
    made = facade.asks(create(plain("DiagnosticReport", HOOK)))
    facade.write(create(report(1)), create(report(2)))
    seen = facade.gathered(made)

    facade.subscriptions.failed(seen, "HTTP 500")
    facade.subscriptions.failed(seen, "HTTP 500")
    failing = facade.subscriptions.find(made)
    facade.subscriptions.told(seen, 1)
    taken = facade.subscriptions.find(made)
    facade.subscriptions.told(seen, 0)
    facade.subscriptions.settle(taken, "error", facade.clock, "HTTP 500")
    facade.subscriptions.retry(made, facade.clock)

    assert (failing.failures, failing.delivered) == (2, 0)
    assert (taken.failures, taken.delivered, taken.pending) == (0, 1, 1)
    again = facade.subscriptions.find(made)
    assert (again.status, again.delivered, again.events) == ("requested", 1, 2)
    assert again.asked > taken.asked
    assert facade.subscriptions.counted() == [("fhir", "requested", 1, 1)]


def test_off_it_has_no_events_and_asked_for_again_it_goes_on_from_then(facade: Subscribers) -> None:
    made = facade.asks(create(plain("DiagnosticReport", HOOK)))
    facade.write(create(report(1)))
    facade.gathered(made)
    facade.asks(put(facade.body("Subscription", made) | {"status": "off"}))
    facade.write(create(report(2)))
    assert facade.subscriptions.of("fhir") == []

    facade.asks(put(facade.body("Subscription", made) | {"status": "requested"}))
    (last,) = facade.write(create(report(3)))

    assert facade.told(made)[-1] == (2, last.id, "1")
    assert facade.subscriptions.find(made).pending == 1


def test_there_are_no_more_than_the_channel_may_have_and_each_is_its_makers(facade: Subscribers) -> None:
    made = facade.asks(create(plain("Patient", HOOK)), most=1)

    with pytest.raises(Refused, match="as many subscriptions"):
        facade.asks(create(plain("Patient", HOOK)), most=1)
    with pytest.raises(Refused, match="another client's"):
        facade.asks(put(facade.body("Subscription", made) | {"reason": "mine now"}), owner="portal")
    facade.asks(remove(f"Subscription/{made}"))

    with pytest.raises(NotFound):
        facade.subscriptions.find(made)
    assert facade.asks(create(plain("Patient", HOOK)), most=1)


def test_events_are_forgotten_with_the_journal_and_what_is_left_keeps_its_numbers(facade: Subscribers) -> None:
    facade.clock = 1_000_000
    made = facade.asks(create(plain("DiagnosticReport", HOOK)))
    facade.write(create(report(1)))
    assert [number for number, _, _ in facade.told(made)] == [1]
    facade.clock = NOON
    facade.write(create(report(2)))

    facade.store.maintain(keep_days=1, receipt_window_ms=1)

    assert [number for number, _, _ in facade.told(made)] == [2]
