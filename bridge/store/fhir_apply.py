"""A mapping's transaction bundle, written here as ``fhir-out`` writes it to a server: by the rules of ``fhir_plan.py``.

Here what several systems say of one order can be joined: numbers that meet in a message are of one ServiceRequest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from sqlalchemy import Connection

from bridge.codecs import fhir_plan
from bridge.codecs.fhir import decode
from bridge.codecs.fhir_changes import joined, joined_identifiers
from bridge.codecs.fhir_subjects import merged_into
from bridge.errors import CodecError, Permanent, Refused
from bridge.fhir.interaction import Json, interactions
from bridge.fhir.parameters import PARAMETERS
from bridge.fhir.query import parse_text
from bridge.store import fhir_fulfilment, fhir_rows
from bridge.store.fhir_write import Writing, candidates, write

_REFERENCES = {one.number for known in PARAMETERS.values() for one in known.values() if one.type == "reference"}
_WORDS = ("created", "updated", "unchanged", "superseded", "joined", "followed")


def apply(tx: Connection, bundle: Json, writing: Writing) -> str:
    """See :meth:`bridge.store.fhir.FhirStore.apply`."""
    if bundle.get("type") != "transaction" or not bundle.get("entry"):
        fix = "in the route, name a mapping with target fhir"
        raise Permanent("the FHIR projection takes transaction bundles", fix=fix, kind="syntax")
    fhir_rows.lock(tx)
    try:
        return _apply(tx, bundle, writing)
    except (Refused, CodecError) as refused:
        raise Permanent(refused.what, at=refused.at, fix=refused.fix, kind=refused.kind) from None


def _apply(tx: Connection, bundle: Json, writing: Writing) -> str:
    done = dict.fromkeys(_WORDS, 0)
    for entry in bundle["entry"]:
        if entry["resource"]["resourceType"] == "ServiceRequest":
            orders = _found(tx, entry, writing)
            if len(orders) > 1 and all(_agree(one, other) for one, other in combinations(orders, 2)):
                _join(tx, orders, writing)
                done["joined"] += len(orders) - 1
    current = [_meant(entry, _found(tx, entry, writing)) for entry in bundle["entry"]]
    orphans = _read(tx, fhir_plan.retracted(bundle, current))
    known: dict[str, Json | None] = {}
    while asked := fhir_plan.patients(bundle, current, known):
        known |= dict.fromkeys(asked) | {f"Patient/{one['id']}": one for one in _read(tx, asked)}
    plan = fhir_plan.plan(bundle, current, orphans, known)
    entries = [*map(_settled, plan.entries), *_learned(bundle, current)]
    outcomes = write(tx, interactions({"resourceType": "Bundle", "entry": entries}), writing)
    done["followed"] = fhir_fulfilment.follow(tx, outcomes, writing)
    done["created"] = sum(one.status == 201 for one in outcomes)
    done["updated"] = sum(one.status == 200 and one.changed for one in outcomes)
    done["unchanged"], done["superseded"] = plan.unchanged, plan.superseded
    return " ".join(f"{done[word]} {word}" for word in _WORDS if done[word]) or "nothing to write"


def _found(tx: Connection, entry: Json, writing: Writing) -> list[Json]:
    """What is here for an entry, by age."""
    request = entry["request"]
    kind, _, search = request["url"].partition("?")
    search = request.get("ifNoneExist", search)
    stored = candidates(tx, parse_text(kind, search, zone=writing.zone), writing) if search else []
    found = [decode(one.body) for one in stored]
    return [one for one in found if kind != "ServiceRequest" or _is_same(one, entry["resource"])]


def _meant(entry: Json, found: Sequence[Json]) -> Json | None:
    """The one that an entry is about: of several orders those with the strongest of its numbers, which it names first.

    Raises Permanent if it still is several.
    """
    if len(found) > 1 and entry["resource"]["resourceType"] == "ServiceRequest":
        bearing = ([one for one in found if token in fhir_plan.borne(one)] for token in fhir_plan.sought(entry))
        found = next(filter(None, bearing), found)
    if len(found) > 1:
        raise Permanent(
            "several resources match one business identifier",
            at=str(entry["resource"]["resourceType"]), fix="merge them, then replay", kind="duplicate_key",
        )  # fmt: skip
    return found[0] if found else None


def _is_same(one: Json, other: Json) -> bool:
    """Whether two orders that share a number can be one; the orders of one exam may share its accession number."""
    numbers = [(id_.get("system"), id_.get("value")) for id_ in other.get("identifier", [])]
    shared = [id_ for id_ in one.get("identifier", []) if (id_.get("system"), id_.get("value")) in numbers]
    return any("ACSN" not in _types(id_) for id_ in shared) or _agree(one, other)


def _agree(one: Json, other: Json) -> bool:
    """Whether two orders can be one: neither has a number of a kind of which the other has another."""
    for mine in one.get("identifier", []):
        theirs = [their for their in other.get("identifier", []) if _comparable(mine, their)]
        if theirs and all(their.get("value") != mine.get("value") for their in theirs):
            return False
    return True


def _comparable(one: Json, other: Json) -> bool:
    """Whether two identifiers are of one system and, as far as they tell, of one type."""
    first, second = _types(one), _types(other)
    return one.get("system") == other.get("system") and (not first or not second or bool(first & second))


def _types(number: Json) -> set[str]:
    return {str(code.get("code")) for code in number.get("type", {}).get("coding", [])}


def _read(tx: Connection, references: Sequence[str]) -> list[Json]:
    """The resources (``Type/id``) that are here."""
    found = [fhir_rows.one(tx, *reference.split("/")) for reference in references]
    return [decode(one.body) for one in found if one and not one.deleted]


def _settled(entry: Json) -> Json:
    """A planned entry; a condition in it was looked at already, and nothing is here for it."""
    request = entry["request"]
    kind, _, search = request["url"].partition("?")
    return {**entry, "request": {"method": "POST", "url": kind}} if search or "ifNoneExist" in request else entry


def _learned(bundle: Json, current: Sequence[Json | None]) -> list[Json]:
    """Updates of orders that are here already, by the numbers that a message adds to those by which it found them."""
    entries = []
    for entry, old in zip(bundle["entry"], current, strict=True):
        if old is None or old["resourceType"] != "ServiceRequest" or "ifNoneExist" not in entry["request"]:
            continue
        both = joined_identifiers(entry["resource"].get("identifier"), old.get("identifier"))
        if both and both != old.get("identifier"):
            entries.append(_put({**old, "identifier": both}))
    return entries


def _put(resource: Json) -> Json:
    url = f"{resource['resourceType']}/{resource['id']}"
    return {"request": {"method": "PUT", "url": url}, "resource": resource}


def _join(tx: Connection, orders: Sequence[Json], writing: Writing) -> None:
    """Make one of several orders: the oldest stays, with what the others said, and replaces them.

    The others keep their history and become entered-in-error, without the numbers that now are the oldest one's. What
    refers to them refers to it. Raises Permanent for orders of several patients.
    """
    first, *others = orders
    kept = first
    for other in others:
        if _subject(tx, other) != _subject(tx, first):
            fix = "see which of the systems is wrong, then replay"
            raise Permanent("its numbers are of orders of several patients", at="ServiceRequest", fix=fix)
        kept = _both(kept, other)
    urls = {f"ServiceRequest/{other['id']}": f"ServiceRequest/{first['id']}" for other in others}
    moved = _referring(tx, orders, urls)
    ended = [
        {**{key: value for key, value in other.items() if key != "identifier"}, "status": "entered-in-error"}
        for other in others
    ]
    kept = fhir_plan.resolve(kept, urls)
    replaces = [*kept.get("replaces", []), *({"reference": url} for url in urls)]
    entries = [*ended, *moved, {**kept, "replaces": replaces}]
    write(tx, interactions({"resourceType": "Bundle", "entry": [_put(one) for one in entries]}), writing)


def _both(one: Json, other: Json) -> Json:
    """What two orders say of one; where both speak, the later statement."""
    first, second = sorted((one, other), key=lambda order: str(order.get("meta", {}).get("lastUpdated", "")))
    return {**joined(second, first), "id": one["id"]}


def _subject(tx: Connection, order: Json) -> str:
    """Reference to the patient of an order; one who was merged away stands for the survivor."""
    reference, seen = str(order.get("subject", {}).get("reference", "")), set()
    while reference.startswith("Patient/") and reference not in seen:
        seen.add(reference)
        (patient,) = _read(tx, [reference]) or [{}]
        reference = merged_into(patient) or reference
    return reference


def _referring(tx: Connection, orders: Sequence[Json], urls: Mapping[str, str]) -> list[Json]:
    """What refers to these orders, but for themselves, as it refers to the one that stays."""
    ids = [one["id"] for one in orders]
    rows = fhir_rows.referring(tx, _REFERENCES, "ServiceRequest", ids[1:])
    found = [
        one for one in fhir_rows.of_rows(tx, rows) if (one.type, one.id) not in {("ServiceRequest", i) for i in ids}
    ]
    return [fhir_plan.resolve(decode(one.body), urls) for one in found]
