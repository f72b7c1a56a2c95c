"""What the channels of a node keep in its store (:class:`bridge.state.State`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.store.store import Store


@dataclass(frozen=True, slots=True)
class StoredState:
    store: Store
    channel: str
    node: str
    """Who takes the channel's turns; empty where no other node serves the database."""

    async def get(self, keys: Collection[str]) -> Mapping[str, Any]:
        return await self.store.channel_state(self.channel, keys)

    async def put(self, values: Mapping[str, Any], keep: float | None = None) -> None:
        await self.store.keep_channel_state(self.channel, values, keep)

    async def turn(self, seconds: float) -> bool:
        return not self.node or await self.store.channel_turn(self.channel, self.node, seconds)
