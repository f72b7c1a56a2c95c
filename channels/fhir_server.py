"""``fhir-server``: the FHIR facade. Reads answer from a projection of resources that clients and mappings write.

What a client writes is a message, and takes effect in the transaction that accepts it. See docs/fhir-server.md.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import structlog
from pydantic import ByteSize, Field, HttpUrl, model_validator
from starlette.responses import Response
from starlette.websockets import WebSocket

from bridge.asgi import AsgiServer
from bridge.codecs.fhir import decode
from bridge.codecs.fhir_check import Release, load
from bridge.errors import BridgeError, CodecError, Permanent
from bridge.fhir import capability, openapi, outcome
from bridge.fhir.interaction import TYPES
from bridge.ports import Address, Answer, Apply, ChannelType, Outgoing, Receive, Services, SinkSettings, SourceSettings
from channels.fhir_access import AccessSettings, Authorise, anyone, this_machine
from channels.fhir_audit import Recorder
from channels.fhir_audit_reads import AuditReads
from channels.fhir_bundles import Bundles
from channels.fhir_exchange import Asked, moment, problem, told
from channels.fhir_notify import Notifier
from channels.fhir_profiles import Profiles, ProfileSettings
from channels.fhir_reads import Reads
from channels.fhir_routes import Routes, Table
from channels.fhir_subscribing import Subscribing, SubscriptionSettings
from channels.fhir_subscription_reads import WEBSOCKET, SubscriptionReads, websocket_url
from channels.fhir_tokens import Issuer, Tokens
from channels.fhir_writes import Writes
from channels.tls import Certificates, TlsSettings

log = structlog.get_logger(__name__)

_GRACE = 10.0
"""Seconds that requests under way have when the channel stops."""


class FhirServerSettings(SinkSettings, SourceSettings):
    takes: ClassVar[str] = "fhir"
    format: Literal["fhir"] = "fhir"
    """What clients write: FHIR resources."""
    lane: Literal["destination", "patient", "order"] = "patient"
    """What stays in sequence: everything, or what concerns the same patient or order."""
    path: str = Field(default="/fhir", pattern=r"^(/[A-Za-z0-9._~-]+)+$")
    """Where it is served."""
    listen: Address | None = None
    """An address of its own, such as 0.0.0.0:8443; without one the node's web server serves it (`web: listen`)."""
    tls: TlsSettings | None = None
    """Encrypt, on an address of its own: `certificate`, `key`, and `ca` whose certificates clients must show."""
    base_url: HttpUrl | None = None
    """How clients call it, for links in answers, such as https://his.example/fhir; without one, as each calls it."""
    release: Release = "R4"
    """R4 (4.0.1) or R5 (5.0.0). Our own mappings make R4."""
    max_size: ByteSize = Field(default=ByteSize(16 * 1024 * 1024), gt=0)
    """Larger bodies are answered 413 and not stored."""
    page: int = Field(default=500, ge=1, le=1000)
    """At most so many matches on a page, whatever `_count` asks for."""
    connections: int = Field(default=256, ge=1)
    """Connections at a time on an address of its own; further ones are answered 503."""
    access: AccessSettings | None = None
    """Who may use it: who shows a token of an authorization server. Without, all that is on this machine, and who shows
    a certificate (`tls: ca`)."""
    open: bool = False
    """Without `access`: whoever reaches it may read and write everything. For networks of trusted systems only."""
    subscriptions: SubscriptionSettings = SubscriptionSettings()
    """What clients may subscribe to, and where notifications may go. See docs/subscriptions.md."""
    profiles: ProfileSettings | None = None
    """Profiles that what is written here has to keep to."""

    @model_validator(mode="after")
    def _encrypts_what_it_listens_on(self) -> FhirServerSettings:
        if self.tls and self.listen is None:
            raise ValueError("`tls` needs an address of its own: add `listen`, or encrypt before the web server")
        return self


