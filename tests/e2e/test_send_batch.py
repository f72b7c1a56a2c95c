"""``radbridge send`` with a batch: the answer is a batch, and one refused message is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rigs.command import radbridge
from tests.rigs.mllp import message
from tests.rigs.site import port, running


@pytest.mark.parametrize(("processing", "code", "ok"), [("P", "AA", True), ("T", "AR", False)])
async def test_sending_a_batch_succeeds_only_if_every_message_was_taken(
    processing: str, code: str, ok: bool, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    second = message(2).replace(b"|P|", f"|{processing}|".encode())
    batch = b"BHS|^~\\&|RIS|RADIO|BRIDGE|HUB|20260102||||B-1\r" + message(1) + second + b"BTS|2\r"
    channels = {
        "ris-in": {"type": "mllp-in", "listen": "127.0.0.1:0"},
        "out": {"type": "file-out", "folder": str(tmp_path / "out")},
    }
    async with running(tmp_path, channels, {"all": {"from": "ris-in", "to": ["out"]}}) as node:
        ran = await radbridge("send", "-", "--to", f"127.0.0.1:{port(node, 'ris-in')}", "--json", stdin=batch)

    (told,) = ran.json
    assert (told["code"], told["ok"], ran.code == 0) == (code, ok, ok)
