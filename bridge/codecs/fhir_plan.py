"""What of a transaction bundle still has to be written, given what the server holds now.

FHIR servers differ in what they do with an update that changes nothing (some count it as a new version), and none knows
that a late preliminary report must not replace a final one. So the resources that a bundle is about are read first
(:func:`queries`), and only the difference is written (:func:`plan`). Pure; ``channels/fhir.py`` does the talking.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from bridge.codecs.fhir import decode, encode, token
from bridge.errors import CodecError, Permanent, Temporary

Json = dict[str, Any]

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


def _age(new: Any, old: Any) -> int:
    """1 if ``new`` is the later instant, -1 if the earlier, 0 if equal or not known."""
    try:
        first, second = datetime.fromisoformat(str(new)), datetime.fromisoformat(str(old))
        return (first > second) - (first < second)
    except (ValueError, TypeError):
        return 0


def queries(bundle: Json) -> bytes:
    """A batch Bundle that searches for every resource of ``bundle`` (as build_bundle makes them), in its sequence."""
    return batch([f"{_search(entry)}&_count=2" for entry in bundle["entry"]])


def batch(urls: Sequence[str]) -> bytes:
    """A batch Bundle of reads. A body, so that no identifier of a patient stands in a URL that servers log."""
    reads = [{"request": {"method": "GET", "url": url}} for url in urls]
    return encode({"resourceType": "Bundle", "type": "batch", "entry": reads})


def _search(entry: Json) -> str:
    """``Type?parameter=value`` by which a bundle's entry finds its resource."""
    request = entry["request"]
    return f"{request['url']}?{request['ifNoneExist']}" if "ifNoneExist" in request else str(request["url"])


def found(bundle: Json, answer: bytes) -> list[Json | None]:
    """What the server holds for each entry of ``bundle``, from its answer to :func:`queries`.

    Raises Temporary if the answer is not one to these queries, Permanent where several resources match an entry, or
    one that does not bear the identifier asked for (a server that ignores the search would have others overwritten).
    """
    result: list[Json | None] = []
    for entry, reply in zip(bundle["entry"], replies(answer, len(bundle["entry"])), strict=True):
        kind = entry["resource"]["resourceType"]
        if reply["status"] != 200 or not reply["resource"]:
            raise Temporary(f"the search was answered with status {reply['status']}", at=kind)
        everything = [one.get("resource", {}) for one in reply["resource"].get("entry", [])]
        matches = [one for one in everything if one.get("resourceType") == kind]
        if len(matches) > 1:
            raise Permanent(
                "several resources on the server match one business identifier",
                at=kind, fix="merge them on the server, then replay", kind="duplicate_key",
            )  # fmt: skip
        if matches and not _bears(matches[0], _search(entry)):
            raise Permanent("the server's search ignores the identifier", at=kind, fix="index `identifier` there")
        result.append(matches[0] if matches else None)
    return result


def replies(answer: bytes, count: int) -> list[Json]:
    """What a server answered to each of ``count`` entries: ``status``, ``location``, ``outcome``, ``resource``.

    Raises Temporary if the answer is not a Bundle that tells of each.
    """
    try:
        entries = decode(answer).get("entry", [])
    except CodecError:
        entries = []
    found = []
    for entry in entries if isinstance(entries, list) else []:
        response = entry.get("response") if isinstance(entry, dict) else None
        status = re.match(r"\d{3}", str(response.get("status"))) if isinstance(response, dict) else None
        if not response or not status:
            break
        parts = {"location": str(response.get("location", "")), "outcome": response.get("outcome", {})}
        found.append({**parts, "status": int(status[0]), "resource": entry.get("resource")})
    if len(found) != count:
        raise Temporary(f"the answer tells of {len(found)} of {count} entries", fix="see the server's log")
    return found


