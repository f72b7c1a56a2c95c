"""What a caller may not see changes nothing for him: two worlds that differ in it alone answer him alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.codecs.fhir import decode
from bridge.errors import BridgeError, NotFound, Refused
from bridge.fhir.index import entries
from bridge.fhir.interaction import TYPES, interactions
from bridge.fhir.parameters import PARAMETERS
from bridge.fhir.rights import Rights, rights
from bridge.store import fhir_rows, fhir_sight
from tests.rigs.fhir import Facade, Json, bundle, create, identifier, new_facade, order, patient, put, remove, report

DOCTOR = "ServiceRequest?requester:identifier=urn:doctor|A"
CALLERS = {
    "a patient's app": rights("patient/*.cruds", patient="p1", client="app"),
    "a doctor's portal": rights("user/*.cruds", sees=[DOCTOR], client="portal"),
    "one of some types": rights("patient/Observation.rs patient/ServiceRequest.cruds", patient="p1", client="some"),
    "one of some codes": rights(
        "patient/ServiceRequest.rs?status=active patient/Patient.rs", patient="p1", client="codes"
    ),
}


def _of(number: int, doctor: str, other: int) -> list[Json]:
    """A patient with resources of every kind that is somebody's (``pN``, ``oN``...); some refer to another's."""
    me, who = f"Patient/p{number}", {"identifier": identifier("doctor", doctor)}
    of, code, link = {"reference": me}, {"text": "CT"}, {"reference": f"ServiceRequest/o{number}"}
    theirs = {"reference": f"ServiceRequest/o{other}"}
    people: list[Json] = [{"actor": of, "status": "accepted"}]
    made: dict[str, Json] = {
        "e": {"resourceType": "Encounter", "status": "planned", "class": {"code": "AMB"}, "basedOn": [theirs]},
        "b": {"resourceType": "Observation", "status": "final", "code": code, "basedOn": [link, theirs]},
        "i": {"resourceType": "ImagingStudy", "status": "available", "basedOn": [link]},
        "c": {"resourceType": "Procedure", "status": "completed", "basedOn": [theirs]},
        "t": {"resourceType": "Task", "status": "draft", "intent": "order", "for": of, "focus": theirs},
        "d": {"resourceType": "Device", "patient": of, "status": "active"},
        "a": {"resourceType": "Appointment", "status": "booked", "participant": people, "basedOn": [theirs]},
        "y": {"resourceType": "Binary", "contentType": "text/plain", "data": "QQ=="},
        "v": {
            "resourceType": "Provenance",
            "target": [of, theirs],
            "recorded": "2030-01-01T00:00:00Z",
            "agent": [{"who": {"reference": "Practitioner/shared"}}],
        },
    }
    for one in ("e", "b", "i", "c"):
        made[one]["subject"] = of
    result = [{"reference": f"Observation/b{one}"} for one in (number, other)]
    return [
        patient(number, id=f"p{number}"),
        order(number, me, id=f"o{number}", requester=who),
        order(number + 100, me, id=f"oo{number}", requester=who, status="completed", basedOn=[theirs]),
        report(number, "final", me, id=f"r{number}", basedOn=[link, theirs], result=result),
        *({**one, "id": f"{name}{number}"} for name, one in made.items()),
    ]


SEEN = [*_of(1, "A", 2), {"resourceType": "Practitioner", "id": "shared", "name": [{"family": "Shared"}]}]
HIDDEN = [*_of(2, "B", 1), *_of(3, "C", 1)]
ALL = [*SEEN, *HIDDEN]


def _values() -> dict[tuple[str, str], list[str]]:
    """What each search parameter would find something by."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in ALL:
        kind, known = one["resourceType"], entries(one)
        found.setdefault((kind, "_id"), []).append(one["id"])
        found.setdefault((kind, "_lastUpdated"), ["ge2000"])
        for parameter in PARAMETERS[kind].values():
            tokens = [(system, code) for number, system, code in known.tokens if number == parameter.number]
            said = [f"{a}/{b}" if parameter.type == "reference" and a else b for a, b in tokens]
            said += [text for number, _, text in known.strings if number == parameter.number]
            said += ["ge1900"] if any(span[0] == parameter.number for span in known.spans) else []
            if said:
                found.setdefault((kind, parameter.name), []).extend(said)
    return {key: sorted(set(values)) for key, values in found.items()}


VALUES = _values()
KINDS = sorted({kind for kind, _ in VALUES})


