"""Application answers to orders: ORR^O02, ORI^O24 and ORG^O20 (HL7 v2 chapter 4), which say of each order what became
of it in ORC-1 (table 0119).

An engine that stores and passes on cannot say that a filler did what it was asked: a new order is answered OK, a
request about one that exists RR (received, will be processed later).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from bridge.codecs import ack
from bridge.codecs.hl7v2 import Hl7Message
from bridge.errors import BridgeError

REFUSALS = {
    "UA": "unable to accept order",
    "UC": "unable to cancel",
    "UD": "unable to discontinue",
    "UF": "unable to refill",
    "UH": "unable to put on hold",
    "UM": "unable to replace",
    "UR": "unable to release",
    "UX": "unable to change",
}
"""ORC-1 of an answer by which the filler declines one order, though it took the message."""

_TYPES = {
    "ORM": (b"ORR", b"O02", b"ORR_O02"),
    "OMI": (b"ORI", b"O24", b"ORI_O24"),
    "OMG": (b"ORG", b"O20", b"ORG_O20"),
}
_REQUESTS = {b"CA": b"UC", b"DC": b"UD", b"HD": b"UH", b"RF": b"UF", b"RL": b"UR", b"RP": b"UM", b"XO": b"UX"}
"""Order control codes that ask for a change of an existing order, and how one says that it cannot be done."""
_NUMBERS = (2, 3)
"""Placer and filler order number, in ORC and in OBR."""


def acknowledge(
    message: Hl7Message | None,
    raw: bytes,
    *,
    code: str,
    control_id: str,
    now: datetime,
    error: BridgeError | None = None,
) -> bytes:
    """The answer to ``message`` as :func:`bridge.codecs.ack.acknowledge` makes it, to an order as its order answer.

    Commit answers (CA, CE, CR) and the answers to anything else are general acknowledgements.
    """
    kind = _TYPES.get(message.header.type.partition("^")[0]) if message is not None and code[:1] == "A" else None
    if message is None or kind is None:
        return ack.acknowledge(message, raw, code=code, control_id=control_id, now=now, error=error)
    orders = list(_orders(message, refused=error is not None))
    return ack.acknowledge(
        message, raw, code=code, control_id=control_id, now=now, error=error, type_=kind, orders=orders
    )


def _orders(message: Hl7Message, refused: bool) -> Iterator[bytes]:
    """ORC of each order with its numbers, then the segments of it that the structures require: OBR and IPC."""
    for order in message.split("ORC"):
        orc, *others = [number for number in order.own if message.names[number] in ("ORC", "OBR", "IPC")]
        details = [number for number in others if message.names[number] != "ORC"]
        obr = next((number for number in details if message.names[number] == "OBR"), orc)
        known = [message.field(orc, at) or message.field(obr, at) for at in _NUMBERS]
        word = _word(message.field(orc, 1), refused)
        yield message.delimiters.field.join([b"ORC", word, *known]).rstrip(message.delimiters.field)
        yield from (message.segment_bytes(number) for number in details)


def _word(asked: bytes, refused: bool) -> bytes:
    if refused:
        return _REQUESTS.get(asked, b"UA")
    return b"RR" if asked in _REQUESTS or asked == b"SN" else b"OK"
