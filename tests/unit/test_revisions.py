"""Which revision runs, which one a start or a rollback chooses, and what is still owed to what was removed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.store import revisions
from bridge.store.revisions import Kind
from bridge.store.store import Store
from tests.rigs.store import acceptance


class Books:
    """A store's deployments, each made under its revision's one-letter name."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def deploy(self, revision: str, kind: Kind = "deploy") -> int:
        return int(self.store.write(lambda tx: revisions.deploy(tx, revision, kind, actor="me", why="why")).number)

    def refuse(self, number: int) -> None:
        self.store.write(lambda tx: revisions.refuse(tx, number, "node", "port taken"))

    @property
    def running(self) -> str:
        found = self.store.read(revisions.active)
        return found.revision if found else ""

    def at_start(self, revision: str) -> str:
        return str(self.store.read(lambda c: revisions.at_start(c, revision)))

    def rollback(self) -> str:
        """Roll back as often as said; what runs then."""
        self.deploy(self.store.read(revisions.before), "rollback")
        return self.running


@pytest.fixture
def books(store_url: str) -> Iterator[Books]:
    store = Store(store_url)
    yield Books(store)
    store.close()


def test_a_deployment_that_a_node_refused_was_never_active_and_its_number_is_not_used_again(books: Books) -> None:
    assert [books.deploy("A", "start"), books.deploy("B"), books.deploy("B")] == [1, 2, 2]
    books.refuse(2)
    assert books.running == "A"
    assert books.deploy("C") == 3
    books.refuse(2)
    kept = [(one.revision, one.former, one.refused) for one in books.store.read(revisions.history)]
    assert kept == [("C", "A", ""), ("B", "A", "port taken"), ("A", "", "")]


def test_one_rollback_after_the_other_goes_further_back(books: Books) -> None:
    assert books.store.read(revisions.before) == ""
    for revision in "ABC":
        books.deploy(revision)

    assert [books.rollback(), books.rollback()] == ["B", "A"]
    assert books.store.read(revisions.before) == ""


def test_a_start_runs_the_files_on_disk_unless_a_person_put_them_aside(books: Books) -> None:
    assert books.at_start("A") == "A"
    books.deploy("A", "start")
    books.deploy("B", "start")
    # Files that were changed back and forth between starts run as they are
    assert books.at_start("A") == "A"
    # Those that a person rolled back, replaced or could not deploy stay where they are
    assert books.rollback() == "A"
    assert books.at_start("B") == "A"
    books.refuse(books.deploy("C"))
    assert books.at_start("C") == "A"
    books.deploy("D")
    assert books.at_start("A") == "D"
    # Files that nobody has seen before run
    assert books.at_start("E") == "E"


def test_every_deployment_and_refusal_is_audited(books: Books) -> None:
    from sqlalchemy import select

    from bridge.store import schema as t

    books.refuse(books.deploy("A", "start"))
    rows = books.store.read(
        lambda c: c.execute(select(t.audit.c.actor, t.audit.c.action, t.audit.c.subject).order_by(t.audit.c.id)).all()
    )

    assert [tuple(row) for row in rows] == [("me", "start", "A"), ("node", "refuse", "1")]


async def test_what_is_on_its_way_to_a_removed_destination_names_its_newest_revision(books: Books) -> None:
    books.store.ensure_destinations(["pacs", "vna", "empty"])
    for control_id, revision in (("C1", "A"), ("C2", "B")):
        wish = acceptance(control_id, "pacs", "vna")
        for delivery in wish.deliveries:
            delivery.revision = revision
        await books.store.accept(wish)

    assert books.store.read(lambda c: revisions.owed_elsewhere(c, ["vna"])) == {"pacs": "B"}
    assert books.store.read(revisions.named) == {(name, by) for name in ("pacs", "vna") for by in "AB"}
