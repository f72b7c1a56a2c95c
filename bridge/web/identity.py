"""The API's part about patient identity: what waits for a person, one person's identifiers, decisions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from bridge.engine.identities import Answered
from bridge.engine.operations import Operations

ACTOR = "api"
router = APIRouter(prefix="/identity")


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="ignore")


class IdentityQuestion(_Shape):
    """What a message claims and a person has to decide. Times are milliseconds since the epoch."""

    number: int
    act: Literal["merge", "change", "unlink", "known"]
    """``unlink``: is a merge to be taken back? ``known``: are they one person?"""
    identifier: str
    """Which would be retired; empty: all candidates but the survivor."""
    candidates: list[str]
    doubt: str
    message: str
    asked_at: int
    status: Literal["open", "accepted", "rejected"]
    answered_at: int
    actor: str
    reason: str


class IdentityEntry(_Shape):
    """Something that became of an identifier."""

    at: int
    act: str
    identifier: str
    other: str
    message: str
    actor: str
    """Empty when a message made it."""


class Person(_Shape):
    """What is known of the person behind an identifier."""

    identifier: str
    survivor: str
    """The identifier in use; the same one unless it was merged away."""
    identifiers: list[str]
    history: list[IdentityEntry]
    questions: list[IdentityQuestion]


class Decision(_Shape):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")
    reason: str = Field(min_length=1, max_length=1000)
    """What it rests on; kept in the audit trail."""


class Acceptance(Decision):
    survivor: str = ""
    """Which of several candidates survives."""


class Decided(_Shape):
    question: IdentityQuestion
    deliveries: list[str]
    """Made anew, so that the worklist follows."""

    @classmethod
    def of(cls, answered: Answered) -> Decided:
        return cls.model_validate(asdict(answered))


class Unmerge(Decision):
    identifier: str
    """The retired one, ``id^issuer``."""


class Unmerged(_Shape):
    identifier: str


def _operations(request: Request) -> Operations:
    operations: Operations = request.app.state.node.operations
    return operations


@router.get("/questions")
def questions(request: Request, status: Literal["", "open", "accepted", "rejected"] = "open") -> list[IdentityQuestion]:
    """Merges and the like that are not clear, the oldest first; they change nothing until they are accepted."""
    found = _operations(request).identity.questions(status)
    return [IdentityQuestion.model_validate(asdict(question)) for question in found]


@router.post("/questions/{number}/accept")
def accept(request: Request, number: int, wanted: Acceptance) -> Decided:
    """What the message claimed takes effect, and the worklist follows. Audited."""
    desk = _operations(request).identity
    return Decided.of(desk.accept(number, actor=ACTOR, reason=wanted.reason, survivor=wanted.survivor))


@router.post("/questions/{number}/reject")
def reject(request: Request, number: int, wanted: Decision) -> Decided:
    """What the message claimed is not so. Audited."""
    return Decided.of(_operations(request).identity.reject(number, actor=ACTOR, reason=wanted.reason))


@router.get("/patient")
def patient(request: Request, identifier: str) -> Person:
    """All identifiers of one person (``id^issuer``) and what became of them. Seeing them is audited."""
    return Person.model_validate(asdict(_operations(request).identity.person(identifier, actor=ACTOR)))


@router.post("/unmerge")
def unmerge(request: Request, wanted: Unmerge) -> Unmerged:
    """Take a merge back. Audited."""
    _operations(request).identity.unmerge(wanted.identifier, actor=ACTOR, reason=wanted.reason)
    return Unmerged(identifier=wanted.identifier)
