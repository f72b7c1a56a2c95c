"""Message and Delivery, and the table of allowed status changes."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

from bridge.errors import BridgeError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


_chance = Random(os.urandom(32))
"""Asking the system each time costs a thread its turn."""
os.register_at_fork(after_in_child=lambda: _chance.seed(os.urandom(32)))


def new_id(now: float | None = None) -> str:
    """A new identifier: 26 characters, sorting by creation time to the millisecond (ULID layout, lower case)."""
    millis = int((time.time() if now is None else now) * 1000)
    value = (millis << 80) | _chance.getrandbits(80)
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -10, -10)])


def id_millis(identifier: str) -> int:
    """When :func:`new_id` made this identifier, milliseconds since the epoch; 0 for a text that it never made."""
    if len(identifier) != 26 or not set(identifier) <= set(_ALPHABET):
        return 0
    millis = 0
    for character in identifier[:10]:
        millis = millis << 5 | _ALPHABET.index(character)
    return millis


SHARED = "~"
"""Before a lane key: a delivery holds the key together with others that have it so, and holds up, and waits for, only
those that have it alone. Who has a key alone has it with the mark and without."""


def shared_keys(keys: Collection[str]) -> frozenset[str]:
    """Those of a delivery's lane keys that it holds together with others."""
    return frozenset(key for key in keys if key[:1] == SHARED and key[1:] not in keys)


class MessageStatus(StrEnum):
    """What became of something received (law 2: everything received has one)."""

    ROUTED = "routed"
    UNROUTED = "unrouted"
    REFUSED = "refused"
    DUPLICATE = "duplicate"


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DONE = "done"
    DEAD = "dead"
    SKIPPED = "skipped"
    REPLAYED = "replayed"
    ANSWERED = "answered"
    """A question: the destination answered it, whatever it said."""
    UNANSWERED = "unanswered"


ALLOWED: dict[DeliveryStatus, frozenset[DeliveryStatus]] = {
    DeliveryStatus.PENDING: frozenset({DeliveryStatus.DONE, DeliveryStatus.DEAD, DeliveryStatus.SKIPPED}),
    DeliveryStatus.DEAD: frozenset({DeliveryStatus.REPLAYED, DeliveryStatus.SKIPPED}),
    DeliveryStatus.DONE: frozenset(),
    DeliveryStatus.SKIPPED: frozenset(),
    DeliveryStatus.REPLAYED: frozenset(),
    DeliveryStatus.ANSWERED: frozenset(),
    DeliveryStatus.UNANSWERED: frozenset(),
}
"""A delivery's status moves only along these lines. A dead one is replayed by a new delivery that takes its place. A
question is kept once it has ended."""


def check_change(old: DeliveryStatus, new: DeliveryStatus) -> None:
    if new not in ALLOWED[old]:
        raise BridgeError(f"a delivery that is {old} cannot become {new}", kind="locked")


@dataclass(frozen=True, slots=True)
class Header:
    """What the engine needs to know of a message to store, route and sequence it; read without a mapping."""

    type: str
    """``ORM^O01``: message code and trigger event; for other formats their own name of the kind."""
    control_id: str = ""
    sender: str = ""
    """Sending application and facility (MSH-3|MSH-4), as the receipt's scope."""
    version: str = ""
    charset: str = ""
    """Python codec name the text was decoded with."""
    test: bool = False
    """MSH-11 is T (training) or D (debugging)."""
    patients: tuple[str, ...] = ()
    """Every patient identifier the message is about, ``id^issuer``; a merge names both."""
    orders: tuple[str, ...] = ()
    """Placer and filler order numbers, ``placer:number^issuer`` and ``filler:number^issuer``."""
    accession: str = ""
    digest: bytes = b""
    """Of the content without what a resend changes (MSH-7)."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived, as bytes, once."""

    id: str
    day: int
    """UTC date of receipt as yyyymmdd; part of every journal key."""
    received_at: int
    """Milliseconds since the epoch, UTC."""
    channel: str
    format: str
    peer: str
    header: Header
    raw: bytes
    status: MessageStatus
    error: dict[str, str] | None = None


@dataclass(slots=True)
class Delivery:
    """One message owed to one destination."""

    id: str
    message: str
    day: int
    """The message's day."""
    route: str
    destination: str
    mapping: str
    """Name of the mapping, or empty: the message leaves as it came."""
    revision: str
    keys: tuple[str, ...]
    """Lane keys; a delivery may go when it is the lowest unfinished on all of them."""
    position: int = 0
    """Place in the destination's sequence, allotted by the store inside the accept transaction."""
    origin: int = 0
    """Position of the first delivery that this one repeats (its own when it repeats none): how new its content is."""
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: int = 0
    retry_at: int = 0
    payload: bytes | None = None
    """The rendered bytes, frozen before the first attempt; None until then, and for pass-through."""
    context: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] | None = None
    suspected: bool = False
    """An earlier attempt may have reached the destination."""
    repeats: int = 0
    """How many attempts may have."""
    cause: str = ""
    """The delivery that this one replays."""
    created_at: int = 0
