"""Receiving: bytes in, a committed message and an answer out.

This alone decides that an answer may be positive (law 1).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from bridge.codecs.adt import IdentityEvent, identity_event
from bridge.codecs.formats import FORMATS
from bridge.engine import metrics, references
from bridge.engine.plan import Plan
from bridge.engine.relay import Relay
from bridge.engine.turns import Turns
from bridge.engine.validation import validated
from bridge.engine.workers import Workers
from bridge.errors import BridgeError, MappingError, Parked, Refused
from bridge.message import Delivery, Header, Message, MessageStatus, new_id
from bridge.ports import Inbound, Reply, SourceSettings
from bridge.store.accept import Acceptance
from bridge.store.retention import day_of
from bridge.store.store import Store

log = structlog.get_logger(__name__)


class Receiver:
    """What a source hands its messages to. Never raises for bad content; a refusal is a stored row and a Reply too."""

    def __init__(
        self,
        channel: str,
        store: Store,
        plan: Callable[[], Plan],
        workers: Workers,
        turns: Turns,
        relay: Relay,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._channel, self._store, self._plan, self._workers, self._clock = channel, store, plan, workers, clock
        self._turns, self._relay = turns, relay
        self._received = {name: metrics.RECEIVED.labels(channel, name) for name in _OUTCOMES}
        self._seconds = metrics.ANSWER_SECONDS.labels(channel)

    async def __call__(self, inbound: Inbound) -> Reply:
        started = time.perf_counter()
        await self._turns.mine()
        plan = self._plan()
        settings = plan.source(self._channel)
        reply = await self._receive(inbound, plan, settings)
        self._received[_outcome(reply)].inc()
        self._seconds.observe(time.perf_counter() - started)
        return reply

    async def _receive(self, inbound: Inbound, plan: Plan, settings: SourceSettings) -> Reply:
        now = self._clock()
        identifier = new_id(now)
        parsed: Any = None
        try:
            parsed = FORMATS[settings.format].read(inbound.data, settings.charset)
            header = await self._check(parsed, inbound.data, plan, settings)
            message = self._message(identifier, now, inbound, settings, header)
            event = identity_event(parsed) if settings.identity else None
            deliveries = plan.deliveries(message, parsed)
            if settings.on_error == "reject":
                await self._try_render(plan, deliveries, parsed, message)
            if question := plan.question(message, parsed):
                speak = partial(self._answer, plan, settings, parsed, message)
                acceptance = Acceptance(message, deliveries, event=event, parsed=parsed)
                return await self._relay(question, plan, acceptance, speak)
            own = (plan.own(message), inbound.apply) if inbound.apply else None
            if not deliveries and not own:
                return await self._unrouted(message, parsed, plan, settings, event)
            deliveries += plan.acknowledgement(message, parsed)
            answer = self._answer(plan, settings, parsed, message)
            receipt = bool(message.header.control_id)
            acceptance = Acceptance(message, deliveries, answer, receipt, event=event, parsed=parsed, own=own)
            return await self._store_it(acceptance, parsed, plan, settings)
        except BridgeError as error:
            header = parsed.header if parsed is not None else Header(type="")
            message = self._message(identifier, now, inbound, settings, header, error)
            return await self._refuse(message, parsed, plan, settings, error)

    async def _check(self, parsed: Any, raw: bytes, plan: Plan, settings: SourceSettings) -> Header:
        """The header, with what validation only warns of. Raises for what is refused before any route is asked."""
        header: Header = parsed.header
        if header.test and settings.test_messages == "refuse":
            raise Refused(
                "a test message (MSH-11 is T or D) on a production channel",
                at="MSH-11",
                fix="send MSH-11 = P, or set `test_messages: accept` on this channel",
                kind="processing_id",
            )
        FORMATS[settings.format].check(parsed)
        header = await validated(parsed, raw, plan, settings, self._workers)
        known = await references.asked(self._store.fhir, parsed, back=False)
        return references.settled(header, parsed, known, plan.context["site"])

    async def _try_render(self, plan: Plan, deliveries: list[Delivery], parsed: Any, message: Message) -> None:
        """Raises what would go wrong later, but for what only a person of ours can mend."""
        context = references.context(parsed, await references.asked(self._store.fhir, parsed), message.id)
        for delivery in deliveries:
            if delivery.mapping:
                with suppress(Parked):
                    charset = message.header.charset
                    await self._workers.render(plan, delivery.mapping, parsed, message.raw, charset, context)

    async def _unrouted(
        self, message: Message, parsed: Any, plan: Plan, settings: SourceSettings, event: IdentityEvent | None
    ) -> Reply:
        if settings.unrouted == "reject":
            raise Refused(f"no route wants {message.header.type}", at="MSH-9", fix="add it to the `when:` of a route")
        message = replace(message, status=MessageStatus.UNROUTED)
        answer, owed = self._answer(plan, settings, parsed, message), plan.acknowledgement(message, parsed)
        acceptance = Acceptance(message, owed, answer, receipt=False, event=event)
        return await self._store_it(acceptance, parsed, plan, settings)

    async def _refuse(
        self, message: Message, parsed: Any, plan: Plan, settings: SourceSettings, error: BridgeError
    ) -> Reply:
        log.warning("message_refused", channel=self._channel, message=message.id, peer=message.peer, **error.as_dict())
        answer = self._answer(plan, settings, parsed, message, error)
        unmapped = error.unmapped if isinstance(error, MappingError) else ()
        acceptance = Acceptance(message, [], answer, receipt=False, unmapped=unmapped)
        return await self._store_it(acceptance, parsed, plan, settings, error)

    async def _store_it(
        self,
        acceptance: Acceptance,
        parsed: Any,
        plan: Plan,
        settings: SourceSettings,
        error: BridgeError | None = None,
    ) -> Reply:
        """The answer goes out only after the commit; without one it says that nothing was stored."""
        try:
            accepted = await self._store.accept(acceptance)
        except Refused:
            raise
        except Exception as failed:  # noqa: BLE001 - whatever the store raised, nothing was stored: the sender must know
            trouble = failed if isinstance(failed, BridgeError) else BridgeError("the message could not be stored")
            log.error("message_not_stored", channel=self._channel, peer=acceptance.message.peer, what=trouble.what)
            return Reply(False, "", self._answer(plan, settings, parsed, acceptance.message, trouble), trouble)
        return Reply(error is None, accepted.message, accepted.answer, error, accepted.duplicate)

    def _answer(
        self, plan: Plan, settings: SourceSettings, parsed: Any, message: Message, error: BridgeError | None = None
    ) -> bytes:
        now = datetime.fromtimestamp(message.received_at / 1000, ZoneInfo(plan.config.site.timezone))
        own, later, orders = message.id[-20:], settings.application_ack != "same", settings.order_answers == "order"
        speak = FORMATS[settings.format].answer
        return speak(parsed, message.raw, control_id=own, now=now, error=error, deferred=later, orders=orders)

    def _message(
        self,
        identifier: str,
        now: float,
        inbound: Inbound,
        settings: SourceSettings,
        header: Header,
        error: BridgeError | None = None,
    ) -> Message:
        return Message(
            id=identifier,
            day=day_of(int(now * 1000)),
            received_at=int(now * 1000),
            channel=self._channel,
            format=settings.format,
            peer=inbound.peer,
            header=replace(header, warnings=header.warnings + inbound.warnings) if inbound.warnings else header,
            raw=inbound.data,
            status=MessageStatus.REFUSED if error else MessageStatus.ROUTED,
            error=error.as_dict() if error else None,
        )


_OUTCOMES = ("accepted", "duplicate", "refused", "not_stored")


def _outcome(reply: Reply) -> str:
    if not reply.message:
        return "not_stored"
    if reply.duplicate:
        return "duplicate"
    return "accepted" if reply.ok else "refused"
