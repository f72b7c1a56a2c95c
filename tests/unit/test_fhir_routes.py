"""What a request to the facade meets before anything reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.responses import Response

from channels.fhir_access import anyone
from channels.fhir_audit import Recorder
from channels.fhir_exchange import Asked
from channels.fhir_routes import Routes
from tests.rigs.facade import JSON


async def test_a_body_of_which_nothing_more_comes_is_answered_as_too_late() -> None:
    arrived: list[bytes] = []

    async def keep(asked: Asked) -> Response:
        arrived.append(asked.body)
        return Response(status_code=201)

    async def parts() -> AsyncIterator[bytes]:
        yield b'{"resourceType":'
        await asyncio.Event().wait()

    routes = Routes(
        "fhir",
        {"/{kind}": {"POST": keep}},
        base="",
        release="R4",
        max_size=1000,
        authorise=anyone,
        recorder=Recorder("fhir", None),
        patience=0.01,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(routes.application), base_url="http://facade") as client:
        stalled = await client.post("/Patient", content=parts(), headers=JSON)
        whole = await client.post("/Patient", content=b"{}", headers=JSON)

    assert (stalled.status_code, stalled.json()["issue"][0]["code"]) == (408, "timeout")
    assert (whole.status_code, arrived) == (201, [b"{}"])
