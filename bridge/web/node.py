"""What the web end needs of the node that it is part of."""

from __future__ import annotations

from typing import Protocol

from bridge.engine.operations import Operations
from bridge.engine.runtime import Runtime
from bridge.settings import Loaded
from bridge.store.store import Store


class Node(Protocol):
    """A node that runs; :class:`bridge.app.Node` is one."""

    store: Store
    runtime: Runtime
    operations: Operations
    token: str
    """Of the API."""

    @property
    def loaded(self) -> Loaded:
        """The files of the revision that runs."""
        ...
