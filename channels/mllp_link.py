"""One connection of an ``mllp-out`` channel: frames out, answers matched to them by MSA-2."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from bridge.codecs.ack import Ack, read_ack
from bridge.codecs.mllp import Framer
from bridge.errors import BridgeError, CodecError, Held, Uncertain, Unreachable
from channels.tcp import tune

if TYPE_CHECKING:
    from channels.mllp_pool import Pool

log = structlog.get_logger(__name__)

_IDLE = 0.1
"""Seconds without traffic after which a connection is looked at again before it is used."""
_MAX_ANSWER = 16 * 1024 * 1024


@dataclass(slots=True)
class _Question:
    """A message that waits for its answer. ``future`` is None from when its place is taken until it is written."""

    future: asyncio.Future[tuple[Ack, bytes]] | None = None
    application: bool = False
    """A commit answer is not enough."""
    committed: bool = False
    """The receiver gave its commit answer."""
    timeout: float = 0.0
    timer: asyncio.TimerHandle | None = None


class Link(asyncio.Protocol):
    """A connection to the receiver, made for the message ``control_id``; among the pool's links while it is open."""

    def __init__(self, pool: Pool, control_id: str) -> None:
        self._pool, self._channel = pool, pool.name
        self._framer = Framer(_MAX_ANSWER)
        self._loop = asyncio.get_running_loop()
        self._questions = {control_id: _Question()}
        """By control id; a message without one has a connection to itself."""
        self._latest: _Question | None = None
        self._sent = asyncio.Event()
        """All that was written has left us."""
        self._sent.set()
        self._gone = False
        self._active = 0.0
        self._noted = 0
        """Discarded bytes that the channel's book knows of."""
        self.over: asyncio.Future[None] = self._loop.create_future()

    # what the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        tune(transport.get_extra_info("socket"), self._pool.settings.keepalive)
        self._active = self._loop.time()
        self._pool.links[self] = None

    def data_received(self, data: bytes) -> None:
        for frame in self._framer.feed(data):
            if isinstance(frame, bytes):
                self._take(frame)
            else:
                log.warning("answer_too_long", channel=self._channel, limit=frame.limit)
        if self._framer.ends_open:
            frame_at_end = self._framer.settle()
            if frame_at_end is not None:
                self._take(frame_at_end)
        self._note_discarded()

    def eof_received(self) -> None:
        self._gone = True

    def pause_writing(self) -> None:
        self._sent.clear()

    def resume_writing(self) -> None:
        self._sent.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._pool.links.pop(self, None)
        self._framer.abandon()
        self._note_discarded()
        log.info("connection_closed", channel=self._channel, discarded=self._noted)
        for question in self._questions.values():
            self._fail(question, "the connection broke before the answer came")
        if not self.over.done():
            self.over.set_result(None)

    # what the channel does with it

    def reserve(self, control_id: str, depth: int) -> bool:
        """Take one of the ``depth`` places for a message, if one is free and its answer could not be mistaken."""
        waiting = self._questions
        full = len(waiting) >= depth or not self._sent.is_set()
        if self._gone or full or control_id in waiting or (waiting and ("" in waiting or not control_id)):
            return False
        waiting[control_id] = _Question()
        return True

    async def usable(self) -> bool:
        """Whether the peer has not closed, as far as can be known; after a pause the loop looks at the socket first."""
        if self._loop.time() - self._active > _IDLE:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return not self._gone and not self._transport.is_closing()

    async def ask(self, control_id: str, frame: bytes, timeout: float, *, application: bool) -> tuple[Ack, bytes]:
        """Write a frame in its reserved place, and wait for its answer. Raises Unreachable, Uncertain or Held."""
        future: asyncio.Future[tuple[Ack, bytes]] = self._loop.create_future()
        question = _Question(future, application, timeout=timeout)
        self._questions[control_id] = self._latest = question
        self._start_timer(question)
        self._transport.write(frame)
        try:
            return await future
        finally:
            if question.timer:
                question.timer.cancel()
            self._questions.pop(control_id, None)
            self._active = self._loop.time()

    async def hand_over(self, control_id: str, frame: bytes, timeout: float) -> None:
        """Write a frame that will not be answered, and wait until all of it has left. Raises Unreachable."""
        self._transport.write(frame)
        try:
            async with asyncio.timeout(timeout):
                await self._sent.wait()
        except TimeoutError:
            self._gone = True
        finally:
            self._questions.pop(control_id, None)
            self._active = self._loop.time()
        if self._gone or self._transport.is_closing():
            raise Unreachable("the message was not sent completely", fix="see why the receiver is slow, or closes")

    def close(self) -> None:
        """Take no further message, and close once what was written has left."""
        self._gone = True
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._gone = True
        self._transport.abort()

    # answers

    def _take(self, frame: bytes) -> None:
        try:
            ack = read_ack(frame)
        except CodecError as error:
            log.warning("answer_ignored", channel=self._channel, reason=error.what)
            return
        question = self._questions.get(ack.control_id) or self._questions.get("")
        if question is None or question.future is None or question.future.done():
            reason = "no message waits for it" if not self._questions else "it answers another message"
            log.warning("answer_ignored", channel=self._channel, code=ack.code[:2], reason=reason)
        elif question.application and ack.code == "CA":
            question.committed = True
            self._start_timer(question)
        else:
            question.future.set_result((ack, frame))

    def _note_discarded(self) -> None:
        framer, pool = self._framer, self._pool
        if framer.discarded != self._noted:
            pool.peers.note_discarded(pool.settings.connect.host, framer.discarded - self._noted, framer.sample)
            self._noted = framer.discarded

    def _start_timer(self, question: _Question) -> None:
        if question.timer:
            question.timer.cancel()
        what = f"no answer within {question.timeout:g} s"
        question.timer = self._loop.call_later(question.timeout, self._fail, question, what)

    def _fail(self, question: _Question, what: str) -> None:
        if question.future and not question.future.done():
            question.future.set_exception(self._broken(question, what))

    def _broken(self, question: _Question, what: str) -> BridgeError:
        if question.committed:
            fix = "ask the receiver what became of it: skip the delivery, or replay it"
            return Held(f"the receiver took it (CA), then: {what}", fix=fix, kind="unavailable")
        if question is self._latest and not self._sent.is_set():
            return Unreachable(f"{what}, and the message was not sent completely", fix="see why the receiver is slow")
        return Uncertain(what, fix="see whether the receiver has it: it is sent again with the same control id")
