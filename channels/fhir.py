"""``fhir-out``: brings FHIR R4 transaction bundles to a server's base URL.

Each send first reads what the bundle is about (one batch), then posts one transaction with what differs, so that a
repeat writes nothing and an older report never replaces a newer one: ``bridge/codecs/fhir_plan.py``,
docs/fhir-client.md.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar, Literal

from pydantic import Field

from bridge.codecs import fhir, fhir_plan
from bridge.errors import CodecError, Permanent
from bridge.ports import Answer, ChannelType, Duration, Outgoing, Services, SinkSettings
from channels.fhir_client import Conflict, FhirClient, FhirClientSettings, refusal
from channels.fhir_created import Created
from channels.fhir_profiles import Profiles, ProfileSettings

_AT_ONCE = 3
"""Times that a write is planned anew at once, because somebody changed what had been read."""


class FhirOutSettings(FhirClientSettings, SinkSettings):
    """A FHIR R4 server that takes transactions."""

    takes: ClassVar[str] = "fhir"
    lane: Literal["destination", "patient", "order"] = "patient"
    """What keeps its sequence: everything, or each patient's or each order's deliveries."""
    read_first: bool = True
    """Read before writing. Off, for servers that only take writes, every repeat is written again and nothing holds
    back a late preliminary."""
    remember: Duration = Field(7 * 86_400.0, ge=0)
    """How long what was created is known by its identifiers: a server whose search finds it late gets no second one. 0:
    not at all."""
    max_entries: int = Field(0, ge=0)
    """Entries that the server takes in one transaction; longer bundles go out as several, what is referred to first."""
    profiles: ProfileSettings | None = None
    """Profiles that what goes out has to keep to."""


class FhirOut:
    def __init__(self, settings: FhirOutSettings, services: Services) -> None:
        self._client = FhirClient(settings)
        self._created = Created(services.state, settings.remember if settings.read_first else 0, services.name)
        self._read_first, self._size = settings.read_first, settings.max_entries
        self._profiles = Profiles(settings.profiles, services.name)

    @property
    def endpoint(self) -> str:
        return self._client.endpoint

    async def send(self, outgoing: Outgoing) -> Answer:
        """Write the bundle's difference; the summary counts what was done.

        Raises Unreachable (no connection, no token, 401, 429, 502, 503), Uncertain (sent, but no answer), Temporary
        (408, 425, other 5xx; 409 and 412 that reading anew did not settle) or Permanent (other 4xx, not a transaction
        bundle, or one that a profile refuses).
        """
        bundle = _bundle(outgoing.data)
        await self._profiles.let_out(bundle, outgoing.delivery.id)
        for _ in range(_AT_ONCE if self._read_first else 0):
            try:
                return await self._bring(bundle)
            except Conflict as conflict:
                if conflict.retry_after:
                    raise
        return await self._bring(bundle)

    async def _bring(self, bundle: dict[str, Any]) -> Answer:
        plan = await self._plan(bundle) if self._read_first else fhir_plan.unread(bundle)
        done: Counter[str] = Counter(unchanged=plan.unchanged, superseded=plan.superseded)
        urls: dict[str, str] = {}
        status = 0
        for part in fhir_plan.parts(plan.entries, self._size):
            sent = fhir_plan.resolve(part, urls)
            response = await self._client.post(fhir_plan.transaction(sent), "return=minimal")
            status = response.status_code
            replies = _succeeded(response.content, len(sent))
            done.update(_done(entry, reply) for entry, reply in zip(sent, replies, strict=True))
            places = zip(sent, map(_place, replies), strict=True)
            made = {at: entry for entry, at in places if at and "fullUrl" in entry}
            urls |= {entry["fullUrl"]: at for at, entry in made.items()}
            await self._created.remember({at: entry["resource"] for at, entry in made.items()})
        counts = " ".join(f"{done[word]} {word}" for word in _WORDS if done[word])
        head = f"{status} transaction" if status else "nothing to write"
        return Answer(f"{head} {len(bundle['entry'])} entries: {counts}")

    async def _plan(self, bundle: dict[str, Any]) -> fhir_plan.Plan:
        current = fhir_plan.found(bundle, await self._client.read(fhir_plan.queries(bundle)))
        unfound = [entry for entry, old in zip(bundle["entry"], current, strict=True) if old is None]
        if made := await self._created.recall(unfound):
            current = fhir_plan.recalled(bundle, current, await self._resources(made))
        orphans = await self._resources(fhir_plan.retracted(bundle, current))
        known: dict[str, dict[str, Any] | None] = {}
        while references := fhir_plan.patients(bundle, current, known):
            known |= dict.fromkeys(references)
            known |= {f"Patient/{one['id']}": one for one in await self._resources(references)}
        return fhir_plan.plan(bundle, current, orphans, known)

    async def _resources(self, references: list[str]) -> list[dict[str, Any]]:
        """Those of ``references`` (``Type/id``) that the server has."""
        if not references:
            return []
        answer = await self._client.read(fhir_plan.batch(references))
        replies = fhir_plan.replies(answer, len(references))
        return [one["resource"] for one in replies if one["status"] == 200 and one["resource"]]

    async def close(self) -> None:
        await self._client.close()


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


def _succeeded(answer: bytes, count: int) -> list[dict[str, Any]]:
    """What the server answered to each of ``count`` entries. Raises for the first that failed: a transaction has none,
    whatever its own status says."""
    replies = fhir_plan.replies(answer, count)
    for index, reply in enumerate(replies):
        if not 200 <= reply["status"] < 300:
            raise refusal(reply["status"], fhir.encode(reply["outcome"]), f"Bundle.entry[{index}]")
    return replies


def _done(entry: dict[str, Any], reply: dict[str, Any]) -> str:
    if reply["status"] == 201:
        return "created"
    return "unchanged" if entry["request"]["method"] == "POST" else "updated"


def _place(reply: dict[str, Any]) -> str | None:
    """``Type/id`` of what an entry is about, if the server tells."""
    found = re.search(r"([A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})(/_history/[^/]*)?$", reply["location"])
    return found[1] if found else None


FHIR_OUT = ChannelType("fhir-out", "out", FhirOutSettings, FhirOut)
