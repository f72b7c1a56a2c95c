"""What HTTP says to a sender, as errors of delivery: shared by the channels that post to a server."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from bridge.errors import BridgeError, Permanent, Temporary, Uncertain, Unreachable

_KINDS = {403: "forbidden", 404: "unknown_key", 410: "unknown_key", 422: "datatype"}


def trust(verify: bool | Path) -> bool | ssl.SSLContext:
    """httpx's ``verify`` for a setting: the system's authorities, none, or those in a PEM file.

    Raises BridgeError if the file cannot be used.
    """
    if isinstance(verify, bool):
        return verify
    try:
        return ssl.create_default_context(cafile=verify)
    except OSError as error:
        what, fix = f"the certificates cannot be read: {error.strerror or error}", "name a readable PEM file"
        raise BridgeError(what, at=str(verify), fix=fix, kind="settings") from None


async def post(
    client: httpx.AsyncClient, url: httpx.URL, content: bytes, headers: Mapping[str, str], at: str
) -> httpx.Response:
    """The server's answer, whatever its status. Raises Unreachable when nothing was sent, Uncertain when something
    may have been."""
    try:
        return await client.post(url, content=content, headers=headers)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(
            f"no connection ({reason})", at=at, fix="is the server running, and the address right?"
        ) from None
    except httpx.TransportError as error:
        raise Uncertain(f"no answer ({type(error).__name__})", at=at, fix="see whether the server took it") from None


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
    """Seconds, from the Retry-After header (RFC 9110, 10.2.3: seconds or a date)."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
