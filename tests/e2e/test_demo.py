"""``radbridge demo``: the day ends as it must, and its check would find out if it did not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.codecs import hl7v2
from bridge.demo import run_demo
from bridge.demo.check import Seen, expected_line, problems
from bridge.demo.day import LEAST, Day, make_day
from bridge.demo.his import Report
from bridge.demo.hl7 import Sent
from bridge.demo.pacs import Arrival
from bridge.demo.ris import Told
from bridge.mapping import compile_all
from tests.rigs.engine import RADBRIDGE
from tests.rigs.need import REPOSITORY


def test_a_short_day_with_an_outage_and_two_puzzles_ends_as_it_must(tmp_path: Path) -> None:
    # Given the shortest day, with every plot once
    keep = tmp_path / "day"
    command = [RADBRIDGE, "demo", "--fast", "--exams", str(LEAST), "--keep", keep, "--json"]
    # When it is played
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=240, check=False)
    # Then all is well at the ends
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert told["ends"]["sent"] == told["ends"]["pacs"] > 40
    # And it was a day worth playing: messages waited for the PACS, and the on-call person mended and skipped
    assert told["ends"]["waited_for_the_pacs"] > 0
    assert sorted(act.rpartition(": ")[2].split()[0] for act in told["on_call"]) == ["added", "had"]
    assert len({exam["plot"] for exam in told["exams"]}) == len(told["exams"]) == LEAST
    assert (keep / "bridge.yaml").exists()


def test_a_pacs_that_loses_one_message_makes_the_demo_fail(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_demo(json=True, fast=True, exams=LEAST, pacs_forgets=frozenset({7}))

    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert len([one for one in told["problems"] if one.startswith("PACS: never got ")]) == 1


def test_the_same_seed_plays_the_same_day() -> None:
    one, same, other = make_day(5, 30), make_day(5, 30), make_day(6, 30)
    assert [exam.messages for exam in one.exams] == [exam.messages for exam in same.exams]
    assert [exam.messages for exam in one.exams] != [exam.messages for exam in other.exams]


@pytest.fixture(scope="module")
def day() -> Day:
    return make_day(3, 20)


def perfect(day: Day) -> Seen:
    """What the ends see when all goes well, message by message in the sequence of the exams."""
    tables = {f"tables/{path.name}": path.read_text() for path in (REPOSITORY / "mappings/tables").glob("*.csv")}
    text = (REPOSITORY / "mappings/pacs-order.yaml").read_text()
    edit = compile_all({"pacs-order.yaml": text, **tables}).mappings["pacs-order"]

    def as_the_pacs_gets_it(message: Sent) -> bytes:
        if b"|ORU^R01" in message.raw:
            return message.raw
        return edit.render(hl7v2.parse(message.raw), {"site": {"name": "demo"}}).data

    told: dict[str, Told] = {}
    arrivals: list[Arrival] = []
    for exam in day.exams:
        for message in exam.messages:
            if message.control_id not in told:
                at = float(len(told))
                told[message.control_id] = Told(at, at + 0.5)
                arrivals.append(Arrival(message.control_id, as_the_pacs_gets_it(message), at + 0.6))
            told[message.control_id].codes.append("AA")
    lists: dict[str, dict[str, object]] = {"CT1": {}, "MR1": {}}
    reports = []
    for exam in day.exams:
        if exam.final:
            lists[exam.final.procedure.station][exam.final.accession] = expected_line(exam.final)
        if exam.report:
            status, conclusion = exam.report
            reports.append(
                Report(exam.request.study_uid, status, conclusion, exam.request.patient.id, ((status, 0.0),))
            )
    listings = {exam.request.accession: exam.listings for exam in day.exams}
    return Seen(told, arrivals, lists, listings, reports)  # type: ignore[arg-type]


def test_a_perfect_day_has_no_problems(day: Day) -> None:
    assert problems(day, perfect(day)) == []


def test_the_same_bytes_twice_at_the_pacs_are_no_problem(day: Day) -> None:
    seen = perfect(day)
    seen.arrivals = [*seen.arrivals[:5], seen.arrivals[4], *seen.arrivals[5:]]
    assert problems(day, seen) == []


def lost(seen: Seen) -> None:
    seen.arrivals = seen.arrivals[1:]


def overtaken(seen: Seen) -> None:
    seen.arrivals = [seen.arrivals[1], seen.arrivals[0], *seen.arrivals[2:]]


def invented(seen: Seen) -> None:
    seen.arrivals = [*seen.arrivals, Arrival("NOBODY-1", b"MSH|", 0.0)]


def twice_and_different(seen: Seen) -> None:
    last = seen.arrivals[-1]
    seen.arrivals = [*seen.arrivals, replace(last, raw=last.raw + b"NTE|1\r")]


def report_edited(seen: Seen) -> None:
    seen.arrivals = [replace(one, raw=one.raw.replace(b"OBX|3", b"OBX|4")) for one in seen.arrivals]


def order_without_its_number(seen: Seen) -> None:
    seen.arrivals = [replace(one, raw=one.raw.replace(b"||A", b"||")) for one in seen.arrivals]


def refused(seen: Seen) -> None:
    next(iter(seen.told.values())).codes[:] = ["AE"]


def never_answered(seen: Seen) -> None:
    next(iter(seen.told.values())).codes.clear()


def missing_on_the_list(seen: Seen) -> None:
    seen.lists = {**seen.lists, "CT1": {}}


def left_on_the_list(seen: Seen) -> None:
    (line, *_) = seen.lists["MR1"].values()
    seen.lists = {**seen.lists, "CT1": {**seen.lists["CT1"], "A-GONE": line}}


def wrong_name(seen: Seen) -> None:
    lines = {number: replace(line, name="INCONNU^X") for number, line in seen.lists["MR1"].items()}
    seen.lists = {**seen.lists, "MR1": lines}


def list_went_back(seen: Seen) -> None:
    number = next(number for number, shown in seen.listings.items() if len(shown) > 2)
    seen.listings = {**seen.listings, number: [*seen.listings[number], seen.listings[number][1]]}


def report_not_final(seen: Seen) -> None:
    seen.reports = [replace(seen.reports[0], status="preliminary"), *seen.reports[1:]]


def report_missing(seen: Seen) -> None:
    seen.reports = seen.reports[1:]


def report_twice(seen: Seen) -> None:
    seen.reports = [*seen.reports, seen.reports[0]]


def report_of_another_patient(seen: Seen) -> None:
    seen.reports = [replace(seen.reports[0], patient_id="PAT-X"), *seen.reports[1:]]


def report_without_its_conclusion(seen: Seen) -> None:
    seen.reports = [replace(seen.reports[0], text=""), *seen.reports[1:]]


def report_of_no_study(seen: Seen) -> None:
    seen.reports = [*seen.reports, replace(seen.reports[0], study_uid="1.2.3")]


def late_preliminary_won(seen: Seen) -> None:
    first = seen.reports[0]
    versions = (("final", 0.0), ("preliminary", 1.0), (first.status, 2.0))
    seen.reports = [replace(first, versions=versions), *seen.reports[1:]]


def something_owed(seen: Seen) -> None:
    seen.undelivered = ["pacs-out: 1 pending, 0 dead"]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lost, "PACS: never got"),
        (overtaken, "was overtaken"),
        (invented, "which nobody sent"),
        (twice_and_different, "twice with different content"),
        (report_edited, "does not say what its RIS sent"),
        (order_without_its_number, "does not say what its RIS sent"),
        (refused, "answered AE"),
        (never_answered, "never answered"),
        (missing_on_the_list, "is missing from the list"),
        (left_on_the_list, "should not be on the list"),
        (wrong_name, "another name"),
        (list_went_back, "instead of"),
        (report_not_final, "HIS: the report"),
        (report_missing, "HIS: 0 reports"),
        (report_twice, "HIS: 2 reports"),
        (report_of_another_patient, "HIS: the report"),
        (report_without_its_conclusion, "lacks its conclusion"),
        (report_of_no_study, "unknown study"),
        (late_preliminary_won, "late preliminary"),
        (something_owed, "not delivered"),
    ],
)
def test_whatever_is_off_is_found(day: Day, spoil: Callable[[Seen], None], found: str) -> None:
    seen = perfect(day)

    spoil(seen)

    assert any(found in problem for problem in problems(day, seen))
