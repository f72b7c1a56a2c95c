"""Pages of a search, and resources cut out of them byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.codecs.fhir_page import collection, read_page
from bridge.errors import CodecError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
spellings = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 1, "\t", "\n "])})


@given(st.lists(st.tuples(values, spellings), max_size=4), spellings)
def test_what_is_cut_out_is_what_the_server_wrote(resources: list[Any], around: dict[str, Any]) -> None:
    # Given resources, each in a spelling of its own, in a page with others around them
    written = [json.dumps({"resourceType": "Task", "x": value}, **how).encode() for value, how in resources]
    entries = [
        {"fullUrl": f"http://his/Task/{n}", "resource": f"@{n}@", "search": {"mode": "match"}}
        for n in range(len(written))
    ]
    page = json.dumps({"resourceType": "Bundle", "entry": entries, "type": "searchset"}, **around).encode()
    for number, one in enumerate(written):
        page = page.replace(b'"@%d@"' % number, one)
    # When it is read, then they are there as they were
    found = read_page(page, "Task")
    assert [one.raw for one in found.matches] == written
    assert [one.url for one in found.matches] == [f"http://his/Task/{n}" for n in range(len(written))]


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"\xff",
        b"[]",
        b"{",
        b'{"resourceType":"Bundle","type":"history"}',
        b'{"resourceType":"Patient"}',
        b'{"resourceType":"Bundle","type":"searchset","entry":{}}',
        b'{"resourceType":"Bundle","type":"searchset","entry":[1]}',
        b'{"resourceType":"Bundle","type":"searchset","entry":[{"resource":"x"}]}',
        b'{"resourceType":"Bundle","type":"searchset","entry":"' + b"[" * 100_000 + b'"}',
        b'{"resourceType":"Bundle","type":"searchset","entry":' + b"[" * 100_000,
        b'{"resourceType":"Bundle","type":"searchset","link":[1]}',
        b'{"resourceType":"Bundle","type":"searchset","link":[{"relation":"next"}]}',
    ],
    ids=lambda page: f"{len(page)} bytes",
)
def test_what_is_no_page_is_refused_never_a_crash(page: bytes) -> None:
    with pytest.raises(CodecError):
        read_page(page, "Task")


def test_without_a_mode_other_types_and_outcomes_come_along() -> None:
    kinds = ["Task", "Patient", "OperationOutcome"]
    entries = [{"resource": {"resourceType": kind, "id": "1"}} for kind in kinds]
    page = read_page(json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entries}).encode(), "Task")

    assert [one.name for one in page.matches] == ["Task/1"]
    assert [one.name for one in page.included] == ["Patient/1", "OperationOutcome/1"]


def test_a_collection_has_what_the_match_refers_to_once_though_they_refer_to_each_other() -> None:
    def resource(name: str, *references: str) -> dict[str, Any]:
        kind, _, id = name.partition("/")
        links = [{"other": {"reference": one}} for one in references]
        return {"resourceType": kind, "id": id, "meta": {"versionId": "7"}, "link": links}

    task = resource("Task/1", "http://his/Patient/1", "Device/1/_history/3", "Patient/gone")
    some = [resource("Patient/1", "Device/1"), resource("Device/1", "Patient/1", "Task/1"), resource("Patient/2")]
    entries = [{"fullUrl": f"http://his/{one['resourceType']}/{one['id']}", "resource": one} for one in [task, *some]]
    page = read_page(json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entries}).encode(), "Task")

    made = json.loads(collection(page.matches[0], page.included))

    assert made["identifier"]["value"] == "Task/1/_history/7"
    assert [one["fullUrl"].rpartition("his/")[2] for one in made["entry"]][0] == "Task/1"
    assert sorted(one["resource"]["id"] + one["resource"]["resourceType"] for one in made["entry"]) == [
        "1Device",
        "1Patient",
        "1Task",
    ]
