"""Whose resources these are: patients who were merged away stand for their survivors (Patient.link, replaced-by).

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bridge.errors import Permanent

Json = dict[str, Any]
_Pairs = Sequence[tuple[Json, Json | None]]
_PATIENT = re.compile(r"Patient/[A-Za-z0-9.-]{1,64}")


def merged_into(patient: Json) -> str:
    """The reference to the patient who replaces this one; empty if there is none."""
    links = patient.get("link", ()) if patient.get("resourceType") == "Patient" else ()
    return next(
        (str(one.get("other", {}).get("reference", "")) for one in links if one.get("type") == "replaced-by"), ""
    )


def subjects(resource: Json) -> Iterator[str]:
    """References to those that a resource is about: ``subject``, ``patient``, ``for``, an appointment's actors."""
    actors = [one.get("actor") for one in resource.get("participant", ()) if isinstance(one, dict)]
    for one in (resource.get("subject"), resource.get("patient"), resource.get("for"), *actors):
        target = one.get("reference") if isinstance(one, dict) else None
        if isinstance(target, str):
            yield re.sub(r"/_history/.*$", "", target)


def unknown(bundle: Json, current: Sequence[Json | None], known: Mapping[str, Json | None]) -> list[str]:
    """Patients (``Patient/<id>``) that have to be read besides ``known`` before it is clear whose the resources are."""
    pairs = list(zip(bundle["entry"], current, strict=True))
    people = _people(pairs) | dict(known)
    ends = [_survivor(reference, people) for reference in _all(pairs)]
    return [one for one in dict.fromkeys(ends) if one not in people and _PATIENT.fullmatch(one)]


def survivors(pairs: _Pairs, known: Mapping[str, Json | None]) -> dict[str, str]:
    """fullUrl of each patient of the bundle whom the server has merged away -> the reference to the survivor."""
    people = _people(pairs) | dict(known)
    found = {}
    for entry, old in pairs:
        if old and old.get("resourceType") == "Patient" and merged_into(old) and not merged_into(entry["resource"]):
            found[entry["fullUrl"]] = _survivor(f"Patient/{old['id']}", people)
    return found


def check(pairs: _Pairs, known: Mapping[str, Json | None]) -> None:
    """Raises Permanent, without saying who, if a resource on the server belongs to a patient whom the bundle does not
    mean. One that names no patient belongs to nobody yet."""
    people = _people(pairs) | dict(known)
    urls = {entry["fullUrl"]: f"Patient/{old['id']}" for entry, old in pairs if old and _is_patient(entry)}
    here = {entry["fullUrl"] for entry, _ in pairs if _is_patient(entry)}
    for entry, old in pairs:
        if old is None or _is_patient(entry):
            continue
        meant = {one for one in subjects(entry["resource"]) if one in here or _PATIENT.fullmatch(one)}
        theirs = {one for one in subjects(old) if _PATIENT.fullmatch(one)}
        ours = {_survivor(urls.get(one, one), people) for one in meant}
        if meant and theirs and not ours & {_survivor(one, people) for one in theirs}:
            raise Permanent(
                "the server has this resource for another patient",
                at=str(old["resourceType"]), fix="see which of the systems is wrong, then replay", kind="unknown_key",
            )  # fmt: skip


def _is_patient(entry: Json) -> bool:
    return bool(entry["resource"]["resourceType"] == "Patient")


def _people(pairs: _Pairs) -> dict[str, Json | None]:
    """The patients that were read with the bundle; one whom the bundle merges away is taken as merged."""
    found: dict[str, Json | None] = {}
    urls = {entry["fullUrl"]: f"Patient/{old['id']}" for entry, old in pairs if old and _is_patient(entry)}
    for entry, old in pairs:
        if old and _is_patient(entry):
            into = merged_into(entry["resource"])
            linked = {"link": [{"type": "replaced-by", "other": {"reference": urls.get(into, into)}}]} if into else {}
            found[f"Patient/{old['id']}"] = {**old, **linked}
    return found


def _all(pairs: _Pairs) -> Iterator[str]:
    for entry, old in pairs:
        if old and _is_patient(entry):
            yield f"Patient/{old['id']}"
        elif old and any(True for _ in subjects(entry["resource"])):
            yield from (one for one in subjects(old) if _PATIENT.fullmatch(one))


def _survivor(reference: str, people: Mapping[str, Json | None]) -> str:
    """The last survivor that is known; of a circle, the last one before it closes."""
    seen = {reference}
    while (patient := people.get(reference)) and (into := merged_into(patient)) and into not in seen:
        seen.add(into)
        reference = into
    return reference
