"""The shipped mapping of orders to the worklist, on published sample orders and on what real senders vary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.codecs.dicom import problems
from bridge.codecs.hl7v2 import parse
from bridge.errors import MappingError
from bridge.mapping import CompiledMapping, compile_all
from bridge.model import StepStatus, UnknownOrder, WorklistDocument
from tests.rigs.need import REPOSITORY, require_data

MAPPINGS = REPOSITORY / "mappings"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
SPS = "ScheduledProcedureStepSequence"


def shipped() -> dict[str, str]:
    """Text of the mappings, cases and tables of the repository."""
    found = (one for one in MAPPINGS.rglob("*") if one.suffix in (".yaml", ".csv"))
    return {one.relative_to(MAPPINGS).as_posix(): one.read_text() for one in found}


@pytest.fixture(scope="module")
def mapping() -> CompiledMapping:
    return compile_all(shipped()).mappings["order-to-worklist"]


@pytest.fixture(scope="module")
def new_order() -> bytes:
    return (MAPPINGS / "samples" / "orm_new_ct.hl7").read_bytes()


def edited(raw: bytes, **fields: str) -> bytes:
    """The message with fields changed: ``ORC_1="XO"``; an empty text empties the field."""
    editor = parse(raw).edit()
    for name, text in fields.items():
        path = name.replace("_", "-", 1).replace("_", ".")
        if "^" in text:
            editor.set_er7(path, text)
        elif text:
            editor.set(path, text)
        else:
            editor.delete(path)
    return editor.encode()


def document(mapping: CompiledMapping, raw: bytes, **site: Any) -> WorklistDocument:
    rendered = mapping.render(parse(raw), {"site": {**SITE["site"], **site}})
    assert rendered.format == "worklist"
    return WorklistDocument.from_json(rendered.data)


def test_the_shipped_mappings_have_no_findings() -> None:
    assert [str(one) for one in compile_all(shipped()).findings] == []


ACCEPTED = [
    # file, per update: identifiers, status, and per step: accession, procedure id, step id, modality, station, start
    (
        "ans/ORM_O01-demande.hl7",
        [
            (
                ("placer:OPN101^1.2.250.1.748.12345678.12",),
                "scheduled",
                [(None, "OPN101", "OPN101", "MR", ["MR1"], "20260106 134418")],
            )
        ],
    ),
    ("ans/ORM_O01-annulation.hl7", [(("placer:OPN101^1.2.250.1.748.12345678.12",), "cancelled", [])]),
    (
        "fhir-converter/ORM-O01-01.hl7",
        [
            (
                ("placer:1101^GHHPlacer", "filler:1201^GHHFiller"),
                "scheduled",
                [(None, "1101", "1101", "CT", ["CT1"], "20020315 000000")],
            )
        ],
    ),
    (
        "fhir-converter/ORM-O01-02.hl7",
        [
            (
                ("placer:1101^GHHPlacer", "filler:1201^GHHFiller"),
                "scheduled",
                [(None, "1101", "1101", "CT", ["CT1"], "20211020 1111")],
            )
        ],
    ),
    (
        "fhir-converter/ORM-O01-03.hl7",
        [
            (
                ("placer:1101^GHHPlacer", "filler:1201^GHHFiller"),
                "scheduled",
                [(None, "1101", "1101", "CT", ["CT1"], "20211020 1111")],
            ),
            (
                ("placer:2203^GHHPlacer", "filler:2301^GHHFiller"),
                "scheduled",
                [(None, "2203", "2203", "MR", ["MR1"], "20211020 1111")],
            ),
        ],
    ),
]

REFUSED = [
    # file, place, what is wrong, how to mend it, what else is wrong in it
    (
        "dcm4che/OMI_O23-ImagingOrder.hl7",
        "IPC-4.1",
        "ScheduledProcedureStepID is 19 characters long and DICOM allows 16 (SH)",
        "send OBR-20 or IPC-4 with at most 16 characters",
        "IPC-9.1, IPC-7.1, IPC-8.1, OBR-34, OBR-16, PV1-8",
    ),
    (
        "dcm4che/ORM_O01-GeneralOrder.hl7",
        "OBR-20.1",
        "ScheduledProcedureStepID is 19 characters long and DICOM allows 16 (SH)",
        "send OBR-20 or IPC-4 with at most 16 characters",
        "OBR-34, OBR-16, PV1-8",
    ),
    ("fhir-converter/OMG-O19-01.hl7", "ORC(1)-2", "the order has no number", "send ORC-2 or OBR-2", ""),
]


def test_every_published_order_is_in_one_of_the_tables() -> None:
    folder = require_data("hl7")
    orders = {
        f"{one.parent.name}/{one.name}" for one in folder.rglob("*.hl7") if one.name.startswith(("ORM", "OMI", "OMG"))
    }

    assert orders == {row[0] for row in ACCEPTED} | {row[0] for row in REFUSED}


@pytest.mark.parametrize(("file", "wanted"), ACCEPTED, ids=[row[0] for row in ACCEPTED])
def test_a_published_order_comes_onto_the_worklist(mapping: CompiledMapping, file: str, wanted: Any) -> None:
    raw = require_data("hl7", file).read_bytes()

    found = document(mapping, raw)

    seen = []
    for update in found.updates:
        steps = []
        for one in update.steps:
            start = f"{one.step['ScheduledProcedureStepStartDate']} {one.step['ScheduledProcedureStepStartTime']}"
            ids = (one.attributes.get("AccessionNumber"), one.attributes["RequestedProcedureID"])
            station = one.step["ScheduledStationAETitle"]
            steps.append((*ids, one.step["ScheduledProcedureStepID"], one.step["Modality"], station, start))
        seen.append((update.order, str(update.status), steps))
    assert seen == wanted


@pytest.mark.parametrize(("file", "at", "what", "fix", "more"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_published_order_is_refused_with_place_and_fix(
    mapping: CompiledMapping, file: str, at: str, what: str, fix: str, more: str
) -> None:
    raw = require_data("hl7", file).read_bytes()

    with pytest.raises(MappingError) as caught:
        mapping.render(parse(raw), SITE)

    assert caught.value.at == at
    assert caught.value.what == (f"{what} (more faults at {more})" if more else what)
    assert caught.value.fix == fix


def test_a_message_that_says_omi_but_has_no_ipc_is_read_by_what_it_has(mapping: CompiledMapping) -> None:
    raw = require_data("hl7", "dcm4che/ORM_O01-GeneralOrder.hl7").read_bytes()
    raw = raw.replace(b"ScheduledProcStepID", b"SPS1")
    long = "^FN^GN"
    raw = edited(raw, OBR_34=long, OBR_16=long, PV1_8=long)
    assert parse(raw).header.type == "OMI^O23"

    (update,) = document(mapping, raw).updates

    step = update.steps[0]
    assert step.attributes["AccessionNumber"] == "AccessionNumber"
    assert step.attributes["StudyInstanceUID"] == "1.2.392.200036.9125.0.198811291108.7"
    assert step.attributes["PregnancyStatus"] == "3"
    assert step.attributes["PatientWeight"] == "65"
    assert step.attributes["PatientSize"] == "1.65"
    assert step.attributes["AdmissionID"] == "AdmissionIDFromVisitNo"
    assert step.step["ScheduledStationAETitle"] == ["CT1"]
    assert step.step["ScheduledProcedureStepStartDate"] == "20000816"


STATUS = [
    ("NW", "SC", "scheduled", False),
    ("NW", "IP", "scheduled", False),
    ("NW", "", "scheduled", False),
    ("XO", "SC", "scheduled", True),
    ("XO", "IP", "scheduled", True),
    ("XO", "", "scheduled", True),
    ("CA", "CA", "cancelled", True),
    ("CA", "", "cancelled", True),
    ("CA", "SC", "cancelled", True),
    ("OC", "", "cancelled", True),
    ("CR", "", "cancelled", True),
    ("DC", "CA", "discontinued", True),
    ("DC", "", "discontinued", True),
    ("DR", "", "discontinued", True),
    ("XO", "CM", "completed", True),
    ("SC", "CM", "completed", True),
    ("SC", "IP", "started", True),
    ("SC", "CA", "cancelled", True),
    ("SC", "DC", "discontinued", True),
]


@pytest.mark.parametrize(("control", "status", "action", "known"), STATUS)
def test_order_control_and_status_say_what_happens(
    mapping: CompiledMapping, new_order: bytes, control: str, status: str, action: str, known: bool
) -> None:
    (update,) = document(mapping, edited(new_order, ORC_1=control, ORC_5=status)).updates

    assert (str(update.status), update.known_only) == (action, known)
    assert len(update.steps) == 1
    assert update.if_unknown is (UnknownOrder.CREATE if action == "scheduled" else UnknownOrder.IGNORE)


@pytest.mark.parametrize("control", ["OK", "SN", "NA", "UC", "UD", "UX", "SR", "SS", "RE"])
def test_an_answer_or_a_request_changes_nothing(mapping: CompiledMapping, new_order: bytes, control: str) -> None:
    rendered = mapping.render(parse(edited(new_order, ORC_1=control, ORC_5="")), SITE)

    assert WorklistDocument.from_json(rendered.data).updates == ()
    assert "changes nothing" in rendered.notes[0]


def test_an_order_without_order_control_is_refused(mapping: CompiledMapping, new_order: bytes) -> None:
    with pytest.raises(MappingError) as caught:
        mapping.render(parse(edited(new_order, ORC_1="", ORC_5="")), SITE)

    assert (caught.value.at, caught.value.kind) == ("ORC-1", "required")


@pytest.mark.parametrize("fields", [{"MSH_7": "20260106090000", "MSH_10": "OTHER"}, {"ORC_1": "XO", "ORC_9": ""}])
def test_an_order_sent_again_or_changed_keeps_its_ids_and_uid(
    mapping: CompiledMapping, new_order: bytes, fields: dict[str, str]
) -> None:
    bare = edited(new_order, ZDS_1="", OBR_19="", OBR_20="")

    first, again = (document(mapping, raw).updates[0] for raw in (bare, edited(bare, **fields)))

    for key in ("StudyInstanceUID", "RequestedProcedureID", "AccessionNumber"):
        assert first.steps[0].attributes[key] == again.steps[0].attributes[key]
    assert first.steps[0].step["ScheduledProcedureStepID"] == again.steps[0].step["ScheduledProcedureStepID"]
    assert first.order == again.order


def test_procedures_of_one_order_get_study_uids_of_their_own(mapping: CompiledMapping, new_order: bytes) -> None:
    bare = edited(new_order, ZDS_1="")

    uids = {
        document(mapping, edited(bare, OBR_19=number)).updates[0].steps[0].attributes["StudyInstanceUID"]
        for number in ("RP1", "RP2")
    }

    assert len(uids) == 2


def test_the_same_message_gives_the_same_bytes(mapping: CompiledMapping, new_order: bytes) -> None:
    assert mapping.render(parse(new_order), SITE) == mapping.render(parse(new_order), SITE)


def test_ids_are_derived_from_what_fits(mapping: CompiledMapping, new_order: bytes) -> None:
    raw = edited(new_order, OBR_18="", OBR_19="", OBR_20="", ORC_2_1="PLACER-NUMBER-TOO-LONG-FOR-SH")

    (update,) = document(mapping, raw).updates

    step = update.steps[0]
    assert step.attributes["RequestedProcedureID"] == step.step["ScheduledProcedureStepID"] == "FL1001"
    assert step.attributes["PlacerOrderNumberImagingServiceRequest"] == "PLACER-NUMBER-TOO-LONG-FOR-SH"


def test_an_order_of_which_nothing_fits_is_refused(mapping: CompiledMapping, new_order: bytes) -> None:
    long = "NUMBER-TOO-LONG-FOR-SH"
    raw = edited(new_order, OBR_18="", OBR_19="", OBR_20="", ORC_2_1=long, ORC_3_1=long)

    with pytest.raises(MappingError) as caught:
        mapping.render(parse(raw), SITE)

    assert caught.value.what.startswith("ScheduledProcedureStepID is missing, and every worklist item needs it")
    assert caught.value.fix == "send OBR-20 or IPC-4 with at most 16 characters"


@pytest.mark.parametrize(
    ("field", "keyword"),
    [
        ("PID_3", "PatientID"),
        ("PID_5", "PatientName"),
        ("OBR_24", "Modality"),
    ],
)
def test_a_worklist_item_is_never_without_what_every_station_needs(
    mapping: CompiledMapping, new_order: bytes, field: str, keyword: str
) -> None:
    with pytest.raises(MappingError) as caught:
        mapping.render(parse(edited(new_order, **{field: ""})), SITE)

    assert f"{keyword} is missing" in caught.value.what
    assert caught.value.at == field.replace("_", "-")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"OBR_18": "A" * 17}, "OBR-18.1"),
        ({"OBR_19": "R" * 17}, "OBR-19.1"),
        ({"OBR_20": "S" * 17}, "OBR-20.1"),
        ({"ZDS_1_1": "1.02.3"}, "ZDS-1.1"),
        ({"PID_3_1": "1" * 65}, "PID-3"),
        ({"PID_5_1": "T" * 65}, "PID-5"),
        ({"OBR_4_2": "P" * 65}, "OBR-4"),
        ({"ORC_2_1": "P" * 65}, "ORC-2.1"),
        ({"OBR_18": "A\\1"}, "OBR-18.1"),
        ({"OBR_19": "R\x07"}, "OBR-19.1"),
        ({"ORC_7_4": "soon"}, "ORC-7.4"),
    ],
)
def test_nothing_is_cut_or_cleaned_to_fit(
    mapping: CompiledMapping, new_order: bytes, fields: dict[str, str], place: str
) -> None:
    with pytest.raises(MappingError) as caught:
        mapping.render(parse(edited(new_order, **fields)), SITE)

    assert caught.value.at == place
    assert caught.value.fix
    assert next(iter(fields.values())) not in str(caught.value)


def test_steps_of_one_order_that_cannot_be_told_apart_are_refused(mapping: CompiledMapping) -> None:
    raw = (MAPPINGS / "samples" / "orm_two_orders.hl7").read_bytes()
    editor = parse(raw).edit()
    editor.set("OBR(2)-20", "SPS401")
    editor.set("OBR(2)-24", "CT")

    with pytest.raises(MappingError) as caught:
        mapping.render(parse(editor.encode()), SITE)

    assert (caught.value.at, caught.value.kind) == ("OBR(2)-20.1", "duplicate_key")


def test_steps_without_ids_are_numbered(mapping: CompiledMapping) -> None:
    raw = (MAPPINGS / "samples" / "omi_new_mr.hl7").read_bytes()
    editor = parse(raw).edit()
    editor.delete("IPC(*)-4")

    (update,) = document(mapping, editor.encode()).updates

    assert [one.step["ScheduledProcedureStepID"] for one in update.steps] == ["A200", "A200-2"]


def test_a_group_that_cancels_what_another_schedules_needs_a_step_id(mapping: CompiledMapping) -> None:
    raw = (MAPPINGS / "samples" / "orm_two_orders.hl7").read_bytes()
    editor = parse(raw).edit()
    editor.set("ORC(2)-1", "CA")
    editor.set("ORC(2)-5", "CA")

    both = document(mapping, editor.encode())
    editor.delete("OBR(2)-20")
    with pytest.raises(MappingError) as caught:
        mapping.render(parse(editor.encode()), SITE)

    assert [(str(one.status), len(one.steps)) for one in both.updates] == [
        ("scheduled", 1),
        ("cancelled", 1),
        ("scheduled", 1),
    ]
    assert caught.value.at == "OBR(2)-20.1"


def test_several_requests_below_one_order_control_are_its_steps(mapping: CompiledMapping, new_order: bytes) -> None:
    lines = new_order.split(b"\r")
    at = next(number for number, line in enumerate(lines) if line.startswith(b"OBR"))
    second = lines[at].replace(b"SPS100", b"SPS101").replace(b"OBR|1|", b"OBR|2|")
    raw = b"\r".join([*lines[: at + 1], second, *lines[at + 1 :]])

    (update,) = document(mapping, raw).updates

    first, other = update.steps
    assert (first.step["ScheduledProcedureStepID"], other.step["ScheduledProcedureStepID"]) == ("SPS100", "SPS101")
    assert other.step["ScheduledProcedureStepStartTime"] == "093000"
    assert first.attributes["StudyInstanceUID"] == other.attributes["StudyInstanceUID"]
    assert other.attributes["RequestingPhysician"] == "REQUESTER^TEST^^DR"


def test_one_zds_at_the_end_is_about_every_order_of_the_message(mapping: CompiledMapping) -> None:
    raw = (MAPPINGS / "samples" / "orm_two_orders.hl7").read_bytes() + b"ZDS|1.2.3.4^RIS^Application^DICOM\r"

    found = document(mapping, raw)

    uids = {step.attributes["StudyInstanceUID"] for update in found.updates for step in update.steps}
    assert uids == {"1.2.3.4"}


def test_a_cancellation_names_steps_only_by_what_the_message_itself_says(
    mapping: CompiledMapping, new_order: bytes
) -> None:
    bare = edited(new_order, ORC_1="CA", ORC_5="CA", ZDS_1="")

    (named,) = document(mapping, bare).updates
    (whole,) = document(mapping, edited(bare, OBR_20="")).updates

    assert named.steps[0].attributes == {SPS: [{"ScheduledProcedureStepID": "SPS100"}]}
    assert whole.steps == ()
    assert named.status is whole.status is StepStatus.CANCELLED


def test_orders_that_share_an_accession_number_stay_two_orders(mapping: CompiledMapping) -> None:
    raw = (MAPPINGS / "samples" / "orm_two_orders.hl7").read_bytes()
    editor = parse(raw).edit()
    editor.set("OBR(3)-18", "A400")

    found = document(mapping, editor.encode())

    assert len(found.updates) == 2


def test_the_station_table_knows_site_modality_room_and_procedure(new_order: bytes) -> None:
    files = shipped()
    files["tables/stations.csv"] = (
        "site,modality,room,procedure,ae_titles,station_names\n"
        "demo-hospital,CT,*,*,CT1|CT2,CT-1\n"
        "demo-hospital,CT,CT ROOM,*,CT3,CT-3\n"
        "demo-hospital,CT,*,CTHEART,CT4,CT-4\n"
        "other,*,*,*,OTHER,\n"
    )
    mapping = compile_all(files).mappings["order-to-worklist"]

    def stations(raw: bytes, **site: Any) -> Any:
        return document(mapping, raw, **site).updates[0].steps[0].step["ScheduledStationAETitle"]

    assert stations(new_order) == ["CT3"]
    assert stations(edited(new_order, PV1_3="")) == ["CT1", "CT2"]
    assert stations(edited(new_order, PV1_3="", OBR_4="CTHEART^CT of the heart^LOCAL")) == ["CT4"]
    assert stations(new_order, name="other") == ["OTHER"]


def test_a_rendered_document_is_read_back_as_it_was(mapping: CompiledMapping, new_order: bytes) -> None:
    rendered = mapping.render(parse(new_order), SITE)

    assert WorklistDocument.from_json(rendered.data).to_json() == rendered.data
    assert json.loads(rendered.data)["updates"][0]["status"] == "scheduled"
    assert rendered.control_id == "ORM0001"


def test_the_samples_are_synthetic_and_keep_their_line_ends() -> None:
    attributes = Path(REPOSITORY / ".gitattributes").read_text()

    assert "*.hl7 -text" in attributes
    for one in (MAPPINGS / "samples").glob("o[rm][mig]_*.hl7"):
        raw = one.read_bytes()
        assert raw.endswith(b"\r"), one.name
        assert b"\n" not in raw, one.name


FIELDS = [
    "MSH-7", "PID-3", "PID-3.1", "PID-3.4", "PID-5", "PID-5.1", "PID-7", "PID-8", "PV1-3.2", "PV1-8", "PV1-15",
    "PV1-19", "AL1-3", "ORC-1", "ORC-2", "ORC-3.1", "ORC-5", "ORC-7.4", "ORC-9", "ORC-18", "OBR-4", "OBR-4.1",
    "OBR-12", "OBR-13", "OBR-16", "OBR-18", "OBR-19", "OBR-20", "OBR-24", "OBR-30", "OBR-31", "OBR-34.1",
    "OBX(1)-5", "OBX(2)-6", "ZDS-1",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["20260106", "20260230", "00010101000000+1400", "99991231235959-1400"]),
    st.sampled_from(["9" * 90, "1E99999", "²", "٢٠٢٦", '""']),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(FIELDS), TEXTS, min_size=1, max_size=4))
def test_any_content_is_mapped_to_valid_attributes_or_refused_without_showing_it(
    mapping: CompiledMapping, new_order: bytes, changes: dict[str, str]
) -> None:
    editor = parse(new_order).edit()
    for path, text in changes.items():
        editor.set(path, text)
    message = parse(editor.encode())

    try:
        rendered = mapping.render(message, SITE)
    except MappingError as error:
        assert error.at
        assert error.fix
        shown = error.what + error.fix
        personal = [text for path, text in changes.items() if path.startswith("PID") and len(text) > 24]
        assert not any(text in shown for text in personal)
    else:
        for update in WorklistDocument.from_json(rendered.data).updates:
            assert update.order
            for step in update.steps:
                assert problems(step.attributes) == []
