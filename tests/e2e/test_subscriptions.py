"""Subscriptions to the FHIR facade: notifications reach their receivers, and what is behind is caught up with."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.rigs.command import radbridge
from tests.rigs.facade import facade
from tests.rigs.fhir import patient, report
from tests.rigs.need import REPOSITORY
from tests.rigs.processes import free_port
from tests.rigs.receiver import Receiver, receiving
from tests.rigs.subscriptions import Client, comes, plain, topical

MIME = "application/fhir+json"
PORTS = [free_port(), free_port()]
_numbers = count(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engine's site file is."""
    return tmp_path_factory.mktemp("facade")


@pytest.fixture(scope="module")
def ris() -> str:
    """Where the RIS posts its messages."""
    return f"http://127.0.0.1:{free_port()}/hl7"


@pytest.fixture(scope="module")
def base(folder: Path, ris: str) -> Iterator[str]:
    """A facade that may post to two addresses; beside it one with few subscriptions, and one as it is by default."""
    endpoints = [f"http://127.0.0.1:{port}/hook*" for port in PORTS]
    fast = {"endpoints": endpoints, "first": "50ms", "longest": "100ms", "attempts": 2}
    besides = {
        "few": {"type": "fhir-server", "path": "/few", "subscriptions": {**fast, "max": 1, "give_up": "300ms"}},
        "default": {"type": "fhir-server", "path": "/default"},
        "ris": {"type": "http-in", "listen": ris.split("/")[2]},
    }
    routes = {"reports": {"from": "ris", "to": [{"fhir": "report-to-fhir"}]}}
    with facade(folder, routes, channels=besides, subscriptions=fast) as url:
        yield url


@pytest.fixture
async def client(base: str) -> AsyncIterator[Client]:
    async with Client(base) as one:
        yield one


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving(PORTS[0]) as one:
        yield one


@pytest.fixture
async def other() -> AsyncIterator[Receiver]:
    async with receiving(PORTS[1]) as one:
        yield one


class Reports:
    """The reports of a patient whom no other test has."""

    def __init__(self) -> None:
        self.patient = f"Patient/p{next(_numbers)}"
        self.filter = f"DiagnosticReport?patient={self.patient}"

    def __call__(self, status: str = "final") -> dict[str, Any]:
        return report(next(_numbers), status, self.patient)


@pytest.fixture
def reports() -> Reports:
    return Reports()


# rest-hooks


async def test_a_report_that_becomes_final_is_told_once_after_a_handshake(
    client: Client, receiver: Receiver, reports: Reports
) -> None:
    # Given a subscription by topic for one patient's reports, with a secret for its receiver
    secret = ["Authorization: Bearer s3cret"]
    asked = topical("report-final", f"{receiver.url}/hook", "full-resource", reports.filter, header=secret)
    made = await client.made(asked)
    assert made["status"] == "requested"
    await client.becomes(made, "active")

    # When reports become final, of this patient and of another, and one is written again
    early = await client.made(reports("preliminary"))
    final = await client.changed(early, status="final")
    await client.changed(final, conclusion="as it was")
    await client.made(Reports()())
    await client.made(reports())
    await comes(lambda: receiver.numbers() == [1, 2])

    # Then each was told once, whole, with what the receiver wants to know it by
    (handshake,) = receiver.taken("handshake")
    told = receiver.taken()[0]
    assert handshake.parameters["status"] == "requested"
    assert {one.headers["authorization"] for one in receiver.requests} == {"Bearer s3cret"}
    assert told.parameters["events"][0]["focus"] == f"{client.base_url}DiagnosticReport/{early['id']}"
    assert told.headers["content-type"] == MIME
    whole = [entry["resource"] for one in receiver.taken() for entry in json.loads(one.body)["entry"][1:]]
    assert whole[0] == final
    assert len(whole) == 2

    # And the secret is nobody's to read
    history = await client.get(f"/Subscription/{made['id']}/_history")
    assert "s3cret" not in history.text
    assert (await client.one(made))["channel"]["header"] == ["Authorization: ***"]


async def test_what_mappings_bring_is_told_as_well(client: Client, receiver: Receiver, ris: str) -> None:
    # Given a subscription to reports that become final
    await client.active(topical("report-final", f"{receiver.url}/hook"))

    # When the RIS sends a preliminary report, and the final one
    for sample in ("oru_preliminary.hl7", "oru_final.hl7"):
        message = (REPOSITORY / "mappings" / "samples" / sample).read_bytes()
        assert (await client.post(ris, content=message)).status_code == 201

    # Then it is told once
    await comes(lambda: receiver.numbers() == [1])
    focus = receiver.taken()[0].parameters["events"][0]["focus"]
    assert (await client.get(focus)).json()["status"] == "final"


