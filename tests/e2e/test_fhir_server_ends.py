"""Where the FHIR facade is served: in the node's web server, through deploys, or at an encrypted address of its own."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.app import build
from bridge.engine.plan import Plan
from bridge.errors import Overloaded, StoreUnavailable
from bridge.ports import Services
from bridge.settings import Overrides, load
from bridge.web.server import WebServer
from tests.contract.ends import NoResources
from tests.rigs.ends import SERVICES, Engine, channel
from tests.rigs.engine import write_site
from tests.rigs.facade import Client, facade, issue
from tests.rigs.mllp import certificate
from tests.rigs.need import REPOSITORY, require
from tests.rigs.processes import free_port

TRANSACTION = {"resourceType": "Bundle", "type": "transaction"}


async def test_a_deploy_replaces_the_facade_and_its_resources_stay(tmp_path: Path) -> None:
    def loaded(**settings: Any) -> Any:
        path = write_site(tmp_path, {"fhir": {"type": "fhir-server", **settings}}, {})
        return load(path, overrides=Overrides.model_construct(), environ={})

    node = build(loaded())
    await node.runtime.start()
    web = WebServer(node)
    base = await web.start()
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
        made = (await client.post("/fhir/Patient", json={"resourceType": "Patient", "active": True})).json()
        path = f"Patient/{made['id']}"

        await node.runtime.turn_to(Plan(loaded(path="/r4")), {})

        assert (await client.get("/fhir/metadata")).status_code == 404
        assert (await client.get(f"/r4/{path}")).json() == made
        assert (await client.get("/healthz")).status_code == 200
    await web.stop()
    await node.runtime.stop()
    node.store.close()


async def test_while_a_deploy_waits_for_requests_under_way_others_are_told_to_try_again(tmp_path: Path) -> None:
    def loaded(**settings: Any) -> Any:
        path = write_site(tmp_path, {"fhir": {"type": "fhir-server", **settings}}, {})
        return load(path, overrides=Overrides.model_construct(), environ={})

    node = build(loaded())
    await node.runtime.start()
    web = WebServer(node)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"resourceType": "Patient",'
        begun.set()
        await go_on.wait()
        yield b'"active": true}'

    async with httpx.AsyncClient(base_url=await web.start(), trust_env=False) as client:
        writing = asyncio.create_task(client.post("/fhir/Patient", content=body()))
        await begun.wait()
        assert (await client.get("/fhir/metadata")).status_code == 200

        deploying = asyncio.create_task(node.runtime.turn_to(Plan(loaded(page=7)), {}))
        while (meanwhile := await client.get("/fhir/metadata")).status_code == 200:
            pass
        go_on.set()
        await deploying

        assert (meanwhile.status_code, meanwhile.json()["issue"][0]["code"]) == (503, "transient")
        assert meanwhile.headers["retry-after"]
        assert (await writing).status_code == 201
        assert (await client.get("/fhir/metadata")).status_code == 200
    await web.stop()
    await node.runtime.stop()
    node.store.close()


def served(tmp_path: Path, **settings: Any) -> Any:
    services = Services("fhir", SERVICES.site, fhir=NoResources())
    return channel("fhir-server", services, listen=f"127.0.0.1:{free_port()}", **settings)


async def test_an_address_of_its_own_is_encrypted_and_asks_for_certificates(tmp_path: Path) -> None:
    for name in ("server", "client"):
        certificate(tmp_path, name)
    files = {"certificate": tmp_path / "server.pem", "key": tmp_path / "server.key", "ca": tmp_path / "client.pem"}
    source = served(tmp_path, tls=files)
    await source.start(Engine().receive)
    known = ssl.create_default_context(cafile=tmp_path / "server.pem")
    known.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")

    assert source.endpoint.startswith("https://")
    async with httpx.AsyncClient(trust_env=False, verify=known) as client:
        statement = (await client.get(f"{source.endpoint}/metadata")).json()
    assert statement["implementation"]["url"] == source.endpoint
    stranger = ssl.create_default_context(cafile=tmp_path / "server.pem")
    async with httpx.AsyncClient(trust_env=False, verify=stranger) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"{source.endpoint}/metadata")
    await source.stop()


@pytest.mark.parametrize("error", [Overloaded("full"), StoreUnavailable("away")])
async def test_who_cannot_be_served_now_is_told_to_come_again(tmp_path: Path, error: Any) -> None:
    source, engine = served(tmp_path), Engine()
    engine.error = error
    await source.start(engine.receive)

    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(source.endpoint, json=TRANSACTION)

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert issue(response)["code"] in ("throttled", "transient")
    await source.stop()


async def test_links_are_as_clients_call_it(tmp_path: Path) -> None:
    source = served(tmp_path, base_url="https://fhir.example/r4/")
    await source.start(Engine().receive)
    address = source.endpoint

    async with httpx.AsyncClient(trust_env=False) as client:
        document = (await client.get(f"{address}/openapi.json")).json()

    assert document["servers"] == [{"url": "https://fhir.example/r4"}]
    await source.stop()


def test_r5_is_served_where_it_is_chosen(tmp_path: Path) -> None:
    encounter = {"resourceType": "Encounter", "status": "planned", "class": [{"text": "ambulatory"}]}

    with facade(tmp_path, release="R5") as base, Client(base) as client:
        assert client.get("/metadata").json()["fhirVersion"] == "5.0.0"
        made = client.made(encounter)
        assert client.get(f"/Encounter/{made['id']}").json()["class"] == [{"text": "ambulatory"}]
        assert client.get("/Encounter", headers={"accept": "application/fhir+json;fhirVersion=4.0"}).status_code == 406
        assert client.create({**encounter, "class": {"code": "AMB"}}).status_code == 400
        watch = {"status": "requested", "topic": "urn:a", "channelType": {"code": "rest-hook"}}
        assert client.create({"resourceType": "Subscription", **watch}).status_code == 400

        # and what the manual shows does what it shows
        commands(base)


def commands(base: str) -> None:
    """Run the commands of docs/fhir-server.md."""
    text = (REPOSITORY / "docs/fhir-server.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    shown = [one for one in re.split(r"^\$ ", block, flags=re.MULTILINE) if one]
    assert len(shown) == 5
    for one in shown:
        command = one.replace("http://127.0.0.1:8080/fhir", base).replace(
            "curl", f"{require('curl')} -sS --fail-with-body"
        )
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{one}\n{done.stdout}{done.stderr}"
    assert '"active":true' in done.stdout
