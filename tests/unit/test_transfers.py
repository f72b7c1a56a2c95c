"""Stations that change their AE title or site at a planned time: their steps follow them, and are shown once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.codecs.dicom_file import from_file
from bridge.codecs.dicom_match import texts
from bridge.codecs.dicom_query import EVERYTHING
from bridge.codecs.dicom_stations import NOBODY_MOVES, Timetable
from bridge.ports import Services, channel_type
from bridge.settings import System
from bridge.state import MemoryState
from bridge.store.database import Database
from bridge.store.worklist import Worklist
from bridge.store.worklist_tables import TABLES, metadata
from channels.worklist_export import Export, ExportSettings
from tests.rigs.worklist import query, scheduled
from tests.unit.test_settings import CHANNELS, SITE, findings, read

BEFORE, AFTER = datetime(2026, 12, 1, 5, 59, 59), datetime(2026, 12, 1, 6, 0)
MOVES = {"ae_title": "CT1", "transfers": [{"at": "2026-12-01T06:00", "ae_title": "CT7", "site": "South"}]}


@pytest.fixture
def worklist(store_url: str) -> Iterator[Worklist]:
    """A step for CT1, one for CT7, one for either and one for CT2."""
    database = Database(store_url)
    metadata.create_all(database.writer, tables=TABLES)
    made = Worklist(database.reader)
    with database.writer.begin() as tx:
        for number, stations in enumerate((["CT1"], ["CT7"], ["CT1", "CT7"], ["CT2"])):
            step = {"ScheduledStationAETitle": stations}
            made.apply(tx, scheduled(number, step=step, InstitutionName="North"), number + 1)
    yield made
    database.close()


def channel(worklist: Worklist, system: dict[str, Any] = MOVES) -> Any:
    kind = channel_type("dicom-worklist")
    systems = {"ct": System.model_validate(system).values, "other": System(ae_title="CT2").values}
    settings = kind.settings.model_validate({"type": kind.name})
    return kind.build(settings, Services("worklist", site=None, worklist=worklist, systems=systems))


def seen(end: Any, caller: str, moment: datetime) -> dict[str, str]:
    """Accession number -> the station it is shown with."""
    items, _ = end.shown(caller, "", moment)
    return {
        item.attributes["AccessionNumber"]: "|".join(
            texts(item.attributes["ScheduledProcedureStepSequence"][0]["ScheduledStationAETitle"])
        )
        for item in items
    }


def test_steps_of_a_station_are_shown_under_the_title_in_force_and_under_no_other(worklist: Worklist) -> None:
    end = channel(worklist)

    # Until the moment the old title has all of them, whichever title they were ordered for, and then the new one has
    assert seen(end, "CT1", BEFORE) == {"A0": "CT1", "A1": "CT1", "A2": "CT1"}
    assert seen(end, "CT7", BEFORE) == {}
    assert seen(end, "CT7", AFTER) == {"A0": "CT7", "A1": "CT7", "A2": "CT7"}
    assert seen(end, "CT1", AFTER) == {}

    # And another station notices nothing
    assert seen(end, "CT2", BEFORE) == seen(end, "CT2", AFTER) == {"A3": "CT2"}


def test_it_says_why_a_title_gets_nothing(worklist: Worklist) -> None:
    _, missing = channel(worklist).shown("CT1", "", AFTER)

    assert {why for _, why in missing} == {"title not in force (CT7 is)"} and len(missing) == 4


def test_a_station_that_moved_sees_its_steps_as_of_its_new_site(worklist: Worklist) -> None:
    # Given a scanner that sees its own site only
    end = channel(worklist, {**MOVES, "worklist": {"sites": ["North"]}})

    # Then its steps are of the new one from then on
    before, _ = end.shown("CT1", "", BEFORE)
    after, _ = end.shown("CT7", "", AFTER)
    assert [item.attributes["InstitutionName"] for item in (*before, *after)] == ["North"] * 3 + ["South"] * 3


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("CT7", {"A0", "A1", "A2"}),
        ("CT1", set()),
        (["CT1", "CT2"], {"A3"}),
        (["CT7", "CT2"], {"A0", "A1", "A2", "A3"}),
        ("CT*", {"A0", "A1", "A2", "A3"}),
        ("*1", set()),
        ("?T7", {"A0", "A1", "A2"}),
        ("", {"A0", "A1", "A2", "A3"}),
    ],
)
def test_whoever_asks_for_stations_asks_for_those_that_are_known_by_that_title_now(
    worklist: Worklist, asked: Any, found: set[str]
) -> None:
    stations = Timetable([System.model_validate(MOVES).values]).at(AFTER)
    wanted = stations.asked(query(step={"ScheduledStationAETitle": asked}, AccessionNumber=""))

    items = list(worklist.find(wanted, seen=stations.shown)) if wanted else []

    assert {item.attributes["AccessionNumber"] for item in items} == found and len(items) == len(found)


def test_a_title_in_a_profile_means_its_station_at_any_time(worklist: Worklist) -> None:
    end = channel(worklist, {**MOVES, "worklist": {"stations": ["CT1"]}})

    assert set(seen(end, "CT1", BEFORE)) == set(seen(end, "CT7", AFTER)) == {"A0", "A1", "A2"}


def test_a_station_may_return_to_its_former_title(worklist: Worklist) -> None:
    back = {"at": "2026-12-24T06:00", "ae_title": "CT1", "site": "North"}
    end = channel(worklist, {**MOVES, "transfers": [*MOVES["transfers"], back]})

    assert set(seen(end, "CT1", datetime(2026, 12, 25))) == {"A0", "A1", "A2"}
    assert seen(end, "CT7", datetime(2026, 12, 25)) == {}


def test_a_site_where_nobody_moves_asks_as_it_did() -> None:
    stations = Timetable([System(ae_title="CT1").values]).at(AFTER)

    assert stations.asked(EVERYTHING) == EVERYTHING
    assert stations.turned_away("CT1") == ""


SYSTEMS = """systems:
  a:
    ae_title: CT1
    transfers:
      - {at: 2026-12-01T06:00, ae_title: CT7}
      - %s
  b:
    ae_title: CT2
    transfers: [{at: 2026-12-01T06:00, ae_title: %s}]
