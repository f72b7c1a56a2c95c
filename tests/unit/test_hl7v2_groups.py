"""Paths by group, ``ORDER(2).OBR-18``: the groups of the standard, and what senders make of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hl7apy import load_library
from hypothesis import given
from hypothesis import strategies as st

from bridge.codecs.groups import STRUCTURES, Node, tree
from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.errors import CodecError, MappingError
from bridge.mapping import compile_all
from bridge.mapping.cases import run_cases

Groups = tuple[tuple[str, int], ...]

ORDERS = """\
MSH|^~\\&|RIS|SITE|X|Y|20300101||{type}|1|P|2.5.1
PID|1||P1^^^HOSP
PV1|1|O
ORC|NW|P1
OBR|1|P1||CT^Head||||||||||||||A1
NTE|1||first
OBX|1|NM|W||71
OBX|2|NM|H||170
ORC|NW|P2
OBR|2|P2||CT^Chest||||||||||||||A2
OBX|1|NM|W||72
ZDS|1.2.3
"""


def message(text: str, kind: str = "ORM^O01") -> Hl7Message:
    return parse(text.replace("{type}", kind).replace("\n", "\r").encode())


def by_the_standard(structure: Any, inside: Groups, twice: bool) -> Iterator[tuple[str, Groups]]:
    """Every segment of a structure of v2.5.1 with its groups, as hl7apy's tables have them; what repeats, twice."""
    for name, part, (_, most), kind in structure[1]:
        again = most == -1
        group = name.split("_", 2)[-1]
        if kind != "GRP":
            yield from [(name, inside)] * (2 if again else 1)
        elif group.startswith("OBRRQD"):
            yield "OBR", inside
        else:
            called = "OBSERVATION" if group.startswith("OBXNTE") else group
            for number in range(1, 3 if again and twice else 2):
                yield from by_the_standard(part, (*inside, (called, number)), twice)


def as_read(node: Node, inside: Groups = ()) -> Iterator[tuple[int, Groups]]:
    yield from ((number, inside) for number in node.numbers)
    seen: dict[str, int] = {}
    for inner in node.nodes:
        name = inner.group.name
        seen[name] = seen.get(name, 0) + 1
        yield from as_read(inner, (*inside, (name, seen[name])))


@pytest.mark.parametrize("twice", [False, True], ids=["once", "repeated"])
@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_every_segment_of_the_standards_structures_is_in_its_group(name: str, twice: bool) -> None:
    structure = load_library("2.5.1").get(name, "Message")
    expected = [one for one in by_the_standard(structure, (), twice) if one[0] != "DSC"]
    names = [segment for segment, _ in expected]

    found = dict(as_read(tree(STRUCTURES[name], names, range(len(names)))))

    assert [(names[number], found[number]) for number in range(len(names))] == expected


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("ORDER(1).OBR-18", "A1"),
        ("ORDER(2).OBR-18", "A2"),
        ("ORDER.OBR-18", "A1"),
        ("ORDER(*).OBR(2)-18", "A2"),
        ("ORDER(3).OBR-18", ""),
        ("ORDER(2).ORDER_DETAIL.OBSERVATION(1).OBX-5", "72"),
        ("ORDER(1).OBSERVATION(2).OBX-5", "170"),
        ("OBSERVATION(3).OBX-5", "72"),
        ("ORDER(2).OBX(3=W)-5", "72"),
        ("ORDER(1).NTE-3", "first"),
        ("ORDER(2).ZDS-1", "1.2.3"),
        ("ORDER(1).PID-3.1", ""),
        ("PATIENT.PATIENT_VISIT.PV1-2", "O"),
        ("PATIENT.PID-3[4.1=HOSP].1", "P1"),
        ("RESOURCES.AIS-3", ""),
    ],
)
def test_a_path_by_group_names_what_an_engineer_means(path: str, value: str) -> None:
    assert message(ORDERS).get(path) == value


def test_every_value_of_a_group_is_read() -> None:
    assert message(ORDERS).all("ORDER(1).OBX-5") == ["71", "170"]
    assert message(ORDERS).all("ORDER.OBX-5") == ["71", "170", "72"]


def test_an_order_without_orc_is_an_order_too() -> None:
    bare = message("\n".join(line for line in ORDERS.split("\n") if not line.startswith("ORC")))

    assert [bare.get(f"ORDER({number}).OBR-18") for number in (1, 2, 3)] == ["A1", "A2", ""]


def test_a_segment_where_the_standard_has_none_closes_no_group() -> None:
    odd = message(ORDERS.replace("OBR|1", "NTE|0||between ORC and OBR\nPV2|1\nOBR|1"))

    assert [odd.get(f"ORDER({number}).OBR-18") for number in (1, 2)] == ["A1", "A2"]


