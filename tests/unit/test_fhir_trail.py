"""Keeping who saw what: whom it was about is looked up where it holds nobody up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event

from bridge.fhir.audit import Access
from bridge.store.audit import Trail
from tests.rigs.fhir import Facade, new_facade, order, patient, put, remove


@pytest.fixture(params=["sqlite", "postgres"])
def facade(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    with new_facade(request, tmp_path_factory) as found:
        yield found


def test_the_writer_only_inserts_what_was_accessed(facade: Facade) -> None:
    facade.write(put(patient(1, id="p1")), put(patient(2, id="p2")))
    facade.write(*(put(order(n, id=f"o{n}", subject={"reference": "Patient/p1"})) for n in range(2)))
    facade.write(put(order(2, id="o2", subject={"reference": "Patient/p2"})))
    said: list[str] = []

    def write(do: Callable[[Connection], Any]) -> Any:
        def heard(tx: Connection) -> Any:
            event.listen(tx, "before_cursor_execute", lambda *said_: said.append(said_[2]))
            return do(tx)

        return facade.store.write(heard)

    trail = Trail(facade.store.read, write)
    shown = tuple(("ServiceRequest", f"o{n}") for n in range(3))
    trail.keep([Access(1000, "fhir", "", "", "", "127.0.0.1:1", "search-type", "ServiceRequest", "", 200, shown=shown)])

    assert {text.split()[0] for text in said} == {"INSERT"}
    assert [len(trail.find(subject=f"Patient/p{n}")) for n in (1, 2, 3)] == [1, 1, 0]


def test_a_deleted_resource_is_about_the_patient_it_was_about(facade: Facade) -> None:
    facade.write(put(patient(1, id="p1")), put(order(1, id="o1", subject={"reference": "Patient/p1"})))
    facade.write(remove("ServiceRequest/o1"))

    gone = (("ServiceRequest", "o1"),)
    facade.store.trail.keep(
        [Access(1000, "fhir", "", "", "", "127.0.0.1:1", "delete", "ServiceRequest", "o1", 204, shown=gone)]
    )

    assert len(facade.store.trail.find(subject="Patient/p1")) == 1
