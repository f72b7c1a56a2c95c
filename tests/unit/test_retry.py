"""The policy that turns an attempt's end into a verdict."""

from __future__ import annotations

import pytest

from bridge.engine.retry import backoff, describe, judge, wait_for
from bridge.errors import MappingError, Permanent, Temporary, Uncertain, Unreachable
from bridge.message import ALLOWED, DeliveryStatus, check_change, new_id
from bridge.ports import RetryPolicy

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


def test_a_defect_of_ours_holds_the_lane_and_spends_nothing() -> None:
    verdict = judge(ZeroDivisionError(), 50, POLICY)
    assert verdict.bug and not verdict.counted and verdict.status is DeliveryStatus.PENDING
    assert "ZeroDivisionError" in describe(ZeroDivisionError("secret"), verdict, 50, POLICY)["what"]
    assert "secret" not in str(describe(ZeroDivisionError("secret"), verdict, 50, POLICY))


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
