"""What a Bundle asks to be written, taken apart and checked."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.errors import CodecError
from bridge.fhir.interaction import Outcome, interactions, version_of
from tests.rigs.fhir import bundle, create, patient, put, remove


def test_entries_become_interactions_in_their_sequence() -> None:
    entries = (
        create(patient(1), "identifier=urn:his|P1", url="urn:uuid:1"),
        put(patient(2, id="p2"), match="3"),
        put(patient(3), "identifier=urn:his|P3"),
        remove("Patient/p4"),
    )

    first, second, third, fourth = interactions(bundle(*entries))

    assert (first.method, first.if_none_exist, first.full_url) == ("POST", "identifier=urn:his|P1", "urn:uuid:1")
    assert (second.method, second.id, second.if_match, second.at) == ("PUT", "p2", "3", "Bundle.entry[1]")
    assert (third.search, third.id) == ("identifier=urn:his|P3", "")
    assert (fourth.method, fourth.id, fourth.resource) == ("DELETE", "p4", None)


@pytest.mark.parametrize(
    ("entry", "at"),
    [
        ({}, "Bundle.entry[0].request"),
        ("text", "Bundle.entry[0].request"),
        ({"request": {"method": "GET", "url": "Patient"}}, "Bundle.entry[0].request.method"),
        ({"request": {"method": "PUT", "url": "no such url"}}, "Bundle.entry[0].request.url"),
        ({"request": {"method": "DELETE", "url": "Patient"}}, "Bundle.entry[0].request.url"),
        ({"request": {"method": "DELETE", "url": "Medication/1"}}, "Bundle.entry[0].request.url"),
        ({"request": {"method": "POST", "url": "Patient/1"}, "resource": patient()}, "Bundle.entry[0].request.url"),
        ({"request": {"method": "POST", "url": "Patient"}}, "Bundle.entry[0].resource"),
        (create(patient(), "") | {"resource": {"resourceType": "Task"}}, "Bundle.entry[0].resource.resourceType"),
        (
            {"request": {"method": "PUT", "url": "Patient/a"}, "resource": patient(id="b")},
            "Bundle.entry[0].resource.id",
        ),
    ],
)
def test_an_entry_that_is_no_write_is_refused_with_its_place(entry: Any, at: str) -> None:
    with pytest.raises(CodecError) as error:
        interactions(bundle(entry))

    assert error.value.at == at


@pytest.mark.parametrize("value", [{}, {"resourceType": "Bundle", "entry": {}}, {"resourceType": "Patient"}])
def test_what_is_no_bundle_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        interactions(value)


def test_an_entity_tag_tells_the_bare_version() -> None:
    assert [version_of(tag) for tag in ('W/"3"', '"3"', "3", "")] == ["3", "3", "3", ""]


def test_an_outcome_names_the_version_it_made() -> None:
    assert Outcome(201, "Patient", "a", "1").location == "Patient/a/_history/1"
