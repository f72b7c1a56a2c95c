"""The FHIR facade over HTTP, in a running engine: what R4's RESTful API (http.html) asks of a server."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from tests.rigs.facade import Client, facade, issue

SYSTEM = "urn:oid:2.25.7"
_numbers = count(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    copies = tmp_path_factory.mktemp("copies")
    routes = {"copies": {"from": "fhir", "to": ["files"]}}
    ends = {"files": {"type": "file-out", "folder": str(copies)}}
    with facade(tmp_path_factory.mktemp("facade"), routes, ends) as url:
        yield url


@pytest.fixture
def client(base: str) -> Iterator[Client]:
    with Client(base) as one:
        yield one


def unique() -> str:
    return f"T{next(_numbers)}"


def patient(number: str = "", **more: Any) -> dict[str, Any]:
    identifier = [{"system": SYSTEM, "value": number or unique()}]
    return {"resourceType": "Patient", "identifier": identifier, "name": [{"family": "TESTPATIENT"}], **more}


def order(subject: str, number: str = "", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "ServiceRequest",
        "identifier": [{"system": SYSTEM, "value": number or unique()}],
        "status": "active",
        "intent": "order",
        "code": {"text": "CT head"},
        "subject": {"reference": subject},
        **more,
    }


def messages(base: str, **wanted: str) -> list[dict[str, Any]]:
    url = base.removesuffix("/fhir") + "/api/messages"
    headers = {"authorization": "Bearer secret-token"}
    return list(httpx.get(url, params=wanted, headers=headers, trust_env=False).json())


# reading and writing one resource


def test_what_is_created_is_read_back_with_its_version_and_place(client: Client) -> None:
    created = client.create(patient(birthDate="1970-01-02"))

    made = created.json()
    assert created.status_code == 201
    assert created.headers["location"] == f"{client.base_url}Patient/{made['id']}/_history/1"
    assert created.headers["etag"] == 'W/"1"'
    read = client.get(f"/Patient/{made['id']}")
    assert read.status_code == 200
    assert read.json() == made
    assert read.headers["last-modified"] == created.headers["last-modified"]
    assert read.headers["content-type"].startswith("application/fhir+json")


def test_an_update_is_a_new_version_and_the_old_one_stays(client: Client) -> None:
    made = client.made(patient())

    updated = client.write("PUT", f"/Patient/{made['id']}", {**made, "gender": "female"})

    assert (updated.status_code, updated.headers["etag"]) == (200, 'W/"2"')
    assert "gender" not in client.get(f"/Patient/{made['id']}/_history/1").json()
    history = client.get(f"/Patient/{made['id']}/_history").json()
    assert [one["response"]["etag"] for one in history["entry"]] == ['W/"2"', 'W/"1"']
    assert [one["request"]["method"] for one in history["entry"]] == ["PUT", "POST"]


def test_the_client_may_choose_the_id(client: Client) -> None:
    name = unique()

    response = client.write("PUT", f"/Patient/{name}", patient(id=name))

    assert response.status_code == 201
    assert client.get(f"/Patient/{name}").status_code == 200


def test_decimals_keep_their_digits(client: Client) -> None:
    text = '{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":12.50}}'

    made = client.write("POST", "/Observation", text)

    assert '"value":12.50' in made.text
    assert '"value":12.50' in client.get(f"/Observation/{made.json()['id']}").text
    assert '"value": 12.50' in client.get(f"/Observation/{made.json()['id']}?_pretty=true").text


def test_what_is_deleted_is_gone_and_its_history_is_not(client: Client) -> None:
    made = client.made(patient())

    deleted = client.delete(f"/Patient/{made['id']}")

    assert (deleted.status_code, deleted.content) == (204, b"")
    gone = client.get(f"/Patient/{made['id']}")
    assert (gone.status_code, issue(gone)["code"]) == (410, "deleted")
    assert client.get(f"/Patient/{made['id']}/_history/1").status_code == 200
    entries = client.get(f"/Patient/{made['id']}/_history").json()["entry"]
    assert entries[0]["request"]["method"] == "DELETE" and "resource" not in entries[0]


# conditions


def test_an_update_of_a_version_that_is_no_longer_there_is_refused(client: Client) -> None:
    made = client.made(patient())
    client.write("PUT", f"/Patient/{made['id']}", {**made, "gender": "female"})

    late = client.write("PUT", f"/Patient/{made['id']}", {**made, "gender": "male"}, if_match='W/"1"')

    assert late.status_code == 412
    assert client.get(f"/Patient/{made['id']}").json()["gender"] == "female"


def test_what_the_client_has_already_is_not_sent_again(client: Client) -> None:
    path = f"/Patient/{client.made(patient())['id']}"
    modified = client.get(path).headers["last-modified"]

    same = client.get(path, headers={"if-none-match": 'W/"1"'})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", 'W/"1"')
    assert client.get(path, headers={"if-none-match": 'W/"2"'}).status_code == 200
    assert client.get(path, headers={"if-modified-since": modified}).status_code == 304
    assert client.get(path, headers={"if-modified-since": "Mon, 01 Jan 2001 00:00:00 GMT"}).status_code == 200


def test_a_conditional_create_makes_one(client: Client) -> None:
    number = unique()
    condition = f"identifier={SYSTEM}|{number}"

    first = client.create(patient(number), if_none_exist=condition)
    second = client.create(patient(number), if_none_exist=condition)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


def test_a_conditional_update_and_delete_find_by_identifier(client: Client) -> None:
    number = unique()
    where = f"/Patient?identifier={SYSTEM}|{number}"

    made = client.write("PUT", where, patient(number))
    changed = client.write("PUT", where, patient(number, gender="other"))
    deleted = client.delete(where)

    assert (made.status_code, changed.status_code, deleted.status_code) == (201, 200, 204)
    assert made.json()["id"] == changed.json()["id"]
    assert client.get(f"/Patient/{made.json()['id']}").status_code == 410


def test_a_condition_that_several_meet_is_refused(client: Client) -> None:
    number = unique()
    client.made(patient(number))
    client.made(patient(number))

    response = client.write("PUT", f"/Patient?identifier={SYSTEM}|{number}", patient(number))

    assert (response.status_code, issue(response)["code"]) == (412, "multiple-matches")


# patches


def test_a_json_patch_changes_what_it_names(client: Client) -> None:
    made = client.made(patient())
    change = [{"op": "add", "path": "/gender", "value": "female"}, {"op": "remove", "path": "/name"}]

    response = client.write("PATCH", f"/Patient/{made['id']}", change, content_type="application/json-patch+json")

    assert response.status_code == 200
    now = client.get(f"/Patient/{made['id']}").json()
    assert now["gender"] == "female" and "name" not in now and now["meta"]["versionId"] == "2"


def fhirpath(kind: str, path: str, **more: Any) -> dict[str, Any]:
    parts = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    parts += [{"name": name, **value} for name, value in more.items()]
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}


def test_a_fhirpath_patch_changes_what_it_names(client: Client) -> None:
    number = unique()
    made = client.made(patient(number, birthDate="1970-01-02"))
    change = fhirpath("replace", "Patient.birthDate", value={"valueDate": "1970-01-03"})

    response = client.write("PATCH", f"/Patient?identifier={SYSTEM}|{number}", change)

    assert response.status_code == 200
    assert client.get(f"/Patient/{made['id']}").json()["birthDate"] == "1970-01-03"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ([{"op": "remove", "path": "/nowhere"}], 422),
        ([{"op": "test", "path": "/active", "value": False}], 422),
        ([{"op": "add", "path": "/gender", "value": "unheard-of"}], 422),
        ([{"op": "replace", "path": "/id", "value": "other"}], 422),
        ([{"op": "jump", "path": "/x"}], 400),
        ({"op": "add"}, 400),
    ],
)
def test_a_patch_that_does_not_fit_changes_nothing(client: Client, change: Any, status: int) -> None:
    made = client.made(patient(active=True))

    response = client.write("PATCH", f"/Patient/{made['id']}", change, content_type="application/json-patch+json")

    assert response.status_code == status, response.text
    assert client.get(f"/Patient/{made['id']}").json() == made


# search


def test_a_search_goes_from_page_to_page_and_gives_each_match_once(client: Client) -> None:
    number, family = unique(), f"Paged{unique()}"
    ids = {client.made(patient(number, name=[{"family": family}]))["id"] for _ in range(5)}

    found: list[str] = []
    url: str | None = f"/Patient?family={family}&_count=2"
    while url:
        page = client.get(url).json()
        found += [one["resource"]["id"] for one in page["entry"]]
        url = next((one["url"] for one in page["link"] if one["relation"] == "next"), None)

    assert sorted(found) == sorted(ids)
    assert page["link"][0]["relation"] == "self"


def test_a_posted_search_finds_the_same(client: Client) -> None:
    number = unique()
    made = client.made(patient(number))

    found = client.post("/Patient/_search", data={"identifier": f"{SYSTEM}|{number}"}).json()

    assert [one["resource"]["id"] for one in found["entry"]] == [made["id"]]
    assert found["entry"][0]["fullUrl"] == f"{client.base_url}Patient/{made['id']}"


def test_orders_bring_their_patient_along(client: Client) -> None:
    who = client.made(patient())
    made = client.made(order(f"Patient/{who['id']}"))

    found = client.get(f"/ServiceRequest?patient=Patient/{who['id']}&_include=ServiceRequest:subject").json()

    modes = {one["resource"]["id"]: one["search"]["mode"] for one in found["entry"]}
    assert modes == {made["id"]: "match", who["id"]: "include"}


def test_an_unknown_parameter_is_told_or_refused_as_the_client_prefers(client: Client) -> None:
    lenient = client.get("/Patient?shoe-size=44&_count=1").json()
    strict = client.get("/Patient?shoe-size=44", headers={"prefer": "handling=strict"})

    remarks = [one["resource"] for one in lenient["entry"] if one["search"]["mode"] == "outcome"]
    assert "shoe-size" in remarks[0]["issue"][0]["diagnostics"]
    assert "shoe-size" not in lenient["link"][0]["url"]
    assert strict.status_code == 400


def test_everything_about_a_patient_comes_page_by_page(client: Client) -> None:
    who = client.made(patient())
    mine = {client.made(order(f"Patient/{who['id']}"))["id"] for _ in range(3)}
    client.made(order(f"Patient/{client.made(patient())['id']}"))

    found: list[str] = []
    url: str | None = f"/Patient/{who['id']}/$everything?_count=2"
    while url:
        page = client.get(url).json()
        assert len(page.get("entry", [])) <= 2
        found += [one["resource"]["id"] for one in page.get("entry", [])]
        url = next((one["url"] for one in page["link"] if one["relation"] == "next"), None)

    assert sorted(found) == sorted({who["id"], *mine})


def test_history_of_a_type_and_of_all_is_newest_first(client: Client) -> None:
    first, second = client.made(patient()), client.made(patient())

    of_type = client.get("/Patient/_history?_count=2").json()
    of_all = client.get("/_history?_count=1").json()

    assert [one["resource"]["id"] for one in of_type["entry"]] == [second["id"], first["id"]]
    assert of_all["entry"][0]["resource"]["id"] == second["id"]
    assert {one["relation"] for one in of_type["link"]} == {"self", "next"}


# transaction and batch


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def posted(resource: dict[str, Any], url: str = "", **request: str) -> dict[str, Any]:
    made = {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"], **request}}
    return {**made, "fullUrl": url} if url else made


def test_a_transaction_links_what_it_makes_and_reads_after_it(client: Client) -> None:
    number, name = unique(), "urn:uuid:0f2a2f6e-0000-4000-8000-000000000001"
    read = {"request": {"method": "GET", "url": f"Patient?identifier={SYSTEM}|{number}"}}

    response = client.write(
        "POST", "/", bundle("transaction", read, posted(order(name)), posted(patient(number), name))
    )

    answer = response.json()
    assert (response.status_code, answer["type"]) == (200, "transaction-response")
    searched, ordered, who = answer["entry"]
    assert searched["resource"]["entry"][0]["resource"]["id"] == who["resource"]["id"]
    assert ordered["resource"]["subject"]["reference"] == f"Patient/{who['resource']['id']}"
    assert ordered["response"]["status"].startswith("201") and ordered["response"]["location"]


def test_a_transaction_is_done_whole_or_not_at_all(client: Client) -> None:
    number = unique()
    bad = posted({**order("Patient/1"), "status": "unheard-of"})

    response = client.write("POST", "/", bundle("transaction", posted(patient(number)), bad))

    assert response.status_code == 422
    assert issue(response)["expression"] == ["Bundle.entry[1].resource.status"]
    assert client.get(f"/Patient?identifier={SYSTEM}|{number}").json()["total"] == 0


def test_each_entry_of_a_batch_stands_for_itself(client: Client) -> None:
    number = unique()
    entries = [
        posted(patient(number)),
        {"request": {"method": "GET", "url": "Patient/no-such-one"}},
        {"request": {"method": "DELETE", "url": f"Patient?identifier={SYSTEM}|{number}-none"}},
        posted(patient(number), ifNoneExist=f"identifier={SYSTEM}|{number}"),
        posted(patient(gender="unheard-of")),
    ]

    answer = client.write("POST", "/", bundle("batch", *entries)).json()

    assert answer["type"] == "batch-response"
    statuses = [one["response"]["status"][:3] for one in answer["entry"]]
    assert statuses == ["201", "404", "204", "200", "422"]
    assert answer["entry"][1]["response"]["outcome"]["resourceType"] == "OperationOutcome"


# what is wrong is told


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/Patient/no-such-one", 404),
        ("GET", "/Nonsense", 404),
        ("GET", "/Patient/x/y/z", 404),
        ("GET", "/Patient/" + "x" * 65, 404),
        ("DELETE", "/metadata", 405),
        ("GET", "/", 405),
        ("DELETE", "/Patient", 400),
        ("GET", "/Patient?birthdate=yesterday", 400),
        ("GET", "/Patient/_history?_since=yesterday", 400),
    ],
)
def test_every_error_is_an_operation_outcome(client: Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)

    assert response.status_code == status, response.text
    assert issue(response)["severity"] == "error"
    assert (status == 405) is ("allow" in response.headers)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"resourceType":"Patient",\n"active":}', {"location": ["line 2 column 10"]}),
        (b'{"resourceType":"Patient","active":"yes"}', {"expression": ["Patient.active"]}),
        (b'{"resourceType":"Patient","name":[{"famly":"X"}]}', {"expression": ["Patient.name[0].famly"]}),
        (b'{"resourceType":"Patient","name":{"family":"X"}}', {"expression": ["Patient.name"]}),
        (b'{"resourceType":"Patient","birthDate":"2024-13-01"}', {"expression": ["Patient.birthDate"]}),
        (b'{"resourceType":"Observation","status":"final","code":{"text":"x"}}', {"expression": ["resourceType"]}),
        (b'{"resourceType":"Patient","active":true,"active":false}', {}),
        (b'{"resourceType":"Patient","active":NaN}', {}),
        (b'["Patient"]', {}),
        (b"", {}),
        (b"\xff\xfe", {}),
        (b"[" * 200_000, {}),
        (b'{"resourceType":"Patient","contained":' + b'[{"resourceType":"Patient","contained":' * 90 + b"1", {}),
    ],
)
def test_a_body_that_is_no_such_resource_is_refused_with_its_place(client: Client, body: bytes, place: Any) -> None:
    response = client.write("POST", "/Patient", body)

    assert response.status_code in (400, 422), response.text
    found = issue(response)
    assert {key: found.get(key) for key in place} == place


def test_all_faults_are_told_at_once(client: Client) -> None:
    response = client.create({"resourceType": "Patient", "active": 1, "gender": "x", "shoe": 44})

    places = [one["expression"][0] for one in response.json()["issue"]]
    assert places == ["Patient.active", "Patient.gender", "Patient.shoe"]


def test_what_is_refused_is_kept_as_refused(client: Client, base: str) -> None:
    number = unique()

    client.create(patient(number, gender="unheard-of"))

    newest = messages(base, status="refused")[0]
    assert newest["type"] == "Patient^create"
    assert newest["error"]["at"] == "Patient.gender"


# negotiation


@pytest.mark.parametrize("accept", ["application/fhir+xml", "text/turtle", "application/fhir+json;fhirVersion=3.0"])
def test_what_is_not_served_is_not_acceptable(client: Client, accept: str) -> None:
    assert client.get("/Patient", headers={"accept": accept}).status_code == 406
    assert client.get("/Patient?_format=json", headers={"accept": accept}).status_code == 200
    assert client.get("/Patient?_format=xml").status_code == 406


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "application/fhir+json;fhirVersion=4.0", "text/html,*/*;q=0.1"]
)
def test_json_is_served_to_who_takes_it(client: Client, accept: str) -> None:
    assert client.get("/metadata", headers={"accept": accept}).status_code == 200


def test_xml_is_not_taken(client: Client) -> None:
    response = client.write("POST", "/Patient", b"<Patient/>", content_type="application/fhir+xml")

    assert (response.status_code, issue(response)["code"]) == (415, "not-supported")


def test_bodies_are_packed_both_ways(client: Client) -> None:
    body = gzip.compress(json.dumps(patient()).encode())

    packed = client.write("POST", "/Patient", body, content_encoding="gzip")
    broken = client.write("POST", "/Patient", body[:-9], content_encoding="gzip")
    longer = client.write("POST", "/Patient", body + b"more", content_encoding="gzip")

    assert (packed.status_code, broken.status_code, longer.status_code) == (201, 400, 400)
    assert client.get("/metadata", headers={"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"


def test_too_much_is_refused_packed_or_not(client: Client) -> None:
    much = b" " * (17 << 20)

    plain = client.write("POST", "/Patient", much)
    packed = client.write("POST", "/Patient", gzip.compress(much), content_encoding="gzip")

    assert (plain.status_code, packed.status_code) == (413, 413)
    assert issue(packed)["code"] == "too-long"


def test_the_answer_is_as_the_client_prefers(client: Client) -> None:
    minimal = client.create(patient(), prefer="return=minimal")
    outcome = client.create(patient(), prefer="return=OperationOutcome")

    assert (minimal.status_code, minimal.content) == (201, b"")
    assert minimal.headers["location"]
    assert issue(outcome)["severity"] == "information"


def test_head_has_the_headers_and_no_body(client: Client) -> None:
    made = client.made(patient())

    response = client.head(f"/Patient/{made['id']}")

    assert (response.status_code, response.content, response.headers["etag"]) == (200, b"", 'W/"1"')


def test_a_request_sent_again_under_its_id_is_done_once(client: Client, base: str) -> None:
    number, name = unique(), f"request-{unique()}"

    first = client.create(patient(number), x_request_id=name)
    second = client.create(patient(number), x_request_id=name)

    assert first.headers["x-request-id"] == name
    assert first.json() == second.json()
    assert client.get(f"/Patient?identifier={SYSTEM}|{number}").json()["total"] == 1
    assert messages(base, status="duplicate")[0]["control_id"] == name


# Binary, $validate, metadata


def test_the_content_of_a_binary_comes_and_goes_as_it_is(client: Client) -> None:
    content = b"%PDF-1.4 \x00\xff"

    made = client.write("POST", "/Binary", content, content_type="application/pdf")

    assert made.json()["data"] == b64encode(content).decode()
    raw = client.get(f"/Binary/{made.json()['id']}", headers={"accept": "application/pdf"})
    assert (raw.content, raw.headers["content-type"]) == (content, "application/pdf")
    assert raw.headers["x-content-type-options"] == "nosniff"


def test_validate_tells_faults_and_keeps_nothing(client: Client) -> None:
    number = unique()
    good, bad = patient(number), patient(number, gender="unheard-of")
    wrapped = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": bad}]}

    assert issue(client.write("POST", "/Patient/$validate", good))["severity"] == "information"
    for body in (bad, wrapped):
        response = client.write("POST", "/Patient/$validate", body)
        assert (response.status_code, issue(response)["expression"]) == (200, ["Patient.gender"])
    assert client.get(f"/Patient?identifier={SYSTEM}|{number}").json()["total"] == 0


def test_what_the_capability_statement_says_is_served(client: Client) -> None:
    statement = client.get("/metadata").json()

    assert (statement["fhirVersion"], statement["implementation"]["url"]) == ("4.0.1", str(client.base_url).rstrip("/"))
    for resource in statement["rest"][0]["resource"]:
        for parameter in resource.get("searchParam", []):
            value = {"date": "2024-01-01", "quantity": "1", "reference": "Patient/1"}.get(parameter["type"], "x")
            url = f"/{resource['type']}?{parameter['name']}={value}&_count=1"
            response = client.get(url, headers={"prefer": "handling=strict"})
            assert response.status_code == 200, (url, response.text)


def test_a_message_of_a_write_holds_the_resource_as_it_came(client: Client, base: str) -> None:
    body = '{ "resourceType" : "Patient",  "active":true }'

    client.write("POST", "/Patient", body)

    newest = messages(base, status="routed")[0]
    headers = {"authorization": "Bearer secret-token"}
    url = base.removesuffix("/fhir") + f"/api/messages/{newest['id']}"
    found = httpx.get(url, headers=headers, trust_env=False).json()
    assert body in found["content"]
    assert {one["destination"] for one in found["deliveries"]} == {"fhir", "files"}


def test_a_write_that_is_handed_in_takes_effect_too(client: Client, base: str) -> None:
    number = unique()
    handed = json.dumps(bundle("batch", posted(patient(number)))).encode()
    headers = {"authorization": "Bearer secret-token"}
    url = base.removesuffix("/fhir") + "/api/channels/fhir/messages"

    taken = httpx.post(url, content=handed, headers=headers, trust_env=False)
    refused = httpx.post(url, content=handed.replace(b"family", b"famly"), headers=headers, trust_env=False)

    assert (taken.status_code, refused.status_code) == (201, 400)
    assert client.get(f"/Patient?identifier={SYSTEM}|{number}").json()["total"] == 1


def test_a_large_resource_is_checked_as_a_small_one_is(client: Client) -> None:
    long = [{"text": "x" * 1000, "authorString": "T"} for _ in range(100)]
    good = order("Patient/1", note=long)

    made = client.made(good)
    response = client.create({**good, "note": [*long, {"text": 1}]})

    assert len(client.get(f"/ServiceRequest/{made['id']}").content) > 100_000
    assert issue(response)["expression"] == ["ServiceRequest.note[100].text"]


def test_a_write_is_replayed_to_where_its_routes_lead_and_not_done_twice(base: str, client: Client) -> None:
    made = client.made(patient())
    api, headers = base.removesuffix("/fhir") + "/api", {"authorization": "Bearer secret-token"}
    kept = messages(base, status="routed")[0]["id"]

    with httpx.Client(base_url=api, headers=headers, trust_env=False) as console:
        owed = {one["destination"]: one["id"] for one in console.get(f"/messages/{kept}").json()["deliveries"]}
        again = console.post("/replay", json={"deliveries": [owed["fhir"]]})
        sent = console.post("/replay", json={"messages": [kept]})

    assert again.status_code == 400
    assert "not done again" in again.json()["what"]
    assert (sent.status_code, len(sent.json()["deliveries"])) == (200, 1)
    assert client.get(f"/Patient/{made['id']}").headers["etag"] == 'W/"1"'
