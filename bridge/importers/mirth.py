"""A channel of Mirth Connect or Open Integration Engine as a site of its own: what could be translated, and a report.

A source filter and a destination's filter become the ``when:`` of that destination's route; a route whose filter could
not be translated as a whole is written as a remark, for it would let too much through. The steps of a transformer
become edits; where one reads what another has set before, the next mapping of a chain (``steps:``) begins.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import yaml

from bridge.importers import mirth_ends, mirth_script
from bridge.importers.mirth_export import Connector, Export, Part, read_export
from bridge.importers.mirth_script import Edit, Names, Untranslated, overlap

_OPERATORS = {"EQUALS": True, "NOT_EQUAL": False}


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one part of the export."""

    where: str
    """``source``, or the destination's name."""
    part: str
    """``connector``, or kind and name of the rule, step or script."""
    result: str
    """``translated``, ``not translated`` or ``left out`` (switched off there)."""
    why: str = ""


@dataclass(slots=True)
class Imported:
    """Files by name inside the folder to write, and what became of each part."""

    name: str
    files: dict[str, str] = field(default_factory=dict)
    report: list[Told] = field(default_factory=list)

    def tell(self, where: str, part: str, why: str | Untranslated = "") -> None:
        failed = isinstance(why, Untranslated)
        self.report.append(Told(where, part, "not translated" if failed else "translated", str(why)))


@dataclass(slots=True)
class _Part:
    """What becomes one mapping: edits with the names of their steps, and the variables that they may use."""

    items: list[tuple[str, Edit]] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    written: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Chain:
    """A transformer: a new part begins where a step reads what one before it has set."""

    parts: list[_Part] = field(default_factory=lambda: [_Part()])

    @property
    def names(self) -> Names:
        return self.parts[-1].names

    def add(self, title: str, edit: Edit) -> None:
        """Raises Untranslated for what would read a variable anew whose place has been changed since."""
        last = self.parts[-1]
        if overlap(edit.reads, last.written):
            kept = Names({key: one for key, one in last.names.known.items() if key == edit.defines})
            last.names.known.pop(edit.defines, None)
            fresh = Names({**last.names.unchanged(last.written).known, **kept.known})
            last = _Part([], fresh)
            self.parts.append(last)
        unknown = set(re.findall(r"\$(\w+)", str(edit.words))) - {one.name for one in last.names.known.values()}
        if unknown:
            raise Untranslated("it uses a variable that was read before its place was changed")
        last.items.append((title, edit))
        last.written |= edit.writes


def import_channel(data: bytes) -> Imported:
    """The Radbridge files for an exported channel. Raises CodecError if it is none."""
    export = read_export(data)
    made = Imported(_slug(export.name))
    for script in export.scripts:
        made.tell("channel", script, Untranslated("a script of the whole channel has no place in a mapping"))
    channels: dict[str, dict[str, Any]] = {}
    routes: dict[str, dict[str, Any]] = {}
    held: dict[str, str] = {}
    source = f"{made.name}-in"
    _end(export.source, source, "source", channels, made)
    passes, sure = _filter(export.source, "source", made)
    before = _steps(export.source, "source", made)
    for number, destination in enumerate(export.destinations, 1):
        if not destination.enabled:
            made.report.append(Told(destination.name, "connector", "left out", "it is switched off"))
            continue
        name = f"{made.name}-{_slug(destination.name)}"
        name = name if name not in channels else f"{name}-{number}"
        _end(destination, name, destination.name, channels, made)
        mine, certain = _filter(destination, destination.name, made)
        after = _steps(destination, destination.name, made, before)
        if destination.steps("responseTransformer"):
            made.tell(destination.name, "response transformer", Untranslated("answers are judged by `ack_policy`"))
        mapping = _mappings(before, after, _slug(destination.name), made)
        when = _both(passes, mine)
        route = {"from": source, **({"when": when} if when else {}), "to": [{name: mapping} if mapping else name]}
        if source not in channels or name not in channels:
            held[name] = "its source or destination could not be translated"
        elif not (sure and certain):
            held[name] = "a rule of its filter could not be translated: without it, it would let too much through"
        routes[name] = route
    made.files["config/bridge.yaml"] = _site(made, channels, routes, held)
    made.files["report.md"] = _report_text(export, made)
    return made


