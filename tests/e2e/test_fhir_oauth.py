"""``fhir-out`` and ``fhir-in`` before an authorization server that nobody of this project wrote (oidc-provider)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey
from pydantic import ValidationError

from bridge.codecs import fhir
from bridge.codecs.fhir import Entry
from bridge.errors import BridgeError, Unreachable
from bridge.ports import channel_type
from channels.oauth import OAuthSettings, Tokens
from tests.contract.ends import FhirReceiver
from tests.rigs.ends import Engine, channel, outgoing
from tests.rigs.fhir_server import FhirServer, fhir_server, fhir_server_process
from tests.rigs.mllp import certificate
from tests.rigs.oauth_server import SECRET, OAuthServer, oauth_server
from tests.rigs.site import eventually

__all__ = ["fhir_server", "fhir_server_process"]

BASIC = {"client_id": "bridge:basic", "client_secret": SECRET, "scope": "system/*.read system/*.write"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key of each kind, and ``jwks.json`` with what is public of them."""
    folder = tmp_path_factory.mktemp("keys")
    rsa = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig", "alg": "RS384"})
    elliptic = ECKey.generate_key("P-384", {"kid": "ec-1", "use": "sig", "alg": "ES384"})
    (folder / "rsa.pem").write_bytes(rsa.as_pem(private=True))
    (folder / "rsa-public.pem").write_bytes(rsa.as_pem(private=False))
    (folder / "ec.pem").write_bytes(elliptic.as_pem(private=True))
    (folder / "ec.json").write_text(json.dumps(elliptic.as_dict(private=True)))
    public = [one.as_dict(private=False) for one in (rsa, elliptic)]
    (folder / "jwks.json").write_text(json.dumps({"keys": public}))
    return folder


@pytest.fixture(scope="module")
def server(fhir_server_process: FhirServer, keys: Path) -> Iterator[OAuthServer]:
    jwks = json.loads((keys / "jwks.json").read_text())
    with oauth_server(fhir_server_process.root, jwks=jwks) as running:
        yield running


@pytest.fixture(autouse=True)
def calm(server: OAuthServer, fhir_server: FhirServer) -> None:
    server.call("/mode", {})


def patient(number: int) -> bytes:
    system = "urn:oid:2.25.1"
    resource = {"resourceType": "Patient", "identifier": [{"system": system, "value": f"P{number}"}]}
    return fhir.build_bundle([Entry("p", resource, "create", f"identifier={fhir.token(system, f'P{number}')}")])


@asynccontextmanager
async def out(base_url: str, **settings: Any) -> AsyncIterator[Any]:
    sink = channel("fhir-out", base_url=base_url, **settings)
    try:
        yield sink
    finally:
        await sink.close()


def tokens(server: OAuthServer) -> int:
    """How many tokens were given out."""
    return server.seen("/token").count(200)


@pytest.mark.parametrize(
    "oauth",
    [
        BASIC,
        {"client_id": "bridge-post", "client_secret": SECRET, "secret_in": "body"},
        {"client_id": "bridge-rsa", "key": "rsa.pem", "key_id": "rsa-1"},
        {"client_id": "bridge-ec", "key": "ec.pem", "key_id": "ec-1"},
        {"client_id": "bridge-ec", "key": "ec.json"},
    ],
    ids=["secret in the header", "secret in the form", "RSA key, PEM", "EC key, PEM", "EC key, JWK"],
)
async def test_each_way_to_say_who_we_are_gets_a_token_that_the_server_takes(
    server: OAuthServer, fhir_server: FhirServer, keys: Path, oauth: dict[str, str]
) -> None:
    named = {**oauth, **({"key": keys / oauth["key"]} if "key" in oauth else {})}
    before = tokens(server)

    async with out(server.base_url, oauth=named) as sink:
        await sink.send(outgoing(patient(1)))
        await sink.send(outgoing(patient(2)))

    assert len(fhir_server.all("Patient")) == 2
    assert tokens(server) == before + 1
    assert server.seen("/fhir/.well-known/smart-configuration")[-1] == 200


async def test_a_token_that_the_server_forgot_is_asked_for_anew_once(
    server: OAuthServer, fhir_server: FhirServer
) -> None:
    async with out(server.base_url, oauth={**BASIC, "token_url": f"{server.root}/token"}) as sink:
        await sink.send(outgoing(patient(1)))
        before = tokens(server)
        server.call("/forget", {})

        await sink.send(outgoing(patient(2)))

    assert len(fhir_server.all("Patient")) == 2
    assert tokens(server) == before + 1


async def test_a_token_is_not_used_until_its_very_end(server: OAuthServer) -> None:
    # Given tokens that are valid for 60 s
    now = [1000.0]
    async with httpx.AsyncClient(trust_env=False) as client:
        settings = OAuthSettings.model_validate(BASIC)
        tokens = Tokens(settings, client, httpx.URL(server.base_url), clock=lambda: now[0])
        first = await tokens.current()
        # When half of that is over
        now[0] += 29
        assert await tokens.current() == first
        now[0] += 1
        # Then all who wait share one new token
        others = await asyncio.gather(*(tokens.current() for _ in range(5)))
    assert first not in others
    assert len(set(others)) == 1


