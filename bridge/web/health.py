"""Health, metrics and the status page: open to whoever reaches the port, so they show names and ids, never content."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bridge import __version__
from bridge.engine.ends import receives
from bridge.errors import BridgeError, StoreUnavailable
from bridge.web import page, schemas
from bridge.web.node import Node

router = APIRouter()

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


@router.get("/healthz")
async def healthz() -> schemas.Alive:
    """The process is alive."""
    return schemas.Alive()


@router.get("/readyz", responses={503: {"model": schemas.Ready, "description": "Not ready"}})
def readyz(request: Request) -> schemas.Ready:
    """Whether messages can be received here: the store can be written, every channel listens."""
    ready = readiness(request.app.state.node)
    return ready if ready.ready else JSONResponse(ready.model_dump(), 503)  # type: ignore[return-value]


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """For Prometheus."""
    with suppress(StoreUnavailable):
        request.app.state.node.runtime.refresh_metrics()
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
def status_page(request: Request) -> HTMLResponse:
    """What the on-call person sees first."""
    node = request.app.state.node
    ready = readiness(node)
    try:
        text = page.render(status_of(node), ready, node.loaded.config.site.timezone)
    except StoreUnavailable as error:
        text = page.unavailable(schemas.Problem.of(error))
    return HTMLResponse(text, headers=_HEADERS)


def readiness(node: Node) -> schemas.Ready:
    """Ready, or every reason why not. Blocks on the database."""
    reasons: list[schemas.Problem] = []
    try:
        node.store.ping()
    except BridgeError as error:
        reasons.append(schemas.Problem.of(error))
    for name, settings in node.runtime.plan.config.channels.items():
        if receives(settings.type, node.runtime.roles) and name not in node.runtime.sources:
            reasons.append(schemas.Problem(kind="unavailable", what="the channel does not listen", at=name))
    return schemas.Ready(ready=not reasons, reasons=reasons)


def status_of(node: Node) -> schemas.Status:
    """The node at a glance. Blocks on the database; raises StoreUnavailable."""
    runtime, found = node.runtime, node.operations.status()
    endpoints, away = runtime.endpoints(), runtime.away()
    return schemas.Status(
        site=node.loaded.config.site.name,
        version=__version__,
        revision=runtime.plan.revision,
        node=runtime.owner,
        roles=sorted(runtime.roles),
        channels=[
            schemas.Channel(
                name=name,
                type=settings.type,
                system=settings.system,
                endpoint=endpoints.get(name, ""),
                state=_state(node, name, away),
            )
            for name, settings in runtime.plan.config.channels.items()
        ],
        lanes=[schemas.Lane(**lane) for lane in found["lanes"]],
        messages=schemas.Odd(**found["messages"]),
    )


def _state(node: Node, name: str, away: dict[str, Any]) -> Literal["listens", "sends", "away", "elsewhere"]:
    if name in node.runtime.sources:
        return "listens"
    if name in away:
        return "away"
    return "sends" if name in node.runtime.deliverers else "elsewhere"
