"""The API's part about revisions: what runs, what ran, and letting another one run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from bridge.engine.deployments import Change, Deployments, unified
from bridge.errors import BridgeError, SettingsError
from bridge.settings import load
from bridge.store.revisions import Deployment as Made
from bridge.web.node import Node

ACTOR = "api"
router = APIRouter()


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="ignore")


class _Request(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")


class Deployment(_Shape):
    """One revision made the one that runs. Times are milliseconds since the epoch."""

    number: int
    at: int
    kind: Literal["start", "deploy", "rollback"]
    revision: str
    former: str
    """The revision that ran before; empty for the first."""
    actor: str
    why: str
    refused: str
    """Why a node could not take it over; empty: it holds."""


class Revisions(_Shape):
    """What runs, and what ran before."""

    running: str
    """Of the node that answers."""
    on_disk: str
    """Of the files on the node's disk; another one, if they were changed and not deployed, or rolled back."""
    deployments: list[Deployment]
    """The newest first."""


class Diff(_Shape):
    diff: str
    """As ``diff -u`` shows it; empty if nothing differs."""


class Deploy(_Request):
    why: str
    """The reason; kept with it."""
    signed_off: bool = False
    """Only if somebody signed off a shadow run of it."""


class Rollback(_Request):
    why: str
    """The reason; kept with it."""
    revision: str = ""
    """The beginning of its id; empty: the one that ran before."""


class Deployed(_Shape):
    """What runs now, and what that changed."""

    revision: str
    former: str
    changed: bool
    """``false``: it ran already."""
    starts: list[str] = []
    """Channels that are new."""
    restarts: list[str] = []
    """Channels whose connections ended, because their settings changed."""
    stops: list[str] = []
    """Channels that are no more."""
    at_start: list[str] = []
    """Sections that take effect when the engine is started the next time."""
    nodes: list[str] = []
    """Those that serve it."""
    silent: list[str] = []
    """Those that have not taken it over yet."""


@router.get("/revisions")
def revisions(request: Request) -> Revisions:
    """Which revision runs, and which ran before: who deployed it, when and why."""
    node: Node = request.app.state.node
    found = [Deployment.model_validate(asdict(one)) for one in node.operations.deployments.history()]
    return Revisions(running=node.runtime.plan.revision, on_disk=load(node.loaded.path).revision, deployments=found)


@router.get("/revisions/{revision}/diff")
def diff(request: Request, revision: str, to: str = "") -> Diff:
    """The differences of a revision and another one, by default the files on the node's disk."""
    node: Node = request.app.state.node
    deployments = node.operations.deployments
    after = deployments.files(to) if to else load(node.loaded.path).files
    return Diff(diff=unified(deployments.files(revision), after))


@router.post("/deploy")
def deploy(request: Request, wanted: Deploy) -> Deployed:
    """Let the files on the node's disk run. Refused for an error in them, and for a case that does not hold."""
    node: Node = request.app.state.node
    deployments = node.operations.deployments
    try:
        change = deployments.prepare(load(node.loaded.path))
    except SettingsError as error:
        raise _first(error) from None
    made = deployments.deploy(change, actor=ACTOR, why=wanted.why, signed_off=wanted.signed_off)
    return _deployed(deployments, change, made)


@router.post("/rollback")
def rollback(request: Request, wanted: Rollback) -> Deployed:
    """Let an older revision run again. The files on disk stay as they are."""
    node: Node = request.app.state.node
    deployments = node.operations.deployments
    change = deployments.compare(deployments.older(wanted.revision, node.loaded.folder))
    return _deployed(deployments, change, deployments.rollback(change, actor=ACTOR, why=wanted.why))


def _deployed(deployments: Deployments, change: Change, made: Made) -> Deployed:
    """How the nodes took it. Raises BridgeError if it was refused."""
    if change.revision == change.former:
        return Deployed(revision=change.revision, former=change.former, changed=False)
    outcome = deployments.outcome(made)
    return Deployed.model_validate({**asdict(change), **asdict(outcome), "changed": True})


def _first(error: SettingsError) -> BridgeError:
    """The first problem of several, which the command tells all at once."""
    finding, *others = error.findings
    more = f" ({len(others)} more)" if others else ""
    place = f"{finding.file}:{finding.line}:{finding.column}"
    return BridgeError(f"{finding.what}{more}", at=place, fix=finding.fix or "run `radbridge check`", kind="settings")
