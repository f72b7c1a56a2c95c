"""Who may associate with a DICOM end of ours, and the listening itself (PS3.8; TLS as PS3.15 annex B.9 to B.11).

Associations are served by pynetdicom in its own threads. A caller that is not let in gets an A-ASSOCIATE-RJ with the
reason of PS3.8 table 9-21 that comes nearest; the log has it in words.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.transport import ThreadedAssociationServer

from bridge.errors import BridgeError
from bridge.ports import Address, Duration, HostPort
from channels.tls import Certificates, TlsSettings

log = structlog.get_logger(__name__)

AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[!-\[\]-~]([ -\[\]-~]*[!-\[\]-~])?$")]
"""An application entity title (PS3.5, VR AE)."""

_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_LARGEST_PDU = 1 << 20
_BACKLOG = 64
_GRACE = 1.0
"""Seconds that an aborted association has to end."""
_POLL = 0.1
"""Seconds after which the listening thread looks whether it is to end."""
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)

_PERMANENT, _TRANSIENT = 1, 2
_USER, _PRESENTATION = 1, 3
CALLED_UNKNOWN = (_PERMANENT, _USER, 7)
CALLER_UNKNOWN = (_PERMANENT, _USER, 3)
NOT_ALLOWED = (_PERMANENT, _USER, 1)
LIMIT_REACHED = (_TRANSIENT, _PRESENTATION, 2)
"""Result, source, reason (PS3.8 table 9-21)."""

Refusal = tuple[tuple[int, int, int], str]
"""What the caller is told, and what people are."""
Handlers = Sequence[tuple[Any, Callable[[Any], Any]]]


class AssociationSettings(BaseModel):
    """Settings of every DICOM end that listens."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    listen: Address = HostPort("127.0.0.1", 11112)
    """Where modalities connect."""
    ae_title: AETitle = "RADBRIDGE"
    """Our own application entity title."""
    require_called_ae: bool = False
    """Refuse modalities that call us by another title."""
    known_callers_only: bool = False
    """Refuse modalities whose AE title is neither a system's nor named here."""
    allow: list[IPvAnyNetwork] = []
    """Who may connect: addresses and networks such as `10.1.2.3` or `10.1.0.0/16`; empty: anyone."""
    max_associations: int = Field(default=32, ge=1, le=1000)
    """Associations at a time; further ones are rejected."""
    peer_associations: int = Field(default=16, ge=1, le=1000)
    """Associations at a time from one address; further ones are rejected."""
    request_timeout: Duration = Field(default=30.0, gt=0)
    """How long a new connection may take to ask for its association, TLS handshake included."""
    idle_timeout: Duration = Field(default=60.0, gt=0)
    """How long an association may be silent."""
    tls: TlsSettings | None = None
    """Encrypt: our certificate and key, and whose certificates modalities must show."""


