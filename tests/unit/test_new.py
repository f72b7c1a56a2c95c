"""``new site`` and ``new system``: what they write is checked, tested, and a person's to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.errors import BridgeError, SettingsError
from bridge.lint import check
from bridge.scaffold.kinds import KINDS
from bridge.scaffold.sitefile import add
from bridge.yamlfile import parse
from tests.rigs.need import REPOSITORY

SAMPLES = REPOSITORY / "mappings" / "samples"
SITE = """\
# ours
systems:
  ris: {adapter: ris}    # the old one

  # more to come
channels:
    worklist: {type: dicom-worklist}   # four columns in
routes:
store: {url: ""}
"""


def radbridge(*arguments: str | Path, answers: str = "") -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], input=answers, prog_name="radbridge")


def problems(site: Path) -> list[str]:
    """What is wrong with the site file, or with a mapping of a system of its own."""
    shipped = {path.name for path in (REPOSITORY / "mappings").iterdir()}
    mine = (one for one in check(site) if one.file.split("/")[1] not in shipped)
    return [str(finding) for finding in mine]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A new site called demo-hospital, so that the shipped stations are its own."""
    result = radbridge("new", "site", tmp_path / "demo-hospital")
    assert result.exit_code == 0, result.output
    return tmp_path / "demo-hospital" / "config" / "bridge.yaml"


