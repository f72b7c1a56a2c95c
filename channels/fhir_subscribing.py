"""What a ``fhir-server`` lets clients subscribe to, and where it may send: its settings, and their place in a write."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import unquote

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bridge.errors import Refused
from bridge.fhir.interaction import Interaction, Outcome
from bridge.fhir.subscription import Maker, Subscription
from bridge.ports import Duration, Names
from channels.fhir_exchange import Asked


def _endpoint(text: str) -> str:
    url = _parsed(text)
    if url is None or url.query:
        raise ValueError("write http:// or https://, host, and a path that may end in *: https://his.example/notify/*")
    return text


class SubscriptionSettings(BaseModel):
    """Subscriptions of clients to what changes."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    endpoints: Annotated[Names, AfterValidator(lambda names: tuple(map(_endpoint, names)))] = ()
    """Where rest-hooks may be sent, such as https://his.example/notify/*; none by default: a client could have the
    engine post to any system of the hospital. Websockets need none."""
    max: int = Field(default=100, ge=0, le=10_000)
    """Subscriptions of this channel; 0 refuses them all."""
    sockets: int = Field(default=50, ge=1, le=10_000)
    """Websockets open at a time."""
    timeout: Duration = Field(default=10.0, gt=0, le=60)
    """How long a receiver may take, unless the subscription says less."""
    first: Duration = Field(default=1.0, gt=0)
    """Pause after the first attempt that failed; it doubles with each."""
    longest: Duration = Field(default=300.0, gt=0)
    """Longest pause between two attempts, also while the subscription is in error."""
    attempts: int = Field(default=8, ge=1, le=1000)
    """So many failures after each other, and the subscription is in error. Attempts go on, the longest pause apart."""
    give_up: Duration = Field(default=7 * 86400.0, gt=0)
    """In error for so long, a subscription is turned off; what it was owed is then gone."""


class Subscribing:
    """The part of a write that concerns Subscriptions: everything else is handed to ``fhir`` as it is."""

    def __init__(
        self, fhir: Any, subscriptions: Any, channel: str, settings: SubscriptionSettings, release: str
    ) -> None:
        self._fhir, self._subscriptions, self._channel = fhir, subscriptions, channel
        self.settings, self._release = settings, release
        self.bell = asyncio.Event()
        """Rung when something was written here; what else writes is found by looking."""

    def write(self, tx: Any, wanted: Sequence[Interaction], message: Any, asked: Asked) -> list[Outcome]:
        """See ``FhirStore.write``. Raises Refused also for a Subscription that this channel does not serve."""
        when = {"message": message.id, "at": message.received_at, "sight": asked.caller}
        if not any(one.type == "Subscription" for one in wanted):
            done: list[Outcome] = self._fhir.write(tx, wanted, **when)
            return done
        if self._release != "R4":
            what, fix = "subscriptions are served in R4 only", "use a channel with `release: R4`"
            raise Refused(what, at="Subscription", fix=fix, kind="unsupported")
        caller = asked.caller

        def allow(one: Subscription) -> None:
            caller.check("read", one.kind)
            self.allow(one)

        maker = Maker(self._channel, caller.name, asked.base, caller.restrict, allow, self.settings.max)
        done = self._fhir.write(tx, self._subscriptions.guarded(wanted, maker), **when)
        self._subscriptions.note(tx, wanted, done, maker)
        return done

    def allow(self, wanted: Subscription) -> None:
        """Raises Refused for what this channel does not serve."""
        if wanted.channel == "rest-hook" and not allowed(wanted.endpoint, self.settings.endpoints):
            fix = "have the endpoint added to `subscriptions: endpoints` of the channel, or use a websocket"
            raise Refused(
                "notifications are not sent there", at="Subscription.channel.endpoint", fix=fix, kind="forbidden"
            )


def allowed(endpoint: str, patterns: Sequence[str]) -> bool:
    """Whether an endpoint is one of these: of the same scheme, host and port, its path as the pattern's."""
    url = _parsed(endpoint)
    if url is None or ".." in unquote(url.path) or "\\" in unquote(url.path):
        return False
    for pattern in patterns:
        known = httpx.URL(pattern)
        same = (url.scheme, url.host, url.port) == (known.scheme, known.host, known.port)
        if same and fnmatchcase(url.path, known.path.replace("[", "[[]")):
            return True
    return False


def _parsed(text: str) -> httpx.URL | None:
    """The URL, if it is one of HTTP, without a user and without what other programs could read differently."""
    if not re.fullmatch(r"[!-~]{1,2000}", text) or "\\" in text:
        return None
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return None
    good = url.scheme in ("http", "https") and url.host and not url.userinfo and not url.fragment
    return url if good else None
