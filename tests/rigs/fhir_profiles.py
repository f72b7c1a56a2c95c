"""Small StructureDefinitions for tests, written as a snapshot's elements."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from bridge.mapping.cases import run_cases
from bridge.settings import load, samples
from tests.rigs.need import REPOSITORY

Json = dict[str, Any]
URL = "urn:test:profile"
BASE = "http://hl7.org/fhir/StructureDefinition/"


def element(id_: str, type_: str | list[Json] | None = None, **more: Any) -> Json:
    """One element: ``Patient.identifier:INS`` with its type; cardinality 0..* unless told."""
    path = ".".join(step.partition(":")[0] for step in id_.split("."))
    types = [{"code": type_}] if isinstance(type_, str) else type_ or []
    return {"id": id_, "path": path, "min": 0, "max": "*", **({"type": types} if types else {}), **more}


def by(kind: str, path: str, rules: str = "open") -> Json:
    """The slicing of an element by one discriminator."""
    return {"slicing": {"discriminator": [{"type": kind, "path": path}], "rules": rules}}


def profile(type_: str, *elements: Json, url: str = URL, kind: str = "resource") -> Json:
    shape = {"resourceType": "StructureDefinition", "url": url, "name": "Test", "status": "draft", "kind": kind}
    rest = {"abstract": False, "type": type_, "baseDefinition": BASE + type_, "derivation": "constraint"}
    return {**shape, **rest, "snapshot": {"element": [element(type_), *elements]}}


def value_set(url: str, *include: Json, exclude: list[Json] | None = None) -> Json:
    compose = {"include": list(include), **({"exclude": exclude} if exclude else {})}
    return {"resourceType": "ValueSet", "url": url, "status": "draft", "compose": compose}


def code_system(url: str, *codes: str, content: str = "complete") -> Json:
    concept = [{"code": code} for code in codes]
    return {"resourceType": "CodeSystem", "url": url, "status": "draft", "content": content, "concept": concept}


def published(folder: Path, *resources: Json) -> Path:
    """The folder with a file for each resource."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(resources):
        (folder / f"{number}-{one['resourceType']}.json").write_text(json.dumps(one), encoding="utf-8")
    return folder


def made_by_cases(mapping: str) -> Iterator[Json]:
    """Every Bundle that a case of our mappings to FHIR whose names end so makes."""
    loaded = load(REPOSITORY / "config" / "bridge.yaml")
    files = {name: text for name, text in loaded.mapping_files.items() if not name.endswith(".cases.yaml")}
    for name, text in loaded.mapping_files.items():
        if name.endswith(f"{mapping}.cases.yaml"):
            without = re.sub(r"(?m)^  snapshot: true\n", "", text)
            files[name] = re.sub(r"(?m)^- name:", "- snapshot: true\n  name:", without)
    for result in run_cases(files, samples(REPOSITORY / "mappings")):
        if result.snapshot is not None:
            yield json.loads(result.snapshot.text, parse_float=Decimal)