def _end(connector: Connector, name: str, where: str, channels: dict[str, dict[str, Any]], made: Imported) -> None:
    try:
        end = mirth_ends.channel(connector)
    except Untranslated as reason:
        made.tell(where, "connector", reason)
        return
    kind = connector.text("transformer/inboundDataType")
    if end.settings["type"].endswith("-in") and kind not in ("HL7V2", ""):
        end.settings["format"] = "bytes"
        end.remarks.append(f"what comes ({kind}) is stored and passed on as it is")
    channels[name] = end.settings
    made.tell(where, "connector", "; ".join(end.remarks))


def _filter(connector: Connector, where: str, made: Imported) -> tuple[dict[str, Any], bool]:
    """The condition of a filter, and whether it is all of it. As in JavaScript, AND binds closer than OR."""
    choices: list[list[dict[str, Any]]] = []
    sure = True
    for rule in connector.rules():
        part = f"{rule.kind} {rule.name}"
        if not rule.enabled:
            made.report.append(Told(where, part, "left out", "it is switched off"))
            continue
        if rule.text("operator") == "OR" or not choices:
            choices.append([])
        try:
            choices[-1].append(_rule(rule))
            made.tell(where, part)
        except Untranslated as reason:
            made.tell(where, part, reason)
            sure = False
    found = [_joined(choice) for choice in choices]
    if len(found) < 2:
        return (found[0] if found else {}), sure
    return ({"any": found} if all(found) else {}), sure


def _rule(rule: Part) -> dict[str, Any]:
    if rule.kind == "JavaScriptRule":
        return mirth_script.condition(rule.text("script"), Names())
    if rule.kind != "RuleBuilderRule":
        raise Untranslated(f"a rule of the kind {rule.kind} is not known here")
    path, _ = mirth_script.value(rule.text("field"), Names())
    if not isinstance(path, str):
        raise Untranslated("it is not about a place in the message")
    condition = rule.text("condition")
    if condition in ("EXISTS", "NOT_EXIST"):
        return {path: "present" if condition == "EXISTS" else "absent"}
    values = [mirth_script.value(one, Names())[0] for one in rule.texts("values/string")]
    if not values or not all(isinstance(one, dict) and "value" in one for one in values):
        raise Untranslated("it does not compare with constants")
    texts = [one["value"] for one in values]
    if condition in _OPERATORS:
        return {path: mirth_script.expected(_OPERATORS[condition], texts)}
    if condition in ("CONTAINS", "NOT_CONTAIN"):
        matches = {"matches": f"(?s).*(?:{'|'.join(map(re.escape, texts))}).*"}
        return {path: matches if condition == "CONTAINS" else {"not": matches}}
    raise Untranslated(f"the condition {condition or 'of this version'} is not known here")


