"""Which resource may follow which: the written rules of status, and what of the former one stays.

Two kinds of resources. What *reports* (DiagnosticReport, Observation, DocumentReference) says all of itself each time:
a newer statement replaces an older one as a whole (:func:`may_replace`). What *goes on* (Patient, ServiceRequest,
Encounter, Appointment, Task, ImagingStudy, Procedure...) is told of by several systems, each of which knows a part of
it: a statement is joined to what is there (:func:`joined`), and its status may change only as :data:`CHANGES` says.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

Json = dict[str, Any]

REPORTS = ("DiagnosticReport", "Observation", "DocumentReference")
"""Resources that are replaced as a whole."""

_RANK = {
    "registered": 0,
    "unknown": 0,
    "partial": 1,
    "preliminary": 2,
    "final": 3,
    "amended": 4,
    "corrected": 4,
    "appended": 4,
    "cancelled": 5,
    "entered-in-error": 5,
    "superseded": 5,
}
_FINAL, _WITHDRAWN = 3, 5


def _rank(resource: Mapping[str, Any]) -> int:
    """How far a report, an observation or a document has come; a document that is current, by its docStatus."""
    current = resource.get("status") == "current"
    return _RANK.get(str(resource.get("docStatus", "unknown") if current else resource.get("status")), 0)


def _issued(resource: Mapping[str, Any]) -> Any:
    return resource.get("date" if resource.get("resourceType") == "DocumentReference" else "issued")


def may_replace(current: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether ``new`` may replace ``current``: both DiagnosticReports, Observations or DocumentReferences of the same
    identifier.

    ==========================  ==============================================================
    new status is               it may, if
    ==========================  ==============================================================
    higher than current         always: a correction replaces a final, a retraction anything
    of the same rank            ``issued`` is not older
    lower, current not final    ``issued`` is newer
    lower, current final or     never when new is not final: a late preliminary;
    corrected                   if ``issued`` is newer when it is: a final after a correction
    lower, current withdrawn    ``issued`` is newer: the report was written anew
    ==========================  ==============================================================

    Ranks: registered, unknown < partial < preliminary < final < amended, corrected, appended < cancelled,
    entered-in-error, superseded (withdrawn). A document's ``date`` is its ``issued``. Where either side has none,
    neither is newer nor older.
    """
    old_rank, new_rank = _rank(current), _rank(new)
    age = _age(_issued(new), _issued(current))
    if new_rank > old_rank:
        return True
    if new_rank == old_rank:
        return age >= 0
    if new_rank < _FINAL <= old_rank < _WITHDRAWN:
        return False
    return age > 0


def withdrawn(resource: Mapping[str, Any]) -> bool:
    """Whether a report, an observation or a document is in force no more."""
    return _rank(resource) == _WITHDRAWN


def _age(new: Any, old: Any) -> int:
    """1 if ``new`` is the later instant, -1 if the earlier, 0 if equal or not known."""
    try:
        first, second = datetime.fromisoformat(str(new)), datetime.fromisoformat(str(old))
        return (first > second) - (first < second)
    except (ValueError, TypeError):
        return 0


