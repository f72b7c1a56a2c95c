"""The sequence of deliveries in memory."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.lane import Entry, Lanes
from bridge.message import Delivery
from bridge.store.deliveries import Owed


def entry(position: int, *keys: str) -> Entry:
    delivery = Delivery(f"d{position}", "m", 20260101, "r", "pacs", "", "rev", keys or ("",), position=position)
    return Entry(Owed(delivery, b"", "hl7v2", "", "utf-8", 0))


def positions(lanes: Lanes, now: float = 0.0) -> list[int]:
    taken = []
    while (found := lanes.take(now)) is not None:
        taken.append(found.position)
    return taken


def test_one_lane_keeps_its_sequence_and_sends_one_at_a_time() -> None:
    lanes = Lanes()
    lanes.add([entry(2), entry(1), entry(3)])
    first = lanes.take(0.0)
    assert first and first.position == 1
    assert lanes.take(0.0) is None
    lanes.sent(first)
    assert positions(lanes) == [2]


def test_other_keys_go_on_while_one_key_waits_for_its_retry() -> None:
    lanes = Lanes()
    lanes.add([entry(1, "a"), entry(2, "b"), entry(3, "a")])
    first = lanes.take(0.0)
    assert first
    lanes.again(first, due=10.0)
    assert positions(lanes, now=5.0) == [2]
    assert positions(lanes, now=10.0) == [1], "the retry goes before what came after it on its key"


def test_a_merge_waits_for_both_patients_and_holds_both() -> None:
    lanes = Lanes()
    lanes.add([entry(1, "a"), entry(2, "a", "b"), entry(3, "b"), entry(4, "c")])
    assert positions(lanes) == [1, 4]
    lanes.sent(lanes.busy["d1"])
    assert positions(lanes) == [2]
    lanes.sent(lanes.busy["d2"])
    assert positions(lanes) == [3]


def test_a_delivery_that_was_sent_but_not_marked_is_not_taken_again() -> None:
    lanes = Lanes()
    lanes.add([entry(1)])
    taken = lanes.take(0.0)
    assert taken
    lanes.sent(taken)
    lanes.add([entry(1), entry(2)])
    assert positions(lanes) == [2]
    lanes.marked("d1")
    assert "d1" not in lanes.known()


@given(
    st.lists(st.sets(st.sampled_from("abcd"), min_size=1, max_size=2), min_size=1, max_size=25),
    st.integers(0, 1000),
)
def test_whatever_finishes_first_no_key_is_ever_overtaken(keys: list[set[str]], seed: int) -> None:
    random = Random(seed)
    lanes = Lanes()
    lanes.add([entry(n + 1, *sorted(names)) for n, names in enumerate(keys)])
    ended: list[Entry] = []
    while lanes.waiting or lanes.busy:
        while (taken := lanes.take(0.0)) is not None:
            earlier = [e for e in [*lanes.waiting, *lanes.busy.values()] if e.position < taken.position]
            assert not any(set(e.keys) & set(taken.keys) for e in earlier)
        done = random.choice(list(lanes.busy.values()))
        if random.random() < 0.3:
            lanes.again(done, due=0.0)
        else:
            lanes.sent(done)
            ended.append(done)
    assert len(ended) == len(keys)
