"""What people do with messages: look, replay, skip. The command and the API both act through this."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.codecs.dicom_match import Key, parse_tests
from bridge.codecs.dicom_query import Query, restriction
from bridge.codecs.formats import FORMATS
from bridge.codecs.hl7v2 import parse
from bridge.engine import references
from bridge.engine.deployments import Deployments
from bridge.engine.identities import Identities
from bridge.engine.plan import Plan
from bridge.errors import BridgeError, NotFound
from bridge.message import Delivery, DeliveryStatus, new_id
from bridge.model import StepStatus
from bridge.store import identity
from bridge.store.search import MessageFilter
from bridge.store.store import Store
from bridge.store.worklist import WorklistItem


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to send again, and where.

    ``deliveries`` name dead or ended deliveries; ``messages`` are sent where the current routes lead, or to
    ``destinations`` if any are named. A dead delivery goes back to its own place in its lane; anything else joins
    the end.
    """

    deliveries: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    new_control_id: bool = False
    """Give the outgoing message a new MSH-10, so that the receiver takes it for another one."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One delivery that a replay would make."""

    message: str
    type: str
    destination: str
    mapping: str
    replaces: str
    """The dead delivery whose place it takes; empty when it joins the end of its lane."""
    data: bytes
    """Exactly what would leave."""
    error: dict[str, str] | None
    """Why it cannot be rendered; it would die again."""
    later: tuple[dict[str, str], ...]
    """Newer messages about the same order that this destination got: what stands against the replay."""


@dataclass(slots=True)
class _Item:
    delivery: Delivery
    dead: str
    row: dict[str, Any] = field(repr=False)


