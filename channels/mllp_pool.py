"""Connections of an ``mllp-out`` channel that serve one purpose: as many as messages are under way, kept in between."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import structlog

from bridge.codecs.ack import Ack
from bridge.errors import Unreachable
from channels.mllp_link import Link

if TYPE_CHECKING:
    from bridge.peers import PeerBook
    from channels.mllp_client import MllpOutSettings
    from channels.tls import Certificates

log = structlog.get_logger(__name__)


class Pool:
    """``depth`` messages may wait for their answers on one connection."""

    def __init__(
        self, settings: MllpOutSettings, name: str, depth: int, peers: PeerBook, tls: Certificates | None
    ) -> None:
        self.settings, self.name, self.peers = settings, name, peers
        self.links: dict[Link, None] = {}
        """Those that are open, the oldest first."""
        self._depth, self._tls = depth, tls

    async def ask(self, control_id: str, frame: bytes, timeout: float, *, application: bool) -> tuple[Ack, bytes]:
        """Send a frame and wait for its answer; see :meth:`Link.ask`. A connection that brought none is closed."""
        link = await self._take(control_id)
        try:
            return await link.ask(control_id, frame, timeout, application=application)
        except BaseException:
            link.abort()
            raise
        finally:
            self._end(link)

    async def hand_over(self, control_id: str, frame: bytes, timeout: float) -> None:
        """Send a frame that will not be answered; see :meth:`Link.hand_over`."""
        link = await self._take(control_id)
        try:
            await link.hand_over(control_id, frame, timeout)
        except BaseException:
            link.abort()
            raise
        finally:
            self._end(link)

    async def close(self) -> None:
        """Close every connection, at once."""
        links = list(self.links)
        for link in links:
            link.abort()
        if links:
            await asyncio.wait([link.over for link in links], timeout=1.0)

    def _end(self, link: Link) -> None:
        if self.settings.connection == "per_message":
            link.close()

    async def _take(self, control_id: str) -> Link:
        """A connection with room for one more message, reserved for ``control_id``."""
        for link in list(self.links):
            if link.reserve(control_id, self._depth):
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