async def test_plain_criteria_are_told_as_r4_has_it(client: Client, receiver: Receiver, reports: Reports) -> None:
    # Given a subscription without a payload, and one with
    criteria = f"{reports.filter}&status=final"
    await client.active(plain(criteria, f"{receiver.url}/hook"))
    await client.active(plain(criteria, f"{receiver.url}/hook/fhir", MIME))

    # When a report that matches is written, and one that does not
    await client.made(reports("preliminary"))
    final = await client.made(reports())
    await comes(lambda: len(receiver.requests) == 2)

    # Then the one is an empty POST to the endpoint, the other an update at the server that it is the base of
    by_method = {one.method: one for one in receiver.requests}
    assert (by_method["POST"].path, by_method["POST"].body) == ("/hook", b"")
    assert by_method["PUT"].path == f"/hook/fhir/DiagnosticReport/{final['id']}"
    assert json.loads(by_method["PUT"].body) == final


async def test_a_receiver_that_was_away_catches_up_without_a_gap(
    client: Client, receiver: Receiver, other: Receiver, reports: Reports
) -> None:
    # Given two subscriptions whose receivers take what comes
    made = await client.active(topical("report-final", f"{receiver.url}/hook", "id-only", reports.filter, max_count=3))
    await client.active(topical("report-final", f"{other.url}/hook", "id-only", reports.filter))
    await client.made(reports())
    await comes(lambda: receiver.numbers() == [1])

    # When one of them fails while reports become final
    receiver.status = 503
    await client.made(reports())
    failed = await client.becomes(made, "error")
    for _ in range(7):
        await client.made(reports())

    # Then the other one is told of all of them meanwhile
    await comes(lambda: other.numbers() == list(range(1, 10)))
    assert failed["error"] == "HTTP 503"

    # And once it is back it gets every event in its sequence, a few at a time, after a new handshake
    receiver.status = 200
    await comes(lambda: receiver.numbers() == list(range(1, 10)))
    now = await client.becomes(made, "active")
    assert "error" not in now
    assert max(len(one.numbers) for one in receiver.taken()) == 3
    assert len(receiver.taken("handshake")) == 2


async def test_a_client_resumes_what_is_in_error_and_ends_what_it_turns_off(
    client: Client, receiver: Receiver, reports: Reports
) -> None:
    # Given a subscription whose receiver does not want to be asked for an hour
    receiver.status, receiver.headers = 503, [(b"retry-after", b"3600")]
    made = await client.made(topical("report-final", f"{receiver.url}/hook", "id-only", reports.filter))
    failed = await client.becomes(made, "error")
    await client.made(reports())
    receiver.status = 200

    # When its client asks for it again
    resumed = await client.changed(failed, status="requested")
    await comes(lambda: receiver.numbers() == [1])

    # Then it is active; and off, nothing is told, not even of what comes before it is asked for again
    active = await client.becomes(resumed, "active")
    assert [one.status for one in receiver.requests] == [503, 200, 200]
    off = await client.changed(active, status="off")
    await client.made(reports())
    await client.changed(off, status="requested")
    await client.becomes(made, "active")
    last = await client.made(reports())
    await comes(lambda: len(receiver.numbers()) == 2)
    assert receiver.numbers() == [1, 2]
    assert receiver.taken()[-1].parameters["events"][0]["focus"].endswith(last["id"])


async def test_a_receiver_that_stays_away_is_given_up(base: str, receiver: Receiver) -> None:
    receiver.status = 500
    async with Client(base.replace("/fhir", "/few")) as few:
        made = await few.made(topical("report-final", f"{receiver.url}/hook"))

        given_up = await few.becomes(made, "off")

        assert given_up["error"] == "HTTP 500"
        tried = len(receiver.requests)
        await few.changed(given_up, reason="still off", status="off")
        assert len(receiver.requests) == tried


async def test_a_subscription_ends_when_it_says(client: Client, receiver: Receiver) -> None:
    made = await client.made(topical("report-final", f"{receiver.url}/hook", end="2020-01-01T00:00:00Z"))

    ended = await client.becomes(made, "off")

    assert ended["error"] == "its end has come"
    assert receiver.requests == []


async def test_a_quiet_subscription_shows_that_it_lives(client: Client, receiver: Receiver, reports: Reports) -> None:
    await client.active(topical("report-final", f"{receiver.url}/hook", "id-only", reports.filter, heartbeat=1))

    await comes(lambda: len(receiver.taken("heartbeat")) == 2)

    assert receiver.numbers() == []
    assert receiver.taken("heartbeat")[0].parameters["events-since-subscription-start"] == "0"


