"""What is taken without an instance of its model is what the model takes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.codecs import fhir_check
from bridge.codecs.fhir_sure import surely_valid
from tests.rigs.need import REPOSITORY

MADE = [
    json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((REPOSITORY / "mappings").rglob("*.snapshots/*.json"))
]
BUNDLES = [made for made in MADE if made.get("entry")]
RESOURCES = [*(entry["resource"] for bundle in BUNDLES for entry in bundle["entry"]), *BUNDLES]
ODD = st.sampled_from(
    [
        *("", "  ", "x y", "a\n", "é", "urn:uuid:1", "http://[", "24:00:00"),
        *("2026-02-30", "2026-13", "2026-01-01T00:00:00", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.1234567+14:30"),
        *(None, True, 0, -1, 2**40, 1.5, [], {}, [None], ["a"], [{}], {"x": 1}, {"value": "x"}),
    ]
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of everything inside a resource, but for its type."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        if key != "resourceType":
            yield (*at, key)
            yield from places(part, (*at, key))


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """A resource as mappings make it, but for one element taken away, made odd, or added."""
    resource: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(RESOURCES)))
    *path, last = draw(st.sampled_from(list(places(resource))))
    inside: Any = resource
    for key in path:
        inside = inside[key]
    act = draw(st.sampled_from(["remove", "change", "change", "add"]))
    if act == "remove":
        del inside[last]
    elif act == "change" or isinstance(inside, list):
        inside[last] = draw(ODD)
    else:
        model = fhir_check.model_of(resource["resourceType"], "R4")
        resource[draw(st.sampled_from(sorted(fhir_check.elements(model, "R4"))))] = draw(ODD)
    return resource


@settings(max_examples=600, deadline=None)
@given(changed())
def test_what_passes_without_an_instance_of_its_model_is_what_the_model_takes(resource: dict[str, Any]) -> None:
    model = fhir_check.model_of(resource["resourceType"], "R4")

    if not fhir_check.faults(resource):
        model.model_validate(resource)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource["resourceType"])
def test_what_the_shipped_mappings_make_needs_no_instance(resource: dict[str, Any]) -> None:
    assert surely_valid(fhir_check.model_of(resource["resourceType"], "R4"), resource)
