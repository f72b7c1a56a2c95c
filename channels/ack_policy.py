"""What a receiver's acknowledgement means for the delivery: one table for every channel that brings HL7 v2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import StringConstraints

from bridge.codecs.ack import CONDITIONS, Ack
from bridge.codecs.order_answers import REFUSALS
from bridge.errors import FACES, Held, Permanent, Temporary

Outcome = Literal["done", "retry", "park", "dead"]
"""``dead``: what follows in the lane goes by the channel's `on_dead`; ``park``: it waits for a person in any case."""

ACK_POLICY: dict[str, Outcome] = {
    "AA": "done",
    **{f"AA/{refusal}": "dead" for refusal in REFUSALS},
    "AE": "dead",
    "AE/206": "retry",
    "AE/207": "retry",
    "AR": "retry",
    "AR/100": "dead",
    "AR/101": "dead",
    "AR/102": "dead",
    "AR/103": "dead",
    "AR/200": "dead",
    "AR/201": "dead",
    "AR/202": "dead",
    "AR/203": "dead",
    "AR/204": "dead",
    "AR/205": "dead",
}
"""What an answer means for the delivery: MSA-1, or what goes first, MSA-1/ERR-3 or MSA-1/ORC-1 of an order in it (UA:
unable to accept). CA, CE, CR mean as AA, AE, AR do."""

AckPolicy = dict[Annotated[str, StringConstraints(pattern=r"^[AC][AER](/(\d{3}|[A-Z]{2}))?$")], Outcome]
"""A channel's own table over the built-in one."""

_WORST: tuple[Outcome, ...] = ("park", "dead", "retry", "done")
"""Of several errors in one answer, the one that decides: the first of these."""
_CODE = re.compile("[AC][AER]")
_MEANINGS = CONDITIONS | REFUSALS
_KINDS = {face.hl7: kind for kind, face in reversed(FACES.items())}


def judge(ack: Ack, overrides: Mapping[str, Outcome]) -> None:
    """Returns if the receiver took the message; raises Temporary or Permanent if it did not."""
    outcome, condition = _outcome(ack, overrides)
    if outcome == "done":
        return
    meaning = f" ({condition} {_MEANINGS.get(condition, '')})".replace(" )", ")") if condition else ""
    error = {"retry": Temporary, "park": Held, "dead": Permanent}[outcome]
    raise error(
        f"answered {ack.code if _CODE.fullmatch(ack.code) else 'an unknown code'}{meaning}",
        at=_location(ack),
        fix="see to the receiver" if outcome == "retry" else "mend the message or the receiver, then replay",
        kind=_KINDS.get(condition, "internal"),
    )


def _outcome(ack: Ack, overrides: Mapping[str, Outcome]) -> tuple[Outcome, str]:
    """What an answer means, and the error condition (table 0357) that decided, if any."""
    plain = "A" + ack.code[1:]
    told = [error.code for error in ack.errors] + list(ack.orders)
    for code, table in ((ack.code, overrides), (plain, ACK_POLICY)):
        found = [(table[f"{code}/{one}"], one) for one in told if f"{code}/{one}" in table]
        if found:
            return min(found, key=lambda one: _WORST.index(one[0]))
        if code in table:
            return table[code], next((error.code for error in ack.errors), "")
    return "dead", ""


def _location(ack: Ack) -> str:
    """Where the receiver says the fault is, as ``PID-3``; nothing that could be content."""
    for error in ack.errors:
        match = re.match(r"([A-Z][A-Z0-9]{2})(?:\W(\d*)(?:\W(\d{1,3}))?)?", error.location)
        if match:
            return f"{match[1]}-{match[3]}" if match[3] else match[1]
    return "MSA-1"
