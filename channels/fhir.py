"""``fhir-out``: brings FHIR R4 transaction bundles to a server's base URL.

Each send first reads what the bundle is about (one batch), then posts one transaction with what differs, so that a
repeat writes nothing and an older report never replaces a newer one: ``bridge/codecs/fhir_plan.py``, docs/fhir.md.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar, Literal

import httpx
from pydantic import Field, HttpUrl, SecretStr

from bridge.codecs import fhir, fhir_plan
from bridge.errors import BridgeError, CodecError, Permanent, Uncertain, Unreachable
from bridge.ports import Answer, ChannelType, Duration, LocalPath, Outgoing, Services, SinkSettings
from channels import http_client

_MEDIA = "application/fhir+json"


class FhirOutSettings(SinkSettings):
    """A FHIR R4 server that takes transactions."""

    takes: ClassVar[str] = "fhir"
    lane: Literal["destination", "patient", "order"] = "patient"
    """What keeps its sequence: everything, or each patient's or each order's deliveries."""
    base_url: HttpUrl
    """Where the server takes transactions, for example https://his.example/fhir."""
    timeout: Duration = Field(30.0, gt=0)
    """For each of connecting, writing, and waiting for the answer."""
    headers: dict[str, str] = {}
    """Sent with every request."""
    token: SecretStr | None = None
    """Bearer token."""
    verify: bool | LocalPath = True
    """Check the server's certificate: against the system's authorities, those in a PEM file, or (false) not at all."""
    read_first: bool = True
    """Read before writing. Off, for servers that only take writes, every repeat is written again and nothing holds
    back a late preliminary."""
    max_entries: int = Field(0, ge=0)
    """Entries that the server takes in one transaction; longer bundles go out as several, what is referred to first."""


class FhirOut:
    def __init__(self, settings: FhirOutSettings) -> None:
        url = httpx.URL(str(settings.base_url).rstrip("/"))
        self._url, self.endpoint = url, str(url.copy_with(userinfo=b""))
        self._read_first, self._size = settings.read_first, settings.max_entries
        headers = {**settings.headers, "Accept": _MEDIA, "Content-Type": _MEDIA, "Cache-Control": "no-cache"}
        if settings.token:
            headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        self._client = httpx.AsyncClient(
            headers=headers, timeout=settings.timeout, verify=http_client.trust(settings.verify), trust_env=False
        )

    async def send(self, outgoing: Outgoing) -> Answer:
        """Write the bundle's difference; the summary counts what was done.

        Raises Unreachable (no connection, 401, 429, 502, 503), Uncertain (sent, but no answer), Temporary (408, 409,
        412, 425, other 5xx) or Permanent (other 4xx, not a transaction bundle).
        """
        bundle = _bundle(outgoing.data)
        plan = await self._plan(bundle) if self._read_first else fhir_plan.Plan(tuple(bundle["entry"]))
        done: Counter[str] = Counter(unchanged=plan.unchanged, superseded=plan.superseded)
        urls: dict[str, str] = {}
        status = 0
        for part in fhir_plan.parts(plan.entries, self._size):
            sent = fhir_plan.resolve(part, urls)
            response = await self._post(fhir_plan.transaction(sent), "return=minimal")
            status = response.status_code
            outcome, made = _read_transaction(sent, response.content)
            done += outcome
            urls |= made
        counts = " ".join(f"{done[word]} {word}" for word in _WORDS if done[word])
        head = f"{status} transaction" if status else "nothing to write"
        return Answer(f"{head} {len(bundle['entry'])} entries: {counts}")

    async def _plan(self, bundle: dict[str, Any]) -> fhir_plan.Plan:
        current = fhir_plan.found(bundle, await self._read(fhir_plan.queries(bundle)))
        orphans = []
        if references := fhir_plan.retracted(bundle, current):
            replies = fhir_plan.replies(await self._read(fhir_plan.batch(references)), len(references))
            orphans = [one["resource"] for one in replies if one["status"] == 200]
        return fhir_plan.plan(bundle, current, orphans)

    async def _read(self, batch: bytes) -> bytes:
        try:
            return (await self._post(batch, "handling=strict")).content
        except Uncertain as error:
            raise Unreachable(error.what, at=error.at, fix=error.fix) from None

    async def _post(self, content: bytes, prefer: str) -> httpx.Response:
        response = await http_client.post(self._client, self._url, content, {"Prefer": prefer}, self.endpoint)
        if not response.is_success:
            raise _refusal(response.status_code, response.content, self.endpoint, http_client.retry_after(response))
        return response

    async def close(self) -> None:
        await self._client.aclose()


_WORDS = ("created", "updated", "unchanged", "superseded")


def _bundle(data: bytes) -> dict[str, Any]:
    try:
        bundle = fhir.decode(data)
    except CodecError:
        bundle = {}
    if bundle.get("type") != "transaction" or not bundle.get("entry"):
        raise Permanent(
            "fhir-out takes transaction bundles", fix="in the route, name a mapping with target fhir", kind="syntax"
        )
    return bundle


def _read_transaction(sent: list[dict[str, Any]], answer: bytes) -> tuple[Counter[str], dict[str, str]]:
    """How many entries were created, updated, unchanged; and fullUrl -> ``Type/id`` of each."""
    done: Counter[str] = Counter()
    urls = {}
    for index, (entry, reply) in enumerate(zip(sent, fhir_plan.replies(answer, len(sent)), strict=True)):
        if not 200 <= reply["status"] < 300:
            raise _refusal(reply["status"], fhir.encode(reply["outcome"]), f"Bundle.entry[{index}]")
        place = re.search(r"([A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})(/_history/[^/]*)?$", reply["location"])
        if place and "fullUrl" in entry:
            urls[entry["fullUrl"]] = place[1]
        made = reply["status"] == 201
        done["created" if made else "unchanged" if entry["request"]["method"] == "POST" else "updated"] += 1
    return done, urls


def _refusal(status: int, body: bytes, at: str, retry_after: float | None = None) -> BridgeError:
    """What an HTTP status (of the answer, or of one entry) means for the delivery."""
    return http_client.failure(status, " ".join([f"HTTP {status}", *_issues(body)]), at, retry_after)


def _issues(body: bytes) -> list[str]:
    """Code and element of each OperationOutcome issue; not its texts, nor expressions that could quote a patient."""
    try:
        issues = fhir.decode(body).get("issue", [])
    except CodecError:
        return []
    found = []
    for issue in issues[:5]:
        code = str(issue.get("code", ""))
        places = [str(one) for one in issue.get("expression") or issue.get("location") or []]
        safe = [place for place in places[:3] if re.fullmatch(r"[A-Za-z][A-Za-z0-9.\[\]]{0,119}", place)]
        if re.fullmatch(r"[a-z-]{1,40}", code):
            found.append(" at ".join([code, *safe[:1]]))
    return found


def _build(settings: FhirOutSettings, services: Services) -> FhirOut:
    return FhirOut(settings)


FHIR_OUT = ChannelType("fhir-out", "out", FhirOutSettings, _build)