class FhirServer:
    """Source (what clients write), Projection (what mappings bring), and what answers reads."""

    def __init__(self, settings: FhirServerSettings, services: Services) -> None:
        self._settings, self._services = settings, services
        self._base = str(settings.base_url).rstrip("/") if settings.base_url else ""
        zone = ZoneInfo(services.site.timezone) if services.site else UTC
        self._store: Any = services.fhir.at(zone) if services.fhir else None
        subscriptions = services.subscriptions.at(zone) if services.subscriptions else None
        self._subscribing = Subscribing(
            self._store, subscriptions, services.name, settings.subscriptions, settings.release
        )
        self._notifier = Notifier(services.name, subscriptions, services.state, self._subscribing)
        self._told = SubscriptionReads(services.name, subscriptions, self._notifier.sockets)
        self._issuer = Issuer(settings.access) if settings.access else None
        self._profiles = Profiles(settings.profiles, services.name, settings.release)
        known = settings.open or (settings.tls and settings.tls.ca)
        self._authorise: Authorise = anyone if known else this_machine
        if settings.access and self._issuer:
            self._authorise = Tokens(settings.access, self._issuer)
        self._routes: Routes | None = None
        self._loading: asyncio.Task[None] | None = None
        """Of the models: requests wait for it."""
        self._recorder = Recorder(services.name, services.trail)
        self._since = moment(int(time.time() * 1000))
        self._stopping = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._server: AsgiServer | None = None
        if settings.listen:
            tls = Certificates(settings.tls, services.name, server=True).listening() if settings.tls else None
            most = settings.connections
            self._server = AsgiServer(self.application, settings.listen, connections=most, tls=tls, websockets=True)

    @property
    def mount(self) -> str:
        """Where the node's web server serves it; empty where it listens itself."""
        return "" if self._server else self._settings.path

    @property
    def endpoint(self) -> str:
        if self._server is None:
            return self._base or f"web:/{self._settings.path}"
        return f"http{'s' if self._settings.tls else ''}://{self._server.address}{self._settings.path}"

    def apply(self, tx: Any, outgoing: Outgoing) -> Answer:
        """Bring a transaction Bundle into the projection, inside the delivery's transaction. Raises Permanent."""
        fix = "name a mapping with `target: fhir` in the route"
        try:
            bundle = decode(outgoing.data)
        except CodecError as error:
            raise Permanent(error.what, at=error.at, fix=fix, kind="syntax") from None
        if (bundle.get("resourceType"), bundle.get("type")) != ("Bundle", "transaction"):
            raise Permanent("not a transaction Bundle", fix=fix, kind="syntax")
        delivery = outgoing.delivery
        self._profiles.let_pass(bundle, delivery.id)
        return Answer(self._store.apply(tx, bundle, message=delivery.message, at=delivery.created_at))

    def effect(self, data: bytes) -> Apply:
        return self._writes.effect(data)

    async def start(self, receive: Receive) -> None:
        """Serve. Raises BridgeError (kind ``settings``) when its address cannot be had."""
        settings = self._settings
        work, subscribing = self._services.work, self._subscribing
        self._writes = Writes(self._store, receive, work, settings.release, subscribing, self._profiles)
        self._routes = Routes(
            self._services.name,
            self._table(self._writes),
            base=self._base,
            release=settings.release,
            max_size=settings.max_size,
            authorise=self._authorise,
            recorder=self._recorder,
        )
        if self._server:
            await self._server.start()
        self._loading = asyncio.create_task(asyncio.to_thread(load, TYPES, settings.release))
        if self._services.subscriptions:
            self._notifier.start()
        self._recorder.start()
        log.info("fhir_server_started", channel=self._services.name, endpoint=self.endpoint)

    async def stop(self) -> None:
        """Returns when the requests under way are answered, or after ten seconds."""
        self._stopping = True
        await self._notifier.stop()
        if self._server:
            await self._server.stop()
        try:
            async with asyncio.timeout(_GRACE):
                await self._idle.wait()
        except TimeoutError:
            log.warning("fhir_requests_cut_off", channel=self._services.name, count=self._under_way)
        if self._loading:
            await self._loading
        self._routes = None
        await self._recorder.stop()

    async def close(self) -> None:
        if self._issuer:
            await self._issuer.close()

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI, for this channel's own server and the node's."""
        routes, path = self._routes, self._settings.path
        asked = scope.get("path", "")
        if scope["type"] == "websocket":
            open_ = routes is not None and asked == f"{path}{WEBSOCKET}"
            await self._notifier.sockets.serve(WebSocket(scope, receive, send), self._authorise if open_ else None)
            return
        if scope["type"] != "http":
            return
        if not (asked == path or asked.startswith(f"{path}/")):
            error = outcome.HttpFault(404, "nothing here", at="http.path", fix=f"ask below {path}")
            await problem(error)(scope, receive, send)
            return
        if routes is None or self._loading is None or self._stopping:
            await problem(_stops())(scope, receive, send)
            return
        self._under_way += 1
        self._idle.clear()
        try:
            await asyncio.shield(self._loading)
            inside = {**scope, "root_path": path, "path": f"{path}/" if asked == path else asked}
            await routes.application(inside, receive, send)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def _table(self, writes: Writes) -> Table:
        reads = Reads(self._store, self._settings.page)
        bundles = Bundles(writes, self._handle)
        records = AuditReads(self._services.trail, self._services.site, self._settings.page)
        one = {"GET": reads.read, "PUT": writes.update, "PATCH": writes.patch, "DELETE": writes.delete}
        everything = {"GET": reads.everything, "POST": reads.everything}
        return {
            "/": {"POST": bundles.take},
            "/metadata": {"GET": self._metadata},
            "/.well-known/smart-configuration": {"GET": self._smart},
            "/openapi.json": {"GET": self._openapi},
            "/audit/AuditEvent": {"GET": records.search},
            "/audit/AuditEvent/{id}": {"GET": records.read},
            "/_history": {"GET": reads.history},
            "/Patient/{id}/$everything": everything,
            **self._told.table(),
            "/{kind}/_history": {"GET": reads.history},
            "/{kind}/_search": {"POST": reads.search},
            "/{kind}/$validate": {"POST": writes.judge},
            "/{kind}/{id}/$validate": {"GET": writes.judge, "POST": writes.judge},
            "/{kind}/{id}/_history": {"GET": reads.history},
            "/{kind}/{id}/_history/{version}": {"GET": reads.read},
            "/{kind}/{id}": one,
            "/{kind}": {
                "GET": reads.search,
                "POST": writes.create,
                "PUT": writes.update,
                "PATCH": writes.patch,
                "DELETE": writes.delete,
            },
        }

    async def _handle(self, asked: Asked) -> Response:
        if self._routes is None:
            return problem(_stops())
        return await self._routes.handle(asked)

    async def _metadata(self, asked: Asked) -> Response:
        """The CapabilityStatement (R4 capabilitystatement.html)."""
        mode = dict(asked.query).get("mode", "full")
        if mode not in ("full", "normative", "terminology"):
            raise BridgeError("no such mode", at="mode", fix="ask for full or normative", kind="search")
        issuer = await self._issuer.described() if self._issuer else None
        websocket = websocket_url(asked.base) if self._settings.release == "R4" else ""
        found = capability.statement(self._settings.release, asked.base, self._since, websocket, issuer)
        return told(found, pretty=asked.pretty)

    async def _smart(self, asked: Asked) -> Response:
        """Where tokens are to be had (SMART App Launch 2.2, conformance)."""
        if self._issuer is None:
            raise outcome.HttpFault(404, "no token is needed here", at="http.path")
        return told(capability.smart(await self._issuer.described()), pretty=asked.pretty)

    async def _openapi(self, asked: Asked) -> Response:
        return told(openapi.document(self._settings.release, asked.base), pretty=asked.pretty)


def _stops() -> BridgeError:
    return BridgeError("the channel starts or stops", fix="try again", kind="unavailable")


FHIR_SERVER = ChannelType("fhir-server", "both", FhirServerSettings, FhirServer, role="web")
