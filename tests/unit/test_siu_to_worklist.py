"""The ``siu-to-worklist`` mapping: what each kind of appointment message says to the worklist."""

from __future__ import annotations

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.errors import MappingError
from bridge.mapping.compile import CompiledMapping, compile_all
from bridge.model import AppointmentStatus, AppointmentUpdate, WorklistDocument
from tests.rigs.need import REPOSITORY, require_data

MAPPINGS = REPOSITORY / "mappings"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
START = ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")


def load() -> CompiledMapping:
    files = [MAPPINGS / "siu-to-worklist.yaml", *sorted((MAPPINGS / "tables").glob("*.csv"))]
    compiled = compile_all({str(file.relative_to(MAPPINGS)): file.read_text("utf-8") for file in files})
    assert compiled.findings == []
    return compiled.mappings["siu-to-worklist"]


MAPPING = load()


def sample(*pairs: tuple[str, str]) -> bytes:
    text = (MAPPINGS / "samples" / "siu_booked.hl7").read_bytes().decode()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def appointments(raw: bytes) -> tuple[AppointmentUpdate, ...]:
    return WorklistDocument.from_json(MAPPING.render(parse(raw), SITE).data).appointments


def booked(raw: bytes) -> dict[str, str]:
    (one,) = appointments(raw)
    assert one.status is AppointmentStatus.BOOKED
    return one.attributes


@pytest.mark.parametrize("event", ["S12", "S13", "S14"])
def test_a_booking_a_move_and_a_modification_say_when(event: str) -> None:
    found = booked(sample(("SIU^S12", f"SIU^{event}")))
    assert found["ScheduledProcedureStepStartDate"] == "20260107"


@pytest.mark.parametrize("event", ["S15", "S16", "S17", "S26"])
@pytest.mark.parametrize("status", ["Booked^Booked^HL70278", ""])
def test_a_cancellation_a_deletion_and_an_absence_free_the_slot(event: str, status: str) -> None:
    (one,) = appointments(sample(("SIU^S12", f"SIU^{event}"), ("Booked^Booked^HL70278|PL", f"{status}|PL")))
    assert (one.status, one.attributes) == (AppointmentStatus.FREED, {})


@pytest.mark.parametrize(
    ("sent", "local"),
    [
        ("20260329013000", ("20260329", "013000")),
        ("20260329003000+0000", ("20260329", "013000")),
        ("20260329013000+0000", ("20260329", "033000")),
        ("20261025003000+0000", ("20261025", "023000")),
        ("20261025013000+0000", ("20261025", "023000")),
        ("20260107233000-0500", ("20260108", "053000")),
    ],
)
def test_times_are_local_to_the_site_also_when_the_clock_changes(sent: str, local: tuple[str, str]) -> None:
    found = booked(sample(("LOCAL|20260107143000|||30", f"LOCAL|{sent}|||30")))
    assert tuple(found[name] for name in START) == local


def test_services_at_one_time_give_it_and_at_several_times_the_first_one_and_a_note() -> None:
    second = "AIG|1|A|CT2"
    same = sample((second, f"AIS|2|A|CTNECK^CT of the neck^LOCAL|20260107143000\r{second}"))
    other = sample((second, f"AIS|2|A|CTNECK^CT of the neck^LOCAL|20260107150000\r{second}"))

    assert booked(same) == booked(other) == booked(sample())
    assert MAPPING.render(parse(same), SITE).notes == ()
    assert "several times" in MAPPING.render(parse(other), SITE).notes[0]


def test_a_room_that_was_exchanged_is_the_new_one() -> None:
    gone, new = "AIL|1|D|RAD^CT ROOM 9^^DEMO", "AIL|2|A|RAD^CT ROOM 2^^DEMO"
    assert booked(sample(("AIL|1|A|RAD^CT ROOM 2^^DEMO", f"{gone}\r{new}"))) == booked(sample())


def test_messages_of_other_events_are_not_for_this_mapping() -> None:
    with pytest.raises(MappingError) as refused:
        appointments(sample(("SIU^S12", "SIU^S23")))
    assert refused.value.kind == "message_type"


def test_every_published_appointment_is_read_and_joins_no_order_that_it_does_not_name() -> None:
    files = list(require_data("hl7").rglob("SIU*.hl7"))
    assert len(files) >= 6
    for path in files:
        rendered = MAPPING.render(parse(path.read_bytes()), SITE)
        assert WorklistDocument.from_json(rendered.data).appointments == ()
        assert "names no order" in " ".join(rendered.notes)


def test_a_published_appointment_with_an_order_number_is_placed_by_its_service() -> None:
    raw = (require_data("hl7") / "fhir-converter" / "SIU-S13-01.hl7").read_bytes()
    named = raw.replace(b"||Booked|\r", b"||Booked|PL1001^RIS|\r", 1).replace(
        b"||Booked|\n", b"||Booked|PL1001^RIS|\n", 1
    )

    (one,) = appointments(named)

    assert one.order == ("placer:PL1001^RIS",)
    assert one.attributes["ScheduledProcedureStepLocation"] == "Room01"


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ("  appointment: {from: SCH-2 | SCH-1, as: number_and_issuer}\n", "", "`appointment` needs `appointment:`"),
        ("    placer: {from", "    plaser: {from", "unknown kind of identifier"),
        ("ScheduledProcedureStepSequence.ScheduledStationName:", "StationName:", "no attribute of a scheduled step"),
    ],
)
def test_a_mistake_in_the_mapping_is_found_when_it_is_compiled(right: str, wrong: str, found: str) -> None:
    texts = {str(path.relative_to(MAPPINGS)): path.read_text("utf-8") for path in (MAPPINGS / "tables").glob("*.csv")}
    text = (MAPPINGS / "siu-to-worklist.yaml").read_text("utf-8")
    assert right in text
    compiled = compile_all({**texts, "siu-to-worklist.yaml": text.replace(right, wrong)})
    assert any(found in finding.what for finding in compiled.findings), compiled.findings
