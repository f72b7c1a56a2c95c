"""What of a transaction bundle still has to be written, given what the server holds now.

FHIR servers differ in what they do with an update that changes nothing (some count it as a new version), and none knows
that a late preliminary report must not replace a final one. So the resources that a bundle is about are read first
(:func:`queries`), with the patients they belong to (:func:`patients`), and only the difference is written
(:func:`plan`). What may follow what: ``fhir_changes.py``. Pure; ``channels/fhir.py`` does the talking.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from bridge.codecs import fhir_subjects
from bridge.codecs.fhir import REOPENS, WHOLE, decode, encode, token
from bridge.codecs.fhir_changes import REPORTS, completed, has_content, is_late, may_replace, withdrawn
from bridge.codecs.fhir_rules import broken
from bridge.errors import CodecError, Permanent, Temporary

Json = dict[str, Any]


def queries(bundle: Json) -> bytes:
    """A batch Bundle that searches for every resource of ``bundle`` (as build_bundle makes them), in its sequence.

    What has no identifier to search by (Provenance) is left out: it is made with what it is about.
    """
    return batch([f"{_search(entry)}&_count=2" for entry in bundle["entry"] if _search(entry)])


def batch(urls: Sequence[str]) -> bytes:
    """A batch Bundle of reads. A body, so that no identifier of a patient stands in a URL that servers log."""
    reads = [{"request": {"method": "GET", "url": url}} for url in urls]
    return encode({"resourceType": "Bundle", "type": "batch", "entry": reads})


def _search(entry: Mapping[str, Any]) -> str:
    """``Type?parameter=value`` by which a bundle's entry finds its resource; empty if nothing finds it."""
    request = entry["request"]
    if "ifNoneExist" in request:
        return f"{request['url']}?{request['ifNoneExist']}"
    return "" if request["method"] == "POST" else str(request["url"])


def found(bundle: Json, answer: bytes) -> list[Json | None]:
    """What the server holds for each entry of ``bundle``, from its answer to :func:`queries`.

    Raises Temporary if the answer is not one to these queries, Permanent where several resources match an entry, or
    one that does not bear the identifier asked for (a server that ignores the search would have others overwritten).
    """
    result: list[Json | None] = []
    told = iter(replies(answer, sum(bool(_search(entry)) for entry in bundle["entry"])))
    for entry in bundle["entry"]:
        if not _search(entry):
            result.append(None)
            continue
        reply = next(told)
        kind = entry["resource"]["resourceType"]
        if reply["status"] != 200 or not reply["resource"]:
            raise Temporary(f"the search was answered with status {reply['status']}", at=kind)
        everything = [one.get("resource", {}) for one in reply["resource"].get("entry", [])]
        matches = [one for one in everything if one.get("resourceType") == kind]
        if matches and not _bears(matches[0], entry):
            raise Permanent("the server's search ignores the identifier", at=kind, fix="index `identifier` there")
        result.append(_only(matches, kind))
    return result


def recalled(bundle: Json, current: Sequence[Json | None], made: Sequence[Json]) -> list[Json | None]:
    """``current``, and for an entry that no search found that of ``made`` (read by its id) which bears an identifier
    asked for. Raises Permanent where several do."""
    result = []
    for entry, old in zip(bundle["entry"], current, strict=True):
        kind = entry["resource"]["resourceType"]
        result.append(old or _only([one for one in made if one["resourceType"] == kind and _bears(one, entry)], kind))
    return result


def _only(matches: Sequence[Json], kind: str) -> Json | None:
    if len(matches) > 1:
        raise Permanent(
            "several resources on the server match one business identifier",
            at=kind, fix="merge them on the server, then replay", kind="duplicate_key",
        )  # fmt: skip
    return matches[0] if matches else None


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
        if not response or not status or not _sound(entry.get("resource", {})):
            break
        parts = {"location": str(response.get("location", "")), "outcome": response.get("outcome", {})}
        found.append({**parts, "status": int(status[0]), "resource": entry.get("resource")})
    if len(found) != count:
        raise Temporary(f"the answer tells of {len(found)} of {count} entries", fix="see the server's log")
    return found


def _sound(resource: Any) -> bool:
    """Whether this can be read as a resource, or as a Bundle of resources."""
    inner = resource.get("entry", []) if _listed(resource) else [{"resource": None}]
    return all(_listed(entry.get("resource", {})) for entry in inner)


def _listed(resource: Any) -> bool:
    lists = [resource.get(name, []) for name in ("identifier", "entry")] if isinstance(resource, dict) else [None]
    return all(isinstance(one, list) and all(isinstance(item, dict) for item in one) for one in lists)


def sought(entry: Mapping[str, Any]) -> list[str]:
    """The search tokens that a bundle's entry (as build_bundle makes them) finds its resource by."""
    return re.findall(r"(?:\\.|[^\\,])+", unquote(_search(entry).partition("=")[2]))


def borne(resource: Mapping[str, Any]) -> list[str]:
    """The search token of each identifier of a resource."""
    have = [(str(one.get("system", "")), str(one.get("value", ""))) for one in resource.get("identifier", [])]
    return [token(system, value) for system, value in have if system and value]


def _bears(resource: Json, entry: Json) -> bool:
    """Whether ``resource`` has one of the identifiers that ``entry`` asks for."""
    return not set(borne(resource)).isdisjoint(sought(entry))


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
    corrects = new.get("status") in ("corrected", "amended") and has_content(new)
    return (corrects or withdrawn(new)) and may_replace(old, new)


def patients(bundle: Json, current: Sequence[Json | None], known: Mapping[str, Json | None]) -> list[str]:
    """Patients (``Patient/<id>``) that are still to be read, besides ``known``, to tell whose the resources are.

    Read them, add them to ``known`` (None for one that is gone), and ask again, until there are none; then
    :func:`plan` takes ``known``.
    """
    return fhir_subjects.unknown(bundle, current, known)


