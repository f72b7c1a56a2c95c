"""The application acknowledgement of enhanced mode that leaves over a channel of its own: a delivery like any other.

It says that the message is stored and every destination is owed it (AA). It asks its receiver for a commit
acknowledgement (MSH-15 AL, MSH-16 NE; HL7 v2 2.9.3), so that it is known to have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from bridge.codecs import ack, order_answers
from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.mapping import CompiledMapping, Rendered

NAMES: dict[Literal["ack", "order"], str] = {"ack": "application-ack", "order": "application-order-answer"}
"""Its mapping and its route, by the channel's `order_answers`; a site's own mapping of this name goes before."""


def _renderer(acknowledge: Callable[..., bytes]) -> Callable[[Hl7Message, Mapping[str, Any]], Rendered]:
    def render(message: Hl7Message, context: Mapping[str, Any]) -> Rendered:
        """``context``: the time of receipt in milliseconds as ``now``, and the site."""
        control_id = "A" + message.header.digest.hex()[:19]
        now = datetime.fromtimestamp(context["now"] / 1000, ZoneInfo(context["site"]["timezone"]))
        editor = parse(acknowledge(message, message.raw, code="AA", control_id=control_id, now=now)).edit()
        editor.set("MSH-15", "AL")
        editor.set("MSH-16", "NE")
        return Rendered(editor.encode(), "hl7v2", control_id)

    return render


MAPPINGS = {
    NAMES["ack"]: CompiledMapping(NAMES["ack"], (), "hl7v2", _renderer(ack.acknowledge)),
    NAMES["order"]: CompiledMapping(NAMES["order"], (), "hl7v2", _renderer(order_answers.acknowledge)),
}
