"""What was created on a server, remembered by its identifiers: for searches that find it late (docs/fhir-client.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from bridge.codecs import fhir_plan
from bridge.errors import BridgeError
from bridge.state import State

log = structlog.get_logger(__name__)


class Created:
    """``Type/id`` of each resource that a write made, under each of its identifiers, for ``keep`` seconds."""

    def __init__(self, state: State, keep: float, channel: str) -> None:
        self._state, self._keep, self._channel = state, keep, channel
        self._unkept: dict[str, str] = {}
        """What the store could not take yet."""

    async def recall(self, entries: Iterable[Mapping[str, Any]]) -> list[str]:
        """What was created and bears an identifier that one of these bundle entries is found by.

        Raises StoreUnavailable.
        """
        keys = {_key(entry["resource"]["resourceType"], one) for entry in entries for one in fhir_plan.sought(entry)}
        if not keys or not self._keep:
            return []
        known = {**await self._state.get(keys), **{key: self._unkept[key] for key in keys & self._unkept.keys()}}
        return sorted(set(known.values()))

    async def remember(self, made: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what was made, by its place (``Type/id``). What the store cannot take now goes along with the next."""
        for place, resource in made.items() if self._keep else ():
            kind = resource["resourceType"]
            self._unkept |= {_key(kind, one): place for one in fhir_plan.borne(resource)}
        if not self._unkept:
            return
        kept = dict(self._unkept)
        try:
            await self._state.put(kept, self._keep)
        except BridgeError as error:
            log.warning("created_not_kept", channel=self._channel, what=error.what)
            return
        self._unkept = {key: place for key, place in self._unkept.items() if kept.get(key) != place}


def _key(kind: str, token: str) -> str:
    """No identifier of a patient stands in a key."""
    return "made:" + hashlib.blake2b(f"{kind}?{token}".encode(), digest_size=16).hexdigest()
