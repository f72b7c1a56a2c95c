"""Functions on HL7 times (TS, DTM: YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ])."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from bridge.mapping.functions.registry import Site, function, unusable
from bridge.mapping.functions.text import read_number

_TS = re.compile(
    r"(\d{4})(?:(0[1-9]|1[0-2])(?:(0[1-9]|[12]\d|3[01])(?:([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d)(\.\d{1,6})?)?)?)?)?)?"
    r"([+-](?:0\d|1[0-4])[0-5]\d)?",
    re.ASCII,
)
_LONGEST = 100 * 24 * 60
_FIX = "send it as YYYYMMDDHHMMSS, as precise as it is known"


class Stamp(NamedTuple):
    """A time as precise as it was written: ``size`` is 4 (year), 6, 8, 10, 12 or 14 digits."""

    moment: datetime
    size: int
    fraction: str
    offset: tzinfo | None


@lru_cache(maxsize=4096)
def read_time(text: str) -> Stamp:
    """The parts of an HL7 time. Raises MappingError if it is none."""
    match = _TS.fullmatch(text)
    if not match:
        raise unusable("this is not an HL7 date or time", _FIX)
    digits = [int(part) for part in match.groups()[:6] if part]
    try:
        moment = datetime(*(digits + [1] * (3 - len(digits))))  # type: ignore[arg-type]
    except ValueError:
        raise unusable("there is no such day", _FIX) from None
    offset = None
    if match[8]:
        sign = -1 if match[8][0] == "-" else 1
        offset = timezone(sign * timedelta(hours=int(match[8][1:3]), minutes=int(match[8][3:])))
    return Stamp(moment, 2 + 2 * len(digits), match[7] or "", offset)


def zone_of(site: Site) -> tzinfo:
    return ZoneInfo(site.get("timezone") or "UTC")


def _local(text: str, site: Site) -> Stamp:
    stamp = read_time(text)
    if stamp.offset is None or stamp.size < 10:
        return stamp
    try:
        moment = stamp.moment.replace(tzinfo=stamp.offset).astimezone(zone_of(site))
    except OverflowError:
        raise unusable("there is no such day", _FIX) from None
    return stamp._replace(moment=moment.replace(tzinfo=None))


def _day(stamp: Stamp) -> str:
    if stamp.size < 8:
        raise unusable("the date has no day, which DICOM needs", "send year, month and day")
    return stamp.moment.date().isoformat().replace("-", "")


@function("text")
def date(text: str) -> str:
    """The day as written, for DICOM (DA). For birth dates: no time zone ever moves it.

    >>> run("date", "198808181126+0215")
    '19880818'
    """
    return _day(read_time(text)) if text else ""


@function("text")
def local_date(text: str, *, site: Site) -> str:
    """The day in the site's time zone, for DICOM (DA).

    >>> run("local_date", "20260105233000-0500"), run("local_date", "20260105")
    ('20260106', '20260105')
    """
    return _day(_local(text, site)) if text else ""


@function("text")
def local_time(text: str, *, site: Site) -> str:
    """The time of day in the site's time zone, for DICOM (TM), as precise as written; empty for a mere day.

    >>> run("local_time", "202601060930+0000"), run("local_time", "20260106")
    ('1030', '')
    """
    if not text:
        return ""
    stamp = _local(text, site)
    if stamp.size <= 8:
        return ""
    return stamp.moment.time().isoformat().replace(":", "")[: stamp.size - 8] + stamp.fraction


@function("text")
def local_date_time(text: str, *, site: Site) -> str:
    """An HL7 time in the site's time zone, as precise as written, of which a second has four digits at most.

    >>> run("local_date_time", "202601060930+0000"), run("local_date_time", "20260106")
    ('202601061030', '20260106')
    """
    if not text:
        return ""
    stamp = _local(text, site)
    digits = "".join(one for one in stamp.moment.isoformat()[:19] if one.isdigit())
    return digits[: stamp.size] + stamp.fraction[:5]


@function("text")
def fhir_date(text: str) -> str:
    """A FHIR date: the day as written, or the month or year if no more is known.

    >>> run("fhir_date", "20260106093000"), run("fhir_date", "1988")
    ('2026-01-06', '1988')
    """
    if not text:
        return ""
    stamp = read_time(text)
    return stamp.moment.date().isoformat()[: {4: 4, 6: 7}.get(stamp.size, 10)]


@function("text")
def fhir_datetime(text: str, *, site: Site) -> str:
    """A FHIR dateTime, as precise as written. A time without an offset is in the site's time zone.

    FHIR wants seconds wherever there is a time of day; where none are sent they are 00.

    >>> run("fhir_datetime", "20260106093000"), run("fhir_datetime", "202607060930")
    ('2026-01-06T09:30:00+01:00', '2026-07-06T09:30:00+02:00')
    >>> run("fhir_datetime", "20260106"), run("fhir_datetime", "202110201126+0215")
    ('2026-01-06', '2021-10-20T11:26:00+02:15')
    """
    if not text:
        return ""
    stamp = read_time(text)
    return fhir_date(text) if stamp.size < 10 else _with_offset(stamp, site)


@function("text")
def fhir_instant(text: str, *, site: Site) -> str:
    """A FHIR instant: like fhir_datetime, but a mere day is its first second.

    >>> run("fhir_instant", "20260106")
    '2026-01-06T00:00:00+01:00'
    """
    if not text:
        return ""
    stamp = read_time(text)
    if stamp.size < 8:
        raise unusable("the time has no day, which an instant needs", _FIX)
    return _with_offset(stamp, site)


@function("text")
def time_after(text: str, minutes: str, *, site: Site) -> str:
    """An HL7 time so many minutes after another one; empty if one of the two is, or is a mere day.

    >>> run("time_after", "20260106143000", "30"), run("time_after", "202603290150+0100", "20")
    ('20260106150000+0100', '20260329031000+0200')
    """
    if not text or not minutes:
        return ""
    stamp = read_time(text)
    if stamp.size < 12:
        return ""
    whole = read_number(minutes)
    if not 0 <= whole <= _LONGEST:
        raise unusable("this is no duration in minutes", "send a number of minutes")
    start = stamp.moment.replace(tzinfo=stamp.offset or zone_of(site)).astimezone(UTC)
    return (start + timedelta(minutes=float(whole))).astimezone(zone_of(site)).strftime("%Y%m%d%H%M%S%z")


def _with_offset(stamp: Stamp, site: Site) -> str:
    whole = stamp.moment.replace(tzinfo=stamp.offset or zone_of(site)).isoformat()
    return whole[:19] + stamp.fraction + whole[19:]