CHANGES: dict[str, dict[str, str]] = {
    "ServiceRequest": {
        "draft": "active on-hold revoked completed entered-in-error",
        "active": "on-hold revoked completed entered-in-error",
        "on-hold": "active revoked completed entered-in-error",
        "revoked": "completed entered-in-error | active on-hold",
        "completed": "entered-in-error | active on-hold",
        "entered-in-error": "",
    },
    "Encounter": {
        "planned": "arrived triaged in-progress onleave finished cancelled entered-in-error",
        "arrived": "triaged in-progress onleave finished cancelled entered-in-error | planned",
        "triaged": "in-progress onleave finished cancelled entered-in-error | planned arrived",
        "in-progress": "onleave finished cancelled entered-in-error | planned arrived triaged",
        "onleave": "in-progress finished cancelled entered-in-error",
        "finished": "cancelled entered-in-error | in-progress arrived",
        "cancelled": "entered-in-error | planned arrived in-progress",
        "entered-in-error": "",
    },
    "Appointment": {
        "proposed": "pending booked waitlist arrived checked-in fulfilled cancelled noshow entered-in-error",
        "pending": "booked waitlist arrived checked-in fulfilled cancelled noshow entered-in-error",
        "waitlist": "pending booked arrived checked-in fulfilled cancelled noshow entered-in-error",
        "booked": "pending waitlist arrived checked-in fulfilled cancelled noshow entered-in-error",
        "arrived": "checked-in fulfilled cancelled noshow entered-in-error | booked",
        "checked-in": "fulfilled cancelled noshow entered-in-error | booked arrived",
        "fulfilled": "entered-in-error | booked arrived checked-in",
        "cancelled": "entered-in-error | pending booked waitlist",
        "noshow": "cancelled entered-in-error arrived checked-in fulfilled | pending booked waitlist",
        "entered-in-error": "",
    },
    "Task": {
        "requested": "accepted ready in-progress on-hold completed cancelled failed entered-in-error",
        "accepted": "ready in-progress on-hold completed cancelled failed entered-in-error | requested",
        "ready": "in-progress on-hold completed cancelled failed entered-in-error | requested accepted",
        "on-hold": "requested accepted ready in-progress completed cancelled failed entered-in-error",
        "in-progress": "on-hold completed cancelled failed entered-in-error | requested accepted ready",
        "cancelled": "in-progress completed failed entered-in-error | requested accepted ready",
        "failed": "in-progress completed cancelled entered-in-error | requested accepted ready",
        "completed": "entered-in-error | requested accepted ready in-progress",
        "entered-in-error": "",
    },
    "ImagingStudy": {
        "registered": "available cancelled entered-in-error",
        "available": "cancelled entered-in-error",
        "cancelled": "available entered-in-error",
        "entered-in-error": "",
    },
    "Procedure": {
        "preparation": "in-progress not-done on-hold stopped completed entered-in-error",
        "in-progress": "on-hold stopped completed not-done entered-in-error",
        "on-hold": "in-progress stopped completed not-done entered-in-error",
        "stopped": "entered-in-error",
        "not-done": "entered-in-error",
        "completed": "entered-in-error",
        "entered-in-error": "",
    },
}
"""Type -> former status -> the statuses that may follow it; after ``|`` those that only follow if the message says
that it undoes something (``reopens:`` in its mapping): a discharge that is taken back, a step that is given back."""

UNSAID = "unknown"
"""The status of a statement that says nothing of it: the former one stays."""


def may_change(kind: str, old: str, new: str, *, reopens: bool = False) -> bool:
    """Whether a resource's status may go from ``old`` to ``new``. What :data:`CHANGES` does not list may become any."""
    if old == new or old not in CHANGES.get(kind, {}):
        return True
    always, _, undone = CHANGES[kind][old].partition("|")
    return new in always.split() or (reopens and new in undone.split())


def joined(new: Json, old: Json, *, reopens: bool = False, whole: Collection[str] = ()) -> Json:
    """``old`` with what ``new`` says of it; for all that is no report.

    - An element that ``new`` does not name stays: another system said it. Not one of ``whole``, of which it says all.
    - Identifiers are joined by system and value, so that the numbers of several systems meet, and none is lost.
    - A status that may not follow (:func:`may_change`) makes ``new`` a late statement: then it only adds what is not
      there yet. A status :data:`UNSAID` keeps the former one.
    - The reason of a status ends with it; of an element that goes by one of several types only one stays.
    - The parts of ``period`` are joined, unless something is undone.
    - A narrative is not kept: it told of what was there before.
    """
    old, late, former = _told(old), is_late(new, old, reopens=reopens), old.get("status")
    if new.get("status") == UNSAID and former:
        new = {**new, "status": former}
    first, second = (new, old) if late else ({key: old[key] for key in old if key not in whole}, new)
    chosen = {match[1] for key in second if (match := _CHOICE.fullmatch(key))}
    gone: Collection[str] = () if late or new.get("status", former) == former else _OF_STATUS
    gone = {*gone, *(key for key in first if (match := _CHOICE.fullmatch(key)) and match[1] in chosen)}
    both = {**{key: value for key, value in first.items() if key not in gone}, **second}
    if "meta" in both:
        both["meta"] = {**first.get("meta", {}), **second.get("meta", {})}
    if "period" in old:
        both["period"] = _period(first.get("period", {}), second.get("period", {}), reopens=reopens)
    if "identifier" in whole and not late:
        return both
    identifiers = joined_identifiers(new.get("identifier"), old.get("identifier"))
    return {**both, "identifier": identifiers} if identifiers else both


