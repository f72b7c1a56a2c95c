"""The API's part about code tables: the codes that they lack."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict

from bridge.store.store import Store
from bridge.store.unmapped import UnmappedCode as Counted
from bridge.store.unmapped import unmapped_codes
from bridge.web.quality import WEEK

router = APIRouter()


class UnmappedCode(BaseModel):
    """One code that a table has no row for, and how often it was met."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="ignore")

    table: str
    columns: str
    """The key columns, parted by commas."""
    code: str
    """The keys, parted by ``|``; empty where they are not kept, as of the patient's own segments."""
    outcome: Literal["passed", "emptied", "replaced", "parked", "refused"]
    messages: int
    """Once for each destination, and once more for each replay."""
    last: int
    """Milliseconds since the epoch."""
    example: str
    """Id of the newest message."""


@router.get("/unmapped")
def unmapped(
    request: Request,
    since: Annotated[int, Query(description="Milliseconds since the epoch; 0: seven days ago.", ge=0)] = 0,
    table: str = "",
) -> list[UnmappedCode]:
    """The codes that a table has no row for, how often they came and what was done. Counted by whole days (UTC)."""
    store: Store = request.app.state.node.store
    start = since or time.time_ns() // 1_000_000 - WEEK
    found: list[Counted] = store.read(lambda connection: unmapped_codes(connection, start, table))
    return [UnmappedCode.model_validate(asdict(one)) for one in found]
