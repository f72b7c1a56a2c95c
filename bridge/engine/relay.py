"""Relaying: a question goes to the destination that can answer it, and the answer back to the one who asked.

A question is not accepted: nothing is owed for it, and whoever gets no answer asks again. It is kept, with what came of
it, before its answer goes out; a crash before that leaves nothing behind. What only asks is asked anew each time it
comes. Anything else (an order number is assigned, ORC-1 SN) is asked once: sent again, it gets the answer that was
kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from weakref import WeakValueDictionary

import structlog

from bridge.codecs.ack import read_ack
from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.codecs.relayed import only_asks, relayed
from bridge.engine import metrics
from bridge.engine.plan import Plan, Question
from bridge.engine.workers import Workers
from bridge.errors import BridgeError, MappingError, Permanent, Temporary
from bridge.mapping import Rendered
from bridge.message import MessageStatus
from bridge.ports import Asking, Outgoing, Reply
from bridge.store.accept import Acceptance
from bridge.store.asked import Asked, keep, kept_answer
from bridge.store.store import Store

log = structlog.get_logger(__name__)

Speak = Callable[..., bytes]
"""``speak(error)``: the engine's own answer to the sender; without an error, what it says to a message it accepts."""


class Relay:
    """Asks for the receivers of one node. ``end`` finds a destination's sink by its name."""

    def __init__(self, store: Store, workers: Workers, end: Callable[[str], Asking]) -> None:
        self._store, self._workers, self._end = store, workers, end
        self._once: WeakValueDictionary[tuple[str, bytes], asyncio.Lock] = WeakValueDictionary()
        """Under way, of what is asked only once: the same message, sent again meanwhile, waits for it."""

    async def __call__(self, question: Question, plan: Plan, acceptance: Acceptance, speak: Speak) -> Reply:
        """The destination's answer, or ours (AR) that there is none; committed, either way."""
        message = acceptance.message
        if only_asks(message.header.type):
            return await self._ask(question, plan, acceptance, speak)
        async with self._once.setdefault((message.channel, message.header.digest), asyncio.Lock()):
            first = await asyncio.to_thread(self._store.read, lambda c: kept_answer(c, message))
            if first is None:
                return await self._ask(question, plan, acceptance, speak)
            accepted = await self._store.accept(Acceptance(message, [], first))
            return Reply(True, accepted.message, accepted.answer, duplicate=accepted.duplicate)

    async def _ask(self, question: Question, plan: Plan, acceptance: Acceptance, speak: Speak) -> Reply:
        message, where = acceptance.message, (question.route, question.destination, question.mapping)
        asked = Asked(plan.delivery(message.id, message.day, message.header, *where, message.received_at))
        started, error = time.monotonic(), None
        try:
            answer, code = await self._answer(question, plan, acceptance, asked)
            acceptance.answer = _after_commit(speak(), answer)
            acceptance.receipt = code == "AA" and not only_asks(message.header.type)
        except BridgeError as failed:
            error, asked.delivery.error = failed, failed.as_dict()
            refused = replace(message, status=MessageStatus.REFUSED, error=asked.delivery.error)
            acceptance = Acceptance(refused, [], speak(failed), receipt=False)
        _report(asked, time.monotonic() - started)
        try:
            accepted = await asyncio.to_thread(self._store.write, lambda tx: keep(tx, acceptance, asked))
        except BridgeError as trouble:
            log.error("message_not_stored", channel=message.channel, peer=message.peer, what=trouble.what)
            return Reply(False, "", speak(trouble), trouble)
        return Reply(error is None, accepted.message, accepted.answer, error, accepted.duplicate)

    async def _answer(self, question: Question, plan: Plan, acceptance: Acceptance, asked: Asked) -> tuple[bytes, str]:
        """The answer as the asker gets it, and the destination's MSA-1; what became known on the way is in ``asked``.

        Raises BridgeError: most often that there is none.
        """
        outgoing = await self._outgoing(question, plan, acceptance, asked)
        asked.sent, asked.delivery.attempts = outgoing.data, 1
        try:
            answer = await self._end(question.destination).ask(outgoing, question.timeout)
        except (Temporary, Permanent) as error:
            what = f"{question.destination} gave no answer: {error.what}"
            raise BridgeError(what, fix=f"ask again; {error.fix}", kind="unavailable") from error
        asked.answer = answer.summary
        try:
            back = relayed(parse(answer.body), acceptance.parsed, parse(outgoing.data))
            if question.answer:
                back = (await self._rendered(plan, question.answer, parse(back), asked)).data
        except BridgeError as error:
            raise BridgeError(f"the answer of {question.destination} cannot be passed on: {error}") from error
        return back, read_ack(answer.body).code

    async def _outgoing(self, question: Question, plan: Plan, acceptance: Acceptance, asked: Asked) -> Outgoing:
        """The question as it leaves. Raises MappingError."""
        message, charset = acceptance.message, acceptance.message.header.charset
        if not question.mapping:
            return Outgoing(message.raw, asked.delivery, message.header.control_id, charset=charset)
        made = await self._rendered(plan, question.mapping, acceptance.parsed, asked)
        return Outgoing(made.data, asked.delivery, made.control_id, charset=charset)

    async def _rendered(self, plan: Plan, mapping: str, parsed: Hl7Message, asked: Asked) -> Rendered:
        try:
            rendered = await self._workers.render(plan, mapping, parsed, parsed.raw, parsed.charset, {})
        except MappingError as error:
            asked.unmapped += error.unmapped
            raise
        asked.unmapped += rendered.unmapped
        if rendered.format != "hl7v2":
            raise MappingError(f"the mapping {mapping} makes no HL7 message", fix="use one with `target: hl7v2`")
        return rendered


def _after_commit(positive: bytes, answer: bytes) -> bytes:
    """The destination's answer in place of the engine's own, after the commit answer if the asker wants one."""
    commits = [one for one in positive.split(b"\x1c") if one and read_ack(one).code == "CA"]
    return b"\x1c".join([*commits, answer])


def _report(asked: Asked, seconds: float) -> None:
    delivery, status = asked.delivery, asked.status.value
    metrics.DELIVERED.labels(delivery.destination, status).inc()
    facts = {"message": delivery.message, "destination": delivery.destination, "ms": round(seconds * 1000)}
    if delivery.error:
        log.warning(f"question_{status}", **facts, **delivery.error)
    else:
        log.info(f"question_{status}", **facts, answer=asked.answer)