def connected(site: Path, *options: str | Path) -> Any:
    result = radbridge("new", "system", *options, "--config", site, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


@pytest.mark.parametrize("command", ["site", "system"])
def test_each_explains_itself_with_an_example(command: str) -> None:
    text = radbridge("new", command, "--help").output

    assert f"    radbridge new {command}" in text.partition("Examples:\n")[2]
    assert "--json" in text


def test_every_kind_of_messages_has_mappings_that_are_shipped_for_it() -> None:
    for kind in KINDS.values():
        for name in kind.mappings.values():
            made_for = parse((REPOSITORY / "mappings" / f"{name}.yaml").read_text(encoding="utf-8"), name).data
            assert set(kind.messages) & set(made_for["messages"])


def test_a_new_site_has_no_errors_and_only_waits_for_a_system(site: Path) -> None:
    (found,) = problems(site)

    assert "no route uses the channel `worklist`" in found
    assert radbridge("new", "site", site.parent.parent).exception is not None


def test_a_system_is_connected_by_options_alone_and_all_of_it_holds(site: Path) -> None:
    sample = SAMPLES / "orm_new_ct.hl7"

    told = connected(site, "ris", "--adapter", "ris", "--sends", "orders", "--to", "worklist", "--sample", sample)

    assert told["remarks"] == told["findings"] == []
    assert [case["ok"] for case in told["cases"]] == [True]
    assert told["wrote"] == [
        "config/bridge.yaml",
        "mappings/ris/order-to-worklist.cases.yaml",
        "mappings/ris/order-to-worklist.yaml",
        "mappings/ris/samples/orm_new_ct.hl7",
    ]
    assert problems(site) == []
    tested = radbridge("test", "ris/order-to-worklist", "--config", site)
    assert tested.exit_code == 0 and "1 of 1 cases hold" in tested.output
    (case,) = parse((site.parent.parent / told["wrote"][1]).read_text(encoding="utf-8"), "").data
    assert case["expect"]["AccessionNumber"] == "A100"


def test_what_is_not_said_follows_from_the_samples_and_the_adapter(site: Path) -> None:
    told = connected(site, "ris", SAMPLES / "orm_new_ct.hl7", SAMPLES / "siu_booked.hl7")

    routes = parse(site.read_text(encoding="utf-8"), "").data["routes"]
    assert set(routes) == {"ris-orders", "ris-appointments"}
    assert routes["ris-orders"]["to"] == [{"worklist": "ris/order-to-worklist"}]
    assert told["findings"] == []


def test_a_person_is_asked_what_the_options_do_not_say(site: Path) -> None:
    answers = "pacs\nout\npacs.example:2576\norders,reports\nris\n"
    connected(site, "ris", "--to", "worklist")

    result = radbridge("new", "system", "archive", "--config", site, answers=answers)

    assert result.exit_code == 0, result.output
    data = parse(site.read_text(encoding="utf-8"), "").data
    assert data["systems"]["archive"] == {"adapter": "pacs"}
    assert data["channels"]["archive-out"] == {"type": "mllp-out", "system": "archive", "connect": "pacs.example:2576"}
    assert data["routes"]["archive-reports"]["to"] == [{"archive": "archive/reports"}]
    assert problems(site) == []


def test_a_message_that_cannot_be_mapped_yet_is_a_case_that_says_so(tmp_path: Path) -> None:
    radbridge("new", "site", tmp_path / "elsewhere")
    site = tmp_path / "elsewhere" / "config" / "bridge.yaml"

    told = connected(site, "ris", "--to", "worklist", SAMPLES / "orm_23_two_steps.hl7")

    (case,) = told["cases"]
    assert not case["ok"] and "table stations has no row for `elsewhere`" in case["differences"][0]
    # When the row is there, what the message says of itself comes out
    with (tmp_path / "elsewhere" / "mappings" / "tables" / "stations.csv").open("a", encoding="utf-8") as table:
        table.write("elsewhere,*,*,*,ANY1,ANY-1\n")
    assert radbridge("test", "ris/order-to-worklist", "--config", site).exit_code == 0


def test_a_fhir_receiver_gets_a_mapping_of_its_own_that_extends_the_shipped_one(site: Path) -> None:
    connected(site, "ris", "--sends", "orders", "--to", "worklist")
    options = ("--adapter", "portal", "--type", "fhir-out", "--address", "http://127.0.0.1:8091/fhir")

    told = connected(site, "portal", *options, "--wants", "reports", "--from", "ris", SAMPLES / "oru_final.hl7")

    assert [case["ok"] for case in told["cases"]] == [True]
    text = (site.parent.parent / "mappings" / "portal" / "report-to-fhir.yaml").read_text(encoding="utf-8")
    assert "extends: report-to-fhir" in text


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--adapter", "riss"), "there is no adapter `riss`"),
        (("--to", "worklst"), "there is no channel or system `worklst`"),
        (("--sends", "order"), "there is no kind of messages `order`"),
        (("--type", "fhir-in"), "there is no channel type `fhir-in`"),
        (("--type", "fhir-out", "--direction", "in"), "a channel of type fhir-out is not in"),
        (("--direction", "out"), "--address is missing"),
        (("--address", "nowhere"), "write an address as host:port"),
        ((str(REPOSITORY / "README.md"),), "MSH"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(site: Path, options: tuple[str, ...], what: str) -> None:
    before = {path: path.read_bytes() for path in site.parent.parent.rglob("*") if path.is_file()}

    result = radbridge("new", "system", "ris", *options, "--yes", "--config", site)

    told = result.exception
    assert isinstance(told, BridgeError)
    text = "\n".join(map(str, told.findings)) if isinstance(told, SettingsError) else str(told)
    assert what in text
    assert before == {path: path.read_bytes() for path in site.parent.parent.rglob("*") if path.is_file()}


def test_a_name_that_is_taken_is_told_and_nothing_is_written(site: Path) -> None:
    connected(site, "ris", "--to", "worklist")
    before = site.read_bytes()

    again = radbridge("new", "system", "ris", "--to", "worklist", "--yes", "--config", site)

    assert isinstance(again.exception, BridgeError) and "already" in again.exception.what
    assert site.read_bytes() == before


def test_a_site_file_of_another_editor_keeps_its_line_ends(site: Path) -> None:
    site.write_bytes(b"\xef\xbb\xbf" + site.read_bytes().replace(b"\n", b"\r\n"))
    before = site.read_bytes().splitlines(keepends=True)

    connected(site, "ris", "--to", "worklist")

    after = site.read_bytes().splitlines(keepends=True)
    assert [line for line in after if line in before] == before
    assert all(line.endswith(b"\r\n") for line in after) and len(after) > len(before)


def test_without_a_site_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    told = radbridge("new", "system", "ris", "--yes").exception

    assert isinstance(told, BridgeError) and "no site here" in told.what
    assert list(tmp_path.iterdir()) == []


def test_an_addition_leaves_every_other_byte_of_the_site_file() -> None:
    text = add(SITE, "systems", {"pacs": "pacs: {adapter: pacs}"})
    text = add(text, "channels", {"pacs-out": "pacs-out:\n  type: mllp-out"})
    text = add(text, "routes", {"all": "all:\n  from: ris"})

    new = [line for line in text.splitlines() if line not in SITE.splitlines()]
    assert [line for line in text.splitlines() if line not in new] == SITE.splitlines()
    assert new == ["  pacs: {adapter: pacs}", "    pacs-out:", "      type: mllp-out", "  all:", "    from: ris"]


@pytest.mark.parametrize("text", ["", "site: {name: x}", "site: {name: x}\nroutes:", "routes: # none yet\n# end"])
def test_a_section_that_is_missing_or_empty_is_begun(text: str) -> None:
    added = parse(add(text, "routes", {"all": "all:\n  from: ris"}), "").data

    assert added["routes"] == {"all": {"from": "ris"}}


def test_a_section_on_one_line_is_told() -> None:
    with pytest.raises(BridgeError, match="on one line"):
        add("routes: {a: {from: b}}\n", "routes", {"all": "all:\n  from: ris"})


def test_a_name_in_a_section_that_is_taken_is_told() -> None:
    with pytest.raises(BridgeError, match="already"):
        add(SITE, "systems", {"ris": "ris: {adapter: ris}"})
