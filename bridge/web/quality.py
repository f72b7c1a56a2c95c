"""The API's part about data quality: what is wrong with the messages of each sender."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict

from bridge.store.quality import QualitySource, quality
from bridge.store.store import Store

WEEK = 7 * 86_400_000
router = APIRouter()


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="ignore")


class QualityFinding(_Shape):
    """One thing that is wrong with some of a sender's messages. Times are milliseconds since the epoch."""

    place: str
    """Field or segment; empty when the remark names none."""
    kind: str
    """As the kind of a Problem; ``remark`` for what was passed with a remark, empty where it was not kept."""
    outcome: Literal["refused", "undeliverable", "remarked"]
    what: str
    fix: str
    messages: int
    first: int
    last: int
    example: str
    """Id of the newest message."""
    control_id: str
    """Its MSH-10, by which the sender knows it."""


class Source(_Shape):
    """All that one sender sent over one channel."""

    channel: str
    sender: str
    """MSH-3|MSH-4; empty for what could not be read that far."""
    messages: int
    """Resends of the same message left out."""
    refused: int
    findings: list[QualityFinding]
    """The most frequent first."""


@router.get("/quality")
def data_quality(
    request: Request,
    since: Annotated[int, Query(description="Milliseconds since the epoch; 0: seven days ago.", ge=0)] = 0,
    channel: str = "",
) -> list[Source]:
    """What was refused, could not be delivered for its content or was remarked upon, by sender. No patient content."""
    store: Store = request.app.state.node.store
    start = since or time.time_ns() // 1_000_000 - WEEK
    found: list[QualitySource] = store.read(lambda connection: quality(connection, start, channel))
    return [Source.model_validate(asdict(source)) for source in found]
