"""Functions on DICOM values."""

from __future__ import annotations

from bridge.mapping.functions.registry import function


@function("text")
def date_time(date: str, time: str) -> str:
    """A DICOM date and time (DA, TM) as an HL7 time, of which a second has four digits at most; empty without a date.

    >>> run("date_time", "20260105", "093512.123456"), run("date_time", "20260105", ""), run("date_time", "", "0935")
    ('20260105093512.1234', '20260105', '')
    """
    return (date + time)[:19] if date else ""
