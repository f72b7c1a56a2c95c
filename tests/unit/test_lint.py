from __future__ import annotations

from pathlib import Path

import pytest

from bridge.lint import check, findings_of
from bridge.settings import Overrides, from_files
from tests.rigs.need import REPOSITORY

SITE = """\
site: {name: test-site, timezone: Europe/Paris}
channels:
  inbox: {type: file-in, folder: in}
  outbox: {type: file-out, folder: out}
routes:
  all: {from: inbox, to: outbox}
"""


def told(site: str, **mappings: str) -> list[str]:
    files = {"config/bridge.yaml": site, **{f"mappings/{name}.yaml": text for name, text in mappings.items()}}
    return [str(finding) for finding in findings_of(from_files(files, overrides=Overrides.model_construct()))]


def test_what_is_shipped_has_no_findings() -> None:
    assert [str(finding) for finding in check(REPOSITORY / "config" / "bridge.yaml")] == []


def test_a_condition_with_a_mistake_is_told_at_its_place() -> None:
    found = told(SITE.replace("to: outbox", "when: {mesage: ORM^O01}, to: outbox"))

    assert len(found) == 1
    assert found[0].startswith("config/bridge.yaml:6:29: error:")


@pytest.mark.parametrize(
    "when",
    [
        "{OBR-25: F}",
        "{message: ORU^R01, OBR-25: [F, C]}",
        "{any: [{message: ORM^O01}, {OBR-25: F}]}",
        "{OBX-11: [F, C, X]}",
    ],
)
def test_a_route_that_keeps_retractions_from_who_gets_the_report_is_warned_of(when: str) -> None:
    (found,) = told(SITE.replace("to: outbox", f"when: {when}, to: outbox"))

    assert "warning" in found and "corrections and retractions" in found and "report: final" in found


@pytest.mark.parametrize("when", ["{OBR-25: [F, C, X]}", "{OBR-25: P}", "{report: final}", "{OBR-25: {not: P}}"])
def test_a_route_that_lets_retractions_through_is_not(when: str) -> None:
    assert told(SITE.replace("to: outbox", f"when: {when}, to: outbox")) == []


def test_a_mapping_with_a_mistake_is_told_in_its_own_file() -> None:
    found = told(SITE, broken="messages: [ORM^O01]\ntarget: worklst\n")

    assert found
    assert all(line.startswith("mappings/broken.yaml:") for line in found)
    assert any(line.startswith("mappings/broken.yaml:2:") and "worklist" in line for line in found)


def test_problems_of_all_files_are_told_at_once_in_sequence() -> None:
    found = told(SITE.replace("Europe/Paris", "Mars"), a="target: nothing\n", b="[")

    files = [line.split(":")[0] for line in found]
    assert files == sorted(files)
    assert set(files) == {"config/bridge.yaml", "mappings/a.yaml", "mappings/b.yaml"}


def test_a_site_file_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    found = [str(finding) for finding in check(tmp_path / "nowhere.yaml")]

    assert len(found) == 1
    assert "cannot be read: No such file or directory" in found[0]
