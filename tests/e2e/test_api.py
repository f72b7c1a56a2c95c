"""The admin API of a real engine, over HTTP: every action, its errors, and what may be seen without a token."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.rigs.command import TOKEN, Hospital
from tests.rigs.engine import Node
from tests.rigs.modality import worklist
from tests.rigs.radiology import hl7 as message_of
from tests.rigs.radiology import order, pid, report

NAME = "ÉLODIE"
ACTIONS = {
    "/api/status",
    "/api/messages",
    "/api/messages/{identifier}",
    "/api/deliveries",
    "/api/replay/preview",
    "/api/replay",
    "/api/skip",
    "/api/worklist",
    "/api/systems/{name}/ping",
    "/api/channels/{name}/messages",
    "/api/check",
    "/api/quality",
    "/api/unmapped",
}


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    built = Hospital.build(tmp_path)
    yield built
    built.close()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A hospital whose engine runs for all tests that only look."""
    built = Hospital.build(tmp_path_factory.mktemp("quiet"))
    spare = "  spare:\n    type: mllp-in\n    listen: 127.0.0.1:0\n"
    built.config.write_text(built.config.read_text().replace("channels:\n", f"channels:\n{spare}", 1))
    with Node(built.config, roles="receive,deliver,dicom,web") as node:
        node.start()
        node.process.wait_until(lambda: "Stop with Ctrl+C" in node.output())
        yield built
    built.close()


@asynccontextmanager
async def serving(hospital: Hospital) -> AsyncIterator[tuple[httpx.AsyncClient, Node]]:
    """A client that shows the token, and the engine it talks to."""
    async with hospital.open() as node, hospital.client() as client:
        yield client, node


async def post(client: httpx.AsyncClient, data: bytes, channel: str = "ris-in") -> httpx.Response:
    return await client.post(f"/api/channels/{channel}/messages", content=data)


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from references(item)


