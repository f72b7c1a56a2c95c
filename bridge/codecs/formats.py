"""Message formats by name: how to read a header from bytes, and how to answer in the same language."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Protocol

from bridge.codecs import ack, fhir_message, hl7v2, notice, order_answers, performed, worklist_file
from bridge.codecs.dicom_envelope import is_envelope
from bridge.codecs.performed_json import event_file, is_json
from bridge.errors import BridgeError, CodecError
from bridge.message import Header


class Parsed(Protocol):
    """A message that was read; what else it offers (paths, views) depends on its format."""

    @property
    def header(self) -> Header: ...


class Format(Protocol):
    def read(self, raw: bytes, charset: str) -> Parsed:
        """Parse. Raises CodecError with place and fix."""
        ...

    def check(self, parsed: Any) -> None:
        """Raises BridgeError for a message that could be read, and that the format's own rules refuse all the same."""
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

    def check(self, parsed: Any) -> None:
        if not parsed.header.control_id:
            raise CodecError(
                "the control id is empty", at="MSH-10", fix="give every message its own id", kind="required"
            )

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


class _Unanswered:
    """A format whose sender is told by its transport alone."""

    def check(self, parsed: Any) -> None:
        return None

    def answer(self, parsed: Any, raw: bytes, **_: Any) -> bytes:
        return b""

    def defers(self, parsed: Any) -> bool:
        return False


class _Opaque:
    def __init__(self, raw: bytes) -> None:
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        self.header = Header(type="bytes", control_id=digest.hex(), digest=digest)

    def get(self, path: str) -> str:
        """Opaque content has no places."""
        return ""


class Bytes(_Unanswered):
    """Content that is passed on as it is; recognised when it comes again by its digest."""

    def read(self, raw: bytes, charset: str) -> Parsed:
        return _Opaque(raw)


class Dicom(_Unanswered):
    """DICOM files: events of performed procedure steps (MPPS, :mod:`bridge.codecs.performed`), notices of an archive
    (:mod:`bridge.codecs.notice`) and worklist items (:mod:`bridge.codecs.worklist_file`)."""

    def read(self, raw: bytes, charset: str) -> Parsed:
        if performed.is_event(raw):
            return performed.parse_step(raw)
        return notice.parse_notice(raw) if is_envelope(raw) else worklist_file.parse_item(raw)

    def check(self, parsed: Any) -> None:
        parsed.check()


class Fhir(_Unanswered):
    """FHIR resources and Bundles as JSON: see :mod:`bridge.codecs.fhir_message`."""

    def read(self, raw: bytes, charset: str) -> Parsed:
        return fhir_message.parse_fhir(raw)


FORMATS: dict[str, Format] = {"hl7v2": Hl7v2(), "bytes": Bytes(), "dicom": Dicom(), "fhir": Fhir()}


def is_dicom(raw: bytes) -> bool:
    """Whether this is a DICOM file (PS3.10)."""
    return raw[128:132] == b"DICM"


def read_any(raw: bytes, charset: str = "") -> Any:
    """A message that a mapping may be given: of DICOM if it is a file of that or the text of one, of FHIR if it is a
    resource as JSON, else of HL7 v2.

    Raises CodecError.
    """
    if is_json(raw) and fhir_message.is_fhir(raw):
        return FORMATS["fhir"].read(raw, charset)
    if is_json(raw):
        raw = event_file(raw)
    return FORMATS["dicom" if is_dicom(raw) else "hl7v2"].read(raw, charset)
