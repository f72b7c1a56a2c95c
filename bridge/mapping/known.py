"""Resources that a FHIR message refers to and does not hold: ``context.references`` has them, paths lead into them."""

from __future__ import annotations

from bridge.codecs.fhir_message import FhirMessage
from bridge.mapping.scope import Scope

CONTEXT = "references"
MESSAGE, RECEIVED = "message", "received"
"""What the engine calls the message (a client may send the same content twice and mean it), and when it came (DTM)."""


def following(scope: Scope) -> Scope:
    """The scope of a FHIR message with what it refers to, and a note of what is nowhere; other messages as they are."""
    if not isinstance(scope.message, FhirMessage):
        return scope
    context = scope.context
    message = scope.message.knowing(context.get(CONTEXT, {}), context.get(MESSAGE, ""), context.get(RECEIVED, ""))
    found = Scope(message, scope.context)
    lost = dict.fromkeys(name.partition("?")[0] for name in message.references)
    if lost:
        found.note(f"refers to what is not here: {', '.join(lost)}")
    return found