def test_results_have_groups_without_a_patient_and_for_several() -> None:
    lines = ORDERS.split("\n")
    results = message(ORDERS + "\n".join(lines[1:5]) + "\n", "ORU^R01")
    nobody = message("\n".join(line for line in lines if line[:3] not in ("PID", "PV1")), "ORU^R01")

    assert results.get("PATIENT_RESULT(2).ORDER_OBSERVATION(1).OBR-18") == "A1"
    assert results.get("ORDER_OBSERVATION(3).OBR-18") == "A1"
    assert nobody.get("ORDER_OBSERVATION(2).OBX-5") == "72"


def test_the_groups_of_two_merges_are_told_apart() -> None:
    merges = message(
        "MSH|^~\\&|HIS|SITE|X|Y|20300101||ADT^A40|1|P|2.5.1\nEVN|A40\nPID|1||S1\nMRG|R1\nPID|2||S2\nMRG|R2\n"
    )

    assert [merges.get(f"PATIENT({number}).MRG-1") for number in (1, 2)] == ["R1", "R2"]


def test_in_a_slice_groups_are_counted_in_the_slice() -> None:
    first, second = message(ORDERS).split("OBR")

    assert second.get("ORDER(1).OBR-18") == "A2"
    assert second.get("OBSERVATION(1).OBX-5") == "72"
    assert second.get("PATIENT.PID-3.1") == "P1"
    assert first.get("ORDER(2).OBR-18") == ""


def test_an_edit_by_group_changes_that_field_only() -> None:
    editor = message(ORDERS).edit()

    editor.set("ORDER(2).OBR-18", "B2")
    editor.set("ORDER(1).OBSERVATION(2).OBX-5", "171")
    editor.delete("ORDER(2).OBX-5")

    wanted = ORDERS.replace("A2", "B2").replace("||170", "||171").replace("||72", "||")
    assert editor.encode() == wanted.replace("{type}", "ORM^O01").replace("\n", "\r").encode()


def test_an_edit_of_a_group_that_is_not_there_is_refused() -> None:
    with pytest.raises(CodecError, match=r"no such segment at ORDER\(3\)\.OBR-18"):
        message(ORDERS).edit().set("ORDER(3).OBR-18", "B2")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("ORDERS(2).OBR-18", "no message structure has a group ORDERS at .*did you mean `ORDER`"),
        ("ORDER(0).OBR-18", "chooses nothing"),
        ("ORDER(4.1=X).OBR-18", "chooses no group"),
        ("ORDER(2).OBR", "not a path"),
        ("ORDER(2)-18", "not a path"),
    ],
)
def test_a_path_by_group_that_means_nothing_says_why(path: str, what: str) -> None:
    with pytest.raises(CodecError, match=what):
        message(ORDERS).get(path)


@given(
    st.sampled_from(sorted(STRUCTURES)),
    st.lists(st.sampled_from(["PID", "PV1", "ORC", "OBR", "OBX", "NTE", "SPM", "IPC", "TXA", "AIS", "MRG", "ZZZ", ""])),
)
def test_whatever_the_segments_each_is_in_one_place_and_in_sequence(name: str, names: list[str]) -> None:
    found = list(tree(STRUCTURES[name], names, range(len(names))).all_numbers())

    assert sorted(found) == list(range(len(names)))
    assert dict(as_read(tree(STRUCTURES[name], names, range(len(names))))).keys() == set(range(len(names)))


def test_a_message_of_ninety_thousand_segments_has_its_groups_too() -> None:
    many = message(ORDERS + "OBX|1|NM|W||73\n" * 90_000)

    assert many.get("ORDER(2).OBSERVATION(90001).OBX-5") == "73"


SITE = {"site": {"name": "here", "timezone": "Europe/Paris"}}
EDIT = """\
target: hl7v2
messages: [ORM^O01]
edits:
  - set: {MSH-5: ORDER(2).OBR-18, ORDER(2).OBR-21: {value: SECOND}}
  - each: OBR
    when: {ORDER(1).NTE-3: first}
    set: {ORDER(1).OBR-20: {from: ORDER(1).OBSERVATION(2).OBX-5, required: true}}
"""
CASE = """\
- name: by group
  given: samples/orders.hl7
  edit: {ORDER(2).OBR-18: A3}
  expect: {MSH-5: A3, ORDER(2).OBR-21: SECOND, ORDER(1).OBR-20: "170", ORDER(2).OBR-20: null}
"""


def test_mappings_and_their_cases_speak_of_groups() -> None:
    samples = {"samples/orders.hl7": message(ORDERS).raw}

    (result,) = run_cases({"m.yaml": EDIT, "m.cases.yaml": CASE}, samples)

    assert result.differences == ()


def test_an_error_names_the_segment_in_the_whole_message() -> None:
    mapping = compile_all({"m.yaml": EDIT.replace("OBSERVATION(2).OBX-5", "OBR-30").replace("first", "other")})
    asked = message(ORDERS.replace("OBX|1|NM|W||72", "NTE|1||other"))

    with pytest.raises(MappingError) as refused:
        mapping.mappings["m"].render(asked, SITE)

    assert refused.value.at == "OBR(2)-30"
