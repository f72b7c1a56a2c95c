"""Subscriptions to the FHIR projection: who wants to know what, the events each is owed, how far it was told.

Events come from following the sequence numbers of versions: what is committed becomes an event even if the process dies
at once. They are numbered when they are found, and kept, so that a repeat carries the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from bridge.codecs.fhir import decode
from bridge.errors import BridgeError, NotFound, Refused
from bridge.fhir.interaction import Interaction, Json, Outcome
from bridge.fhir.match import Known
from bridge.fhir.notification import Event
from bridge.fhir.rights import CLIENT
from bridge.fhir.subscription import Maker, Subscription, fires, headers_of, masked, read, revealed
from bridge.store import fhir_rows, fhir_write
from bridge.store import fhir_tables as t
from bridge.store.fhir import FhirStore
from bridge.store.fhir_rows import Stored
from bridge.store.fhir_subscription_tables import event, reached, subscription

CHUNK = 200
"""Versions looked at in one step."""
_LARGE = 8 * 1024 * 1024
"""Bytes of resources in one notification, unless a single one is larger."""
LIVE = ("requested", "active", "error")
"""In which a subscription has events."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A subscription as it stands."""

    id: str
    channel: str
    owner: str
    restrict: tuple[tuple[str, str], ...]
    base: str
    headers: tuple[tuple[str, str], ...]
    asked: int
    started: int
    status: str
    since: int
    """Milliseconds since the epoch at which the status began."""
    failures: int
    """Attempts that failed since the last that did not."""
    error: str
    events: int
    """Events since it began."""
    delivered: int
    """The number of the last event that was taken."""
    wants: Subscription | None
    """None where this version cannot serve it any more: then ``error`` says why."""

    @property
    def pending(self) -> int:
        return self.events - self.delivered


