"""Snapshots: the whole output of a case, kept beside its mapping as a file that people can read and review."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata

from bridge.codecs.hl7v2 import parse
from bridge.mapping.compile import Rendered

FOLDER = ".snapshots"
_NO_LETTER = re.compile(r"[^a-z0-9]+")


def snapshot_name(mapping: str, case: str, rendered: Rendered) -> str:
    """Its file inside the mappings folder: ``order-to-worklist.snapshots/a-new-order.json``."""
    plain = unicodedata.normalize("NFKD", case).encode("ascii", "ignore").decode().lower()
    ending = "hl7" if rendered.format == "hl7v2" else "json"
    return f"{mapping}{FOLDER}/{_NO_LETTER.sub('-', plain).strip('-')}.{ending}"


def snapshot_text(rendered: Rendered) -> str:
    """The document as text: HL7 with a segment on each line, anything else as indented JSON."""
    if rendered.format != "hl7v2":
        return json.dumps(json.loads(rendered.data), ensure_ascii=False, indent=2) + "\n"
    message = parse(rendered.data)
    text = message.body.decode(message.codec).replace("\r", "\n")
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)


def snapshot_changes(kept: str, made: str) -> list[str]:
    """The lines of a unified diff from what was kept to what is made now; none if they are the same."""
    before, after = kept.splitlines(), made.splitlines()
    return list(difflib.unified_diff(before, after, "kept", "made", lineterm="", n=2))