async def test_a_receiver_that_hangs_holds_up_nobody(
    client: Client, receiver: Receiver, other: Receiver, reports: Reports
) -> None:
    # Given a receiver that stops answering, and a busy one
    stuck = await client.active(topical("report-final", f"{receiver.url}/hook", "id-only", reports.filter, timeout=1))
    await client.active(topical("report-final", f"{other.url}/hook", "id-only", reports.filter))
    receiver.hangs = True

    # When reports become final
    for _ in range(3):
        await client.made(reports())

    # Then writes and the other notifications go on
    await comes(lambda: other.numbers() == [1, 2, 3])
    assert (await client.one(stuck))["status"] == "active"
    assert (await client.becomes(stuck, "error"))["error"] == "no answer within 1 s"
    assert receiver.numbers() == []


# what is refused


async def test_only_what_is_allowed_can_be_subscribed_to(client: Client, receiver: Receiver) -> None:
    hook, endpoint, criteria = f"{receiver.url}/hook", "Subscription.channel.endpoint", "Subscription.criteria"

    # Where it may not be sent, whatever the address looks like
    for elsewhere in ("http://127.0.0.1:1/hook", f"{receiver.url}/admin", f"{receiver.url}/hook/../admin"):
        assert await client.refused(plain("DiagnosticReport", elsewhere)) == (403, endpoint)
    disguised = hook.replace("http://", "http://user@")
    assert await client.refused(plain("DiagnosticReport", disguised)) == (403, endpoint)

    # What cannot be watched
    assert await client.refused(plain("DiagnosticReport?subject.name=x", hook)) == (422, criteria)
    assert await client.refused(plain("DiagnosticReport?nonsense=x", hook)) == (422, criteria)
    assert await client.refused(plain("Subscription?status=active", hook)) == (422, criteria)
    assert await client.refused(topical("no-such-topic", hook)) == (422, criteria)
    strange = topical("report-final", hook, "empty", "DiagnosticReport?issued=2030")
    assert await client.refused(strange) == (422, f"{criteria}.extension")

    # What only the server may say, and headers that it owns
    assert await client.refused(plain("Patient", hook, status="error")) == (422, "Subscription.status")
    forged = plain("Patient", hook, header=["Host: elsewhere"])
    assert await client.refused(forged) == (422, "Subscription.channel.header[0]")


async def test_the_manual_shows_a_subscription_that_is_taken(client: Client, receiver: Receiver) -> None:
    manual = (REPOSITORY / "docs" / "subscriptions.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", manual, re.DOTALL)

    await client.active(json.loads(example.replace("https://his.example/notify/reports", f"{receiver.url}/hook")))

    assert len(receiver.taken("handshake")) == 1


async def test_there_are_no_more_than_the_site_allows_and_none_to_anywhere_by_default(
    base: str, receiver: Receiver
) -> None:
    hook = f"{receiver.url}/hook"
    async with Client(base.replace("/fhir", "/few")) as few, Client(base.replace("/fhir", "/default")) as default:
        await few.made(plain("Patient", hook))

        assert await few.refused(plain("Patient", hook)) == (409, "Subscription")
        assert await default.refused(plain("Patient", hook)) == (403, "Subscription.channel.endpoint")


# operations


async def test_status_topics_and_former_events_can_be_asked_for(
    client: Client, receiver: Receiver, reports: Reports
) -> None:
    made = await client.active(topical("report-final", f"{receiver.url}/hook", "empty", reports.filter))
    first, second = await client.made(reports()), await client.made(reports())
    await comes(lambda: receiver.numbers() == [1, 2])

    # An empty notification names nothing
    assert all(first["id"] not in one.body.decode() for one in receiver.taken())

    # $status and $events say how it stands and what it was told
    status = (await client.get(f"/Subscription/{made['id']}/$status")).json()
    said = {one["name"]: one for one in status["entry"][0]["resource"]["parameter"]}
    assert (said["status"]["valueCode"], said["type"]["valueCode"]) == ("active", "query-status")
    assert said["events-since-subscription-start"]["valueString"] == "2"
    asked = {"eventsSinceNumber": "2", "content": "full-resource"}
    events = (await client.get(f"/Subscription/{made['id']}/$events", params=asked)).json()
    assert events["type"] == "history"
    assert [entry["resource"]["id"] for entry in events["entry"][1:]] == [second["id"]]

    # The topics are told of, and can be read
    metadata = (await client.get("/metadata")).json()["rest"][0]
    (kind,) = (one for one in metadata["resource"] if one["type"] == "Subscription")
    topics = [one["valueCanonical"] for one in kind["extension"]]
    listed = (await client.get("/SubscriptionTopic")).json()
    assert [entry["resource"]["url"] for entry in listed["entry"]] == topics
    assert (await client.get("/SubscriptionTopic/report-final")).json()["url"] in topics
    assert metadata["extension"][0]["valueUri"] == _address(client)