"""


@pytest.mark.parametrize(
    ("second", "other", "told"),
    [
        ("{at: 2026-12-02T06:00, ae_title: CT1}", "CT8", []),
        ("{at: 2026-12-01T06:00, ae_title: CT1}", "CT8", ["is not after the transfer above"]),
        ("{at: 2026-12-02T06:00, ae_title: CT7}", "CT8", ["changes nothing"]),
        ("{at: 2026-12-02T06:00}", "CT8", ["write what changes"]),
        ("{at: tomorrow, ae_title: CT9}", "CT8", ["transfers.1.at"]),
        (
            "{at: 2026-12-02T06:00, ae_title: CT2}",
            "CT8",
            ["`CT2` is a title of `b` too", "`CT2` is a title of `a` too"],
        ),
        (
            "{at: 2026-12-02T06:00, ae_title: CT9}",
            "CT9",
            ["`CT9` is a title of `b` too", "`CT9` is a title of `a` too"],
        ),
    ],
)
def test_what_cannot_be_is_told_at_its_place(second: str, other: str, told: list[str]) -> None:
    found = findings(SYSTEMS % (second, other) + SITE + CHANNELS)

    assert len(found) == len(told)
    assert all(part in finding for part, finding in zip(told, found, strict=True))
    assert all(finding.split(":")[0] in ("2", "6", "8", "9", "10") for finding in found)


def test_a_system_without_a_title_has_nothing_to_transfer() -> None:
    said = "systems: {a: {transfers: [{at: 2026-12-01T06:00, ae_title: CT7}]}}\n"

    assert "add the `ae_title:`" in "".join(findings(said + SITE + CHANNELS))
    assert read(SITE + CHANNELS).findings == ()


def test_a_station_that_moved_in_the_hour_that_comes_twice_does_not_move_back() -> None:
    paris = ZoneInfo("Europe/Paris")
    table = Timetable([{"ae_title": "CT1", "transfers": [{"at": "2026-10-25T02:30", "ae_title": "CT7"}]}])
    moments = [
        datetime(2026, 10, 25, hour, minute, fold=fold, tzinfo=paris)
        for hour, minute, fold in ((2, 29, 0), (2, 30, 0), (2, 0, 1), (2, 29, 1), (2, 30, 1), (3, 0, 0))
    ]

    assert [table.at(moment).turned_away("CT1") for moment in moments] == ["", *["CT7"] * 5]


def test_a_transfer_in_the_hour_that_never_comes_is_in_force_after_it() -> None:
    paris = ZoneInfo("Europe/Paris")
    times = [{"at": "2026-03-29T02:30", "ae_title": "CT7"}, {"at": "2026-03-29T03:10", "ae_title": "CT8"}]
    table = Timetable([{"ae_title": "CT1", "transfers": times}])
    moments = [datetime(2026, 3, 29, hour, minute, tzinfo=paris) for hour, minute in ((1, 59), (3, 10), (3, 40))]

    assert [table.at(moment).turned_away("CT1") for moment in moments] == ["", "CT8", "CT8"]


def test_exported_files_follow_a_station_that_moves(worklist: Worklist, tmp_path: Path) -> None:
    moments = iter([BEFORE, BEFORE, AFTER, AFTER])
    table = Timetable([System.model_validate(MOVES).values])
    settings = ExportSettings(folder=tmp_path)
    export = Export(settings, "worklist", worklist, MemoryState(), lambda: table.at(next(moments)))

    def stations() -> list[str]:
        export.write()
        steps = [from_file(path.read_bytes())["ScheduledProcedureStepSequence"][0] for path in tmp_path.glob("*.wl")]
        return sorted("|".join(texts(step["ScheduledStationAETitle"])) for step in steps)

    assert [stations() for _ in range(4)] == [["CT1", "CT1", "CT1", "CT2"]] * 2 + [["CT2", "CT7", "CT7", "CT7"]] * 2


def test_an_exported_file_that_somebody_deletes_is_written_anew(worklist: Worklist, tmp_path: Path) -> None:
    export = Export(ExportSettings(folder=tmp_path), "worklist", worklist, MemoryState(), lambda: NOBODY_MOVES)
    export.write()
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("*.wl")}

    next(tmp_path.glob("*.wl")).unlink()
    export.write()

    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.wl")} == whole
