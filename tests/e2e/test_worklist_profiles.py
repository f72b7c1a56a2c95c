"""What one scanner sees, and in which form: its profile, asked by DCMTK's findscu."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import ValidationError

from bridge.codecs.dicom_text import encode_text
from bridge.model import StepStatus, WorklistUpdate
from bridge.ports import channel_type
from bridge.settings import load
from tests.rigs.worklist import scheduled
from tests.rigs.worklist_site import DATE, STATION, STEP, Site

NAMES = {
    "latin-1": "MÜLLER^ÉLODIE",
    "latin-9": "ŒUVRARD^ŽOFIA",
    "japanese": "YAMADA^TAROU=山田^太郎=やまだ^たろう",
    "cyrillic": "ЛЮКСЕМБУРГ^АННА",
    "greek": "ΔΙΟΝΥΣΙΟΣ^ΝΙΚΟΣ",
}
CAN_READ = {
    "ISO_IR 100": {"latin-1"},
    "ISO_IR 203": {"latin-1", "latin-9"},
    "ISO_IR 192": set(NAMES),
    r"\ISO 2022 IR 87": {"japanese", "cyrillic", "greek"},
    "ISO_IR 144": {"cyrillic"},
    "ISO_IR 126": {"greek"},
}
"""Which of them each character set can hold. JIS X 0208 has the Greek and Cyrillic letters too."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()
    made.database.close()


def raw_name(item: Any) -> bytes:
    return bytes(item.get_item("PatientName").value).rstrip(b" ")


@pytest.mark.parametrize("term", CAN_READ)
def test_a_name_reaches_who_can_read_it_unharmed_and_nobody_else(site: Site, term: str) -> None:
    # Given patients of all the world, and a scanner that reads one character set
    site.start(callers={"CT1": {"charset": term}})
    for number, (key, name) in enumerate(NAMES.items()):
        site.apply(scheduled(number, PatientName=name, AccessionNumber=key))

    # When it asks
    with structlog.testing.capture_logs() as logged:
        found = {item.AccessionNumber: item for item in site.find("0010,0010", "0008,0050").items}

    # Then names that fit come to the byte as the standard writes them, and the others do not come, and are reported
    assert set(found) == CAN_READ[term]
    for key, item in found.items():
        assert raw_name(item) == encode_text(NAMES[key], term, name=True)
        declared = item["SpecificCharacterSet"]
        assert "\\".join(declared.value if declared.VM > 1 else [declared.value]) == term
    withheld = [entry for entry in logged if entry["event"] == "worklist_item_withheld"]
    assert len(withheld) == len(NAMES) - len(found) and all(entry["attribute"] == "PatientName" for entry in withheld)


def test_transliteration_spells_what_latin_letters_can_and_still_refuses_the_rest(site: Site) -> None:
    site.start(callers={"CT1": {"charset": "ISO_IR 6", "unfit": "transliterate"}})
    site.apply(*(scheduled(number, PatientName=name) for number, name in enumerate(NAMES.values())))

    assert site.find("0010,0010").names == ["MULLER^ELODIE", "OEUVRARD^ZOFIA", "YAMADA^TAROU"]


def test_a_system_brings_the_profile_of_its_adapter_and_says_where_it_differs(site: Site, tmp_path: Path) -> None:
    # Given a scanner in the site file, with a shipped profile and one line of its own
    file = tmp_path / "bridge.yaml"
    file.write_text(
        "site: {name: test, timezone: UTC}\n"
        "systems: {ct1: {adapter: modality-ct, ae_title: CT1, worklist: {charset: ISO_IR 192}}}\n"
        'channels: {worklist: {type: dicom-worklist, listen: "127.0.0.1:0"}}\n'
        f"routes: {{}}\nadapters: {Path('adapters').resolve()}\n"
    )
    settings = load(file).config
    site.start(systems={name: system.values for name, system in settings.systems.items()})

    # When it and another one ask
    today, step = date.today(), {"ScheduledProcedureStepStartDate": date.today().strftime("%Y%m%d")}
    late = {"ScheduledProcedureStepStartDate": (today + timedelta(30)).strftime("%Y%m%d")}
    site.apply(scheduled(1, step), scheduled(2, {**step, "Modality": "MR"}), scheduled(3, late))

    # Then it sees its own kind of steps of these days, in its own character set
    assert site.find("0010,0010").names == ["TEST00001^ÉLODIE"]
    assert len(site.find("0010,0010", caller="OTHER").names) == 3