async def test_without_a_token_the_destination_is_away_and_nothing_is_told_of_the_secret(
    server: OAuthServer, fhir_server: FhirServer
) -> None:
    wrong = {**BASIC, "client_secret": "never-to-be-shown"}

    async with out(server.base_url, oauth=wrong) as sink:
        with pytest.raises(Unreachable, match="no token: HTTP 401 invalid_client") as caught:
            await sink.send(outgoing(patient(1)))

    assert "never-to-be-shown" not in f"{caught.value!r} {caught.value} {caught.value.__dict__}"
    assert caught.value.at == f"{server.root}/token"
    assert fhir_server.state() == {}


async def test_what_the_token_endpoint_says_of_when_to_come_again_holds(server: OAuthServer) -> None:
    server.call("/mode", {"status": 503, "retryAfter": 17})

    async with out(server.base_url, oauth=BASIC) as sink:
        with pytest.raises(Unreachable, match="503 temporarily_unavailable") as caught:
            await sink.send(outgoing(patient(1)))

    assert caught.value.retry_after == 17


async def test_a_server_that_names_no_token_endpoint_is_away_with_the_fix(tmp_path: Path) -> None:
    plain = FhirReceiver(tmp_path)
    await plain.open()

    async with out(plain.settings()["base_url"], oauth=BASIC) as sink:
        with pytest.raises(Unreachable):
            await sink.send(outgoing(patient(1)))

    await plain.close()


async def test_both_servers_see_our_certificate(fhir_server: FhirServer, tmp_path: Path) -> None:
    for name in ("server", "bridge"):
        certificate(tmp_path, name)
    trust = ssl.create_default_context(cafile=tmp_path / "server.pem")
    trust.load_cert_chain(tmp_path / "bridge.pem", tmp_path / "bridge.key")
    files = {"certificate": "server.pem", "key": "server.key", "ca": "bridge.pem"}
    tls = {name: str(tmp_path / file) for name, file in files.items()}
    ours = {"certificate": tmp_path / "bridge.pem", "key": tmp_path / "bridge.key"}

    with oauth_server(fhir_server.root, trust, tls=tls, jwks={"keys": []}) as secure:
        async with out(secure.base_url, oauth=BASIC, verify=tmp_path / "server.pem", **ours) as sink:
            await sink.send(outgoing(patient(1)))
        async with out(secure.base_url, oauth=BASIC, verify=tmp_path / "server.pem") as stranger:
            with pytest.raises(Unreachable):
                await stranger.send(outgoing(patient(2)))
        seen = secure.call("/seen")

    assert len(fhir_server.all("Patient")) == 1
    assert {one["certificate"] for one in seen if one["path"] in ("/token", "/fhir")} == {"bridge"}


async def test_a_poll_shows_its_token_too(server: OAuthServer, fhir_server: FhirServer) -> None:
    fhir_server.post({"resourceType": "Patient", "birthDate": "1970-01-01"})
    settings = {"search": "Patient", "since": "2020-01-01T00:00:00Z", "interval": "20ms", "oauth": BASIC}
    source, engine = channel("fhir-in", base_url=server.base_url, **settings), Engine()

    await source.start(engine.receive)
    await eventually(lambda: bool(engine.received))
    await source.stop()
    await source.close()

    assert [json.loads(one)["resourceType"] for one in engine.data] == ["Patient"]


def test_keys_that_cannot_sign_are_a_mistake_in_the_settings(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "nonsense.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    (tmp_path / "p521.json").write_text(json.dumps(ECKey.generate_key("P-521").as_dict(private=True)))
    (tmp_path / "latin.pem").write_bytes(b"\xe9")
    files = [keys / "rsa-public.pem", *(tmp_path / name for name in ("absent.pem", "nonsense.pem", "p521.json"))]

    for file in (*files, tmp_path / "latin.pem"):
        with pytest.raises(BridgeError) as caught:
            channel("fhir-out", base_url="https://his.example", oauth={"client_id": "x", "key": file})
        assert caught.value.kind == "settings"
        assert caught.value.at == str(file)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"oauth": {"client_id": "x"}}, "`client_secret` or `key`"),
        ({"oauth": {"client_id": "x", "client_secret": "s3cret", "key": "k.pem"}}, "either `client_secret` or `key`"),
        ({"oauth": BASIC, "token": "s3cret"}, "either `token` or `oauth`"),
        ({"key": "k.pem"}, "add `certificate`"),
    ],
)
def test_settings_that_contradict_each_other_are_told(settings: dict[str, Any], told: str) -> None:
    model = channel_type("fhir-out").settings

    with pytest.raises(ValidationError, match=told):
        model.model_validate({"type": "fhir-out", "base_url": "https://his.example", **settings})


def test_no_secret_shows_in_the_settings() -> None:
    settings = channel_type("fhir-out").settings.model_validate(
        {"type": "fhir-out", "base_url": "https://his.example", "oauth": BASIC}
    )

    assert SECRET not in repr(settings)
    assert SECRET not in json.dumps(settings.model_dump(mode="json"))
