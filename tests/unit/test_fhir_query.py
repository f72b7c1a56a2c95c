"""Searches as R4 defines them: what is asked, what resources answer, and what is refused."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import Refused
from bridge.fhir.index import entries, long_number
from bridge.fhir.interaction import TYPES
from bridge.fhir.match import matches
from bridge.fhir.parameters import PARAMETERS, number
from bridge.fhir.query import MOST, parse, parse_text
from bridge.fhir.times import span
from bridge.fhir.values import split, unescaped
from tests.rigs.fhir import order, patient, report

PARIS = ZoneInfo("Europe/Paris")


def hit(resource: dict[str, Any], name: str, value: str, **more: Any) -> bool:
    return matches(parse(resource["resourceType"], [(name, value)], strict=True, **more), resource, **more)


# the table of parameters


def test_every_type_that_is_kept_has_its_parameters_and_no_two_share_a_number() -> None:
    known = [one for some in PARAMETERS.values() for one in some.values()]
    modified = [number(f"{one.base}.{one.name}:{what}") for one in known for what in ("identifier", "of-type")]
    numbers = [one.number for one in known] + [long_number(one) for one in known] + modified

    assert set(PARAMETERS) == set(TYPES)
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("kind", TYPES)
def test_a_reference_points_to_types_that_are_kept(kind: str) -> None:
    for one in PARAMETERS[kind].values():
        assert set(one.targets) <= set(TYPES), one
        assert (one.type == "reference") == bool(one.targets), one


# tokens


TYPED = {"system": "urn:acsn", "value": "A|1", "type": {"coding": [{"system": "urn:types", "code": "ACSN"}]}}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("identifier", "urn:his|P1", True),
        ("identifier", "P1", True),
        ("identifier", "urn:his|", True),
        ("identifier", "|P1", False),
        ("identifier", "urn:ris|P1", False),
        ("identifier", "urn:his|P2,urn:his|P1", True),
        ("identifier", r"urn:acsn|A\|1", True),
        ("identifier:of-type", r"urn:types|ACSN|A\|1", True),
        ("identifier:of-type", r"urn:types|MR|A\|1", False),
        ("gender", "female", True),
        ("gender:not", "female", False),
        ("gender:not", "male", True),
        ("active", "true", True),
        ("phone", "0102", True),
        ("email", "0102", False),
        ("_id", "p1", True),
        ("_id", "p2", False),
        ("_tag", "urn:tags|AI", True),
        ("_profile", "https://example.org/profile", True),
    ],
)
def test_a_token_matches_by_system_and_code(name: str, value: str, expected: bool) -> None:
    meta = {"tag": [{"system": "urn:tags", "code": "AI"}], "profile": ["https://example.org/profile"]}
    phone = [{"system": "phone", "value": "0102"}]
    one = patient(1, id="p1", gender="female", active=True, telecom=phone, meta=meta)
    one["identifier"].append(TYPED)

    assert hit(one, name, value) == expected


def test_a_code_too_long_for_an_index_is_still_told_from_another() -> None:
    long = "x" * 5000

    assert hit(patient(identifier=[{"system": "urn:his", "value": long}]), "identifier", f"urn:his|{long}")
    assert not hit(patient(identifier=[{"system": "urn:his", "value": long + "y"}]), "identifier", f"urn:his|{long}")


# texts


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("name", "zoe", True),
        ("name", "ZOÉ", True),
        ("name", "oé", False),
        ("name:contains", "oe", True),
        ("name:exact", "Zoé", True),
        ("name:exact", "zoé", False),
        ("family", "sample", True),
        ("family", "zoe", False),
        ("address-city", "saint", True),
        ("address", "75000", True),
        ("address:contains", "denis", True),
    ],
)
def test_a_text_matches_without_case_and_accents(name: str, value: str, expected: bool) -> None:
    assert hit(patient(address=[{"city": "Saint-Denis", "postalCode": "75000"}]), name, value) == expected


# dates


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-05", True),
        ("2026-01", True),
        ("2026-01-05T10:00:00+01:00", True),
        ("2026-01-05T09:00:00Z", True),
        ("2026-01-05T09:00:00.000Z", False),
        ("2026-01-05T10:00:00 01:00", True),
        ("ne2026-01-05", False),
        ("gt2026-01-05", False),
        ("ge2026-01-05", True),
        ("gt2026-01-04", True),
        ("lt2026-01-05", False),
        ("le2026-01-05", True),
        ("sa2026-01-04", True),
        ("sa2026-01-05", False),
        ("eb2026-01-06", True),
        ("eb2026-01-05", False),
        ("ap2026-01-06", True),
        ("ap2026-01-08", False),
        ("2026-01-06,2026-01-05", True),
    ],
)
def test_a_date_is_a_span_of_time_and_prefixes_compare_spans(value: str, expected: bool) -> None:
    assert hit(order(occurrenceDateTime="2026-01-05T10:00:00+01:00"), "occurrence", value) == expected


def test_a_period_without_an_end_lasts() -> None:
    stay = {"resourceType": "Encounter", "period": {"start": "2026-01-05T10:00:00+01:00"}}

    assert hit(stay, "date", "gt2040-01-01")
    assert not hit(stay, "date", "2026-01-05")
    assert hit(stay, "date:missing", "false")


def test_a_date_without_an_offset_is_meant_where_the_site_is() -> None:
    late = order(occurrenceDateTime="2026-01-05T23:30:00Z")

    assert hit(late, "occurrence", "2026-01-05")
    assert hit(late, "occurrence", "2026-01-06", zone=PARIS)
    assert span("2026-03-29", PARIS) == (1774738800000.0, 1774821600000.0)


@given(st.datetimes(), st.sampled_from([10, 19]))
def test_a_span_begins_where_the_date_says_and_ends_after_it(when: Any, length: int) -> None:
    text = when.isoformat()[:length]
    found = span(text, ZoneInfo("UTC"))

    assert found is not None or when.year == 9999
    if found:
        assert found[1] - found[0] == (86_400_000 if length == 10 else 1000)


@given(st.text(max_size=30))
def test_no_text_upsets_the_reading_of_dates_and_values(text: str) -> None:
    span(text, PARIS)

    assert [unescaped(one) for one in split(text.replace("\\", ""), ",")] == text.replace("\\", "").split(",")


# references and amounts


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("patient", "Patient/p1", True),
        ("patient", "p1", True),
        ("patient", "p2", False),
        ("subject:Patient", "p1", True),
        ("subject:Device", "p1", False),
        ("patient:identifier", "urn:his|P1", True),
        ("requester", "https://other.example/fhir/Practitioner/7", True),
        ("occurrence:missing", "true", True),
        ("patient:missing", "true", False),
        ("based-on:missing", "false", False),
    ],
)
def test_a_reference_matches_by_id_url_or_identifier(name: str, value: str, expected: bool) -> None:
    subject = {"reference": "Patient/p1/_history/3", "identifier": {"system": "urn:his", "value": "P1"}}
    requester = {"reference": "https://other.example/fhir/Practitioner/7"}

    assert hit(order(subject=subject, requester=requester), name, value) == expected


def test_a_device_is_a_subject_and_no_patient() -> None:
    about = order(subject="Device/d1")

    assert hit(about, "subject", "Device/d1")
    assert not hit(about, "patient", "d1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12.5", True),
        ("12", False),
        ("13", True),
        ("gt12.5", False),
        ("ge12.5", True),
        ("lt12.51||mm", True),
        ("12.5|urn:units|mm", True),
        ("12.5|urn:units|cm", False),
        ("ap13", True),
        ("ap20", False),
        ("ne12.5", False),
    ],
)
def test_an_amount_without_a_prefix_is_what_rounds_to_it(value: str, expected: bool) -> None:
    amount = {"value": 12.5, "system": "urn:units", "code": "mm"}
    finding = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueQuantity": amount}

    assert hit(finding, "value-quantity", value) == expected


# control parameters and refusals


def test_control_parameters_are_read() -> None:
    asked = [
        ("_include", "DiagnosticReport:based-on"),
        ("_include:iterate", "ServiceRequest:patient:Patient"),
        ("_revinclude", "Provenance:target"),
        ("_sort", "-issued,status"),
        ("_count", "99999"),
        ("_summary", "data"),
        ("_elements", "status,DiagnosticReport.code"),
        ("_total", "accurate"),
        ("_format", "json"),
    ]

    query = parse("DiagnosticReport", asked, strict=True)

    assert [(one.kind, one.parameter, one.iterate) for one in query.includes] == [
        ("DiagnosticReport", "based-on", False),
        ("ServiceRequest", "patient", True),
    ]
    assert [(one.kind, one.parameter) for one in query.revincludes] == [("Provenance", "target")]
    assert [(one.name, down) for one, down in query.sort] == [("issued", True), ("status", False)]
    assert (query.count, query.summary, query.elements, query.total) == (MOST, "data", ("status", "code"), "accurate")
    assert ("_format", "json") not in query.used


def test_an_unknown_parameter_is_ignored_and_told_or_refused() -> None:
    query = parse("Patient", [("shoe-size", "42"), ("family", "x")])

    assert (query.ignored, query.used) == (("shoe-size",), (("family", "x"),))
    with pytest.raises(Refused) as error:
        parse("Patient", [("shoe-size", "42")], strict=True)
    assert (error.value.at, error.value.kind, error.value.face.http) == ("shoe-size", "unsupported", 400)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("occurrence", "tomorrow", "search"),
        ("occurrence", "2026-02-30", "search"),
        ("_count", "many", "search"),
        ("_count", "-1", "search"),
        ("_summary", "short", "search"),
        ("_sort", "shoe-size", "search"),
        ("_include", "ServiceRequest:status", "search"),
        ("_revinclude", "*", "search"),
        ("status.code", "x", "search"),
        ("subject:Observation.code", "x", "search"),
        ("patient:missing", "perhaps", "search"),
        ("code:text", "x", "unsupported"),
        ("subject:Medication", "x", "unsupported"),
        ("identifier:of-type", "x", "search"),
        ("patient.shoe-size", "x", "unsupported"),
        ("_has:Observation:patient:code", "x", "unsupported"),
    ],
)
def test_a_value_or_modifier_that_is_none_is_refused_with_its_name(name: str, value: str, kind: str) -> None:
    with pytest.raises(Refused) as error:
        parse("ServiceRequest", [(name, value)], strict=True)

    assert error.value.kind == kind


@pytest.mark.parametrize(
    "asked",
    [
        [("status", ",".join(["active"] * 501))],
        [("status", "active")] * 41,
        [("based-on." * 50 + "status", "active")],
        [("_has:Task:focus:" * 50 + "status", "active")],
    ],
    ids=["values", "conditions", "chain", "has"],
)
def test_a_search_that_would_never_end_is_refused(asked: list[tuple[str, str]]) -> None:
    with pytest.raises(Refused) as error:
        parse("ServiceRequest", asked)

    assert error.value.kind == "search"


@pytest.mark.parametrize("query", ["", "_count=1", "shoe-size=42", "identifier="])
def test_a_condition_that_could_hit_anything_is_refused(query: str) -> None:
    with pytest.raises(Refused):
        parse_text("Patient", query)


def test_a_condition_about_other_resources_cannot_be_watched() -> None:
    with pytest.raises(Refused) as error:
        hit(order(), "patient.identifier", "urn:his|P1")

    assert error.value.kind == "unsupported"


def test_a_resource_of_another_type_does_not_match() -> None:
    assert not matches(parse("Patient", []), report())
    assert matches(parse("Patient", []), patient())


ELEMENTS = (
    *("identifier", "system", "value", "type", "coding", "code", "subject", "reference", "occurrencePeriod", "start"),
    *("occurrenceTiming", "event", "repeat", "boundsPeriod", "status", "meta", "tag", "requester", "text"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(ELEMENTS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(ELEMENTS), JSON, max_size=6))
def test_what_is_no_fhir_has_index_entries_or_none_and_no_accident(made: dict[str, Any]) -> None:
    found = entries({**made, "resourceType": "ServiceRequest"})

    assert all(isinstance(code, str) and "\x00" not in code for _, _, code in found.tokens)
