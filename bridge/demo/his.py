"""A simulated HIS: a FHIR R4 server in memory, just what a transaction with conditional writes needs.

``POST /`` takes a batch of reads or a transaction (R4 3.1.0.11): POST with If-None-Exist, PUT on a search or an id with
If-Match, references to ``urn:uuid:`` resolved, all or nothing. The only search parameter is ``identifier``.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from bridge.asgi import AsgiServer
from bridge.ports import HostPort

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """One DiagnosticReport as the HIS holds it, with what it points at."""

    study_uid: str
    status: str
    text: str
    patient_id: str
    versions: tuple[tuple[str, float], ...]
    """Status and time (on the machine's monotonic clock) of each version that was written."""


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class His:
    """Listens on ``port`` once started; ``resources`` holds the current version of each by ``Type/id``."""

    def __init__(self) -> None:
        self.resources: dict[str, Json] = {}
        self.versions: dict[str, list[tuple[str, float]]] = {}
        """Status and time of each version, by ``Type/id``."""
        self._server = AsgiServer(self._answer, HostPort("127.0.0.1", 0))

    @property
    def port(self) -> int:
        return self._server.address.port

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    # what it knows

    def reports(self) -> list[Report]:
        return [
            Report(
                study_uid=self._study(report),
                status=report["status"],
                text=self._text(report),
                patient_id=self._patient(report),
                versions=tuple(self.versions[name]),
            )
            for name, report in self.resources.items()
            if report["resourceType"] == "DiagnosticReport"
        ]

    def _study(self, report: Json) -> str:
        for reference in report.get("imagingStudy", []):
            for identifier in self.resources.get(reference["reference"], {}).get("identifier", []):
                if identifier.get("system") == "urn:dicom:uid":
                    return str(identifier["value"]).removeprefix("urn:oid:")
        return ""

    def _patient(self, report: Json) -> str:
        patient = self.resources.get(report.get("subject", {}).get("reference", ""), {})
        return str(next((one["value"] for one in patient.get("identifier", [])), ""))

    def _text(self, report: Json) -> str:
        results = (self.resources.get(one["reference"], {}) for one in report.get("result", []))
        parts = [report.get("conclusion", ""), *(one.get("valueString", "") for one in results)]
        return "\n".join(part for part in parts if part)

    # HTTP

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            event = await receive()
            if event["type"] != "http.request":
                return
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        status, answer = self.handle(scope["method"], body)
        headers = [(b"content-type", b"application/fhir+json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer, ensure_ascii=False).encode()})

    def handle(self, method: str, body: bytes) -> tuple[int, Json]:
        """HTTP status and resource for one request on the base URL."""
        try:
            bundle = json.loads(body) if method == "POST" else {}
            if bundle.get("type") == "batch":
                return 200, _bundle("batch-response", [self._read(one["request"]["url"]) for one in bundle["entry"]])
            if bundle.get("type") == "transaction":
                return 200, _bundle("transaction-response", self._transaction(bundle["entry"]))
            raise _Refused(400, "not-supported")
        except _Refused as refused:
            return refused.status, _outcome(refused.code)
        except (ValueError, KeyError, TypeError):
            return 400, _outcome("structure")

    # FHIR

    def _read(self, url: str) -> Json:
        path, _, query = url.partition("?")
        if not query:
            found = self.resources.get(path)
            return {"resource": found, "response": {"status": "200"}} if found else {"response": {"status": "404"}}
        entries = [{"resource": self.resources[name]} for name in self._search(path, query)]
        return {"resource": _bundle("searchset", entries), "response": {"status": "200"}}

    def _search(self, kind: str, query: str) -> list[str]:
        """``Type/id`` of what bears one of the identifiers asked for; \\ escapes as in R4 3.1.1.3.1."""
        wanted = dict(parse_qsl(query, strict_parsing=True)).get("identifier", "")
        tokens = {re.sub(r"\\(.)", r"\1", token) for token in re.findall(r"(?:\\.|[^\\,])+", wanted)}
        if not tokens:
            raise _Refused(400, "not-supported")
        return [
            name
            for name, one in self.resources.items()
            if one["resourceType"] == kind
            and any(f"{i.get('system', '')}|{i.get('value', '')}" in tokens for i in one.get("identifier", []))
        ]

    def _transaction(self, entries: list[Json]) -> list[Json]:
        before = dict(self.resources), {name: list(versions) for name, versions in self.versions.items()}
        try:
            names = [self._target(entry) for entry in entries]
            urls = {
                entry["fullUrl"]: name for entry, (name, _) in zip(entries, names, strict=True) if "fullUrl" in entry
            }
            return [self._write(entry, *target, urls) for entry, target in zip(entries, names, strict=True)]
        except BaseException:
            self.resources, self.versions = before
            raise

    def _target(self, entry: Json) -> tuple[str, str]:
        """``Type/id`` that an entry is about, and what happens to it: created, updated or kept."""
        request, kind = entry["request"], entry["resource"]["resourceType"]
        if request["method"] == "POST":
            matches = self._search(kind, request["ifNoneExist"]) if "ifNoneExist" in request else []
            verb = "kept"
        elif request["method"] == "PUT":
            path, _, query = request["url"].partition("?")
            matches = self._search(kind, query) if query else [name for name in (path,) if name in self.resources]
            verb = "updated"
        else:
            raise _Refused(405, "not-supported")
        if len(matches) > 1:
            raise _Refused(412, "multiple-matches")
        if matches:
            version = request.get("ifMatch")
            if version and version != f'W/"{self.resources[matches[0]]["meta"]["versionId"]}"':
                raise _Refused(412, "conflict")
            return matches[0], verb
        name = f"{kind}/{len(self.versions) + 1}"
        self.versions[name] = []
        return name, "created"

    def _write(self, entry: Json, name: str, verb: str, urls: dict[str, str]) -> Json:
        if verb != "kept":
            resource = _resolved(entry["resource"], urls)
            self.versions[name].append((str(resource.get("status", "")), time.monotonic()))
            resource["id"], resource["meta"] = name.partition("/")[2], {"versionId": str(len(self.versions[name]))}
            self.resources[name] = resource
        location = f"{name}/_history/{self.resources[name]['meta']['versionId']}"
        return {"response": {"status": "201" if verb == "created" else "200", "location": location}}


def _resolved(value: Any, urls: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: urls.get(item, item) if key == "reference" and isinstance(item, str) else _resolved(item, urls)
            for key, item in value.items()
        }
    return [_resolved(item, urls) for item in value] if isinstance(value, list) else value


def _bundle(kind: str, entries: list[Json]) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def _outcome(code: str) -> Json:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}
