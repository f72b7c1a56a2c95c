"""A Subscription as R4 has it, plain or by a topic (Subscriptions R5 Backport 1.1): what it asks for, and whether a
version of a resource is that."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any, Literal
from urllib.parse import parse_qsl

from bridge.errors import BridgeError, Refused
from bridge.fhir.interaction import Json
from bridge.fhir.match import Known
from bridge.fhir.media import FHIR
from bridge.fhir.query import Query, parse, parse_text
from bridge.fhir.topics import TOPICS, Topic

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport"
_EXTENSION = f"{BACKPORT}/StructureDefinition/backport-"

Content = Literal["empty", "id-only", "full-resource"]

_PLAIN = re.compile(r"([A-Z][A-Za-z]+)(?:\?(.*))?", re.DOTALL)
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([\x21-\x7e](?:[\x20-\x7e]{0,4000}[\x21-\x7e])?)?")
_OURS = {"host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te", "expect"}
_MASK = "***"
_MOST = 100


@dataclass(frozen=True, slots=True)
class Subscription:
    kind: str
    """The type of resource that it is about."""
    topic: Topic | None
    """None of a plain one."""
    queries: tuple[Query, ...]
    """What a resource has to meet, all of them: the criteria, or the filters of a topic."""
    channel: Literal["rest-hook", "websocket"]
    endpoint: str
    mime: str
    """Empty: without a payload."""
    content: Content
    heartbeat: int
    """Seconds; 0 for none."""
    timeout: int
    """Seconds; 0 where it says nothing."""
    max_count: int
    """Most events in a notification."""
    end: int | None
    """Milliseconds since the epoch."""

    @property
    def watches(self) -> str:
        """What it is about, for people, without what is looked for."""
        return self.topic.name if self.topic else self.kind


@dataclass(frozen=True, slots=True)
class Maker:
    """Who writes a Subscription, and through which channel."""

    channel: str
    owner: str
    base: str
    """The service's URL, as the client calls it."""
    restrict: Callable[[str], Sequence[tuple[str, str]]]
    """Type -> search parameters that what he may see has to meet."""
    allow: Callable[[Subscription], None]
    """Raises BridgeError for one that this client may not have, or the channel does not serve."""
    most: int
    """Subscriptions of the channel."""


def read(resource: Json, zone: tzinfo = UTC) -> Subscription:
    """What a valid Subscription (R4) asks for. Raises Refused, with the element as ``at``, for what is not done here;
    ``zone`` is where dates without an offset are meant."""
    channel = resource["channel"]
    topic, kind, queries = _criteria(resource, zone)
    way = channel.get("type")
    if way not in ("rest-hook", "websocket"):
        raise _refused("this channel is not served", "channel.type", "choose rest-hook or websocket")
    if way == "rest-hook" and not channel.get("endpoint"):
        raise _refused("a rest-hook without an endpoint", "channel.endpoint", "say where to post", "required")
    mime = str(channel.get("payload", ""))
    if mime.partition(";")[0] not in ("", FHIR, "application/json"):
        raise _refused("this payload is not made", "channel.payload", f"choose {FHIR}")
    headers_of(resource)
    return Subscription(
        kind=kind,
        topic=topic,
        queries=queries,
        channel=way,
        endpoint=str(channel.get("endpoint", "")),
        mime=mime or (FHIR if topic else ""),
        content=_content(channel) if topic else "full-resource",
        heartbeat=_number(channel, "heartbeat-period", "valueUnsignedInt", 0),
        timeout=_number(channel, "timeout", "valueUnsignedInt", 0),
        max_count=min(_number(channel, "max-count", "valuePositiveInt", 20), _MOST),
        end=int(datetime.fromisoformat(resource["end"]).timestamp() * 1000) if "end" in resource else None,
    )


def headers_of(resource: Json) -> tuple[tuple[str, str], ...]:
    """The headers that notifications are to carry. Raises Refused for what is none, or is not the client's to say."""
    found = []
    for index, text in enumerate(resource["channel"].get("header", [])):
        header = _HEADER.fullmatch(str(text))
        if header is None or header[1].lower() in _OURS:
            raise _refused("not a header that can be sent", f"channel.header[{index}]", "write Name: value")
        found.append((header[1], header[2] or ""))
    return tuple(found)


