"""What a folder publishes for judging: StructureDefinitions, and ValueSets and CodeSystems with their codes.

A folder holds JSON files, one resource or a Bundle of them in each, in any folders below: a FHIR package that is
unpacked there is read as it is. Other resources and other files are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

Json = dict[str, Any]
Code = tuple[str, str]
"""System and code."""
_KINDS = ("StructureDefinition", "ValueSet", "CodeSystem")


@dataclass(frozen=True, slots=True)
class Note:
    """Of a folder: a mistake that keeps a file from being used (``error``), or what is in it and is not judged."""

    file: str
    at: str
    """The element in the profile, ``Patient.identifier:INS``; empty for the file as a whole."""
    what: str
    severity: Literal["error", "warning"] = "warning"


@dataclass(slots=True)
class Published:
    """The resources of a folder by their canonical URLs."""

    definitions: dict[str, Json] = field(default_factory=dict)
    value_sets: dict[str, Json] = field(default_factory=dict)
    code_systems: dict[str, Json] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """Where each definition stands, below the folder."""
    notes: list[Note] = field(default_factory=list)

    def codes(self, canonical: str) -> frozenset[Code] | None:
        """The codes of a value set; None where the folder does not list all of them (R4 valueset.html 4.9.5)."""
        return self._codes(bare(canonical), ())

    def _codes(self, url: str, above: tuple[str, ...]) -> frozenset[Code] | None:
        found = self.value_sets.get(url)
        if found is None or url in above:
            return None
        compose = found.get("compose", {})
        if not compose.get("include"):
            expansion = found.get("expansion", {})
            listed = frozenset(_expanded(expansion.get("contains", [])))
            return listed if listed and expansion.get("total", len(listed)) == len(listed) else None
        parts = [self._part(part, (*above, url)) for part in compose["include"]]
        taken_out = [self._part(part, (*above, url)) for part in compose.get("exclude", [])]
        known = [part for part in (*parts, *taken_out) if part is not None]
        if len(known) < len(parts) + len(taken_out):
            return None
        return frozenset().union(*known[: len(parts)]) - frozenset().union(*known[len(parts) :])

    def _part(self, part: Json, above: tuple[str, ...]) -> frozenset[Code] | None:
        """Of one include or exclude: what its system and all of its value sets have in common."""
        sets = [self._codes(bare(url), above) for url in part.get("valueSet", [])]
        if system := part.get("system"):
            sets.append(self._of_system(system, part))
        known = [one for one in sets if one is not None]
        return frozenset.intersection(*known) if known and len(known) == len(sets) else None

    def _of_system(self, system: str, part: Json) -> frozenset[Code] | None:
        if part.get("filter"):
            return None
        concepts = part.get("concept")
        if concepts is None:
            known = self.code_systems.get(bare(system), {})
            concepts = known.get("concept") if known.get("content") == "complete" else None
        return None if concepts is None else frozenset((system, code) for code in _listed(concepts))


def bare(canonical: str) -> str:
    """A canonical URL without its version."""
    return str(canonical).partition("|")[0]


def read(folder: Path) -> Published:
    """All that the files of a folder publish; what cannot be read is among the notes."""
    found = Published()
    if not folder.is_dir():
        found.notes.append(Note("", "", "there is no such folder", "error"))
        return found
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        try:
            value = json.loads(path.read_bytes(), parse_float=Decimal)
        except (OSError, ValueError, RecursionError):
            found.notes.append(Note(name, "", "not a readable JSON file", "error"))
            continue
        for one in _resources(value):
            _add(found, one, name)
    if not found.definitions and not found.notes:
        found.notes.append(Note("", "", "the folder holds no StructureDefinition", "error"))
    return found


def _resources(value: Any) -> Iterator[Json]:
    if not isinstance(value, dict):
        return
    if value.get("resourceType") in _KINDS and isinstance(value.get("url"), str):
        yield value
    if value.get("resourceType") == "Bundle" and isinstance(value.get("entry"), list):
        for entry in value["entry"]:
            yield from _resources(entry.get("resource") if isinstance(entry, dict) else None)


def _add(found: Published, one: Json, name: str) -> None:
    url, kind = one["url"], one["resourceType"]
    if kind != "StructureDefinition":
        (found.value_sets if kind == "ValueSet" else found.code_systems)[url] = one
    elif one.get("kind") in ("resource", "complex-type"):
        if url in found.definitions:
            found.notes.append(Note(name, "", f"`{url}` is in {found.files[url]} too: this one counts"))
        found.definitions[url], found.files[url] = one, name


def _listed(concepts: list[Json]) -> Iterator[str]:
    for one in concepts:
        yield one["code"]
        yield from _listed(one.get("concept", []))


def _expanded(contains: list[Json]) -> Iterator[Code]:
    for one in contains:
        if "code" in one and not one.get("abstract"):
            yield one.get("system", ""), one["code"]
        yield from _expanded(one.get("contains", []))
