"""The policy that turns an attempt's end into a verdict."""

from __future__ import annotations

import pytest

from bridge.engine.retry import backoff, describe, judge, wait_for
from bridge.errors import (
    BridgeError,
    Held,
    MappingError,
    Overloaded,
    Permanent,
    StoreUnavailable,
    Temporary,
    Uncertain,
    Unreachable,
)
from bridge.message import ALLOWED, DeliveryStatus, check_change, new_id
from bridge.ports import RetryPolicy
from bridge.store.finish import Fenced

POLICY = RetryPolicy(first=1, max=60, attempts=3)


def test_a_destination_that_is_away_spends_no_attempt() -> None:
    verdict = judge(Unreachable("refused"), 99, POLICY)
    assert (verdict.status, verdict.scope, verdict.counted) == (DeliveryStatus.PENDING, "destination", False)


@pytest.mark.parametrize("error", [Permanent("no"), MappingError("accession missing", at="OBR-18")])
def test_a_permanent_error_is_dead_at_once(error: Exception) -> None:
    assert judge(error, 1, POLICY).status is DeliveryStatus.DEAD


def test_a_temporary_error_is_tried_until_its_budget_is_spent() -> None:
    assert judge(Temporary("busy"), 2, POLICY).status is DeliveryStatus.PENDING
    assert judge(Temporary("busy"), 3, POLICY).status is DeliveryStatus.DEAD


def test_a_missing_answer_makes_the_next_try_suspected() -> None:
    assert judge(Uncertain("no ACK"), 1, POLICY).suspected
    assert not judge(Temporary("busy"), 1, POLICY).suspected


def test_a_missing_answer_is_followed_by_no_more_repeats_than_are_allowed() -> None:
    policy = RetryPolicy(first=1, max=1000, attempts=10, repeats=2)
    error = Uncertain("no ACK")
    assert [judge(error, n + 1, policy, n).status for n in range(3)] == ["pending", "pending", "dead"]
    assert judge(error, 1, RetryPolicy(repeats=0)).status is DeliveryStatus.DEAD
    # What the destination certainly did not take does not count as a repeat
    assert judge(Temporary("busy"), 9, policy, 2).status is DeliveryStatus.PENDING
    told = describe(error, judge(error, 3, policy, 2), 3, policy)
    assert told["what"] == "no ACK (given up: the destination may have it, and 2 repeats are allowed)"


def test_repeats_are_spaced_eight_times_as_far_as_the_one_before() -> None:
    policy = RetryPolicy(first=1, max=1000)
    ceilings = [1, 8, 64, 512, 1000]
    for attempt, ceiling in enumerate(ceilings, 1):
        assert ceiling / 2 <= wait_for(Uncertain("no ACK"), policy, attempt) <= ceiling


def test_what_is_held_parks_its_lane_whatever_the_channel_says() -> None:
    assert judge(Held("unknown patient"), 1, POLICY).hold
    assert not judge(Permanent("no"), 1, POLICY).hold


@pytest.mark.parametrize("error", [StoreUnavailable("away"), Overloaded("full"), Fenced("another owner")])
def test_trouble_with_our_own_store_spends_nothing_of_a_delivery(error: BridgeError) -> None:
    verdict = judge(error, 50, POLICY)
    assert (verdict.status, verdict.counted, verdict.bug) == (DeliveryStatus.PENDING, False, False)


def test_a_defect_of_ours_is_tried_again_and_in_the_end_parks_its_lane_for_a_person() -> None:
    error = ZeroDivisionError("secret")
    first, last = (judge(error, attempt, POLICY) for attempt in (1, POLICY.attempts))
    assert (first.bug, first.status, first.counted) == (True, DeliveryStatus.PENDING, True)
    assert (last.status, last.hold) == (DeliveryStatus.DEAD, True)
    told = [describe(error, verdict, 1, POLICY) for verdict in (first, last)]
    assert "ZeroDivisionError" in told[0]["what"] and "secret" not in str(told)
    assert [one["fix"] for one in told] == ["see the engine's log", "see the engine's log, then replay or skip"]


def test_backoff_doubles_stays_below_its_cap_and_keeps_its_jitter_in_the_upper_half() -> None:
    assert [backoff(POLICY, n, 1.0) for n in (1, 2, 3, 7, 500)] == [1, 2, 4, 60, 60]
    assert backoff(POLICY, 3, 0.0) == 2.0
    assert len({backoff(POLICY, 3) for _ in range(20)}) > 1


def test_what_the_destination_asked_for_wins_over_backoff() -> None:
    assert wait_for(Temporary("busy", retry_after=30), POLICY, 1) == 30
    assert wait_for(Temporary("busy", retry_after=0), POLICY, 1) == POLICY.first


def test_a_spent_budget_is_told_in_the_dead_letter() -> None:
    error = Temporary("busy")
    told = describe(error, judge(error, 3, POLICY), 3, POLICY)
    assert told["what"] == "busy (given up after 3 of 3 attempts)"


def test_a_status_changes_only_along_the_table() -> None:
    for old, allowed in ALLOWED.items():
        for new in DeliveryStatus:
            if new in allowed:
                check_change(old, new)
            else:
                with pytest.raises(Exception, match="cannot become"):
                    check_change(old, new)


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_id(1_700_000_000 + n) for n in range(50)]
    assert ids == sorted(ids) and len(set(ids)) == 50 and {len(i) for i in ids} == {26}
    assert len({new_id(1.0) for _ in range(1000)}) == 1000
