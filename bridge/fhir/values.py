"""The value of a search parameter, by the parameter's type and modifier (R4 search, 3.1.1.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import tzinfo
from typing import Literal

from bridge.errors import Refused
from bridge.fhir.index import keyed, readings, referred
from bridge.fhir.parameters import Parameter, number
from bridge.fhir.ranges import Range, amount_range, date_range


@dataclass(frozen=True, slots=True)
class Token:
    """A code of a system; None where any will do. A reference: an id of a type, or a URL of none."""

    system: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class Text:
    folded: str
    text: str
    how: Literal["starts", "contains", "exact"] = "starts"


_HOW: dict[str, Literal["starts", "contains", "exact"]] = {"": "starts", "contains": "contains", "exact": "exact"}
Value = Token | Text | Range

_VALUES = 500

_MODIFIERS = {
    "token": ("", "not", "of-type"),
    "uri": ("",),
    "string": ("", "exact", "contains"),
    "date": ("",),
    "quantity": ("",),
}


def values_of(parameter: Parameter, modifier: str, value: str, zone: tzinfo, at: str) -> tuple[int, tuple[Value, ...]]:
    """The number under which the index has it, and the values of which any will do.

    Raises Refused: kind ``unsupported`` for a modifier that is not served, ``search`` for a value that is none.
    """
    listed = split(value, ",")
    if len(listed) > _VALUES:
        raise Refused(f"more than {_VALUES} values", at=at, fix="ask in parts", kind="search")
    if parameter.type == "reference":
        return _references(parameter, modifier, listed, at)
    if modifier not in _MODIFIERS[parameter.type] or (parameter.name == "_id" and modifier == "of-type"):
        raise Refused("this modifier is not served", at=at, fix="see the CapabilityStatement", kind="unsupported")
    where = parameter.number
    if modifier == "of-type":
        where = number(f"{parameter.base}.{parameter.name}:of-type")
    return where, tuple(_value(parameter, modifier, one, zone, at) for one in listed)


def split(text: str, mark: str) -> list[str]:
    """``text`` at each ``mark`` that no backslash stands before; the backslashes stay."""
    return re.findall(rf"(?:^|(?<={re.escape(mark)}))((?:\\.|[^\\{re.escape(mark)}]|\\$)*)", text, re.DOTALL)


def unescaped(text: str) -> str:
    return re.sub(r"\\([\\$,|])", r"\1", text) if "\\" in text else text


def _references(parameter: Parameter, modifier: str, listed: list[str], at: str) -> tuple[int, tuple[Value, ...]]:
    if modifier == "identifier":
        return number(f"{parameter.base}.{parameter.name}:identifier"), tuple(_token(one) for one in listed)
    if modifier and modifier not in parameter.targets:
        raise Refused("this modifier is not served", at=at, fix="name a type it refers to", kind="unsupported")
    return parameter.number, tuple(_reference(unescaped(one), modifier) for one in listed)


def _reference(text: str, kind: str) -> Token:
    if re.fullmatch(r"[A-Za-z0-9.-]{1,64}", text):
        return Token(kind or None, text)
    target = referred(text) or ("", text)
    return Token(target[0], keyed(target[1]))


def _token(text: str) -> Token:
    parts = [unescaped(one) for one in split(text, "|")]
    if len(parts) == 1:
        return Token(None, keyed(parts[0]))
    return Token(keyed(parts[0]), keyed("|".join(parts[1:])) or None)


def _value(parameter: Parameter, modifier: str, text: str, zone: tzinfo, at: str) -> Value:
    found: Value | None
    if modifier == "of-type":
        system, *rest = (unescaped(one) for one in split(text, "|"))
        found = Token(keyed(system), keyed("|".join(rest))) if len(rest) == 2 else None
    elif parameter.type == "token":
        found = _token(text)
    elif parameter.type == "uri":
        found = Token("", keyed(unescaped(text)))
    elif parameter.type == "string":
        folded, plain = readings(unescaped(text))
        found = Text(folded, plain, _HOW[modifier]) if folded else None
    elif parameter.type == "date":
        found = date_range(unescaped(text), zone)
    else:
        amount, *unit = split(text, "|")
        found = amount_range(amount, _unit([unescaped(one) for one in unit]))
    if found is None:
        raise Refused("not a value of this parameter", at=at, fix=f"write a {parameter.type}", kind="search")
    return found


def _unit(parts: list[str]) -> str:
    return keyed("|".join(["", *parts][-2:])) if any(parts) else ""