def masked(resource: Json) -> Json:
    """The Subscription without the values of its headers: they are secrets of its client and the receiver."""
    channel = resource["channel"]
    if not channel.get("header"):
        return resource
    return {**resource, "channel": {**channel, "header": [f"{name}: {_MASK}" for name, _ in headers_of(resource)]}}


def revealed(headers: tuple[tuple[str, str], ...], known: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """``headers`` with the ``known`` values where a client sends back the mask that it was shown."""
    before = {name.lower(): value for name, value in known}
    return tuple((name, before.get(name.lower(), value) if value == _MASK else value) for name, value in headers)


def fires(subscription: Subscription, before: Known | None, now: Known) -> bool:
    """Whether a version of a resource (``now``) is an event; ``before`` is the version before it, None if it was
    deleted or never there."""
    if now.resource.get("resourceType") != subscription.kind:
        return False
    topic = subscription.topic
    if topic is not None:
        current, previous = _trigger(topic)
        if ("create" if before is None else "update") not in topic.on:
            return False
        if current is not None and not now.meets(current):
            return False
        if previous is not None and before is not None and not before.meets(previous):
            return False
    return all(now.meets(query) for query in subscription.queries)


@cache
def _trigger(topic: Topic) -> tuple[Query | None, Query | None]:
    current, previous = (parse_text(topic.kind, text) if text else None for text in (topic.current, topic.previous))
    return current, previous


def _criteria(resource: Json, zone: tzinfo) -> tuple[Topic | None, str, tuple[Query, ...]]:
    criteria = str(resource["criteria"])
    plain = _PLAIN.fullmatch(criteria)
    if plain is None:
        topic = TOPICS.get(criteria.partition("|")[0])
        if topic is None:
            raise _refused("no such topic", "criteria", "see GET SubscriptionTopic, or write a search")
        said = _extensions(resource.get("_criteria"), "filter-criteria")
        filters = [_filter(topic, str(one.get("valueString", "")), zone) for one in said]
        return topic, topic.kind, tuple(filters)
    if plain[1] == "Subscription":
        raise _refused("subscriptions are not watched", "criteria", "choose another type")
    return None, plain[1], (_query(plain[1], plain[2] or "", zone, "criteria"),)


def _filter(topic: Topic, text: str, zone: tzinfo) -> Query:
    at = "criteria.extension"
    written = _PLAIN.fullmatch(text)
    if written is None or written[1] != topic.kind:
        raise _refused("not a filter of this topic", at, f"write {topic.kind}?parameter=value")
    query = _query(topic.kind, written[2] or "", zone, at)
    if not all(condition.name.partition(":")[0] in topic.filters for condition in query.conditions):
        raise _refused("the topic cannot be filtered by this", at, f"filter by {', '.join(topic.filters)}")
    return query


def _query(kind: str, text: str, zone: tzinfo, at: str) -> Query:
    try:
        query = parse(kind, parse_qsl(text, keep_blank_values=True, max_num_fields=50), strict=True, zone=zone)
    except BridgeError as error:
        raise _refused(error.what, at, error.fix) from None
    except ValueError:
        raise _refused("too many parameters", at, "write fewer") from None
    if any(condition.chained or condition.reverse for condition in query.conditions):
        raise _refused("a condition about other resources", at, "search by what the resource itself says")
    return query


def _content(channel: Json) -> Content:
    said = _extensions(channel.get("_payload"), "payload-content")
    code = said[0].get("valueCode") if said else None
    if code not in ("empty", "id-only", "full-resource"):
        fix = f"add the extension {_EXTENSION}payload-content: empty, id-only or full-resource"
        raise _refused("how much to send is not said", "channel.payload.extension", fix, "required")
    return code  # type: ignore[no-any-return]


def _number(channel: Json, name: str, element: str, default: int) -> int:
    said = _extensions(channel, name)
    number = said[0].get(element) if said else default
    if not isinstance(number, int) or not 0 <= number <= 2_147_483_647:
        raise _refused(f"{name} is not a number of its kind", "channel.extension", f"write {element}")
    return number


def _extensions(element: Any, name: str) -> list[Json]:
    listed = element.get("extension", []) if isinstance(element, dict) else []
    return [one for one in listed if one.get("url") == f"{_EXTENSION}{name}"]


def _refused(what: str, at: str, fix: str, kind: str = "business_rule") -> Refused:
    return Refused(what, at=f"Subscription.{at}", fix=fix, kind=kind)
