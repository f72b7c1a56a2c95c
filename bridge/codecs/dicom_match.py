"""The matching rules of a C-FIND (PS3.4 C.2.2.2), parsed once from the query and usable on an item or in SQL.

A key holds *tests*, any of which may match any value of the attribute. A key without tests is universal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from bridge.codecs.dicom_text import fold, name_keys
from bridge.errors import CodecError

WILD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?")


@dataclass(frozen=True, slots=True)
class Exact:
    value: str


@dataclass(frozen=True, slots=True)
class Wild:
    """``*`` any run of characters, ``?`` any one; ``but`` these values."""

    pattern: str
    but: frozenset[str] = frozenset()

    def regex(self) -> re.Pattern[str]:
        pieces = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in self.pattern)
        return re.compile("".join(pieces), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Between:
    """From ``low`` to ``high``, both included, in canonical form; an empty end is open.

    ``single``: the query named one value, not a range (a time of less than full precision spans one).
    """

    low: str
    high: str
    single: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """One test for each component group of a PN, None for any; ``anywhere``: the one test may match any group."""

    groups: tuple[Exact | Wild | None, ...]
    anywhere: bool


Test = Exact | Wild | Between | Name


@dataclass(frozen=True, slots=True)
class Key:
    """One requested attribute: what it has to match, and (for a sequence) which attributes of its items are wanted."""

    tag: int
    keyword: str
    vr: str
    tests: tuple[Test, ...] = ()
    item: tuple[Key, ...] | None = None
    """None: the whole sequence, whatever is in it."""

    @property
    def universal(self) -> bool:
        return not self.tests and all(key.universal for key in self.item or ())


def parse_tests(vr: str, values: list[str]) -> tuple[Test, ...]:
    """The tests that a key's values stand for; empty when one of them matches everything.

    Raises CodecError for a date or time that is none.
    """
    tests: list[Test] = []
    for value in values:
        if not value.strip("* ") and (value.strip() or len(values) == 1):
            return ()
        if value.strip():
            test = _parse_test(vr, value)
            if isinstance(test, Name) and not any(test.groups):
                return ()
            tests.append(test)
    return tuple(tests)


def _parse_test(vr: str, value: str) -> Test:
    if vr == "DA":
        return _range(value, lambda text, _: canonical_date(text))
    if vr == "TM":
        return _range(value, lambda text, up: canonical_time(text, up=up))
    if vr == "PN":
        return _name(value)
    text = canonical(vr, value)
    return _text(text) if vr in WILD_VRS else Exact(text)


def _text(value: str) -> Exact | Wild:
    return Wild(re.sub(r"\*+", "*", value)) if "*" in value or "?" in value else Exact(value)


def _range(value: str, canonical: Any) -> Between:
    low, dash, high = (part.strip() for part in value.partition("-"))
    if not dash:
        return Between(canonical(low, False), canonical(low, True), single=True)
    if not low and not high:
        raise CodecError("a range without an end", fix="send yyyymmdd-yyyymmdd or hhmmss-hhmmss")
    return Between(canonical(low, False) if low else "", canonical(high, True) if high else "")


def _name(value: str) -> Name:
    tests = [_name_group(group) for group in value.split("=", 2)]
    return Name(tuple(tests), anywhere=len(tests) == 1)


def _name_group(group: str) -> Exact | Wild | None:
    key = re.sub(r"\*+", "*", fold(group).strip(" "))
    key = re.sub(r"(\^\*)+$", "^*", key)
    if not key.strip("*^ "):
        return None
    return _text(key if key.endswith("*") else key.rstrip("^ ") + "^")


def canonical_date(text: str) -> str:
    """``yyyymmdd``; also reads the old ``yyyy.mm.dd``. Raises CodecError."""
    digits = text.replace(".", "") if re.fullmatch(r"\d{4}\.\d\d\.\d\d", text) else text
    try:
        if not re.fullmatch(r"\d{8}", digits):
            raise ValueError
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        raise CodecError("not a date", fix="send yyyymmdd", kind="datatype") from None
    return digits


def canonical_time(text: str, *, up: bool = False) -> str:
    """``hhmmssffffff``; what the text leaves out is filled with the first, or (``up``) the last possible moment.

    Also reads the old ``hh:mm:ss``. Raises CodecError.
    """
    match = _TIME.fullmatch(text)
    if not match or int(match[1]) > 23 or int(match[2] or 0) > 59 or int(match[3] or 0) > 60:
        raise CodecError("not a time", fix="send hhmmss", kind="datatype")
    hours, minutes, seconds, fraction = match.groups()
    fill = "59" if up else "00"
    return hours + (minutes or fill) + (seconds or fill) + (fraction or "").ljust(6, "9" if up else "0")


def canonical(vr: str, value: str) -> str:
    """The form in which one value is compared with another. Padding does not count (PS3.5 6.2)."""
    text = value.strip(" \0") if vr not in ("ST", "LT", "UT") else value.rstrip(" \0")
    if vr in ("IS", "DS"):
        try:
            return format(float(text), ".10g")
        except ValueError:
            return text
    return text


def matches(keys: tuple[Key, ...], attributes: Mapping[str, Any]) -> bool:
    """Whether one item (keyword -> value, as in :class:`bridge.model.WorklistStep`) answers every key.

    The start date and time of a step, when both are given and the time is a range, are one range of moments
    (PS3.4 table K.6-1). An attribute without a value matches universal keys only.
    """
    joined = moments(keys)
    for key in keys:
        if joined and key.keyword in ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"):
            continue
        if not key.universal and not _key_matches(key, attributes.get(key.keyword)):
            return False
    return not joined or _in_moments(joined, attributes)


def moments(keys: tuple[Key, ...]) -> Between | None:
    """The one range of moments ``yyyymmddhhmmssffffff`` that a step's date and time keys span together, if they do."""
    found = {key.keyword: key.tests for key in keys}
    days = found.get("ScheduledProcedureStepStartDate", ())
    times = found.get("ScheduledProcedureStepStartTime", ())
    if len(days) != 1 or len(times) != 1:
        return None
    day, time = days[0], times[0]
    if not isinstance(day, Between) or not isinstance(time, Between) or time.single:
        return None
    low = day.low + (time.low or "0" * 12) if day.low else ""
    high = day.high + (time.high or "9" * 12) if day.high else ""
    return Between(low, high)


