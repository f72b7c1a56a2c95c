"""``listen``: an HL7 receiver to test with, as a receiving system would be."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated, Any

import typer

from bridge.commands import output
from bridge.commands.desk import Json, examples, needs

app = typer.Typer()

ANSWERS = ("AA", "AE", "AR")


@app.command(
    epilog=examples(
        "radbridge listen 127.0.0.1:2576",
        "radbridge listen 127.0.0.1:2576 --answer AE",
        "radbridge listen 127.0.0.1:2576 --show",
    )
)
def listen(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where to listen.")],
    answer: Annotated[str, typer.Option(metavar="CODE", help="What every message is answered: AA, AE or AR.")] = "AA",
    show: Annotated[bool, typer.Option("--show", help="Show each message, not only its header.")] = False,
    machine: Json = False,
) -> None:
    """Receive HL7 messages, to try a sender.

        Stands in for a PACS or RIS that is not there: takes every message over MLLP, keeps none, and answers what you
    say. Stop with Ctrl+C.
    """
    needs(answer in ANSWERS, f"no answer {answer}", "one of " + ", ".join(ANSWERS))
    try:
        asyncio.run(_serve(address, answer, show, machine))
    except KeyboardInterrupt:
        output.note("stopped")


async def _serve(address: str, answer: str, show: bool, machine: bool) -> None:
    import structlog

    from bridge.ports import Inbound, Reply, Services
    from channels.mllp import MLLP_IN

    async def receive(inbound: Inbound) -> Reply:
        facts, body = _take(inbound.data, answer)
        if machine:
            output.emit({**facts, "peer": inbound.peer, "answer": answer}, line=True)
        else:
            output.say(f"{answer}  {facts['type']}  {facts['control_id']}  from {inbound.peer}")
        if show and not machine:
            output.say(output.content(inbound.data))
        return Reply(answer == "AA", facts["control_id"], body)

    quiet = structlog.make_filtering_bound_logger(30)
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = MLLP_IN.settings.model_validate({"type": "mllp-in", "listen": address})
    source = MLLP_IN.build(settings, Services(name="listen", site=None))
    await source.start(receive)
    output.note(f"listening at {source.endpoint}, answering {answer}")
    try:
        await asyncio.Event().wait()
    finally:
        await source.stop()


def _take(raw: bytes, answer: str) -> tuple[dict[str, Any], bytes]:
    from bridge.codecs import ack, hl7v2
    from bridge.errors import CodecError, Refused
    from bridge.message import new_id

    try:
        parsed = hl7v2.parse(raw)
        facts = {"type": parsed.header.type, "control_id": parsed.header.control_id, "bytes": len(raw)}
    except CodecError:
        parsed, facts = None, {"type": "?", "control_id": "", "bytes": len(raw)}
    error = None if answer == "AA" else Refused("this receiver answers so to everything", kind="code")
    own, now = new_id()[-20:], datetime.now().astimezone()
    return facts, ack.acknowledge(parsed, raw, code=answer, control_id=own, now=now, error=error)