def test_what_is_still_open_of_the_days_before_is_carried_over_to_today(site: Site) -> None:
    # Given steps of today, of two days before, of three, of tomorrow, and one of yesterday that is done
    site.start(callers={"DX9": {"carry_over": 2}})
    for number, days in enumerate((0, -2, -3, 1, -1)):
        day = (date.today() + timedelta(days)).strftime("%Y%m%d")
        site.apply(scheduled(number, {"ScheduledProcedureStepStartDate": day}))
    site.apply(WorklistUpdate(("filler:4^RIS",), StepStatus.COMPLETED))
    today = f"{DATE}={date.today():%Y%m%d}"

    # Then who carries over gets the open ones of two days with today's, and with no other day's
    def asked(caller: str, *keys: str) -> set[str]:
        return {item.AccessionNumber for item in site.find("0008,0050", *keys, caller=caller).items}

    assert asked("DX9", today) == {"A0", "A1"}
    assert asked("CT1", today) == {"A0"}
    assert asked("DX9", f"{DATE}={date.today() + timedelta(1):%Y%m%d}-") == {"A3"}
    _, missing = site.channel.shown("DX9", f"{date.today():%Y%m%d}")
    assert {item.attributes["AccessionNumber"]: why for item, why in missing} == {
        **dict.fromkeys(("A0", "A1"), "other station"),
        "A4": "status completed",
    }


@pytest.mark.parametrize("policy", ["empty", "refuse"])
def test_a_station_that_was_renamed_finds_its_steps_under_its_new_title_alone(site: Site, policy: str) -> None:
    # Given a scanner that has another title since some time, and steps that were ordered before and after that
    moved = {"ae_title": "CT1", "transfers": [{"at": "2020-01-01T06:00:00", "ae_title": "CT1B", "site": ""}]}
    site.start(systems={"ct1": moved}, not_in_force=policy)
    site.apply(scheduled(1), scheduled(2, {"ScheduledStationAETitle": "CT1B"}))

    # Then it gets each once, under the title that it asked with, also by a wildcard that only the new title matches
    for asked in ("CT1B", "*B"):
        found = site.find("0008,0050", f"{STATION}={asked}", caller="CT1B").items
        assert [item.AccessionNumber for item in found] == ["A1", "A2"]
        assert {item.ScheduledProcedureStepSequence[0].ScheduledStationAETitle for item in found} == {"CT1B"}

    # And nothing under the former title, whoever asks; a scanner that still calls by it gets nothing at all
    assert site.find("0008,0050", f"{STATION}=CT1", caller="CONSOLE").items == []
    with structlog.testing.capture_logs() as logged:
        former = site.find("0008,0050", caller="CT1")
    assert former.items == [] and (former.code == 0) is (policy == "empty")
    events = {"empty": "worklist_title_not_in_force", "refuse": "association_rejected"}
    assert [entry["calling"] for entry in logged if entry["event"] == events[policy]] == ["CT1"]


