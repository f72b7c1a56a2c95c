"""Paths into an HL7 v2 message: ``PID-3``, ``PID-3.1``, ``PID-3[2].1``, ``PID-3[4.1=HOSP].1``, ``OBX(3)-5``,
``ORDER(2).OBR-18``.

``PID-5.1.2`` is field, component, subcomponent. In brackets after a field: which repetition; in parentheses after a
segment: which occurrence. Both take a number from 1, ``*`` for every one, or a condition on the value at
a place inside (``[4.1=HOSP]``: component 4, subcomponent 1; ``OBX(3.1=8302-2)-5``: field 3, component 1).
Groups of the message structure (:mod:`bridge.codecs.groups`) go before, each with its number if need be:
``ORDER(2).OBSERVATION(3).OBX-5``; what follows is looked for, and counted, inside them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from bridge.codecs.groups import GROUPS
from bridge.errors import CodecError
from bridge.yamlfile import suggest

_PATH = re.compile(
    r"((?:[A-Z_]{4,}(?:\([^()]+\))?\.)*)([A-Z][A-Z0-9]{2})(?:\(([^()]+)\))?-(\d{1,9})(?:\[([^\[\]]+)\])?(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?",
    re.A,
)
_CONDITION = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?(?:\.(\d{1,3}))?=(.*)", re.A)
_NUMBER = re.compile(r"\d{1,5}", re.A)
_GROUP = re.compile(r"(\w+)(?:\(([^()]+)\))?\.")
_FIX = "write a path as PID-3, PID-3.1, PID-5.1.2, PID-3[2].1, PID-3[4.1=HOSP].1, OBX(3)-5 or ORDER(2).OBR-18"
_LIMIT = 10_000


EVERY = 0


@dataclass(frozen=True, slots=True)
class Match:
    """A condition: the value at ``path`` (inside the segment or the repetition) equals ``value``."""

    path: Path
    value: str


Choice = int | Match | None
"""Which of several: a number from 1, EVERY, a condition, or None when the path does not say."""


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path; numbers from 1, 0 where the path stops before."""

    text: str
    segment: str
    occurrence: Choice
    field: int
    repetition: Choice
    component: int
    subcomponent: int
    groups: tuple[tuple[str, int], ...] = ()
    """The groups that the segment is in, the outer one first, each with its number or EVERY."""

    index: int = dataclass_field(init=False)
    """Where the field stands in the segment split at its separators (MSH-1 is the separator itself)."""
    plain: bool = dataclass_field(init=False)
    """Neither a group nor an occurrence nor a repetition is chosen."""
    verbatim: bool = dataclass_field(init=False)
    """MSH-1 or MSH-2: the delimiters themselves."""

    def __post_init__(self) -> None:
        index = self.field - 1 if self.segment == "MSH" else self.field
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "plain", self.occurrence is None and self.repetition is None and not self.groups)
        object.__setattr__(self, "verbatim", self.segment == "MSH" and index < 2)

    def __str__(self) -> str:
        return self.text

    def at(self, occurrence: int) -> str:
        """The same place in the segment's ``occurrence``-th occurrence in the whole message, as text."""
        match = _PATH.fullmatch(self.text)
        assert match
        return f"{self.segment}({occurrence})-{self.text[match.start(4) :]}"


_compiled: dict[str, Path] = {}


def compile_path(text: str) -> Path:
    """The path written as ``text``; compiled once. Raises CodecError with the fix when it is not a path."""
    path = _compiled.get(text)
    if path is None:
        path = _parse(text)
        if len(_compiled) < _LIMIT:
            _compiled[text] = path
    return path


def _parse(text: str) -> Path:
    match = _PATH.fullmatch(text)
    if not match:
        raise CodecError("not a path into an HL7 message", at=text, fix=_FIX)
    groups, segment, occurrence, field, repetition, component, subcomponent = match.groups()
    numbers = [int(number) for number in (field, component, subcomponent) if number is not None]
    if not all(1 <= number <= 999 for number in numbers):
        raise CodecError("numbers in a path run from 1 to 999", at=text, fix=_FIX)
    numbers += [0] * (3 - len(numbers))
    which = _choice(occurrence, text, segment)
    repeat = _choice(repetition, text, "")
    return Path(text, segment, which, numbers[0], repeat, numbers[1], numbers[2], _groups(groups, text))


def _groups(written: str, text: str) -> tuple[tuple[str, int], ...]:
    found = []
    for name, which in _GROUP.findall(written):
        if name not in GROUPS:
            what = f"no message structure has a group {name}"
            raise CodecError(what, at=text, fix=suggest(name, GROUPS) or "one of " + ", ".join(sorted(GROUPS)))
        choice = _choice(which, text, "") if which else EVERY
        if not isinstance(choice, int):
            raise CodecError(f"`{which}` chooses no group: a number from 1 or * is expected", at=text, fix=_FIX)
        found.append((name, choice))
    return tuple(found)


def _choice(written: str | None, text: str, segment: str) -> Choice:
    """What is written in brackets; ``segment`` is given for an occurrence, whose condition begins with a field."""
    if written is None:
        return None
    if written == "*":
        return EVERY
    if _NUMBER.fullmatch(written) and int(written) >= 1:
        return int(written)
    match = _CONDITION.fullmatch(written)
    if not match:
        raise CodecError(f"`{written}` chooses nothing: a number from 1, * or 4.1=HOSP is expected", at=text, fix=_FIX)
    places = [int(number) for number in match.groups()[:3] if number is not None]
    if len(places) > (3 if segment else 2) or not all(places):
        raise CodecError(f"`{written}` names no place inside", at=text, fix=_FIX)
    field, component, subcomponent = [*([] if segment else [0]), *places, 0, 0][:3]
    return Match(Path(text, segment, None, field, None, component, subcomponent), match[4])
