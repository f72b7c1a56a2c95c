"""The few forms of Mirth's JavaScript that say what a mapping says too. Read, never run; all else is Untranslated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Line = Any
"""A source line: a path, ``$name``, or a mapping with ``value`` or ``from``."""

_INDEX = r"(?:\[(\d+)\])?"
_KEY = r"\[\s*['\"]([\w.]+)['\"]\s*\]"
_FIELD = re.compile(
    rf"(msg|tmp){_KEY}{_INDEX}(?:{_KEY}{_INDEX}(?:{_KEY}(?:{_KEY})?)?)?(?:\.(?:toString|text)\(\)|\.trim\(\))*"
)
_CASE = re.compile(r"(.+)\.to(Upper|Lower)Case\(\)")
_LITERAL = re.compile(r"'((?:[^'\\]|\\['\"\\])*)'|\"((?:[^\"\\]|\\['\"\\])*)\"|(-?\d+(?:\.\d+)?)")
_VARIABLE = re.compile(
    r"(?:\$[cgsr]?|channelMap\.get|connectorMap\.get|globalMap\.get)\(\s*['\"](\w+)['\"]\s*\)|([a-zA-Z_]\w*)"
)
_PUT = re.compile(r"(?:\$c|channelMap\.put|connectorMap\.put)\(\s*['\"](\w+)['\"]\s*,\s*(.+)\)", re.DOTALL)
_COMPARE = re.compile(r"(.+?)\s*(===?|!==?)\s*(.+)", re.DOTALL)
_IF = re.compile(r"if\s*\((.*?)\)\s*\{(.*)\}", re.DOTALL)
_CREATE = re.compile(r"createSegment\(\s*['\"](\w{3})['\"]\s*,\s*msg\s*\)")
_LOG = re.compile(r"logger\.\w+\(.*\)|return", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/|(?<![:'\"\w])//[^\n]*", re.DOTALL)


class Untranslated(Exception):
    """Why something has no place in a mapping."""


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether one of ``some`` places is, holds or is part of one of ``others``."""
    parts = [re.split(r"[-.\[(]", one) for one in others]
    for mine in (re.split(r"[-.\[(]", one) for one in some):
        if any(mine[: len(one)] == one[: len(mine)] for one in parts):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the message: ``PID-5.1``, or a segment."""

    path: str
    depth: int
    """1: segment, 2: field, 3: component, 4: subcomponent."""
    template: bool = False
    """In the outbound template, not in the message."""


@dataclass(slots=True)
class Edit:
    """What one statement does, in the words of ``edits:``."""

    words: dict[str, Any]
    reads: set[str] = field(default_factory=set)
    """Places that it reads when it is done; not those of variables, which were read before."""
    writes: set[str] = field(default_factory=set)
    defines: str = ""
    """The variable that it gives a value."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the export: its name and line in the mapping, and the places that it reads."""

    name: str
    line: Line
    reads: frozenset[str]


@dataclass(slots=True)
class Names:
    """Variables by their name in the export."""

    known: dict[str, Variable] = field(default_factory=dict)

    def define(self, variable: str, line: Line, reads: set[str]) -> None:
        """Raises Untranslated for one that has a value already: what was said before would mean something else."""
        if variable in self.known:
            raise Untranslated(f"it gives the variable `{variable}` a second value")
        name = re.sub(r"\W", "_", variable).lower().strip("_")
        name = name if name.isidentifier() and name != "index" else f"v_{name}"
        self.known[variable] = Variable(name, line, frozenset(reads))

    def unchanged(self, written: set[str]) -> Names:
        """Those that would be the same if they were read anew after these places were written."""
        return Names({key: one for key, one in self.known.items() if not overlap(one.reads, written)})


def place(text: str) -> Place:
    """A place written as ``msg['PID']['PID.5']['PID.5.1']``, its indexes from 0."""
    match = _FIELD.fullmatch(text.strip())
    if not match:
        raise Untranslated(f"`{_short(text)}` is no place in a message")
    root, segment, occurrence, name, repetition, component, subcomponent = match.groups()
    where = f"{segment}({int(occurrence) + 1})" if occurrence else segment
    numbers = [key.split(".") for key in (name, component, subcomponent) if key]
    if any(key[0] != segment or not all(part.isdecimal() for part in key[1:]) for key in numbers):
        raise Untranslated(f"`{_short(text)}` is no place in a message")
    if not numbers:
        return Place(where, 1, root == "tmp")
    again = f"[{int(repetition) + 1}]" if repetition else ""
    tail = "".join(f".{number}" for number in numbers[-1][2:])
    return Place(f"{where}-{numbers[0][1]}{again}{tail}", len(numbers) + 1, root == "tmp")


def value(text: str, names: Names) -> tuple[Line, set[str]]:
    """A source line for an expression, and the places that it reads."""
    text = text.strip()
    case = _CASE.fullmatch(text)
    if case:
        line, reads = value(case[1], names)
        if isinstance(line, str):
            return {"from": line, "as": case[2].lower()}, reads
        raise Untranslated(f"`{_short(text)}` changes more than a place in the message")
    literal = _LITERAL.fullmatch(text)
    if literal:
        found = next(group for group in literal.groups() if group is not None)
        return {"value": re.sub(r"\\(.)", r"\1", found)}, set()
    if _FIELD.fullmatch(text):
        found_place = place(text)
        if found_place.template:
            raise Untranslated("it reads the outbound template")
        if found_place.depth < 3:
            raise Untranslated(f"`{_short(text)}` reads XML, not the text of one component")
        return found_place.path, {found_place.path}
    variable = _VARIABLE.fullmatch(text)
    name = variable and (variable[1] or variable[2])
    if name and name in names.known:
        return f"${names.known[name].name}", set()
    raise Untranslated(f"`{_short(text)}` is more than a place, a constant or a variable of a step before")


