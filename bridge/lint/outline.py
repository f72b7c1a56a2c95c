"""What a mapping or profile says, as lint looks at it: its lines, the places they read, and the names they use.

An outline is taken from the file as written; what the compiler finds wrong is passed over here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.codecs.paths import Path, compile_path
from bridge.errors import CodecError
from bridge.mapping.place import Findings, Place
from bridge.mapping.sources import is_line
from bridge.mapping.targets.tree import grow, is_link, leaves

_ALTERNATIVES = re.compile(r"\s*\|\s*")
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")

Role = Literal["name", "attribute", "element", "field", "word"]
"""What a line fills: a ``$name``, a DICOM attribute, a FHIR element, an HL7 field, or a word of the mapping."""
Names = dict[str, "Line"]


@dataclass(slots=True, eq=False)
class Line:
    """One source line, and what its alternatives are."""

    data: dict[str, Any]
    """As a mapping, also where it is written as text."""
    place: Place
    role: Role
    target: str
    inputs: list[list[Alternative]] = field(default_factory=list)
    """For each value of ``from``, its alternatives."""

    @property
    def plain(self) -> bool:
        """The value goes on as it was read: no function, no table."""
        return "as" not in self.data and "table" not in self.data


@dataclass(frozen=True, slots=True)
class Alternative:
    """One alternative of ``from``: a place in the message, a named value (None: one that is not known), or neither."""

    text: str
    place: Place
    path: Path | None = None
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """A place in a message that a mapping names; ``made``: in the one that it makes, not the one it reads."""

    path: Path
    place: Place
    made: bool = False


@dataclass(slots=True)
class Outline:
    """All that one file says."""

    name: str
    place: Place
    data: dict[str, Any]
    others: tuple[str, ...] = ()
    """The mappings that this one takes lines of."""
    lines: list[Line] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    anchors: list[tuple[str, Place]] = field(default_factory=list)
    """Segments that slices begin with."""
    conditions: list[tuple[Any, Place]] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)
    used: set[int] = field(default_factory=set)
    """``id`` of each named line that is used."""
    segments: list[tuple[dict[str, Any], Place]] = field(default_factory=list)
    """Segments of a composed message."""
    resources: list[tuple[dict[str, Any], Place]] = field(default_factory=list)

    @property
    def messages(self) -> list[str]:
        return texts(self.data.get("messages"))

    @property
    def target(self) -> str:
        return str(self.data.get("target", ""))

    @property
    def steps(self) -> list[str]:
        return texts(self.data.get("steps"))


def texts(value: Any) -> list[str]:
    """The texts of a list, or the one text."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def path_of(text: str) -> Path | None:
    try:
        return compile_path(text)
    except CodecError:
        return None


def outline(name: str, place: Place, others: tuple[str, ...] = ()) -> Outline:
    """The outline of a mapping or profile whose file is read, and joined with the ``others`` that it takes lines of."""
    data = place.file.data
    found = Outline(name, place, data, others)
    _Walk(found).file(data, place)
    return found