class Subscriptions:
    """Thread-safe; blocks on the database, and raises StoreUnavailable."""

    def __init__(self, fhir: FhirStore, write: Callable[[Callable[[Connection], Any]], Any]) -> None:
        self._fhir, self._write = fhir, write

    def at(self, zone: tzinfo) -> Subscriptions:
        """The same subscriptions, their dates without an offset meant in ``zone``."""
        return Subscriptions(self._fhir.at(zone), self._write)

    # in the transaction that accepts a client's write

    def guarded(self, wanted: Sequence[Interaction], maker: Maker) -> list[Interaction]:
        """What a client may have written of ``wanted``: of a Subscription without the secrets in its headers, and not
        active before it is. Raises Refused for one that cannot be served."""
        return [self._guarded(one, maker) for one in wanted]

    def note(self, tx: Connection, wanted: Sequence[Interaction], done: Sequence[Outcome], maker: Maker) -> None:
        """Begin, change or end what was written as Subscription: ``wanted`` as it came, and what became of it. Raises
        Refused for one too many, and for another client's."""
        for asked, outcome in zip(wanted, done, strict=True):
            found = asked.method == "POST" and not outcome.changed
            if asked.type != "Subscription" or not outcome.id or found:
                continue
            if asked.method == "DELETE":
                tx.execute(delete(subscription).where(subscription.c.id == outcome.id))
                tx.execute(delete(event).where(event.c.subscription == outcome.id))
            else:
                self._note(tx, asked, outcome.id, maker)

    def _guarded(self, asked: Interaction, maker: Maker) -> Interaction:
        resource = asked.resource
        if asked.type != "Subscription" or resource is None:
            return asked
        status = resource.get("status")
        try:
            maker.allow(read(resource, self._fhir.zone))
            if status not in ("requested", "active", "off"):
                fix = "write requested or off"
                raise Refused("this status is the server's to say", at="Subscription.status", fix=fix)
        except BridgeError as error:
            at = f"{asked.at}.resource.{error.at}" if asked.at else error.at
            raise Refused(error.what, at=at, fix=error.fix, kind=error.kind) from None
        shown = {**masked(resource), "status": "requested" if status == "active" else status}
        shown["meta"] = owned(resource.get("meta"), maker.owner)
        shown.pop("error", None)
        return replace(asked, resource=shown)

    def _note(self, tx: Connection, asked: Interaction, identifier: str, maker: Maker) -> None:
        now = fhir_rows.one(tx, "Subscription", identifier)
        assert now is not None and asked.resource is not None
        former = tx.execute(select(subscription).where(subscription.c.id == identifier)).mappings().first()
        if former and former["owner"] != maker.owner:
            raise Refused("another client's", at="Subscription", fix="make one of your own", kind="forbidden")
        known = _pairs(former["headers"]) if former else ()
        headers = json.dumps([list(one) for one in revealed(headers_of(asked.resource), known)])
        if former and former["asked"] == now.sequence:
            tx.execute(update(subscription).where(subscription.c.id == identifier).values(headers=headers))
            return
        on = asked.resource["status"] != "off"
        if on and (former is None or former["status"] == "off") and self._count(tx, maker.channel) >= maker.most:
            fix = "delete one that is not needed, or raise `subscriptions: max`"
            raise Refused("the channel has as many subscriptions as it may", at="Subscription", fix=fix, kind="locked")
        resumed = former is not None and former["status"] != "off"
        values = {
            "channel": maker.channel,
            "owner": maker.owner,
            "restrict": json.dumps([list(one) for one in maker.restrict(read(asked.resource).kind)]),
            "base": maker.base,
            "headers": headers,
            "asked": now.sequence,
            "status": "requested" if on else "off",
            "since": now.modified,
            "failures": 0,
            "error": "",
        }
        if former is None:
            begun = {"id": identifier, "started": now.sequence, "events": 0, "delivered": 0}
            tx.execute(insert(subscription), values | begun)
            if tx.execute(select(reached.c.sequence).where(reached.c.channel == maker.channel)).first() is None:
                tx.execute(insert(reached), {"channel": maker.channel, "sequence": now.sequence})
            return
        if not resumed:
            values |= {"started": now.sequence, "delivered": former["events"]}
        tx.execute(update(subscription).where(subscription.c.id == identifier).values(values))

    def _count(self, tx: Connection, channel: str) -> int:
        here = (subscription.c.channel == channel, subscription.c.status != "off")
        number: int = tx.execute(select(func.count()).select_from(subscription).where(*here)).scalar_one()
        return number

    # what there is

    def of(self, channel: str = "", statuses: Sequence[str] = LIVE) -> list[Watched]:
        """The subscriptions of a channel (of all, for an empty one) in these statuses, the oldest first."""
        where = [subscription.c.status.in_(statuses)] + ([subscription.c.channel == channel] if channel else [])
        return self._watched(where)

    def find(self, identifier: str) -> Watched:
        """Raises NotFound."""
        found = self._watched([subscription.c.id == identifier])
        if not found:
            raise NotFound("no such subscription", at="Subscription", fix="it was deleted, or never was")
        return found[0]

    def events(
        self, identifier: str, after: int, limit: int, until: int = 1 << 62, *, whole: bool = False
    ) -> list[Event]:
        """Events with numbers above ``after`` and up to ``until``, in their sequence; those that are older than the
        journal is kept are gone. With ``whole`` they have their resources, and are fewer if these are large."""
        c = t.version.c
        wanted = (
            select(event.c.number, event.c.at, c.type, c.id, c.version, c.method, c.sequence)
            .join(t.version, c.sequence == event.c.version)
            .where(event.c.subscription == identifier, event.c.number > after, event.c.number <= until)
            .order_by(event.c.number)
            .limit(limit)
        )
        found: list[Event] = []
        size = 0
        for number, at, kind, name, version, method, sequence in self._fhir.ask(lambda one: one.execute(wanted).all()):
            body = self._body(sequence) if whole else b""
            size += len(body)
            if found and size > _LARGE:
                break
            found.append(Event(number, at, kind, name, str(version), method, body))
        return found

    def _body(self, sequence: int) -> bytes:
        """Of one version; empty where it is a deletion."""
        wanted = select(t.version.c.body).where(t.version.c.sequence == sequence)
        found: bytes | None = self._fhir.ask(lambda c: c.execute(wanted).scalar())
        return bytes(found or b"")

    def counted(self) -> list[tuple[str, str, int, int]]:
        """Channel, status, how many subscriptions are in it, and how many events these were not told of yet."""
        c = subscription.c
        waiting = func.sum(c.events - c.delivered)
        wanted = select(c.channel, c.status, func.count(), waiting).group_by(c.channel, c.status)
        rows: list[Any] = self._fhir.ask(lambda connection: connection.execute(wanted).all())
        return [(channel, status, count, int(events)) for channel, status, count, events in rows]

    def oldest(self, identifier: str, delivered: int) -> int:
        """When the first event after this number came, in milliseconds; 0 if there is none."""
        wanted = select(event.c.at).where(event.c.subscription == identifier, event.c.number == delivered + 1)
        found: int | None = self._fhir.ask(lambda c: c.execute(wanted).scalar())
        return found or 0

    def _watched(self, where: Sequence[Any]) -> list[Watched]:
        joined = subscription.join(
            t.resource, (t.resource.c.type == "Subscription") & (t.resource.c.id == subscription.c.id)
        ).join(t.version, t.version.c.sequence == t.resource.c.sequence)
        wanted = select(subscription, t.version.c.body).select_from(joined).where(*where)
        rows = self._fhir.ask(lambda c: c.execute(wanted.order_by(subscription.c.asked)).mappings().all())
        return [self._of(row) for row in rows]

    def _of(self, row: Mapping[str, Any]) -> Watched:
        wants = _understood(bytes(row["body"] or b"{}"), self._fhir.zone)
        values = {key: row[key] for key in row if key not in ("body", "restrict", "headers")}
        if isinstance(wants, str):
            values["error"] = wants
        return Watched(
            **values,
            restrict=_pairs(row["restrict"]),
            headers=_pairs(row["headers"]),
            wants=wants if isinstance(wants, Subscription) else None,
        )

    # finding events

    def gather(self, channel: str) -> bool:
        """Find the next events of a channel's subscriptions; whether there may be more. Several at once do no harm."""
        newest = self._fhir.newest()
        watched = [one for one in self.of(channel) if one.wants]
        if not watched:
            return False
        former: int | None = self._fhir.ask(
            lambda c: c.execute(select(reached.c.sequence).where(reached.c.channel == channel)).scalar()
        )
        if former is None:
            return False
        after = max(former, min(one.started for one in watched))
        if after >= newest:
            return False
        versions = self._versions({one.wants.kind for one in watched if one.wants}, after, newest)
        until = versions[-1].sequence if len(versions) == CHUNK else newest
        found = [(one, version) for version in versions for one in self._for_whom(watched, version)]
        self._write(lambda tx: _record(tx, channel, former, until, found))
        return until < newest

    def _versions(self, kinds: set[str], after: int, until: int) -> list[Stored]:
        """The next versions of these types, without their bodies: some are large."""
        c = t.version.c
        where = (c.type.in_(sorted(kinds)), c.sequence > after, c.sequence <= until, c.body.is_not(None))
        wanted = select(c.type, c.id, c.version, c.modified, c.sequence).where(*where).order_by(c.sequence).limit(CHUNK)
        rows: list[Any] = self._fhir.ask(lambda connection: connection.execute(wanted).all())
        return [Stored(kind, name, str(version), at, sequence=number) for kind, name, version, at, number in rows]

    def _for_whom(self, watched: Sequence[Watched], version: Stored) -> list[Watched]:
        """Whom a version is an event for."""
        about = [
            one for one in watched if one.wants and one.wants.kind == version.type and one.started < version.sequence
        ]
        if not about:
            return []
        now, before = Known(decode(self._body(version.sequence)), self._fhir.zone), None
        if version.version != "1" and any(one.wants and one.wants.topic for one in about):
            former = self._fhir.read(version.type, version.id, str(int(version.version) - 1))
            before = None if former.deleted else Known(decode(former.body), self._fhir.zone)
        return [one for one in about if one.wants and fires(one.wants, before, now) and self._may_see(one, version)]

    def _may_see(self, one: Watched, version: Stored) -> bool:
        """By what its maker may see; one whose rights cannot be read sees nothing."""
        if not one.restrict:
            return True
        try:
            return bool(self._fhir.search(version.type, [("_id", version.id)], restrict=one.restrict).matches)
        except Refused:
            return False

    # what became of them

    def told(self, one: Watched, number: int) -> None:
        """The events up to ``number`` were taken."""
        new = {"delivered": number, "failures": 0}
        further = (subscription.c.id == one.id, subscription.c.delivered < number)
        self._write(lambda tx: tx.execute(update(subscription).where(*further).values(new)) and None)

    def failed(self, one: Watched, error: str) -> None:
        """An attempt failed."""
        new = {"failures": subscription.c.failures + 1, "error": error}
        same = (subscription.c.id == one.id, subscription.c.asked == one.asked)
        self._write(lambda tx: tx.execute(update(subscription).where(*same).values(new)) and None)

    def settle(self, one: Watched, status: str, at: int, error: str = "") -> None:
        """Give a subscription another status, in its resource too; not if its client wrote it meanwhile. ``error`` is
        shown to all who may read it: it must not hold content."""
        self._write(lambda tx: self._settle(tx, one, status, at, error))

    def retry(self, identifier: str, at: int) -> None:
        """Have a subscription tried again at once, as if its client had asked for it. Raises NotFound, Refused for one
        that is off."""
        one = self.find(identifier)
        if one.status == "off":
            raise Refused("the subscription is off", at=identifier, fix="its client has to ask for it", kind="locked")

        def again(tx: Connection) -> None:
            self._settle(tx, one, "requested", at, "")
            now = fhir_rows.one(tx, "Subscription", identifier)
            new = {"asked": now.sequence} if now else {}
            tx.execute(update(subscription).where(subscription.c.id == identifier).values(new | {"failures": 0}))

        self._write(again)

    def _settle(self, tx: Connection, one: Watched, status: str, at: int, error: str) -> None:
        fhir_rows.lock(tx)
        new = {"status": status, "since": at, "error": error}
        if status != "error":
            new["failures"] = 0
        same = (subscription.c.id == one.id, subscription.c.asked == one.asked)
        if not tx.execute(update(subscription).where(*same).values(new)).rowcount:
            return
        current = fhir_rows.one(tx, "Subscription", one.id)
        if current is None or current.deleted:
            return
        resource = {key: value for key, value in decode(current.body).items() if key != "error"} | {"status": status}
        if error:
            resource["error"] = error
        asked = Interaction("PUT", "Subscription", one.id, resource=resource)
        fhir_write.write(tx, [asked], fhir_write.Writing("", at, self._fhir.zone))