class Operations:
    """Acts on the store under the current plan. Safe from any thread; every change names its ``actor``."""

    def __init__(self, store: Store, plan: Callable[[], Plan]) -> None:
        self._store, self._plan = store, plan
        self.identity = Identities(store, plan, self._replay_deliveries)
        self.deployments = Deployments(store)

    def status(self) -> dict[str, Any]:
        """Lanes that wait or are parked, and the last odd messages: what the on-call person sees first."""
        odd = {
            status: len(self._store.messages(MessageFilter(status=status, limit=1000)))
            for status in ("unrouted", "refused")
        }
        return {"lanes": [asdict(lane) for lane in self._store.lanes()], "messages": odd}

    def messages(self, wanted: MessageFilter) -> list[dict[str, Any]]:
        """Newest first, without content."""
        return self._store.messages(wanted)

    def message(self, identifier: str, *, actor: str) -> dict[str, Any]:
        """One message with its content and all that became of it. Seeing content is audited (law 8)."""
        found = self._store.message(identifier)
        self._store.record(actor, "view", identifier, {"type": found["type"]})
        return found

    def dead(self, destination: str = "") -> list[dict[str, Any]]:
        """Deliveries that gave up, by destination and position."""
        return self._store.deliveries(status=DeliveryStatus.DEAD.value, destination=destination, limit=10_000)

    def pending(self, destination: str = "", limit: int = 100) -> list[dict[str, Any]]:
        return self._store.deliveries(status=DeliveryStatus.PENDING.value, destination=destination, limit=limit)

    def worklist(self, *, actor: str, station: str = "", date: str = "", limit: int = 1000) -> list[WorklistItem]:
        """Steps in the worklist, whatever their status, by date and time. Seeing them is audited (law 8).

        ``station`` is an AE title, ``date`` yyyymmdd or a range yyyymmdd-yyyymmdd; empty: any. Raises CodecError for
        a date that is none.
        """
        day = Key(0x00400002, "ScheduledProcedureStepStartDate", "DA", parse_tests("DA", [date] if date else []))
        query = Query((Key(0x00400100, "ScheduledProcedureStepSequence", "SQ", item=(day,)),))
        restrict = restriction(stations=(station,) if station else ())
        found = list(self._store.worklist.find(query, restrict=restrict, statuses=tuple(StepStatus), limit=limit))
        self._store.record(actor, "view", "worklist", {"station": station, "date": date, "items": len(found)})
        return found

    def preview(self, request: ReplayRequest, *, actor: str) -> list[Preview]:
        """What :meth:`replay` would do, with the exact bytes; nothing is written but the audit line."""
        previews = [self._preview(item, request) for item in self._items(request)]
        for preview in previews:
            self._store.record(actor, "preview", preview.message, {"destination": preview.destination})
        return previews

    def replay(self, request: ReplayRequest, *, actor: str) -> list[str]:
        """Send again; returns the ids of the new deliveries, each of which names its cause."""
        items = self._items(request)
        made: list[str] = []
        if request.new_control_id:
            for item in items:
                item.delivery.payload = self._with_new_control_id(self._render(item))
        dead = [item.dead for item in items if item.dead]
        if dead:
            changed = {item.dead: item.delivery.payload for item in items if item.delivery.payload is not None}
            revision = self._plan().revision
            made += self._store.replay_dead(dead, actor=actor, revision=revision, payloads=changed).deliveries
        added = [item.delivery for item in items if not item.dead]
        if added:
            made += self._store.add_deliveries(added, actor=actor).deliveries
        return made

    def _replay_deliveries(self, deliveries: tuple[str, ...], actor: str) -> list[str]:
        return self.replay(ReplayRequest(deliveries=deliveries), actor=actor)

    def skip(self, deliveries: list[str], *, actor: str, reason: str) -> int:
        """Give up dead deliveries for good, so that their lane keys go on. Returns how many."""
        if not reason.strip():
            raise BridgeError("a skip needs a reason", fix="say why these need not arrive", kind="required")
        chosen = list(dict.fromkeys(deliveries))
        self._store.skip(chosen, actor=actor, reason=reason.strip())
        return len(chosen)

    def _items(self, request: ReplayRequest) -> list[_Item]:
        items = [self._from_delivery(identifier) for identifier in dict.fromkeys(request.deliveries)]
        for identifier in dict.fromkeys(request.messages):
            items += self._from_message(identifier, request.destinations)
        if not items:
            raise NotFound(
                "nothing to replay", fix="name deliveries (`radbridge dead`) or messages (`radbridge messages`)"
            )
        return items

    def _from_delivery(self, identifier: str) -> _Item:
        old = self._store.delivery(identifier)
        if old["status"] == DeliveryStatus.PENDING.value:
            raise BridgeError(f"delivery {identifier} is pending: it will go by itself", kind="locked")
        row = self._store.message(old["message"])
        if not old["route"] and old["destination"] == row["channel"]:
            what = f"delivery {identifier} is what the message did here when it was accepted: that is not done again"
            fix = "replay the message to where its routes lead: `radbridge replay --message ID`"
            raise BridgeError(what, fix=fix, kind="unsupported")
        delivery = self._delivery(row, old["route"], old["destination"], old["mapping"])
        delivery.cause, delivery.origin = identifier, old["origin"]
        return _Item(delivery, identifier if old["status"] == DeliveryStatus.DEAD.value else "", row)

    def _from_message(self, identifier: str, destinations: tuple[str, ...]) -> list[_Item]:
        plan, row = self._plan(), self._store.message(identifier)
        parsed = FORMATS[row["format"]].read(row["raw"], row["charset"])
        wanted = plan.targets(row["channel"], parsed)
        if destinations:
            unknown = sorted(set(destinations) - set(plan.destinations()))
            if unknown:
                raise NotFound(f"no destination {unknown[0]}", fix="one of " + ", ".join(plan.destinations()))
            mapping = {destination: mapping for destination, mapping, _ in wanted}
            wanted = [(name, mapping.get(name, ""), "replay") for name in destinations]
        dead = {(d["destination"], d["mapping"]): d["id"] for d in row["deliveries"] if d["status"] == "dead"}
        return [
            self._from_delivery(dead[name, mapping])
            if (name, mapping) in dead
            else _Item(self._delivery(row, route, name, mapping), "", row)
            for name, mapping, route in wanted
        ]

    def _delivery(self, row: dict[str, Any], route: str, destination: str, mapping: str) -> Delivery:
        parsed: Any = FORMATS[row["format"]].read(row["raw"], row["charset"])
        known = references.known(self._store.fhir, parsed)
        header = references.settled(parsed.header, parsed, known, self._plan().context["site"])
        now = time.time_ns() // 1_000_000
        delivery = self._plan().delivery(row["id"], row["day"], header, route, destination, mapping, now)
        delivery.context |= references.context(parsed, known, row["id"]) if mapping else {}
        identity.tell(delivery, header.patients, self._store.survivors(header.patients) if header.patients else {})
        return delivery

    def _preview(self, item: _Item, request: ReplayRequest) -> Preview:
        data, error = b"", None
        try:
            data = self._render(item)
            if request.new_control_id:
                data = self._with_new_control_id(data)
        except BridgeError as failed:
            error = failed.as_dict()
        return Preview(
            message=item.row["id"],
            type=item.row["type"],
            destination=item.delivery.destination,
            mapping=item.delivery.mapping,
            replaces=item.dead,
            data=data,
            error=error,
            later=tuple(self._later(item)),
        )

    def _render(self, item: _Item) -> bytes:
        if not item.delivery.mapping:
            raw: bytes = item.row["raw"]
            return raw
        parsed = FORMATS[item.row["format"]].read(item.row["raw"], item.row["charset"])
        return self._plan().render(item.delivery.mapping, parsed, item.delivery.context).data

    def _later(self, item: _Item) -> list[dict[str, str]]:
        number = item.row["order_number"]
        if not number:
            return []
        newer = self._store.messages(MessageFilter(order_number=number, limit=200))
        found = []
        for row in newer:
            if row["id"] > item.row["id"]:
                for delivery in self._store.message(row["id"])["deliveries"]:
                    if delivery["destination"] == item.delivery.destination and delivery["status"] == "done":
                        found.append({"message": row["id"], "type": row["type"], "delivery": delivery["id"]})
        return found

    @staticmethod
    def _with_new_control_id(data: bytes) -> bytes:
        if not data.startswith(b"MSH"):
            raise BridgeError("only an HL7 message has a control id", fix="replay without a new one", kind="datatype")
        editor = parse(data).edit()
        editor.set("MSH-10", new_id()[-20:])
        return editor.encode()
