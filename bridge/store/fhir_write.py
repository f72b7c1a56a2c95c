"""Writing FHIR resources as one transaction does it (R4 http.html 3.1.0.11.2): all or nothing, deletes first.

Whom conditions are about is settled first, by what is there before the transaction; then references inside it are
resolved; then it is written, deletes, creates and updates after each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from bridge.codecs.fhir import decode, encode
from bridge.codecs.fhir_changes import REPORTS, may_replace
from bridge.errors import Refused
from bridge.fhir.index import Entries, entries
from bridge.fhir.interaction import Interaction, Json, Outcome
from bridge.fhir.match import matches
from bridge.fhir.query import Query, parse_text, restriction
from bridge.fhir.rights import EVERYTHING, Sight
from bridge.fhir.values import Token
from bridge.message import new_id
from bridge.store import fhir_guard, fhir_rows, fhir_sight
from bridge.store.fhir_find import find
from bridge.store.fhir_rows import Stored

_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2}
_CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?(.+)")
_URLS = ("url", "uri", "valueUri", "valueUrl")


@dataclass(frozen=True, slots=True)
class Writing:
    """On whose behalf: the id of the message, its time in milliseconds, where dates without an offset are meant."""

    message: str
    at: int
    zone: tzinfo
    sight: Sight = EVERYTHING


@dataclass(slots=True)
class _Target:
    """What an interaction is about."""

    asked: Interaction
    id: str
    """Empty: nothing, a conditional delete without a match."""
    current: Stored | None = None
    """As it is before; also when it is deleted. None: never was."""
    kept: bool = False
    """A conditional create of what exists: nothing is written."""

    @property
    def there(self) -> Stored | None:
        return self.current if self.current and not self.current.deleted else None

    @property
    def reference(self) -> str:
        return f"{self.asked.type}/{self.id}"


def write(tx: Connection, interactions: Sequence[Interaction], writing: Writing) -> list[Outcome]:
    """See :meth:`bridge.store.fhir.FhirStore.write`."""
    fhir_rows.lock(tx)
    targets: list[_Target] = []
    created: dict[tuple[str, str], _Target] = {}
    for asked in interactions:
        same = created.get((asked.type, asked.if_none_exist)) if asked.if_none_exist else None
        target = replace(same, asked=asked, kept=True) if same else _target(tx, asked, writing)
        if asked.if_none_exist:
            created.setdefault((asked.type, asked.if_none_exist), target)
        targets.append(target)
    _check_apart(targets)
    urls = _urls(targets)
    bodies = {id(one): _Resolver(tx, targets, urls, writing, one).body() for one in targets if not one.kept}
    own = {one.reference for one in targets if one.asked.method != "DELETE"}
    for one in targets:
        if body := bodies.get(id(one)):
            fhir_guard.check_patients(tx, one.asked, body, own, writing.sight, writing.zone)
    sequence, latest = fhir_rows.newest(tx)
    writer = _Writer(replace(writing, at=max(writing.at, latest)), sequence)
    done = {id(one): writer.do(one, bodies.get(id(one))) for one in sorted(targets, key=_turn)}
    fhir_rows.add_versions(tx, writer.written)
    fhir_guard.check_written(tx, writing.sight, writing.zone, [new for new, _ in writer.written])
    return [done[id(one)] for one in targets]


def _turn(target: _Target) -> tuple[int, bool]:
    return _ORDER[target.asked.method], target.kept


# whom it is about


def _target(tx: Connection, asked: Interaction, writing: Writing) -> _Target:
    if asked.method == "POST":
        found = matching(tx, asked.type, asked.if_none_exist, writing, asked.at) if asked.if_none_exist else None
        writing.sight.restrict(asked.type, "create")
        return _Target(asked, found.id, found, kept=True) if found else _Target(asked, new_id())
    if not asked.search:
        return _Target(asked, asked.id, fhir_guard.current(tx, asked, asked.id, writing.sight, writing.zone))
    found = matching(tx, asked.type, asked.search, writing, asked.at)
    said = str(asked.resource.get("id", "")) if asked.resource else ""
    if found and said not in ("", found.id):
        fix = "leave the id out, or write that of the resource that matches"
        raise Refused("the id is not that of the match", at=f"{asked.at}.resource.id", fix=fix, kind="syntax")
    if found or said:
        identifier = found.id if found else said
        return _Target(asked, identifier, fhir_guard.current(tx, asked, identifier, writing.sight, writing.zone))
    writing.sight.restrict(asked.type, "delete" if asked.method == "DELETE" else "update")
    return _Target(asked, "" if asked.method == "DELETE" else new_id())


def matching(tx: Connection, kind: str, search: str, writing: Writing, at: str) -> Stored | None:
    """The resource that a condition is about. Raises Refused (``ambiguous``) where several match."""
    found = candidates(tx, parse_text(kind, search, zone=writing.zone), writing)
    if len(found) > 1:
        raise Refused("several resources match the condition", at=at, fix="name one by its id", kind="ambiguous")
    return found[0] if found else None


def candidates(tx: Connection, query: Query, writing: Writing) -> list[Stored]:
    """What matches a condition, at least two if there are so many; quick for identifiers."""
    query = fhir_sight.guarded(query, writing.sight, writing.zone)
    hidden = restriction(query.kind, writing.sight.restrict(query.kind), zone=writing.zone)
    condition = query.conditions[0]
    tokens = [one for one in condition.values if isinstance(one, Token)]
    whole = [(one.system, one.code) for one in tokens if one.system is not None and one.code is not None]
    plain = not condition.negated and condition.parameter.name != "_id" and not hidden
    if plain and whole and len(whole) == len(condition.values) and len(query.conditions) == 1:
        found = {one.row: one for token in whole for one in fhir_rows.bearers(tx, condition.number, *token)}
        return [found[row] for row in sorted(found)]
    wanted = replace(query, count=2, sort=(), summary="", total="none")
    return fhir_rows.of_rows(tx, find(tx, wanted, more=hidden).rows)


def _check_apart(targets: Sequence[_Target]) -> None:
    """Raises Refused where two interactions write one resource."""
    seen: dict[str, str] = {}
    for target in targets:
        if target.kept or not target.id:
            continue
        if target.reference in seen:
            what = f"it writes the same resource as {seen[target.reference]}"
            raise Refused(what, at=target.asked.at, fix="write each resource once", kind="duplicate_key")
        seen[target.reference] = target.asked.at


# references


def _urls(targets: Sequence[_Target]) -> dict[str, str]:
    """fullUrl, as references name it, -> ``Type/id``."""
    urls = {}
    for target in targets:
        if url := target.asked.full_url:
            urls[url] = target.reference
            parts = url.rsplit("/", 2)
            if len(parts) == 3 and parts[1] == target.asked.type:
                urls["/".join(parts[1:])] = target.reference
    return urls


@dataclass(frozen=True, slots=True)
class _Resolver:
    tx: Connection
    targets: Sequence[_Target]
    urls: Mapping[str, str]
    writing: Writing
    target: _Target

    def body(self) -> Json | None:
        """The resource that is to be written, its references resolved; None for a delete."""
        resource = self.target.asked.resource
        if resource is None:
            return None
        resolved: Json = self._resolved(resource, resource["resourceType"])
        return resolved

    def _resolved(self, value: Any, at: str) -> Any:
        if isinstance(value, dict):
            return {key: self._element(key, item, at) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item, f"{at}[{index}]") for index, item in enumerate(value)]
        return value

    def _element(self, key: str, item: Any, at: str) -> Any:
        if not isinstance(item, str):
            return self._resolved(item, f"{at}.{key}")
        if key != "reference":
            return self.urls.get(item, item) if key in _URLS else item
        if item in self.urls:
            return self.urls[item]
        place = f"{self.target.asked.at}.resource ({at}.{key})".lstrip(".")
        if item.startswith("urn:uuid:"):
            fix = "give the entry that it means this fullUrl"
            raise Refused("it refers to no entry", at=place, fix=fix, kind="required")
        condition = _CONDITIONAL.fullmatch(item)
        return self._found(condition[1], condition[2], place) if condition else item

    def _found(self, kind: str, search: str, at: str) -> str:
        """``Type/id`` of the resource that a conditional reference means, also one that is made with it."""
        zone = self.writing.zone
        query = parse_text(kind, search, zone=zone)
        written = [one for one in self.targets if one.asked.type == kind and not one.kept]
        found = {one.id for one in candidates(self.tx, query, self.writing)} - {one.id for one in written}
        found |= {one.id for one in written if one.asked.resource and matches(query, one.asked.resource, zone)}
        if len(found) != 1:
            what = "several resources match" if found else "nothing matches"
            kind_ = "ambiguous" if found else "precondition"
            raise Refused(f"{what} a conditional reference", at=at, fix="name the resource by its id", kind=kind_)
        return f"{kind}/{found.pop()}"


# the writes


class _Writer:
    """Makes the new versions, one after the other; they are ``written`` together."""

    def __init__(self, writing: Writing, sequence: int) -> None:
        self._writing, self._sequence = writing, sequence
        self.written: list[tuple[Stored, Entries]] = []
        self._done: dict[str, Outcome] = {}

    def do(self, target: _Target, body: Json | None) -> Outcome:
        if target.kept:
            done = self._done.get(target.reference)
            return replace(done, status=200, changed=False) if done else _unchanged(target.current)
        _check_version(target.asked, target.there)
        done = self._delete(target) if body is None else self._put(target, {**body, "id": target.id})
        self._done[target.reference] = done
        return done

    def _delete(self, target: _Target) -> Outcome:
        kind, there = target.asked.type, target.there
        if there is None:
            version = target.current.version if target.current else ""
            return Outcome(204, kind, target.id, version, target.current.modified if target.current else 0)
        new = self._next(target)
        self.written.append((new, Entries()))
        return Outcome(204, kind, target.id, new.version, new.modified, changed=True)

    def _put(self, target: _Target, body: Json) -> Outcome:
        asked, there = target.asked, target.there
        if there is not None:
            old = decode(there.body)
            if same(old, body):
                return _unchanged(there)
            if asked.type in REPORTS and not may_replace(old, body):
                fix = "a final report is followed by a corrected one, or one that is issued later"
                raise Refused("its status may not follow", at=asked.at or asked.type, fix=fix, kind="business_rule")
        new = self._next(target)
        whole = _stamped(body, new)
        try:
            new = replace(new, body=encode(whole), deleted=False)
        except UnicodeEncodeError:
            raise Refused("a text is not Unicode", at=asked.at or asked.type, kind="syntax") from None
        self.written.append((new, entries(whole, self._writing.zone)))
        return Outcome(200 if there else 201, new.type, new.id, new.version, new.modified, changed=True)

    def _next(self, target: _Target) -> Stored:
        """The next version, as if it were deleted."""
        self._sequence += 1
        before = target.current
        return Stored(
            target.asked.type,
            target.id,
            str(int(before.version) + 1 if before else 1),
            self._writing.at,
            True,
            b"",
            self._sequence,
            target.asked.method,
            self._writing.message,
            before.row if before else 0,
        )


def _unchanged(there: Stored | None) -> Outcome:
    assert there
    return Outcome(200, there.type, there.id, there.version, there.modified)


def _check_version(asked: Interaction, there: Stored | None) -> None:
    """If-Match and If-None-Match. Raises Refused (``precondition``)."""
    if asked.if_match and (there is None or there.version != asked.if_match):
        fix = "read it again, and send the version that you read"
        raise Refused("another version is there", at=asked.at or asked.type, fix=fix, kind="precondition")
    if asked.if_none_match and there is not None and asked.if_none_match in ("*", f'W/"{there.version}"'):
        raise Refused("there is one already", at=asked.at or asked.type, fix="update it", kind="precondition")


def _stamped(body: Json, new: Stored) -> Json:
    """``body`` with the version and the time, which are the server's to say."""
    moment = datetime.fromtimestamp(new.modified / 1000, UTC).isoformat(timespec="milliseconds")
    meta = body.get("meta")
    said = {"versionId": new.version, "lastUpdated": moment.replace("+00:00", "Z")}
    whole = {"resourceType": new.type, "id": new.id, "meta": {**(meta if isinstance(meta, dict) else {}), **said}}
    return whole | {key: value for key, value in body.items() if key not in whole}


def same(one: Json, other: Json) -> bool:
    """Whether two versions say the same, to the digits of their numbers; but for what the server says."""
    first, second = _said(one), _said(other)
    return first == second and _digits(first) == _digits(second)


def _said(resource: Json) -> Json:
    meta = resource.get("meta")
    kept = {key: value for key, value in meta.items() if key not in ("versionId", "lastUpdated")} if meta else {}
    return {**resource, "meta": kept}


def _digits(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _digits(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_digits(item) for item in value]
    return str(value) if isinstance(value, Decimal) else value
