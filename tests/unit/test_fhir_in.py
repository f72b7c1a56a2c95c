"""``fhir-in`` and servers that change while they are asked, that search badly, or give more than was asked for.

With a third-party server, and with the engine around it: tests/e2e/test_fhir_in.py.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from bridge.codecs.fhir_message import parse_fhir
from bridge.engine.state import StoredState
from bridge.errors import Overloaded, Refused
from bridge.ports import Services, channel_type
from bridge.state import MemoryState
from bridge.store.store import Store
from tests.rigs.ends import SERVICES, Engine, channel
from tests.rigs.fhir_search import SearchServer, task


@pytest.fixture
async def server() -> AsyncIterator[SearchServer]:
    server = SearchServer()
    await server.open()
    yield server
    await server.close()


@pytest.fixture
def services() -> Services:
    return replace(SERVICES, state=MemoryState())


@asynccontextmanager
async def polling(server: SearchServer, services: Services, engine: Engine, **settings: Any) -> AsyncIterator[Any]:
    settings = {"since": "2026-01-01T00:00:00Z", "interval": "5ms", "search": "Task", **settings}
    source = channel("fhir-in", services, base_url=server.base_url, **settings)
    await source.start(engine.receive)
    try:
        yield source
    finally:
        await source.stop()
        await source.close()


async def polls(server: SearchServer, more: int = 4) -> None:
    """So many requests later."""
    until = len(server.requests) + more
    while len(server.requests) < until:
        await asyncio.sleep(0.002)


async def taken(engine: Engine, count: int) -> None:
    while len(engine.received) < count:
        await asyncio.sleep(0.002)


def versions(engine: Engine) -> Counter[str]:
    return Counter(parse_fhir(data).header.control_id for data in engine.data)


async def test_each_version_comes_once_byte_for_byte_and_is_known_by_its_name(
    server: SearchServer, services: Services
) -> None:
    engine = Engine()
    server.put(task("a", "01"), task("b", "02"))

    async with polling(server, services, engine):
        await taken(engine, 2)
        await polls(server)
        server.put(task("a", "03", version="2"))
        await taken(engine, 3)
        await polls(server)

    assert engine.data == [task("a", "01"), task("b", "02"), task("a", "03", version="2")]
    assert versions(engine) == dict.fromkeys(["Task/a/_history/1", "Task/b/_history/1", "Task/a/_history/2"], 1)


async def test_after_a_restart_only_what_is_new_comes(server: SearchServer, services: Services) -> None:
    first, second = Engine(), Engine()
    server.put(*(task(f"t{number}", f"{number:02}") for number in range(9)))

    async with polling(server, services, first, count=2):
        await taken(first, 9)
    server.put(task("new", "30"))
    async with polling(server, services, second, count=2):
        await taken(second, 1)
        await polls(server)

    assert second.data == [task("new", "30")]


async def test_what_changes_between_two_pages_hides_nothing(server: SearchServer, services: Services) -> None:
    # Given three pages of a server that counts them
    engine = Engine()
    server.put(*(task(f"t{number}", f"{number:02}") for number in range(6)))

    def change(url: str) -> None:
        # When a resource of the first page changes after that was read, and all others move up by one
        if len(server.requests) == 2:
            server.put(task("t0", "50", version="2"))

    server.before = change
    async with polling(server, services, engine, count=2, overlap=0):
        await taken(engine, 7)
        await polls(server)

    # Then all of them came
    expected = {f"Task/t{number}/_history/1" for number in range(6)} | {"Task/t0/_history/2"}
    assert versions(engine) == dict.fromkeys(expected, 1)


async def test_more_of_one_instant_than_a_page_holds_all_come_though_they_change_meanwhile(
    server: SearchServer, services: Services
) -> None:
    engine = Engine()
    server.put(*(task(f"t{number}", "01") for number in range(7)), task("later", "02"))
    server.before = lambda url: server.put(task("t0", "50", version="2")) if "page=2" in url else None

    async with polling(server, services, engine, count=2, overlap=0):
        await taken(engine, 9)
        await polls(server, 8)

    expected = {f"Task/t{number}/_history/1" for number in range(7)} | {"Task/later/_history/1", "Task/t0/_history/2"}
    assert versions(engine) == dict.fromkeys(expected, 1)


async def test_what_the_search_finds_late_is_taken_within_the_overlap(server: SearchServer, services: Services) -> None:
    engine = Engine()
    server.put(task("a", "10"), task("c", "30"))

    async with polling(server, services, engine, overlap="25s"):
        await taken(engine, 2)
        server.put(task("b", "12"))
        await taken(engine, 3)
        await polls(server)

    assert [json.loads(one)["id"] for one in engine.data] == ["a", "c", "b"]


async def test_a_time_in_the_future_hides_nothing_that_comes_after(server: SearchServer, services: Services) -> None:
    engine = Engine()
    server.now = server.now.replace(hour=8, second=10)
    server.put(task("from-the-future", "59"))

    async with polling(server, services, engine, overlap="5s"):
        await taken(engine, 1)
        await polls(server)
        server.now += timedelta(seconds=10)
        server.put(task("today", "15"))
        await taken(engine, 2)
        await polls(server)

    assert [json.loads(one)["id"] for one in engine.data] == ["from-the-future", "today"]


async def test_without_a_beginning_it_begins_now_by_the_servers_clock(server: SearchServer, services: Services) -> None:
    engine = Engine()
    server.now = server.now.replace(hour=8, second=10)
    server.put(task("before", "09"))

    async with polling(server, services, engine, since=None):
        await polls(server)
        server.put(task("after", "11"))
        await taken(engine, 1)
        await polls(server)

    assert engine.data == [task("after", "11")]


async def test_nothing_of_before_the_beginning_comes(server: SearchServer, services: Services) -> None:
    engine = Engine()
    server.put(task("before", "09.999"), task("at", "10"), task("after", "11"))

    async with polling(server, services, engine, since="2026-03-01T09:00:10+01:00"):
        await taken(engine, 2)
        await polls(server)

    assert [json.loads(one)["id"] for one in engine.data] == ["at", "after"]


async def test_what_is_refused_has_its_row_and_the_next_one_comes(server: SearchServer, services: Services) -> None:
    engine = Engine()
    engine.error = Refused("not wanted")
    server.put(task("a", "01"), task("b", "02"))

    async with polling(server, services, engine):
        await taken(engine, 2)
        await polls(server)

    assert engine.data == [task("a", "01"), task("b", "02")]


async def test_what_could_not_be_stored_comes_again(server: SearchServer, services: Services) -> None:
    engine = Engine()
    engine.error = Overloaded("too much")
    server.put(task("a", "01"), task("b", "02"))

    async with polling(server, services, engine):
        await taken(engine, 2)
        engine.error = None
        await polls(server, 6)

    assert set(engine.data[:2]) == {task("a", "01")}
    assert Counter(engine.data)[task("b", "02")] == 1


async def test_what_a_resource_refers_to_comes_along_where_it_is_asked_for(
    server: SearchServer, services: Services
) -> None:
    engine = Engine()
    server.put(task("a", "01").replace(b'"n"', b'"for": {"reference": "Patient/p"}, "n"'))
    patient = b'{"resourceType": "Patient",  "id": "p", "managingOrganization": {"reference": "Organization/o"}}'
    organization, other = (b'{"resourceType": "Organization", "id": "%s"}' % name for name in (b"o", b"x"))
    server.included = [organization, other, patient]

    async with polling(server, services, engine, include=["Task:patient", "Patient:organization"]):
        await taken(engine, 1)

    message = parse_fhir(engine.data[0])
    assert message.header.control_id == "Task/a/_history/1"
    assert [one["resource"]["id"] for one in message.entries] == ["a", "p", "o"]
    assert server.has["a"] in engine.data[0] and patient in engine.data[0]
    assert "_include=Task%3Apatient&_include=Patient%3Aorganization" in server.requests[-1]


def unversioned(server: SearchServer) -> None:
    server.put(task("a", "01").replace(b"versionId", b"version"))


def unsorted(server: SearchServer) -> None:
    server.put(task("a", "01"), task("b", "02"))
    server.sorts = False


def unfiltered(server: SearchServer) -> None:
    server.put(task("a", "01"))
    server.now = server.now.replace(year=2027)
    server.filters = False


def elsewhere(server: SearchServer) -> None:
    server.put(task("a", "01"), task("b", "01"))
    server.link = "http://127.0.0.2:9/fhir"


def linkless(server: SearchServer) -> None:
    server.put(task("a", "01"), task("b", "01"))
    server.link = ""


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        (unversioned, "meta"),
        (unsorted, "_sort=_lastUpdated"),
        (unfiltered, "_lastUpdated"),
        (elsewhere, "Bundle.link"),
        (linkless, "count"),
    ],
)
async def test_a_server_that_would_hide_something_is_told_and_not_believed(
    server: SearchServer, services: Services, fault: Any, at: str
) -> None:
    fault(server)
    count = 1 if fault in (elsewhere, linkless) else 100
    since = None if fault is unfiltered else "2026-01-01T00:00:00Z"

    with capture_logs() as logs:
        async with polling(server, services, Engine(), count=count, since=since):
            while not logs:
                await asyncio.sleep(0.002)
            await polls(server, 2)

    failed = [one for one in logs if one["event"] == "poll_failed"]
    assert {one["at"] for one in failed} == {at}
    assert all(one["fix"] for one in failed)


async def test_the_token_goes_to_no_other_server(server: SearchServer, services: Services) -> None:
    other = SearchServer()
    await other.open()
    server.link = other.base_url
    server.put(task("a", "01"), task("b", "01"))

    async with polling(server, services, Engine(), count=1, token="s3cret"):
        await polls(server)

    assert other.requests == []
    await other.close()


async def test_one_search_that_fails_does_not_hold_up_the_others(server: SearchServer, services: Services) -> None:
    engine = Engine()
    server.put(task("a", "01"))
    server.before = lambda url: server.junk.append(b"junk") if "Bad" in url else None

    async with polling(server, services, engine, search=["Bad", "Task"]):
        await taken(engine, 1)

    assert engine.data == [task("a", "01")]


async def test_stopping_does_not_wait_for_a_server_that_never_answers(services: Services) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await reader.read()
        writer.close()

    called, server = asyncio.Event(), SearchServer()
    listening = await asyncio.start_server(silence, "127.0.0.1", server.port)

    async with polling(server, services, Engine(), timeout="10m") as source:
        await called.wait()
        async with asyncio.timeout(60):
            await source.stop()

    listening.close()


async def test_of_several_nodes_one_polls_and_another_goes_on_when_it_stops(
    server: SearchServer, store_url: str
) -> None:
    store, engines, polled = Store(store_url), [Engine(), Engine()], ["?node=0", "?node=1"]
    services = [replace(SERVICES, state=StoredState(store, "poll", f"node-{number}")) for number in (0, 1)]
    server.put(task("a", "01"))

    async with polling(server, services[1], engines[1], search="Task?node=1", interval="20ms"):
        await taken(engines[1], 1)
        async with polling(server, services[0], engines[0], search="Task?node=0", interval="20ms"):
            await polls(server)
            assert not any(polled[0] in url for url in server.requests)
    server.put(task("b", "02"))
    async with polling(server, services[0], engines[0], search="Task?node=0"):
        await taken(engines[0], 1)

    store.close()


@pytest.mark.parametrize(
    "search", ["", "task", "Task?_sort=status", "Task?a=b&_lastUpdated=ge2020", "http://x/Task", "Task/1", [], "Task? "]
)
def test_a_search_that_is_none_or_takes_what_is_the_channels_is_told(search: Any) -> None:
    model = channel_type("fhir-in").settings

    with pytest.raises(ValidationError):
        model.model_validate({"type": "fhir-in", "base_url": "https://his.example", "search": search})


@pytest.mark.parametrize("circle", [True, False], ids=["the-same-link", "ever-new-links"])
async def test_pages_that_repeat_for_ever_are_told_and_other_searches_go_on(
    server: SearchServer, services: Services, circle: bool
) -> None:
    # Given pages of one instant, each with a link to another page with the same
    engine, number = Engine(), itertools.count(1)
    entry = b'{"resource": ' + task("a", "01") + b', "search": {"mode": "match"}}'
    url = f"{server.base_url}/Task?again="

    def repeat(asked: str) -> None:
        if "Task?status" in asked or "again=" in asked:
            link = {"relation": "next", "url": f"{url}{1 if circle else next(number)}"}
            page = json.dumps({"resourceType": "Bundle", "type": "searchset", "link": [link]})
            server.junk = [page[:-1].encode() + b', "entry": [' + entry + b"]}"]

    server.before = repeat
    server.put(task("b", "02"))
    searches = ["Task?status=active", "Task"]

    # When it is polled
    with capture_logs() as logged:
        async with (
            asyncio.timeout(20),
            polling(server, services, engine, search=searches, since="2026-03-01T08:00:01Z", count=1, overlap=0),
        ):
            while not any(entry["event"] == "poll_failed" for entry in logged):
                await asyncio.sleep(0.002)

    # Then the other search came to its turn
    assert [json.loads(one)["id"] for one in engine.data] == ["a", "b"]
    assert "the server's pages repeat" in {entry.get("what") for entry in logged}


async def test_a_link_that_is_no_address_is_told(server: SearchServer, services: Services) -> None:
    engine = Engine()
    server.link = "http://[::1:x"
    server.put(*(task(f"t{number}", "01") for number in range(3)), task("later", "02"))

    with capture_logs() as logged:
        async with asyncio.timeout(20), polling(server, services, engine, count=2):
            while not any(entry["event"] == "poll_failed" for entry in logged):
                await asyncio.sleep(0.002)

    assert [entry["at"] for entry in logged if entry["event"] == "poll_failed"][0] == "Bundle.link"
    assert not any(entry["event"] == "channel_failed" for entry in logged)
