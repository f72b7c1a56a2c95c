"""HL7 messages composed of another one (``target: hl7v2`` with ``message:``), and the shipped order translations."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.codecs.strict import validate
from bridge.errors import MappingError
from bridge.mapping import MappingSet, Rendered, compile_all
from tests.rigs.need import REPOSITORY, require_data

SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
MAPPINGS = REPOSITORY / "mappings"
ORDER = (
    b"MSH|^~\\&|RIS|DEMO|PACS|DEMO|20260106080000||ORM^O01|C1|T|2.3\r"
    b"PID|1||P1^^^HOSP~P2||TEST^ALICE||19700102|F\r"
    b"NTE|1||on the patient\r"
    b"ORC|NW|PL1^RIS||GR1\r"
    b"OBR|1|PL1^RIS||A^Proc A^L^B^Proc B^L\r"
    b"NTE|1||x\\T\\y|\r"
    b"ZPX|first\r"
    b'ORC|NW|PL2^RIS||""\r'
    b"OBR|2|PL2^RIS||C^Proc C\r"
    b"OBX|1|TX|a||one\r"
    b"OBX|2|TX|b||two\r"
    b"ZDS|1.2.3^RIS\r"
    b"BLG|C\r"
)
KINDS = ("ADT", "ORM", "OMI", "OMG", "ORU", "SIU", "MDM", "DFT")
HEAD = "target: hl7v2\nmessages: [ORM^O01]\n"
HEADER = "message:\n  - {segment: MSH, from: MSH}\n"


def compiled(text: str) -> MappingSet:
    return compile_all({"m.yaml": HEAD + text})


def compose(text: str, raw: bytes = ORDER, context: dict[str, Any] = SITE) -> Rendered:
    found = compiled(text)
    assert not found.findings, [str(one) for one in found.findings]
    return found.mappings["m"].render(parse(raw), context)


def body(rendered: Rendered) -> list[bytes]:
    """The segments after MSH."""
    assert rendered.data.endswith(b"\r")
    return rendered.data.split(b"\r")[1:-1]


# what goes where


def test_segments_stand_as_written_and_copies_are_byte_for_byte() -> None:
    rendered = compose(HEADER + "  - copy: [OBR, ORC]\n  - copy: [PID]\n")

    assert rendered.data.split(b"\r")[0] == ORDER.split(b"\r")[0]
    assert body(rendered) == [
        b"ORC|NW|PL1^RIS||GR1",
        b"OBR|1|PL1^RIS||A^Proc A^L^B^Proc B^L",
        b'ORC|NW|PL2^RIS||""',
        b"OBR|2|PL2^RIS||C^Proc C",
        b"PID|1||P1^^^HOSP~P2||TEST^ALICE||19700102|F",
    ]


def test_a_group_is_made_of_its_own_slice_and_the_items_before_it_of_what_stands_before() -> None:
    rendered = compose(
        HEADER + "  - copy: [PID, NTE]\n"
        "  - each: ORC\n"
        "    group:\n"
        "      - segment: ORC\n"
        "        from: ORC\n"
        "      - segment: OBR\n"
        "        from: OBR\n"
        "        set: {OBR-1: $index, OBR-16: PID-5.1}\n"
        "      - copy: [NTE, OBX]\n"
        "  - copy: Z*\n"
    )

    assert body(rendered) == [
        b"PID|1||P1^^^HOSP~P2||TEST^ALICE||19700102|F",
        b"NTE|1||on the patient",
        b"ORC|NW|PL1^RIS||GR1",
        b"OBR|1|PL1^RIS||A^Proc A^L^B^Proc B^L||||||||||||TEST",
        b"NTE|1||x\\T\\y|",
        b'ORC|NW|PL2^RIS||""',
        b"OBR|2|PL2^RIS||C^Proc C||||||||||||TEST",
        b"OBX|1|TX|a||one",
        b"OBX|2|TX|b||two",
        b"ZPX|first",
        b"ZDS|1.2.3^RIS",
    ]


def test_a_nested_slice_takes_what_its_outer_slice_has_before_it() -> None:
    rendered = compose(
        HEADER + "  - each: [ORC, OBX]\n"
        "    group:\n"
        "      - {segment: ORC, from: ORC}\n"
        "      - copy: [OBR, NTE, OBX]\n"
        "        when: {ORC-2.1: PL2}\n"
    )

    assert body(rendered) == [
        b"ORC|NW|PL1^RIS||GR1",
        b'ORC|NW|PL2^RIS||""',
        b"OBR|2|PL2^RIS||C^Proc C",
        b"OBX|1|TX|a||one",
        b'ORC|NW|PL2^RIS||""',
        b"OBR|2|PL2^RIS||C^Proc C",
        b"OBX|2|TX|b||two",
    ]


def test_the_others_are_what_no_item_names_and_nothing_leaves_out() -> None:
    rendered = compose("leave_out: [BLG]\n" + HEADER + "  - copy: [PID, NTE, ORC, OBR]\n  - copy: others\n")

    assert body(rendered)[-4:] == [b"ZPX|first", b"OBX|1|TX|a||one", b"OBX|2|TX|b||two", b"ZDS|1.2.3^RIS"]
    assert b"BLG" not in rendered.data
    assert rendered.notes == ()


def test_a_mapping_that_copies_everything_gives_every_published_message_back() -> None:
    found = compile_all({"m.yaml": f"target: hl7v2\nmessages: [{', '.join(KINDS)}]\n{HEADER}  - copy: others\n"})
    for path in sorted(require_data("hl7").glob("*/*.hl7")):
        message = parse(path.read_bytes())

        rendered = found.mappings["m"].render(message, SITE)

        assert rendered.data.split(b"\r")[:-1] == [one.raw for one in message.segments()], path.name
        assert rendered.notes == (), path.name


# one segment


def test_copy_takes_bytes_and_set_takes_text() -> None:
    rendered = compose(
        HEADER + "  - segment: ZZZ\n"
        "    copy: {ZZZ-1: PID-3, ZZZ-2.2: NTE(2)-3, ZZZ-3: 'OBR-99 | ORC(2)-4', ZZZ-4: 'OBR-4.4 | OBR-4',\n"
        "      ZZZ-9: 'PID-3[2]'}\n"
        "    set: {ZZZ-5: NTE(2)-3, ZZZ-6.2: {value: A^B}, ZZZ-7: {from: OBX-3, all: true}, ZZZ-8: OBR-99}\n"
    )

    assert body(rendered) == [b'ZZZ|P1^^^HOSP~P2|^x\\T\\y|""|B|x\\T\\y|^A\\S\\B|a~b||P2']


def test_a_segment_without_a_value_of_the_message_is_not_sent() -> None:
    rendered = compose(
        HEADER + "  - {segment: TQ1, set: {TQ1-1: {value: 1}, TQ1-2: $index, TQ1-7: ORC-7.4}}\n"
        "  - {segment: ZZA, set: {ZZA-1: {value: 1}}}\n"
        "  - {segment: PV1, from: PV1, set: {PV1-2: {value: O}}}\n"
    )

    assert body(rendered) == [b"ZZA|1"]


def test_remove_takes_fields_and_components_out_and_leaves_no_separators_behind() -> None:
    rendered = compose(
        HEADER + "  - {segment: PID, from: PID, remove: [PID-7, PID-3.4]}\n"
        "  - {segment: OBR, from: OBR, remove: [OBR-4.4, OBR-4.5, OBR-4.6, OBR-30], set: {OBR-4.2: {value: x}}}\n"
    )

    assert body(rendered) == [b"PID|1||P1~P2||TEST^ALICE|||F", b"OBR|1|PL1^RIS||A^x^L"]


def test_a_segment_for_each_slice_can_have_another_name() -> None:
    rendered = compose(HEADER + "  - {segment: NTE, each: OBX, set: {NTE-1: $index, NTE-3: OBX-5}}\n")

    assert body(rendered) == [b"NTE|1||one", b"NTE|2||two"]


# the header


def test_a_new_header_keeps_delimiters_time_id_kind_and_character_set() -> None:
    raw = b"MSH#*~\\&#RIS####20260106080000##ORM*O01#C1#T#2.3######8859/1\rPID#1##\xc9*A&B\r"
    rendered = compose(
        "message:\n"
        "  - {segment: MSH, set: {MSH-9.1: {value: OMI}, MSH-9.2: {value: O23}, MSH-12: {value: 2.5.1}}}\n"
        "  - {segment: ZZZ, copy: {ZZZ-1: PID-3}, set: {ZZZ-2: {value: 'a#b*cé'}}}\n",
        raw,
    )

    assert rendered.data == (
        b"MSH#*~\\&#####20260106080000##OMI*O23#C1#T#2.5.1######8859/1\rZZZ#\xc9*A&B#a\\F\\b\\S\\c\xe9\r"
    )
    assert rendered.control_id == "C1"
    assert rendered.notes == ("not carried over: MSH-3, PID-1",)


def test_the_control_id_is_the_one_that_is_sent() -> None:
    rendered = compose("message:\n  - {segment: MSH, from: MSH, set: {MSH-10: ORC-2.1}}\n")

    assert (rendered.control_id, parse(rendered.data).get("MSH-10")) == ("PL1", "PL1")


def test_a_character_set_that_the_mapping_names_is_the_one_it_is_written_in() -> None:
    raw = ORDER.replace(b"|2.3\r", b"|2.3||||||8859/1\r").replace(b"ALICE", b"ZO\xc9")

    rendered = compose(
        "message:\n  - {segment: MSH, from: MSH, set: {MSH-18: {value: UNICODE UTF-8}}}\n  - copy: PID\n", raw
    )

    assert "ZOÉ".encode() in rendered.data
    assert parse(rendered.data).get("PID-5.2") == "ZOÉ"


def test_a_character_set_whose_bytes_look_like_delimiters_stays() -> None:
    raw = ORDER.replace(b"|2.3\r", b"|2.3||||||ISO IR87\r").replace(b"ALICE", "山田".encode("iso2022_jp"))

    rendered = compose(HEADER + "  - copy: PID\n  - {segment: ZZZ, set: {ZZZ-1: PID-5.2}}\n", raw)

    assert parse(rendered.data).get("ZZZ-1") == parse(rendered.data).get("PID-5.2") == "山田"


def test_a_character_that_the_message_cannot_hold_is_refused() -> None:
    raw = ORDER.replace(b"|2.3\r", b"|2.3||||||8859/1\r")
    with pytest.raises(MappingError) as caught:
        compose(HEADER + "  - {segment: OBR, from: OBR, set: {OBR-18: {value: Ω}}}\n", raw)

    assert caught.value.at == "OBR-18"
    assert "U+03A9" in caught.value.what


# what is left behind


def test_what_is_not_carried_over_is_noted_and_never_what_it_holds() -> None:
    rendered = compose(
        "leave_out: [BLG, ORC-1]\nup_to: {PID: 5}\n" + HEADER + "  - copy: [PID, OBX]\n"
        "  - {segment: ZZZ, copy: {ZZZ-1: OBR-2.1, ZZZ-2: ORC-2, ZZZ-3: PID-7}}\n"
    )

    assert body(rendered)[0] == b"PID|1||P1^^^HOSP~P2||TEST^ALICE"
    assert rendered.notes == (
        "not carried over: PID-8, NTE(1), ORC-4, OBR-1, OBR-2.2, OBR-4, NTE(2), ZPX, ORC(2), OBR(2), ZDS",
    )


def test_more_repetitions_than_are_read_are_noted() -> None:
    rendered = compose(
        "leave_out: [PID-1, PID-5, PID-7, PID-8]\n" + HEADER + "  - {segment: ZZZ, set: {ZZZ-1: PID-3.1}}\n"
    )

    assert rendered.notes[0].startswith("not carried over: PID-3, NTE(1)")


def test_what_a_group_skips_by_condition_is_noted() -> None:
    rendered = compose(HEADER + "  - {each: OBX, when: {OBX-1: 2}, group: [{copy: [OBX]}]}\n  - copy: others\n")

    assert body(rendered)[0] == b"OBX|2|TX|b||two"
    assert rendered.notes == ("not carried over: OBX(1)",)


def test_a_line_that_is_no_segment_is_noted() -> None:
    rendered = compose(HEADER + "  - copy: others\n", ORDER + b"wrapped text\r")

    assert rendered.notes == ("not carried over: line 14",)


def test_identifiers_that_were_merged_away_leave_as_the_surviving_ones() -> None:
    context = {**SITE, "identity": {"P1^HOSP": {"survivor": "P9^HOSP", "authority": ["HOSP", "", ""]}}}

    rendered = compose(HEADER + "  - copy: [PID]\n", context=context)

    assert parse(rendered.data).get("PID-3.1") == "P9"


def test_several_values_for_one_component_are_refused() -> None:
    with pytest.raises(MappingError, match="2 values for ZZZ-1.1"):
        compose(HEADER + "  - {segment: ZZZ, set: {ZZZ-1.1: {from: OBX-3, all: true}}}\n")


def test_a_field_that_does_not_fit_into_a_component_is_refused() -> None:
    with pytest.raises(MappingError) as caught:
        compose(HEADER + "  - {segment: ZZZ, copy: {ZZZ-1.1: PID-3}}\n")

    assert caught.value.at == "ZZZ-1.1"


# mistakes


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("message: []\n", "m.yaml:3:1: error: `message` lists segments, MSH first"),
        ("message:\n  - copy: [PID]\n", "m.yaml:3:1: error: `message` lists segments, MSH first"),
        ("message:\n  - segment: MSH\n", "m.yaml:4:5: error: MSH-9 is not set"),
        (HEADER + "  - {segment: MSH, from: MSH}\n", "m.yaml:5:5: error: MSH is the first segment, once and always"),
        (HEADER + "  - {segment: obr}\n", "m.yaml:5:6: error: `obr` is no segment"),
        (HEADER + "  - {segment: OBR, from: MSH}\n", "m.yaml:5:20: error: OBR cannot begin as `MSH`"),
        (HEADER + "  - {segment: OBR, set: {OBX-1: OBR-1}}\n", "m.yaml:5:26: error: `OBX-1` is no field of OBR"),
        (HEADER + "  - {segment: OBR, set: {OBR(2)-1: OBR-1}}\n", "m.yaml:5:26: error: `OBR(2)-1` is no field of OBR"),
        (
            HEADER + "  - {segment: OBR, copy: {OBR-4: OBR-4}, set: {OBR-4.1: OBR-2}}\n",
            "m.yaml:5:48: error: `OBR-4.1` is written twice",
        ),
        (
            HEADER + "  - {segment: OBR, from: OBR, copy: {OBR-4: OBR-4}, remove: [OBR-4]}\n",
            "m.yaml:5:62: error: `OBR-4` is written twice",
        ),
        (HEADER + "  - {segment: OBR, remove: [OBR-4]}\n", "m.yaml:5:29: error: `remove` takes fields and components"),
        (HEADER + "  - {segment: OBR, copy: {OBR-4: $x}}\n", "m.yaml:5:27: error: `copy` takes places of the message"),
        (HEADER + "  - {segment: OBR, set: [OBR-4]}\n", "m.yaml:5:20: error: `set` is a mapping of paths"),
        (HEADER + "  - {segment: OBR, sett: {}}\n", "m.yaml:5:20: error: unknown key `sett`"),
        (HEADER + "  - {each: ORC}\n", "m.yaml:5:5: error: an item is a segment, a group or a copy"),
        (HEADER + "  - {each: ORC, group: OBR}\n", "m.yaml:5:17: error: `group` lists segments"),
        (HEADER + "  - copy: [PID, MSH]\n", "m.yaml:5:17: error: `MSH` cannot be copied here"),
        (HEADER + "  - copy: [PID]\n  - {segment: PID, from: PID}\n", "m.yaml:6:20: error: `PID` is copied twice"),
        (
            "leave_out: [PID]\n" + HEADER + "  - copy: [PID]\n",
            "m.yaml:3:1: error: `PID` is left out, and used further down",
        ),
        ("leave_out: ['PID-3[2]']\n" + HEADER, "m.yaml:3:13: error: `PID-3[2]` cannot be left out"),
        ("up_to: {PID: all}\n" + HEADER, "m.yaml:3:9: error: `up_to` gives the last field of segments"),
        ("edits: []\n" + HEADER, "m.yaml:3:1: error: unknown key `edits`"),
        (
            "message:\n  - {segment: MSH, from: MSH, set: {MSH-2: {value: x}}}\n",
            "m.yaml:4:37: error: the delimiters are those of the source message",
        ),
    ],
)
def test_a_mistake_is_found_where_it_is_written(text: str, finding: str) -> None:
    found = [str(one) for one in compiled(text).findings]

    assert any(one.startswith(finding) for one in found), found


# the shipped translations


def shipped() -> MappingSet:
    files = {one.relative_to(MAPPINGS).as_posix(): one.read_text() for one in MAPPINGS.glob("*.yaml")}
    tables = {one.relative_to(MAPPINGS).as_posix(): one.read_text() for one in MAPPINGS.glob("tables/*.csv")}
    return compile_all({**files, **tables})


SHIPPED = shipped()
TWO_STEPS = (MAPPINGS / "samples" / "orm_23_two_steps.hl7").read_bytes()
CLINICAL = (
    *("PID-3", "PID-5", "PID-7", "PID-8", "PID-11", "PID-18", "NTE(1)-3", "PV1-2", "PV1-3", "PV1-8", "PV1-15"),
    *("PV1-19", "AL1-3"),
    *(f"ORC({order})-{field}" for order in (1, 2) for field in (1, 2, 3, 4, 5, 7, 9, 12, 15, 18)),
    *(f"OBR({order})-{field}" for order in (1, 2) for field in (2, 3, 4, 12, 13, 16, 18, 19, 20, 24, 27)),
    *("OBR(1)-30", "OBR(1)-31", "OBR(1)-34", "OBR(1)-36"),
    *("NTE(2)-3", "NTE(3)-3", "DG1-3", "OBX(1)-5", "OBX(1)-6", "OBX(2)-5", "ZDS-1.1", "ZRX-2"),
)
"""What a modality, a PACS or a reader needs of an order."""


def translate(raw: bytes, *mappings: str) -> Hl7Message:
    for name in mappings:
        raw = SHIPPED.mappings[name].render(parse(raw), SITE).data
    return parse(raw)


@pytest.mark.parametrize("back", [("orm-to-omi", "omi-to-orm"), ("orm-to-omg", "omg-to-orm")])
def test_an_order_there_and_back_keeps_all_that_is_clinically_relevant(back: tuple[str, str]) -> None:
    message, returned = parse(TWO_STEPS), translate(TWO_STEPS, *back)

    assert [path for path in CLINICAL if not message.get(path) and not path.startswith(("ORC(2)", "OBR(2)"))] == []
    assert {path: returned.all(path) for path in CLINICAL} == {path: message.all(path) for path in CLINICAL}
    assert [one for one in returned.names if one != "ZDS"] == [one for one in message.names if one != "ZDS"]
    assert returned.get("MSH-9") == "ORM^O01" and returned.get("MSH-12") == "2.3"


def test_timing_and_ids_come_back_from_tq1_and_ipc_alone() -> None:
    """A system that speaks 2.5.1 only need not fill the fields that 2.3 had for them."""
    editor = translate(TWO_STEPS, "orm-to-omi").edit()
    for path in ("ORC(*)-7", "OBR(*)-27", "OBR(*)-18", "OBR(*)-19", "OBR(*)-20", "OBR(*)-24", "ORC(*)-18"):
        editor.delete(path)

    returned = translate(editor.encode(), "omi-to-orm")

    message = parse(TWO_STEPS)
    assert {path: returned.all(path) for path in CLINICAL} == {path: message.all(path) for path in CLINICAL}


@pytest.mark.parametrize("sample", ["orm_23_two_steps", "orm_new_ct", "orm_two_orders", "omi_new_mr", "omg_new_us"])
def test_a_translated_order_is_valid_in_its_version(sample: str) -> None:
    raw = (MAPPINGS / "samples" / f"{sample}.hl7").read_bytes().replace(b"MR1~MR2", b"MR1")
    kind = sample.partition("_")[0]
    chains = {
        "orm": [("orm-to-omi",), ("orm-to-omg",), ("orm-to-omi", "omi-to-orm"), ("orm-to-omg", "omg-to-orm")],
        "omi": [("omi-to-orm",), ("omi-to-orm", "orm-to-omi")],
        "omg": [("omg-to-orm",), ("omg-to-orm", "orm-to-omg")],
    }

    assert {chain: validate(translate(raw, *chain).raw) for chain in chains[kind]} == {
        chain: [] for chain in chains[kind]
    }


@pytest.mark.parametrize(("status", "event"), [(b"|F|", "T02"), (b"|C|", "T08"), (b"|X|", "T11")])
def test_a_report_becomes_a_document_that_is_valid_in_its_version(status: bytes, event: str) -> None:
    raw = (MAPPINGS / "samples" / "oru_pdf.hl7").read_bytes().replace(b"|CT|F|", b"|CT" + status)

    made = translate(raw, "oru-to-mdm")

    assert made.get("MSH-9.2") == event
    assert validate(made.raw) == []


def test_z_segments_stay_where_they_were() -> None:
    raw = TWO_STEPS.replace(b"PV1|1|I", b"ZFD|1|x\rPV1|1|I").replace(b"DG1|", b"ZFU|2\rDG1|")

    names = translate(raw, "orm-to-omi").names

    assert names[names.index("ZFD") - 1 :][:3] == ["NTE", "ZFD", "PV1"]
    assert names.index("ZFU") < names.index("ORC", names.index("ORC") + 1)


def test_a_pacs_and_a_worklist_get_the_same_ids_where_the_order_has_none() -> None:
    raw = (MAPPINGS / "samples" / "orm_new_ct.hl7").read_bytes()
    editor = parse(raw).edit()
    for path in ("OBR-19", "OBR-20", "OBR-24"):
        editor.delete(path)
    editor.remove_segment("ZDS")
    editor.set_er7("OBR-4", "24590-2^MR Brain^LN")
    bare = editor.encode()

    omi = translate(bare, "orm-to-omi")
    worklist = SHIPPED.mappings["order-to-worklist"].render(parse(bare), SITE).data.decode()

    for path, ours in {"IPC-2": "A100", "IPC-4": "A100", "IPC-5": "MR"}.items():
        assert omi.get(path) == ours
    assert omi.get("IPC-3").startswith("2.25.") and f'"{omi.get("IPC-3")}"' in worklist


def test_published_orders_are_translated_without_silent_loss() -> None:
    for file, mapping in (
        ("dcm4che/OMI_O23-ImagingOrder.hl7", "omi-to-orm"),
        ("ans/ORM_O01-demande.hl7", "orm-to-omi"),
        ("fhir-converter/ORM-O01-03.hl7", "orm-to-omi"),
        ("fhir-converter/OMG-O19-01.hl7", "omg-to-orm"),
    ):
        message = parse(require_data("hl7", file).read_bytes())

        rendered = SHIPPED.mappings[mapping].render(message, SITE)

        told = " ".join(rendered.notes)
        lost = {name for name in message.names if name not in parse(rendered.data).names}
        assert {name for name in lost if name not in told} <= {"TQ1", "IPC", "SFT", "ZDS", "CTI", "BLG"}, file


def test_a_thousand_orders_of_one_message_are_numbered_through() -> None:
    start, end = TWO_STEPS.index(b"ORC|"), TWO_STEPS.index(b"ZDS|")
    many = TWO_STEPS[:start] + TWO_STEPS[start:end] * 500 + TWO_STEPS[end:]

    returned = translate(many, "orm-to-omi", "omi-to-orm")

    assert len(returned.segments("ORC")) == 1000
    assert returned.all("OBR-1") == [str(number) for number in range(1, 1001)]


def test_the_same_order_always_gives_the_same_bytes() -> None:
    assert translate(TWO_STEPS, "orm-to-omi").raw == translate(TWO_STEPS, "orm-to-omi").raw


def test_what_is_numbered_has_to_be_segments() -> None:
    text = "target: hl7v2\nmessages: [ORM]\nnumbered: {OBX: 1}\nmessage:\n  - {segment: MSH, from: MSH}\n"
    (finding,) = compile_all({"a.yaml": text}).findings
    assert (finding.line, finding.what) == (3, "`numbered` counts segments")


def test_segments_are_numbered_anew_after_the_one_that_is_named() -> None:
    text = "target: hl7v2\nmessages: [ORU]\nnumbered: {OBX: OBR}\nmessage:\n  - {segment: MSH, from: MSH}\n"
    text += (
        "  - each: OBR\n    group:\n      - {segment: OBR, from: OBR}\n      - {segment: OBX, each: OBX, from: OBX}\n"
    )
    made = compile_all({"a.yaml": text}).mappings["a"]
    lines = ["MSH|^~\\&|A|||||  |ORU^R01|1|P|2.5", "OBR|1", "OBX|7", "OBX|7", "OBR|2", "OBX|9", ""]

    out = parse(made.render(parse("\r".join(lines).encode()), {}).data)

    assert out.all("OBX-1") == ["1", "2", "1"]
