"""Message formats by name: how to read a header from bytes, and how to answer in the same language."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Protocol

from bridge.codecs import ack, hl7v2, order_answers
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
        self,
        parsed: Any,
        raw: bytes,
        *,
        control_id: str,
        now: datetime,
        error: BridgeError | None = None,
        deferred: bool = False,
        orders: bool = False,
    ) -> bytes:
        """The acknowledgement in this format; positive without ``error``. Empty when the sender wants none.

        ``orders``: orders are answered one by one (ORR, ORI, ORG).

        Several are separated by FS (0x1C), which no message holds: see :attr:`bridge.ports.Reply.answers`.
        ``deferred``: the positive answer of :meth:`defers` is not among them.
        """
        ...

    def defers(self, parsed: Any) -> bool:
        """Whether the sender wants a positive answer of the application, apart from that for safe receipt."""
        ...


class Hl7v2:
    """HL7 v2 in ER7 encoding; answers with ACK in original or, where MSH-15/16 ask for it, enhanced mode."""

    def read(self, raw: bytes, charset: str) -> Parsed:
        return hl7v2.parse(raw, charset)

    def answer(
        self,
        parsed: Any,
        raw: bytes,
        *,
        control_id: str,
        now: datetime,
        error: BridgeError | None = None,
        deferred: bool = False,
        orders: bool = False,
    ) -> bytes:
        acknowledge = order_answers.acknowledge if orders else ack.acknowledge
        codes = ack.wanted(parsed, error)
        if deferred and error is None and self.defers(parsed):
            codes.remove("AA")
        answers = []
        for code in codes:
            answers.append(acknowledge(parsed, raw, code=code, control_id=control_id, now=now, error=error))
            control_id = "A" + control_id[1:]
        return answers[0] if len(answers) == 1 else b"\x1c".join(answers)

    def defers(self, parsed: Any) -> bool:
        return any(ack.modes(parsed.fields(0))) and "AA" in ack.wanted(parsed)


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

    def answer(self, parsed: Any, raw: bytes, **_: Any) -> bytes:
        return b""

    def defers(self, parsed: Any) -> bool:
        return False


FORMATS: dict[str, Format] = {"hl7v2": Hl7v2(), "bytes": Bytes()}
