"""What people do about patient identity, by the command or the API: look, decide, take back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from bridge.codecs.adt import RETIRING
from bridge.engine.plan import Plan
from bridge.errors import BridgeError, NotFound
from bridge.message import DeliveryStatus
from bridge.store import identity_desk
from bridge.store.identity_desk import Person, Question
from bridge.store.store import Store

Replay = Callable[[tuple[str, ...], str], list[str]]
"""Deliveries and actor -> the new deliveries."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A question that a person answered."""

    question: Question
    deliveries: tuple[str, ...] = ()
    """Made anew, so that the worklist follows a merge that was accepted."""


class Identities:
    """Safe from any thread; every change names its ``actor`` and has a reason."""

    def __init__(self, store: Store, plan: Callable[[], Plan], replay: Replay) -> None:
        self._store, self._plan, self._replay = store, plan, replay

    def questions(self, status: str = "open") -> list[Question]:
        """What waits for a person, the oldest first; an empty ``status`` is any."""
        found: list[Question] = self._store.read(lambda c: identity_desk.questions(c, status))
        return found

    def person(self, identifier: str, *, actor: str) -> Person:
        """All identifiers of one person, and what became of them. Seeing them is audited. Raises NotFound."""
        found: Person = self._store.read(lambda c: identity_desk.person(c, identifier))
        about = found.history[-1]["message"] if found.history else found.questions[-1].message
        self._store.record(actor, "view", about, {"what": "identity"})
        return found

    def accept(self, number: int, *, actor: str, reason: str, survivor: str = "") -> Answered:
        """What the message claimed takes effect; the worklist follows. ``survivor`` chooses among candidates."""
        question = self._store.answer_identity(
            number, accept=True, actor=actor, reason=_needed(reason), survivor=survivor
        )
        return Answered(question, tuple(self._follow(question, actor)))

    def reject(self, number: int, *, actor: str, reason: str) -> Answered:
        """What the message claimed is not so."""
        return Answered(self._store.answer_identity(number, accept=False, actor=actor, reason=_needed(reason)))

    def unmerge(self, identifier: str, *, actor: str, reason: str) -> None:
        """Take a merge back. What the worklist has moved stays there until its orders are replayed. Raises NotFound."""
        self._store.unmerge(identifier, actor=actor, reason=_needed(reason))

    def _follow(self, question: Question, actor: str) -> list[str]:
        """Bring the message to the worklists once more, now that its merge holds."""
        if question.act not in RETIRING:
            return []
        plan = self._plan()
        with suppress(NotFound):
            done = [
                delivery["id"]
                for delivery in self._store.message(question.message)["deliveries"]
                if delivery["status"] == DeliveryStatus.DONE.value
                and delivery["mapping"] in plan.mappings
                and plan.mappings[delivery["mapping"]].target == "worklist"
            ]
            return self._replay(tuple(done), actor) if done else []
        return []


def _needed(reason: str) -> str:
    if not reason.strip():
        raise BridgeError("a decision needs a reason", fix="say what it rests on", kind="required")
    return reason.strip()
