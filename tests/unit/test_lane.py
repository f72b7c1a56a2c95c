"""The sequence of deliveries in memory."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.lane import Entry, Lanes
from bridge.engine.plan import lane_keys
from bridge.message import Delivery, Header, shared_keys
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


def test_orders_of_a_patient_go_at_once_and_a_merge_of_the_patient_waits_for_all_and_holds_up_all() -> None:
    # Given two orders of patient a, a merge of a into b, and an order of a, b and c each
    lanes = Lanes()
    lanes.add([entry(1, "o1", "~a"), entry(2, "o2", "~a"), entry(3, "a", "~a", "b", "~b")])
    lanes.add([entry(4, "o4", "~a"), entry(5, "o5", "~b"), entry(6, "o6", "~c")])
    # Then both orders go at once, and the one of c with them
    assert positions(lanes) == [1, 2, 6]
    lanes.sent(lanes.busy["d1"])
    assert positions(lanes) == []
    # And the merge goes alone, once they have ended
    lanes.sent(lanes.busy["d2"])
    assert positions(lanes) == [3]
    lanes.sent(lanes.busy["d3"])
    assert positions(lanes) == [4, 5]


def test_by_order_a_message_with_orders_shares_its_patients_and_one_without_has_them_alone() -> None:
    order = Header(type="ORM^O01", patients=("P1^H",), orders=("placer:1^RIS",))
    merge = Header(type="ADT^A40", patients=("P2^H", "P1^H"))

    assert lane_keys(order, "order") == ("placer:1^RIS", "~P1^H")
    assert lane_keys(merge, "order") == ("P1^H", "P2^H", "~P1^H", "~P2^H")
    assert lane_keys(Header(type="ORM^O01"), "order") == ("-",)
    assert lane_keys(order, "patient") == ("P1^H",)


def test_a_patient_whose_identifier_is_too_long_for_a_key_is_held_alone_all_the_same() -> None:
    keys = lane_keys(Header(type="ADT^A08", patients=(300 * "P" + "^H",)), "order")
    assert shared_keys(keys) == frozenset() and {len(key) for key in keys} == {254, 255}


def test_a_patient_whose_identifier_begins_like_a_shared_key_is_held_alone_all_the_same() -> None:
    patient = Header(type="ADT^A08", patients=("~P1^H",))
    assert shared_keys(lane_keys(patient, "patient")) == frozenset() == shared_keys(lane_keys(patient, "order"))


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


ORDER = st.tuples(st.sampled_from(["o1", "o2", "o3"]), st.sampled_from(["~a", "~b"]))
ABOUT = st.sampled_from([("a", "~a"), ("b", "~b"), ("a", "~a", "b", "~b")])
"""An order of a patient, and what is about patients themselves, as :func:`lane_keys` has them."""


def in_sequence(one: Entry, other: Entry) -> bool:
    """Whether the two may not go at once: they are of one order or patient, unless both are orders of that patient."""
    orders = "~" in "".join(one.keys) and one.keys[0][0] == "o" == other.keys[0][0]
    return one.keys[0] == other.keys[0] if orders else bool(set(one.keys) & set(other.keys))


@given(
    st.one_of(
        st.lists(st.sets(st.sampled_from("abcd"), min_size=1, max_size=2).map(sorted), min_size=1, max_size=25),
        st.lists(ORDER | ABOUT, min_size=1, max_size=25),
    ),
    st.integers(0, 1000),
)
def test_whatever_finishes_first_no_key_is_ever_overtaken(keys: list[Sequence[str]], seed: int) -> None:
    random = Random(seed)
    lanes = Lanes()
    lanes.add([entry(n + 1, *names) for n, names in enumerate(keys)])
    ended: list[Entry] = []
    while lanes.waiting or lanes.busy:
        while (taken := lanes.take(0.0)) is not None:
            earlier = [e for e in [*lanes.waiting, *lanes.busy.values()] if e.position < taken.position]
            assert not any(in_sequence(e, taken) for e in earlier)
        assert all(
            any(in_sequence(e, one) for e in [*lanes.waiting, *lanes.busy.values()] if e is not one)
            for one in lanes.waiting
        )
        done = random.choice(list(lanes.busy.values()))
        if random.random() < 0.3:
            lanes.again(done, due=0.0)
        else:
            lanes.sent(done)
            ended.append(done)
    assert len(ended) == len(keys)