async def test_the_person_on_call_sees_what_is_behind_and_has_it_tried_again(
    client: Client, receiver: Receiver, reports: Reports, folder: Path, base: str
) -> None:
    # Given a subscription in error, with an event that waits, and a receiver that does not want to be asked for an hour
    receiver.status, receiver.headers = 503, [(b"retry-after", b"3600")]
    made = await client.made(topical("report-final", f"{receiver.url}/hook", "id-only", reports.filter))
    await client.becomes(made, "error")
    await client.made(reports())
    config = folder / "bridge.yaml"

    async def listed() -> dict[str, Any]:
        rows = (await radbridge("subscriptions", "--json", "--config", config)).json
        (row,) = (row for row in rows if row["id"] == made["id"])
        return dict(row)

    # Then the list tells so without what is looked for, and the metrics count it
    row = await listed()
    while not row["waiting"]:
        row = await listed()
    assert (row["watches"], row["sent"], row["error"]) == ("report-final", "127.0.0.1 (rest-hook)", "HTTP 503")
    assert (row["status"], row["told"], row["waiting"]) == ("error", 0, 1)
    assert reports.patient not in json.dumps(row)
    metrics = (await client.get(base.replace("/fhir", "/metrics"))).text
    assert 'radbridge_fhir_subscriptions{channel="fhir",status="error"} 1.0' in metrics
    assert 'radbridge_fhir_events_waiting{channel="fhir"} 1.0' in metrics

    # And tried again it is told at once
    receiver.status = 200
    await radbridge("subscriptions", "retry", made["id"], "--config", config)
    await comes(lambda: receiver.numbers() == [1])


# websockets


def _address(client: Client) -> str:
    return f"{str(client.base_url).replace('http', 'ws', 1)}websocket"


@asynccontextmanager
async def socket(client: Client, **more: Any) -> AsyncIterator[ClientConnection]:
    async with connect(_address(client), proxy=None, **more) as opened:
        yield opened


async def said(opened: ClientConnection) -> str:
    """The next text, or the code with which the other side closes."""
    try:
        async with asyncio.timeout(20):
            return str(await opened.recv())
    except ConnectionClosed as closed:
        return str(closed.rcvd.code if closed.rcvd else 0)


async def bundle(opened: ClientConnection) -> tuple[str, list[int]]:
    """Type of the next notification, and the numbers of its events."""
    parameters = json.loads(await said(opened))["entry"][0]["resource"]["parameter"]
    (kind,) = (one["valueCode"] for one in parameters if one["name"] == "type")
    return kind, [int(one["part"][0]["valueString"]) for one in parameters if "part" in one]


async def test_a_websocket_is_pinged_also_for_what_came_while_it_was_closed(client: Client, reports: Reports) -> None:
    made = await client.active(plain(f"{reports.filter}&status=final"))

    async with socket(client) as opened:
        await opened.send(f"bind {made['id']}")
        assert await said(opened) == f"bound {made['id']}"
        await client.made(reports())
        assert await said(opened) == f"ping {made['id']}"
    await client.made(reports())
    await client.made(patient(1))

    async with socket(client) as opened:
        await opened.send(f"bind {made['id']}")
        assert [await said(opened) for _ in range(2)] == [f"bound {made['id']}", f"ping {made['id']}"]


async def test_a_token_binds_a_websocket_to_its_subscriptions_alone(client: Client, reports: Reports) -> None:
    # Given two subscriptions by topic, and a token for one of them
    wanted = await client.active(topical("report-final", "", "id-only", reports.filter, heartbeat=1))
    other = await client.active(topical("patient-changed"))
    answer = (await client.get(f"/Subscription/{wanted['id']}/$get-ws-binding-token")).json()["parameter"]
    token = {one["name"]: next(value for key, value in one.items() if key != "name") for one in answer}
    assert (token["subscription"], token["websocket-url"]) == (wanted["id"], _address(client))

    # When a client binds with it, the events of that one come to it after a handshake, and heartbeats besides
    async with socket(client) as opened:
        await opened.send(f"bind-with-token {token['token']}")
        assert await bundle(opened) == ("handshake", [])
        someone = await client.made(patient(2))
        await client.changed(someone, gender="female")
        await client.made(reports())
        seen = [await bundle(opened)]
        while seen[-1][0] == "heartbeat":
            seen.append(await bundle(opened))
        assert seen[-1] == ("event-notification", [1])
        assert await bundle(opened) == ("heartbeat", [])

    # Then other words than these end a connection, and so does a token that is none
    for word in ("bind-with-token nonsense", "hello", f"bind {wanted['id']}x"):
        async with socket(client) as opened:
            await opened.send(word)
            assert await said(opened) == "1008"

    # And a page of another origin cannot bind without one
    async with socket(client, origin="http://evil.example") as opened:
        await opened.send(f"bind {other['id']}")
        assert await said(opened) == "1008"
