"""The engine's side of a channel, for tests of channels alone: takes messages and answers as told; makes deliveries."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from bridge.codecs.ack import acknowledge
from bridge.codecs.hl7v2 import parse
from bridge.errors import BridgeError, CodecError
from bridge.message import Delivery
from bridge.ports import ChannelSettings, Inbound, Outgoing, Reply, Services, channel_type
from bridge.settings import Site
from tests.rigs.store import acceptance

NOW = datetime(2024, 3, 1, 8, 0, tzinfo=UTC)

SERVICES = Services(name="under-test", site=Site(name="test-site", timezone="Europe/Paris"))


class Engine:
    """A ``receive`` that keeps what it was given and answers what ``error`` says, once ``gate`` is open."""

    def __init__(self) -> None:
        self.received: list[Inbound] = []
        self.arrived = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: BridgeError | None = None
        self.bug: Exception | None = None
        self.duplicate = False

    @property
    def data(self) -> list[bytes]:
        return [inbound.data for inbound in self.received]

    async def receive(self, inbound: Inbound) -> Reply:
        self.received.append(inbound)
        self.arrived.set()
        await self.gate.wait()
        if self.bug:
            raise self.bug
        number = f"m{len(self.received)}"
        if inbound.apply:
            done = b"" if self.error else inbound.apply(None, acceptance(number).message).body
            return Reply(self.error is None, number, done, self.error, self.duplicate)
        code = self.error.face.ack if self.error else "AA"
        try:
            message = parse(inbound.data)
        except CodecError:
            message = None
        body = acknowledge(message, inbound.data, code=code, control_id=number, now=NOW, error=self.error)
        return Reply(self.error is None, number, body, self.error, self.duplicate)


def channel(kind: str, services: Services = SERVICES, **settings: Any) -> Any:
    """A channel of this type, built as the engine builds it."""
    model: type[ChannelSettings] = channel_type(kind).settings
    return channel_type(kind).build(model.model_validate({"type": kind, **settings}), services)


def outgoing(data: bytes, number: int = 1, **more: str) -> Outgoing:
    """Delivery ``number`` of these bytes; the same number gives the same ids. ``more``: control_id, format, charset."""
    delivery = Delivery(
        id=f"delivery{number:04d}",
        message=f"message{number:04d}",
        day=20240301,
        route="all",
        destination="under-test",
        mapping="",
        revision="r1",
        keys=("under-test",),
        position=number,
        origin=number,
    )
    return Outgoing(data, delivery, **more)
