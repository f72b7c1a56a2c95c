"""JSON Schemas (draft-07) of every kind of YAML file, for editors. Made from what reads the files: the settings models,
the words that the compilers accept, and the registries of channel types and functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.schemas.cases import cases_schema
from bridge.schemas.mapping import mapping_schema, profile_schema
from bridge.schemas.site import adapter_schema, site_schema

Json = dict[str, Any]

KINDS: dict[str, tuple[str, Callable[[], Json]]] = {
    "site": ("config/*.yaml", site_schema),
    "adapter": ("adapters/*.yaml", adapter_schema),
    "mapping": ("mappings/**/*.yaml", mapping_schema),
    "profile": ("mappings/profiles/*.yaml", profile_schema),
    "cases": ("mappings/**/*.cases.yaml", cases_schema),
}
"""By kind: which files are of it, and what makes its schema. A profile may stand anywhere among the mappings, so the
schema of mappings knows profiles too."""


def schema(kind: str) -> Json:
    """The schema of one of ``KINDS``: plain data, the same every time for the same installed channel types."""
    title = f"Radbridge {kind} file"
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": title, **KINDS[kind][1]()}


def file_name(kind: str) -> str:
    return f"{kind}.schema.json"
