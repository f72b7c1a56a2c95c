"""``radbridge check``: everything that is wrong with a site's files, before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bridge.errors import Finding, SettingsError
from bridge.mapping import compile_all, compile_condition
from bridge.mapping.place import Place
from bridge.mapping.reports import left_behind
from bridge.settings import Loaded, in_sequence, load


def check(path: Path) -> list[Finding]:
    """Every problem of the site file at ``path`` and of what belongs to it, in the sequence of files and lines."""
    return findings_of(load(path))


def findings_of(loaded: Loaded) -> list[Finding]:
    """The same for files that are already read."""
    found = list(loaded.findings)
    mapped = compile_all(loaded.mapping_files).findings
    found += [replace(finding, file=f"mappings/{finding.file}") for finding in mapped]
    for route in loaded.checked.routes.values() if loaded.checked else ():
        if route.when is not None:
            place = Place(loaded.document, ("routes", route.name, "when"))
            found += left_behind(route.when, place)
            try:
                compile_condition(route.when, place)
            except SettingsError as error:
                found += error.findings
    return list(in_sequence(found))
