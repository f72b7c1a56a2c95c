"""``mllp-out``: sends each message as a frame, and lets the receiver's acknowledgement decide what became of it."""

from __future__ import annotations

import asyncio
import socket
import ssl

import structlog
from pydantic import Field

from bridge.codecs.ack import Ack, read_ack
from bridge.codecs.mllp import Framer, wrap
from bridge.errors import BridgeError, CodecError, Permanent, Uncertain, Unreachable
from bridge.ports import Address, Answer, Duration, Outgoing, Services, SinkSettings
from channels.ack_policy import AckPolicy, judge
from channels.mllp_tls import TlsSettings

log = structlog.get_logger(__name__)

_IDLE = 0.1
"""Seconds without traffic after which a connection is looked at again before it is used."""
_MAX_ANSWER = 1024 * 1024


class MllpOutSettings(SinkSettings):
    connect: Address
    """The receiver, such as pacs.example:2575."""
    connect_timeout: Duration = Field(default=10.0, gt=0)
    """How long the receiver may take to accept a connection."""
    ack_timeout: Duration = Field(default=30.0, gt=0)
    """How long the receiver may take to acknowledge a message."""
    ack_policy: AckPolicy = {}
    """What answers mean, over the built-in table: `{AE: retry, AR/203: done}`; done, retry or dead."""
    tls: TlsSettings | None = None
    """Encrypt: whose certificate the receiver must show, and ours if it asks for one."""


class MllpSink:
    """The sending end of an ``mllp-out`` channel: a connection for each delivery under way, kept open in between."""

    def __init__(self, settings: MllpOutSettings, services: Services) -> None:
        self.settings, self.name = settings, services.name
        self._tls = settings.tls.context(services.name, server=False) if settings.tls else None
        self._links: set[_Link] = set()
        self._free: list[_Link] = []

    @property
    def endpoint(self) -> str:
        return f"{'mllps' if self._tls else 'mllp'}://{self.settings.connect}"

    async def send(self, outgoing: Outgoing) -> Answer:
        """Returns when the receiver has accepted the message. Raises Unreachable when it cannot have got all of it,
        Uncertain when it may have, Temporary or Permanent as :mod:`channels.ack_policy` reads a negative answer."""
        try:
            frame = wrap(outgoing.data)
        except CodecError as error:
            raise Permanent(error.what, at=error.at, fix=error.fix, kind=error.kind) from None
        link = await self._connected()
        try:
            ack, body = await link.ask(frame, outgoing.control_id.strip(), self.settings.ack_timeout)
        except BaseException:
            link.abort()
            raise
        self._free.append(link)
        judge(ack, self.settings.ack_policy)
        return Answer(ack.code, body)

    async def close(self) -> None:
        """Close every connection, at once."""
        links = list(self._links)
        for link in links:
            link.abort()
        if links:
            await asyncio.wait([link.over for link in links], timeout=1.0)

    async def _connected(self) -> _Link:
        while self._free:
            link = self._free.pop()
            if await link.usable():
                return link
            link.abort()
        return await self._connect()

    async def _connect(self) -> _Link:
        settings, loop = self.settings, asyncio.get_running_loop()
        host, port = settings.connect
        try:
            async with asyncio.timeout(settings.connect_timeout):
                _, link = await loop.create_connection(lambda: _Link(self.name, self._links), host, port, ssl=self._tls)
        except TimeoutError:
            raise Unreachable(
                f"no connection within {settings.connect_timeout:g} s",
                at=str(settings.connect),
                fix="check that the receiver runs and that no firewall stands between",
            ) from None
        except OSError as error:
            raise Unreachable(
                f"cannot connect: {_reason(error)}",
                at=str(settings.connect),
                fix="check that the receiver runs and listens there",
            ) from None
        log.info("connection_opened", channel=self.name, peer=str(settings.connect))
        return link


class _Link(asyncio.Protocol):
    """One connection to the receiver, with at most one message waiting for its answer."""

    def __init__(self, channel: str, links: set[_Link]) -> None:
        self._channel, self._links = channel, links
        self._framer = Framer(_MAX_ANSWER)
        self._loop = asyncio.get_running_loop()
        self._control_id = ""
        self._waiting: asyncio.Future[tuple[Ack, bytes]] | None = None
        self._unsent = False
        """Part of what was written is still with us."""
        self._gone = False
        self._active = 0.0
        self.over: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        bound = transport.get_extra_info("socket")
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._active = self._loop.time()
        self._links.add(self)

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

    def eof_received(self) -> None:
        self._gone = True

    def pause_writing(self) -> None:
        self._unsent = True

    def resume_writing(self) -> None:
        self._unsent = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._links.discard(self)
        self._framer.abandon()
        log.info("connection_closed", channel=self._channel, discarded=self._framer.discarded)
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(self._broken("the connection broke before the answer came"))
        if not self.over.done():
            self.over.set_result(None)

    async def usable(self) -> bool:
        """Whether the peer has not closed, as far as can be known; after a pause the loop looks at the socket first."""
        if self._loop.time() - self._active > _IDLE:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return not self._gone and not self._transport.is_closing()

    async def ask(self, frame: bytes, control_id: str, timeout: float) -> tuple[Ack, bytes]:
        """Write a frame and wait for the answer to ``control_id``. Raises Unreachable or Uncertain."""
        self._control_id = control_id
        self._waiting = self._loop.create_future()
        timer = self._loop.call_later(timeout, self._time_out, timeout)
        self._transport.write(frame)
        try:
            return await self._waiting
        finally:
            timer.cancel()
            self._waiting = None
            self._active = self._loop.time()

    def abort(self) -> None:
        self._gone = True
        self._transport.abort()

    def _take(self, frame: bytes) -> None:
        try:
            ack = read_ack(frame)
        except CodecError as error:
            log.warning("answer_ignored", channel=self._channel, reason=error.what)
            return
        if self._waiting is None or self._waiting.done():
            log.warning("answer_ignored", channel=self._channel, reason="no message waits for an answer")
        elif self._control_id and ack.control_id != self._control_id:
            log.warning("answer_ignored", channel=self._channel, reason="it answers another message")
        else:
            self._waiting.set_result((ack, frame))

    def _time_out(self, timeout: float) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(self._broken(f"no answer within {timeout:g} s"))

    def _broken(self, what: str) -> BridgeError:
        if self._unsent:
            return Unreachable(f"{what}, and the message was not sent completely", fix="see why the receiver is slow")
        return Uncertain(what, fix="see whether the receiver has it: it is sent again with the same control id")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message}"
    return error.strerror or type(error).__name__
