"""TLS for MLLP channels (IETF BCP 195 as the platform's OpenSSL has it; IHE ATNA "Secure Node" asks for both sides)."""

from __future__ import annotations

import ssl

from pydantic import BaseModel, ConfigDict

from bridge.errors import BridgeError
from bridge.ports import LocalPath


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
