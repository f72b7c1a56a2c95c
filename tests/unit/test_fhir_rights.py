"""What scopes grant, and to whom a resource belongs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.fhir.parameters import PARAMETERS
from bridge.fhir.query import restriction
from bridge.fhir.rights import COMPARTMENT, Forbidden, rights
from tests.rigs.definitions_r4 import compartment

LETTERS = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}


def acts(scopes: str, kind: str) -> str:
    """What scopes grant for a type, as the letters of version 2."""
    mine = rights(scopes, client="x")
    return "".join(letter for letter, act in LETTERS.items() if mine.may(act, kind))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scopes", "granted"),
    [
        ("system/Patient.read", "rs"),
        ("system/Patient.write", "cud"),
        ("system/Patient.*", "cruds"),
        ("user/*.read", "rs"),
        ("system/Patient.r system/Patient.c", "cr"),
        ("system/Patient.cu", "cu"),
        ("system/Patient.", ""),
        ("system/Patient.uc", ""),
        ("system/patient.read", ""),
        ("system/Observation.cruds", ""),
        ("system/Patient.readwrite", ""),
        ("launch/patient openid system/Patient.r?", ""),
        ("system/Patient.rs?no-such=1", ""),
        ("patient/Patient.rs", ""),
    ],
)
def test_a_scope_grants_what_it_names(scopes: str, granted: str) -> None:
    assert acts(scopes, "Patient") == granted


def test_a_patients_compartment_is_what_r4_says_as_far_as_it_is_served() -> None:
    defined = compartment("patient")

    for kind, names in COMPARTMENT.items():
        served = {name for name in defined.get(kind, ()) if name in PARAMETERS[kind]}
        assert set(names) - {"_id"} <= served | {"patient"}, kind
        assert served - {"focus"} <= set(names) | ({"subject"} if "patient" in names else set()), kind
    assert set(defined) <= set(COMPARTMENT)


@pytest.mark.parametrize("kind", sorted(PARAMETERS))
@pytest.mark.parametrize("sees", ["ServiceRequest?requester:identifier=urn:x|{who}", "Patient?identifier=urn:x|{who}"])
def test_every_restriction_can_be_searched_by(kind: str, sees: str) -> None:
    mine = rights("patient/*.rs user/*.rs?_id=1", patient="p1", sees=[sees], claims={"who": "a,b|c$d\\"}, client="x")

    conditions = restriction(kind, mine.restrict(kind))

    for condition in conditions:
        assert condition.any_of is not None or condition.parameter


@pytest.mark.parametrize("claims", [{}, {"who": ""}, {"who": 7}, {"who": None}, {"who": ["a"]}, {"who": "a\nb"}])
def test_a_claim_that_is_needed_and_not_there_lets_nothing_be_seen(claims: dict[str, Any]) -> None:
    with pytest.raises(Forbidden, match="lacks the claim `who`"):
        rights("user/*.rs", sees=["Patient?identifier={who}"], claims=claims, client="x")


def test_a_claim_is_a_value_and_nothing_more() -> None:
    claims = {"who": "a,urn:x|b&_id=1%2C+"}
    mine = rights("user/*.rs", sees=["Patient?identifier=urn:x|{who}"], claims=claims, client="x")

    (pair,) = mine.restrict("Patient")

    ways = json.loads(pair[1])
    assert ways[0] == [["identifier", "urn:x|a\\,urn:x\\|b&_id=1%2C+"]]


def test_who_is_restricted_writes_what_all_share_only_by_its_name() -> None:
    portal = rights("user/*.cruds user/Location.c", sees=["Patient?identifier=1"], client="x")

    assert portal.may("read", "Practitioner") and not portal.may("create", "Practitioner")
    assert portal.may("create", "Location") and not portal.may("update", "Location")
    assert not portal.may("search", "")
