"""What `radbridge check` says of FHIR facades."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from starlette.requests import Request

from bridge.fhir.rights import EVERYTHING, Forbidden
from bridge.settings import Overrides, from_files
from channels.fhir_access import this_machine


def findings(web: str = "127.0.0.1:8080", **channels: dict[str, Any]) -> list[str]:
    site = {
        "site": {"name": "s", "timezone": "UTC"},
        "web": {"listen": web},
        "channels": {name: {"type": "fhir-server", **settings} for name, settings in channels.items()},
    }
    loaded = from_files({"config/b.yaml": yaml.safe_dump(site)}, overrides=Overrides.model_construct())
    return [str(one).partition(": ")[2] for one in loaded.findings]


@pytest.mark.parametrize(
    ("web", "settings", "open_to_all"),
    [
        ("127.0.0.1:8080", {"open": True}, False),
        ("[::1]:8080", {"open": True}, False),
        ("0.0.0.0:8080", {}, False),
        ("0.0.0.0:8080", {"open": True}, True),
        ("0.0.0.0:8080", {"open": True, "listen": "127.0.0.1:8081"}, False),
        ("127.0.0.1:8080", {"open": True, "listen": "10.1.2.3:8081"}, True),
        ("0.0.0.0:8080", {"access": {"issuer": "https://login.example", "audience": "fhir"}}, False),
        ("127.0.0.1:8080", {"listen": "10.1.2.3:8081", "tls": {"certificate": "c.pem", "ca": "ca.pem"}}, False),
        ("127.0.0.1:8080", {"open": True, "listen": "10.1.2.3:8081", "tls": {"certificate": "c.pem"}}, True),
    ],
)
def test_a_facade_that_other_machines_reach_without_showing_anything_is_a_warning(
    web: str, settings: dict[str, Any], open_to_all: bool
) -> None:
    told = findings(web, fhir=settings)

    assert [line for line in told if "every patient's data" in line and line.startswith("warning")] == told
    assert bool(told) is open_to_all


def test_two_facades_of_one_site_serve_one_release_at_paths_of_their_own() -> None:
    assert findings(one={}, other={"path": "/r4"}) == []
    assert "`one` is served at /fhir" in findings(one={}, other={})[0]
    assert "`one` serves R4" in findings(one={}, other={"path": "/r5", "release": "R5"})[0]


def test_tls_needs_an_address_of_its_own() -> None:
    (told,) = findings(one={"tls": {"certificate": "c.pem"}})

    assert "`tls` needs an address of its own" in told


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ("ServiceRequest?requester:identifier=urn:x|{claim}", ""),
        ("Patient?general-practitioner={fhirUser}", ""),
        ("ServiceRequest?requester=a&status=active", "with one parameter"),
        ("Organization?name=a", "with one parameter"),
        ("ServiceRequest?who=a", "no such search parameter"),
        ("everything", "with one parameter"),
    ],
)
def test_whose_patients_a_client_sees_is_a_search_that_can_be_followed(search: str, told: str) -> None:
    access = {"issuer": "https://login.example", "audience": "fhir", "clients": {"portal": {"sees": search}}}

    found = findings(one={"access": access})

    assert told in found[0] if told else found == []


@pytest.mark.parametrize(
    ("peer", "let_in"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.1.2.3", False), ("::ffff:10.1.2.3", False)],
)
async def test_without_access_only_this_machine_is_let_in(peer: str, let_in: bool) -> None:
    request = Request({"type": "http", "client": (peer, 40000), "headers": []})

    if let_in:
        assert (await this_machine(request)).rights is EVERYTHING
    else:
        with pytest.raises(Forbidden, match="other machines"):
            await this_machine(request)
