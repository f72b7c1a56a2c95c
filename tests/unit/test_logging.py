"""What the log says of a defect: where it is, and nothing of what was being worked on."""

from __future__ import annotations

import json
import subprocess
import sys

_DEFECT = """
import structlog
from bridge.app import configure_logging
from bridge.settings import Overrides, load
from pathlib import Path
configure_logging(load(Path("config/bridge.yaml"), overrides=Overrides.model_construct(), environ={}))
log = structlog.get_logger("x")
def falter():
    raise ValueError("DUPONT^JEAN")
try:
    falter()
except ValueError as error:
    log.exception("channel_failed", channel="ris-in")
    log.error("delivery_held", exc_info=error)
"""


def test_a_defect_is_told_by_its_kind_and_place_never_by_its_words() -> None:
    done = subprocess.run([sys.executable, "-c", _DEFECT], capture_output=True, text=True, timeout=60, check=True)

    lines = [line for line in done.stderr.splitlines() if "channel_failed" in line or "delivery_held" in line]
    assert len(lines) == 2
    assert all("ValueError" in line and "falter" in line for line in lines), json.dumps(lines)
    assert "DUPONT" not in done.stderr
