"""What HTTP says to a sender, as errors of delivery: shared by the channels that post to a server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from bridge.errors import BridgeError, Permanent, Temporary, Uncertain, Unreachable

LARGEST = 64 << 20
"""Bytes of an answer that are read, unpacked."""
LONGEST_WAIT = 3600.0
"""Seconds that a server can have us wait, whatever it asks for."""
_PATIENCE = 10
"""How many times the client's timeout, which is for each part of the answer, all of it may take."""
_KINDS = {403: "forbidden", 404: "unknown_key", 410: "unknown_key", 422: "datatype"}


def trust(verify: bool | Path, certificate: Path | None = None, key: Path | None = None) -> bool | ssl.SSLContext:
    """httpx's ``verify`` for settings: whose certificates we trust (the system's authorities, none checked, or those
    in a PEM file), and the certificate with its key that we show.

    Raises BridgeError if a file cannot be used.
    """
    if isinstance(verify, bool) and not certificate:
        return verify
    file = verify if isinstance(verify, Path) else None
    try:
        context = (
            httpx.create_ssl_context(verify, trust_env=False)
            if isinstance(verify, bool)
            else ssl.create_default_context(cafile=verify)
        )
        if certificate:
            file = certificate
            context.load_cert_chain(certificate, key)
    except OSError as error:
        what, fix = f"the certificates cannot be read: {error.strerror or error}", "name a readable PEM file"
        raise BridgeError(what, at=str(file), fix=fix, kind="settings") from None
    return context


async def post(
    client: httpx.AsyncClient, url: httpx.URL, content: bytes, headers: Mapping[str, str], at: str
) -> httpx.Response:
    """:func:`request` with a body."""
    return await request(client, "POST", url, headers, at, content=content)


async def request(
    client: httpx.AsyncClient,
    method: str,
    url: httpx.URL,
    headers: Mapping[str, str],
    at: str,
    *,
    content: bytes | None = None,
    form: Mapping[str, str] | None = None,
) -> httpx.Response:
    """The server's answer, whatever its status. Raises Unreachable when nothing was sent, Uncertain when something
    may have been: also for an answer that is too large, or does not come to an end."""
    try:
        async with asyncio.timeout(client.timeout.read and _PATIENCE * client.timeout.read):
            async with client.stream(method, url, content=content, data=form, headers=headers) as response:
                return await _whole(response, at)
    except TimeoutError:
        raise Uncertain("no answer (it takes too long)", at=at, fix="see whether the server took it") from None
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(
            f"no connection ({reason})", at=at, fix="is the server running, and the address right?"
        ) from None
    except ssl.SSLError as error:
        # TLS 1.3: what the server thinks of our certificate comes after the handshake, in answer to the request
        kind = Unreachable if "CERT" in (error.reason or "") else Uncertain
        raise kind(f"no answer ({error.reason})", at=at, fix="check `certificate` and `verify`") from None
    except httpx.TransportError as error:
        raise Uncertain(f"no answer ({type(error).__name__})", at=at, fix="see whether the server took it") from None


async def _whole(response: httpx.Response, at: str) -> httpx.Response:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LARGEST:
            raise Uncertain(f"the answer is larger than {LARGEST >> 20} MiB", at=at, fix="ask for less at once")
    headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
    return httpx.Response(response.status_code, headers=headers, content=bytes(body))


def failure(status: int, what: str, at: str, retry_after: float | None = None) -> BridgeError:
    """What a status that is no success means for the delivery (RFC 9110, section 15)."""
    if status in (401, 429, 502, 503):
        fix = "renew the token" if status == 401 else ""
        return Unreachable(what, at=at, fix=fix, retry_after=retry_after)
    if status == 504:
        return Uncertain(what, at=at, retry_after=retry_after)
    if status in (408, 409, 412, 425) or status >= 500:
        return Temporary(what, at=at, retry_after=retry_after)
    if status < 400:
        return Permanent(what, at=at, fix="write the address that the server redirects to", kind="settings")
    return Permanent(what, at=at, fix="see the server's log for its reason", kind=_KINDS.get(status, "syntax"))


def retry_after(response: httpx.Response) -> float | None:
    """Seconds, at most an hour, from the Retry-After header (RFC 9110, 10.2.3: seconds or a date)."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), LONGEST_WAIT)
    try:
        wait = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, wait), LONGEST_WAIT)
