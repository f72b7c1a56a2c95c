"""One family of errors: what is wrong, where, and how to mend it.

The same error is told in every language that Radbridge speaks. :data:`FACES` is the one table from an error's
kind to its ERR segment (HL7 table 0357), FHIR OperationOutcome issue type, HTTP status, DIMSE status and exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bridge.model import Unmapped


@dataclass(frozen=True, slots=True)
class Face:
    """How one kind of error looks in each protocol."""

    ack: Literal["AE", "AR"]
    """MSA-1 in original mode (HL7 table 0008)."""
    hl7: str
    """ERR-3, HL7 table 0357."""
    fhir: str
    """OperationOutcome.issue.code."""
    http: int
    dimse: int
    """Status of the C-FIND or N-CREATE response (PS3.4, PS3.7)."""
    exit: int
    """Exit code of the command."""


FACES: dict[str, Face] = {
    "syntax": Face("AE", "100", "structure", 400, 0xC001, 3),
    "required": Face("AE", "101", "required", 422, 0x0120, 3),
    "datatype": Face("AE", "102", "value", 422, 0x0106, 3),
    "code": Face("AE", "103", "code-invalid", 422, 0x0106, 3),
    "message_type": Face("AR", "200", "not-supported", 422, 0x0122, 3),
    "event": Face("AR", "201", "not-supported", 422, 0x0122, 3),
    "processing_id": Face("AR", "202", "business-rule", 422, 0x0124, 3),
    "version": Face("AR", "203", "not-supported", 422, 0x0122, 3),
    "unknown_key": Face("AE", "204", "not-found", 404, 0x0112, 4),
    "duplicate_key": Face("AE", "205", "duplicate", 409, 0x0111, 4),
    "locked": Face("AE", "206", "conflict", 409, 0x0110, 4),
    "internal": Face("AE", "207", "exception", 500, 0x0110, 1),
    "overload": Face("AR", "207", "throttled", 503, 0xA700, 5),
    "unavailable": Face("AR", "207", "transient", 503, 0xA700, 5),
    "forbidden": Face("AR", "207", "forbidden", 403, 0x0124, 6),
    "settings": Face("AR", "207", "business-rule", 422, 0x0110, 2),
    "ambiguous": Face("AE", "205", "multiple-matches", 412, 0x0111, 4),
    "deleted": Face("AE", "204", "deleted", 410, 0x0112, 4),
    "precondition": Face("AE", "206", "conflict", 412, 0x0110, 4),
    "business_rule": Face("AE", "206", "business-rule", 422, 0x0110, 4),
    "search": Face("AE", "102", "invalid", 400, 0x0106, 3),
    "unsupported": Face("AR", "200", "not-supported", 400, 0x0122, 3),
}
"""Of kinds with the same code of HL7, the first is the one that the code is read as."""


class BridgeError(Exception):
    """Something a person can act on. Raise once, with facts.

    ``what`` names the fault, ``at`` the place in the reader's own terms (``OBR-18``, ``bridge.yaml:12:5``), ``fix``
    what to do about it. None of the three may carry patient content.
    """

    kind = "internal"

    def __init__(self, what: str, *, at: str = "", fix: str = "", kind: str = "") -> None:
        super().__init__(what)
        self.what, self.at, self.fix = what, at, fix
        if kind:
            self.kind = kind

    @property
    def face(self) -> Face:
        return FACES[self.kind]

    @property
    def faults(self) -> Sequence[BridgeError]:
        """What it stands for: itself, or each of the faults that were found at once."""
        return (self,)

    def __str__(self) -> str:
        text = f"{self.what} at {self.at}" if self.at else self.what
        return f"{text}; fix: {self.fix}" if self.fix else text

    def as_dict(self) -> dict[str, str]:
        return {"kind": self.kind, "what": self.what, "at": self.at, "fix": self.fix}


class CodecError(BridgeError):
    """Bytes that are not what they claim to be."""

    kind = "syntax"


class Invalid(CodecError):
    """A message that breaks the rules of its channel: told as its first fault, with the places of the others."""

    _NAMED = 10

    def __init__(self, faults: Sequence[BridgeError]) -> None:
        first, *others = faults
        places = list(dict.fromkeys(fault.at for fault in others))
        more = f" and {len(places) - self._NAMED} more" if len(places) > self._NAMED else ""
        what = f"{first.what} (more faults at {', '.join(places[: self._NAMED])}{more})" if others else first.what
        super().__init__(what, at=first.at, fix=first.fix, kind=first.kind)
        self._faults = tuple(faults)

    @property
    def faults(self) -> Sequence[BridgeError]:
        return self._faults


class Permanent(BridgeError):
    """Trying again cannot help: the delivery goes to the dead letters at once."""


class Held(Permanent):
    """Permanent, and what follows in its lane waits for a person, whatever the channel's `on_dead` says."""


class MappingError(Permanent):
    """A mapping could not make its result from this message."""

    kind = "required"
    unmapped: tuple[Unmapped, ...] = ()
    """The codes without a row that were met until then."""


class Parked(MappingError):
    """Our own side lacks something, such as a table's row: the message waits for a person, its sender is not told."""

    kind = "code"


class Temporary(BridgeError):
    """This delivery may succeed later; counts against its attempts budget. ``retry_after`` is in seconds."""

    kind = "unavailable"

    def __init__(
        self, what: str, *, at: str = "", fix: str = "", kind: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(what, at=at, fix=fix, kind=kind)
        self.retry_after = retry_after


class Unreachable(Temporary):
    """The destination as a whole is away: its lanes wait, and no delivery's budget is spent."""


class Uncertain(Temporary):
    """Sent, but no answer came: the receiver may have it. A repeat has the same bytes and is marked as suspected."""


class Overloaded(BridgeError):
    """The engine cannot take more now; nothing was stored, the sender keeps its copy."""

    kind = "overload"


class StoreUnavailable(BridgeError):
    """The database refused or is away; nothing was stored."""

    kind = "unavailable"


class NotFound(BridgeError):
    kind = "unknown_key"


class Refused(BridgeError):
    """A policy turned this input away."""

    kind = "message_type"


class SettingsError(BridgeError):
    """The configuration cannot be used; ``findings`` lists every problem at once."""

    kind = "settings"

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        super().__init__(f"{len(findings)} problem(s) in the configuration", fix="run `radbridge check`")

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem in a file that a person wrote: ``file:line:col: what (fix)``."""

    file: str
    line: int
    column: int
    what: str
    fix: str = ""
    severity: Literal["error", "warning", "hint"] = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        return f"{place}{self.severity}: {self.what}" + (f"; fix: {self.fix}" if self.fix else "")
