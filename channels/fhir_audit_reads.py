"""The audit trail of the FHIR facades as AuditEvents, at ``audit/AuditEvent`` (as IHE ITI-81 asks for them)."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

from starlette.responses import Response

from bridge.codecs.fhir import encode
from bridge.errors import BridgeError, NotFound
from bridge.fhir.audit import ACTION, event
from bridge.fhir.rights import Forbidden
from bridge.fhir.times import span
from channels.fhir_exchange import Asked, bundle, entry, told

_KNOWN = ("date", "agent", "entity", "patient", "_count", "_cursor", "_format", "_pretty")


class AuditReads:
    def __init__(self, trail: Any, site: Any, most: int) -> None:
        self._trail, self._most = trail, most
        self._site = site.name if site else ""
        self._zone = ZoneInfo(site.timezone) if site else UTC

    async def search(self, asked: Asked) -> Response:
        """By date (ge, gt, le, lt, or a day), agent (a client), entity (``Type/id``) and patient; newest first."""
        _check(asked)
        said = dict(asked.query)
        if unknown := sorted({name for name, _ in asked.query if name not in _KNOWN}):
            what, fix = "no such search parameter here", f"use {', '.join(_KNOWN[:4])}"
            raise BridgeError(what, at=unknown[0][:64], fix=fix, kind="unsupported")
        if patient := said.get("patient", ""):
            said["entity"] = f"Patient/{patient.removeprefix('Patient/')}"
        since, until = self._dates([value for name, value in asked.query if name == "date"])
        text = said.get("_count", "50")
        count = min(int(text), self._most) if text.isascii() and text.isdigit() and len(text) < 6 else 50
        found = await asyncio.to_thread(
            self._trail.find,
            actor=said.get("agent", ""),
            subject=said.get("entity", ""),
            prefix=ACTION,
            since=since,
            until=until,
            before=said.get("_cursor", ""),
            limit=max(count, 1),
        )
        entries = [
            entry(
                {"fullUrl": asked.url("audit/AuditEvent", one["id"]), "search": {"mode": "match"}},
                encode(event(one, self._site)),
            )
            for one in found
        ]
        kept = [one for one in asked.query if one[0] != "_cursor"]
        links = {"self": asked.link(kept)}
        if len(found) == max(count, 1):
            links["next"] = asked.link([*kept, ("_cursor", found[-1]["cursor"])])
        return bundle(asked, "searchset", entries, links)

    async def read(self, asked: Asked) -> Response:
        _check(asked)
        found = await asyncio.to_thread(self._trail.one, asked.id)
        if found is None or not found["action"].startswith(ACTION):
            raise NotFound("no such record", at="AuditEvent")
        return told(event(found, self._site), pretty=asked.pretty)

    def _dates(self, values: list[str]) -> tuple[int, int]:
        """From when on, and until when (excluded), in milliseconds; 0 where nothing is said."""
        since, until = 0, 0
        for value in values:
            prefix = value[:2] if value[:2] in ("ge", "gt", "le", "lt", "eq") else ""
            when = span(value.removeprefix(prefix), self._zone)
            if when is None:
                raise BridgeError("not a date", at="date", fix="write ge2030-01-31", kind="search")
            low, high = int(when[0]), int(when[1])
            if prefix in ("ge", "gt", "", "eq"):
                since = max(since, high if prefix == "gt" else low)
            if prefix in ("le", "lt", "", "eq"):
                ends = low if prefix == "lt" else high
                until = min(until or ends, ends)
        return since, until


def _check(asked: Asked) -> None:
    """Raises Forbidden for who does not see all there is to know of everybody."""
    asked.caller.check("search", "AuditEvent")
    if asked.caller.restrict("AuditEvent"):
        what = "the audit trail is for those who may see everybody's"
        raise Forbidden(what, at="AuditEvent", scope="system/AuditEvent.rs")
