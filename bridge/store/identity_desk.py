"""What people do about patient identity: see what is known, answer what is open, take a merge back. All recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, update

from bridge.codecs.adt import RETIRING, IdentityAct, PatientNumber
from bridge.errors import BridgeError, NotFound
from bridge.store import identity
from bridge.store import identity_tables as t
from bridge.store.replay import record


@dataclass(frozen=True, slots=True)
class Question:
    """What a message claims and a person has to decide."""

    number: int
    act: str
    """merge, change, unlink (of what was merged) or known (are they one person?)."""
    identifier: str
    """Which would be retired; empty: all candidates but the survivor."""
    candidates: tuple[str, ...]
    doubt: str
    message: str
    asked_at: int
    status: str
    """open, accepted or rejected."""
    answered_at: int
    actor: str
    reason: str


def questions(connection: Connection, status: str = "open", limit: int = 1000) -> list[Question]:
    """The oldest first; an empty ``status`` is any."""
    query = select(t.question).order_by(t.question.c.number).limit(limit)
    if status:
        query = query.where(t.question.c.status == status)
    return [_question(row) for row in connection.execute(query)]


def open_questions(connection: Connection) -> int:
    """How many wait for a person."""
    query = select(func.count()).select_from(t.question).where(t.question.c.status == "open")
    return connection.execute(query).scalar_one()


def _question(row: Row[Any]) -> Question:
    names = tuple(candidate[0] for candidate in json.loads(row.candidates))
    return Question(**{**row._mapping, "candidates": names})


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of the person behind an identifier."""

    identifier: str
    survivor: str
    """The identifier in use; the same one unless it was merged away."""
    identifiers: tuple[str, ...]
    """All of the person's, merged, linked and cross-referenced ones included."""
    history: tuple[dict[str, Any], ...]
    """What became of them, the oldest first: at, act, identifier, other, message, actor."""
    questions: tuple[Question, ...]
    """Open ones about any of them."""


def person(connection: Connection, identifier: str) -> Person:
    """Raises NotFound for an identifier that nothing was ever said about, and one without its issuer."""
    if "^" not in identifier:
        every = sorted(name for name in identity.names(connection, identifier) if name.startswith(f"{identifier}^"))
        if len(every) != 1:
            fix = f"write one of {', '.join(every)}" if every else "write the identifier and its issuer: 4711^HOSPITAL"
            raise NotFound("which identifier that is depends on its issuer", fix=fix)
        identifier = every[0]
    names = identity.names(connection, identifier)
    h = t.history.c
    past = select(t.history).where(or_(h.identifier.in_(names), h.other.in_(names))).order_by(h.number)
    asked = [one for one in questions(connection) if names & {one.identifier, *one.candidates}]
    rows = tuple(
        {key: value for key, value in row._mapping.items() if key != "number"} for row in connection.execute(past)
    )
    if not rows and not asked:
        raise NotFound("nothing is known of this identifier", fix="write it as in PID-3: 4711^HOSPITAL")
    return Person(identifier, identity.chain(connection, identifier)[-1], tuple(sorted(names)), rows, tuple(asked))


def answer(tx: Connection, number: int, *, accept: bool, actor: str, reason: str, survivor: str = "") -> Question:
    """Accept what a message claimed, or reject it. ``survivor`` names the candidate where there are several.

    Raises NotFound, and BridgeError for a question that was answered, or one that needs a survivor.
    """
    identity.lock(tx)
    row = tx.execute(select(t.question).where(t.question.c.number == number)).first()
    if row is None:
        raise NotFound(f"no identity question {number}", fix="list them with `radbridge identity`")
    if row.status != "open":
        raise BridgeError(f"identity question {number} was {row.status}", kind="locked")
    if accept:
        _bring_about(tx, row, _chosen(row, survivor), actor)
    status = "accepted" if accept else "rejected"
    answered = {"status": status, "actor": actor, "reason": reason, "answered_at": identity.now_millis()}
    tx.execute(update(t.question).where(t.question.c.number == number).values(**answered))
    record(tx, actor, f"identity-{'accept' if accept else 'reject'}", f"question {number}", {"reason": reason})
    return _question(tx.execute(select(t.question).where(t.question.c.number == number)).one())


def _chosen(row: Row[Any], survivor: str) -> PatientNumber:
    numbers = [PatientNumber(key, (name, oid, kind)) for key, name, oid, kind in json.loads(row.candidates)]
    fitting = [number for number in numbers if survivor in ("", number.key, number.key.rpartition("^")[0])]
    if len(fitting) != 1:
        fix = "name the survivor: " + " or ".join(number.key for number in numbers)
        raise BridgeError("which of several identifiers survives is not said", at="survivor", fix=fix, kind="required")
    return fitting[0]


def _bring_about(tx: Connection, row: Row[Any], chosen: PatientNumber, actor: str) -> None:
    act = IdentityAct(row.act)
    if act is IdentityAct.UNLINK:
        identity.revive(tx, row.identifier, row.message, actor)
    elif act not in RETIRING:
        identity.connect(tx, IdentityAct.LINK, row.identifier, chosen.key, row.message, actor)
    else:
        keys = [candidate[0] for candidate in json.loads(row.candidates)]
        for old in [row.identifier] if row.identifier else [key for key in keys if key != chosen.key]:
            if old in identity.chain(tx, chosen.key):
                identity.revive(tx, chosen.key, row.message, actor)
            identity.revive(tx, old, row.message, actor)
            identity.retire(tx, act, old, chosen, row.message, actor)


def unmerge(tx: Connection, identifier: str, *, actor: str, reason: str) -> None:
    """Take a merge back: from now on the identifier stands for itself. Raises NotFound."""
    identity.lock(tx)
    since = tx.execute(select(t.alias.c.message).where(t.alias.c.identifier == identifier)).scalar()
    if since is None:
        raise NotFound("this identifier was not merged away", fix="write the retired one as in MRG-1: 4711^HOSPITAL")
    identity.revive(tx, identifier, since, actor)
    record(tx, actor, "identity-unmerge", since, {"reason": reason})
