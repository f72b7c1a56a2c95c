"""Every command explains itself, with an example, at once."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bridge.cli import app

COMMANDS = (
    *("run", "check", "schema", "test", "map", "send", "messages", "dead", "replay", "skip", "quality", "function"),
    *("worklist", "ping", "identity", "audit", "bench", "demo", "docs"),
)
HEAVY = ("sqlalchemy", "fastapi", "uvicorn", "pynetdicom", "pydicom", "fhir", "httpx", "kombu", "rich", "bridge.engine")


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], prog_name="radbridge")
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_lists_every_part_of_the_work() -> None:
    text = help_of()

    assert [name for name in COMMANDS if f"\n  {name} " not in text] == []
    assert "Exit codes:" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_and_speaks_json(command: str) -> None:
    text = help_of(command)

    _, _, examples = text.partition("Examples:\n")
    assert examples.startswith(f"    radbridge {command}")
    assert "--json" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_list_says_of_a_command_is_not_cut(command: str) -> None:
    (line,) = [line for line in help_of().splitlines() if line.startswith(f"  {command} ")]

    assert line.endswith(".")
    assert not line.endswith("...")


def test_help_loads_nothing_that_only_work_needs() -> None:
    code = "import sys, bridge.cli; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
