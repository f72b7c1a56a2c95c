"""The API's part about shadow runs: start one, see what it found, sign it off.

A run takes seconds of CPU, so it is a process of its own: the command's ``shadow``. One at a time, kept by the node
that was asked until the next one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from bridge.engine.shadow import Report
from bridge.errors import BridgeError, NotFound
from bridge.settings import load
from bridge.store.retention import now_millis
from bridge.web.node import Node
from bridge.web.schemas import Problem

ACTOR = "api"
MOST = 20_000
router = APIRouter()


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="ignore")


class _Request(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")


class Start(_Request):
    """Which received messages are translated."""

    last: Annotated[int, Field(ge=1, le=MOST)] = 2000
    """The newest so many."""
    since: str = ""
    """In place of ``last``: all since ``2h``, ``7d``, ``14:00`` or ``2024-01-31``."""


class Difference(_Shape):
    """One thing that would be different for some messages."""

    destination: str
    what: str
    messages: int
    example: str
    """Id of a message."""


class Shadow(_Shape):
    """A shadow run: what the files on disk would change."""

    state: Literal["running", "done", "failed"]
    started: int
    """Milliseconds since the epoch."""
    running: str = ""
    """The revision that runs."""
    candidate: str = ""
    """The revision of the files on disk."""
    messages: int = 0
    changed: int = 0
    """Of these, how many would make any difference."""
    unread: int = 0
    """Of these, how many this version cannot read any more."""
    differences: list[Difference] = []
    """By destination, the most frequent first."""
    error: Problem | None = None
    """Why it failed."""


class SignOff(_Request):
    """Somebody looked at what a revision would change, and agrees."""

    candidate: str
    """The revision that was looked at."""
    why: str


class SignedOff(_Shape):
    candidate: str
    why: str


class Runs:
    """The newest shadow run of a node."""

    def __init__(self) -> None:
        self.newest: Shadow | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, arguments: list[str]) -> Shadow:
        """Raises BridgeError while another one runs."""
        if self.newest is not None and self.newest.state == "running":
            raise BridgeError("a shadow run is under way", fix="wait for its end", kind="locked")
        self.newest = Shadow(state="running", started=now_millis())
        self._task = asyncio.create_task(self._run(self.newest.started, arguments))
        return self.newest

    async def _run(self, started: int, arguments: list[str]) -> None:
        command = (sys.executable, "-m", "bridge.cli", "shadow", "--json", *arguments)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        out, told = await process.communicate()
        found: dict[str, Any] = {}
        try:
            found = json.loads(out)
        except ValueError:
            lines = told.decode(errors="replace").strip().splitlines()
            found["error"] = {"kind": "internal", "what": lines[-1] if lines else "it ended without a result"}
        state = "failed" if "error" in found else "done"
        self.newest = Shadow.model_validate({**found, "state": state, "started": started})


@router.post("/shadow")
async def start(request: Request, wanted: Start) -> Shadow:
    """Translate received messages by the files on the node's disk, in the background; nothing is sent."""
    node: Node = request.app.state.node
    runs: Runs = request.app.state.shadow
    which = [f"--since={wanted.since}"] if wanted.since else [f"--last={wanted.last}"]
    return runs.start([*which, f"--config={node.loaded.path}"])


@router.get("/shadow")
async def result(request: Request) -> Shadow:
    """The newest shadow run that this node was asked for: whether it runs still, and what it found."""
    runs: Runs = request.app.state.shadow
    if runs.newest is None:
        raise NotFound("no shadow run since this node started", fix="POST /api/shadow starts one")
    return runs.newest


@router.post("/shadow/sign-off")
def sign_off(request: Request, wanted: SignOff) -> SignedOff:
    """Record that what the newest shadow run found is what was wanted; ``signed_off`` of a deploy asks for it."""
    node: Node = request.app.state.node
    runs: Runs = request.app.state.shadow
    seen, disk = runs.newest, load(node.loaded.path)
    if seen is None or seen.state != "done" or seen.candidate != wanted.candidate:
        raise NotFound(f"no shadow run of {wanted.candidate} to sign off", fix="POST /api/shadow, and see its result")
    if disk.revision != wanted.candidate:
        raise BridgeError(f"the files on disk are {disk.revision} now", fix="run it again", kind="locked")
    node.store.keep_revision(disk.revision, disk.files)
    report = Report(seen.messages, seen.changed, seen.unread)
    node.operations.deployments.sign_off(disk.revision, report, against=seen.running, actor=ACTOR, why=wanted.why)
    return SignedOff(candidate=disk.revision, why=wanted.why)