@pytest.mark.parametrize("name", ["ct", "mr", "dx", "mg", "us", "xa", "nm"])
def test_every_shipped_profile_can_be_used(name: str, tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text(
        "site: {name: test, timezone: UTC}\n"
        f"systems: {{one: {{adapter: modality-{name}, ae_title: ONE}}}}\n"
        'channels: {worklist: {type: dicom-worklist, listen: "127.0.0.1:0"}}\n'
        f"routes: {{}}\nadapters: {Path('adapters').resolve()}\n"
    )
    found = load(file)

    assert [str(finding) for finding in found.findings if finding.severity == "error"] == []
    assert found.config.systems["one"].values["worklist"]["modalities"]


def test_a_mistake_in_a_systems_profile_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text(
        "site: {name: test, timezone: UTC}\n"
        "systems:\n  ct1:\n    ae_title: CT1\n    worklist:\n      charst: ISO_IR 100\n"
        'channels: {worklist: {type: dicom-worklist, listen: "127.0.0.1:0"}}\nroutes: {}\n'
    )
    (finding,) = [one for one in load(file).findings if one.severity == "error"]

    assert (finding.line, "charset" in finding.fix) == (6, True)


def test_sites_modalities_and_days_narrow_what_is_seen(site: Site) -> None:
    days = [(date.today() + timedelta(shift)).strftime("%Y%m%d") for shift in (-2, -1, 0, 1, 2)]
    site.start(
        callers={"CT1": {"days_back": 1, "days_ahead": 1}, "CT2": {"sites": ["NORTH"]}, "CT3": {"modalities": ["MR"]}}
    )
    site.apply(*(scheduled(number, {"ScheduledProcedureStepStartDate": day}) for number, day in enumerate(days)))
    site.apply(scheduled(7, InstitutionName="NORTH"), scheduled(8, {"Modality": "MR"}, InstitutionName="SOUTH"))

    assert [item.PatientID for item in site.find("0010,0020").items] == ["P1", "P2", "P3"]
    assert [item.PatientID for item in site.find("0010,0020", caller="CT2").items] == ["P7"]
    assert [item.PatientID for item in site.find("0010,0020", caller="CT3").items] == ["P8"]


def test_attributes_are_left_out_shortened_and_added_as_the_profile_says(site: Site) -> None:
    profile = {
        "leave_out": ["PatientComments", "ScheduledProcedureStepSequence.PreMedication"],
        "shorten": {"PatientName": 14, "ScheduledProcedureStepSequence.ScheduledProcedureStepDescription": 5},
        "add": {"InstitutionName": "DEMO", "ScheduledProcedureStepSequence.ScheduledStationName": "ROOM 1"},
    }
    site.start(callers={"CT1": profile})
    site.apply(scheduled(1, {"PreMedication": "NONE"}, PatientName="LONGNAME^ANNA^BERTA^MME", PatientComments="X"))
    keys = ("0010,0010", "0010,4000", "0008,0080", f"{STEP}0040,0007", f"{STEP}0040,0012", f"{STEP}0040,0010")

    with structlog.testing.capture_logs() as logged:
        (short,), (whole,) = site.find(*keys).items, site.find(*keys, caller="CT2").items

    step = short.ScheduledProcedureStepSequence[0]
    assert (str(short.PatientName), short.InstitutionName) == ("LONGNAME^ANNA", "DEMO")
    assert (step.ScheduledProcedureStepDescription, step.ScheduledStationName) == ("CT th", "ROOM 1")
    assert "PatientComments" not in short and "PreMedication" not in step
    assert str(whole.PatientName) == "LONGNAME^ANNA^BERTA^MME" and whole.PatientComments == "X"
    (said,) = [entry for entry in logged if entry["event"] == "worklist_item_shortened"]
    assert said["attributes"] == list(profile["shorten"])


@pytest.mark.parametrize(
    "view",
    [
        {"leave_out": ["PatientID"]},
        {"leave_out": ["NoSuchThing"]},
        {"shorten": {"AccessionNumber": 8}},
        {"shorten": {"PatientBirthDate": 4}},
        {"add": {"Modality": "ct scanner, large"}},
        {"charset": "LATIN"},
        {"statuses": []},
    ],
    ids=str,
)
def test_a_profile_that_would_break_the_list_is_refused(view: dict[str, Any]) -> None:
    settings = channel_type("dicom-worklist").settings
    with pytest.raises(ValidationError):
        settings.model_validate({"type": "dicom-worklist", "callers": {"CT1": view}})


def test_what_was_prepared_for_one_query_never_answers_another(site: Site) -> None:
    site.start(callers={"CT2": {"charset": "ISO_IR 100"}})
    site.apply(scheduled(1))
    name, step = "0010,0010", f"{STEP}0040,0020"
    first = site.find(name, step).items[0]
    latin = site.find(name, step, caller="CT2").items[0]
    site.apply(scheduled(1, PatientName="OTHER^NAME"))
    again, other_keys = site.find(name, step).items[0], site.find(name, f"{STATION}").items[0]

    assert raw_name(first) == "TEST00001^ÉLODIE".encode() and raw_name(latin) == "TEST00001^ÉLODIE".encode("latin-1")
    assert raw_name(again) == b"OTHER^NAME" == raw_name(other_keys)
    assert other_keys.ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "CT1"
