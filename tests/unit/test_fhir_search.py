"""Searching the FHIR projection on SQLite and on PostgreSQL: SQL finds what the rules say, page by page."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.errors import Refused
from bridge.fhir.match import matches
from bridge.fhir.query import parse
from bridge.store.fhir import FhirStore
from tests.rigs.fhir import Facade, Json, identifier, new_facade, order, patient, put, remove, report

PATIENTS, ORDERS = 30, 120


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def hospital(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    """Patients, orders and reports as :func:`_made` makes them."""
    with new_facade(request, tmp_path_factory) as facade:
        everything = _made()
        for start in range(0, len(everything), 60):
            facade.write(*(put(one) for one in everything[start : start + 60]))
        yield facade


def _made() -> list[Json]:
    chance = random.Random(7)
    made: list[Json] = []
    for number in range(PATIENTS):
        name = [{"family": chance.choice(["Exemple", "ÉXEMPLE", "Sample", "Essai"]), "given": [f"Anna{number % 5}"]}]
        birth = chance.choice(["1980", "1980-02", "1980-02-03", "1999-12-31"])
        more = {"gender": "female"} if number % 3 else {}
        made.append(patient(number, id=f"p{number}", name=name, birthDate=birth, **more))
    for number in range(ORDERS):
        subject = f"Patient/p{number % PATIENTS}"
        hour = f"2030-01-{1 + number % 28:02}T{number % 24:02}:30:00+01:00"
        when: list[Json] = [
            {"occurrenceDateTime": hour},
            {"occurrencePeriod": {"start": hour, "end": "2030-03-01"}},
            {"occurrencePeriod": {"start": hour}},
            {},
        ]
        status = chance.choice(["active", "completed", "revoked"])
        code = {"coding": [identifier("codes", "x") | {"code": f"C{number % 4}"}]}
        said = {"status": status, "code": code, **when[0 if number % 3 else number % 4]}
        numbers = [identifier("placer", f"O{number}"), identifier("acsn", f"A{number}")]
        made.append(order(number, subject, id=f"o{number}", identifier=numbers, **said))
        if number % 2:
            issued = {"issued": f"2030-02-{1 + number % 28:02}T08:00:00Z"} if number % 5 else {}
            based = [{"reference": f"ServiceRequest/o{number}"}]
            result = report(number, chance.choice(["final", "preliminary"]), subject, id=f"r{number}", basedOn=based)
            made.append({**result, **issued})
    return made


ALONE: list[tuple[str, list[tuple[str, str]]]] = [
    ("Patient", [("family", "exem")]),
    ("Patient", [("name:contains", "NNA1")]),
    ("Patient", [("family:exact", "ÉXEMPLE")]),
    ("Patient", [("birthdate", "1980")]),
    ("Patient", [("birthdate", "ge1980-02-03"), ("gender:missing", "true")]),
    ("Patient", [("gender:not", "female")]),
    ("Patient", [("_id", "p1,p2,o1")]),
    ("Patient", [("_id:not", "p1")]),
    ("ServiceRequest", [("status", "active")]),
    ("ServiceRequest", [("status", "active,revoked"), ("code", "urn:codes|C1,urn:codes|C2")]),
    ("ServiceRequest", [("status", "active"), ("code", "C1")]),
    ("ServiceRequest", [("code", "urn:codes|"), ("status:not", "active")]),
    ("ServiceRequest", [("identifier", "urn:placer|O7,urn:acsn|A8")]),
    ("ServiceRequest", [("identifier", "|A8")]),
    ("ServiceRequest", [("patient", "p3"), ("status", "completed")]),
    ("ServiceRequest", [("subject", "Patient/p3,Patient/p4")]),
    ("ServiceRequest", [("occurrence:missing", "true")]),
    *(("ServiceRequest", [("occurrence", f"{prefix}2030-01-10")]) for prefix in ("", "ne", "lt", "gt", "le", "ge")),
    *(("ServiceRequest", [("occurrence", f"{prefix}2030-01-10T09:00:00Z")]) for prefix in ("lt", "gt", "le", "ge")),
    *(("ServiceRequest", [("occurrence", f"{prefix}2030-01-10")]) for prefix in ("sa", "eb", "ap")),
    ("ServiceRequest", [("occurrence", "ge2030-01-05"), ("occurrence", "lt2030-01-08"), ("status", "active")]),
    ("ServiceRequest", [("occurrence", "2030-01-05,2030-01-07")]),
    ("ServiceRequest", [("_lastUpdated", "ge2030-01-01T12:00:02Z"), ("status", "active")]),
    ("ServiceRequest", [("_lastUpdated", "gt2030-01-01T12:00:02.000Z")]),
    ("ServiceRequest", [("_lastUpdated", "le2030-01-01T12:00:02Z")]),
    ("ServiceRequest", [("_lastUpdated", "2030-01-01T12:00:02Z")]),
    ("ServiceRequest", [("_lastUpdated", "lt2030-01-01T12:00:02Z"), ("_lastUpdated", "gt2029")]),
    ("DiagnosticReport", [("based-on", "ServiceRequest/o3,ServiceRequest/o5")]),
    ("DiagnosticReport", [("status", "final"), ("issued", "lt2030-02-15")]),
]
"""Searches by what a resource itself says."""


@pytest.fixture(params=[0, 25, 10_000], ids=["walked", "mixed", "few"])
def fhir(request: pytest.FixtureRequest, hospital: Facade) -> FhirStore:
    """The projection, that goes through its rows as if no, some or all conditions left few of them."""
    return FhirStore(hospital.store.database.reader, few=request.param)


def found(fhir: FhirStore, kind: str, *asked: tuple[str, str]) -> list[str]:
    return [one.id for one in fhir.search(kind, [*asked, ("_count", "1000")], strict=True).matches]


def test_the_database_finds_what_the_rules_say(hospital: Facade, fhir: FhirStore) -> None:
    kinds = ("Patient", "ServiceRequest", "DiagnosticReport")
    everything = {kind: [hospital.body(kind, one) for one in found(fhir, kind)] for kind in kinds}
    for number, (kind, asked) in enumerate(ALONE):
        query = parse(kind, asked, strict=True)
        expected = {one["id"] for one in everything[kind] if matches(query, one)}
        sort = [("_sort", ["_lastUpdated", "-identifier", "_id"][number % 3])]

        for answer in (found(fhir, kind, *asked), found(fhir, kind, *asked, *sort)):
            assert (len(answer), set(answer)) == (len(expected), expected), asked


FOLLOWING: list[tuple[str, list[tuple[str, str]], list[str]]] = [
    ("ServiceRequest", [("patient.identifier", "urn:his|P3")], ["o3", "o33", "o63", "o93"]),
    ("ServiceRequest", [("subject:Patient._id", "p3"), ("_sort", "-_id")], ["o93", "o63", "o33", "o3"]),
    ("DiagnosticReport", [("based-on.identifier", "urn:acsn|A7")], ["r7"]),
    ("DiagnosticReport", [("based-on.patient.identifier", "urn:his|P7")], ["r7", "r37", "r67", "r97"]),
    ("DiagnosticReport", [("based-on:missing", "true")], []),
    ("Patient", [("_has:DiagnosticReport:patient:identifier", "urn:ris|R7")], ["p7"]),
    ("Patient", [("_has:ServiceRequest:patient:identifier", "urn:placer|O31,urn:placer|O2")], ["p1", "p2"]),
    ("Patient", [("_has:ServiceRequest:patient:_has:DiagnosticReport:based-on:_id", "r7")], ["p7"]),
]


def test_a_search_follows_references(fhir: FhirStore) -> None:
    for kind, asked, expected in FOLLOWING:
        assert found(fhir, kind, *asked) == expected, asked


SORTS = ["", "_lastUpdated", "-_lastUpdated", "_id", "occurrence", "-occurrence", "status", "-identifier"]


@pytest.mark.parametrize("sort", [*SORTS, "status,-occurrence", "-status,_id"])
def test_the_pages_of_a_search_are_its_result_in_parts(fhir: FhirStore, sort: str) -> None:
    dates = [[("occurrence", "ge2030-01-05")], [("occurrence", "le2030-01-09"), ("status", "active")]]
    for asked in [], [("status", "active")], *dates:
        wanted = [*asked, *([("_sort", sort)] if sort else [])]
        whole = found(fhir, "ServiceRequest", *wanted)
        parts, cursor = [], ""

        for _ in range(len(whole)):
            page = fhir.search("ServiceRequest", [*wanted, ("_count", "29")], cursor=cursor)
            parts += [one.id for one in page.matches]
            cursor = page.cursor
            if not cursor:
                break

        assert parts == whole, asked


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("-_lastUpdated", lambda one: one["meta"]["lastUpdated"]),
        ("-issued", lambda one: one.get("issued", "")),
        ("-identifier", lambda one: one["identifier"][0]["value"]),
    ],
    ids=["_lastUpdated", "issued", "identifier"],
)
def test_a_sorted_search_is_in_its_sequence_and_what_lacks_the_key_comes_last(
    hospital: Facade, fhir: FhirStore, sort: str, key: Any
) -> None:
    keys = [key(hospital.body("DiagnosticReport", one)) for one in found(fhir, "DiagnosticReport", ("_sort", sort))]

    assert keys == sorted(keys, reverse=True)
    assert len(keys) == ORDERS // 2


def test_what_is_written_between_two_pages_moves_nothing(hospital: Facade) -> None:
    # Given ten tasks, of which four were read
    hospital.write(*(put(task(number)) for number in range(10)))
    first = hospital.page("Task", ("_count", "4"))

    # When one of them is deleted, one of each page changed and one added
    hospital.write(remove("Task/t1"))
    hospital.write(put(task(2, status="completed")), put(task(5, status="completed")))
    hospital.write(put(task(10)))

    # Then the next page goes on behind the fourth
    rest = hospital.page("Task", ("_count", "9"), cursor=first.cursor)
    assert [one.id for one in rest.matches] == ["t4", "t5", "t6", "t7", "t8", "t9", "t10"]


def task(number: int, status: str = "requested") -> Json:
    return {"resourceType": "Task", "id": f"t{number}", "status": status, "intent": "order"}


def test_included_resources_come_once_each(hospital: Facade) -> None:
    page = hospital.page(
        "DiagnosticReport",
        ("_id", "r7,r37"),
        ("_include", "DiagnosticReport:based-on"),
        ("_include:iterate", "ServiceRequest:patient"),
        ("_revinclude", "Task:focus"),
    )

    assert [one.id for one in page.matches] == ["r7", "r37"]
    assert [one.id for one in page.included] == ["o7", "o37", "p7"]


def test_what_refers_to_a_match_is_included_in_reverse(hospital: Facade) -> None:
    asked = [("_id", "o7"), ("_revinclude", "DiagnosticReport:based-on"), ("_include", "*")]

    assert [one.id for one in hospital.page("ServiceRequest", *asked).included] == ["p7", "r7"]
    every = hospital.page("Patient", ("_id", "p1"), ("_revinclude", "ServiceRequest:*"))
    assert [one.id for one in every.included] == ["o1", "o31", "o61", "o91"]


def test_a_total_is_told_where_it_is_quick_or_asked_for(hospital: Facade) -> None:
    assert hospital.page("ServiceRequest", ("_count", "5")).total is None
    assert hospital.page("ServiceRequest", ("_count", "5"), ("_total", "accurate")).total == ORDERS
    assert hospital.page("ServiceRequest", ("patient", "p3"), ("_count", "2")).total == 4
    assert hospital.page("ServiceRequest", ("patient", "p3"), ("_count", "2"), ("_total", "none")).total is None
    count = hospital.page("ServiceRequest", ("patient", "p3"), ("_summary", "count"))
    assert (count.total, count.matches, count.cursor) == (4, [], "")


def test_a_restriction_holds_and_is_not_told(hospital: Facade) -> None:
    asked = [("status", "active,completed,revoked"), ("_count", "1000")]

    page = hospital.page("ServiceRequest", *asked, restrict=[("patient", "p3")])

    assert [one.id for one in page.matches] == ["o3", "o33", "o63", "o93"]
    assert page.used == asked


def test_a_part_of_a_resource_is_marked_as_one(hospital: Facade) -> None:
    (part,) = hospital.page("ServiceRequest", ("_id", "o7"), ("_elements", "identifier")).matches
    (data,) = hospital.page("Patient", ("_id", "p1"), ("_summary", "data")).matches
    (text,) = hospital.page("Patient", ("_id", "p1"), ("_summary", "text")).matches
    (summary,) = hospital.page("DiagnosticReport", ("_id", "r7"), ("_summary", "true")).matches

    assert b"SUBSETTED" in part.body and b'"O7"' in part.body and b"occurrence" not in part.body
    assert b'"status"' in part.body and b'"intent"' in part.body and b'"subject"' in part.body
    assert b'"birthDate"' in data.body and b'"birthDate"' not in text.body
    assert b'"code"' in summary.body


@pytest.mark.parametrize("cursor", ["x", "AAAA", "W10=", "WyJ4Il0=", "Wy0xXQ==", "é"])
def test_a_cursor_that_is_none_is_refused(hospital: Facade, cursor: str) -> None:
    with pytest.raises(Refused) as error:
        hospital.page("Patient", cursor=cursor)

    assert (error.value.at, error.value.kind) == ("_cursor", "search")


def test_wildcards_of_sql_are_letters(hospital: Facade) -> None:
    hospital.write(*(put({"resourceType": "Location", "id": name[0], "name": name}) for name in ("a%b_c", "bXbYc")))

    assert hospital.found("Location", ("name:contains", "%b_")) == ["a"]
    assert hospital.found("Location", ("name", "a%")) == ["a"]
