"""Charges to a billing system: the profile ``billing`` and the mapping ``dft-to-billing``."""

from __future__ import annotations

from pathlib import Path

import yaml

from bridge.codecs.hl7v2 import parse
from bridge.mapping.compile import compile_all
from bridge.ports import SinkSettings
from bridge.settings import load
from tests.rigs.need import REPOSITORY, require_data

MAPPINGS = REPOSITORY / "mappings"
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}


def test_a_charge_without_an_answer_is_sent_once_more_at_most(tmp_path: Path) -> None:
    site = {
        "site": {"name": "demo-hospital", "timezone": "Europe/Paris"},
        "mappings": str(MAPPINGS),
        "adapters": str(REPOSITORY / "adapters"),
        "systems": {"ris": {"adapter": "ris"}, "billing": {"adapter": "billing"}},
        "channels": {
            "ris-in": {"type": "mllp-in", "system": "ris", "listen": "127.0.0.1:2575"},
            "billing-out": {"type": "mllp-out", "system": "billing", "connect": "127.0.0.1:2576"},
        },
        "routes": {
            "charges": {"from": "ris-in", "when": {"message": "DFT^P03"}, "to": [{"billing-out": "dft-to-billing"}]}
        },
    }
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(site))

    billing = load(file).config.channels["billing-out"]

    assert isinstance(billing, SinkSettings)
    assert (billing.retry.repeats, billing.lane, billing.on_dead) == (1, "patient", "park")


def test_the_published_charges_pass_byte_for_byte_where_nothing_is_translated() -> None:
    files = [MAPPINGS / "dft-to-billing.yaml", MAPPINGS / "tables" / "charge-codes.csv"]
    mapping = compile_all({str(path.relative_to(MAPPINGS)): path.read_text("utf-8") for path in files}).mappings
    raw = (require_data("hl7") / "fhir-converter" / "DFT-P03-01.hl7").read_bytes()

    rendered = mapping["dft-to-billing"].render(parse(raw), SITE)

    assert rendered.data == raw
    assert "passed as it is" in " ".join(rendered.notes)
