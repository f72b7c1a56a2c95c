"""``radbridge check``: everything that is wrong with a site's files, before anything runs.

What cannot work is an error. What is probably not meant, or what senders may do although HL7 does not, is a warning.
What is decided without being said is a hint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from bridge.errors import Finding, SettingsError
from bridge.lint import fhir_profiles, flow, paths, results, routes, types, usage
from bridge.lint.outline import Outline, outline
from bridge.mapping import MappingSet, compile_all, compile_condition
from bridge.mapping.compile import CASES
from bridge.mapping.extends import composed, takes_over
from bridge.mapping.place import Findings, Place
from bridge.mapping.reports import left_behind
from bridge.settings import Loaded, in_sequence, load
from bridge.yamlfile import parse


def check(path: Path) -> list[Finding]:
    """Every problem of the site file at ``path`` and of what belongs to it, in the sequence of files and lines."""
    return findings_of(load(path))


def findings_of(loaded: Loaded) -> list[Finding]:
    """The same for files that are already read."""
    found = list(loaded.findings)
    files = loaded.mapping_files
    compiled = compile_all(files)
    outlines = outlines_of(files)
    mapped = [*compiled.findings, *_of_mappings(loaded, compiled, outlines)]
    found += [replace(finding, file=f"mappings/{finding.file}") for finding in mapped]
    found += _of_routes(loaded, compiled, outlines)
    return list(in_sequence(dict.fromkeys(found)))


def outlines_of(files: Mapping[str, str]) -> dict[str, Outline]:
    """What each mapping and profile that can be read says, by its name."""
    found = {}
    for name, text in files.items():
        if not name.endswith(".yaml") or name.endswith(CASES):
            continue
        try:
            document = parse(text, name)
        except SettingsError:
            continue
        if not isinstance(document.data, dict):
            continue
        mapping, others = name.removesuffix(".yaml"), takes_over(document.data)
        joined = composed(document, files, Findings()) if others else None
        found[mapping] = outline(mapping, Place(joined or document), others)
    return found


def _of_mappings(loaded: Loaded, compiled: MappingSet, outlines: Mapping[str, Outline]) -> Iterator[Finding]:
    for one in outlines.values():
        made = chain(*(part.findings(one) for part in (paths, types, flow)), results.findings(one, compiled.tables))
        for finding in made:
            if not one.others or finding.file == one.place.file.name:  # what it takes over is told where it is from
                yield finding
    used = routes.named_mappings(loaded.checked) if loaded.checked else set()
    yield from usage.findings(list(outlines.values()), compiled.tables, loaded.mapping_files, used)


def _of_routes(loaded: Loaded, compiled: MappingSet, outlines: Mapping[str, Outline]) -> Iterator[Finding]:
    config, document = loaded.checked, loaded.document
    for route in config.routes.values() if config else ():
        if route.when is not None:
            place = Place(document, ("routes", route.name, "when"))
            yield from left_behind(route.when, place)
            try:
                compile_condition(route.when, place)
            except SettingsError as error:
                yield from error.findings
    if config:
        yield from routes.findings(config, document, compiled, outlines)
        yield from fhir_profiles.findings(config, document)
