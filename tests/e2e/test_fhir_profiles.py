"""Profiles of a site where they count: what clients write, what mappings bring, what leaves, and `radbridge check`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.codecs import fhir
from bridge.codecs.fhir import Entry
from bridge.errors import BridgeError, Permanent
from bridge.lint import check
from bridge.message import Delivery
from bridge.ports import Outgoing, Services, channel_type
from tests.rigs.engine import write_site
from tests.rigs.facade import Client, facade
from tests.rigs.fhir_profiles import URL, by, element, profile, published
from tests.rigs.fhir_server import FhirServer, fhir_server, fhir_server_process

__all__ = ["fhir_server", "fhir_server_process"]

SYSTEM = "urn:oid:2.25.8"
OTHER = "urn:test:other"
PERSON = {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": "P1"}], "name": [{"family": "SAMPLE"}]}


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    born = element("Patient.birthDate", "date", min=1, max="1")
    spoken = element("Patient.language", "code", min=1, max="1")
    return published(
        tmp_path_factory.mktemp("profiles"), profile("Patient", born), profile("Patient", spoken, url=OTHER)
    )


def settings(folder: Path, validate: str) -> dict[str, Any]:
    return {"folder": str(folder), "validate": validate, "of": {"Patient": [URL]}}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[tuple[str, str]]:
    """A facade that refuses by its profiles, and one that warns."""
    lax = {"type": "fhir-server", "path": "/lax", "profiles": settings(profiles, "warn")}
    folder = tmp_path_factory.mktemp("facade")
    with facade(folder, channels={"lax": lax}, profiles=settings(profiles, "strict")) as base:
        yield base, f"{base.removesuffix('/fhir')}/lax"


def issues(response: Any) -> list[tuple[str, str, str]]:
    return [(one["severity"], one["code"], one.get("expression", [""])[0]) for one in response.json()["issue"]]


def test_a_write_that_a_strict_profile_refuses_is_answered_422_with_the_element_and_not_served(
    bases: tuple[str, str],
) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": PERSON, "request": {"method": "POST", "url": "Patient"}}],
    }
    with Client(bases[0]) as client:
        refused = client.create(PERSON)
        whole = client.write("POST", "", bundle)
        large = client.create({**PERSON, "text": {"status": "generated", "div": _div(70_000)}})
        claims = client.create({**PERSON, "birthDate": "1980-01-01", "meta": {"profile": [OTHER]}})
        taken = client.create({**PERSON, "birthDate": "1980-01-01"})
        served = client.get(f"/Patient?identifier={SYSTEM}|P1").json()["total"]

    assert (refused.status_code, issues(refused)) == (422, [("error", "required", "Patient.birthDate")])
    assert (whole.status_code, issues(whole)[0][2]) == (422, "Bundle.entry[0].resource.birthDate")
    assert (large.status_code, issues(large)[0][2]) == (422, "Patient.birthDate")
    assert (claims.status_code, issues(claims)[0][2]) == (422, "Patient.language")
    assert (taken.status_code, served) == (201, 1)


def test_a_write_that_a_profile_only_warns_of_is_stored_and_its_message_names_the_element(
    bases: tuple[str, str],
) -> None:
    with Client(bases[1]) as client:
        taken = client.create({**PERSON, "identifier": [{"system": SYSTEM, "value": "P2"}]})
        messages = client.get(
            f"{bases[1].removesuffix('/lax')}/api/messages",
            params={"channel": "lax"},
            headers={"authorization": "Bearer secret-token"},
        ).json()

    assert taken.status_code == 201
    assert "the profile wants at least 1 at Patient.birthDate" in str(messages)


def test_validate_judges_by_the_profiles_that_are_named(bases: tuple[str, str]) -> None:
    named = [{"name": "resource", "resource": PERSON}, {"name": "profile", "valueUri": OTHER}]
    with Client(bases[1]) as client:
        plain = client.write("POST", "/Patient/$validate", PERSON)
        other = client.write("POST", f"/Patient/$validate?profile={OTHER}", PERSON)
        wrapped = client.write("POST", "/Patient/$validate", {"resourceType": "Parameters", "parameter": named})
        unknown = client.write("POST", "/Patient/$validate?profile=urn:test:none", PERSON)

    warned = ("warning", "required", "Patient.birthDate")
    assert issues(plain) == [("information", "informational", ""), warned]
    assert issues(other) == [("error", "required", "Patient.language"), warned]
    assert issues(wrapped) == issues(other)
    assert (unknown.status_code, issues(unknown)[0][:2]) == (400, ("error", "not-supported"))


@pytest.mark.parametrize(("validate", "leaves"), [("strict", False), ("warn", True), ("off", True)])
async def test_a_bundle_that_a_strict_profile_refuses_never_leaves(
    fhir_server: FhirServer, profiles: Path, validate: str, leaves: bool
) -> None:
    kind = channel_type("fhir-out")
    wish = kind.settings(type="fhir-out", base_url=fhir_server.base_url, profiles=settings(profiles, validate))
    out = kind.build(wish, Services(name="his", site=None))
    data = fhir.build_bundle([Entry("p", PERSON, "update", f"identifier={fhir.token(SYSTEM, 'P1')}")])
    delivery = Delivery("d1", "m1", 20240301, "reports", "his", "report-to-fhir", "r1", ("patient:P1",))

    refused = None
    try:
        await out.send(Outgoing(data, delivery, format="fhir"))
    except Permanent as error:
        refused = error
    await out.close()

    assert (refused is None) is leaves
    assert refused is None or refused.at == "Bundle.entry[0].resource.birthDate"
    assert len(fhir_server.all("Patient")) == leaves


def test_what_a_mapping_brings_to_a_facade_is_refused_by_a_strict_profile_with_its_element(profiles: Path) -> None:
    kind = channel_type("fhir-server")
    wish = kind.settings(type="fhir-server", profiles=settings(profiles, "strict"))
    server = kind.build(wish, Services(name="fhir", site=None))
    data = fhir.build_bundle([Entry("p", PERSON, "update", f"identifier={fhir.token(SYSTEM, 'P1')}")])
    delivery = Delivery("d1", "m1", 20240301, "orders", "fhir", "order-to-fhir", "r1", ("patient:P1",))

    with pytest.raises(Permanent) as refused:
        server.apply(None, Outgoing(data, delivery, format="fhir"))

    assert refused.value.at == "Bundle.entry[0].resource.birthDate"


def test_check_tells_of_folders_that_cannot_be_used_and_of_what_is_not_judged(tmp_path: Path) -> None:
    sliced = element("Patient.identifier", "Identifier", **by("profile", "assigner.resolve()"))
    folder = published(
        tmp_path / "profiles",
        profile("Patient", sliced, element("Patient.identifier:one", "Identifier")),
    )
    wrong = {"folder": str(folder), "of": {"Patient": ["urn:test:none"]}}
    ends = {
        "fhir": {"type": "fhir-server", "profiles": wrong},
        "two": {"type": "fhir-server", "path": "/two", "profiles": {"folder": str(tmp_path / "away")}},
    }

    told = [str(one) for one in check(write_site(tmp_path, ends, {}))]

    assert any("error: urn:test:none: the folder has no such profile" in one for one in told)
    assert any("error: there is no such folder" in one for one in told)
    assert any("hint: Patient.identifier:one: the slice is not judged" in one for one in told)


def test_a_channel_with_a_folder_that_cannot_be_used_does_not_start(tmp_path: Path) -> None:
    kind = channel_type("fhir-out")
    wish = kind.settings(type="fhir-out", base_url="http://127.0.0.1:9/fhir", profiles={"folder": str(tmp_path / "no")})

    with pytest.raises(BridgeError, match="there is no such folder"):
        kind.build(wish, Services(name="his", site=None))


def _div(size: int) -> str:
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{"x" * size}</div>'