def plan(
    bundle: Json,
    current: Sequence[Json | None],
    orphans: Sequence[Json] = (),
    known: Mapping[str, Json | None] | None = None,
) -> Plan:
    """The entries of ``bundle`` that have to be written, when the server holds ``current`` (from :func:`found`).

    Left out: what is only made where there is none and exists; what is the same already; what may not replace the
    server's, with the results of a report that may not; a patient who was merged away, whom nothing revives. What
    refers to one refers to the survivor. An update of what exists becomes a PUT by id that holds only for the version
    that was read (If-Match), and keeps what other systems said (``fhir_changes.completed``). ``orphans``, the
    observations of :func:`retracted`, become entered-in-error. ``known``: the patients of :func:`patients`. A
    Provenance is written with what it is about, and tells of nothing else.

    Raises Permanent if a resource that the bundle is about belongs to another patient, or if what would be there breaks
    an invariant.
    """
    pairs = list(zip(bundle["entry"], current, strict=True))
    survivors = fhir_subjects.survivors(pairs, known or {})
    fhir_subjects.check(pairs, known or {})
    held = _held_back(pairs) | {entry["fullUrl"] for entry, old in pairs if old and _retired(entry, old)}
    urls = {entry["fullUrl"]: _reference(old) for entry, old in pairs if old} | survivors
    write = [_put({**one, "status": "entered-in-error"}, one) for one in orphans if not withdrawn(one)]
    unchanged = superseded = 0
    about: list[str] = []
    for entry, old in pairs:
        if entry["resource"]["resourceType"] == "Provenance":
            continue
        new = resolve(entry, urls)
        if entry["fullUrl"] in held:
            superseded += 1
        elif old is None:
            write.append(_bare(new))
            about.append(entry["fullUrl"])
        elif "ifNoneExist" in entry["request"] or _same(full := _completed(new, old), old):
            late = "ifNoneExist" not in entry["request"] and _late(new, old)
            superseded, unchanged = superseded + late, unchanged + (not late)
        else:
            write.append(_put(full, old))
            about.append(entry["fullUrl"])
    return Plan((*write, *_accounts(pairs, about, urls)), unchanged, superseded)


def unread(bundle: Json) -> Plan:
    """All of ``bundle``, for a server that cannot be read: but its Provenance, which each repeat would write anew."""
    return Plan(tuple(_bare(one) for one in bundle["entry"] if one["resource"]["resourceType"] != "Provenance"))


def _accounts(pairs: Sequence[tuple[Json, Json | None]], about: Sequence[str], urls: Mapping[str, str]) -> list[Json]:
    """The Provenances of a bundle, each about those of its targets that are written; none about nothing."""
    made = []
    for entry, _ in pairs:
        targets = [one for one in entry["resource"].get("target", ()) if one.get("reference") in about]
        if entry["resource"]["resourceType"] == "Provenance" and targets:
            made.append(resolve(_bare({**entry, "resource": {**entry["resource"], "target": targets}}), urls))
    return made


def _completed(entry: Json, old: Json) -> Json:
    """What is to be there. Raises Permanent where joining the two breaks an invariant that ``old`` keeps."""
    full = completed(entry["resource"], old, reopens=_reopens(entry), whole=_whole(entry))
    before = {(one.rule, one.at) for one in broken(old)}
    for one in broken(full):
        if (one.rule, one.at) not in before:
            fix = "mend the resource there, or the message, then replay"
            raise Permanent(f"joined with what is there already: {one.what} ({one.rule})", at=one.at, fix=fix)
    return full


def _late(entry: Json, old: Json) -> bool:
    return is_late(entry["resource"], old, reopens=_reopens(entry))


def _reopens(entry: Json) -> bool:
    return any(one.get("url") == REOPENS for one in entry["request"].get("extension", ()))


def _whole(entry: Json) -> list[str]:
    return [str(one.get("valueCode")) for one in entry["request"].get("extension", ()) if one.get("url") == WHOLE]


def _bare(entry: Json) -> Json:
    """An entry without what its request says for these rules alone."""
    return {**entry, "request": {key: value for key, value in entry["request"].items() if key != "extension"}}


def _retired(entry: Json, old: Json) -> bool:
    """Whether an update is about a patient who was merged away, and is not the merge itself."""
    return fhir_subjects.merged_into(old) != "" and not fhir_subjects.merged_into(entry["resource"])


def _held_back(pairs: Sequence[tuple[Json, Json | None]]) -> set[str]:
    """fullUrls of the reports and observations that may not replace the server's, and of the results only of such."""
    ruled = [(entry, old) for entry, old in pairs if entry["resource"]["resourceType"] in REPORTS and old]
    held = {entry["fullUrl"] for entry, old in ruled if old and not may_replace(old, entry["resource"])}
    reports = [entry for entry, _ in pairs if _is_report(entry)]
    kept = {one for report in reports if report["fullUrl"] not in held for one in _results(report["resource"])}
    lost = {one for report in reports if report["fullUrl"] in held for one in _results(report["resource"])}
    return held | (lost - kept)


def _is_report(entry: Json) -> bool:
    return bool(entry["resource"]["resourceType"] == "DiagnosticReport")


def _results(report: Json) -> list[str]:
    return [str(one.get("reference", "")) for one in report.get("result", [])]


def _reference(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _put(resource: Json, old: Json) -> Json:
    request = {"method": "PUT", "url": _reference(old)}
    if version := old.get("meta", {}).get("versionId"):
        request["ifMatch"] = f'W/"{version}"'
    return {"resource": {**resource, "id": old["id"]}, "request": request}


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