def _bears(resource: Json, search: str) -> bool:
    """Whether ``resource`` has one of the identifiers that ``search`` asks for."""
    tokens = re.findall(r"(?:\\.|[^\\,])+", unquote(search.partition("=")[2]))
    have = [(str(one.get("system", "")), str(one.get("value", ""))) for one in resource.get("identifier", [])]
    return any(system and value and token(system, value) in tokens for system, value in have)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do of a bundle."""

    entries: tuple[Json, ...] = ()
    """Bundle entries to write, in sequence."""
    unchanged: int = 0
    """Entries whose resource is on the server as it should be, or is only made where there is none."""
    superseded: int = 0
    """Entries held back because the server has what they may not replace."""


def retracted(bundle: Json, current: Sequence[Json | None]) -> list[str]:
    """Observations (``Observation/<id>``) that are no longer of a report, as ``bundle`` withdraws or corrects it.

    They are to be read too, and given to :func:`plan`.
    """
    named = {_reference(one) for one in current if one}
    return [
        reference
        for entry, old in zip(bundle["entry"], current, strict=True)
        if old and _is_report(entry) and _replaces_results(old, entry["resource"])
        for reference in _results(old)
        if re.fullmatch(r"Observation/[A-Za-z0-9.-]{1,64}", reference) and reference not in named
    ]


def _replaces_results(old: Json, new: Json) -> bool:
    """A withdrawal takes all results with it; a correction that comes with content has them all."""
    corrects = new.get("status") in ("corrected", "amended") and _has_content(new)
    return (corrects or _withdrawn(new)) and may_replace(old, new)


def plan(bundle: Json, current: Sequence[Json | None], orphans: Sequence[Json] = ()) -> Plan:
    """The entries of ``bundle`` that have to be written, when the server holds ``current`` (from :func:`found`).

    Left out: what is only made where there is none and exists; what is the same already; what may not replace the
    server's (:func:`may_replace`), with the results of a report that may not. An update of what exists becomes a PUT
    by id that holds only for the version that was read (If-Match). A mere change of status (OBX-11 U: final, nothing
    sent again) keeps the text and values that are there. ``orphans``, the observations of :func:`retracted`, become
    entered-in-error.
    """
    pairs = list(zip(bundle["entry"], current, strict=True))
    held = _held_back(pairs)
    urls = {entry["fullUrl"]: _reference(old) for entry, old in pairs if old}
    write = [_put({**one, "status": "entered-in-error"}, one) for one in orphans if not _withdrawn(one)]
    unchanged = superseded = 0
    for entry, old in pairs:
        new = resolve(entry, urls)
        if entry["fullUrl"] in held:
            superseded += 1
        elif old is None:
            write.append(new)
        elif "ifNoneExist" in entry["request"] or _same(full := _completed(new["resource"], old), old):
            unchanged += 1
        else:
            write.append(_put(full, old))
    return Plan(tuple(write), unchanged, superseded)


def _held_back(pairs: Sequence[tuple[Json, Json | None]]) -> set[str]:
    """fullUrls of the reports and observations that may not replace the server's, and of the results only of such."""
    ruled = [(entry, old) for entry, old in pairs if entry["resource"]["resourceType"] in _RULED and old]
    held = {entry["fullUrl"] for entry, old in ruled if old and not may_replace(old, entry["resource"])}
    reports = [entry for entry, _ in pairs if _is_report(entry)]
    kept = {one for report in reports if report["fullUrl"] not in held for one in _results(report["resource"])}
    lost = {one for report in reports if report["fullUrl"] in held for one in _results(report["resource"])}
    return held | (lost - kept)


_RULED = ("DiagnosticReport", "Observation", "DocumentReference")


def _is_report(entry: Json) -> bool:
    return bool(entry["resource"]["resourceType"] == "DiagnosticReport")


def _withdrawn(resource: Json) -> bool:
    return _rank(resource) == _WITHDRAWN


def _results(report: Json) -> list[str]:
    return [str(one.get("reference", "")) for one in report.get("result", [])]


def _reference(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _put(resource: Json, old: Json) -> Json:
    request = {"method": "PUT", "url": _reference(old)}
    if version := old.get("meta", {}).get("versionId"):
        request["ifMatch"] = f'W/"{version}"'
    return {"resource": {**resource, "id": old["id"]}, "request": request}


_CONTENT = {
    "DiagnosticReport": re.compile("presentedForm|conclusion|conclusionCode"),
    "Observation": re.compile("value.+|dataAbsentReason|component"),
}


def _completed(new: Json, old: Json) -> Json:
    """``new`` with the content (and results) of ``old``, if it has no content itself and is not withdrawn."""
    if new["resourceType"] == "DocumentReference":
        return _completed_document(new, old)
    if new.get("status") == "appended" and not _withdrawn(old):
        return _appended(new, old)
    content = _CONTENT.get(new["resourceType"])
    if content is None or _withdrawn(new) or _has_content(new):
        return new
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


def _has_content(resource: Json) -> bool:
    return any(map(_CONTENT[resource["resourceType"]].fullmatch, resource))


def _same(new: Json, old: Json) -> bool:
    """Whether ``old`` says what ``new`` says; what a server adds by itself (id, meta, a narrative) is no difference."""
    ignored = {"id", "meta"} | ({"text"} - new.keys())
    ours, theirs = ({key: one[key] for key in one.keys() - ignored} for one in (new, old))
    meta = old.get("meta", {})
    return ours == theirs and all(meta.get(key) == value for key, value in new.get("meta", {}).items())


def resolve(value: Any, urls: Mapping[str, str]) -> Any:
    """``value`` with each reference to a fullUrl in ``urls`` pointing at the resource itself (``Type/id``)."""
    if not urls:
        return value
    if isinstance(value, dict):
        target = value.get("reference")
        here = {**value, "reference": urls[target]} if isinstance(target, str) and target in urls else value
        return {key: resolve(item, urls) for key, item in here.items()}
    if isinstance(value, list):
        return [resolve(item, urls) for item in value]
    return value


def parts(entries: Sequence[Json], size: int) -> list[list[Json]]:
    """``entries`` in transactions of at most ``size`` (0: one for all), in sequence.

    Raises Permanent when an entry refers to a later transaction: what is referred to has to stand before it.
    """
    if not size or len(entries) <= size:
        return [list(entries)] if entries else []
    cut = [list(entries[start : start + size]) for start in range(0, len(entries), size)]
    for number, part in enumerate(cut):
        later = {entry.get("fullUrl") for other in cut[number + 1 :] for entry in other} - {None}
        if resolve(part, {str(url): "" for url in later}) != part:
            raise Permanent("an entry refers to a later transaction", fix="map what is referred to first")
    return cut


def transaction(entries: Sequence[Json]) -> bytes:
    return encode({"resourceType": "Bundle", "type": "transaction", "entry": list(entries)})
