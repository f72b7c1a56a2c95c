"""Mapping files compiled: YAML text in, one pure callable for each mapping out, and every finding at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.codecs.hl7v2 import Hl7Message
from bridge.errors import Finding, MappingError, SettingsError
from bridge.mapping.place import Findings, Place
from bridge.mapping.refs import Names
from bridge.mapping.scope import Make, Scope
from bridge.mapping.sources import compile_names
from bridge.mapping.survivors import surviving
from bridge.mapping.tables import Table, read_table
from bridge.yamlfile import parse, suggest

Format = Literal["hl7v2", "worklist", "fhir"]
TARGETS: tuple[Format, ...] = ("hl7v2", "worklist", "fhir")
CASES = ".cases.yaml"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a mapping made of a message: bytes in ``format``, the same for the same message and context."""

    data: bytes
    format: Format
    control_id: str
    """MSH-10 of the outgoing message; for other formats, of the message it was made from."""
    notes: tuple[str, ...] = ()
    """What was decided on the way, for people: no patient content."""


@dataclass(frozen=True, slots=True)
class CompiledMapping:
    """One mapping, ready to use from any thread.

    ``render`` raises MappingError (with place and fix) when a message cannot be mapped. ``context`` holds what is
    known besides the message: ``site`` and what was looked up before.
    """

    name: str
    messages: tuple[str, ...]
    """Message types it is made for; empty: any."""
    target: Format
    render: Callable[[Hl7Message, Mapping[str, Any]], Rendered]


@dataclass(slots=True)
class MappingSet:
    """Every mapping that compiled, by name, and every finding in all files."""

    mappings: dict[str, CompiledMapping] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def compile_all(files: Mapping[str, str]) -> MappingSet:
    """Compile ``files``: text by name inside the mappings folder (``order-to-worklist.yaml``, ``tables/x.csv``).

    Never raises for what the files say: a mapping with errors is left out and its findings tell why.
    """
    findings = Findings()
    tables: dict[str, Table] = {}
    for name in sorted(files):
        if name.endswith(".csv"):
            table = read_table(files[name], name, findings)
            if table is not None:
                tables[table.name] = table
    result = MappingSet()
    for name in sorted(files):
        if name.endswith(".yaml") and not name.endswith(CASES):
            mine = Findings()
            compiled = _compile_file(files[name], name, tables, mine)
            if compiled is not None and not any(one.severity == "error" for one in mine):
                result.mappings[compiled.name] = compiled
            findings += mine
    result.findings = sorted(set(findings), key=lambda one: (one.file, one.line, one.column, one.what))
    return result


def _compile_file(text: str, file: str, tables: dict[str, Table], findings: Findings) -> CompiledMapping | None:
    try:
        document = parse(text, file)
    except SettingsError as error:
        findings += error.findings
        return None
    place, data = Place(document), document.data
    if not isinstance(data, dict):
        findings.report(place, "a mapping file is a mapping", "begin with `target: worklist`, `hl7v2` or `fhir`")
        return None
    target = data.get("target")
    if target not in TARGETS:
        fix = suggest(str(target), TARGETS)
        findings.report(place.child("target"), f"unknown target `{target}`" if target else "`target` is missing", fix)
        return None
    messages = _messages(data.get("messages"), place.child("messages"), findings)
    names = Names(tables, findings)
    compile_names(data.get("let"), place.child("let"), names)
    name = file.rsplit("/", 1)[-1].removesuffix(".yaml")
    return CompiledMapping(name, messages, target, _renderer(target, data, place, names, messages))


def _messages(data: Any, place: Place, findings: Findings) -> tuple[str, ...]:
    types = data if isinstance(data, list) else [data]
    if data is None or not all(isinstance(one, str) for one in types):
        fix = "list the message types that this mapping is made for, for example [ORM^O01]"
        findings.report(place, "`messages` is missing or not a list of types", fix)
        return ()
    return tuple(types)


def _renderer(
    target: Format, data: dict[str, Any], place: Place, names: Names, messages: tuple[str, ...]
) -> Callable[[Hl7Message, Mapping[str, Any]], Rendered]:
    make = _target(target, data, place, names)

    def render(message: Hl7Message, context: Mapping[str, Any]) -> Rendered:
        scope = Scope(message, context)
        code, event = message.get("MSH-9.1"), message.get("MSH-9.2")
        if messages and code not in messages and f"{code}^{event}" not in messages:
            what = f"this mapping is for {', '.join(messages)}, not {code}^{event}"
            raise MappingError(what, at="MSH-9", fix="correct the route's `when`", kind="message_type")
        if target != "hl7v2":
            scope = surviving(scope)
        made = make(scope)
        return Rendered(made.data, target, made.control_id or message.get("MSH-10"), tuple(scope.notes))

    return render


def _target(target: Format, data: dict[str, Any], place: Place, names: Names) -> Make:
    if target == "worklist":
        from bridge.mapping.targets.worklist import compile_worklist

        return compile_worklist(data, place, names)
    if target == "fhir":
        from bridge.mapping.targets.fhir import compile_fhir

        names.findings.unknown_keys(data, ("target", "messages", "let", "resources"), place)
        return compile_fhir(data, place, names)
    from bridge.mapping.targets.hl7edit import compile_edit

    return compile_edit(data, place, names)
