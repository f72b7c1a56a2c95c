"""Batches on the way in: every message of one is received as a message of its own, in sequence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from bridge.codecs.batch import answer, is_batch, split
from bridge.message import new_id
from bridge.ports import Inbound, Receive, Reply

log = structlog.get_logger(__name__)

_AT_ONCE = 64
"""Messages of a batch that share a commit."""


class Batches:
    """Stands before ``receive``: a message passes, a batch is cut. One bad message does not sink the others.

    The reply to a batch is positive when every message was taken; its error is the first one's, of those that could
    not be stored before the others, so that its sender comes again. A batch without messages has a row of its own.
    ``one_by_one``: each waits for the one before.
    """

    def __init__(self, receive: Receive, *, one_by_one: bool, clock: Callable[[], float] = time.time) -> None:
        self._receive, self._clock = receive, clock
        self._at_once = 1 if one_by_one else _AT_ONCE

    def __call__(self, inbound: Inbound) -> Awaitable[Reply]:
        return self._each(inbound) if is_batch(inbound.data) else self._receive(inbound)

    async def _each(self, inbound: Inbound) -> Reply:
        cut = split(inbound.data)
        messages, replies = cut.messages, list[Reply]()
        empty = None if messages else await self._receive(inbound)
        if empty and not empty.message:
            return empty
        for start in range(0, len(messages), self._at_once):
            some = messages[start : start + self._at_once]
            replies += await asyncio.gather(*(self._receive(Inbound(data, inbound.peer)) for data in some))
        log.info("batch_received", peer=inbound.peer, messages=len(messages), remarks=cut.remarks)
        answers = [reply.answers for reply in replies]
        now, body = self._clock(), b""
        if any(answers) or not messages:
            zoned = datetime.fromtimestamp(now).astimezone()
            body = answer(cut, answers, control_id=new_id(now)[-16:], now=zoned)
        errors = sorted((reply for reply in replies if reply.error), key=lambda reply: bool(reply.message))
        first = (empty or replies[0]).message
        duplicate = bool(replies) and all(reply.duplicate for reply in replies)
        return Reply(not errors, first, body, errors[0].error if errors else None, duplicate)
