"""A RIS that speaks HL7 2.3 (ORM) drives a PACS that wants 2.5.1 (OMI): clients and servers of the npm registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge.codecs.ack import read_ack
from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.codecs.strict import validate
from tests.rigs.mllp_npm import ask, server
from tests.rigs.need import REPOSITORY
from tests.rigs.site import eventually, port, running

NEW = (REPOSITORY / "mappings" / "samples" / "orm_23_two_steps.hl7").read_bytes()


def order(control_id: str, **fields: str) -> bytes:
    """The order of the sample in UTF-8, under another MSH-10, with other values in all its groups: ``ORC_1="CA"``."""
    editor = parse(NEW).edit()
    editor.set("MSH-18", "UNICODE UTF-8")
    editor.set("MSH-10", control_id)
    for path, value in fields.items():
        segment, field, *component = path.split("_")
        editor.set(f"{segment}(*)-{'.'.join((field, *component))}", value)
    return editor.encode()


def site(where: int, mapping: str) -> tuple[dict[str, Any], dict[str, Any]]:
    channels = {
        "ris-in": {"type": "mllp-in", "listen": "127.0.0.1:0"},
        "pacs-out": {"type": "mllp-out", "connect": f"127.0.0.1:{where}", "lane": "patient"},
    }
    return channels, {"orders": {"from": "ris-in", "to": [{"pacs-out": mapping}]}}


async def test_a_pacs_that_wants_omi_follows_a_ris_that_speaks_orm(tmp_path: Path) -> None:
    sent = [
        order("RIS1"),
        order("RIS2", ORC_1="XO", ORC_7_4="20260110140000"),
        order("RIS3", ORC_1="CA", ORC_5="CA"),
    ]
    async with server(application="AA") as (where, arrived), running(tmp_path, *site(where, "orm-to-omi")) as node:
        answers = await ask("node-hl7", port(node, "ris-in"), sent)
        await eventually(lambda: len(arrived) == 3)

    assert [(read_ack(one.encode()).code, read_ack(one.encode()).control_id) for one in answers] == [
        ("AA", "RIS1"), ("AA", "RIS2"), ("AA", "RIS3"),
    ]  # fmt: skip
    new, change, cancel = (parse(one.encode()) for one in arrived)
    for message, control_id in ((new, "RIS1"), (change, "RIS2"), (cancel, "RIS3")):
        assert validate(message.raw) == []
        assert facts(message) == {
            "MSH-9": ["OMI^O23^OMI_O23"], "MSH-10": [control_id], "MSH-12": ["2.5.1"], "PID-5.2": ["HÉLÈNE"],
            "ORC-2.1": ["PL8001"] * 2, "IPC-1": ["A800"] * 2, "IPC-2": ["RP800"] * 2,
            "IPC-3": ["1.2.826.0.1.3680043.10.1.8001"] * 2, "IPC-4": ["SPS801", "SPS802"], "IPC-5": ["CT"] * 2,
        }  # fmt: skip
    assert [(one.all("ORC-1"), one.all("ORC-5")) for one in (new, change, cancel)] == [
        (["NW", "NW"], ["SC", "SC"]),
        (["XO", "XO"], ["SC", "SC"]),
        (["CA", "CA"], ["CA", "CA"]),
    ]
    assert new.all("TQ1-7") == ["20260109093000", "20260109101500"]
    assert change.all("TQ1-7") == ["20260110140000", "20260110140000"]
    assert new.all("TQ1-9") == ["S", "R"]


def facts(message: Hl7Message) -> dict[str, list[str]]:
    paths = ("MSH-9", "MSH-10", "MSH-12", "PID-5.2", "ORC-2.1", "IPC-1", "IPC-2", "IPC-3", "IPC-4", "IPC-5")
    return {path: message.all(path) for path in paths}


async def test_a_pacs_that_wants_orm_follows_a_ris_that_speaks_omi(tmp_path: Path) -> None:
    omi = (REPOSITORY / "mappings" / "samples" / "omi_new_mr.hl7").read_bytes()
    editor = parse(omi).edit()
    editor.set("MSH-18", "UNICODE UTF-8")
    async with server(application="AA") as (where, arrived), running(tmp_path, *site(where, "omi-to-orm")) as node:
        await ask("medplum", port(node, "ris-in"), [editor.encode()])
        await eventually(lambda: len(arrived) == 1)

    orm = parse(arrived[0].encode())
    assert (orm.get("MSH-9"), orm.get("MSH-12"), orm.get("PID-5.2")) == ("ORM^O01", "2.3", "JÖRG")
    assert orm.all("ORC-2.1") == ["PL2001", "PL2001"]
    assert orm.all("OBR-18") == ["A200", "A200"]
    assert orm.all("OBR-20") == ["SPS201", "SPS202"]
    assert orm.all("ORC-7.4") == ["20260106140000", "20260106140000"]
    assert orm.all("ZDS-1.1") == ["1.2.826.0.1.3680043.10.1.2001"]