def _joined(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    """All of them."""
    found = [one for one in conditions if one]
    joined: dict[str, Any] = {}
    for one in found:
        if set(one) & set(joined):
            return {"all": found}
        joined |= one
    return joined


def _both(some: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    return _joined([some, others])


def _steps(connector: Connector, where: str, made: Imported, before: _Chain | None = None) -> _Chain:
    """The edits of a transformer; ``before``: the source's, whose variables it may use."""
    chain = _Chain()
    if before is not None:
        chain.names.known = before.names.unchanged(before.parts[-1].written).known
    steps = connector.steps()
    types = [connector.text(f"transformer/{side}DataType") for side in ("inbound", "outbound")]
    if steps and any(one not in ("HL7V2", "") for one in types):
        made.tell(where, "transformer", Untranslated(f"it works on {' to '.join(types)}, not on HL7 v2"))
        return chain
    for step in steps:
        part = f"{step.kind} {step.name}"
        if not step.enabled:
            made.report.append(Told(where, part, "left out", "it is switched off"))
            continue
        trial = deepcopy(chain)
        try:
            for edit in _edits(step, trial.names):
                trial.add(step.name, edit)
            chain = trial
            made.tell(where, part)
        except Untranslated as reason:
            made.tell(where, part, reason)
            chain.parts[-1].items.append((f"{step.name}: NOT TRANSLATED, {reason}", Edit({})))
    return chain


def _edits(step: Part, names: Names) -> list[Edit]:
    if step.has("replacements"):
        raise Untranslated("it replaces text by regular expressions")
    default = step.text("defaultValue")
    if step.kind == "JavaScriptStep":
        return mirth_script.edits(step.text("script"), names)
    if step.kind == "MessageBuilderStep":
        target = mirth_script.place(step.text("messageSegment"))
        return [mirth_script.assignment(target, step.text("mapping"), names, default)]
    if step.kind == "MapperStep":
        line, reads = mirth_script.value(step.text("mapping"), names)
        if default:
            other, _ = mirth_script.value(default, names)
            if not isinstance(line, str) or not isinstance(other, dict) or "value" not in other:
                raise Untranslated("its default is no constant")
            line = {"from": line, "default": other["value"]}
        return [mirth_script.definition(step.text("variable"), line, reads, names)]
    raise Untranslated(f"a step of the kind {step.kind} is not known here")


def _mappings(before: _Chain, after: _Chain, destination: str, made: Imported) -> str:
    """Write the mappings of a destination; the name of the one that its route goes through, empty for none."""
    names = []
    for chain, stem in ((before, "source"), (after, destination)):
        parts = [part for part in chain.parts if part.items]
        for number, part in enumerate(parts, 1):
            name = f"{made.name}/{stem}" + (f"-{number}" if len(parts) > 1 else "")
            made.files[f"mappings/{name}.yaml"] = _mapping_text(part)
            names.append(name)
    if len(names) < 2:
        return names[0] if names else ""
    whole = f"{made.name}/to-{destination}"
    made.files[f"mappings/{whole}.yaml"] = (
        f"# The steps of the source, then those of this destination.\nsteps: {_flow(names)}\n"
    )
    return whole


def _mapping_text(part: _Part) -> str:
    lines = ["target: hl7v2", "messages: []    # any type: the routes choose"]
    used = _used([edit.words for _, edit in part.items], part.names)
    if used:
        lines += ["let:", *(f"  {name}: {_flow(line)}" for name, line in used.items())]
    edits = []
    for title, edit in part.items:
        edits.append("  # " + "".join(char if char.isprintable() else "?" for char in " ".join(title.split())))
        if edit.words:
            edits.append(f"  - {_flow(edit.words)}")
    written = any(edit.words for _, edit in part.items)
    return "\n".join([*lines, "edits:" if written else "edits: []", *edits]) + "\n"


def _used(words: Any, names: Names) -> dict[str, Any]:
    """The variables that something uses, and those that they use, in the sequence in which they were defined."""
    lines = {one.name: one.line for one in names.known.values()}
    wanted: set[str] = set()
    todo = set(re.findall(r"\$(\w+)", str(words)))
    while todo:
        wanted |= todo
        todo = {more for name in todo for more in re.findall(r"\$(\w+)", str(lines.get(name, "")))} - wanted
    return {name: line for name, line in lines.items() if name in wanted}


def _site(
    made: Imported, channels: dict[str, dict[str, Any]], routes: dict[str, dict[str, Any]], held: dict[str, str]
) -> str:
    lines = [
        f"# Made from the channel {made.name}; report.md tells what could not be translated.",
        "site:",
        f"  name: {made.name}",
        "  timezone: Europe/Paris    # the zone of your clocks: look at it",
        "channels:" if channels else "channels: {}",
    ]
    for name, settings in channels.items():
        lines += [f"  {name}:", *(f"    {key}: {_flow(value)}" for key, value in settings.items())]
    lines.append("routes:" if set(routes) - set(held) else "routes: {}")
    for name, route in routes.items():
        block = [f"  {name}:", *(f"    {key}: {_flow(value)}" for key, value in route.items())]
        if name in held:
            block = [f"  # NOT IN USE: {held[name]}", *(f"  #{line[1:]}" for line in block)]
        lines += block
    return "\n".join([*lines, "data: ../var", "mappings: ../mappings", "adapters: ../adapters"]) + "\n"


def _report_text(export: Export, made: Imported) -> str:
    done = sum(one.result == "translated" for one in made.report)
    lines = [
        f"# {_cell(export.name)}",
        "",
        f"{done} of {len(made.report)} parts translated. What was not has to be done by hand before this is used.",
        "Log output of scripts is left out. Nothing of the export was run.",
        "",
        "| where | part | result | why, or what is different |",
        "|---|---|---|---|",
        *(f"| {_cell(one.where)} | {_cell(one.part)} | {one.result} | {_cell(one.why)} |" for one in made.report),
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    return str(text).removesuffix("\n").removesuffix("\n...")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "channel"
