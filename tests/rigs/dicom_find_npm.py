"""A modality that nobody of this project wrote, asking for its worklist: npm's dcmjs-dimse."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.rigs.npm import installed

_HERE = Path(__file__).with_name("dicom_npm")


def find(port: int, keys: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """The responses: ``status`` and ``item`` (attributes by keyword, or None). ``more``: calling, called, and for TLS
    the files ca, certificate and key."""
    command = installed(_HERE, "worklist.mjs")
    wish = json.dumps({"port": port, "keys": keys, **{name: str(value) for name, value in more.items()}})
    done = subprocess.run([*command, wish], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
