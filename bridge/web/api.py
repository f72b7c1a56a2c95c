"""The admin API: the same acts as the command's, for programs. Everything under ``/api`` needs the bearer token."""

from __future__ import annotations

import hmac
from base64 import b64encode
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from bridge import __version__
from bridge.engine.operations import ReplayRequest
from bridge.errors import BridgeError, NotFound
from bridge.lint import findings_of
from bridge.ports import Effective, Inbound, Pinging, SourceSettings
from bridge.store.search import MessageFilter
from bridge.web import health, identity, quality, revisions, schemas, shadow, unmapped
from bridge.web.node import Node

ACTOR = "api"
LARGEST = 64 << 20
"""Bytes of a message that is handed in."""

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": schemas.Problem, "description": text}
    for code, text in (
        (401, "No valid token"),
        (404, "Not known"),
        (409, "Not possible now"),
        (422, "Not understood"),
        (503, "The store is away or full"),
    )
}


class _NoToken(BridgeError):
    kind = "forbidden"


def make_api(node: Node) -> FastAPI:
    """The ASGI application of a node that is running."""
    api = FastAPI(
        title="Radbridge",
        version=__version__,
        summary="Messages, deliveries and the worklist of one node.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    api.state.node = node
    api.state.shadow = shadow.Runs()
    api.include_router(router)
    api.include_router(health.router)
    api.add_exception_handler(BridgeError, _tell)
    api.add_exception_handler(RequestValidationError, _not_understood)
    api.add_exception_handler(HTTPException, _not_here)
    return api


def _node(request: Request) -> Node:
    node: Node = request.app.state.node
    return node


Running = Annotated[Node, Depends(_node)]
"""The node that is served."""

_bearer = HTTPBearer(auto_error=False, description="The token that the first start showed, or the configured one.")


def _with_token(node: Running, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    if shown is None or not hmac.compare_digest(shown.credentials.encode(), node.token.encode()):
        raise _NoToken("no valid token", at="Authorization", fix="send Authorization: Bearer and the API token")


router = APIRouter(prefix="/api", dependencies=[Depends(_with_token)], responses=_PROBLEMS)
router.include_router(identity.router)
router.include_router(quality.router)
router.include_router(revisions.router)
router.include_router(shadow.router)
router.include_router(unmapped.router)


@router.get("/status")
def status(node: Running) -> schemas.Status:
    """The node, its channels, and what waits or is dead."""
    return health.status_of(node)


@router.get("/messages")
def messages(node: Running, wanted: Annotated[schemas.MessageQuery, Query()]) -> list[schemas.MessageSummary]:
    """Received messages without content, the newest first; ``before`` is the last id of the page before."""
    return [schemas.MessageSummary(**row) for row in node.operations.messages(MessageFilter(**wanted.model_dump()))]


@router.get("/messages/{identifier}")
def message(node: Running, identifier: str) -> schemas.MessageDetail:
    """One message with its content and all that became of it. Seeing it is audited."""
    return schemas.MessageDetail.of(node.operations.message(identifier, actor=ACTOR))


@router.get("/deliveries")
def deliveries(
    node: Running,
    status: Literal["dead", "pending"] = "dead",
    destination: str = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[schemas.OpenDelivery]:
    """Deliveries that gave up, or that are still on their way, in the sequence of their lanes."""
    found = node.store.deliveries(status=status, destination=destination, limit=limit)
    return [schemas.OpenDelivery(**row) for row in found]


@router.post("/replay/preview")
def preview(node: Running, wanted: schemas.Replay) -> list[schemas.ReplayPreview]:
    """What a replay would send, byte by byte, and what stands against it; nothing is sent. Audited."""
    return [
        schemas.ReplayPreview(
            message=one.message,
            type=one.type,
            destination=one.destination,
            mapping=one.mapping,
            replaces=one.replaces,
            content=schemas.as_text(one.data),
            content_base64=b64encode(one.data).decode(),
            error=schemas.Problem(**one.error) if one.error else None,
            later=[schemas.Newer(**newer) for newer in one.later],
        )
        for one in node.operations.preview(_request(wanted), actor=ACTOR)
    ]


@router.post("/replay")
def replay(node: Running, wanted: schemas.Replay) -> schemas.Replayed:
    """Send again. A dead delivery goes back to its own place in its lane; anything else joins the end."""
    return schemas.Replayed(deliveries=node.operations.replay(_request(wanted), actor=ACTOR))


def _request(wanted: schemas.Replay) -> ReplayRequest:
    return ReplayRequest(
        deliveries=tuple(wanted.deliveries),
        messages=tuple(wanted.messages),
        destinations=tuple(wanted.destinations),
        new_control_id=wanted.new_control_id,
    )


@router.post("/skip")
def skip(node: Running, wanted: schemas.Skip) -> schemas.Skipped:
    """Give up dead deliveries for good, so that what waits behind them goes on."""
    return schemas.Skipped(skipped=node.operations.skip(wanted.deliveries, actor=ACTOR, reason=wanted.reason))


@router.get("/worklist")
def worklist(
    node: Running,
    station: str = "",
    date: Annotated[str, Query(description="yyyymmdd or yyyymmdd-yyyymmdd; empty: any.")] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[schemas.Step]:
    """Scheduled procedure steps, whatever their status. Seeing them is audited."""
    found = node.operations.worklist(actor=ACTOR, station=station, date=date, limit=limit)
    served = node.store.worklist.served_to([item.id for item in found])
    return [
        schemas.Step(
            status=item.status.value,
            attributes=item.attributes,
            given_to=[schemas.Fetch(**asdict(fetch)) for fetch in served.get(item.id, ())],
        )
        for item in found
    ]


@router.post("/systems/{name}/ping", responses={404: {"model": schemas.Problem}, 503: {"model": schemas.Problem}})
def ping(node: Running, name: str) -> schemas.Pong:
    """Ask a DICOM system whether it is there (C-ECHO)."""
    system = node.runtime.plan.config.systems.get(name)
    end = next((end for end in node.runtime.ends.made.values() if isinstance(end, Pinging)), None)
    values = system.values if system else {}
    if end is None or not values.get("dicom"):
        raise NotFound(
            f"no DICOM system {name} to ask",
            fix="add `dicom: {address: host:port}` to it, and a dicom-worklist channel",
        )
    return schemas.Pong(ms=round(end.ping(values["ae_title"], values["dicom"]), 1))


@router.post(
    "/channels/{name}/messages",
    status_code=201,
    response_model=schemas.Received,
    responses={
        200: {"model": schemas.Received, "description": "Known already; nothing was processed twice"},
        413: {"model": schemas.Problem, "description": "Too large"},
        422: {"model": schemas.NotReceived, "description": "Refused, and kept as such"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def receive(node: Running, name: str, request: Request) -> Response:
    """Hand a message to a channel as if its sender had sent it: for a message that was mended by hand."""
    settings = node.runtime.plan.config.channels.get(name)
    if not isinstance(settings, SourceSettings):
        raise NotFound(f"no channel {name} that receives", fix="GET /api/status lists the channels")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > LARGEST:
            too_large = schemas.Problem(
                kind="overload", what="the message is too large", fix=f"send {LARGEST} bytes at most"
            )
            return JSONResponse(too_large.model_dump(), 413, {"connection": "close"})
    end = node.runtime.ends.made.get(name)
    effect = end.effect(bytes(data)) if isinstance(end, Effective) else None
    reply = await node.runtime.receiver(name)(Inbound(bytes(data), ACTOR, effect))
    answer = schemas.as_text(reply.body)
    if reply.error:
        refused = schemas.NotReceived(**reply.error.as_dict(), message=reply.message, answer=answer)
        return JSONResponse(refused.model_dump(), reply.error.face.http)
    taken = schemas.Received(message=reply.message, duplicate=reply.duplicate, answer=answer)
    return JSONResponse(taken.model_dump(), 200 if reply.duplicate else 201)


@router.get("/check")
def check(node: Running) -> schemas.Checked:
    """What is to be said about the revision that runs: its warnings."""
    findings = findings_of(node.loaded)
    shown = [schemas.CheckFinding.model_validate(finding, from_attributes=True) for finding in findings]
    return schemas.Checked(revision=node.loaded.revision, findings=shown)


async def _tell(_: Request, error: Exception) -> Response:
    assert isinstance(error, BridgeError)
    if isinstance(error, _NoToken):
        return JSONResponse(error.as_dict(), 401, {"www-authenticate": "Bearer"})
    headers = {"retry-after": "5"} if error.face.http == 503 else None
    return JSONResponse(error.as_dict(), error.face.http, headers)


async def _not_understood(_: Request, error: Exception) -> Response:
    """The first thing that is wrong with a request; what was sent is not repeated, it may hold patient content."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return JSONResponse(schemas.Problem(kind="datatype", what=first["msg"], at=place).model_dump(), 422)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = "unknown_key" if error.status_code == 404 else "message_type"
    problem = schemas.Problem(kind=kind, what=str(error.detail), at=request.url.path, fix="see /api/openapi.json")
    return JSONResponse(problem.model_dump(), error.status_code, error.headers)