def condition(text: str, names: Names) -> dict[str, Any]:
    """A ``when:`` for comparisons joined by ``&&`` and ``||``."""
    text = re.sub(r"^return\b", "", text.strip()).strip().rstrip(";").strip()
    if text == "true":
        return {}
    if "(" in re.sub(r"\([^()]*\)", "", text) or "?" in text:
        raise Untranslated("its condition is nested")
    choices = [_all_of([_comparison(one, names) for one in part.split("&&")]) for part in text.split("||")]
    return choices[0] if len(choices) == 1 else {"any": choices}


def _all_of(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    keys = [key for one in conditions for key in one]
    if len(conditions) == 1:
        return conditions[0]
    if len(set(keys)) == len(keys):
        return {key: test for one in conditions for key, test in one.items()}
    return {"all": conditions}


def _comparison(text: str, names: Names) -> dict[str, Any]:
    match = _COMPARE.fullmatch(text.strip())
    if not match:
        raise Untranslated(f"`{_short(text)}` is no comparison")
    line, _ = value(match[1], names)
    wanted, _ = value(match[3], names)
    if not isinstance(line, str) or not isinstance(wanted, dict) or "value" not in wanted:
        raise Untranslated(f"`{_short(text)}` does not compare a place with a constant")
    return {line: expected(match[2][0] == "=", [wanted["value"]])}


def expected(equal: bool, values: list[str]) -> Any:
    """The test of a place: one of ``values``, or none of them."""
    if values == [""]:
        return "absent" if equal else "present"
    if equal:
        return values[0] if len(values) == 1 else values
    return {"not": values}


def edits(script: str, names: Names) -> list[Edit]:
    """What the statements of a script do, one after the other. Raises Untranslated if one is not understood: those
    after it may depend on it."""
    statements = [one for one in _statements(_COMMENT.sub("", script)) if not _LOG.fullmatch(one)]
    return [found for one in statements if (found := _statement(one, names)) is not None]


def _statement(text: str, names: Names) -> Edit | None:
    branch = _IF.fullmatch(text)
    if branch:
        return _branch(branch, names)
    created = _CREATE.fullmatch(text)
    if created:
        return Edit({"add": [created[1]]}, writes={created[1]})
    if text.startswith("delete "):
        found = place(text.removeprefix("delete "))
        return Edit({"remove": [found.path]}, writes={found.path})
    put = _PUT.fullmatch(text) or re.fullmatch(r"(?:var|let|const)\s+(\w+)\s*=\s*(.+)", text, re.DOTALL)
    if put:
        return definition(put[1], *value(put[2], names), names)
    target, equals, source = text.partition("=")
    if not equals or source.startswith("="):
        raise Untranslated(f"`{_short(text)}` is no assignment")
    return assignment(place(target), source, names)


def definition(variable: str, line: Line, reads: set[str], names: Names) -> Edit:
    """A variable that is given a value."""
    names.define(variable, line, reads)
    return Edit({}, reads, defines=variable)


def assignment(target: Place, source: str, names: Names, default: str = "") -> Edit:
    """A place set to an expression, or to ``default`` where that gives nothing."""
    if target.template:
        raise Untranslated("it builds a new message from the outbound template")
    if target.depth == 1:
        raise Untranslated(f"it replaces the whole segment {target.path}")
    if _FIELD.fullmatch(source.strip()) and target.depth == 2 and place(source).depth == 2:
        origin = place(source).path
        return Edit({"copy": {target.path: origin}}, {origin}, {target.path})
    line, reads = value(source, names)
    if line == {"value": ""}:
        return Edit({"remove": [target.path]}, writes={target.path})
    if default:
        other, _ = value(default, names)
        if not isinstance(other, dict) or "value" not in other:
            raise Untranslated(f"its default `{_short(default)}` is no constant")
        line = {**(line if isinstance(line, dict) else {"from": line}), "default": other["value"]}
    return Edit({"set": {target.path: line}}, reads, {target.path})


def _branch(match: re.Match[str], names: Names) -> Edit:
    when = condition(match[1], names)
    inner = [_statement(statement, names) for statement in _statements(match[2])]
    made = Edit({"when": when})
    for one in inner:
        if one is None or one.defines or "when" in one.words:
            raise Untranslated("what it does under a condition is more than setting places")
        for word, what in one.words.items():
            before = made.words.get(word)
            made.words[word] = what if before is None else before | what if isinstance(what, dict) else before + what
        made.reads |= one.reads
        made.writes |= one.writes
    if made.reads & made.writes:
        raise Untranslated("what it does under a condition reads what it has set before")
    return made


def _statements(script: str) -> Iterator[str]:
    """Statements, ended by a semicolon or the line; a block in braces stays with what stands before it."""
    text, depth = "", 0
    for token in re.split(r"(;|\n|\{|\})", script):
        depth += (token == "{") - (token == "}")
        ends = depth == 0 and (token in (";", "}") or (token == "\n" and _complete(text)))
        text += "" if ends and token in (";", "\n") else token
        if ends:
            if text.strip():
                yield text.strip()
            text = ""
    if text.strip():
        yield text.strip()


def _complete(text: str) -> bool:
    """Whether a statement may end at this line's end: nothing is open, and nothing has to follow."""
    stripped = text.rstrip()
    return bool(stripped) and stripped.count("(") == stripped.count(")") and stripped[-1] not in "=+&|,)"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else f"{flat[:57]}..."
