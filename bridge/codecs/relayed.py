"""Answers that come from a destination, as the one who asked must get them (HL7 v2 chapter 2, MSA; chapter 5)."""

from __future__ import annotations

from bridge.codecs.hl7v2 import Hl7Message
from bridge.errors import CodecError

_QUERIES = frozenset({"EQQ", "OSQ", "QBP", "QRY", "QVR", "RQQ", "SPQ", "SQM", "VQQ", "VXQ"})
_NAMES = ((3, 5), (4, 6), (5, 3), (6, 4))
"""The field of MSH in which a question names somebody, and that in which its answer does."""


def only_asks(message_type: str) -> bool:
    """Whether a message of this type (``QBP^Q22``) changes nothing where it is answered (tables 0003 and 0076).

    Anything else may: an order with ORC-1 SN has a number assigned to it.
    """
    return message_type.partition("^")[0] in _QUERIES


def relayed(answer: Hl7Message, question: Hl7Message, asked: Hl7Message) -> bytes:
    """``answer`` for the sender of ``question``, which left as ``asked``: byte for byte, but for what was changed on
    the way there. MSA-2 is the control id of ``question``, MSH-3 to 6 turn its names round.

    Raises CodecError if ``answer`` has no MSA, or its character set lacks one of these values.
    """
    editor = answer.edit()
    if asked.field(0, 9) != question.field(0, 9):
        editor.set("MSA-2", question.get("MSH-10"))
    for source, target in _NAMES:
        if asked.field(0, source - 1) != question.field(0, source - 1):
            editor.delete(f"MSH-{target}")
            for number, (text, *_) in enumerate(question.parts(f"MSH-{source}"), 1):
                if text:
                    editor.set(f"MSH-{target}.{number}", text)
    data = editor.encode()
    if b"\x1c" in data or b"\x0b" in data:
        raise CodecError("the answer holds a control character that ends or starts a frame", at="MLLP")
    return data