def forget_events(tx: Connection, before: int) -> None:
    """Delete the events that came before this time (milliseconds)."""
    tx.execute(delete(event).where(event.c.at < before))


def _record(tx: Connection, channel: str, former: int, until: int, found: Sequence[tuple[Watched, Stored]]) -> None:
    """Number and keep what was found up to ``until``; not if another node did it meanwhile."""
    mine = (reached.c.channel == channel, reached.c.sequence == former)
    if not tx.execute(update(reached).where(*mine).values(sequence=until)).rowcount:
        return
    versions: dict[str, list[Stored]] = {}
    for one, version in found:
        versions.setdefault(one.id, []).append(version)
    rows = [row for identifier in sorted(versions) for row in _numbered(tx, identifier, versions[identifier])]
    if rows:
        tx.execute(insert(event), rows)


def _numbered(tx: Connection, identifier: str, versions: Sequence[Stored]) -> list[dict[str, Any]]:
    """Rows of the next events of a subscription; none if it was deleted meanwhile."""
    count = subscription.c.events
    counted = update(subscription).where(subscription.c.id == identifier).values(events=count + len(versions))
    last: int | None = tx.execute(counted.returning(count)).scalar()
    if last is None:
        return []
    return [
        {"subscription": identifier, "number": number, "version": version.sequence, "at": version.modified}
        for number, version in enumerate(versions, last - len(versions) + 1)
    ]


def owned(meta: Json | None, owner: str) -> Json:
    """``meta`` of a Subscription with the tag of its client, by which those find it who see no others."""
    tags = [one for one in (meta or {}).get("tag", []) if one.get("system") != CLIENT]
    return {**(meta or {}), "tag": [*tags, {"system": CLIENT, "code": owner}]}


@lru_cache(maxsize=1024)
def _understood(body: bytes, zone: tzinfo) -> Subscription | str:
    try:
        return read(decode(body), zone)
    except (BridgeError, KeyError) as error:
        return error.what if isinstance(error, BridgeError) else "it is no subscription any more"


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in json.loads(text))
