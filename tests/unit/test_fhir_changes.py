"""Which status may follow which, and what of a resource stays when another system speaks of it."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.codecs.fhir_changes import CHANGES, completed, is_late, joined, may_change
from bridge.mapping.targets.elements import problem

Json = dict[str, Any]


def order(status: str, *numbers: str, **more: Any) -> Json:
    identifiers = [{"system": number.partition("|")[0], "value": number.partition("|")[2]} for number in numbers]
    return {"resourceType": "ServiceRequest", "status": status, "identifier": identifiers, **more}


@pytest.mark.parametrize(
    ("kind", "old", "new", "always", "undone"),
    [
        ("ServiceRequest", "revoked", "active", False, True),
        ("ServiceRequest", "completed", "active", False, True),
        ("ServiceRequest", "completed", "revoked", False, False),
        ("ServiceRequest", "entered-in-error", "active", False, False),
        ("ServiceRequest", "active", "on-hold", True, True),
        ("ServiceRequest", "on-hold", "active", True, True),
        ("ServiceRequest", "revoked", "completed", True, True),
        ("ServiceRequest", "unknown", "active", True, True),
        ("Encounter", "finished", "in-progress", False, True),
        ("Encounter", "in-progress", "planned", False, True),
        ("Encounter", "planned", "in-progress", True, True),
        ("Encounter", "cancelled", "finished", False, False),
        ("Appointment", "cancelled", "booked", False, True),
        ("Appointment", "noshow", "booked", False, True),
        ("Appointment", "fulfilled", "cancelled", False, False),
        ("Appointment", "booked", "checked-in", True, True),
        ("Task", "in-progress", "requested", False, True),
        ("Task", "completed", "in-progress", False, True),
        ("Task", "cancelled", "in-progress", True, True),
        ("ImagingStudy", "available", "registered", False, False),
        ("Procedure", "completed", "in-progress", False, False),
        ("Procedure", "completed", "entered-in-error", True, True),
    ],
)
def test_a_status_changes_only_as_the_table_says(kind: str, old: str, new: str, always: bool, undone: bool) -> None:
    assert may_change(kind, old, new) is always
    assert may_change(kind, old, new, reopens=True) is undone
    assert may_change(kind, old, old)


def test_the_table_knows_every_status_that_it_names() -> None:
    for kind, changes in CHANGES.items():
        named = {status for after in changes.values() for status in after.replace("|", " ").split()}

        assert problem(kind, ["status"]) is None
        assert named <= changes.keys()


def test_nothing_leaves_entered_in_error() -> None:
    assert {changes["entered-in-error"] for changes in CHANGES.values()} - {""} == set()


def test_what_an_update_does_not_speak_of_stays() -> None:
    old = order("active", "his|1", reasonCode=[{"text": "pain"}], note=[{"text": "Since Monday"}])

    made = joined(order("active", "ris|2", note=[{"text": "Tuesday"}]), old)

    assert made["reasonCode"] == [{"text": "pain"}] and made["note"] == [{"text": "Tuesday"}]
    assert [one["value"] for one in made["identifier"]] == ["1", "2"]


def test_an_identifier_is_not_written_twice_and_keeps_what_both_say_of_it() -> None:
    old = order("active")
    old["identifier"] = [{"system": "his", "value": "1", "assigner": {"display": "HIS"}}]
    new = order("active")
    new["identifier"] = [{"system": "his", "value": "1", "type": {"text": "placer"}}]

    assert joined(new, old)["identifier"] == [
        {"system": "his", "value": "1", "assigner": {"display": "HIS"}, "type": {"text": "placer"}}
    ]


def test_a_late_order_only_adds_what_is_not_there_yet() -> None:
    old = order("completed", "ris|2", code={"text": "CT head"})
    late = order("active", "his|1", code={"text": "CT"}, reasonCode=[{"text": "pain"}])

    made = joined(late, old)

    assert is_late(late, old)
    assert made["status"] == "completed" and made["code"] == {"text": "CT head"}
    assert made["reasonCode"] == [{"text": "pain"}]
    assert [one["value"] for one in made["identifier"]] == ["2", "1"]


def test_a_message_that_says_no_status_keeps_the_one_that_is_there() -> None:
    assert joined(order("unknown"), order("on-hold"))["status"] == "on-hold"
    assert joined(order("active"), order("unknown"))["status"] == "active"


def test_of_what_an_update_says_all_nothing_else_stays() -> None:
    old = order("active", "ins|1", "his|2", note=[{"text": "Since Monday"}])

    made = joined(order("active", "his|2"), old, whole=["identifier", "note"])

    assert made == order("active", "his|2")


def test_of_an_element_with_several_types_one_is_left() -> None:
    old = {"resourceType": "Patient", "deceasedBoolean": True}

    assert joined({"resourceType": "Patient", "deceasedDateTime": "2026-01-07"}, old) == {
        "resourceType": "Patient", "deceasedDateTime": "2026-01-07",
    }  # fmt: skip


def test_a_reason_ends_with_its_status() -> None:
    old = {"resourceType": "Appointment", "status": "cancelled", "cancelationReason": {"text": "ill"}}
    new = {"resourceType": "Appointment", "status": "booked"}

    assert "cancelationReason" not in joined(new, old, reopens=True)
    assert "cancelationReason" in joined(new, old)


def test_what_is_undone_has_not_ended() -> None:
    old = {"resourceType": "Encounter", "status": "finished", "period": {"start": "2026-01-06", "end": "2026-01-08"}}
    new = {"resourceType": "Encounter", "status": "in-progress"}

    assert joined(new, old)["period"] == old["period"]
    assert joined(new, old, reopens=True)["period"] == {"start": "2026-01-06"}


def test_the_version_and_the_narrative_that_a_server_made_are_not_sent_back() -> None:
    old = order("active", text={"status": "generated"}, meta={"versionId": "3", "tag": [{"code": "a"}]})

    made = joined(order("active"), old)

    assert "text" not in made and made["meta"] == {"tag": [{"code": "a"}]}


def test_a_report_is_replaced_and_keeps_the_numbers_that_others_gave_it() -> None:
    old: Json = {"resourceType": "DiagnosticReport", "status": "final", "conclusion": "old"}
    old = {**old, "issued": "2026-01-01T00:00:00Z", "identifier": [{"system": "his", "value": "1"}], "media": [{}]}
    new: Json = {"resourceType": "DiagnosticReport", "status": "corrected", "conclusion": "new"}
    new = {**new, "identifier": [{"system": "ris", "value": "2"}]}

    made = completed(new, old)

    assert made["conclusion"] == "new" and "media" not in made
    assert [one["value"] for one in made["identifier"]] == ["1", "2"]
