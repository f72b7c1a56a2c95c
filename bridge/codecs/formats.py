"""Message formats by name: how to read a header from bytes, and how to answer in the same language."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Protocol

from bridge.codecs import ack, hl7v2
from bridge.errors import BridgeError
from bridge.message import Header


class Parsed(Protocol):
    """A message that was read; what else it offers (paths, views) depends on its format."""

    @property
    def header(self) -> Header: ...


class Format(Protocol):
    def read(self, raw: bytes, charset: str) -> Parsed:
        """Parse. Raises CodecError with place and fix."""
        ...

    def answer(
        self, parsed: Any, raw: bytes, *, control_id: str, now: datetime, error: BridgeError | None = None
    ) -> bytes:
        """The acknowledgement in this format; positive without ``error``. Empty for formats that have none."""
        ...


class Hl7v2:
    """HL7 v2 in ER7 encoding; answers with ACK in original or, where MSH-15/16 ask for it, enhanced mode."""

    def read(self, raw: bytes, charset: str) -> Parsed:
        return hl7v2.parse(raw, charset)

    def answer(
        self, parsed: Any, raw: bytes, *, control_id: str, now: datetime, error: BridgeError | None = None
    ) -> bytes:
        enhanced = parsed is not None and bool(parsed.get("MSH-15") or parsed.get("MSH-16"))
        letter = "A" if error is None else error.face.ack[1]
        code = ("C" if enhanced else "A") + letter
        return ack.acknowledge(parsed, raw, code=code, control_id=control_id, now=now, error=error)


class _Opaque:
    def __init__(self, raw: bytes) -> None:
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        self.header = Header(type="bytes", control_id=digest.hex(), digest=digest)

    def get(self, path: str) -> str:
        """Opaque content has no places."""
        return ""


class Bytes:
    """Content that is passed on as it is; recognised when it comes again by its digest."""

    def read(self, raw: bytes, charset: str) -> Parsed:
        return _Opaque(raw)

    def answer(
        self, parsed: Any, raw: bytes, *, control_id: str, now: datetime, error: BridgeError | None = None
    ) -> bytes:
        return b""


FORMATS: dict[str, Format] = {"hl7v2": Hl7v2(), "bytes": Bytes()}