class Worlds:
    def __init__(self, full: Facade, bare: Facade) -> None:
        self.both = (full, bare)
        bare.write(*map(put, SEEN))
        bare.write(put({**SEEN[1], "priority": "stat"}))
        full.write(*map(put, HIDDEN[:13]))
        full.write(*map(put, SEEN))
        full.write(*map(put, HIDDEN[13:]))
        full.write(put({**HIDDEN[1], "priority": "stat"}))
        full.write(put({**SEEN[1], "priority": "stat"}))
        full.write(remove("Procedure/c3"))

    def alike(self, ask: Any) -> Any:
        """What both answer. Fails where they differ."""
        full, bare = (_answer(world, ask) for world in self.both)
        assert full == bare
        return full


def _answer(world: Facade, ask: Any) -> Any:
    try:
        return ask(world)
    except BridgeError as error:
        return type(error).__name__, error.kind, error.what, error.at


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def worlds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    with new_facade(request, tmp_path_factory) as full, new_facade(request, tmp_path_factory) as bare:
        yield Worlds(full, bare)


_CROSSING = ("based-on", "basedon", "focus", "target", "result")
"""What refers from one patient's resources to another's."""


@st.composite
def searches(draw: st.DrawFn, kind: str) -> tuple[str, str]:
    """One parameter that finds something: of the type, of one that it refers to, or of one that refers to it."""
    own = [name for base, name in VALUES if base == kind]
    how = draw(st.sampled_from(["own", "chain", "chain", "back"]))
    links = [(name, target) for name in own if name[0] != "_" for target in PARAMETERS[kind][name].targets]
    links = [link for link in links if link[1] in KINDS]
    links = [link for link in links if link[0] in _CROSSING] * 3 + links
    back = [
        (base, name) for base, name in VALUES if name[0] != "_" and kind in PARAMETERS[base][name].targets
    ]  # fmt: skip
    if how == "chain" and links:
        through, target = draw(st.sampled_from(links))
        name, value = draw(searches(target).filter(lambda one: one[0].count(".") + one[0].count(":") < 2))
        return f"{through}:{target}.{name}", value
    if how == "back" and back:
        base, through = draw(st.sampled_from(back))
        name = draw(st.sampled_from([name for one, name in VALUES if one == base]))
        return f"_has:{base}:{through}:{name}", draw(st.sampled_from(VALUES[base, name]))
    name = draw(st.sampled_from(own))
    return name, draw(st.sampled_from(VALUES[kind, name]))


