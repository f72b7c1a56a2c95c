"""``mllp-out``: sends each message as a frame, and lets the receiver's acknowledgement decide what became of it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Literal

import structlog
from pydantic import Field

from bridge.codecs.ack import asks_for_nothing
from bridge.codecs.mllp import wrap
from bridge.errors import CodecError, Permanent, Unreachable
from bridge.ports import Address, Answer, Duration, Outgoing, PeerBook, Services, SinkSettings
from channels.ack_policy import AckPolicy, judge
from channels.mllp_link import Link
from channels.mllp_tls import Certificates, TlsSettings

log = structlog.get_logger(__name__)


class MllpOutSettings(SinkSettings):
    connect: Address
    """The receiver, such as pacs.example:2575."""
    connect_timeout: Duration = Field(default=10.0, gt=0)
    """How long the receiver may take to accept a connection."""
    connection: Literal["persistent", "per_message"] = "persistent"
    """``per_message``: each message has a connection of its own, for receivers that want it so."""
    pipeline: int = Field(default=1, ge=1, le=64)
    """Messages of different lane keys (see `parallel`) that may wait for their answers on one connection, where the
    receiver allows it."""
    ack_timeout: Duration = Field(default=30.0, gt=0)
    """How long the receiver may take to acknowledge a message."""
    wait_for: Literal["accept", "application"] = "accept"
    """``application``: a commit answer (CA) is not enough, the application's (AA, AE, AR) is waited for, for as long
    again."""
    ack_policy: AckPolicy = {}
    """What answers mean, over the built-in table: `{AE: retry, AR/203: done}`; done, retry, park or dead."""
    keepalive: Duration = Field(default=60.0, ge=1)
    """A silent receiver is asked after so long whether it is still there (TCP keep-alive)."""
    tls: TlsSettings | None = None
    """Encrypt: whose certificate the receiver must show, and ours if it asks for one."""


class MllpSink:
    """The sending end of an ``mllp-out`` channel: as many connections as deliveries are under way, kept in between."""

    def __init__(self, settings: MllpOutSettings, services: Services) -> None:
        self.settings, self.name = settings, services.name
        self._tls = Certificates(settings.tls, services.name, server=False) if settings.tls else None
        self.links: dict[Link, None] = {}
        """Those that are open, the oldest first."""
        self.peers = PeerBook()

    @property
    def endpoint(self) -> str:
        return f"{'mllps' if self._tls else 'mllp'}://{self.settings.connect}"

    async def send(self, outgoing: Outgoing) -> Answer:
        """Returns when the receiver has accepted the message, or has all of it where it was told not to answer.

        Raises Unreachable when it cannot have got all of it, Uncertain when it may have, Held when it took it and its
        application was waited for in vain; Temporary, Permanent or Held as :mod:`channels.ack_policy` reads a negative
        answer.
        """
        try:
            frame = wrap(outgoing.data)
        except CodecError as error:
            raise Permanent(error.what, at=error.at, fix=error.fix, kind=error.kind) from None
        control_id = outgoing.control_id.strip()
        silent = outgoing.format == "hl7v2" and asks_for_nothing(outgoing.data)
        link = await self._take(control_id)
        try:
            if silent:
                await link.hand_over(control_id, frame, self.settings.ack_timeout)
                return Answer("sent")
            application = self.settings.wait_for == "application"
            ack, body = await link.ask(control_id, frame, self.settings.ack_timeout, application=application)
        except BaseException:
            link.abort()
            raise
        finally:
            if self.settings.connection == "per_message":
                link.close()
        judge(ack, self.settings.ack_policy)
        return Answer(ack.code, body)

    async def close(self) -> None:
        """Close every connection, at once."""
        links = list(self.links)
        for link in links:
            link.abort()
        if links:
            await asyncio.wait([link.over for link in links], timeout=1.0)

    async def _take(self, control_id: str) -> Link:
        """A connection with room for one more message, reserved for ``control_id``."""
        for link in list(self.links):
            if link.reserve(control_id, self.settings.pipeline):
                if await link.usable():
                    return link
                link.abort()
        return await self._connect(control_id)

    async def _connect(self, control_id: str) -> Link:
        settings, loop = self.settings, asyncio.get_running_loop()
        host, port = settings.connect
        context = self._tls.current() if self._tls else None
        try:
            async with asyncio.timeout(settings.connect_timeout):
                _, link = await loop.create_connection(lambda: Link(self, control_id), host, port, ssl=context)
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


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message}"
    return error.strerror or type(error).__name__
