"""A destination's answer as its asker gets it."""

from __future__ import annotations

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.codecs.relayed import only_asks, relayed
from bridge.errors import CodecError

QUESTION = b"MSH|^~\\&|CT1^1.2^ISO|ROOM|BRIDGE|HUB|2026||QBP^Q22|Q\\T\\1|P|2.5\rQPD|X|T1\r"
ANSWER = b"MSH$%*\\@$HIS$HOSP$BRIDGE$HUB$2026$$RSP%K22$R1$P$2.5$$$$$$8859/1\nMSA$AA$X1\nZZZ$\xe9$$\n\n"


def changed(**fields: bytes) -> bytes:
    parts = QUESTION.split(b"|")
    for name, value in fields.items():
        parts[int(name.removeprefix("msh")) - 1] = value
    return b"|".join(parts)


def test_an_answer_to_an_unchanged_question_passes_byte_for_byte() -> None:
    question = parse(QUESTION)

    assert relayed(parse(ANSWER), question, question) == ANSWER


def test_the_control_id_is_the_askers_when_the_question_left_under_another() -> None:
    back = relayed(parse(ANSWER), parse(QUESTION), parse(changed(msh10=b"X1")))

    assert parse(back).get("MSA-2") == "Q&1"
    assert back == ANSWER.replace(b"$X1", b"$Q&1")


def test_names_are_turned_round_only_where_the_question_left_under_others() -> None:
    back = relayed(parse(ANSWER), parse(QUESTION), parse(changed(msh3=b"ENGINE", msh6=b"HOSP")))

    assert back == ANSWER.replace(b"$HIS$HOSP$BRIDGE$HUB$", b"$HIS$HUB$CT1%1.2%ISO$HUB$")


def test_a_name_that_the_asker_left_empty_is_empty_in_the_answer() -> None:
    back = relayed(parse(ANSWER), parse(changed(msh4=b"")), parse(changed(msh4=b"HUB")))

    assert back == ANSWER.replace(b"$BRIDGE$HUB$", b"$BRIDGE$$")


def test_an_answer_that_would_break_its_frame_is_refused() -> None:
    question = parse(QUESTION)

    with pytest.raises(CodecError):
        relayed(parse(ANSWER.replace(b"ZZZ$", b"ZZZ$\x1c")), question, question)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("QBP^Q22", True),
        ("QBP^Q23", True),
        ("QRY^A19", True),
        ("QRY", True),
        ("OSQ^Q06", True),
        ("ORM^O01", False),
        ("OMG^O19", False),
        ("QSB^Q16", False),
        ("QCN^J01", False),
        ("", False),
    ],
)
def test_only_what_changes_nothing_where_it_is_answered_is_a_mere_question(kind: str, expected: bool) -> None:
    assert only_asks(kind) is expected
