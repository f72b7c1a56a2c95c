"""Patient identity in the store, on SQLite and on PostgreSQL: what messages change, and what waits for a person."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest

from bridge.codecs.adt import IdentityEvent
from bridge.errors import BridgeError, NotFound
from bridge.message import DeliveryStatus
from bridge.store import identity, identity_desk
from bridge.store.accept import Accept
from bridge.store.finish import Finish
from bridge.store.identity_desk import Person, Question
from bridge.store.search import MessageFilter
from bridge.store.store import Store
from tests.rigs.identity import claim, merge
from tests.rigs.store import acceptance

DOUBT = "two candidates"


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    store.ensure_destinations(["pacs", "worklist"])
    yield store
    store.close()


def say(store: Store, *events: IdentityEvent, message: str = "m") -> list[str]:
    """Apply events, one after the other; all remarks."""
    return [remark for event in events for remark in store.write(lambda tx, e=event: identity.apply(tx, e, message))]


def in_use(store: Store, *identifiers: str) -> list[str]:
    found = store.survivors(identifiers)
    return [found[name]["survivor"] if name in found else name for name in identifiers]


def asked(store: Store, status: str = "open") -> list[Question]:
    found: list[Question] = store.read(lambda c: identity_desk.questions(c, status))
    return found


def person(store: Store, identifier: str) -> Person:
    found: Person = store.read(lambda c: identity_desk.person(c, identifier))
    return found


def accept(store: Store, number: int, survivor: str = "") -> Question:
    return store.answer_identity(number, accept=True, actor="me", reason="by phone", survivor=survivor)


# merges


def test_a_merged_identifier_stands_for_its_survivor(store: Store) -> None:
    assert say(store, merge("O^H", "S^H")) == []

    assert in_use(store, "O^H", "S^H", "O^OTHER") == ["S^H", "S^H", "O^OTHER"]
    assert store.survivors(["O^H"])["O^H"]["authority"] == ["H", "", ""]


@pytest.mark.parametrize("turned", [False, True])
def test_merges_are_transitive_in_whatever_sequence_they_come(store: Store, turned: bool) -> None:
    events = [merge("A^H", "B^H"), merge("B^H", "C^H")]

    say(store, *(reversed(events) if turned else events))

    assert in_use(store, "A^H", "B^H", "C^H") == ["C^H"] * 3


def test_a_merge_told_again_changes_nothing(store: Store) -> None:
    say(store, merge("A^H", "B^H"), merge("B^H", "C^H"))
    history = person(store, "A^H").history

    assert say(store, merge("A^H", "B^H"), merge("A^H", "C^H"), merge("B^H", "C^H")) == []

    assert person(store, "A^H").history == history
    assert asked(store) == []


def test_a_merge_into_itself_is_nothing(store: Store) -> None:
    assert say(store, merge("A^H", "A^H")) == []

    assert store.survivors(["A^H"]) == {}


@pytest.mark.parametrize("around", [["A^H", "B^H"], ["A^H", "B^H", "C^H"]])
def test_a_circular_merge_changes_nothing_and_asks(store: Store, around: list[str]) -> None:
    # Given a chain of merges
    say(store, *(merge(a, b) for a, b in zip(around, around[1:], strict=False)))
    # When its end is merged into its beginning
    remarks = say(store, merge(around[-1], around[0]))
    # Then it stays as it is, and a person is asked
    assert in_use(store, *around) == [around[-1]] * len(around)
    (question,) = asked(store)
    assert remarks == [f"identity question {question.number} is held"]
    assert (question.act, question.identifier, question.candidates) == ("merge", around[-1], (around[0],))
    assert "itself merged" in question.doubt


def test_an_identifier_merged_into_somebody_else_already_changes_nothing_and_asks(store: Store) -> None:
    say(store, merge("A^H", "B^H"))

    (remark,) = say(store, merge("A^H", "C^H"))

    assert "is held" in remark
    assert in_use(store, "A^H") == ["B^H"]
    assert "already merged" in asked(store)[0].doubt


def test_a_doubtful_claim_asks_once_however_often_it_comes(store: Store) -> None:
    doubtful = claim("merge", "O^H", "A^H", "B^H", doubt=DOUBT)

    first, second = say(store, doubtful, doubtful)

    assert first == second
    assert len(asked(store)) == 1
    assert in_use(store, "O^H") == ["O^H"]


# decisions


def test_an_accepted_circular_merge_turns_the_survivor_around(store: Store) -> None:
    say(store, merge("A^H", "B^H"), merge("B^H", "A^H"))

    done = accept(store, asked(store)[0].number)

    assert (done.status, done.actor, done.reason) == ("accepted", "me", "by phone")
    assert in_use(store, "A^H", "B^H") == ["A^H", "A^H"]


def test_an_accepted_merge_replaces_the_former_one(store: Store) -> None:
    say(store, merge("A^H", "B^H"), merge("A^H", "C^H"))

    accept(store, asked(store)[0].number)

    assert in_use(store, "A^H", "B^H") == ["C^H", "B^H"]


def test_a_rejected_question_changes_nothing(store: Store) -> None:
    say(store, merge("A^H", "B^H"), merge("B^H", "A^H"))

    store.answer_identity(asked(store)[0].number, accept=False, actor="me", reason="a typing error")

    assert in_use(store, "A^H") == ["B^H"]
    assert asked(store) == []
    assert [question.status for question in asked(store, "")] == ["rejected"]


def test_of_several_candidates_a_person_names_the_survivor(store: Store) -> None:
    say(store, claim("merge", "O^H", "A^H", "B^H", doubt=DOUBT))
    number = asked(store)[0].number

    with pytest.raises(BridgeError, match=r"A\^H or B\^H") as caught:
        accept(store, number)
    accept(store, number, "B^H")

    assert caught.value.at == "survivor"
    assert in_use(store, "O^H", "A^H") == ["B^H", "A^H"]


def test_of_two_identifiers_in_one_place_the_other_is_retired(store: Store) -> None:
    say(store, claim("merge", "", "A^H", "B^H", doubt=DOUBT))

    accept(store, asked(store)[0].number, "B")

    assert in_use(store, "A^H", "B^H") == ["B^H", "B^H"]


def test_a_question_is_answered_once(store: Store) -> None:
    say(store, claim("merge", "", "A^H", "B^H", doubt=DOUBT))
    number = asked(store)[0].number
    accept(store, number, "B^H")

    with pytest.raises(BridgeError, match="was accepted"):
        accept(store, number, "A^H")
    with pytest.raises(NotFound):
        accept(store, number + 1)

    assert in_use(store, "A^H") == ["B^H"]


def test_a_merge_stays_until_a_person_takes_it_back(store: Store) -> None:
    say(store, merge("A^H", "B^H"), merge("B^H", "C^H"))

    store.unmerge("B^H", actor="me", reason="two people")

    assert in_use(store, "A^H", "B^H") == ["B^H", "B^H"]
    assert [row["act"] for row in person(store, "B^H").history] == ["merge", "merge", "unmerge"]
    with pytest.raises(NotFound):
        store.unmerge("B^H", actor="me", reason="again")


def test_a_decision_is_in_the_audit_trail_without_identifiers(store: Store) -> None:
    from sqlalchemy import text

    say(store, merge("4711^H", "B^H"), merge("B^H", "4711^H"), message="m1")
    accept(store, asked(store)[0].number)
    store.unmerge("B^H", actor="me", reason="two people")

    rows = store.read(lambda c: c.execute(text("SELECT actor, action, subject, detail FROM audit ORDER BY at")).all())
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("me", "identity-accept", "question 1"),
        ("me", "identity-unmerge", "m1"),
    ]
    assert "4711" not in str(rows)


# links and cross-references


def test_linked_identifiers_stay_in_use_and_are_one_person(store: Store) -> None:
    say(store, claim("link", "A^H", "B^CLINIC"), claim("link", "A^H", "B^CLINIC"))

    assert store.survivors(["A^H", "B^CLINIC"]) == {}
    assert person(store, "B^CLINIC").identifiers == ("A^H", "B^CLINIC")
    assert len(person(store, "A^H").history) == 1


def test_an_unlinked_identifier_is_another_person(store: Store) -> None:
    say(store, claim("link", "A^H", "B^H"))

    assert say(store, claim("unlink", "B^H", "A^H")) == []
    assert say(store, claim("unlink", "B^H", "A^H")) == ["nothing to unlink"]

    assert person(store, "A^H").survivor == "A^H"
    assert store.read(lambda c: identity.names(c, "A^H")) == {"A^H"}


def test_a_message_that_unlinks_what_was_merged_asks_whether_to_take_the_merge_back(store: Store) -> None:
    say(store, merge("O^H", "S^H"))

    say(store, claim("unlink", "S^H", "O^H"))

    assert in_use(store, "O^H") == ["S^H"]
    (question,) = asked(store)
    assert (question.act, question.identifier) == ("unlink", "O^H")
    accept(store, question.number)
    assert in_use(store, "O^H") == ["O^H"]


def test_one_of_several_authorities_identifiers_finds_the_others(store: Store) -> None:
    say(store, claim("known", "1^H", "9^SSN"), claim("known", "1^H", "5^LAB"), merge("0^H", "1^H"))

    for name in ("1^H", "9^SSN", "5^LAB", "0^H"):
        assert person(store, name).identifiers == ("0^H", "1^H", "5^LAB", "9^SSN")
    assert person(store, "9").identifier == "9^SSN"


def test_two_patients_who_share_an_identifier_are_not_taken_for_one(store: Store) -> None:
    # Given a patient with a national number
    say(store, claim("known", "1^H", "9^SSN"))
    # When another patient comes with the same number, twice
    (first, second) = say(store, claim("known", "2^H", "9^SSN"), claim("known", "2^H", "9^SSN"))
    # Then a person is asked, once
    assert first == second and "is held" in first
    assert "2^H" not in store.read(lambda c: identity.names(c, "1^H"))
    # And when they are one person, they are linked
    accept(store, asked(store)[0].number)
    assert person(store, "2^H").identifiers == ("1^H", "2^H", "9^SSN")
    assert say(store, claim("known", "2^H", "9^SSN")) == []


def test_a_rejected_match_is_not_asked_again(store: Store) -> None:
    say(store, claim("known", "1^H", "9^SSN"), claim("known", "2^H", "9^SSN"))
    store.answer_identity(asked(store)[0].number, accept=False, actor="me", reason="twins")

    assert say(store, claim("known", "2^H", "9^SSN")) == ["identity question 1 is rejected"]
    assert asked(store) == []


def test_merged_patients_who_share_an_identifier_are_one(store: Store) -> None:
    say(store, claim("known", "1^H", "9^SSN"), merge("2^H", "1^H"))

    assert say(store, claim("known", "2^H", "9^SSN")) == []


def test_nothing_is_known_of_a_stranger(store: Store) -> None:
    say(store, merge("1^H", "2^H"), merge("1^OTHER", "2^OTHER"))

    for stranger in ("3^H", "3"):
        with pytest.raises(NotFound):
            person(store, stranger)
    with pytest.raises(NotFound) as caught:
        person(store, "1")
    assert "1^H, 1^OTHER" in caught.value.fix


# in the accept transaction


def test_what_follows_a_merge_in_the_same_commit_sees_it(store: Store) -> None:
    # Given an order, a merge and another order of the retired identifier
    before = acceptance("C1", "pacs", keys=("O^H",), patients=("O^H",))
    event = acceptance("C2", "pacs", keys=("O^H", "S^H"), patients=("S^H", "O^H"))
    event.event = merge("O^H", "S^H")
    after = acceptance("C3", "pacs", keys=("O^H",), patients=("O^H",))
    for item in (before, event, after):
        item.deliveries[0].mapping = "some"
    # When they are accepted in one commit
    store.write(lambda tx: Accept().run(tx, [before, event, after]))
    # Then only what follows the merge is kept in one lane with the survivor, and told so
    owed = [one.delivery for one in store.claim("pacs", 0, 9)[0]]
    assert [set(one.keys) for one in owed] == [{"O^H"}, {"O^H", "S^H"}, {"O^H", "S^H"}]
    known = {"O^H": {"survivor": "S^H", "authority": ["H", "", ""]}}
    assert [one.context for one in owed] == [{}, {"identity": known}, {"identity": known}]


async def test_by_order_what_comes_under_a_merged_identifier_shares_the_survivors_lane(store: Store) -> None:
    event = acceptance("C1", "pacs", keys=("O^H", "S^H", "~O^H", "~S^H"), patients=("S^H", "O^H"))
    event.event = merge("O^H", "S^H")
    order = acceptance("C2", "pacs", keys=("placer:1^RIS", "~O^H"), patients=("O^H",))
    update = acceptance("C3", "pacs", keys=("O^H", "~O^H"), patients=("O^H",))

    for item in (event, order, update):
        await store.accept(item)

    keys = [set(owed.delivery.keys) for owed in store.claim("pacs", 0, 10)[0]]
    assert keys[1:] == [{"placer:1^RIS", "~O^H", "~S^H"}, {"O^H", "S^H", "~O^H", "~S^H"}]


async def test_a_held_claim_is_a_warning_of_its_message(store: Store) -> None:
    item = acceptance("C1", "pacs")
    item.event = claim("merge", "O^H", "A^H", "B^H", doubt=DOUBT)

    await store.accept(item)

    assert store.message(item.message.id)["warnings"] == ["identity question 1 is held"]
    assert asked(store)[0].message == item.message.id


async def test_an_event_about_two_patients_that_takes_no_effect_is_a_warning_of_its_message(store: Store) -> None:
    item = acceptance("C1", "pacs")
    item.event = IdentityEvent("A43", (), "MRG-4 names another patient, and A43 changes no identifier here")

    await store.accept(item)

    assert store.message(item.message.id)["warnings"] == [item.event.remark]


async def test_a_resent_message_does_not_claim_twice(store: Store) -> None:
    for _ in range(2):
        item = acceptance("C1", "pacs")
        item.event = merge("O^H", "S^H")
        await store.accept(item)
        store.write(lambda tx: identity.revive(tx, "O^H", "m", "me"))

    assert store.survivors(["O^H"]) == {}


async def test_messages_are_found_by_any_identifier_of_their_patient(store: Store) -> None:
    for control, patient in (("C1", "O^H"), ("C2", "S^H"), ("C3", "X^H")):
        await store.accept(acceptance(control, patients=(patient,)))
    say(store, merge("O^H", "S^H"), claim("known", "S^H", "9^SSN"))

    for wanted in ("O^H", "S^H", "9^SSN", "O", "9"):
        found = store.messages(MessageFilter(patient=wanted))
        assert {row["control_id"] for row in found} == {"C1", "C2"}, wanted
    assert [row["control_id"] for row in store.messages(MessageFilter(patient="X"))] == ["C3"]


def test_two_nodes_that_merge_each_others_survivors_close_no_circle(postgres_url: str) -> None:
    # Given two nodes on one database
    nodes = [Store(postgres_url), Store(postgres_url)]
    names = [f"{n}^H" for n in range(20)]
    # When one merges upwards and the other downwards, at once
    pairs = list(zip(names, names[1:], strict=False))
    up = [merge(a, b) for a, b in pairs]
    down = [merge(b, a) for a, b in reversed(pairs)]
    threads = [Thread(target=say, args=(node, *events)) for node, events in zip(nodes, (up, down), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then every identifier still has an end
    lines = [nodes[0].read(lambda c, n=name: identity.chain(c, n)) for name in names]
    ends = {line[-1] for line in lines}
    assert nodes[0].survivors(ends) == {}
    for node in nodes:
        node.close()


def test_a_claim_of_two_things_applies_both(store: Store) -> None:
    both = (*merge("A^H", "B^H").claims, *merge("C^H", "B^H").claims)

    say(store, IdentityEvent("A40", both))

    assert in_use(store, "A^H", "C^H") == ["B^H", "B^H"]


async def test_a_merge_that_waits_for_one_patient_holds_the_other_one_too(store: Store) -> None:
    # Given a dead delivery of A; a merge of A into B; one of B into C; deliveries of B, C and of a stranger
    keys = [("A^H",), ("A^H", "B^H"), ("B^H", "C^H"), ("B^H",), ("C^H",), ("X^H",)]
    for n, mine in enumerate(keys):
        await store.accept(acceptance(f"C{n}", "pacs", keys=mine))
    (lease, *_) = await store.leases("me", ["pacs"], alone=True)
    dead = store.claim("pacs", 0, 9)[0][0].delivery
    error = {"kind": "required", "what": "no accession", "at": "OBR-18", "fix": "send it"}
    await store.finish(Finish(dead, lease.epoch, DeliveryStatus.DEAD, error=error))
    # Then only the stranger's may go
    assert [one.control_id for one in store.claim("pacs", 0, 9)[0]] == ["C5"]
    # And all of them once a person gave the dead one up
    store.skip([dead.id], actor="me", reason="told by phone")
    assert [one.control_id for one in store.claim("pacs", 0, 9)[0]] == ["C1", "C2", "C3", "C4", "C5"]
