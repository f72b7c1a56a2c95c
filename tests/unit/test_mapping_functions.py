"""The named functions: each is described by examples that hold, and listed in the language reference."""

from __future__ import annotations

import doctest
import inspect
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.errors import BridgeError, MappingError
from bridge.mapping.functions import FUNCTIONS, run
from bridge.mapping.functions.examples import reference

DOCS = Path(__file__).resolve().parents[2] / "docs" / "mappings.md"
SITE_FILE = DOCS.parents[1] / "config" / "bridge.yaml"


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_the_examples_of_a_function_hold(name: str) -> None:
    call = FUNCTIONS[name].call
    found = doctest.DocTestFinder(recurse=False).find(call, name, globs={"run": run})
    runner = doctest.DocTestRunner(verbose=False)

    results = [runner.run(one) for one in found]

    assert sum(result.attempted for result in results) > 0, "no example"
    assert sum(result.failed for result in results) == 0
    assert f'run("{name}"' in (inspect.getdoc(call) or "")


def test_the_language_reference_has_every_function_with_its_options_and_an_example() -> None:
    written = DOCS.read_text(encoding="utf-8").partition("## Functions")[2]

    assert [line for line in written.splitlines() if line.startswith("| `")] == reference()


def test_the_command_tells_of_a_function_and_tries_it() -> None:
    def radbridge(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["function", *arguments, "--config", str(SITE_FILE)])
        return done.exit_code, done.output.strip()

    listed, told = json.loads(radbridge("--json")[1]), radbridge("measure")[1]

    assert {one["name"] for one in listed} == set(FUNCTIONS)
    assert "'170', 'cm', to: m gives 1.7" in told and ">>>" not in told
    assert radbridge("measure", "68000", "g", "--with", "to=kg") == (0, "68")
    names = "BIRTH^ALICE^^^^^L~USED^ALICE^^^^^D"
    assert radbridge("person_name", names, "--with", "types=D,L", "--json")[1] == '{\n  "result": "USED^ALICE"\n}'


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["mesure", "1"], "no function mesure"),
        (["measure", "1", "kg"], "measure needs to"),
        (["measure", "1", "kg", "--with", "to=lb"], "to cannot be lb"),
        (["measure", "1", "--with", "to=kg"], "measure takes 2 values, not 1"),
        (["upper", "a", "--with", "at=1"], "upper has no option at"),
        (["wrap", "a", "--with", "at=x"], "at is a number"),
        (["date", "1988"], "the date has no day"),
    ],
)
def test_the_command_says_what_a_function_cannot_take(arguments: list[str], what: str) -> None:
    done = CliRunner().invoke(app, ["function", *arguments, "--config", str(SITE_FILE)])

    assert isinstance(done.exception, BridgeError)
    assert what in str(done.exception)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("TEST^ALICE^^III^DR^MD", "TEST^ALICE^^DR^III MD"),
        ("TEST^ALICE^MARIE", "TEST^ALICE^MARIE"),
        ("TEST^ALICE^ALICE", "TEST^ALICE"),
        ("TEST^ALICE^ALICE, BERTHE", "TEST^ALICE^BERTHE"),
        ("TEST^ANNE^ANNE-MARIE", "TEST^ANNE^ANNE-MARIE"),
        ("van TEST&van&TEST^LUDWIG", "van TEST^LUDWIG"),
        ("TEST", "TEST"),
        ("^ALICE", "^ALICE"),
        ("", ""),
        ('""^""', ""),
    ],
)
def test_a_name_is_put_into_the_order_of_dicom(given: str, wanted: str) -> None:
    assert run("person_name", given) == wanted


@pytest.mark.parametrize("in_use", ['""^ALICE^^^^^D', "^ALI^^^^^D", '""^""^^^^^D'])
def test_a_name_without_a_family_name_gives_way_to_one_that_has_it(in_use: str) -> None:
    assert run("person_name", f"{in_use}~TEST^ALICE^^^^^L", types=["D", "L"]) == "TEST^ALICE"


