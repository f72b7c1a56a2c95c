"""``mllp-out``: sends each message as a frame, and lets the receiver's acknowledgement decide what became of it; asks,
and brings the answer back."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Literal

from pydantic import Field

from bridge.codecs.ack import Ack, asks_for_nothing
from bridge.codecs.mllp import wrap
from bridge.errors import CodecError, Permanent, Uncertain
from bridge.peers import PeerBook
from bridge.ports import Address, Answer, AnsweringSettings, Duration, Inbound, Outgoing, Services
from channels.ack_policy import AckPolicy, judge
from channels.mllp_link import Link
from channels.mllp_pool import Pool
from channels.tls import Certificates, TlsSettings


class MllpOutSettings(AnsweringSettings):
    takes: ClassVar[str] = "hl7v2"
    connect: Address
    """The receiver, such as pacs.example:2575."""
    connect_timeout: Duration = Field(default=10.0, gt=0)
    """How long the receiver may take to accept a connection."""
    connection: Literal["persistent", "per_message"] = "persistent"
    """``per_message``: each message has a connection of its own, for receivers that want it so."""
    pipeline: int = Field(default=1, ge=1, le=64)
    """Messages of different lane keys (see `parallel`) that may wait for their answers on one connection, where the
    receiver allows it."""
    ack_timeout: Duration = Field(default=30.0, gt=0)
    """How long the receiver may take to acknowledge a message."""
    questions: int = Field(default=16, ge=1, le=256)
    """Questions (of routes that `ask`) under way at once, each on a connection of its own; further ones wait."""
    wait_for: Literal["accept", "application"] = "accept"
    """``application``: a commit answer (CA) is not enough, the application's (AA, AE, AR) is waited for, for as long
    again."""
    ack_policy: AckPolicy = {}
    """What answers mean, over the built-in table: `{AE: retry, AR/203: done, AA/UA: done}`; done, retry, park or dead.
    After the stroke: the error (table 0357), or what became of an order (table 0119)."""
    keepalive: Duration = Field(default=60.0, ge=1)
    """A silent receiver is asked after so long whether it is still there (TCP keep-alive)."""
    tls: TlsSettings | None = None
    """Encrypt: whose certificate the receiver must show, and ours if it asks for one."""


class MllpSink:
    """The sending end of an ``mllp-out`` channel. Questions have other connections than deliveries."""

    def __init__(self, settings: MllpOutSettings, services: Services) -> None:
        self.settings = settings
        self.peers = PeerBook()
        self._tls = Certificates(settings.tls, services.name, server=False) if settings.tls else None
        self._deliveries = Pool(settings, services.name, settings.pipeline, self.peers, self._tls)
        self._questions = Pool(settings, services.name, 1, self.peers, self._tls)
        self._turns = asyncio.Semaphore(settings.questions)
        self._answers = services.answers

    @property
    def endpoint(self) -> str:
        return f"{'mllps' if self._tls else 'mllp'}://{self.settings.connect}"

    @property
    def links(self) -> dict[Link, None]:
        """The open connections of deliveries, the oldest first."""
        return self._deliveries.links

    async def send(self, outgoing: Outgoing) -> Answer:
        """Returns when the receiver has accepted the message, or has all of it where it was told not to answer.

        An answer that is a message of its own is stored before. Raises Unreachable when the receiver cannot have got
        all of it, Uncertain when it may have, Held when it took it and its application was waited for in vain;
        Temporary, Permanent or Held as :mod:`channels.ack_policy` reads a negative answer.
        """
        frame, control_id, settings = _frame(outgoing), outgoing.control_id.strip(), self.settings
        if outgoing.format == "hl7v2" and asks_for_nothing(outgoing.data):
            await self._deliveries.hand_over(control_id, frame, settings.ack_timeout)
            return Answer("sent")
        application = settings.wait_for == "application"
        ack, body = await self._deliveries.ask(control_id, frame, settings.ack_timeout, application=application)
        await self._hand_back(ack, body)
        judge(ack, settings.ack_policy)
        return Answer(ack.summary, body)

    async def ask(self, outgoing: Outgoing, timeout: float) -> Answer:
        """See :class:`bridge.ports.Asking`. A commit answer (CA) is not the answer."""
        frame, control_id = _frame(outgoing), outgoing.control_id.strip()
        try:
            async with asyncio.timeout(timeout), self._turns:
                ack, body = await self._questions.ask(control_id, frame, timeout, application=True)
        except TimeoutError:
            raise Uncertain(f"no answer within {timeout:g} s", fix="see why the receiver is slow") from None
        return Answer(ack.summary, body)

    async def close(self) -> None:
        """Close every connection, at once."""
        await asyncio.gather(self._deliveries.close(), self._questions.close())

    async def _hand_back(self, ack: Ack, body: bytes) -> None:
        """Have an answer with content of its own received as a message, where a route wants it."""
        if self._answers is None or not ack.is_message:
            return
        reply = await self._answers(Inbound(body, str(self.settings.connect)))
        if not reply.message:
            raise Uncertain("its answer could not be stored", fix="mend the store: it is sent again for its answer")


def _frame(outgoing: Outgoing) -> bytes:
    """Raises Permanent for what cannot be framed."""
    try:
        return wrap(outgoing.data)
    except CodecError as error:
        raise Permanent(error.what, at=error.at, fix=error.fix, kind=error.kind) from None
