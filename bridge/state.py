"""What a channel may keep beyond a restart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol


class State(Protocol):
    """What one channel keeps beyond a restart, the same on every node: small JSON values by key."""

    async def get(self, keys: Collection[str]) -> Mapping[str, Any]:
        """The values that are kept under ``keys``. Raises StoreUnavailable."""
        ...

    async def put(self, values: Mapping[str, Any], keep: float | None = None) -> None:
        """Keep ``values`` by key (at most 255 characters) instead of what was there, for ``keep`` seconds (None: for
        good); returns once synced. Raises StoreUnavailable or Overloaded."""
        ...

    async def turn(self, seconds: float) -> bool:
        """Whether this node is the only one to work for the channel in the next ``seconds``; 0 gives the turn back."""
        ...


class MemoryState:
    """A :class:`State` that ends with the process."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    async def get(self, keys: Collection[str]) -> Mapping[str, Any]:
        return {key: self._values[key] for key in keys if key in self._values}

    async def put(self, values: Mapping[str, Any], keep: float | None = None) -> None:
        self._values.update(values)

    async def turn(self, seconds: float) -> bool:
        return True
