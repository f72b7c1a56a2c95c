"""The README's five minutes, as a newcomer types them: its own commands, in its own sequence, on the real engine."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rigs.need import REPOSITORY, require
from tests.rigs.processes import Process, listening, wait_until

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^ *(?:<!-- tour: (\w+) -->\n *)?```console\n(.*?)```", re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    "make run": "the engine of this test",
    "make test": "what runs this test",
    ".venv/bin/radbridge demo": "tests/e2e/test_demo.py",
}


def commands(block: str) -> list[str]:
    return [line.strip()[2:].split("  #")[0].strip() for line in block.splitlines() if line.strip().startswith("$ ")]


TOUR = {name: commands(block) for name, block in BLOCK.findall(README) if name}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """What a newcomer has, but for the data folder: no RADBRIDGE_ settings, Debian's findscu first."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RADBRIDGE_")}
    findscu = require("findscu")
    return {**env, "RADBRIDGE_DATA": str(folder / "data"), "PATH": f"{Path(findscu).parent}:{env['PATH']}"}


@pytest.fixture(scope="module", autouse=True)
def engine(folder: Path, environment: dict[str, str]) -> Iterator[Process]:
    taken = [port for port in (2575, 2576, 2577, 8080, 8090, 11112) if listening(port)]
    assert not taken, f"the README's ports must be free: {taken}"
    process = Process(["make", "run"], folder / "run.log", env=environment, cwd=REPOSITORY)
    process.wait_until(lambda: "Stop with Ctrl+C" in process.output(), 120)
    yield process
    process.kill()


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[[str], str]:
    def shell(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return shell


def test_make_run_says_where_everything_listens(engine: Process) -> None:
    for end in (
        "127.0.0.1:2575",
        "127.0.0.1:2577",
        "127.0.0.1:11112",
        "127.0.0.1:2576",
        "127.0.0.1:8090",
        "127.0.0.1:8080",
    ):
        assert end in engine.output() and end in README


def test_the_tour_from_order_to_replay(run: Callable[[str], str], folder: Path, environment: dict[str, str]) -> None:
    # Given an order, acknowledged
    (send,) = TOUR["order"]
    assert "AA" in run(send)
    # Then the CT sees it
    find, show = TOUR["worklist"]
    wait_until(lambda: "TESTPATIENT" in run(show), "on the worklist", 30)
    assert "TESTPATIENT^HÉLÈNE" in run(find)
    # And whoever reads FHIR has it
    (read,) = TOUR["fhir"]
    wait_until(lambda: '"ServiceRequest"' in run(read), "at the FHIR server", 30)
    # And the PACS that is down is told with its reason
    (dead,) = TOUR["waiting"]
    wait_until(lambda: "refused" in run(dead), "the PACS is away", 30)
    # When a PACS refuses, the delivery dies
    refuse, dead = TOUR["refuse"]
    pacs = Process(["bash", "-c", f"exec {refuse}"], folder / "refuse.log", env=environment, cwd=REPOSITORY)
    wait_until(lambda: "ORM0001" in run(dead) or "dead" in run(dead), "the dead letter", 90)
    wait_until(lambda: "AE" in pacs.output(), "the refusal")
    pacs.stop()
    # And when it accepts, what died is replayed, and nothing is left
    accept, replay, dead = TOUR["replay"]
    pacs = Process(["bash", "-c", f"exec {accept}"], folder / "accept.log", env=environment, cwd=REPOSITORY)
    wait_until(lambda: listening(2576), "the PACS")
    run(replay)
    wait_until(lambda: "ORM0001" in pacs.output(), "the replayed order", 60)
    wait_until(lambda: "pacs-out" not in run(dead), "nothing left", 30)
    pacs.stop()
    (messages,) = TOUR["messages"]
    assert "ORM^O01" in run(messages)


def test_connecting_a_ris_begins_with_what_the_readme_says(run: Callable[[str], str]) -> None:
    (translate,) = TOUR["map"]
    assert "AccessionNumber" in run(translate)
    for command in TOUR["check"]:
        run(command)


def test_every_command_of_the_readme_is_run_by_a_test() -> None:
    shown = {command for _, block in BLOCK.findall(README) for command in commands(block)}
    assert shown - {command for block in TOUR.values() for command in block} == set(ELSEWHERE)


def test_every_place_that_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (REPOSITORY / target).exists(), target
