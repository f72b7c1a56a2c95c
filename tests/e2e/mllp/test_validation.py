"""The real engine behind ``mllp-in`` that validates: what a sender is told, what is kept, what is only noted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bridge.app import Node
from bridge.codecs.ack import Ack
from bridge.codecs.mllp import wrap
from bridge.store.search import MessageFilter
from tests.rigs.mllp import Client
from tests.rigs.need import REPOSITORY
from tests.rigs.site import port, running

ROUTES: dict[str, Any] = {"all": {"from": "his-in", "to": ["out"]}}
ADMISSION = (REPOSITORY / "mappings" / "fr" / "samples" / "adt_a01.hl7").read_bytes()
FAULTY = ADMISSION.replace(b"||INSERT|N|", b"||ADD||").replace(b"|D5001^^^HOPITAL&1.2.250.1.999.1&ISO^AN", b"|")
"""Neither an action that exists, nor whether the movement is historic, nor an account."""


def channels(folder: Path, **settings: Any) -> dict[str, Any]:
    (folder / "out").mkdir()
    return {
        "his-in": {"type": "mllp-in", "listen": "127.0.0.1:0", **settings},
        "out": {"type": "file-out", "folder": str(folder / "out")},
    }


async def answer(node: Node, data: bytes) -> Ack:
    client = Client(*await asyncio.open_connection("127.0.0.1", port(node, "his-in")))
    await client.send(wrap(data))
    (said,) = await client.answers(1)
    await client.close()
    return said


def stored(node: Node) -> dict[str, Any]:
    (row,) = node.operations.messages(MessageFilter(limit=10))
    return row


async def test_a_strict_channel_tells_every_fault_with_its_place_and_refuses_the_message(tmp_path: Path) -> None:
    strict = {"validate": "strict", "profile": "fr/pam-france", "structure": False}
    async with running(tmp_path, channels(tmp_path, **strict), ROUTES) as node:
        said = await answer(node, FAULTY)
        row = stored(node)

    assert said.code == "AE"
    assert [(error.code, error.location) for error in said.errors] == [
        ("101", "PID^1^18"), ("101", "ZBE^1^5"), ("103", "ZBE^1^4"), ("103", "ZBE^1^4"),
    ]  # fmt: skip
    assert "send PID-18, PV1 and ZBE with every movement" in said.errors[0].text
    assert row["status"] == "refused"
    assert row["error"]["at"] == "PID-18"
    assert "more faults at ZBE-5, ZBE-4" in row["error"]["what"]
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_channel_that_warns_takes_the_message_and_keeps_what_is_wrong_with_it(tmp_path: Path) -> None:
    warn = {"validate": "warn", "profile": ["fr/pam-france", "fr/ins"]}
    async with running(tmp_path, channels(tmp_path, **warn), ROUTES) as node:
        said = await answer(node, FAULTY.replace(b"|19700102|", b"|yesterday|"))
        row = stored(node)

    assert (said.code, said.errors) == ("AA", ())
    assert row["status"] == "routed"
    told = " / ".join(row["warnings"])
    assert "required PID-18 missing at PID-18; fix: send PID-18, PV1 and ZBE" in told
    assert "ZBE-4 is none of INSERT, UPDATE, CANCEL at ZBE-4" in told
    assert "not a valid DTM at PID-7.1" in told
    assert "yesterday" not in told


async def test_a_good_message_has_no_warnings(tmp_path: Path) -> None:
    warn = {"validate": "warn", "profile": ["fr/pam-france", "fr/ins"]}
    async with running(tmp_path, channels(tmp_path, **warn), ROUTES) as node:
        said = await answer(node, ADMISSION)
        row = stored(node)

    assert (said.code, row["status"], row["warnings"]) == ("AA", "routed", None)


async def test_structures_alone_are_validated_where_no_profile_is_named(tmp_path: Path) -> None:
    async with running(tmp_path, channels(tmp_path, validate="strict"), ROUTES) as node:
        said = await answer(node, ADMISSION.replace(b"EVN||20260106100000\r", b""))

    assert said.code == "AE"
    assert [error.location.partition("^")[0] for error in said.errors] == ["EVN"]


async def test_what_both_find_is_told_once_in_the_profile_s_words(tmp_path: Path) -> None:
    strict = {"validate": "strict", "profile": "fr/pam-france"}
    async with running(tmp_path, channels(tmp_path, **strict), ROUTES) as node:
        said = await answer(node, ADMISSION.replace(b"PV1|1|I|", b"PV1|1||"))

    assert [(error.code, error.location) for error in said.errors] == [("101", "PV1^1^2")]
    assert "every movement" in said.errors[0].text


async def test_before_2_5_one_error_names_the_places_of_the_others(tmp_path: Path) -> None:
    strict = {"validate": "strict", "profile": "fr/pam-france", "structure": False}
    old = FAULTY.replace(b"|2.5^FRA^2.11|", b"|2.4|")
    async with running(tmp_path, channels(tmp_path, **strict), ROUTES) as node:
        said = await answer(node, old)

    (error,) = said.errors
    assert "more faults at" in error.text
    assert "PID-18" in error.text


async def test_no_message_is_answered_with_more_errors_than_a_person_reads(tmp_path: Path) -> None:
    strict = {"validate": "strict", "profile": "fr/pam-france", "structure": False}
    many = ADMISSION.replace(b"|VALI\r", b"|" + b"~".join([b"X"] * 200) + b"\r")
    async with running(tmp_path, channels(tmp_path, **strict), ROUTES) as node:
        said = await answer(node, many)
        row = stored(node)

    assert len(said.errors) == 50
    assert row["error"]["what"].endswith("PID-32[11] and 39 more)")


async def test_the_french_adapter_warns_by_the_french_profiles(tmp_path: Path) -> None:
    mine = {"his": {"adapter": "fr-his"}}
    async with running(tmp_path, channels(tmp_path, system="his"), ROUTES, systems=mine) as node:
        said = await answer(node, FAULTY)
        row = stored(node)

    assert said.code == "AA"
    assert len(row["warnings"]) == 4