def test_the_site_says_which_type_of_name_is_wanted() -> None:
    names = "BIRTH^ALICE^^^^^L~USED^ALICE^^^^^D"
    site = {"name": "here", "timezone": "Europe/Paris", "name_type": ["D", "L"]}

    assert run("person_name", names) == "BIRTH^ALICE"
    assert run("person_name", names, site=site) == "USED^ALICE"
    assert run("person_name", names, site=site, types=["L"]) == "BIRTH^ALICE"
    assert run("person_name", names, site={**site, "name_type": ["A"]}) == "BIRTH^ALICE"


@pytest.mark.parametrize("bad", ["A\\B^C", "A=B^C"])
def test_a_name_with_a_character_that_dicom_uses_itself_is_refused(bad: str) -> None:
    with pytest.raises(MappingError, match="cannot hold"):
        run("person_name", bad)


@pytest.mark.parametrize(
    "bad", ["2026-01-06", "20261301", "20260230", "2010201200+0215", "202601062460", "yesterday", "20260106+9900"]
)
@pytest.mark.parametrize("name", ["date", "local_date", "local_time", "fhir_date", "fhir_datetime", "fhir_instant"])
def test_what_is_no_time_is_refused_and_not_shown(name: str, bad: str) -> None:
    with pytest.raises(MappingError) as caught:
        run(name, bad)

    assert bad not in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("2026", "2026"),
        ("202601", "2026-01"),
        ("20260106", "2026-01-06"),
        ("2026010609", "2026-01-06T09:00:00+01:00"),
        ("202601060930", "2026-01-06T09:30:00+01:00"),
        ("20260106093015", "2026-01-06T09:30:15+01:00"),
        ("20260106093015.5", "2026-01-06T09:30:15.5+01:00"),
        ("20260706093015.1234", "2026-07-06T09:30:15.1234+02:00"),
        ("20260106093015-0500", "2026-01-06T09:30:15-05:00"),
        ("20261025023000", "2026-10-25T02:30:00+02:00"),
    ],
)
def test_a_fhir_time_is_as_precise_as_sent_and_has_the_offset_of_the_site(given: str, wanted: str) -> None:
    assert run("fhir_datetime", given) == wanted


def test_a_uid_made_of_order_numbers_is_valid_and_differs_between_sites() -> None:
    here, there = (run("uid", "PL1", site={"name": name}) for name in ("here", "there"))

    assert here.startswith("2.25.")
    assert len(here) <= 64
    assert here == run("uid", "PL1", site={"name": "here"})
    assert here != there
    assert run("uid", "A", "") != run("uid", "", "A")


def test_an_authority_without_an_oid_has_a_system_of_its_own_at_each_site() -> None:
    def system(text: str, **site: object) -> object:
        return run("fhir_identifier", text, site={"name": "here", **site})[0]["system"]

    assert system("1^^^HOSP&1.2.3&ISO") == "urn:oid:1.2.3"
    assert system("1^^^HOSP", authorities={"HOSP": "https://example.org/hosp"}) == "https://example.org/hosp"
    assert system("1^^^HOSP") != system("1^^^CLINIC")
    assert system("1^^^HOSP") != system("1^^^HOSP", name="there")
    assert system("1") == "urn:radbridge:here:id"


def test_a_unit_that_is_not_known_is_refused() -> None:
    assert run("measure", "150", "[lb_av]", to="kg") == "68.0388555"
    with pytest.raises(MappingError, match="unit"):
        run("measure", "12", "stone", to="kg")
    with pytest.raises(MappingError, match="number"):
        run("measure", "heavy", "kg", to="kg")


def test_a_code_too_long_for_a_code_value_is_a_long_code_value() -> None:
    (item,) = run("code_items", "TWENTY-CHARACTERS-01^Something^LOCAL")

    assert item == {
        "LongCodeValue": "TWENTY-CHARACTERS-01", "CodingSchemeDesignator": "LOCAL", "CodeMeaning": "Something"
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(name for name, it in FUNCTIONS.items() if it.most == 1))
def test_a_function_of_one_value_makes_nothing_of_nothing(name: str) -> None:
    function = FUNCTIONS[name]
    options: dict[str, object] = {option: "x" for option, it in function.options.items() if it.required}
    options |= {option: 5 for option, it in function.options.items() if it.kind == "number"}
    options |= {"site": {"name": "here"}} if function.wants_site else {}

    assert not function.call("" if function.takes == "text" else [], **options)
