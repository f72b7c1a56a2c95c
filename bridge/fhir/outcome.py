"""What is wrong with a request, as FHIR tells it: an OperationOutcome with the place (R4 operationoutcome.html)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bridge.errors import BridgeError, Refused

_ELEMENT = re.compile(r"(?:[A-Z][A-Za-z]*|resourceType|http)(?:[.\[][^ ]*)?")
_CODES = {
    401: "login",
    404: "not-found",
    408: "timeout",
    410: "deleted",
    412: "conflict",
    405: "not-supported",
    406: "not-supported",
    413: "too-long",
    415: "not-supported",
}


class HttpFault(BridgeError):
    """What HTTP has a status of its own for, and only HTTP."""

    kind = "unsupported"

    def __init__(
        self, status: int, what: str, *, at: str = "", fix: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(what, at=at, fix=fix)
        self.status, self.headers = status, headers or {}


class RefusedResource(Refused):
    """A write whose content is not valid; told with all its faults."""

    def __init__(self, faults: Sequence[BridgeError]) -> None:
        first, others = faults[0], len(faults) - 1
        what = f"{first.what} (and {others} more)" if others else first.what
        super().__init__(what, at=first.at, fix=first.fix, kind=first.kind)
        self._faults = tuple(faults)

    @property
    def faults(self) -> Sequence[BridgeError]:
        return self._faults


def status_of(error: BridgeError) -> int:
    """The HTTP status that tells of an error."""
    return error.status if isinstance(error, HttpFault) else error.face.http


def outcome(error: BridgeError) -> dict[str, Any]:
    """The OperationOutcome of an error: an issue for each of its faults."""
    return {"resourceType": "OperationOutcome", "issue": [_issue(fault) for fault in error.faults]}


def remark(text: str, *, severity: str = "information", code: str = "informational") -> dict[str, Any]:
    """An OperationOutcome of one issue that is no error."""
    issue = {"severity": severity, "code": code, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def warnings(told: Iterable[BridgeError]) -> list[dict[str, Any]]:
    """An issue for each of what is told, though it is no error."""
    return [{**_issue(one), "severity": "warning"} for one in told]


def _issue(fault: BridgeError) -> dict[str, Any]:
    code = _CODES.get(fault.status, "processing") if isinstance(fault, HttpFault) else fault.face.fhir
    issue: dict[str, Any] = {"severity": "error", "code": code, "details": {"text": fault.what}}
    if fault.fix:
        issue["diagnostics"] = fault.fix
    if fault.at:
        issue["expression" if _ELEMENT.fullmatch(fault.at) else "location"] = [fault.at]
    return issue
