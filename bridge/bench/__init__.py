"""``radbridge bench``: how fast the engine is on this machine, and how far from what the machine could do at best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SUBJECTS = ("flow", "codec", "mapping", "worklist", "fhir")
"""What can be measured: ``flow`` is MLLP in, durable, routed, edited, MLLP out in sequence; ``codec`` is the CPU time
of parse, route and edit alone, ``mapping`` that of the shipped mappings, both beside other libraries; ``worklist`` is
a scanner's queries, beside another worklist server; ``fhir`` is the facade's writes, reads and searches."""
MESSAGES = {"flow": (2000, 6000, 12000), "fhir": (300, 800, 1600)}
"""How many go over 1, 8 and 32 connections."""


def run_bench(
    *,
    json: bool = False,
    subject: str = "flow",
    connections: Sequence[int] = (1, 8, 32),
    messages: Sequence[int] = (),
    folder: Path | None = None,
    resources: int = 20_000,
    repeats: int = 200,
    database: str = "",
) -> int:
    """Measure and print; 0 when everything arrived, once, edited and in sequence (codec, mapping: and all made the
    same), else 1.

    The rest is about flow and fhir: ``messages[i]`` are sent over ``connections[i]`` connections (:data:`MESSAGES`
    without them); ``folder`` is where the flow's engine keeps its data while it runs (default: a temporary folder
    below /var/tmp); ``resources``, ``repeats``, ``database``: see :func:`bridge.bench.fhir.run`. No figure makes it
    fail. Raises BridgeError for an unknown subject and for an engine that does not start.
    """
    from bridge.errors import NotFound

    if subject not in SUBJECTS:
        raise NotFound(f"no bench called {subject}", fix="one of " + ", ".join(SUBJECTS))
    if subject == "codec":
        from bridge.bench import codec

        return codec.run(json=json)
    if subject == "mapping":
        from bridge.bench import mapping

        return mapping.run(json=json)
    if subject == "worklist":
        from bridge.bench import worklist

        return worklist.run(json=json)
    levels = list(zip(connections, messages or MESSAGES[subject], strict=True))
    if subject == "fhir":
        from bridge.bench import fhir

        return fhir.run(json=json, levels=levels, resources=resources, repeats=repeats, database=database)
    from bridge.bench import flow

    return flow.run(json=json, levels=levels, folder=folder)
