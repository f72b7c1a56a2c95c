"""What a subscription asks for, and which versions of resources are that: pure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.codecs.fhir_check import faults
from bridge.errors import Refused
from bridge.fhir.match import Known
from bridge.fhir.notification import Event, State, bundle
from bridge.fhir.subscription import fires, headers_of, masked, read, revealed
from bridge.fhir.topics import TOPICS, described
from channels.fhir_subscribing import allowed
from tests.rigs.fhir import NOON, order, patient, report
from tests.rigs.need import REPOSITORY
from tests.rigs.subscriptions import plain, topical

HOOK = "https://his.example/notify"


def known(resource: dict[str, Any] | None) -> Known | None:
    return Known({"id": "a", **resource}) if resource else None


def told(subscription: dict[str, Any], before: dict[str, Any] | None, now: dict[str, Any]) -> bool:
    return fires(read(subscription), known(before), Known({"id": "a", **now}))


@pytest.mark.parametrize("resource", [plain("Patient", HOOK), topical("exam-started", HOOK, heartbeat=60, max_count=5)])
def test_the_subscriptions_of_these_tests_are_valid_r4(resource: dict[str, Any]) -> None:
    assert faults(resource, "R4") == []


@pytest.mark.parametrize("topic", TOPICS.values(), ids=lambda topic: topic.name)
def test_each_topic_is_told_of_as_r5_describes_one_and_can_be_filtered_as_it_says(topic: Any) -> None:
    filters = [f"{topic.kind}?{one}=x" for one in topic.filters]

    manual = (REPOSITORY / "docs" / "subscriptions.md").read_text(encoding="utf-8")

    assert faults(described(topic), "R5") == []
    assert f"`{topic.name}`" in manual
    assert read(topical(topic.name, HOOK, "empty", *filters)).topic == topic


@pytest.mark.parametrize(
    ("topic", "before", "now", "expected"),
    [
        ("report-final", "preliminary", "final", True),
        ("report-final", None, "final", True),
        ("report-final", "final", "final", False),
        ("report-final", "final", "amended", False),
        ("report-final", "registered", "preliminary", False),
        ("report-corrected", "final", "corrected", True),
        ("report-corrected", "corrected", "corrected", True),
        ("report-withdrawn", "final", "entered-in-error", True),
        ("report-withdrawn", "cancelled", "entered-in-error", False),
        ("report-withdrawn", None, "cancelled", False),
        ("report-preliminary", "registered", "preliminary", True),
        ("report-preliminary", "preliminary", "partial", False),
    ],
)
def test_a_topic_fires_on_the_change_that_it_is_about(topic: str, before: str | None, now: str, expected: bool) -> None:
    was = report(1, before) if before else None

    assert told(topical(topic, HOOK), was, report(1, now)) is expected


def test_orders_are_placed_once_changed_often_and_cancelled_once() -> None:
    active, revoked = order(1), order(1, status="revoked")
    seen = {
        name: [
            told(topical(f"order-{name}", HOOK), *pair)
            for pair in ((None, active), (active, active), (active, revoked))
        ]
        for name in ("placed", "changed", "cancelled")
    }

    assert seen == {"placed": [True, False, False], "changed": [False, True, True], "cancelled": [False, False, True]}


def test_a_merge_is_told_of_the_patient_who_is_retired_alone() -> None:
    link = {"other": {"reference": "Patient/p2"}}
    retired = patient(1, active=False, link=[{**link, "type": "replaced-by"}])
    survivor = patient(1, link=[{**link, "type": "replaces"}])

    assert told(topical("patient-merged", HOOK), patient(1), retired)
    assert not told(topical("patient-merged", HOOK), retired, {**retired, "birthDate": "1980-02-04"})
    assert not told(topical("patient-merged", HOOK), patient(1), survivor)


def test_all_filters_have_to_be_met() -> None:
    filters = ("DiagnosticReport?patient=Patient/p1", "DiagnosticReport?identifier=urn:ris|R1")
    subscription = topical("report-final", HOOK, "id-only", *filters)

    assert told(subscription, None, report(1, "final"))
    assert not told(subscription, None, report(2, "final"))
    assert not told(subscription, None, report(1, "final", "Patient/p2"))


def test_plain_criteria_are_met_by_each_version_that_they_find() -> None:
    subscription = plain("DiagnosticReport?status=final&subject=Patient/p1", HOOK)

    assert told(subscription, report(1, "final"), report(1, "final", conclusion="x"))
    assert not told(subscription, None, report(1, "preliminary"))
    assert not told(subscription, None, order(1))
    assert told(plain("ServiceRequest", HOOK), None, order(1))


@pytest.mark.parametrize(
    ("resource", "at"),
    [
        (plain("DiagnosticReport?subject:Patient.name=x", HOOK), "criteria"),
        (plain("DiagnosticReport?_has:Observation:patient:code=x", HOOK), "criteria"),
        (plain("NoSuchType", HOOK), "criteria"),
        (topical("none", HOOK), "criteria"),
        (topical("report-final", HOOK, "everything"), "channel.payload.extension"),
        (topical("report-final", HOOK, "empty", "Patient?name=x"), "criteria.extension"),
        (plain("Patient", HOOK, "application/fhir+xml"), "channel.payload"),
        (plain("Patient", HOOK, header=["Authorization"]), "channel.header[0]"),
        (plain("Patient", HOOK, header=["X-A: 1", "X-B: a\r\nX-C: b"]), "channel.header[1]"),
        (plain("Patient") | {"channel": {"type": "email", "endpoint": "mailto:a@his.example"}}, "channel.type"),
        (plain("Patient") | {"channel": {"type": "rest-hook"}}, "channel.endpoint"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_place(resource: dict[str, Any], at: str) -> None:
    with pytest.raises(Refused) as refused:
        read(resource)

    assert refused.value.at == f"Subscription.{at}"


def test_secrets_are_masked_and_a_mask_that_comes_back_stands_for_the_secret() -> None:
    resource = plain("Patient", HOOK, header=["Authorization: Bearer s3cret", "X-Site: a"])

    shown = masked(resource)

    assert shown["channel"]["header"] == ["Authorization: ***", "X-Site: ***"]
    kept = headers_of(resource)
    assert revealed(headers_of(shown), kept) == kept
    changed = headers_of(plain("Patient", HOOK, header=["authorization: ***", "X-Site: b"]))
    assert revealed(changed, kept) == (("authorization", "Bearer s3cret"), ("X-Site", "b"))


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://his.example/notify", True),
        ("https://his.example/notify/a?b=c", True),
        ("https://HIS.example:443/notify/a", True),
        ("http://his.example/notify/a", False),
        ("https://his.example:8443/notify/a", False),
        ("https://his.example.evil.example/notify/a", False),
        ("https://his.example@evil.example/notify/a", False),
        ("https://his.example/other", False),
        ("https://his.example/notify/../other", False),
        ("https://his.example/notify/%2e%2e/other", False),
        ("https://his.example\\@evil.example/notify/a", False),
        ("https://his.example/notify\nHost: evil", False),
        ("ftp://his.example/notify/a", False),
        ("", False),
    ],
)
def test_only_endpoints_of_the_list_are_allowed(endpoint: str, expected: bool) -> None:
    assert allowed(endpoint, ["https://his.example/notify*"]) is expected


def test_nothing_is_allowed_by_an_empty_list() -> None:
    assert not allowed("https://his.example/notify", [])


def test_a_notification_is_a_valid_history_bundle_that_says_how_it_stands() -> None:
    state = State("https://radbridge.example/fhir", "s1", "urn:radbridge:topic:report-final", "active", 7)
    final = json.dumps(report(1, "final", id="r1")).encode()
    events = [Event(6, NOON, "DiagnosticReport", "r1", "2", "PUT", final)]
    events.append(Event(7, NOON + 1, "DiagnosticReport", "r1", "2", "PUT", final))

    made = {content: bundle(state, "event-notification", content, NOON, events) for content in _CONTENTS}

    assert made["full-resource"] == bundle(state, "event-notification", "full-resource", NOON, events)
    for text in made.values():
        assert faults(json.loads(text), "R4") == []
    assert b"r1" not in made["empty"] and b"topic" not in made["empty"]
    assert len(json.loads(made["id-only"])["entry"]) == 1
    status, resource = json.loads(made["full-resource"])["entry"]
    parameters = [
        (one["name"], *(value for key, value in one.items() if key != "name"))
        for one in status["resource"]["parameter"]
    ]
    assert parameters[:5] == [
        ("subscription", {"reference": "https://radbridge.example/fhir/Subscription/s1"}),
        ("topic", "urn:radbridge:topic:report-final"),
        ("status", "active"),
        ("type", "event-notification"),
        ("events-since-subscription-start", "7"),
    ]
    assert parameters[5][1] == [
        {"name": "event-number", "valueString": "6"},
        {"name": "timestamp", "valueInstant": "2030-01-01T12:00:00.000Z"},
        {"name": "focus", "valueReference": {"reference": "https://radbridge.example/fhir/DiagnosticReport/r1"}},
    ]
    assert status["request"] == {"method": "GET", "url": f"{state.url}/$status"}
    assert resource["resource"] == json.loads(final)
    assert resource["request"] == {"method": "PUT", "url": "DiagnosticReport/r1"}


_CONTENTS: tuple[Any, ...] = ("empty", "id-only", "full-resource")
