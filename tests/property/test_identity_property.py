"""Properties of patient identity that hold whatever messages claim and people decide, in whatever sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.pool import StaticPool

from bridge.store import identity, identity_desk
from bridge.store import identity_tables as t
from bridge.store.schema import audit, metadata
from tests.rigs.identity import claim, merge

NAMES = [f"{n}^H" for n in range(6)]
NAME = st.sampled_from(NAMES)
SAY = st.tuples(st.sampled_from(["merge", "merge", "change", "link", "unlink", "known"]), NAME, NAME)
OPEN = st.tuples(st.just("open"), NAME, NAME)
UNMERGE = st.tuples(st.just("unmerge"), NAME, NAME)
ANSWER = st.tuples(st.sampled_from(["accept", "reject"]), NAME, NAME)
STORY = st.lists(st.one_of(SAY, SAY, OPEN, UNMERGE, ANSWER), max_size=30)
MERGES = st.lists(st.tuples(NAME, NAME), max_size=20)


ENGINE = create_engine("sqlite://", poolclass=StaticPool)
metadata.create_all(ENGINE, tables=[*t.TABLES, audit])


@contextmanager
def database() -> Iterator[Connection]:
    """A transaction on empty tables; nothing of it stays."""
    with ENGINE.connect() as connection:
        yield connection
        connection.rollback()


def live(tx: Connection, kind: str, one: str, other: str) -> None:
    """Something happens: a message, or a person's decision about the oldest open question."""
    if kind == "unmerge":
        identity.revive(tx, one, "m", "me")
    elif kind in ("accept", "reject"):
        asked = identity_desk.questions(tx)
        for question in asked[:1]:
            survivor = other if other in question.candidates else question.candidates[0]
            identity_desk.answer(
                tx, question.number, accept=kind == "accept", actor="me", reason="so", survivor=survivor
            )
    elif kind == "open" and one != other:
        identity.apply(tx, claim("merge", "", one, other, doubt="which"), "m")
    elif kind != "open":
        identity.apply(tx, claim(kind, one, other), "m")


def aliases(tx: Connection) -> dict[str, str]:
    return {row.identifier: row.survivor for row in tx.execute(select(t.alias))}


@settings(max_examples=150, deadline=None)
@given(STORY)
def test_every_identifier_has_one_end_that_is_in_use(story: list[tuple[str, str, str]]) -> None:
    with database() as tx:
        for kind, one, other in story:
            live(tx, kind, one, other)
            direct, found = aliases(tx), identity.survivors(tx, NAMES)
            ends = {name: found[name]["survivor"] if name in found else name for name in NAMES}
            assert found.keys() == direct.keys()
            assert direct.keys().isdisjoint(ends.values())
            assert all(ends[name] == ends[survivor] for name, survivor in direct.items())


@settings(max_examples=150, deadline=None)
@given(STORY)
def test_a_message_alone_never_revives_what_was_merged_away(story: list[tuple[str, str, str]]) -> None:
    with database() as tx:
        for kind, one, other in story:
            before = aliases(tx)
            live(tx, kind, one, other)
            if kind not in ("unmerge", "accept"):
                assert before.items() <= aliases(tx).items()


@settings(max_examples=150, deadline=None)
@given(MERGES)
def test_merges_told_again_change_nothing(merges: list[tuple[str, str]]) -> None:
    with database() as tx:
        for retired, survivor in merges:
            identity.apply(tx, merge(retired, survivor), "m")
            settled, asked = aliases(tx), identity_desk.questions(tx)

            identity.apply(tx, merge(retired, survivor), "m")

            assert aliases(tx) == settled
            assert identity_desk.questions(tx) == asked


@settings(max_examples=150, deadline=None)
@given(MERGES)
def test_merges_do_what_following_them_by_hand_does(merges: list[tuple[str, str]]) -> None:
    by_hand: dict[str, str] = {}

    def end(name: str) -> str:
        return end(by_hand[name]) if name in by_hand else name

    with database() as tx:
        for retired, survivor in merges:
            if retired not in by_hand and end(survivor) != retired:
                by_hand[retired] = survivor
            identity.apply(tx, merge(retired, survivor), "m")

        found = identity.survivors(tx, NAMES)
        assert {name: known["survivor"] for name, known in found.items()} == {name: end(name) for name in by_hand}


@settings(max_examples=100, deadline=None)
@given(STORY)
def test_people_find_a_person_by_any_identifier(story: list[tuple[str, str, str]]) -> None:
    with database() as tx:
        for kind, one, other in story:
            live(tx, kind, one, other)
        groups = {name: identity.names(tx, name) for name in NAMES}
        for name, group in groups.items():
            assert name in group
            assert all(groups[other] == group for other in group)
