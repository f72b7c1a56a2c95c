"""Searches that are meant to hurt: they are refused, or answered, but never cost more than one should."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.errors import Refused
from tests.rigs.fhir import Facade, new_facade, order, patient, put


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def facade(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    """Two patients, the first with an order."""
    with new_facade(request, tmp_path_factory) as found:
        first = patient(1, id="p1", name=[{"family": "EXEMPLE"}], birthDate="1980-02-03")
        found.write(
            put(first),
            put(patient(2, id="p2", birthDate="1950")),
            put(order(1, id="o1", subject={"reference": "Patient/p1"})),
        )
        yield found


def _cursor(said: Any) -> str:
    return base64.urlsafe_b64encode(said if isinstance(said, bytes) else json.dumps(said).encode()).decode()


@pytest.mark.parametrize(
    ("sort", "said"),
    [
        ("birthdate", [10**30, 1]),
        ("_lastUpdated", [-(10**30), 1]),
        ("birthdate", [True, 1]),
        ("birthdate", [0, True]),
        ("family", ["\ud800", 1]),
        ("-_id", ["\x00", 1]),
        ("-birthdate,family", [0, "\udfff", 1]),
        ("birthdate", [float("nan"), 1]),
        ("birthdate", b"[" * 20_000),
    ],
)
def test_a_forged_cursor_is_refused_as_no_page_of_the_search(facade: Facade, sort: str, said: Any) -> None:
    with pytest.raises(Refused) as refused:
        facade.page("Patient", ("_sort", sort), cursor=_cursor(said))

    assert refused.value.at == "_cursor"


def test_ranges_of_one_date_do_not_multiply(facade: Facade) -> None:
    without = [("birthdate", f"ne{1940 + year}") for year in range(39)]

    assert facade.found("Patient", *without) == ["p1"]
    assert facade.found("Patient", *without, ("birthdate", "ne1980-02-03")) == []


def test_what_asks_for_more_than_five_hundred_values_in_all_is_refused(facade: Facade) -> None:
    many = ",".join(str(number) for number in range(300))

    with pytest.raises(Refused) as refused:
        facade.page("Patient", ("identifier", many), ("family", many))

    assert "values" in refused.value.what
    assert facade.found("Patient", ("family", f"EXEMPLE,{many}")) == ["p1"]


def test_references_are_followed_as_far_as_every_database_reads_the_question(facade: Facade) -> None:
    deepest = ("_has:ServiceRequest:patient:_has:ServiceRequest:based-on:based-on.identifier", "x")
    walked = ("based-on.based-on.based-on.identifier", "a|b")

    assert facade.found("Patient", deepest, ("_sort", "birthdate")) == []
    assert facade.found("ServiceRequest", walked, ("status", "active"), ("_sort", "authored")) == []
    with pytest.raises(Refused) as refused:
        facade.page("ServiceRequest", ("based-on.based-on.based-on.based-on.identifier", "a|b"))
    assert refused.value.kind == "search"


def test_a_page_is_not_sorted_by_more_than_ten_parameters(facade: Facade) -> None:
    with pytest.raises(Refused) as refused:
        facade.page("Patient", ("_sort", ",".join(["family", "birthdate"] * 6)))

    assert refused.value.at == "_sort"


@pytest.mark.parametrize("blank", [",", " ", "\u0301", "EXEMPLE,"])
def test_a_blank_name_is_refused_and_does_not_match_every_name(facade: Facade, blank: str) -> None:
    with pytest.raises(Refused) as refused:
        facade.page("Patient", ("name", blank))

    assert refused.value.at == "name"
