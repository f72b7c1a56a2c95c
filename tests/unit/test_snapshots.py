"""Snapshots: the whole output of a case beside its mapping, reviewed as a difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.mapping import run_cases

ORDER = b"""MSH|^~\\&|RIS|DEMO|RADBRIDGE|DEMO|20260105080000||ORM^O01|C1|P|2.5.1||||||UNICODE UTF-8\r\
PID|1||P1^^^HOSP||TESTPATIENT^\xc3\x89LODIE||19700101|F\r\
ORC|NW|P1^RIS\r\
OBR|1|P1^RIS||CTHEAD^CT head^99DEMO||||||||||||||A1|||||CT|CT\r"""
MAPPING = "target: hl7v2\nmessages: [ORM^O01]\nedits:\n  - set: {MSH-3: {value: ONE}}\n"
CASES = "- name: An order, « as sent »!\n  given: samples/o.hl7\n  snapshot: true\n"
SNAPSHOT = "m.snapshots/an-order-as-sent.hl7"
SITE = "site: {name: test-site, timezone: Europe/Paris}\nmappings: ../mappings\nadapters: ../adapters\n"


def test_a_case_whose_snapshot_is_not_kept_fails_and_says_how_to_keep_it() -> None:
    (result,) = run_cases({"m.yaml": MAPPING, "m.cases.yaml": CASES}, {"samples/o.hl7": ORDER})

    assert not result.ok
    assert "radbridge test --update" in result.differences[0] and SNAPSHOT in result.differences[0]


def test_a_snapshot_is_readable_one_segment_a_line_and_compared_as_a_difference() -> None:
    files, samples = {"m.yaml": MAPPING, "m.cases.yaml": CASES}, {"samples/o.hl7": ORDER}
    (first,) = run_cases(files, samples)
    assert first.snapshot is not None
    kept = {**samples, SNAPSHOT: first.snapshot.text.encode()}

    assert first.snapshot.text.splitlines()[1] == "PID|1||P1^^^HOSP||TESTPATIENT^ÉLODIE||19700101|F"
    assert run_cases(files, kept)[0].ok
    (changed,) = run_cases({**files, "m.yaml": MAPPING.replace("ONE", "TWO")}, kept)
    (difference,) = changed.differences
    lines = difference.splitlines()
    assert any(line.startswith("-MSH|^~\\&|ONE|") for line in lines)
    assert any(line.startswith("+MSH|^~\\&|TWO|") for line in lines)


def test_two_cases_that_would_keep_one_snapshot_both_fail() -> None:
    twice = CASES + CASES.replace("An order, « as sent »!", "an order as sent")

    results = run_cases({"m.yaml": MAPPING, "m.cases.yaml": twice}, {"samples/o.hl7": ORDER})

    assert all("another case has the same snapshot" in " ".join(result.differences) for result in results)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one mapping and one case that keeps a snapshot; its site file."""
    mappings = tmp_path / "mappings"
    (mappings / "samples").mkdir(parents=True)
    (tmp_path / "adapters").mkdir()
    (tmp_path / "config").mkdir()
    (mappings / "m.yaml").write_text(MAPPING)
    (mappings / "m.cases.yaml").write_text(CASES, encoding="utf-8")
    (mappings / "samples" / "o.hl7").write_bytes(ORDER)
    path = tmp_path / "config" / "bridge.yaml"
    path.write_text(SITE)
    return path


def radbridge(*arguments: Any) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    return done.exit_code, done.output


def test_the_command_keeps_snapshots_shows_a_difference_and_takes_out_what_no_case_has(site: Path) -> None:
    kept = site.parents[1] / "mappings" / SNAPSHOT

    # Given a kept snapshot, and one that no case has
    code, said = radbridge("test", "--update", "--config", site)
    assert (code, "1 of 1 cases hold" in said) == (0, True)
    assert "written: " in said
    (kept.parent / "gone.hl7").write_text("MSH|\n")
    # When the mapping makes something else
    (site.parents[1] / "mappings" / "m.yaml").write_text(MAPPING.replace("ONE", "TWO"))
    code, said = radbridge("test", "--config", site)
    # Then the difference is shown, and kept on demand
    assert code == 1 and "-MSH|^~\\&|ONE|" in said and "+MSH|^~\\&|TWO|" in said
    code, said = radbridge("test", "m", "--update", "--json", "--config", site)
    assert code == 0 and "|TWO|" in kept.read_text(encoding="utf-8")
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_a_mapping_that_fails_loses_no_snapshot_by_an_update(site: Path) -> None:
    radbridge("test", "--update", "--config", site)
    kept = site.parents[1] / "mappings" / SNAPSHOT
    (site.parents[1] / "mappings" / "m.yaml").write_text(
        "target: hl7v2\nmessages: [ORM^O01]\nedits:\n  - set: {MSH-3: {from: MSH-99, required: true}}\n"
    )

    code, _ = radbridge("test", "--update", "--config", site)

    assert code == 1 and kept.exists()


def test_the_command_lists_what_no_case_reaches_and_traces_a_message(site: Path) -> None:
    radbridge("test", "--update", "--config", site)
    mapping = site.parents[1] / "mappings" / "m.yaml"
    mapping.write_text(mapping.read_text() + "  - remove: [IN1]\n")

    code, said = radbridge("test", "--coverage", "--config", site)
    _, machine = radbridge("test", "--json", "--config", site)
    order = site.parents[1] / "mappings" / "samples" / "o.hl7"
    _, shown = radbridge("map", order, "--mapping", "m", "--trace", "--config", site)
    _, facts = radbridge("map", order, "--mapping", "m", "--trace", "--json", "--config", site)

    assert code == 0 and "mappings/m.yaml:5: no case reaches this line: IN1" in said
    assert "They reach 1 of 2 lines" in said
    assert json.loads(machine)["coverage"]["lines"] == {"all": 2, "reached": 1}
    assert "mappings/m.yaml" in shown and "constant" in shown and "ONE" in shown
    line = json.loads(facts)["trace"][0]
    assert (line["target"], line["value"], line["file"], line["line"]) == ("MSH-3", "ONE", "mappings/m.yaml", 4)