async def test_without_the_token_nothing_under_api_is_shown_or_done(quiet: Hospital) -> None:
    async with quiet.client() as client:
        document = (await client.get("/api/openapi.json")).json()
        answers = {}
        for shown in (None, "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
            headers = {"authorization": shown} if shown else {}
            for path, operations in document["paths"].items():
                for method in operations:
                    request = client.build_request(method, re.sub(r"\{\w+\}", "x", path), json={})
                    request.headers.pop("authorization")
                    request.headers.update(headers)
                    answers[method, path, shown] = (await client.send(request)).status_code

    inside = {status for (_, path, _), status in answers.items() if path.startswith("/api/")}
    outside = {path for (_, path, _) in answers if not path.startswith("/api/")}
    assert inside == {401}
    assert outside == {"/healthz", "/readyz", "/metrics"}


async def test_a_refusal_for_want_of_a_token_says_how_to_mend_it(quiet: Hospital) -> None:
    async with quiet.client() as client:
        refused = await client.get("/api/status", headers={"authorization": "Bearer wrong"})

    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert set(refused.json()) == {"kind", "what", "at", "fix"}
    assert TOKEN not in refused.text


async def test_the_openapi_document_types_every_answer(quiet: Hospital) -> None:
    async with quiet.client() as client:
        document = (await client.get("/api/openapi.json")).json()

    schemas = document["components"]["schemas"]
    assert {reference.rpartition("/")[2] for reference in references(document)} <= schemas.keys()
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len({operation["operationId"] for _, _, operation in operations}) == len(operations)
    assert {path for path, _, _ in operations} >= ACTIONS
    for path, method, operation in operations:
        good = next(answer for code, answer in operation["responses"].items() if code.startswith("2"))
        assert operation["description"], path
        if path.startswith("/api/"):
            assert operation["security"], path
            assert list(references(good["content"]["application/json"]["schema"])), (method, path)
            assert {"401", "404", "409", "422", "503"} <= operation["responses"].keys()
    for name in ("Problem", "MessageDetail", "OpenDelivery", "ReplayPreview", "Lane"):
        assert "$ref" in json.dumps(schemas[name]) or all(
            "type" in field or "anyOf" in field for field in schemas[name]["properties"].values()
        )


async def test_a_message_that_is_posted_is_received_as_if_its_sender_had_sent_it(hospital: Hospital) -> None:
    data = report("R1", "P1", 1).data

    async with hospital.pacs.up(), serving(hospital) as (client, _):
        taken = await post(client, data)
        again = await post(client, data)
        await hospital.pacs.has(1)
        (listed, repeated) = reversed((await client.get("/api/messages")).json())

    assert taken.status_code == 201
    assert again.status_code == 200
    assert (taken.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    assert "MSA|AA|R1" in taken.json()["answer"]
    assert again.json()["answer"] == taken.json()["answer"]
    assert [taken.json()["message"], again.json()["message"]] == [listed["id"], repeated["id"]]
    assert (listed["channel"], listed["peer"], repeated["status"]) == ("ris-in", "api", "duplicate")
    assert hospital.pacs.received == [data.decode()]


async def test_a_posted_message_that_is_refused_says_why_and_is_kept(hospital: Hospital) -> None:
    training = report("R1", "P1", 1).data.replace(b"|P|2.5.1", b"|T|2.5.1")

    async with serving(hospital) as (client, _):
        refused = await post(client, training)
        junk = await post(client, b"\x00\x01 no message")
        nowhere = await post(client, training, "pacs-out")
        kept = (await client.get("/api/messages", params={"status": "refused"})).json()

    assert refused.status_code == 422
    problem = refused.json()
    assert (problem["kind"], problem["at"]) == ("processing_id", "MSH-11")
    assert "MSA|AR|R1" in problem["answer"]
    assert junk.status_code == 400
    assert nowhere.status_code == 404
    assert {row["id"] for row in kept} == {problem["message"], junk.json()["message"]}


async def test_messages_are_listed_without_content_and_paged(hospital: Hospital) -> None:
    async with serving(hospital) as (client, _):
        for number in range(1, 4):
            await post(client, report(f"R{number}", f"P{number}", number).data)
        await post(client, message_of("ADT^A08", "X1", pid("P1")))
        newest = (await client.get("/api/messages", params={"limit": 2})).json()
        older = (await client.get("/api/messages", params={"before": newest[-1]["id"]})).json()
        of_one = await client.get("/api/messages", params={"patient": "P1^HOSP"})
        odd = await client.get("/api/messages", params={"pateint": NAME})

    assert [row["control_id"] for row in (*newest, *older)] == ["X1", "R3", "R2", "R1"]
    assert [row["control_id"] for row in of_one.json()] == ["X1", "R1"]
    assert NAME not in of_one.text
    assert odd.status_code == 422
    assert odd.json()["at"] == "query.pateint"
    assert NAME not in odd.text


async def test_one_message_shows_its_bytes_and_deliveries_and_is_audited(hospital: Hospital) -> None:
    data = order("O1", "P1", 1).data

    async with hospital.pacs.up(), serving(hospital) as (client, _):
        identifier = (await post(client, data)).json()["message"]
        await hospital.pacs.has(1)
        shown = (await client.get(f"/api/messages/{identifier}")).json()
        unknown = await client.get("/api/messages/01aaaaaaaaaaaaaaaaaaaaaaaa")

    assert base64.b64decode(shown["content_base64"]) == data
    assert shown["content"] == data.decode()
    assert [delivery["destination"] for delivery in shown["deliveries"]] == ["pacs-out", "worklist"]
    assert unknown.status_code == 404
    assert unknown.json()["kind"] == "unknown_key"
    assert ("api", "view", identifier) in hospital.audit()


async def test_the_status_names_what_waits_and_why(hospital: Hospital) -> None:
    async with serving(hospital) as (client, _):
        await post(client, report("R1", "P1", 1).data)
        lane = await hospital.waits()
        status = (await client.get("/api/status")).json()
        pending = (await client.get("/api/deliveries", params={"status": "pending"})).json()

    assert (lane["destination"], lane["pending"], lane["dead"]) == ("pacs-out", 1, 0)
    assert "Connection refused" in lane["waits_for"]["what"]
    assert lane["waits_since"] >= pending[0]["created_at"]
    assert {channel["name"]: channel["state"] for channel in status["channels"]} == {
        "ris-in": "listens",
        "worklist": "listens",
        "pacs-out": "away",
    }
    assert [row["destination"] for row in pending] == ["pacs-out"]


async def test_dead_deliveries_are_previewed_byte_by_byte_and_replayed(hospital: Hospital) -> None:
    data = report("R1", "P1", 1).data
    hospital.pacs.answer = "AE"

    async with hospital.pacs.up(), serving(hospital) as (client, _):
        await post(client, data)
        (gone,) = await hospital.dead(1)
        hospital.pacs.answer, wish = "AA", {"deliveries": [gone["id"]]}
        previewed = (await client.post("/api/replay/preview", json=wish)).json()
        replayed = await client.post("/api/replay", json=wish)
        await hospital.pacs.has(2)
        again = await client.post("/api/replay", json=wish)
        nothing = await client.post("/api/replay", json={})
        odd = await client.post("/api/replay", json={"messages": [gone["message"]], "destinations": ["pax"]})
        story = (await client.get(f"/api/messages/{gone['message']}")).json()

    (preview,) = previewed
    assert base64.b64decode(preview["content_base64"]) == data
    assert (preview["replaces"], preview["error"], preview["later"]) == (gone["id"], None, [])
    assert hospital.pacs.received[:2] == [data.decode()] * 2
    assert replayed.status_code == 200
    (fresh,) = replayed.json()["deliveries"]
    causes = {delivery["id"]: (delivery["status"], delivery["cause"]) for delivery in story["deliveries"]}
    assert causes[gone["id"]] == ("replayed", "")
    assert causes[fresh][1] == gone["id"]
    assert again.status_code == 200, "an ended delivery can be sent again, at the end of its lane"
    assert (nothing.status_code, odd.status_code) == (404, 404)
    assert "pacs-out" in odd.json()["fix"]
    assert ("api", "replay", gone["id"]) in hospital.audit()
    assert ("api", "preview", gone["message"]) in hospital.audit()


async def test_a_dead_delivery_is_skipped_with_a_reason(hospital: Hospital) -> None:
    hospital.pacs.answer = "AE"

    async with hospital.pacs.up(), serving(hospital) as (client, _):
        await post(client, report("R1", "P1", 1).data)
        (gone,) = await hospital.dead(1)
        unreasoned = await client.post("/api/skip", json={"deliveries": [gone["id"]]})
        skipped = await client.post("/api/skip", json={"deliveries": [gone["id"]], "reason": "sent by hand"})
        left = (await client.get("/api/deliveries")).json()
        again = await client.post("/api/skip", json={"deliveries": [gone["id"]], "reason": "sent by hand"})

    assert unreasoned.status_code == 422
    assert unreasoned.json()["at"] == "body.reason"
    assert skipped.json() == {"skipped": 1}
    assert left == []
    assert again.status_code == 404
    assert ("api", "skip", gone["id"]) in hospital.audit()


async def test_the_worklist_is_shown_by_station_and_day(hospital: Hospital) -> None:
    async with serving(hospital) as (client, _):
        await post(client, order("O1", "P1", 1, minute=570).data)
        steps = await hospital.comes_to("/api/worklist?station=CT1&date=20260105", bool)
        elsewhere = (await client.get("/api/worklist", params={"station": "MR1"})).json()
        nonsense = await client.get("/api/worklist", params={"date": "tomorrow"})

    (step,) = steps
    assert step["status"] == "scheduled"
    assert step["attributes"]["AccessionNumber"] == "A1"
    assert elsewhere == []
    assert nonsense.status_code == 422
    assert ("api", "view", "worklist") in hospital.audit()


async def test_the_worklist_tells_who_was_given_a_step_and_a_system_is_pinged(
    hospital: Hospital, tmp_path: Path
) -> None:
    own = f'systems: {{ct1: {{ae_title: RADBRIDGE, dicom: {{address: "127.0.0.1:{hospital.dicom}"}}}}, ct2: {{}}}}\n'
    hospital.config.write_text(hospital.config.read_text() + own)
    async with serving(hospital) as (client, _):
        await post(client, order("O1", "P1", 1, minute=570).data)
        await hospital.comes_to("/api/worklist", bool)
        assert await worklist(hospital.dicom, tmp_path, caller="DESK")
        (step,) = await hospital.comes_to("/api/worklist", lambda steps: steps[0]["given_to"])
        pong = (await client.post("/api/systems/ct1/ping")).json()
        nobody = await client.post("/api/systems/ct2/ping")

    assert [(fetch["ae_title"], fetch["times"]) for fetch in step["given_to"]] == [("DESK", 1)]
    assert pong["ms"] > 0 and nobody.status_code == 404


async def test_check_tells_the_warnings_of_the_revision_that_runs(quiet: Hospital) -> None:
    async with quiet.client() as client:
        checked = (await client.get("/api/check")).json()
        status = (await client.get("/api/status")).json()

    (finding,) = checked["findings"]
    assert (finding["severity"], finding["what"]) == ("warning", "no route uses the channel `spare`")
    assert finding["line"] > 0
    assert checked["revision"] == status["revision"]


async def test_what_is_not_there_is_answered_in_the_same_form(quiet: Hospital) -> None:
    async with quiet.client() as client:
        answers = [await client.get("/api/nothing"), await client.delete("/api/messages"), await client.get("/docs")]

    assert [answer.status_code for answer in answers] == [404, 405, 404]
    for answer in answers:
        assert set(answer.json()) == {"kind", "what", "at", "fix"}


async def test_health_metrics_and_the_page_need_no_token_and_show_no_content(hospital: Hospital) -> None:
    hospital.pacs.answer = "AE"

    async with hospital.pacs.up(), serving(hospital) as (client, _):
        await post(client, report("R1", "P1", 1).data)
        await hospital.dead(1)
        del client.headers["authorization"]
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
        metrics, page = await client.get("/metrics"), await client.get("/")

    assert (alive.status_code, alive.json()) == (200, {"alive": True})
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    assert 'radbridge_messages_received_total{channel="ris-in",outcome="accepted"} 1.0' in metrics.text
    assert 'radbridge_deliveries_dead{destination="pacs-out"} 1.0' in metrics.text
    assert page.status_code == 200
    assert "1 dead: they wait for a person." in page.text
    assert "pacs-out" in page.text
    assert "default-src &#x27;none&#x27;" in page.headers["content-security-policy"].replace("'", "&#x27;")
    for text in (metrics.text, page.text, ready.text):
        assert NAME not in text
        assert "P1" not in text


async def test_readiness_says_why_while_the_disk_takes_no_more_and_recovers_with_it(hospital: Hospital) -> None:
    """A file size limit stands for a full disk: the operating system refuses writes, but to the young log."""
    async with serving(hospital) as (client, node):
        process = psutil.Process(node.process.pid)
        before = await client.get("/readyz")
        unlimited = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (48 << 10, unlimited[1]))
        full = await readiness(client, 503)
        refused = await post(client, report("R1", "P1", 1).data)
        process.rlimit(psutil.RLIMIT_FSIZE, unlimited)
        after = await readiness(client, 200)
        taken = await post(client, report("R2", "P1", 2).data)

    assert before.status_code == 200
    (reason,) = full.json()["reasons"]
    assert "the database cannot write" in reason["what"]
    assert "free disk space" in reason["fix"]
    assert refused.status_code == 503
    assert refused.json()["message"] == ""
    assert after.json() == {"ready": True, "reasons": []}
    assert taken.status_code == 201
    with closing(sqlite3.connect(hospital.config.parent / "var" / "radbridge.db")) as database:
        assert database.execute("SELECT control_id FROM message").fetchall() == [("R2",)]


async def readiness(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """The answer, once it has this status."""
    for _ in range(200):
        answer = await client.get("/readyz")
        if answer.status_code == status:
            return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"/readyz answers {answer.status_code}: {answer.text}")
