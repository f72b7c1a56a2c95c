"""Questions that were relayed: each is kept with who was asked and what came of it, in one transaction (law 2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, insert, select

from bridge.message import Delivery, DeliveryStatus, Message
from bridge.model import Unmapped
from bridge.store import schema as t
from bridge.store.accept import Accept, Acceptance, Accepted, receipt_scope
from bridge.store.finish import log_row


@dataclass(slots=True)
class Asked:
    """What came of one question."""

    delivery: Delivery
    """Who was asked, and on which route. For the journal alone: it is never owed."""
    sent: bytes = b""
    answer: str = ""
    """The destination's, in short and without content; empty when there is none."""
    unmapped: list[Unmapped] = field(default_factory=list)
    """The codes that a table has no row for, met on the way there or back."""

    @property
    def status(self) -> DeliveryStatus:
        return DeliveryStatus.ANSWERED if self.answer else DeliveryStatus.UNANSWERED


def keep(tx: Connection, acceptance: Acceptance, asked: Asked) -> Accepted:
    """Accept a question with the answer that goes back, and write into the journal what came of asking.

    Safe to run twice for the same question. The result carries the answer to give: an earlier one's, where another
    node was first with the same message.
    """
    accepted: Accepted
    acceptance.unmapped = asked.unmapped
    (accepted,) = _ACCEPT.run(tx, [acceptance])
    log, delivery = t.delivery_log, asked.delivery
    known = select(log.c.id).where(log.c.day == delivery.day, log.c.id == delivery.id)
    if tx.execute(known).first() is None:
        tx.execute(insert(log), log_row(delivery, asked.status, asked.answer, asked.sent))
    return accepted


_ACCEPT = Accept()


def kept_answer(connection: Connection, message: Message) -> bytes | None:
    """What the same message was answered before, as far as the receipts go back."""
    receipt = t.receipt.c
    known = select(receipt.answer).where(
        receipt.scope == receipt_scope(message), receipt.digest == message.header.digest
    )
    answer = connection.execute(known).scalar()
    return None if answer is None else bytes(answer)
