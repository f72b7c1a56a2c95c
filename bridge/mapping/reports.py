"""How far the report in a message is (OBR-25, table 0123; OBX-11, table 0085; DiagnosticReport.status): what
``report:`` in a ``when:`` asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge.codecs.fhir_view import FhirView
from bridge.codecs.hl7v2 import View
from bridge.errors import Finding
from bridge.mapping.place import Place

_SETTLED = frozenset("FCXWD")
"""Result statuses (OBR-25) of a report that is final, corrected or withdrawn."""
_LINES_SETTLED = frozenset("FUCAXWD")
"""Statuses of single results (OBX-11), which count where OBR-25 is empty: U is final without being sent again."""
_AMENDED = frozenset("CA")
_WITHDRAWN = frozenset("XWD")
_NO_RESULT = frozenset("O")
_STATUSES_SETTLED = frozenset({"final", "amended", "corrected", "appended", "cancelled", "entered-in-error"})
"""Statuses of a DiagnosticReport that is final, corrected or withdrawn."""


def is_final(message: View) -> bool:
    """Whether a message brings a final report, or changes one: a correction, an addendum or a withdrawal.

    So whoever asks for final reports gets all that has to follow them. OBR-25 of any report in the message decides;
    where it says less, results that are corrected or amended (OBX-11 C, A) do, or that are all withdrawn (X, W, D).
    """
    if isinstance(message, FhirView):
        return any(text in _STATUSES_SETTLED for text in message.all("DiagnosticReport.status"))
    reports = {text for text in message.all("OBR-25") if text}
    lines = {text for text in message.all("OBX-11") if text} - _NO_RESULT
    if reports & _SETTLED or lines & _AMENDED or (lines and lines <= _WITHDRAWN):
        return True
    return not reports and bool(lines & _LINES_SETTLED)


_CHANGES = {
    "OBR-25": ("F", frozenset("CX")),
    "OBX-11": ("F", frozenset("CXWD")),
    "DiagnosticReport.status": ("final", _STATUSES_SETTLED - {"final"}),
}
"""By where the status of a report stands: what it is when final, and what at least changes a final one."""


def left_behind(when: Any, place: Place) -> Iterator[Finding]:
    """A warning for each test in a route's ``when:`` that takes final reports and keeps from their receiver what
    corrects or withdraws them."""
    for key, value in when.items() if isinstance(when, dict) else ():
        if key in ("any", "all") and isinstance(value, list):
            for number, one in enumerate(value):
                yield from left_behind(one, place.child(key, number))
        wanted = {str(one) for one in (value if isinstance(value, list) else [value])}
        final, changes = _CHANGES.get(str(key), ("", frozenset()))
        if final in wanted and not changes <= wanted:
            what = "who gets final reports here does not get their corrections and retractions"
            yield place.child(key).finding(what, "write `report: final` instead", "warning")
