"""Events of performed procedure steps: how they are kept, joined, judged and read by mappings."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread

from bridge.codecs.hl7v2 import parse
from bridge.codecs.performed import KnownStep, check, encode_event, parse_step
from bridge.codecs.performed_order import unsaid
from bridge.commands import output
from bridge.errors import BridgeError, CodecError
from bridge.mapping import compile_all, compile_condition
from tests.rigs.performed import after, created, dataset, ended, event, order
from tests.rigs.worklist import encoded


def refused(values: Mapping[str, Any], known: KnownStep | None = None, **more: Any) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        check(event(values, known, **more))
    return caught.value


def test_an_event_is_a_dicom_file_with_its_data_set_as_it_came() -> None:
    told = event(created())

    raw = encode_event(told)

    assert raw.endswith(told.data)
    file = dcmread(BytesIO(raw))
    assert file.file_meta.SourceApplicationEntityTitle == "CT1"
    assert file.ScheduledStepAttributesSequence[0].AccessionNumber == "A1"
    assert parse_step(raw).event == told


def test_an_n_set_names_the_patient_and_the_order_of_its_n_create() -> None:
    first, last = (parse_step(encode_event(one)) for one in (event(created()), event(ended(), after(event(created())))))

    assert last.kind == ("MPPS", "COMPLETED")
    assert last.header.patients == first.header.patients == ("P1^",)
    assert last.header.orders == first.header.orders == ("placer:1^", "filler:F1^")
    assert last.header.accession == "A1"
    assert first.header.control_id == "1.2.9#1"
    assert last.header.control_id == "1.2.9#2"


def test_the_same_event_in_another_transfer_syntax_is_the_same() -> None:
    implicit = event(created())
    data = encoded(dataset(created()), implicit=False)
    explicit = replace(implicit, data=data, implicit=False, known=after(implicit))

    assert explicit.digest == implicit.digest
    assert explicit.repeated
    check(explicit)


@pytest.mark.parametrize("values", [created(), created(Modality="MR")])
def test_a_step_that_went_on_is_not_created_again(values: dict[str, Any]) -> None:
    begun = event(created())
    going_on = event(ended(status="IN PROGRESS"), after(begun))

    assert refused(values, after(going_on), command="N-CREATE").kind == "duplicate_key"


def test_the_last_event_once_more_is_no_new_one() -> None:
    begun = event(created())
    done = event(ended(), after(begun))

    for again in (event(created(), after(begun), command="N-CREATE"), event(ended(), after(done))):
        check(again)
        assert again.repeated
    assert event(ended(), after(done)).number == done.number == 2


@pytest.mark.parametrize(
    ("values", "at", "kind"),
    [
        (created(PerformedProcedureStepStatus="COMPLETED"), "PerformedProcedureStepStatus", "datatype"),
        (created(PerformedProcedureStepStatus=""), "PerformedProcedureStepStatus", "required"),
        (created(PerformedStationAETitle=""), "PerformedStationAETitle", "required"),
        (created(ScheduledStepAttributesSequence=[]), "ScheduledStepAttributesSequence", "required"),
        (
            created(order(1), order(2, StudyInstanceUID="")),
            "ScheduledStepAttributesSequence[2].StudyInstanceUID",
            "required",
        ),
    ],
)
def test_a_step_is_created_in_progress_with_all_it_needs(values: dict[str, Any], at: str, kind: str) -> None:
    error = refused(values)

    assert (error.at, error.kind) == (at, kind)


@pytest.mark.parametrize(
    ("values", "at"),
    [
        (ended(PerformedProcedureStepEndTime=""), "PerformedProcedureStepEndTime"),
        (ended("DISCONTINUED", PerformedSeriesSequence=[]), "PerformedSeriesSequence"),
        (ended(PerformedSeriesSequence=[{"SeriesInstanceUID": "1.2"}]), "PerformedSeriesSequence[1].ProtocolName"),
    ],
)
def test_a_step_ends_with_all_it_needs_unless_the_site_takes_less(values: dict[str, Any], at: str) -> None:
    known = after(event(created()))

    assert (refused(values, known).at, refused(values, known).kind) == (at, "required")
    check(event(values, known, lenient=True))


def test_what_was_set_before_counts_at_the_end() -> None:
    going_on = event(ended(status="IN PROGRESS"), after(event(created())))

    check(event({"PerformedProcedureStepStatus": "COMPLETED"}, after(going_on)))


def test_an_n_set_for_an_unknown_step_or_after_its_end_is_refused() -> None:
    done = event(ended(), after(event(created())))

    assert refused(ended(), command="N-SET").kind == "unknown_key"
    assert refused(ended(PerformedProcedureStepEndTime="10"), after(done)).kind == "locked"
    assert refused(ended("ENDED"), after(event(created()))).kind == "datatype"


def test_what_an_n_set_may_not_change_stays_and_is_told() -> None:
    told = event(ended(PatientID="P2"), after(event(created())))

    step = parse_step(encode_event(told))

    assert step.get("PatientID") == "P1"
    assert step.header.warnings == ("PatientID: an N-SET may not change it, and has not",)


def test_each_event_is_read_in_its_own_character_set() -> None:
    greek = {"SpecificCharacterSet": "ISO_IR 126", "PerformedProcedureStepDescription": "ΑΚΤΙΝΑ"}
    step = parse_step(encode_event(event(ended(**greek), after(event(created())))))

    assert step.get("PatientName.2") == "ÉLODIE"
    assert step.get("PerformedProcedureStepDescription") == "ΑΚΤΙΝΑ"


def test_characters_that_cannot_be_read_are_told_and_their_bytes_kept() -> None:
    data = encoded(dataset(created())).replace(b"ISO_IR 100", b"ISO_IR 192")
    raw = encode_event(replace(event(created()), data=data))

    assert parse_step(raw).header.warnings == ("PatientName: characters that its character set does not explain",)
    assert raw.endswith(data)


def test_dose_and_contrast_can_be_read() -> None:
    dose = {
        "TotalNumberOfExposures": 3,
        "ImageAndFluoroscopyAreaDoseProduct": "12.5",
        "ExposureDoseSequence": [{"KVP": "120", "ExposureTime": "900"}, {"KVP": "100", "ExposureTime": "300"}],
        "PerformedSeriesSequence": [{"ProtocolName": "CT", "SeriesInstanceUID": "1.2", "ContrastBolusAgent": "AGENT"}],
    }
    step = parse_step(encode_event(event(ended(**dose), after(event(created())))))

    assert step.get("TotalNumberOfExposures") == "3"
    assert step.get("ImageAndFluoroscopyAreaDoseProduct") == "12.5"
    assert step.all("ExposureDoseSequence.KVP") == ["120", "100"]
    assert step.get("ExposureDoseSequence[2].ExposureTime") == "300"
    assert step.get("PerformedSeriesSequence.ContrastBolusAgent") == "AGENT"


def test_an_event_that_differs_in_what_no_mapping_reads_is_another_one() -> None:
    told = [event(created(ICCProfile=profile)) for profile in (b"\x01\x02", b"\x01\x03")]

    assert told[0].digest != told[1].digest


def test_an_item_is_read_before_what_is_around_it() -> None:
    step = parse_step(encode_event(event(created(order(1), order(2, AccessionNumber="")))))

    first, second = step.split("ScheduledStepAttributesSequence")

    assert (first.get("AccessionNumber"), second.get("AccessionNumber")) == ("A1", "")
    assert second.get("ScheduledProcedureStepID") == "S2"
    assert second.get("PatientID") == "P1"


@pytest.mark.parametrize(
    "raw", [b"", b"MSH|^~\\&|", bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0" * 3]
)
def test_what_is_no_event_is_refused(raw: bytes) -> None:
    with pytest.raises(CodecError):
        parse_step(raw)


@pytest.mark.parametrize("data", [b"\x10\0\x10\0\xff\xff\0\0abc", b"\x10\0\x10\0\x04\0\0\0AB"])
def test_a_data_set_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        parse_step(encode_event(replace(event(created()), data=data)))


def test_conditions_read_either_kind_of_message_and_find_nothing_in_the_other() -> None:
    step, hl7 = (
        parse_step(encode_event(event(created()))),
        parse(b"MSH|^~\\&|RIS||||20260105||ORM^O01|c1|P|2.3\rPID|1\r"),
    )
    of_dicom = compile_condition({"ScheduledStepAttributesSequence.AccessionNumber": "A1"}, "routes.x.when")
    of_hl7 = compile_condition({"message": "ORM^O01", "MSH-3": "RIS", "PID-3[4.1=HOSP].1": "absent"}, "routes.x.when")
    of_both = compile_condition({"any": [{"message": "MPPS"}, {"PID-1 | PatientID": "1"}]}, "routes.x.when")

    assert (of_dicom(step), of_dicom(hl7)) == (True, False)
    assert (of_hl7(step), of_hl7(hl7)) == (False, True)
    assert (of_both(step), of_both(hl7)) == (True, True)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("Modalty", "DICOM has no attribute `Modalty`"),
        ("PID-3", "not a path of DICOM keywords"),
        ("PerformedSeriesSequence", "is a sequence"),
        ("PatientID.AccessionNumber", "is no sequence"),
        ("PatientID.1", "is no person name"),
    ],
)
def test_a_wrong_keyword_is_told_when_the_mapping_is_compiled(line: str, what: str) -> None:
    text = f"target: worklist\nmessages: [MPPS]\nperformed:\n  let: {{x: {line}}}\n"

    found = [finding for finding in compile_all({"m.yaml": text}).findings if what in finding.what]

    assert [(one.line, one.column) for one in found] == [(4, 9)]


def test_a_keyword_is_no_place_in_an_hl7_message() -> None:
    text = "target: hl7v2\nmessages: [ORM^O01]\nedits:\n  - set: {PID-3: PatientID}\n"

    assert "not a path into an HL7 message" in compile_all({"m.yaml": text}).findings[0].what


def test_people_see_a_step_as_text() -> None:
    shown = json.loads(output.content(encode_event(event(ended(), after(event(created()))))))

    assert shown["PatientName"] == "TEST00001^ÉLODIE"
    assert shown["ScheduledStepAttributesSequence"][0]["AccessionNumber"] == "A1"
    assert shown["PerformedProcedureStepStatus"] == "COMPLETED"


def test_damaged_events_are_refused_or_read_and_nothing_else_happens() -> None:
    chance = random.Random(20260105)
    whole = [encode_event(event(created())), encode_event(event(ended(), after(event(created()))))]

    for _ in range(1500):
        damaged = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(132, len(damaged))
            damaged[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        with suppress(BridgeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step = parse_step(bytes(damaged))
            check(step.event)
            step.split("ScheduledStepAttributesSequence")
            step.er7("PatientName", {})


def test_what_a_modality_leaves_out_comes_from_the_worklist_and_stays_with_the_event() -> None:
    said = created(order(1, PlacerOrderNumberImagingServiceRequest=""))
    ris = [{"LocalNamespaceEntityID": "RIS"}]
    item = {
        **order(1),
        "PatientID": "P1",
        "IssuerOfPatientID": "HOSP",
        "OrderPlacerIdentifierSequence": ris,
        "OrderFillerIdentifierSequence": ris,
    }
    told = event(said)

    stored = parse_step(encode_event(replace(told, ordered=unsaid(told.told, [item]))))

    assert stored.header.patients == ("P1^HOSP",)
    assert stored.header.orders == ("placer:1^RIS", "filler:F1^RIS")
    assert stored.header.digest == parse_step(encode_event(told)).header.digest


def test_nothing_is_taken_from_another_patients_or_another_orders_item() -> None:
    told = event(created(order(1))).told
    of_other = {**order(1), "PatientID": "P2", "IssuerOfPatientID": "HOSP"}
    other_order = {**order(2), "PatientID": "P1", "OrderFillerIdentifierSequence": [{"LocalNamespaceEntityID": "RIS"}]}

    assert unsaid(told, [of_other]) == {}
    assert unsaid(told, [other_order])["ScheduledStepAttributesSequence"] == [{}]


def test_a_number_that_the_worklist_has_otherwise_gets_no_issuer() -> None:
    told = event(created(order(1))).told
    ris = [{"LocalNamespaceEntityID": "RIS"}]
    item = {**order(1), "PatientID": "P1", "FillerOrderNumberImagingServiceRequest": "F9"}

    added = unsaid(told, [{**item, "OrderFillerIdentifierSequence": ris, "OrderPlacerIdentifierSequence": ris}])

    assert added["ScheduledStepAttributesSequence"] == [{"OrderPlacerIdentifierSequence": ris}]


def test_of_two_hospitals_with_the_same_numbers_the_one_whose_study_it_is_is_meant() -> None:
    # Given patient 4711 and accession number A1, in two hospitals
    shared = {"PatientID": "4711", "AccessionNumber": "A1"}
    north, south = (
        {
            **shared,
            "StudyInstanceUID": study,
            "IssuerOfPatientID": issuer,
            "IssuerOfAccessionNumberSequence": [{"LocalNamespaceEntityID": issuer}],
        }
        for study, issuer in (("1.2.1", "NORTH"), ("1.2.2", "SOUTH"))
    )
    by_study = {"PatientID": "4711", "ScheduledStepAttributesSequence": [{"StudyInstanceUID": "1.2.2", **shared}]}
    by_accession = {**by_study, "ScheduledStepAttributesSequence": [{"StudyInstanceUID": "1.2.9", **shared}]}

    # When the modality repeats them with the study of one, or with a study of its own
    found, unsure = unsaid(by_study, [north, south]), unsaid(by_accession, [north, south])

    # Then that one is meant, or none of them
    assert found["IssuerOfPatientID"] == "SOUTH"
    (order,) = found["ScheduledStepAttributesSequence"]
    assert order["IssuerOfAccessionNumberSequence"] == [{"LocalNamespaceEntityID": "SOUTH"}]
    assert unsure.get("IssuerOfPatientID") is None
    assert not any(unsure.get("ScheduledStepAttributesSequence", []))
