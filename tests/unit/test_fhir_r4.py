"""Resources are judged as R4 (4.0.1) has them, though the models beneath are R4B's: element by element."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge.codecs.fhir_check import Element, elements, faults, model_of
from bridge.fhir.interaction import TYPES
from tests.rigs import definitions_r4 as r4

_NESTED = ("BackboneElement", "Element")
_ELSEWHERE = ("Resource", "Extension", "BackboneElement", "Element", "")
_SYSTEM_TYPES = {"boolean": bool, "integer": int, "positiveInt": int, "unsignedInt": int, "decimal": float}


def differences(name: str, path: str, model: Any, seen: set[str]) -> Iterator[str]:
    ours = {key: one for key, one in elements(model, "R4").items() if not key.startswith("_")}
    theirs = set()
    for key, kind, definition in r4.below(name, path):
        theirs.add(key)
        here = f"{path}.{key}"
        if key not in ours:
            yield f"{here} is not taken"
            continue
        yield from compare(here, kind, definition, ours[key])
        if kind in _NESTED and not definition.get("contentReference"):
            yield from differences(name, definition["path"], ours[key].parts, seen)
        elif kind in r4.definitions() and kind not in (*_ELSEWHERE, *seen) and ours[key].parts is not None:
            seen.add(kind)
            yield from differences(kind, kind, model_of(kind, "R4"), seen)
    yield from (f"{path}.{key} is taken, and R4 has none" for key in ours.keys() - theirs)


def compare(here: str, kind: str, definition: dict[str, Any], ours: Element) -> Iterator[str]:
    if ours.repeats is not (definition["max"] != "1"):
        yield f"{here} repeats: {ours.repeats}"
    if not definition["path"].endswith("[x]") and ours.required is not (definition["min"] > 0):
        yield f"{here} is required: {ours.required}"
    if ours.parts is None and _SYSTEM_TYPES.get(kind, str) not in ours.json:
        yield f"{here} ({kind}) is {ours.json} in JSON"
    allowed = r4.codes(definition)
    if allowed is not None and ours.codes and ours.codes != allowed:
        yield f"{here} takes other codes: {sorted(ours.codes ^ allowed)[:5]}"
    if allowed is not None and not ours.codes and len(allowed) < 100:
        yield f"{here} takes any code"


@pytest.mark.parametrize("kind", [*TYPES, "Bundle", "Parameters", "Extension"])
def test_a_served_type_is_that_of_r4(kind: str) -> None:
    found = set(differences(kind, kind, model_of(kind, "R4"), set()))

    assert found == set()


@pytest.mark.parametrize(
    ("extension", "at"),
    [
        ({"valueMeta": {"tag": [{"code": "x"}]}}, ""),
        ({"valueCodeableReference": {"concept": {"text": "x"}}}, "Patient.extension[0].valueCodeableReference"),
        ({"valueRatioRange": {"denominator": {"value": 1}}}, "Patient.extension[0].valueRatioRange"),
    ],
)
def test_where_r4b_is_another_r4_goes(extension: dict[str, Any], at: str) -> None:
    found = faults({"resourceType": "Patient", "extension": [{"url": "http://example.org/x", **extension}]})

    assert [fault.at for fault in found] == ([at] if at else [])


def test_r5_has_its_own_elements() -> None:
    encounter = {"resourceType": "Encounter", "status": "planned", "class": [{"text": "ambulatory"}]}

    assert faults(encounter, "R5") == []
    assert [fault.at for fault in faults(encounter)] == ["Encounter.class"]