class Listener:
    """One application entity that listens.

    ``handlers`` are pynetdicom events and what to call; ``callers`` are the known ones, each with the networks that it
    may call from (empty: any). ``notified``: services whose provider calls us to notify. Titles for which
    ``turned_away`` holds are rejected.
    """

    def __init__(
        self,
        settings: AssociationSettings,
        channel: str,
        *,
        services: Iterable[str],
        handlers: Handlers,
        callers: Mapping[str, Sequence[Any]],
        notified: Iterable[str] = (),
        turned_away: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._settings, self._channel, self._callers = settings, channel, callers
        self._turned_away = turned_away
        self._services, self._notified, self._handlers = tuple(services), tuple(notified), handlers
        self._certificates = Certificates(settings.tls, channel, server=True) if settings.tls else None
        self._address = settings.listen
        self._open: dict[Any, str] = {}
        self._lock = threading.Lock()
        self._ae: Any = None
        self._server: Any = None

    @property
    def endpoint(self) -> str:
        scheme = "dicoms" if self._certificates else "dicom"
        return f"{scheme}://{self._settings.ae_title}@{self._address}"

    def start(self) -> None:
        """Listen. Raises BridgeError (kind ``settings``) when the address cannot be had."""
        quiet_pynetdicom()
        self._ae = self._application_entity()
        own = [(evt.EVT_CONN_OPEN, self._on_open), (evt.EVT_CONN_CLOSE, self._on_close)]
        handlers = [*own, (evt.EVT_REQUESTED, self._on_requested), *self._handlers]
        host, port = self._settings.listen
        try:
            server = self._ae.make_server((host, port), evt_handlers=handlers, server_class=_Server)
        except OSError as error:
            raise BridgeError(
                f"cannot listen: {error.strerror or error}",
                at=f"{self._channel}.listen {self._settings.listen}",
                fix="end what uses the port, or choose another address",
                kind="settings",
            ) from None
        server.guard(self._channel, self._certificates, self._settings.request_timeout)
        server.socket.listen(_BACKLOG)
        threading.Thread(target=server.serve_forever, args=(_POLL,), name=f"dicom-{self._channel}", daemon=True).start()
        self._ae._servers.append(server)
        self._server = server
        self._address = HostPort(host, server.socket.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, abort what is open, and after a moment cut off who does not let go."""
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        if self._server is None:
            return
        self._server.shutdown()
        self._server = None
        open_ = [association for association in self._ae.active_associations if association.is_established]
        aborts = [threading.Thread(target=association.abort, daemon=True) for association in open_]
        for abort in aborts:
            abort.start()
        end = time.monotonic() + _GRACE
        for abort in aborts:
            abort.join(max(0.0, end - time.monotonic()))
        for association in self._ae.active_associations:
            if association.dul.socket:
                association.dul.socket.close()
            association.dul.kill_dul()

    def _application_entity(self) -> AE:
        settings = self._settings
        ae = AE(settings.ae_title)
        for service in self._services:
            ae.add_supported_context(service, _SYNTAXES)
        for service in self._notified:
            ae.add_supported_context(service, _SYNTAXES, scu_role=False, scp_role=True)
        ae.maximum_associations = 2 * settings.max_associations + _BACKLOG
        ae.acse_timeout = settings.request_timeout
        ae.network_timeout = settings.idle_timeout
        return ae

    def _on_open(self, event: Any) -> None:
        """Answers leave at once, and so do acknowledgements of what comes in parts; a peer that stops in the middle of
        a PDU, or announces a huge one, is dropped."""
        association = event.assoc
        with self._lock:
            self._open = {one: host for one, host in self._open.items() if _is_open(one)}
            self._open[association] = association.requestor.address_info.address
        transport = association.dul.socket
        connection = transport.socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self._settings.idle_timeout)
        read = transport.recv

        def recv(size: int) -> bytearray:
            if size > _LARGEST_PDU:
                raise OSError("a PDU larger than any that was agreed on")
            if _QUICKACK is not None:
                connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            data: bytearray = read(size)
            return data

        transport.recv = recv

    def _on_close(self, event: Any) -> None:
        with self._lock:
            self._open.pop(event.assoc, None)
        if event.assoc.requestor.primitive is None:
            log.info("connection_without_association", channel=self._channel, peer=peer(event))

    def _on_requested(self, event: Any) -> None:
        """Let the caller in, or reject it with the reason."""
        association = event.assoc
        request, host = association.requestor.primitive, association.requestor.address_info.address
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        refused = self._refusal(calling, called, host) or self._crowded(host)
        if refused:
            reason, why = refused
            who = {"calling": printable(calling), "called": printable(called), "peer": peer(event)}
            log.warning("association_rejected", channel=self._channel, why=why, **who)
            association.acse.send_reject(*reason)
            association.kill()

    def _refusal(self, calling: str, called: str, host: str) -> Refusal | None:
        settings = self._settings
        if settings.allow and not _within(host, settings.allow):
            return NOT_ALLOWED, "this address may not connect (allow)"
        if settings.require_called_ae and called != settings.ae_title:
            return CALLED_UNKNOWN, "we are called by another AE title (require_called_ae)"
        if settings.known_callers_only and calling not in self._callers:
            return CALLER_UNKNOWN, "an AE title that is not known here (known_callers_only)"
        if self._turned_away(calling):
            return CALLER_UNKNOWN, "an AE title that is not in force at this time (not_in_force)"
        networks = self._callers.get(calling)
        if networks and not _within(host, networks):
            return CALLER_UNKNOWN, "this AE title calls from another address (hosts)"
        return None

    def _crowded(self, host: str) -> Refusal | None:
        """Too many connections are open, those included that have no association yet."""
        with self._lock:
            hosts = [where for one, where in self._open.items() if _is_open(one)]
        if len(hosts) > self._settings.max_associations:
            return LIMIT_REACHED, "as many associations as allowed are open (max_associations)"
        if hosts.count(host) > self._settings.peer_associations:
            return LIMIT_REACHED, "as many associations of this address as allowed are open (peer_associations)"
        return None


class _Server(ThreadedAssociationServer):
    """Does the TLS handshake in the connection's own thread, so that a silent peer holds up nobody."""

    def guard(self, channel: str, certificates: Certificates | None, patience: float) -> None:
        self._channel, self._certificates, self._patience = channel, certificates, patience

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self._certificates:
            request.settimeout(self._patience)
            try:
                request = self._certificates.current().wrap_socket(request, server_side=True)
            except OSError as error:
                reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
                where = str(HostPort(*client_address[:2]))
                log.warning("tls_handshake_failed", channel=self._channel, peer=where, reason=reason or "timed out")
                with suppress(OSError):
                    request.close()
                return
        super().process_request_thread(request, client_address)


def _is_open(association: Any) -> bool:
    begun = association.ident is not None
    return not (association.is_released or association.is_aborted or (begun and not association.is_alive()))


def _within(host: str, networks: Iterable[Any]) -> bool:
    address = ip_address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def peer(event: Any) -> str:
    """Who is at the other end of an event's association: ``10.1.2.3:49152``."""
    info = event.assoc.requestor.address_info
    return str(HostPort(info.address, info.port)) if info else ""


def printable(title: str | None) -> str:
    """An AE title that somebody sent, safe to show."""
    return "".join(c if " " <= c <= "~" else "?" for c in (title or "").strip())


def quiet_pynetdicom() -> None:
    """Its own log would hold patient content, and takes a fifth of the time of an answer."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
