"""Mapping files compiled: YAML text in, one pure callable for each mapping out, and every finding at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bridge.codecs.dicom_message import EVENTS
from bridge.codecs.fhir_models import RESOURCES
from bridge.codecs.hl7v2 import Hl7Message
from bridge.codecs.hl7v2 import parse as parse_message
from bridge.errors import Finding, MappingError, SettingsError
from bridge.mapping.conceptmap import read_tables
from bridge.mapping.extends import at_home, composed, takes_over
from bridge.mapping.known import following
from bridge.mapping.place import Findings, Place
from bridge.mapping.profiles import Profile, compile_profile
from bridge.mapping.refs import Names, Source
from bridge.mapping.scope import Make, Scope
from bridge.mapping.sources import compile_names
from bridge.mapping.survivors import surviving
from bridge.mapping.tables import Tables
from bridge.mapping.watch import Watch
from bridge.model import Unmapped
from bridge.yamlfile import YamlFile, parse, suggest

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
    unmapped: tuple[Unmapped, ...] = ()
    """The codes that were passed by a rule because a table has no row for them, each once."""


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
    """Every mapping, profile and table that could be read, by name, and every finding in all files."""

    mappings: dict[str, CompiledMapping] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    tables: Tables = field(default_factory=Tables)
    findings: list[Finding] = field(default_factory=list)


def compile_all(files: Mapping[str, str], watch: Watch | None = None) -> MappingSet:
    """Compile ``files``: text by name inside the mappings folder (``order-to-worklist.yaml``, ``tables/x.csv``).

    A mapping or profile is called as its file, with the folder that it is in: ``order-to-worklist``, ``fr/pam-france``.
    Never raises for what the files say: one with errors is left out and its findings tell why. ``watch`` is told where
    the values come from; a set that is watched is slower, and for one thread.
    """
    findings = Findings()
    tables = read_tables(files, findings)
    tables.watch = watch
    result = MappingSet(tables=tables)
    chains: list[_Chain] = []
    for name in sorted(files):
        if name.endswith(".yaml") and not name.endswith(CASES):
            mine = Findings()
            compiled = _compile_file(files, name, tables, mine)
            if compiled is not None and not any(one.severity == "error" for one in mine):
                if isinstance(compiled, Profile):
                    result.profiles[compiled.name] = compiled
                elif isinstance(compiled, _Chain):
                    chains.append(compiled)
                else:
                    result.mappings[compiled.name] = compiled
            findings += mine
    result.mappings |= {one.name: one for chain in chains if (one := _join(chain, result.mappings, findings))}
    result.findings = sorted(set(findings), key=lambda one: (one.file, one.line, one.column, one.what))
    return result


@dataclass(frozen=True, slots=True)
class _Chain:
    """A mapping made of others, one after the other: ``steps:``."""

    name: str
    steps: tuple[str, ...]
    place: Place


def _compile_file(
    files: Mapping[str, str], file: str, tables: Tables, findings: Findings
) -> CompiledMapping | Profile | _Chain | None:
    try:
        document = parse(files[file], file)
    except SettingsError as error:
        findings += error.findings
        return None
    if takes_over(document.data):
        return _compile_composed(document, files, tables, findings)
    return _compile_document(document, tables, findings)


def _compile_composed(
    file: YamlFile, files: Mapping[str, str], tables: Tables, findings: Findings
) -> CompiledMapping | Profile | _Chain | None:
    """A mapping that takes lines over from others: what is wrong with those is told there, all else here."""
    joined, mine = composed(file, files, findings), Findings()
    if joined is None:
        return None
    compiled = _compile_document(joined, tables, mine)
    if any(one.file != file.name for one in mine):
        known = Findings()
        for name in takes_over(file.data):
            if f"{name}.yaml" in files:
                _compile_file(files, f"{name}.yaml", tables, known)
        mine = at_home(mine, known, file)
    findings += mine
    return compiled


def _compile_document(
    document: YamlFile, tables: Tables, findings: Findings
) -> CompiledMapping | Profile | _Chain | None:
    place, data = Place(document), document.data
    if not isinstance(data, dict):
        findings.report(place, "a mapping file is a mapping", "begin with `target: worklist`, `hl7v2` or `fhir`")
        return None
    name, target = document.name.removesuffix(".yaml"), data.get("target")
    if "profile" in data:
        return compile_profile(data, name, place, *_head(data, place, tables, findings))
    if "steps" in data:
        return _compile_chain(data, name, place, findings)
    if target not in TARGETS:
        fix = suggest(str(target), TARGETS)
        findings.report(place.child("target"), f"unknown target `{target}`" if target else "`target` is missing", fix)
        return None
    messages, names = _head(data, place, tables, findings)
    return CompiledMapping(name, messages, target, _renderer(target, data, place, names, messages))


def _compile_chain(data: dict[str, Any], name: str, place: Place, findings: Findings) -> _Chain:
    findings.unknown_keys(data, ("steps",), place)
    steps, here = data["steps"], place.child("steps")
    if not isinstance(steps, list) or len(steps) < 2 or not all(isinstance(one, str) for one in steps):
        findings.report(here, "`steps` lists mappings: edits, and the one that they come before", "name two or more")
        steps = []
    return _Chain(name, tuple(steps), here)


def _join(chain: _Chain, known: Mapping[str, CompiledMapping], findings: Findings) -> CompiledMapping | None:
    """One mapping that edits a message step by step, then does with it what the last step does."""
    wrong = Findings()
    for number, name in enumerate(chain.steps):
        here, step = chain.place.child(number), known.get(name)
        if step is None:
            wrong.report(here, f"no mapping `{name}` of its own that compiles", suggest(name, known))
        elif step.target != "hl7v2" and number < len(chain.steps) - 1:
            wrong.report(
                here, f"`{name}` does not give HL7 for the next step", "only the last step may be another target"
            )
    findings += wrong
    if wrong:
        return None
    *edits, last = [known[name] for name in chain.steps]

    def render(message: Hl7Message, context: Mapping[str, Any]) -> Rendered:
        notes: list[str] = []
        unmapped: list[Unmapped] = []
        try:
            for edit in edits:
                edited = edit.render(message, context)
                notes += edited.notes
                unmapped += edited.unmapped
                message = parse_message(edited.data, message.charset) if edited.data != message.raw else message
            made = last.render(message, context)
        except MappingError as error:
            error.unmapped = (*unmapped, *error.unmapped)
            raise
        return replace(made, notes=(*notes, *made.notes), unmapped=(*unmapped, *made.unmapped))

    return CompiledMapping(chain.name, last.messages, last.target, render)


def _head(data: dict[str, Any], place: Place, tables: Tables, findings: Findings) -> tuple[tuple[str, ...], Names]:
    """The message types, and the names that the whole file may use."""
    messages = _messages(data.get("messages"), place.child("messages"), findings)
    names = Names(tables, findings, source=_source(messages))
    compile_names(data.get("let"), place.child("let"), names)
    return messages, names


def _source(messages: tuple[str, ...]) -> Source:
    """What messages of these types are of; empty for some of each."""
    codes = {one.partition("^")[0] for one in messages}
    found: set[Source] = {"dicom" if one in EVENTS else "fhir" if one in RESOURCES else "hl7v2" for one in codes}
    return found.pop() if len(found) == 1 else "hl7v2" if not found else ""


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
        scope = following(Scope(message, context))
        code, event = message.kind
        if messages and code not in messages and f"{code}^{event}" not in messages:
            what = f"this mapping is for {', '.join(messages)}, not {code}^{event}"
            raise MappingError(what, at="MSH-9", fix="correct the route's `when`", kind="message_type")
        if target != "hl7v2" or "message" in data:
            scope = surviving(scope)
        try:
            made = make(scope)
        except MappingError as error:
            error.unmapped = tuple(dict.fromkeys(scope.unmapped))
            raise
        control_id, unmapped = made.control_id or message.get("MSH-10"), tuple(dict.fromkeys(scope.unmapped))
        return Rendered(made.data, target, control_id, tuple(scope.notes), unmapped)

    return render


def _target(target: Format, data: dict[str, Any], place: Place, names: Names) -> Make:
    if target == "worklist":
        from bridge.mapping.targets.worklist import compile_worklist

        return compile_worklist(data, place, names)
    if target == "fhir":
        from bridge.mapping.targets.fhir import compile_fhir

        names.findings.unknown_keys(data, ("target", "messages", "let", "resources"), place)
        return compile_fhir(data, place, names)
    if "message" in data:
        from bridge.mapping.targets.hl7compose import compile_compose

        return compile_compose(data, place, names)
    from bridge.mapping.targets.hl7edit import compile_edit

    return compile_edit(data, place, names)
