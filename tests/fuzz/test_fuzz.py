"""The fuzz targets hold for every input ever found, and for a short while of new ones."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import fuzz_charset, fuzz_framer, fuzz_parser
from tests.fuzz.harness import CORPUS, SAMPLES
from tests.rigs.need import REPOSITORY, missing

TARGETS = {"framer": fuzz_framer, "parser": fuzz_parser, "charset": fuzz_charset}
INPUTS = sorted([*CORPUS.iterdir(), *SAMPLES.iterdir()])
WRONG_LAW = """
from tests.fuzz.harness import fuzz, instrumented
with instrumented("__main__"):
    from bridge.codecs.mllp import Framer
def check(data):
    for frame in Framer(10_000).feed(data):
        assert len(frame) < 100 or frame.startswith(b"MSH"), "a message does not begin with MSH"
fuzz(check)
"""
"""No frame of the seeds breaks it; some that are made from them do."""


def run(found: Path, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A fuzz target, always with the same random numbers; what it finds goes to ``found``."""
    if not importlib.util.find_spec("atheris"):
        missing("atheris", "it is published for Python up to 3.13 on Linux; pip install atheris")
    options = ("-seed=1", *options, str(found))
    arguments = [sys.executable, *command, *options]
    return subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, errors="replace", timeout=120)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
@pytest.mark.parametrize("target", TARGETS)
def test_the_laws_hold_for_every_found_case_and_sample(target: str, path: Path) -> None:
    TARGETS[target].check(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_the_laws_hold_for_a_few_seconds_of_new_inputs(target: str, tmp_path: Path) -> None:
    ended = run(tmp_path, "-m", f"tests.fuzz.fuzz_{target}", options=("-runs=3000", "-max_total_time=5"))

    assert ended.returncode == 0, ended.stderr[-3000:]
    assert not list(tmp_path.glob("found-*"))
    coverage = [int(number) for number in re.findall(r" cov: (\d+) ", ended.stderr)]
    assert coverage[-1] > 50
    assert len(list(tmp_path.iterdir())) > 5


def test_an_input_that_breaks_a_law_is_found_and_kept(tmp_path: Path) -> None:
    ended = run(tmp_path, "-c", WRONG_LAW, options=("-runs=30000",))

    assert ended.returncode != 0
    assert "a message does not begin with MSH" in ended.stdout + ended.stderr
    assert len(list(tmp_path.glob("found-crash-*"))) == 1


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 100_000
