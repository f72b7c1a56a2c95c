"""``mllp-in``: takes each frame as a message and sends the engine's acknowledgement back, in the order of arrival."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_address

import structlog
from pydantic import ByteSize, Field, IPvAnyNetwork

from bridge.listening import listen_on
from bridge.peers import PeerBook
from bridge.ports import Address, Duration, HostPort, Receive, Services, SourceSettings
from channels.mllp_connection import Connection
from channels.tls import Certificates, TlsSettings

log = structlog.get_logger(__name__)

_GRACE = 10.0
"""Seconds that :meth:`MllpSource.stop` waits for answers under way."""


class MllpInSettings(SourceSettings):
    listen: Address
    """Where senders connect, such as 127.0.0.1:2575."""
    max_size: ByteSize = Field(default=ByteSize(32 * 1024 * 1024), gt=0)
    """Longer messages are answered AR, and their connection is closed."""
    max_connections: int = Field(default=256, ge=1)
    """Connections at a time; further ones are closed at once."""
    peer_connections: int = Field(default=64, ge=1)
    """Connections at a time from one address; further ones are closed at once."""
    allow: list[IPvAnyNetwork] = []
    """Who may connect: addresses and networks such as `10.1.2.3` or `10.1.0.0/16`; empty: anyone."""
    pipeline: int = Field(default=32, ge=1, le=1024)
    """Messages of one connection that may wait for their answer; 1 with `validate: strict` or `on_error: reject`."""
    idle_timeout: Duration = Field(default=3600.0, gt=0)
    """A connection without traffic for so long is closed."""
    frame_timeout: Duration = Field(default=60.0, gt=0)
    """A connection is closed whose sender began a message and then sent nothing, or does not read its answers, for so
    long."""
    keepalive: Duration = Field(default=60.0, ge=1)
    """A silent sender is asked after so long whether it is still there (TCP keep-alive)."""
    tls: TlsSettings | None = None
    """Encrypt: our certificate and key, and whose certificates senders must show."""


class MllpSource:
    """The listening end of an ``mllp-in`` channel."""

    def __init__(self, settings: MllpInSettings, services: Services) -> None:
        self.settings, self.name = settings, services.name
        self.peers = PeerBook()
        self.connections: set[Connection] = set()
        self._shaking: dict[Connection, float] = {}
        """Connections on which the TLS handshake began, and when."""
        self.depth = 1 if settings.one_by_one else settings.pipeline
        self._tls = Certificates(settings.tls, services.name, server=True) if settings.tls else None
        self._address = settings.listen
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def endpoint(self) -> str:
        return f"{'mllps' if self._tls else 'mllp'}://{self._address}"

    async def start(self, receive: Receive) -> None:
        """Raises BridgeError if the address cannot be had."""
        bound = listen_on(self.settings.listen)
        self._address = HostPort(self.settings.listen.host, bound.getsockname()[1])
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: self._began(Connection(self, receive, loop), loop.time()),
            sock=bound,
            ssl=self._tls.listening() if self._tls else None,
            ssl_handshake_timeout=self.settings.frame_timeout if self._tls else None,
            backlog=512,
        )
        self._sweep(loop)
        log.info("channel_listening", channel=self.name, endpoint=self.endpoint)

    async def stop(self) -> None:
        """Stops listening and reading, lets what is under way be answered (up to 10 seconds), and closes."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if self._sweeper:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.finish()
        over = [connection.over for connection in self.connections]
        if over:
            await asyncio.wait(over, timeout=_GRACE)
        for connection in list(self.connections):
            connection.abort()
        log.info("channel_stopped", channel=self.name, endpoint=self.endpoint)

    def admit(self, connection: Connection) -> str:
        """Let a connection in, its handshake done; or say why not."""
        self._shaking.pop(connection, None)
        why = self.refusal(connection.host)
        if not why:
            self.connections.add(connection)
        return why

    def refusal(self, host: str) -> str:
        """Why a new connection of this peer is not let in; empty if it is."""
        if not self._allowed(host):
            return "the address is not on the list of those that may connect"
        if len(self.connections) >= self.settings.max_connections:
            return f"{self.settings.max_connections} connections are open"
        mine = sum(connection.host == host for connection in self.connections)
        if mine >= self.settings.peer_connections:
            return f"{mine} connections of this address are open"
        return ""

    def _allowed(self, host: str) -> bool:
        if not self.settings.allow:
            return True
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.settings.allow)

    def _began(self, connection: Connection, now: float) -> Connection:
        if self._tls:
            self._shaking[connection] = now
        return connection

    def _give_up_handshakes(self, now: float) -> None:
        """Tell of handshakes that came to nothing; the event loop does not say whose they were, nor why."""
        failed = [one for one, began in self._shaking.items() if now - began > self.settings.frame_timeout]
        for connection in failed:
            del self._shaking[connection]
            self.peers.note_refused("unknown", "the TLS handshake failed: no trusted certificate, or no TLS at all")
        if failed:
            log.warning("tls_handshakes_failed", channel=self.name, connections=len(failed))

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._give_up_handshakes(now)
        for connection in list(self.connections):
            connection.check_idle(now)
        pause = min(self.settings.idle_timeout, self.settings.frame_timeout, 4.0) / 4
        self._sweeper = loop.call_later(pause, self._sweep, loop)