class _Walk:
    """Goes through a file once; each method takes what is written, its place, and the names known there."""

    def __init__(self, found: Outline) -> None:
        self.found = found

    def file(self, data: dict[str, Any], place: Place) -> None:
        names = self.let(data, place, {})
        for at, item in _items(data, "edits"):
            self.edit(item, place.child("edits", at), names)
        for at, item in _items(data, "message"):
            self.item(item, place.child("message", at), names)
        for at, item in _items(data, "resources"):
            self.resource(item, place.child("resources", at), names)
        for at, item in _items(data, "rules"):
            self.rule(item, place.child("rules", at), names)
        if self.found.target == "worklist":
            self.worklist(data, place, names)

    def let(self, data: dict[str, Any], place: Place, names: Names) -> Names:
        """The names known inside a block that may have ``each``, ``let`` and ``when``."""
        names = dict(names)
        self.anchors(data, place)
        block = data.get("let")
        for name, line in (block if isinstance(block, dict) else {}).items():
            made = self.line(line, place.child("let", name), "name", str(name), names)
            if made:
                names[str(name)] = made
        if "when" in data:
            self.condition(data["when"], place.child("when"), names)
        return names

    def anchors(self, data: dict[str, Any], place: Place) -> None:
        names = [one for one in texts(data.get("each")) if _SEGMENT.fullmatch(one)]
        self.found.anchors += [(one, place.child("each")) for one in names]

    def line(self, data: Any, place: Place, role: Role, target: str, names: Names) -> Line | None:
        data = {"from": data} if isinstance(data, str) else data
        if not isinstance(data, dict):
            return None
        line = Line(data, place, role, target)
        self.found.lines.append(line)
        given, here = data.get("from"), place.child("from")
        if isinstance(given, list):
            line.inputs = [self.refs(one, here.child(at), names) for at, one in enumerate(given)]
        elif "from" in data:
            line.inputs = [self.refs(given, here, names)]
        self.anchors(data, place)
        if "when" in data:
            self.condition(data["when"], place.child("when"), names)
        if isinstance(data.get("table"), str):
            self.found.tables.add(data["table"])
        return line

    def refs(self, text: Any, place: Place, names: Names) -> list[Alternative]:
        found = []
        for part in _ALTERNATIVES.split(text.strip()) if isinstance(text, str) else ():
            path, line = path_of(part), names.get(part[1:]) if part.startswith("$") else None
            if line is not None:
                self.found.used.add(id(line))
            if path is not None:
                self.found.uses.append(Use(path, place))
            found.append(Alternative(part, place, path, line))
        return found

    def condition(self, data: Any, place: Place, names: Names, *, inner: bool = False) -> None:
        if not inner:
            self.found.conditions.append((data, place))
        for key, value in data.items() if isinstance(data, dict) else ():
            here = place.child(key)
            if key in ("any", "all") and isinstance(value, list):
                for at, one in enumerate(value):
                    self.condition(one, here.child(at), names, inner=True)
            elif key == "not":
                self.condition(value, here, names, inner=True)
            elif key not in ("message", "report"):
                self.refs(str(key), here, names)

    def written(self, text: str, place: Place, *, made: bool = False) -> None:
        path = path_of(text)
        if path is not None:
            self.found.uses.append(Use(path, place, made))

    # kinds of mappings

    def edit(self, item: dict[str, Any], place: Place, names: Names) -> None:
        names = self.let(item, place, names)
        for target, line, here in _pairs(item, "set", place):
            self.written(target, here)
            self.line(line, here, "field", target, names)
        for target, source, here in _pairs(item, "copy", place):
            self.written(target, here)
            self.written(str(source), here)
        for target, table, here in _pairs(item, "translate", place):
            words = table if isinstance(table, dict) else {"table": table}
            self.line({"from": target, **words}, here, "field", target, names)
        for word in ("surviving", "remove"):
            for text in texts(item.get(word)):
                self.written(text, place.child(word))

    def item(self, item: dict[str, Any], place: Place, names: Names) -> None:
        names = self.let(item, place, names)
        for at, inner in _items(item, "group"):
            self.item(inner, place.child("group", at), names)
        if "segment" not in item:
            return
        self.found.segments.append((item, place))
        for target, line, here in _pairs(item, "set", place):
            self.written(target, here, made=True)
            self.line(line, here, "field", target, names)
        for target, source, here in _pairs(item, "copy", place):
            self.written(target, here, made=True)
            self.refs(source, here, names)

    def resource(self, item: dict[str, Any], place: Place, names: Names) -> None:
        names = self.let(item, place, names)
        self.found.resources.append((item, place))
        for parameter, line, here in _pairs(item, "identify", place):
            self.line(line, here, "word", parameter, names)
        if "reopens" in item:
            self.line(item["reopens"], place.child("reopens"), "word", "reopens", names)
        tree = item.get("set")
        if isinstance(tree, dict):
            kind = str(item.get("resource", ""))
            for leaf in leaves(grow(tree, place.child("set"), Findings())):
                if is_link(leaf.data):
                    if "when" in leaf.data:
                        self.condition(leaf.data["when"], leaf.place.child("when"), names)
                elif is_line(leaf.data):
                    label = kind + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in leaf.path)
                    self.line(leaf.data, leaf.place, "element", label, names)

    def worklist(self, data: dict[str, Any], place: Place, names: Names) -> None:
        for block in ("order", "patient", "appointment", "performed", "step"):
            if isinstance(data.get(block), dict):
                names = self.block(data[block], place.child(block), names)
        for key, line in data.items():
            if isinstance(key, str) and not key[:1].islower():
                self.line(line, place.child(key), "attribute", key, names)

    def block(self, block: dict[str, Any], place: Place, names: Names) -> Names:
        names = self.let(block, place, names)
        if isinstance(block.get("identifiers"), str):
            self.refs(block["identifiers"], place.child("identifiers"), names)
        for kind, line, here in _pairs(block, "identifiers", place):
            self.line(line, here, "word", kind, names)
        for key, line, here in _pairs(block, "named", place):
            self.line(line, here, "attribute", key, names)
        for word in ("status", "change", "if_unknown", "appointment", "instance", "study", "accession", "step"):
            if word in block:
                self.line(block[word], place.child(word), "word", word, names)
        return names

    def rule(self, rule: dict[str, Any], place: Place, names: Names) -> None:
        names = self.let(rule, place, names)
        for at, text in enumerate(texts(rule.get("require"))):
            if not _SEGMENT.fullmatch(text):
                self.refs(text, place.child("require", at), names)
        for word in ("only", "table", "max", "pattern"):
            for target, value, here in _pairs(rule, word, place):
                self.written(target, here)
                if word == "table" and isinstance(value, str):
                    self.found.tables.add(value)
        if "holds" in rule:
            self.condition(rule["holds"], place.child("holds"), names)


def _items(data: dict[str, Any], word: str) -> Iterator[tuple[int, dict[str, Any]]]:
    given = data.get(word)
    for at, item in enumerate(given if isinstance(given, list) else ()):
        if isinstance(item, dict):
            yield at, item


def _pairs(data: dict[str, Any], word: str, place: Place) -> Iterator[tuple[str, Any, Place]]:
    given = data.get(word)
    for key, value in (given if isinstance(given, dict) else {}).items():
        yield str(key), value, place.child(word, key)