def _in_moments(span: Between, attributes: Mapping[str, Any]) -> bool:
    day = texts(attributes.get("ScheduledProcedureStepStartDate"))
    time = texts(attributes.get("ScheduledProcedureStepStartTime"))
    return bool(day and time) and _between(span, canonical_date(day[0]) + canonical_time(time[0]))


def _key_matches(key: Key, value: Any) -> bool:
    if key.item is not None:
        return any(matches(key.item, item) for item in value or ())
    return any(_test_matches(key.vr, test, text) for text in texts(value) for test in key.tests)


def texts(value: Any) -> list[str]:
    """An attribute's values as texts; none for an empty one."""
    values = value if isinstance(value, list | tuple) else [value]
    return [str(one) for one in values if one is not None and str(one).strip()]


def _test_matches(vr: str, test: Test, value: str) -> bool:
    if isinstance(test, Name):
        return _name_matches(test, name_keys(value))
    if isinstance(test, Between):
        return _between(test, canonical_date(value) if vr == "DA" else canonical_time(value))
    return _text_matches(test, canonical(vr, value))


def _between(test: Between, value: str) -> bool:
    return (not test.low or value >= test.low) and (not test.high or value <= test.high)


def _text_matches(test: Exact | Wild, value: str) -> bool:
    if isinstance(test, Exact):
        return value == test.value
    return value not in test.but and bool(test.regex().fullmatch(value))


def _name_matches(test: Name, keys: tuple[str, str, str]) -> bool:
    if test.anywhere:
        only = test.groups[0]
        return only is None or any(key and _text_matches(only, key) for key in keys)
    return all(
        group is None or (bool(key) and _text_matches(group, key))
        for group, key in zip(test.groups, keys, strict=False)
    )