def _period(first: Json, second: Json, *, reopens: bool) -> Json:
    """Both, ``second`` before ``first``; what is undone has not ended."""
    kept = {key: value for key, value in first.items() if key != "end" or not reopens}
    return {**kept, **second}


_OF_STATUS = frozenset({"statusReason", "cancelationReason"})
"""Elements about the status, which end with it."""
_CHOICE = re.compile(r"(deceased|multipleBirth|occurrence|asNeeded|quantity|performed)[A-Z].*")
"""Elements that go by one of several types: only one of them may be there."""


def _told(resource: Json) -> Json:
    """What systems said, without what a server adds by itself: the version, a narrative."""
    own = {key: value for key, value in resource.get("meta", {}).items() if key not in ("versionId", "lastUpdated")}
    rest = {key: value for key, value in resource.items() if key not in ("meta", "text")}
    return {**rest, "meta": own} if own else rest


def is_late(new: Json, old: Json, *, reopens: bool = False) -> bool:
    """Whether the status of ``new`` may not follow that of ``old``."""
    status, former = str(new.get("status", "")), str(old.get("status", ""))
    if not status or not former or status == UNSAID:
        return False
    return not may_change(str(old.get("resourceType")), former, status, reopens=reopens)


def joined_identifiers(new: Any, old: Any) -> list[Json]:
    """Those of ``old`` in their sequence, as ``new`` writes them where it has them, then the others of ``new``."""
    ours = {_number(one): one for one in new or []}
    theirs = {_number(one): one for one in old or []}
    return [
        *({**one, **ours.get(key, {})} for key, one in theirs.items()),
        *(ours[key] for key in ours if key not in theirs),
    ]


def _number(identifier: Any) -> tuple[str, str]:
    return str(identifier.get("system", "")), str(identifier.get("value", ""))


_CONTENT = {
    "DiagnosticReport": re.compile("presentedForm|conclusion|conclusionCode"),
    "Observation": re.compile("value.+|dataAbsentReason|component"),
}


def has_content(resource: Json) -> bool:
    """Whether a report or an observation says something besides its status."""
    return any(map(_CONTENT[resource["resourceType"]].fullmatch, resource))


def completed(new: Json, old: Json, *, reopens: bool = False, whole: Collection[str] = ()) -> Json:
    """What is to be there when ``new`` comes to ``old``.

    A report has all the identifiers that either had; with no content of its own, and not withdrawn, it keeps the
    content and results of ``old``; an addendum comes after them. Anything else: :func:`joined`.
    """
    if new["resourceType"] not in REPORTS:
        return joined(new, old, reopens=reopens, whole=whole)
    full = _completed_report(new, old)
    identifiers = joined_identifiers(new.get("identifier"), old.get("identifier"))
    return {**full, "identifier": identifiers} if identifiers else full


def _completed_report(new: Json, old: Json) -> Json:
    if new["resourceType"] == "DocumentReference":
        return _completed_document(new, old)
    if new.get("status") == "appended" and not withdrawn(old):
        return _appended(new, old)
    if withdrawn(new) or has_content(new):
        return new
    content = _CONTENT[new["resourceType"]]
    kept = {key: value for key, value in old.items() if key == "result" or content.fullmatch(key)}
    return {**kept, **new}


def _appended(new: Json, old: Json) -> Json:
    """``new``, an addendum, after all that ``old`` says: it is not the whole report. It is never added twice."""
    lists = {key: old.get(key, []) for key in ("presentedForm", "result")}
    added = {key: [*here, *(one for one in new.get(key, []) if one not in here)] for key, here in lists.items()}
    kept: Json = {key: old[key] for key in ("conclusion", "conclusionCode") if key in old}
    return {**kept, **new, **{key: both for key, both in added.items() if both}}


def _completed_document(new: Json, old: Json) -> Json:
    """``new`` with all that it does not name itself, if it has no data and is not in error: a mere change of status."""
    stored = ("data", "url")
    empty = not any(key in one.get("attachment", {}) for one in new.get("content", []) for key in stored)
    if not empty or new.get("status") == "entered-in-error":
        return new
    return {**old, **new, "content": old.get("content", new["content"])}
