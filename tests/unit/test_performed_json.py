"""Events of performed steps, written down as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.codecs.formats import read_any
from bridge.codecs.performed import PerformedStep, decode_event
from bridge.codecs.performed_json import event_file
from bridge.errors import CodecError

SAMPLES = sorted((Path(__file__).parents[2] / "mappings" / "samples").glob("mpps_*.json"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_a_text_is_read_as_the_event_it_describes(sample: Path) -> None:
    told = json.loads(sample.read_bytes())

    event = decode_event(event_file(sample.read_bytes()))

    assert (event.command, event.instance, event.calling) == (told["command"], told["instance"], told["calling"])
    assert event.told["PerformedProcedureStepStatus"] == told["data"]["00400252"]["Value"][0]
    assert (event.known is None) == ("known" not in told)
    assert isinstance(read_any(sample.read_bytes()), PerformedStep)


@pytest.mark.parametrize("text", ["{", "{}", '{"command": "N-SET"}', '{"command": 1, "instance": 2, "data": []}'])
def test_a_text_that_describes_no_event_is_refused_with_a_fix(text: str) -> None:
    with pytest.raises(CodecError) as caught:
        event_file(text.encode())
    assert "mpps_created.json" in caught.value.fix
