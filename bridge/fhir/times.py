"""FHIR dates as spans of time: a date is its whole day, a month its whole month (R4 search, 3.1.1.4.7)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

FOREVER = 1e18
"""Beyond every date, in milliseconds."""

_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)


def span(text: str, zone: tzinfo) -> tuple[float, float] | None:
    """First millisecond (since the epoch) and first one after; None for a text that is no date.

    ``zone`` is where a date or time without an offset is meant.
    """
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        where = _zone(offset) if offset else zone
        leap = second == "60"
        parts = (int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0))
        first = datetime(*parts, 59 if leap else int(second or 0), tzinfo=where)
        low = first.timestamp() * 1000 + (1000 if leap else 0)
        if fraction:
            low += int(fraction[:3].ljust(3, "0"))
            return low, low + 10 ** max(3 - len(fraction), 0)
        return low, _end(first, month, day, hour, second, low)
    except (ValueError, OverflowError):
        return None


def _zone(offset: str) -> tzinfo:
    found = datetime.fromisoformat(f"2000-01-01T00:00:00{offset}").tzinfo
    return found or UTC


def _end(first: datetime, month: str, day: str, hour: str, second: str, low: float) -> float:
    if second:
        return low + 1000
    if hour:
        return low + 60_000
    if day:
        after = first + timedelta(days=1)
    elif month:
        after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    else:
        after = first.replace(year=first.year + 1)
    return after.timestamp() * 1000
