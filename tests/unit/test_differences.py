"""Which fields differ between two renderings of one message."""

from __future__ import annotations

import json

import pytest

from bridge.codecs.differences import differing_fields

HEAD = b"MSH|^~\\&|A|B|||||ORM^O01|1|P|2.5"


def bundle(**report: object) -> bytes:
    return json.dumps({"entry": [{"resource": {"resourceType": "DiagnosticReport", **report}}]}).encode()


@pytest.mark.parametrize(
    ("format", "before", "after", "fields"),
    [
        ("hl7v2", HEAD + b"\rPID|1\r", HEAD.replace(b"|B|", b"|C|") + b"\rPID|1||X\r", ["MSH-4", "PID-3"]),
        ("hl7v2", HEAD + b"\rNTE|1\r", HEAD + b"\rNTE|1\rNTE|2\r", ["NTE added"]),
        ("hl7v2", HEAD + b"\rPV1|1\r", HEAD + b"\rZDS|1\r", ["PV1 removed", "ZDS added"]),
        ("hl7v2", HEAD + b"\rPID|1\r", HEAD + b"\rPID|1|\r", ["the form, not a value"]),
        ("fhir", bundle(status="final"), bundle(status="final", code={"text": "x"}), ["DiagnosticReport.code.text"]),
        ("fhir", bundle(id="1", note=["a"]), bundle(id="1", note=["a", "b"]), ["DiagnosticReport.note"]),
        (
            "worklist",
            b'{"updates": [{"steps": [{"attributes": {"PatientName": "A"}}], "change": "new"}]}',
            b'{"updates": [{"steps": [{"attributes": {"PatientName": "B"}}], "change": "cancel"}]}',
            ["PatientName", "updates.change"],
        ),
        ("bytes", b"\x00", b"\x01", ["the content"]),
        ("hl7v2", HEAD + b"\r", HEAD + b"\r", []),
    ],
)
def test_two_renderings_differ_in_these_fields(format: str, before: bytes, after: bytes, fields: list[str]) -> None:
    assert differing_fields(format, before, after) == fields