@st.composite
def queries(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    kind = draw(st.sampled_from(KINDS))
    asked = draw(st.lists(searches(kind), min_size=draw(st.integers(0, 1)), max_size=1))
    out = [f"{kind}:{name}" for base, name in VALUES if base == kind and _refers(base, name)]
    back = [f"{base}:{name}" for base, name in VALUES if _refers(base, name) and kind in PARAMETERS[base][name].targets]
    if out and draw(st.booleans()):
        asked.append((draw(st.sampled_from(["_include", "_include:iterate"])), draw(st.sampled_from([*out, "*"]))))
    if back and draw(st.booleans()):
        asked.append((draw(st.sampled_from(["_revinclude", "_revinclude:iterate"])), draw(st.sampled_from(back))))
    if draw(st.booleans()):
        asked.append(("_sort", draw(st.sampled_from(["", "-"])) + draw(st.sampled_from(["_id", *PARAMETERS[kind]]))))
    more = [("_total", "accurate"), ("_summary", "count"), ("_count", "1"), ("_count", "0")]
    return kind, asked + draw(st.lists(st.sampled_from(more), max_size=1))


def _refers(kind: str, name: str) -> bool:
    return name[0] != "_" and PARAMETERS[kind][name].type == "reference"


SLOW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@SLOW
@given(query=queries(), name=st.sampled_from(sorted(CALLERS)))
def test_no_search_tells_of_what_is_hidden(worlds: Worlds, query: tuple[str, list[tuple[str, str]]], name: str) -> None:
    kind, parameters = query

    def ask(world: Facade) -> Any:
        page = world.fhir.search(kind, parameters, sight=CALLERS[name])
        found = [(one.type, one.id) for one in page.matches]
        more = sorted((one.type, one.id) for one in page.included)
        return found, more, page.total, bool(page.cursor)

    worlds.alike(ask)


PLACES = sorted({(one["resourceType"], one["id"]) for one in ALL} | {("Patient", "nobody"), ("Procedure", "nobody")})


@pytest.mark.parametrize("name", sorted(CALLERS))
def test_no_read_and_no_history_tells_of_what_is_hidden(worlds: Worlds, name: str) -> None:
    sight = CALLERS[name]

    def read(world: Facade, kind: str, number: str, version: str) -> Any:
        one = world.fhir.read(kind, number, version, sight=sight)
        return one.version, one.deleted, {**decode(one.body), "meta": None}

    def history(world: Facade, kind: str, identifier: str = "") -> Any:
        page = world.fhir.history(kind, identifier, sight=sight)
        return [(one.type, one.id, one.version, one.deleted) for one in page.matches]

    for kind, number in PLACES:
        for version in ("", "1", "2"):
            worlds.alike(partial(read, kind=kind, number=number, version=version))
        worlds.alike(partial(history, kind=kind, identifier=number))
    for kind in ("", *TYPES):
        worlds.alike(partial(history, kind=kind))


@st.composite
def writes(draw: st.DrawFn) -> Json:
    orders = [one for one in ALL if one["resourceType"] == "ServiceRequest"]
    one = draw(st.sampled_from([*ALL, *orders * 3]))
    kind, body = one["resourceType"], dict(one)
    for key in ("subject", "patient", "for"):
        if key in body and draw(st.booleans()):
            body[key] = {"reference": draw(st.sampled_from(["Patient/p1", "Patient/p2", "Patient/none"]))}
    if kind == "ServiceRequest" and draw(st.booleans()):
        body["requester"] = {"identifier": identifier("doctor", draw(st.sampled_from("AB")))}
    if kind == "ServiceRequest" and draw(st.booleans()):
        search = draw(st.sampled_from(["identifier=urn:his|P1", "identifier=urn:his|P2", "name=Sample"]))
        body["subject"] = {"reference": f"Patient?{search}"}
    name, value = draw(searches(kind))
    how = draw(st.sampled_from(["put", "put if", "post", "post if", "delete", "delete if"]))
    bare = {key: value for key, value in body.items() if key != "id"}
    if how == "put":
        return put(body, match=draw(st.sampled_from(["", "1", "7"])))
    if how == "put if":
        return put(bare, search=f"{name}={value}")
    if how.startswith("post"):
        return create(bare, unless=f"{name}={value}" if how == "post if" else "")
    return remove(f"{kind}/{one['id']}" if how == "delete" else f"{kind}?{name}={value}")


@SLOW
@given(entry=writes(), name=st.sampled_from(sorted(CALLERS)))
def test_no_write_tells_of_what_is_hidden_or_changes_it(worlds: Worlds, entry: Json, name: str) -> None:
    sight = CALLERS[name]
    hidden = {(one["resourceType"], one["id"]) for one in HIDDEN}

    def ask(world: Facade) -> Any:
        told: list[Any] = []

        def write(tx: Any) -> None:
            done = world.fhir.write(tx, interactions(bundle(entry)), message="m", at=world.clock, sight=sight)
            known = {one["id"] for one in SEEN}
            told.extend((one.status, one.type, one.id if one.id in known else "", one.changed) for one in done)
            told.append(not any((one.type, one.id) in hidden and one.changed for one in done))
            rows = [one for kind, id_ in hidden if (one := fhir_rows.one(tx, kind, id_)) and not one.deleted]
            told.append([one.id for one in fhir_sight.seen(tx, sight, UTC, rows)])
            new = [fhir_rows.one(tx, one.type, one.id) for one in done if one.changed and one.status != 204]
            told.append(len(fhir_sight.seen(tx, sight, UTC, [one for one in new if one])) == len(new))
            raise Refused("undone", kind="locked")

        try:
            world.store.write(write)
        except Refused as error:
            if error.what != "undone":
                raise
            assert told[-3:] == [True, [], True]
        return told

    worlds.alike(ask)


def test_what_is_seen_is_served_in_full(worlds: Worlds) -> None:
    full, _ = worlds.both
    doctor, app = CALLERS["a doctor's portal"], CALLERS["a patient's app"]

    for sight in (doctor, app):
        for one in SEEN:
            kind, number = one["resourceType"], one["id"]
            if kind == "Binary":
                with pytest.raises(NotFound):
                    full.fhir.read(kind, number, sight=sight)
            else:
                assert full.fhir.read(kind, number, sight=sight).id == number
                assert number in [found.id for found in full.fhir.search(kind, [], sight=sight).matches]


def test_who_may_do_everything_asks_nothing_more_of_the_database() -> None:
    assert Rights().restrict("Patient") == () == rights("system/*.cruds", client="x").restrict("Patient", "update")
