"""C-ECHO as a client (PS3.4 annex A): is the other DICOM end there, and does it let us in?"""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from bridge.errors import BridgeError, Unreachable
from bridge.ports import Address, HostPort
from channels.dicom_association import AETitle, quiet_pynetdicom
from channels.tls import TlsSettings


class Remote(BaseModel):
    """A system's own DICOM end."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    address: Address
    """Where it listens, such as 10.1.2.3:104."""
    ae_title: AETitle | None = None
    """Its application entity title there; nothing: the system's."""
    tls: TlsSettings | None = None
    """Encrypt: whom we trust, and our certificate where it asks for one."""


def echo(remote: Remote, called: str, *, calling: str, timeout: float = 10.0) -> float:
    """Associate, verify, release: the milliseconds it took. Blocks.

    Raises Unreachable when nobody answers, BridgeError with the reason when we are not let in.
    """
    quiet_pynetdicom()
    ae = AE(calling)
    ae.add_requested_context(Verification)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout
    at = f"{called}@{remote.address}"
    host, port = remote.address
    tls = (remote.tls.context("ping", server=False), host) if remote.tls else None
    began = time.perf_counter()
    association = ae.associate(host, port, ae_title=called, tls_args=tls)
    if not association.is_established:
        raise _refused(association, at)
    try:
        status = association.send_c_echo()
    finally:
        association.release()
    if "Status" not in status:
        raise Unreachable("no answer to the C-ECHO", at=at, fix="look at that system's own log")
    if status.Status != 0:
        raise BridgeError(f"the C-ECHO was answered {status.Status:04X}", at=at, fix="look at that system's own log")
    return (time.perf_counter() - began) * 1000


def _refused(association: object, at: str) -> BridgeError:
    answer = getattr(association, "acceptor").primitive  # noqa: B009 - pynetdicom has no types
    if getattr(association, "is_rejected", False) and answer is not None:
        fix = "give our AE title, and theirs, as that system knows them"
        return BridgeError(f"the association was rejected: {answer.reason_str}", at=at, fix=fix, kind="locked")
    if getattr(association, "is_aborted", False) and answer is None:
        fix = "check address, port, firewall, and whether it wants TLS"
        return Unreachable("nobody answers", at=at, fix=fix)
    return BridgeError("the association was aborted, or C-ECHO is not served", at=at, fix="look at that system's log")


def remote(text: str) -> tuple[str, HostPort] | None:
    """``AE@host:port`` as its parts; None if it is something else."""
    title, sign, address = text.rpartition("@")
    host, colon, port = address.rpartition(":")
    return (title, HostPort(host.strip("[]"), int(port))) if sign and title and colon and port.isdecimal() else None
