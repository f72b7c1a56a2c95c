"""Who asks a ``fhir-server``, and what that caller may do and see: the one place where it is decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, SecretStr
from starlette.requests import Request

from bridge.fhir.outcome import HttpFault
from bridge.fhir.rights import EVERYTHING, Act, Forbidden, Rights, check_search, rights
from bridge.ports import LocalPath, Names

Doing = Act | Literal["write"]
"""``write`` stands for create, update and delete, whichever it turns out to be."""


def _searches(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        check_search(name)
    return names


class ClientSettings(BaseModel):
    """What one client may do and see."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    sees: Annotated[Names, AfterValidator(_searches)] = ()
    """Whose patients' data it sees: of patients for whom one of these searches finds something, such as
    `ServiceRequest?requester:identifier=urn:oid:2.25.1|{practitioner}`, where `{practitioner}` is a claim of the token.
    Nothing written: of all."""
    scope: str = ""
    """What it may do, such as `system/*.rs`, instead of what its token says: for authorization servers that know no
    such scopes."""


class IntrospectionSettings(BaseModel):
    """Where tokens are asked about that are no JWT (RFC 7662)."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    url: HttpUrl
    """The introspection endpoint."""
    client_id: str = Field(min_length=1)
    """The name under which we are registered there."""
    client_secret: SecretStr
    """Our secret."""


class AccessSettings(BaseModel):
    """Who may use the facade: who shows a bearer token of this authorization server. See docs/fhir-server.md."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    issuer: HttpUrl
    """The authorization server, exactly as its tokens name it (`iss`)."""
    audience: str = Field(min_length=1)
    """How tokens name us (`aud`); often the facade's URL. A token for others is refused."""
    jwks: HttpUrl | LocalPath | None = None
    """The keys that sign tokens: a URL, or a file (JWKS or PEM). Nothing written: where the issuer says that they are
    (`.well-known/openid-configuration`)."""
    introspection: IntrospectionSettings | None = None
    """Ask the authorization server about tokens that are no JWT."""
    clients: dict[str, ClientSettings] = {}
    """The clients that may come in, by `client_id`, and what each may see; nothing written: every client of the
    authorization server."""
    ca: LocalPath | None = None
    """Whose certificates we trust when we ask the authorization server (PEM); nothing written: the system's
    authorities."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Every route checks what is done and with which type; the store shows and takes the rest."""

    name: str = "anonymous"
    """Nobody else has it."""
    rights: Rights = EVERYTHING
    client: str = ""
    user: str = ""

    def check(self, act: Doing, kind: str) -> None:
        """Raises Forbidden unless this caller may do it with some resource of the type; an empty type stands for all
        resources of all types."""
        if act != "write":
            self.rights.check(act, kind)
        elif not any(self.rights.may(one, kind) for one in ("create", "update", "delete")):
            self.rights.check("create", kind)

    def may(self, act: Act, kind: str) -> bool:
        return self.rights.may(act, kind)

    def restrict(self, kind: str, act: Act = "search") -> Sequence[tuple[str, str]]:
        """Search parameters that every search of this caller has besides its own. Raises Forbidden."""
        return self.rights.restrict(kind, act)

    def patients(self, kind: str, act: Act) -> Sequence[tuple[str, str]]:
        """The same of the patients about whom he may write."""
        return self.rights.patients(kind, act)


Authorise = Callable[[Request], Awaitable[Caller]]
"""Raises HttpFault 401 for a caller that shows nothing valid."""

Claims = Mapping[str, Any]


async def anyone(request: Request) -> Caller:
    """Everybody may do everything: for networks that only trusted systems reach."""
    return Caller()


async def this_machine(request: Request) -> Caller:
    """Everybody on this machine may do everything. Raises Forbidden for all others."""
    if request.client is None or not _is_here(request.client.host):
        fix = "say in `access` of the channel whose tokens let in, or `open: true` where only trusted systems come"
        raise Forbidden("other machines are not let in", fix=fix)
    return Caller()


def _is_here(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class Unauthorised(HttpFault):
    """No token, or none that is valid (RFC 6750, section 3)."""

    kind = "forbidden"

    def __init__(self, what: str, *, error: str = "invalid_token") -> None:
        said = f' error="{error}", error_description="{what}"' if error else ""
        fix = "get a token of the authorization server: GET .well-known/smart-configuration"
        challenge = {"WWW-Authenticate": f'Bearer realm="fhir"{"," if said else ""}{said}'}
        super().__init__(401, what, at="http.Authorization", fix=fix, headers=challenge)


def bearer(request: Request) -> str:
    """The token that a request shows. Raises Unauthorised where there is none."""
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorised("no bearer token", error="")
    return token.strip()


def caller_of(claims: Claims, settings: AccessSettings) -> Caller:
    """Whose token it is, and what that one may. Raises Forbidden for a client that is not let in."""
    client = str(claims.get("client_id") or claims.get("azp") or claims.get("appid") or claims.get("sub") or "")
    subject = str(claims.get("sub") or "")
    known = settings.clients.get(client, ClientSettings() if not settings.clients else None)
    if not client or known is None:
        raise Forbidden("this client may not come in", fix="add it to `access: clients` of the channel")
    said = claims.get("scope", claims.get("scp", ""))
    scopes = " ".join(map(str, said)) if isinstance(said, list) else str(said)
    name = "/".join(quote(one, safe=":@") for one in (client, subject if subject != client else "") if one)
    mine = rights(
        known.scope or scopes,
        patient=_id(claims.get("patient")),
        sees=known.sees,
        claims=_relative(claims, settings.audience),
        client=name,
    )
    return Caller(name, mine, client, subject if subject != client else "")


def _id(patient: object) -> str:
    """The id in a launch context, also where it is written as a reference."""
    return str(patient).removeprefix("Patient/") if isinstance(patient, str) else ""


def _relative(claims: Claims, audience: str) -> Claims:
    """``fhirUser`` as a resource of ours has its references."""
    user = str(claims.get("fhirUser", ""))
    return {**claims, "fhirUser": user.removeprefix(f"{audience.rstrip('/')}/")} if user else claims
