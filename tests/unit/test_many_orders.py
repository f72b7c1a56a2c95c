"""A message of hundreds of orders takes as much longer as it is longer: nobody else waits for it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.mapping import MappingSet, compile_all
from tests.rigs.need import REPOSITORY

SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris", "patient_id_issuer": ""}}
HEAD = b"MSH|^~\\&|RIS|DEMO|PACS|DEMO|20260106080000||ORM^O01|C1|P|2.3\rPID|1||P1^^^HOSP||TEST^ALICE\r"
GROUP = b"ORC|NW|PL1^RIS\rNTE|1||x\rOBR|1|PL1^RIS||A^Proc A||||||||||||||||||||XX\rZDS|1.2.3^RIS\rZPX|first\r"
PROFILE = """
profile: Everything is wrong
messages: [ORM^O01]
rules:
  - each: OBR
    require: [OBR-18, OBR-7 | ORC-7]
    only: {OBR-24: [CT, MR]}
"""


@pytest.fixture(scope="module")
def shipped() -> MappingSet:
    folder = REPOSITORY / "mappings"
    files = {name: folder / name for name in ("orm-to-omi.yaml", "orm-to-omg.yaml", "pacs-order.yaml")}
    files |= {f"tables/{path.name}": path for path in (folder / "tables").glob("*.csv")}
    return compile_all({**{name: path.read_text() for name, path in files.items()}, "wrong.yaml": PROFILE})


def calls(function: Callable[[], object]) -> int:
    """How many functions are called."""
    seen: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, argument: seen.update([event]))
    try:
        function()
    finally:
        sys.setprofile(None)
    return seen["call"]


def grows_as_the_message(work: Callable[[bytes], object]) -> bool:
    few, many = (calls(lambda n=n: work(HEAD + n * GROUP)) for n in (60, 240))  # type: ignore[misc]
    return few > 1000 and many < 5 * few


@pytest.mark.parametrize("mapping", ["orm-to-omi", "orm-to-omg", "pacs-order"])
def test_the_work_of_a_mapping_grows_with_the_message_and_no_faster(shipped: MappingSet, mapping: str) -> None:
    assert grows_as_the_message(lambda raw: shipped.mappings[mapping].render(parse(raw), SITE))


def test_the_work_of_a_profile_grows_with_the_message_and_no_faster(shipped: MappingSet) -> None:
    assert len(shipped.profiles["wrong"].faults(parse(HEAD + 3 * GROUP), SITE)) == 9
    assert grows_as_the_message(lambda raw: shipped.profiles["wrong"].faults(parse(raw), SITE))
