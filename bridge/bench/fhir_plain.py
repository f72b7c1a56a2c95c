"""What FastAPI and uvicorn do at best: the same bytes over HTTP, with nothing behind them.

``python -m bridge.bench.fhir_plain`` reads a JSON object on its standard input, method and URL (or a method alone) ->
body, and prints its port once it listens.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

_MEDIA = "application/fhir+json; charset=utf-8"


def application(bodies: Mapping[str, bytes]) -> FastAPI:
    """Answers each request with the body for its URL, or for its method."""
    app = FastAPI(openapi_url=None)

    async def serve(request: Request) -> Response:
        await request.body()
        query = request.url.query
        asked = f"{request.method} {request.url.path}{'?' if query else ''}{query}"
        return Response(bodies.get(asked) or bodies[request.method], media_type=_MEDIA)

    app.add_api_route("/{path:path}", serve, methods=["GET", "POST", "PUT"])
    return app


def main() -> None:
    bodies = {asked: body.encode() for asked, body in json.loads(sys.stdin.readline()).items()}
    bound = socket.create_server(("127.0.0.1", 0))
    print(bound.getsockname()[1], flush=True)
    config = uvicorn.Config(application(bodies), log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run([bound])


if __name__ == "__main__":
    main()
