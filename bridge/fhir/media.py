"""What a request says of how it is written and how it wants its answer (R4 http.html 3.1.0.1; RFC 9110).

JSON is served, XML and Turtle are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal

from bridge.codecs.fhir_check import Release
from bridge.errors import BridgeError
from bridge.fhir.outcome import HttpFault

FHIR = "application/fhir+json"
JSON_PATCH = "application/json-patch+json"
_JSON = (FHIR, "application/json", "text/json")
_SHORT = {"json": FHIR, "application/fhir json": FHIR, "application/json fhir": FHIR}
VERSIONS: dict[Release, str] = {"R4": "4.0.1", "R5": "5.0.0"}


@dataclass(frozen=True, slots=True)
class Prefer:
    """What the client asked for in ``Prefer`` (RFC 7240; R4 http.html 3.1.0.1.8)."""

    answer: Literal["representation", "minimal", "OperationOutcome"] = "representation"
    strict: bool = False
    """An unknown search parameter is an error."""


def check_accept(accept: str, wanted: str, release: Release) -> None:
    """Raises HttpFault 406 unless the client takes FHIR JSON of this release; ``wanted`` is its ``_format``, which goes
    before its ``Accept``."""
    if wanted:
        # A form writes a space for a plus.
        media, parameters = _media(_SHORT.get(wanted.strip().lower(), wanted))
        takes = media in _JSON and _fits(parameters, release)
    else:
        ranges = [_media(one) for one in accept.split(",") if one.strip()]
        takes = not ranges or any(
            media in (*_JSON, "application/*", "text/*", "*/*", "json") and _fits(parameters, release)
            for media, parameters in ranges
            if parameters.get("q", "1").strip() not in ("0", "0.0", "0.00", "0.000")
        )
    if not takes:
        fix = f"accept {FHIR}; fhirVersion={VERSIONS[release][:3]}"
        raise HttpFault(406, "only JSON is served", at="http._format" if wanted else "http.Accept", fix=fix)


def check_content(header: str, release: Release, *, also: tuple[str, ...] = ()) -> str:
    """The media type of a body. Raises HttpFault 415 unless it is JSON of this release or one of ``also``."""
    media, parameters = _media(header or FHIR)
    if media not in (*_JSON, *also) or not _fits(parameters, release):
        fix = f"send {' or '.join((FHIR, *also))}, fhirVersion {VERSIONS[release][:3]}"
        raise HttpFault(415, "this kind of content is not taken", at="http.Content-Type", fix=fix)
    if parameters.get("charset", "utf-8").strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
        raise HttpFault(415, "JSON is UTF-8", at="http.Content-Type", fix="send UTF-8")
    return media


def prefer(header: str) -> Prefer:
    """What is not understood is passed over, as RFC 7240 has it."""
    said = dict(_said(header))
    answer = said.get("return", "")
    return Prefer(
        answer if answer in ("minimal", "OperationOutcome") else "representation",  # type: ignore[arg-type]
        said.get("handling") == "strict",
    )


def etag(version: str) -> str:
    return f'W/"{version}"'


def etags(header: str) -> list[str]:
    """The bare versions of ``If-Match`` or ``If-None-Match``; ``*`` stands for any."""
    return ["*"] if header.strip() == "*" else re.findall(r'"([^"]*)"', header) or header.split()


def one_etag(header: str, name: str) -> str:
    """The bare version of ``If-Match``; empty without one. Raises BridgeError for what is no version."""
    if not header:
        return ""
    found = re.fullmatch(r'(?:W/)?"([A-Za-z0-9.-]{1,64})"', header.strip())
    if found is None:
        raise BridgeError("not one entity tag", at=f"http.{name}", fix='send W/"3" as the server did', kind="syntax")
    return found[1]


def http_date(millis: int) -> str:
    return format_datetime(datetime.fromtimestamp(millis // 1000, UTC), usegmt=True)


def millis_of(date: str) -> int:
    """The moment of :func:`http_date`."""
    return int(parsedate_to_datetime(date).timestamp()) * 1000


def is_since(header: str, millis: int) -> bool:
    """Whether something changed after ``If-Modified-Since``; a date that is none is passed over (RFC 9110 13.1.3)."""
    try:
        return millis // 1000 > int(parsedate_to_datetime(header).timestamp())
    except (ValueError, TypeError, OverflowError):
        return True


def _media(text: str) -> tuple[str, dict[str, str]]:
    media, *parameters = text.split(";")
    pairs = (one.partition("=") for one in parameters)
    return media.strip().lower(), {name.strip().lower(): value.strip() for name, _, value in pairs}


def _fits(parameters: dict[str, str], release: Release) -> bool:
    asked = parameters.get("fhirversion", "").strip('"')
    return not asked or VERSIONS[release].startswith(asked)


def _said(header: str) -> Iterator[tuple[str, str]]:
    for one in re.split(r"[,;]", header):
        name, _, value = one.partition("=")
        yield name.strip().lower(), value.strip().strip('"')
