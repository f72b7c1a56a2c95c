"""TLS for channels (IETF BCP 195 as the platform's OpenSSL has it; IHE ATNA "Secure Node" asks for both sides)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict

from bridge.errors import BridgeError
from bridge.ports import LocalPath

log = structlog.get_logger(__name__)


class TlsSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    certificate: LocalPath | None = None
    """Our certificate with its chain, PEM. An inbound channel needs one."""
    key: LocalPath | None = None
    """The certificate's key, PEM; empty when it is in the same file."""
    ca: LocalPath | None = None
    """Whom we trust, PEM. Inbound: senders must show a certificate of it. Outbound: empty means the system's."""

    def context(self, channel: str, *, server: bool) -> ssl.SSLContext:
        """Raises BridgeError naming the setting when the files cannot be used."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate or server:
                context.load_cert_chain(self.certificate or "", self.key)
            if self.ca:
                context.load_verify_locations(self.ca)
                context.verify_mode = ssl.CERT_REQUIRED
            elif not server:
                context.load_default_certs()
        except OSError as error:
            what = f"TLS cannot be set up: {error.strerror or error}"
            fix = "name PEM files that the service may read: certificate, key, ca"
            raise BridgeError(what, at=f"channels.{channel}.tls", fix=fix, kind="settings") from None
        return context


class Certificates:
    """A channel's TLS context, made anew when one of its files was renewed: no restart, open connections stay."""

    def __init__(self, settings: TlsSettings, channel: str, *, server: bool) -> None:
        self._settings, self._channel, self._server = settings, channel, server
        self._stamp = self._files()
        self._context = settings.context(channel, server=server)

    def current(self) -> ssl.SSLContext:
        """The context of the files as they are now; the former one while they cannot be used."""
        stamp = self._files()
        if stamp != self._stamp:
            try:
                self._context = self._settings.context(self._channel, server=self._server)
                self._stamp = stamp
                log.info("certificates_reloaded", channel=self._channel)
            except BridgeError as error:
                log.warning("certificates_not_reloaded", channel=self._channel, what=error.what)
        return self._context

    def listening(self) -> ssl.SSLContext:
        """A context to listen with: each handshake uses the current one. Sessions are not resumed, for a resumed one
        would outlive the authority that vouched for it."""
        context = self._settings.context(self._channel, server=True)
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.sni_callback = self._at_handshake
        return context

    def _at_handshake(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self.current()

    def _files(self) -> list[tuple[int, int, int] | None]:
        settings = self._settings
        return [_stamp(path) for path in (settings.certificate, settings.key, settings.ca) if path]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
