"""Codes that a table has no row for: what a rule passes is counted and can be listed (law 7)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.codecs.hl7v2 import parse
from bridge.errors import MappingError
from bridge.mapping import compile_all
from bridge.model import Unmapped
from bridge.store.store import Store
from bridge.store.unmapped import unmapped_codes
from bridge.web.api import make_api
from tests.rigs.command import send_with_hl7
from tests.rigs.radiology import order
from tests.rigs.site import eventually, port, running
from tests.rigs.store import acceptance

ORDER = b"MSH|^~\\&|RIS|DEMO|||20260105080000||ORM^O01|C1|P|2.5.1\rPID|1||P1||||19700101|Q\rOBR|1|X1||LOCAL\rOBR|2|X2\r"
TABLES = {"tables/exams.csv": "code,name\nCT,Scan\n", "tables/rooms.csv": "exam,room,title\nCT,*,CT1\n"}
HOUR = 3_600_000


def met(line: str) -> list[Unmapped]:
    text = f"target: hl7v2\nmessages: [ORM^O01]\nedits: [{{each: OBR, set: {{OBR-20: {line}}}}}]\n"
    compiled = compile_all({"m.yaml": text, **TABLES})
    assert compiled.findings == []
    try:
        return list(compiled.mappings["m"].render(parse(ORDER), {}).unmapped)
    except MappingError as error:
        return list(error.unmapped)


@pytest.mark.parametrize(
    ("unknown", "outcome"),
    [
        ("pass", "passed"),
        ("empty", "emptied"),
        ("{value: OT}", "replaced"),
        ("park", "parked"),
        ("refuse", "refused"),
    ],
)
def test_a_code_without_a_row_is_kept_with_what_became_of_it(unknown: str, outcome: str) -> None:
    found = met(f"{{from: OBR-4, table: exams, unknown: {unknown}}}")

    assert found == [Unmapped("exams", "code", "LOCAL", outcome)]


def test_several_keys_are_kept_together() -> None:
    found = met("{from: [OBR-4, OBR-2], table: rooms, unknown: empty}")

    assert found == [
        Unmapped("rooms", "exam,room", "LOCAL|X1", "emptied"),
        Unmapped("rooms", "exam,room", "|X2", "emptied"),
    ]


def test_what_is_of_the_patient_is_counted_without_being_kept() -> None:
    assert met("{from: PID-8, table: exams, unknown: empty}") == [Unmapped("exams", "code", "", "emptied")]


def test_what_earlier_steps_met_is_not_lost_when_a_later_one_refuses() -> None:
    passing = "target: hl7v2\nmessages: [ORM^O01]\nedits: [{translate: {OBR-4: {table: exams, unknown: pass}}}]\n"
    refusing = "target: hl7v2\nmessages: [ORM^O01]\nedits: [{set: {OBR-5: {from: OBR-4, table: exams, fix: ask}}}]\n"
    files = {"a.yaml": passing, "b.yaml": refusing, "m.yaml": "steps: [a, b]\n", **TABLES}

    with pytest.raises(MappingError) as refused:
        compile_all(files).mappings["m"].render(parse(ORDER), {})

    assert [one.outcome for one in refused.value.unmapped] == ["passed", "refused"]


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    opened.ensure_destinations(["pacs"])
    yield opened
    opened.close()


async def test_codes_are_added_up_by_table_and_the_newest_message_is_the_example(store: Store) -> None:
    now = time.time_ns() // 1_000_000
    local, other = (Unmapped("exams", "code", code, "passed") for code in ("LOCAL", "OTHER"))

    await store.freeze([], unmapped=[("01A", local), ("01B", other), ("01C", local)])
    await store.freeze([], unmapped=[("01D", local)])
    refused = acceptance("C1")
    refused.unmapped = [Unmapped("rooms", "exam,room", "CT|R1", "refused")]
    await store.accept(refused)

    found = store.read(lambda c: unmapped_codes(c, now - HOUR))
    assert [(one.table, one.code, one.messages, one.example) for one in found] == [
        ("exams", "LOCAL", 3, "01D"),
        ("exams", "OTHER", 1, "01B"),
        ("rooms", "CT|R1", 1, refused.message.id),
    ]
    assert [one.table for one in store.read(lambda c: unmapped_codes(c, now - HOUR, "rooms"))] == ["rooms"]


async def test_counts_are_forgotten_with_the_journal_of_their_day(store: Store) -> None:
    now = time.time_ns() // 1_000_000
    await store.freeze([], unmapped=[("01A", Unmapped("exams", "code", "LOCAL", "passed"))])

    store.maintain(keep_days=30, receipt_window_ms=HOUR)
    assert len(store.read(lambda c: unmapped_codes(c, now - HOUR))) == 1
    store.maintain(keep_days=-2, receipt_window_ms=HOUR)
    assert store.read(lambda c: unmapped_codes(c, now - HOUR)) == []


async def test_an_engine_counts_what_it_passes_refuses_and_parks(tmp_path: Path) -> None:
    """Over an ordinary channel and one that refuses at the door; told by the API and by the command."""
    unknown_control = order("C2", "P1", 2, code="ZZ").data
    strange = order("C1", "P1", 1).data.removesuffix(b"CT\r") + b"XQ\r"
    channels = {
        "ris-in": {"type": "mllp-in", "listen": "127.0.0.1:0"},
        "strict-in": {"type": "mllp-in", "listen": "127.0.0.1:0", "on_error": "reject"},
        "worklist": {"type": "dicom-worklist", "listen": "127.0.0.1:0", "ae_title": "RADBRIDGE"},
        "out": {"type": "file-out", "folder": str(tmp_path / "out")},
    }
    routes = {
        "passed": {"from": "ris-in", "to": [{"out": "pacs-order"}]},
        "refused": {"from": "strict-in", "to": [{"worklist": "order-to-worklist"}]},
    }
    async with running(tmp_path, channels, routes) as node:
        # When an order passes with a code that no table has, and one is refused for an order control
        assert await send_with_hl7(port(node, "ris-in"), strange) == ["AA"]
        assert await send_with_hl7(port(node, "strict-in"), unknown_control) == ["AE"]
        await eventually(lambda: len(node.store.read(lambda c: unmapped_codes(c, 0))) == 2)
        # Then the API lists both
        transport, key = httpx.ASGITransport(make_api(node)), {"Authorization": f"Bearer {node.token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://node", headers=key) as client:
            listed = (await client.get("/api/unmapped")).json()
            modality = (await client.get("/api/unmapped", params={"table": "modality"})).json()

    assert [(one["table"], one["code"], one["outcome"], one["messages"]) for one in listed] == [
        ("modality", "XQ", "passed", 1),
        ("order-status", "ZZ|SC", "refused", 1),
    ]
    assert modality == listed[:1]
    # And so does the command, also when the engine has ended, with the command that gives each code its row
    run = CliRunner().invoke(app, ["table", "unmapped", "--json", "--config", str(tmp_path / "bridge.yaml")])
    shown = CliRunner().invoke(app, ["table", "unmapped", "--config", str(tmp_path / "bridge.yaml")])
    told = json.loads(run.stdout)
    assert [one.pop("mend") for one in told] == [
        "radbridge table set modality XQ modality=... remark=...",
        "radbridge table set order-status ZZ SC action=... change=... if_unknown=... remark=...",
    ]
    assert told == listed
    assert "XQ" in shown.stdout and "passed" in shown.stdout and "table set modality XQ" in shown.stdout
