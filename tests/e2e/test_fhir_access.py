"""Who may use the FHIR facade, and what each sees and leaves behind: a running engine before an authorization server
that nobody of this project wrote (oidc-provider)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from starlette.requests import Request

from bridge.errors import BridgeError
from bridge.fhir.interaction import TYPES
from channels.fhir_access import AccessSettings
from channels.fhir_tokens import Issuer, Tokens
from tests.rigs.facade import Client, facade, issue
from tests.rigs.oauth_server import SECRET, OAuthServer, oauth_server
from tests.rigs.site import eventually

AUDIENCE = "https://facade.example/fhir"
KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})
SEES = "ServiceRequest?requester:identifier=urn:doctor|{doctor}"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def issuer() -> Iterator[OAuthServer]:
    scope = "system/*.rs system/*.cruds system/*.read"
    resource = {"audience": AUDIENCE, "scope": scope, "keys": [KEY.as_dict(private=True)]}
    with oauth_server("http://127.0.0.1:1", resource=resource) as running:
        yield running


@dataclass
class Place:
    base: str
    issuer: str

    def claims(self, **more: Any) -> Json:
        said = {"iss": self.issuer, "aud": AUDIENCE, "exp": int(time.time()) + 600, "client_id": "office"}
        return {**said, "sub": more.get("client_id", "office"), "scope": "system/*.cruds", **more}

    def token(self, **more: Any) -> str:
        """As the authorization server would make it."""
        return jwt.encode({"alg": "RS256", "kid": "first"}, self.claims(**more), KEY)

    def client(self, **more: Any) -> Client:
        """With a token of these claims; ``token`` instead of them."""
        one = Client(self.base)
        one.headers["authorization"] = f"Bearer {more.get('token') or self.token(**more)}"
        return one


@pytest.fixture(scope="module")
def place(issuer: OAuthServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    access = {
        "issuer": issuer.root,
        "audience": AUDIENCE,
        "introspection": {
            "url": f"{issuer.root}/token/introspection",
            "client_id": "bridge:basic",
            "client_secret": SECRET,
        },
        "clients": {"office": {}, "bridge-post": {}, "app": {}, "portal": {"sees": SEES}},
    }
    with facade(tmp_path_factory.mktemp("site"), access=access) as base:
        yield Place(base, issuer.root)


def patient(name: str) -> Json:
    return {"resourceType": "Patient", "name": [{"family": name}], "identifier": [{"system": "urn:his", "value": name}]}


def order(subject: str, doctor: str = "D1", **more: Any) -> Json:
    said = {"status": "active", "intent": "order", "subject": {"reference": f"Patient/{subject}"}}
    requester = {"identifier": {"system": "urn:doctor", "value": doctor}}
    return {"resourceType": "ServiceRequest", **said, "requester": requester, **more}


# tokens


def part(value: Json | bytes) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


OTHER = RSAKey.generate_key(2048, {"kid": "first"})
CURVE = ECKey.generate_key("P-256", {"kid": "first"})
NOW = int(time.time())


def forged(how: str, place: Place) -> str:
    claims = place.claims()
    if how == "signed by nobody":
        return f"{part({'alg': 'none', 'kid': 'first'})}.{part(claims)}."
    if how == "signed with the public key as a secret":
        signed = f"{part({'alg': 'HS256', 'kid': 'first'})}.{part(claims)}"
        return f"{signed}.{part(hmac.digest(KEY.as_pem(private=False), signed.encode(), 'sha256'))}"
    if how == "signed by another under the same name":
        return jwt.encode({"alg": "RS256", "kid": "first"}, claims, OTHER)
    if how == "signed on a curve under the name of an RSA key":
        return jwt.encode({"alg": "ES256", "kid": "first"}, claims, CURVE)
    if how == "signed by a key that nobody knows":
        return jwt.encode({"alg": "RS256", "kid": "another"}, claims, OTHER)
    head, _, signature = place.token().split(".")
    return f"{head}.{part(place.claims(scope='system/*.cruds', sub='else'))}.{signature}"


@pytest.mark.parametrize(
    "how",
    [
        *("signed by nobody", "signed with the public key as a secret", "signed by another under the same name"),
        *("signed on a curve under the name of an RSA key", "signed by a key that nobody knows", "changed afterwards"),
    ],
)
def test_a_token_that_the_issuer_did_not_sign_lets_nobody_in(place: Place, how: str) -> None:
    answer = place.client(token=forged(how, place)).get("/Patient")

    assert (answer.status_code, issue(answer)["code"]) == (401, "login")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"exp": NOW - 3600}, "expired"),
        ({"exp": None}, "no end"),
        ({"nbf": NOW + 3600}, "not valid yet"),
        ({"aud": "https://other.example"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"iss": "https://other.example"}, "another issuer"),
    ],
)
def test_a_token_for_another_time_or_place_lets_nobody_in(place: Place, claims: Json, told: str) -> None:
    answer = place.client(**claims).get("/Patient")

    assert (answer.status_code, issue(answer)["code"]) == (401, "login")
    assert told in issue(answer)["details"]["text"]


@pytest.mark.parametrize("header", [{}, {"authorization": "Basic eDp5"}, {"authorization": "Bearer"}])
def test_without_a_token_the_answer_says_that_one_is_needed(place: Place, header: dict[str, str]) -> None:
    answer = httpx.get(f"{place.base}/Patient/nobody", headers=header, trust_env=False)

    assert (answer.status_code, issue(answer)["code"]) == (401, "login")
    assert answer.headers["www-authenticate"] == 'Bearer realm="fhir"'


def test_how_to_get_in_is_told_to_everybody(place: Place, issuer: OAuthServer) -> None:
    client = Client(place.base)

    statement, smart = client.get("/metadata").json(), client.get("/.well-known/smart-configuration").json()

    assert statement["rest"][0]["security"]["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    assert smart["token_endpoint"] == f"{issuer.root}/token"
    assert {"permission-v1", "permission-v2"} <= set(smart["capabilities"])


def test_tokens_of_the_authorization_server_let_in_whatever_their_kind(place: Place, issuer: OAuthServer) -> None:
    signed = issuer.token(resource=AUDIENCE, scope="system/*.read")
    opaque = issuer.token(scope="system/*.read")
    assert signed.count(".") == 2 and "." not in opaque

    for token in (signed, opaque, opaque):
        client = place.client(token=token)
        assert client.get("/Patient").status_code == 200
        assert client.create(patient("X")).status_code == 403
    assert place.client(token="never-given-out").get("/Patient").status_code == 401


def test_a_client_that_the_site_does_not_name_is_not_let_in(place: Place) -> None:
    answer = place.client(client_id="stranger").get("/Patient")

    assert (answer.status_code, issue(answer)["code"]) == (403, "forbidden")


def shown(token: str) -> Request:
    return Request({"type": "http", "method": "GET", "headers": [(b"authorization", f"Bearer {token}".encode())]})


async def test_new_keys_are_found_and_known_ones_survive_the_issuer_being_away() -> None:
    second = RSAKey.generate_key(2048, {"kid": "second", "use": "sig", "alg": "RS256"})
    scope, now = "system/*.rs", [1000.0]
    resource = {"audience": AUDIENCE, "scope": scope, "keys": [KEY.as_dict(private=True)]}
    with oauth_server("http://127.0.0.1:1", resource=resource) as server:
        settings = AccessSettings.model_validate({"issuer": server.root, "audience": AUDIENCE})
        issuer = Issuer(settings, clock=lambda: now[0])
        tokens = Tokens(settings, issuer)
        # Given a token of the first key
        first = server.token(resource=AUDIENCE, scope=scope)
        assert (await tokens(shown(first))).client == "bridge-post"
        # When the issuer signs with another
        server.call("/keys", {"keys": [second.as_dict(private=True)]})
        after = server.token(resource=AUDIENCE, scope=scope)
        # Then it is not asked at once for each token of a key that is not known, but soon
        for _ in range(3):
            with pytest.raises(BridgeError, match="not known"):
                await tokens(shown(after))
        assert len(server.seen("/jwks")) == 1
        now[0] += 31
        assert (await tokens(shown(after))).client == "bridge-post"
        # And what is known serves on for as long as the issuer is away
        server.call("/mode", {"away": True})
        now[0] += 100_000
        for _ in range(3):
            assert (await tokens(shown(after))).client == "bridge-post"
        await asyncio.sleep(0.2)
        assert server.seen("/jwks") == [200, 200, 503]
        # But nobody is let in whose key never was
        empty = Issuer(settings, clock=lambda: now[0])
        with pytest.raises(BridgeError, match="keys are not known") as caught:
            await Tokens(settings, empty)(shown(after))
        assert getattr(caught.value, "status", 0) == 503
        await issuer.close()
        await empty.close()


@pytest.mark.parametrize("kind", ["jwks.json", "key.pem"])
async def test_keys_in_a_file_need_no_issuer(tmp_path: Path, kind: str) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [KEY.as_dict(private=False)]}))
    (tmp_path / "key.pem").write_bytes(KEY.as_pem(private=False))
    said = {"issuer": "https://away.example", "audience": AUDIENCE, "jwks": str(tmp_path / kind)}
    settings = AccessSettings.model_validate(said, context={"folder": tmp_path})
    issuer = Issuer(settings)

    caller = await Tokens(settings, issuer)(shown(Place("", "https://away.example").token()))

    assert caller.name == "office"
    await issuer.close()


# scopes


@dataclass
class World:
    """Resources that there are, and requests about them."""

    patient: str
    order: str
    version: str


@pytest.fixture(scope="module")
def world(place: Place) -> World:
    office = place.client()
    subject = office.made(patient("SCOPES"))
    return World(subject["id"], office.made(order(subject["id"]))["id"], subject["meta"]["versionId"])


def call(client: Client, name: str, world: World) -> int:
    """The status that an interaction is answered, of its only entry for a Bundle."""
    one, body = f"/Patient/{world.patient}", patient("MATRIX")
    known, nobody = {**patient("SCOPES"), "id": world.patient}, "Patient?identifier=urn:his|NOBODY"
    reference = order("x") | {"subject": {"reference": "Patient?identifier=urn:his|SCOPES"}}
    patching = {"content_type": "application/json-patch+json"}
    patch = [{"op": "test", "path": "/resourceType", "value": "Patient"}]

    def bundled(kind: str, method: str, url: str, resource: Json | None = None, **more: str) -> httpx.Response:
        entry = {"request": {"method": method, "url": url, **more}, **({"resource": resource} if resource else {})}
        return client.write("POST", "/", {"resourceType": "Bundle", "type": kind, "entry": [entry]})

    subscription = {
        "resourceType": "Subscription", "status": "off", "reason": "test", "criteria": "ServiceRequest?status=active",
        "channel": {"type": "websocket"},
    }  # fmt: skip
    requests: dict[str, Any] = {
        "read": lambda: client.get(one),
        "vread": lambda: client.get(f"{one}/_history/{world.version}"),
        "history of one": lambda: client.get(f"{one}/_history"),
        "history of a type": lambda: client.get("/Patient/_history"),
        "history of all": lambda: client.get("/_history"),
        "search": lambda: client.get("/Patient?name=SCOPES"),
        "search by a form": lambda: client.post("/Patient/_search", data={"name": "SCOPES"}),
        "chained": lambda: client.get("/ServiceRequest?patient.name=SCOPES"),
        "chained back": lambda: client.get("/Patient?_has:ServiceRequest:patient:status=active"),
        "everything": lambda: client.get(f"{one}/$everything"),
        "validate": lambda: client.write("POST", "/Patient/$validate", body),
        "create": lambda: client.create(body),
        "create if none": lambda: client.create(known, If_None_Exist="identifier=urn:his|SCOPES"),
        "update": lambda: client.write("PUT", one, known),
        "update what matches": lambda: client.write("PUT", "/Patient?identifier=urn:his|SCOPES", known),
        "patch": lambda: client.write("PATCH", one, patch, **patching),
        "patch what matches": lambda: client.write("PATCH", "/Patient?identifier=urn:his|SCOPES", patch, **patching),
        "delete": lambda: client.delete("/Patient/nobody"),
        "delete what matches": lambda: client.delete(f"/{nobody}"),
        "transaction": lambda: bundled("transaction", "POST", "Patient", body),
        "transaction if none": lambda: bundled("transaction", "POST", "Patient", body, ifNoneExist="name=SCOPES"),
        "transaction that deletes": lambda: bundled("transaction", "DELETE", "Patient/nobody"),
        "reference by search": lambda: bundled("transaction", "POST", "ServiceRequest", reference),
        "batch": lambda: bundled("batch", "GET", f"Patient/{world.patient}"),
        "batch that writes": lambda: bundled("batch", "POST", "Patient", body),
        "subscribe": lambda: client.create(subscription),
        "audit": lambda: client.get("/audit/AuditEvent"),
    }
    answer: httpx.Response = requests[name]()
    if name.startswith("batch") and answer.status_code == 200:
        return int(answer.json()["entry"][0]["response"]["status"])
    return answer.status_code


NEEDS = {
    "read": ["Patient.r"],
    "vread": ["Patient.r"],
    "history of one": ["Patient.r"],
    "history of a type": ["Patient.s"],
    "history of all": ["*.s"],
    "search": ["Patient.s"],
    "search by a form": ["Patient.s"],
    "chained": ["ServiceRequest.s", "Patient.s"],
    "chained back": ["ServiceRequest.s", "Patient.s"],
    "everything": ["Patient.r"],
    "validate": ["Patient.r"],
    "create": ["Patient.c"],
    "create if none": ["Patient.c", "Patient.s"],
    "update": ["Patient.u"],
    "update what matches": ["Patient.u", "Patient.s"],
    "patch": ["Patient.r", "Patient.u"],
    "patch what matches": ["Patient.r", "Patient.u", "Patient.s"],
    "delete": ["Patient.d"],
    "delete what matches": ["Patient.d", "Patient.s"],
    "transaction": ["Patient.c"],
    "transaction if none": ["Patient.c", "Patient.s"],
    "transaction that deletes": ["Patient.d"],
    "reference by search": ["ServiceRequest.c", "Patient.s"],
    "batch": ["Patient.r"],
    "batch that writes": ["Patient.c"],
    "subscribe": ["Subscription.c", "ServiceRequest.r", "ServiceRequest.s"],
    "audit": ["AuditEvent.s"],
}
"""What each interaction needs, and nothing else."""


@pytest.mark.parametrize("name", NEEDS)
def test_an_interaction_is_done_with_the_scopes_that_it_needs_and_not_without_one_of_them(
    place: Place, world: World, name: str
) -> None:
    enough = " ".join(f"system/{one}" for one in NEEDS[name])
    assert call(place.client(scope=enough), name, world) < 300

    for missing in NEEDS[name]:
        kind, _, letter = missing.partition(".")
        others = "cruds".replace(letter, "")
        kinds = [] if kind == "*" else [f"system/{one}.cruds" for one in TYPES if one != kind]
        scope = " ".join([f"system/{kind}.{others}", *kinds])
        assert call(place.client(scope=scope), name, world) == 403, missing


@pytest.mark.parametrize(
    ("scope", "reads", "writes"),
    [
        ("system/Patient.read", True, False),
        ("system/Patient.write", False, True),
        ("user/*.*", True, True),
        ("patient/*.read", False, False),
        ("system/Patient.rs?nonsense=1", False, False),
        ("system/Patient.sr", False, False),
        ("openid profile launch/patient", False, False),
        ("", False, False),
    ],
)
def test_scopes_of_both_versions_are_understood_and_others_grant_nothing(
    place: Place, world: World, scope: str, reads: bool, writes: bool
) -> None:
    client = place.client(scope=scope)

    read, written = client.get("/Patient?_count=1"), client.create(patient("SCOPED"))

    assert (read.status_code == 200, written.status_code == 201) == (reads, writes)
    if not reads:
        assert (read.status_code, issue(read)["code"]) == (403, "forbidden")
        assert 'error="insufficient_scope", scope="system/Patient.s"' in read.headers["www-authenticate"]


def test_a_scope_with_a_search_shows_and_takes_only_what_that_finds(place: Place) -> None:
    office = place.client()
    man, woman = (office.made({**patient(sex.upper()), "gender": sex}) for sex in ("male", "female"))
    client = place.client(scope="system/Patient.cruds?gender=female")

    found = client.get("/Patient?_summary=count&name=MALE,FEMALE").json()["total"]
    taken = client.create({**patient("OTHER"), "gender": "male"})
    turned = client.write("PUT", f"/Patient/{woman['id']}", {**woman, "gender": "male"})

    assert found == 1
    assert [client.get(f"/Patient/{one['id']}").status_code for one in (man, woman)] == [404, 200]
    assert [taken.status_code, turned.status_code] == [403, 403]
    assert client.delete(f"/Patient/{man['id']}").status_code == 204
    assert office.get(f"/Patient/{man['id']}").status_code == 200


# whose data


def test_a_prescribers_portal_sees_its_patients_and_writes_about_no_others(place: Place) -> None:
    # Given two patients, each of another doctor
    office = place.client()
    mine, theirs = (office.made(patient(name))["id"] for name in ("MINE", "THEIRS"))
    office.made(order(mine, "DR-A", note=[{"text": "mine"}]))
    hidden = office.made(order(theirs, "DR-B"))["id"]
    portal = place.client(client_id="portal", sub="doctor-a", doctor="DR-A", scope="user/*.cruds")

    # Then his patient is all there is
    assert [one["resource"]["id"] for one in portal.get("/Patient").json()["entry"]] == [mine]
    assert portal.get("/ServiceRequest?_total=accurate").json()["total"] == 1
    assert portal.get(f"/Patient/{theirs}/$everything").status_code == 404

    # And an order makes no other patient his
    grab = portal.create(order(theirs, "DR-A"))
    moved = portal.write("PUT", f"/ServiceRequest/{hidden}", {**order(mine, "DR-A"), "id": hidden})
    assert (grab.status_code, moved.status_code) == (403, 404)
    assert portal.get(f"/Patient/{theirs}").status_code == 404

    # But he may order for his own, and for one whom he brings along
    assert portal.create(order(mine, "DR-A")).status_code == 201
    new = [
        {"fullUrl": "urn:uuid:7f1f7e9c-0000-4000-8000-000000000001", "resource": patient("NEW"),
         "request": {"method": "POST", "url": "Patient"}},
        {"resource": {**order("x", "DR-A"), "subject": {"reference": "urn:uuid:7f1f7e9c-0000-4000-8000-000000000001"}},
         "request": {"method": "POST", "url": "ServiceRequest"}},
    ]  # fmt: skip
    both = portal.write("POST", "/", {"resourceType": "Bundle", "type": "transaction", "entry": new})
    assert both.status_code == 200
    assert portal.get("/Patient?_summary=count").json()["total"] == 2


def test_a_claim_that_says_what_is_seen_has_to_be_there_and_means_only_itself(place: Place) -> None:
    assert place.client(client_id="portal", scope="user/*.rs").get("/Patient").status_code == 403
    assert place.client(client_id="portal", scope="user/*.rs", doctor="").get("/Patient").status_code == 403
    for value in ("DR-A,DR-B", "DR-A&_id:missing=false", "|", "DR%2DA"):
        found = place.client(client_id="portal", scope="user/*.rs", doctor=value).get("/Patient").json()
        assert found["total"] == 0, value


def test_a_patients_app_sees_that_patient_and_who_treats_him(place: Place) -> None:
    office = place.client()
    me, other = (office.made(patient(name))["id"] for name in ("ME", "SOMEBODY"))
    doctor = office.made({"resourceType": "Practitioner", "name": [{"family": "SHARED"}]})["id"]
    office.made(order(me) | {"requester": {"reference": f"Practitioner/{doctor}"}})
    office.made(order(other) | {"requester": {"reference": f"Practitioner/{doctor}"}})
    app = place.client(client_id="app", sub="me", patient=me, scope="patient/*.cruds")

    found = app.get("/ServiceRequest?_include=ServiceRequest:requester&_include=ServiceRequest:subject").json()
    back = app.get(f"/Practitioner?_id={doctor}&_revinclude=ServiceRequest:requester").json()

    kinds = [one["resource"]["resourceType"] for one in found["entry"]]
    assert sorted(kinds) == ["Patient", "Practitioner", "ServiceRequest"]
    assert len(back["entry"]) == 2
    assert (
        app.write("PUT", f"/Practitioner/{doctor}", {"resourceType": "Practitioner", "id": doctor}).status_code == 403
    )


def test_a_client_sees_its_own_subscriptions_and_no_others(place: Place) -> None:
    asked = {"resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": "ServiceRequest?"}
    wanted = {**asked, "criteria": "ServiceRequest?status=active", "channel": {"type": "websocket"}}
    one, other = (
        place.client(client_id="app", sub=name, patient=name, scope="patient/*.cruds") for name in ("one", "two")
    )

    made = one.made(wanted)["id"]

    assert one.get(f"/Subscription/{made}").status_code == 200
    assert one.get("/Subscription").json()["total"] == 1
    assert (other.get(f"/Subscription/{made}").status_code, other.get("/Subscription").json()["total"]) == (404, 0)
    assert other.delete(f"/Subscription/{made}").status_code == 204
    assert one.delete(f"/Subscription/{made}").status_code == 204
    assert one.get(f"/Subscription/{made}").status_code == 404


# the record


def events(client: Client, query: str) -> list[Json]:
    return [one["resource"] for one in client.get(f"/audit/AuditEvent?{query}").json().get("entry", [])]


def test_every_access_leaves_a_record_whether_done_or_refused(place: Place) -> None:
    # Given somebody who does this and that, with one patient
    office, auditor = place.client(), place.client(client_id="office", sub="auditor", scope="system/AuditEvent.rs")
    subject = office.made(patient("WATCHED"))["id"]
    made = office.made(order(subject))["id"]
    portal = place.client(client_id="app", sub="visitor", scope="system/*.cruds")
    portal.get(f"/Patient/{subject}")
    portal.get(f"/ServiceRequest?patient={subject}&status=active")
    portal.get(f"/Patient/{subject}/$everything")
    portal.get(f"/ServiceRequest/{made}/_history/1")
    portal.write("PUT", f"/ServiceRequest/{made}", {**order(subject), "id": made, "priority": "stat"})
    portal.delete(f"/ServiceRequest/{made}")
    portal.get("/Patient/nobody")
    batch = [{"request": {"method": "GET", "url": f"Patient/{subject}"}}]
    portal.write("POST", "/", {"resourceType": "Bundle", "type": "batch", "entry": batch})
    place.client(client_id="app", sub="visitor", scope="system/Patient.rs").get("/Observation")

    # Then all of it is there soon
    async def there() -> None:
        await eventually(lambda: len(events(auditor, "agent=app/visitor")) == 10)

    asyncio.run(there())
    done = sorted((one["subtype"][0]["code"], one["outcome"]) for one in events(auditor, "agent=app/visitor"))
    assert done == [
        *(("delete", "0"), ("operation", "0"), ("read", "0"), ("read", "0"), ("read", "4"), ("search-type", "0")),
        *(("search-type", "4"), ("transaction", "0"), ("update", "0"), ("vread", "0")),
    ]
    # And is found by the patient, who did it being told, but not what was looked for
    of_patient = events(auditor, f"patient={subject}&agent=app/visitor")
    assert {one["subtype"][0]["code"] for one in of_patient} >= {"read", "search-type", "operation", "vread", "update"}
    search = next(one for one in of_patient if one["subtype"][0]["code"] == "search-type")
    assert [agent["who"]["identifier"]["value"] for agent in search["agent"]] == ["app", "visitor"]
    assert f"Patient/{subject}" in [entity.get("what", {}).get("reference") for entity in search["entity"]]
    assert "status=active" not in json.dumps(search)
    assert [one["id"] for one in events(auditor, f"entity=ServiceRequest/{made}&agent=office")]
    # And page by page as one
    pages, link = [], "/audit/AuditEvent?agent=app/visitor&_count=3"
    while link:
        page = auditor.get(link.removeprefix(place.base)).json()
        pages += [one["resource"]["id"] for one in page.get("entry", [])]
        link = next((one["url"] for one in page["link"] if one["relation"] == "next"), "")
    assert pages == [one["id"] for one in events(auditor, "agent=app/visitor")]


def test_who_was_not_let_in_is_recorded_too(place: Place) -> None:
    auditor = place.client(client_id="office", sub="auditor-2", scope="system/AuditEvent.rs")
    Client(place.base).get("/Endpoint/let-me-in")

    async def there() -> None:
        await eventually(lambda: bool(refused()))

    def refused() -> list[Json]:
        found = events(auditor, "_count=500&date=ge2026")
        return [one for one in found if one["outcomeDesc"] == "HTTP 401" and "Endpoint" in json.dumps(one)]

    asyncio.run(there())
    assert refused()[0]["agent"][0]["who"] == {"display": "unknown"}


def test_the_audit_trail_is_for_who_may_see_everybodys(place: Place) -> None:
    portal = place.client(client_id="portal", sub="x", doctor="DR-A", scope="user/*.cruds")

    assert portal.get("/audit/AuditEvent").status_code == 403
    assert place.client().get("/audit/AuditEvent?date=nonsense").status_code == 400
    assert place.client().get("/audit/AuditEvent?name=x").status_code == 400
