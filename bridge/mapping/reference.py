"""What every FHIR mapping makes of which place, as text for people: every element's source and every code table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bridge.codecs.fhir_changes import CHANGES
from bridge.mapping.compile import CASES
from bridge.mapping.conceptmap import read_tables
from bridge.mapping.extends import composed, takes_over
from bridge.mapping.place import Findings, Place
from bridge.mapping.sources import LINE_KEYS, is_line
from bridge.mapping.tables import Table
from bridge.mapping.targets.tree import Leaf, grow, is_link, leaves
from bridge.yamlfile import YamlFile, parse

_HEAD = ("element", "from", "function", "table", "else")
_INTRO = """# FHIR: every element and its source

Generated from the mappings by `radbridge docs fhir --out docs/fhir-elements.md`; what is written by hand is in
[fhir.md](fhir.md). A `$name` is a value named before; *else* is what goes where there is none.
"""


def fhir_reference(files: Mapping[str, str]) -> str:
    """Markdown: a section for each mapping of ``files`` (as for compile_all) with target fhir, then each code table.

    Raises SettingsError for a file that is not YAML.
    """
    tables = read_tables(files, Findings())
    used: dict[str, list[str]] = {}
    sections = []
    for name in sorted(files):
        if name.endswith(".yaml") and not name.endswith(CASES):
            file = _whole(name, files)
            if file is not None and file.data.get("target") == "fhir":
                sections.append("\n".join(_mapping(file, used)))
    shown = [_table(tables[name], by) for name, by in sorted(used.items()) if name in tables]
    return "\n".join([_INTRO, *_changes(), *sections, "## Code tables\n", *shown])


def _changes() -> Iterator[str]:
    """Which status may follow which."""
    yield "## What may follow what\n"
    yield "The status that is there, and those that may follow it. *Undone*: only if the message takes something back"
    yield "(*reopens* below). A status without a row may become any.\n"
    for kind, changes in CHANGES.items():
        after = {old: [part.strip().replace(" ", ", ") for part in new.split("|")] for old, new in changes.items()}
        yield from _grid((kind, "always", "undone"), [(old, *new, "")[:3] for old, new in after.items()])


def _whole(name: str, files: Mapping[str, str]) -> YamlFile | None:
    """A mapping with all that it takes over; None for what is none."""
    file = parse(files[name], name)
    if not isinstance(file.data, dict):
        return None
    whole = composed(file, files, Findings()) if takes_over(file.data) else file
    return whole if whole is not None and isinstance(whole.data, dict) else None


def _mapping(file: YamlFile, used: dict[str, list[str]]) -> Iterator[str]:
    name, data = file.name.removesuffix(".yaml"), file.data
    messages = data.get("messages", ())
    yield f"## {name}\n"
    yield f"Of {', '.join(messages if isinstance(messages, list) else [str(messages)])}.\n"
    rows = list(_names(data, name, used))
    if rows:
        yield from _grid(_HEAD, rows)
    for item in data.get("resources", ()):
        yield from _resource(item, file, name, used)


def _resource(item: dict[str, Any], file: YamlFile, name: str, used: dict[str, list[str]]) -> Iterator[str]:
    called = f" `{item['as']}`" if "as" in item else ""
    yield f"### {item['resource']}{called} ({name})\n"
    each = item.get("each")
    said = [_WRITES.get(str(item.get("write")), str(item.get("write")))]
    if each:
        said.append(f"One for each {' of each '.join(reversed(each)) if isinstance(each, list) else each}.")
    if "when" in item:
        said.append(f"Only if {_condition(item['when'])}.")
    if item.get("repeats") == "join":
        said.append("Those with one identifier are joined.")
    yield " ".join(said) + "\n"
    rows = list(_names(item, name, used))
    for parameter, line in (item.get("identify") or {}).items():
        rows.append(_row(f"*found by* {parameter}", line, name, used))
    if "reopens" in item:
        rows.append(_row("*reopens*", item["reopens"], name, used))
    tree = item.get("set")
    if isinstance(tree, dict):
        rows += [_element(leaf, name, used) for leaf in leaves(grow(tree, Place(file), Findings()))]
    yield from _grid(_HEAD, rows)


_WRITES = {
    "create": "Made only if there is none.",
    "update": "Made, or changed.",
    "never": "Not made.",
}


def _names(data: dict[str, Any], name: str, used: dict[str, list[str]]) -> Iterator[tuple[str, ...]]:
    for key, line in (data.get("let") or {}).items():
        yield _row(f"${key}", line, name, used)


def _element(leaf: Leaf, name: str, used: dict[str, list[str]]) -> tuple[str, ...]:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in leaf.path).removeprefix(".")
    if is_link(leaf.data):
        only = f", if {_condition(leaf.data['when'])}" if "when" in leaf.data else ""
        return (path, f"reference to `{leaf.data['ref']}`{only}", "", "", "")
    return _row(path, leaf.data, name, used)


def _row(target: str, line: Any, name: str, used: dict[str, list[str]]) -> tuple[str, ...]:
    if isinstance(line, str):
        return (target, _alternatives(line), "", "", "")
    if not is_line(line):
        return (target, f"constant `{line}`", "", "", "")
    source = f"constant `{line['value']}`" if "value" in line else _sources(line["from"])
    each = f"in each {line['each']}: " if "each" in line else ""
    when = f", if {_condition(line['when'])}" if "when" in line else ""
    table = str(line.get("table", ""))
    if table and name not in used.setdefault(table, []):
        used[table].append(name)
    column = f".{line['column']}" if "column" in line else ""
    shown = f"[{table}](#{table}){column}" if table else ""
    return (target, each + source + when, _function(line), shown, _otherwise(line))


def _sources(given: Any) -> str:
    return " and ".join(_alternatives(str(one)) for one in (given if isinstance(given, list) else [given]))


def _alternatives(text: str) -> str:
    return ", else ".join(f"`{one.strip()}`" for one in text.split(" | "))


def _function(line: dict[str, Any]) -> str:
    options = [f"{key}: {value}" for key, value in line.items() if key not in LINE_KEYS]
    return " ".join([str(line["as"]), *([f"({', '.join(options)})"] if options else [])]) if "as" in line else ""


def _otherwise(line: dict[str, Any]) -> str:
    said = []
    if "default" in line:
        said.append(f"`{line['default']}`")
    unknown = line.get("unknown")
    if unknown is not None:
        said.append(f"unknown: {unknown['value']}" if isinstance(unknown, dict) else f"unknown: {unknown}")
    said += [word for word in ("required",) if line.get(word)]
    said += [f"unusable: {line['unusable']}"] if "unusable" in line else []
    return ", ".join(said)


def _condition(when: Any) -> str:
    """A ``when:`` in words."""
    if not isinstance(when, dict):
        return str(when)
    said = []
    for key, value in when.items():
        if key == "any":
            said.append("(" + " or ".join(_condition(one) for one in value) + ")")
        elif key == "all":
            said += [_condition(one) for one in value]
        elif key == "not":
            said.append(f"not ({_condition(value)})")
        else:
            said.append(f"{_alternatives(str(key))} {_test(value)}")
    return " and ".join(said)


def _test(value: Any) -> str:
    if isinstance(value, list):
        return "is " + " or ".join(str(one) or "empty" for one in value)
    if isinstance(value, dict):
        word, inner = next(iter(value.items()))
        return f"matches `{inner}`" if word == "matches" else _test(inner).replace("is ", "is not ", 1)
    return f"is {value}" if str(value) else "is empty"


def _table(table: Table, by: list[str]) -> str:
    about = " ".join(table.description.split())
    lines = [f"### {table.name}\n", f"{about} Used by {', '.join(by)}.\n".lstrip()]
    if table.unknown != "refuse":
        lines.append(f"A code without a row: {table.unknown}.\n")
    rows = [cells for _, cells in table.rows]
    return "\n".join([*lines, *_grid(table.columns, rows)])


def _grid(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"
    yield ""
