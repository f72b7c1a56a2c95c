"""One sender's connection to an ``mllp-in`` channel: frames in, answers out in the order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from bridge.codecs.ack import acknowledge
from bridge.codecs.batch import is_batch
from bridge.codecs.mllp import Framer, TooLong, wrap
from bridge.errors import BridgeError
from bridge.message import new_id
from bridge.ports import HostPort, Inbound, Receive, Reply
from channels.tcp import tune

if TYPE_CHECKING:
    from channels.mllp_server import MllpSource

log = structlog.get_logger(__name__)

_SETTLE = 0.25
"""Seconds after which a frame that ends in FS counts as complete, though CR did not come."""
_LINGER = 1.0
"""Seconds that the peer has to close after us. It is read until then, or its system would drop our last answers."""
_APART = 0.05
"""Seconds between the commit answer and the application's: some senders take what they read at once for one message."""


class Connection(asyncio.Protocol):
    """One sender. Frames wait in ``_backlog``; ``_owed`` holds what is under way or to be sent, in order of arrival."""

    def __init__(self, source: MllpSource, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        self._source, self._receive, self._loop = source, receive, loop
        self._framer = Framer(source.settings.max_size)
        self._backlog: deque[bytes | TooLong] = deque()
        self._owed: deque[tuple[asyncio.Future[Reply] | None, bytes]] = deque()
        """A message under way with its frame, or None and the answer itself."""
        self._later = 0
        """Application answers that are yet to be sent."""
        self._paused = False
        self._clogged = False
        """The peer does not read our answers."""
        self._ending = False
        """No further message is taken, what still comes is thrown away; we close once what is owed is sent."""
        self._closing = False
        self._ended = False
        """The peer sends no more."""
        self._alone = False
        """A batch is under way: what follows waits, or it would overtake the batch's last messages."""
        self._lost = False
        self._messages = self._noted = 0
        self._active = loop.time()
        self.over: asyncio.Future[None] = loop.create_future()

    # what the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport, source = transport, self._source
        host, port = (transport.get_extra_info("peername") or ("unknown", 0))[:2]
        self.host, self._peer = str(host), str(HostPort(host, port))
        why = source.admit(self)
        if why:
            source.peers.note_refused(self.host, why)
            log.warning("connection_refused", channel=source.name, peer=self._peer, why=why)
            transport.abort()
            return
        tune(transport.get_extra_info("socket"), source.settings.keepalive)
        log.info("connection_opened", channel=source.name, peer=self._peer)

    def data_received(self, data: bytes) -> None:
        self._active = self._loop.time()
        framer = self._framer
        if self._ending:
            framer.skip(data)
            return
        for frame in framer.feed(data):
            self._backlog.append(frame)
            if isinstance(frame, TooLong):
                self._ending = True
                break
        if framer.discarded != self._noted:
            self._note_discarded()
        if framer.ends_open:
            self._loop.call_later(_SETTLE, self._settle, framer.received)
        self._begin()

    def eof_received(self) -> bool:
        self._ended = True
        if not self._ending:
            self._take_open_end()
        self.finish()
        return not self._closing and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._clogged = True
        self._regulate()

    def resume_writing(self) -> None:
        self._clogged = False
        self._active = self._loop.time()
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if self not in self._source.connections:
            return
        self._lost = self._ending = True
        unread = len(self._backlog)
        self._backlog.clear()
        framer = self._framer
        framer.abandon()
        if framer.discarded != self._noted:
            self._note_discarded()
        log.info(
            "connection_closed",
            channel=self._source.name,
            peer=self._peer,
            messages=self._messages,
            unanswered=len(self._owed) + unread,
            bytes=framer.received,
            discarded=framer.discarded,
        )
        self._close_when_done()

    # messages

    def _begin(self) -> None:
        """Hand over as many frames as the pipeline takes."""
        depth = self._source.depth
        while self._backlog and len(self._owed) < (1 if self._alone else depth) and not self._clogged:
            frame = self._backlog.popleft()
            if isinstance(frame, TooLong):
                self._owed.append((None, self._too_long(frame)))
                self._loop.call_soon(self._answer)
            else:
                self._alone = is_batch(frame)
                task = asyncio.ensure_future(self._receive(Inbound(frame, self._peer)), loop=self._loop)
                self._owed.append((task, frame))
                self._messages += 1
                task.add_done_callback(self._answer)
        self._regulate()

    def _answer(self, _: asyncio.Future[Reply] | None = None) -> None:
        """Send every answer whose turn it is, then take up what waits."""
        owed, ready = self._owed, []
        while owed and ((task := owed[0][0]) is None or task.done()):
            data = owed.popleft()[1]
            answers = [data] if task is None else self._answers(task, data)
            ready += [wrap(answer) for answer in answers[:1]]
            for answer in answers[1:]:
                self._later += 1
                self._loop.call_later(_APART, self._answer_later, wrap(answer))
        if ready:
            self._write(ready[0] if len(ready) == 1 else b"".join(ready))
        if self._backlog:
            self._begin()
        elif self._ending:
            self._close_when_done()
        elif self._paused:
            self._regulate()

    def _answer_later(self, frame: bytes) -> None:
        self._later -= 1
        self._write(frame)
        if self._ending:
            self._close_when_done()

    def _write(self, data: bytes) -> None:
        if not self._lost:
            self._active = self._loop.time()
            self._transport.write(data)

    def _answers(self, task: asyncio.Future[Reply], frame: bytes) -> list[bytes]:
        """The engine's answers, none if the sender wants none; our own where the engine has no language for them, or
        failed."""
        if not task.cancelled() and task.exception() is None:
            reply = task.result()
            if reply.body or self._source.settings.format == "hl7v2":
                return reply.answers
            error = None if reply.ok else reply.error or BridgeError("the message was not taken")
            return [_own_answer(frame, error)]
        failure = None if task.cancelled() else task.exception()
        log.error("receiving_failed", channel=self._source.name, peer=self._peer, exc_info=failure)
        error = BridgeError("the message was not taken", fix="send it again", kind="unavailable")
        return [_own_answer(frame, error)]

    def _too_long(self, frame: TooLong) -> bytes:
        log.warning("message_too_long", channel=self._source.name, peer=self._peer, limit=frame.limit)
        what = f"the message is longer than {frame.limit} bytes"
        fix = "send it in parts, or have `max_size` of the channel raised"
        return _own_answer(frame.head, BridgeError(what, fix=fix, kind="overload"))

    # the connection

    def finish(self) -> None:
        """Take no further message; close when every one that came is answered."""
        self._ending = True
        self._regulate()
        self._close_when_done()

    def abort(self) -> None:
        """Close at once; messages under way end unanswered."""
        self._transport.abort()

    def check_idle(self, now: float) -> None:
        """Close a connection on which nothing happened for too long, at once if its peer does not read."""
        settings, idle = self._source.settings, now - self._active
        if (self._clogged or self._closing) and idle >= settings.frame_timeout:
            log.warning("peer_not_reading", channel=self._source.name, peer=self._peer, seconds=round(idle))
            self.abort()
            return
        begun = self._framer.buffered > 0
        if self._ending or self._owed or idle < (settings.frame_timeout if begun else settings.idle_timeout):
            return
        log.info("connection_idle", channel=self._source.name, peer=self._peer, seconds=round(idle), in_frame=begun)
        self.finish()

    def _close_when_done(self) -> None:
        if self._owed or self._backlog or self._later or self.over.done():
            return
        if self._lost:
            self._source.connections.discard(self)
            self.over.set_result(None)
        elif self._closing:
            return
        elif self._ended or not self._transport.can_write_eof():
            self._closing = True
            self._transport.close()
        else:
            self._closing = True
            self._transport.write_eof()
            self._loop.call_later(_LINGER, self._transport.abort)

    def _regulate(self) -> None:
        """Read only while there is room: for messages in the pipeline, for answers on their way."""
        full = self._clogged or bool(self._backlog) or len(self._owed) >= self._source.depth
        pause = full and not self._ending
        if pause != self._paused and not self._transport.is_closing():
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _settle(self, received: int) -> None:
        if self._framer.received == received and not self._ending:
            self._take_open_end()

    def _take_open_end(self) -> None:
        frame = self._framer.settle()
        if frame is not None:
            self._backlog.append(frame)
            self._begin()

    def _note_discarded(self) -> None:
        framer = self._framer
        if not self._noted:
            log.warning("bytes_discarded", channel=self._source.name, peer=self._peer, bytes=framer.discarded)
        self._source.peers.note_discarded(self.host, framer.discarded - self._noted, framer.sample)
        self._noted = framer.discarded


def _own_answer(frame: bytes, error: BridgeError | None) -> bytes:
    code = error.face.ack if error else "AA"
    now = datetime.now().astimezone()
    return acknowledge(None, frame, code=code, control_id=new_id()[-20:], now=now, error=error)
