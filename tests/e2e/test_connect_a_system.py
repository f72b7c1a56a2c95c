"""The walk-through of docs/connect-a-system.md, as an engineer types it: its own commands, in its own sequence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.engine import RADBRIDGE
from tests.rigs.need import REPOSITORY, require, require_data
from tests.rigs.processes import Process, free_port, wait_until

PAGE = (REPOSITORY / "docs" / "connect-a-system.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^(?:<!-- step: (\w+) -->\n)?```console\n(.*?)```", re.MULTILINE | re.DOTALL)
STEPS = {name: re.split(r"^\$ ", block, flags=re.MULTILINE)[1:] for name, block in BLOCK.findall(PAGE)}
NO_ERRORS = re.compile(r"No problems|\b0 error\(s\), 0 warning\(s\)")
PORTS = ("2580", "11112", "2576")


class Engineer:
    """A shell in a folder with the samples. The page's ports are taken by others: each has a free one instead."""

    def __init__(self, folder: Path) -> None:
        samples = folder / "samples"
        samples.mkdir()
        for sample in sorted(require_data("hl7", "fhir-converter").glob("ORM-O01-*.hl7")):
            shutil.copy(sample, samples)
        self.folder = folder
        self.ports = {port: str(free_port()) for port in PORTS}
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RADBRIDGE_")}
        path = f"{Path(RADBRIDGE).parent}:{Path(require('findscu', 'dcmtk')).parent}:{ours['PATH']}"
        self.environment = {**ours, "PATH": path, "RADBRIDGE_WEB_LISTEN": f"127.0.0.1:{free_port()}"}

    def types(self, command: str, code: int = 0) -> str:
        """What a command of the page says."""
        if command.startswith("cd "):
            self.folder /= command[3:].strip()
            return ""
        done = subprocess.run(
            ["bash", "-c", self.with_free_ports(command)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def with_free_ports(self, text: str) -> str:
        return re.sub(r"\b(?:2580|11112|2576)\b", lambda found: self.ports[found[0]], text)

    def runs(self, command: str) -> Process:
        log = self.folder.parent / f"{command.split()[1]}.log"
        return Process(["bash", "-c", f"exec {command}"], log, env=self.environment, cwd=self.folder)


@pytest.fixture
def engineer(tmp_path: Path) -> Engineer:
    return Engineer(tmp_path)


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()


def test_a_ris_nobody_has_seen_is_connected_as_the_page_says(engineer: Engineer, processes: list[Process]) -> None:
    # Given a new site
    for command in STEPS["site"]:
        engineer.types(command)
    site = engineer.folder / "config" / "bridge.yaml"
    site.write_text(engineer.with_free_ports(site.read_text(encoding="utf-8")), encoding="utf-8")
    # When the RIS is connected, its cases say what is missing
    (system,) = STEPS["system"]
    said = engineer.types(system)
    assert "table stations has no row for `ghh`, `CT`, `Room01`" in said and "0 of 3 cases hold" in said
    # And hold when it is there
    *rows, test = STEPS["stations"]
    for command in rows:
        engineer.types(command)
    assert "3 of 3 cases hold" in engineer.types(test)
    # When a message is looked at, its date is seen to come from the wrong field
    look, trace = STEPS["look"]
    assert '"ScheduledProcedureStepStartDate": "20020315"' in engineer.types(look)
    assert re.search(r"\$start +20020315 +.*ORC-7\.4", engineer.types(trace))
    # And one line mends it
    case, line = STEPS["adjust"]
    engineer.types(case)
    assert "3 of 4 cases hold" in engineer.types(test, code=1)
    engineer.types(line)
    check, test = STEPS["check"]
    assert NO_ERRORS.search(engineer.types(check))
    assert "4 of 4 cases hold" in engineer.types(test)
    # When the engine runs and an order comes, a scanner sees it
    (run,) = STEPS["run"]
    engine = engineer.runs(run)
    processes.append(engine)
    engine.wait_until(lambda: "Stop with Ctrl+C" in engine.output(), 60)
    send, show, find = STEPS["send"]
    assert "AA" in engineer.types(send)
    wait_until(lambda: "EVERYMAN" in engineer.types(show), "on the worklist", 30)
    seen = engineer.types(find)
    assert "EVERYMAN^ADAM" in seen and "20211020" in seen
    # And the PACS is connected in the same way
    new, check, test = STEPS["pacs"]
    engineer.types(new)
    assert NO_ERRORS.search(engineer.types(check))
    assert "3 of 3 cases hold" in engineer.types(test)
    # When that is deployed, the next order reaches it from the engine that runs
    listen, deploy, send, messages = STEPS["deploy"]
    pacs = engineer.runs(engineer.with_free_ports(listen))
    processes.append(pacs)
    pacs.wait_until(lambda: "listening at" in pacs.output(), 30)
    engineer.types(deploy)
    engine.wait_until(lambda: "revision_changed" in engine.output(), 60)
    assert "AA" in engineer.types(send)
    pacs.wait_until(lambda: "ORM^O01  MSG00019" in pacs.output(), 30)
    assert "MSG00019" in engineer.types(messages)


def test_every_command_of_the_page_is_typed_by_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")

    assert "" not in STEPS
    assert [step for step in STEPS if f'STEPS["{step}"]' not in source] == []


def test_every_place_that_the_page_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert target.startswith("http") or (REPOSITORY / "docs" / target).exists(), target
