"""Patient identity: which identifiers were merged away, and into which. Decided as messages are accepted.

An identifier that was merged away stands for its survivor until a person takes the merge back. What is not clear is
kept as a question for a person, and changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, delete, insert, or_, select, text

from bridge.codecs.adt import RETIRING, IdentityAct, IdentityClaim, IdentityEvent, PatientNumber
from bridge.message import SHARED, Delivery
from bridge.store import identity_tables as t
from bridge.store.prepared import PreparedIn

if TYPE_CHECKING:
    from bridge.store.accept import Acceptance

CONTEXT = "identity"
"""Where a mapping's context has what :func:`survivors` found."""
_LOCK = 7205760
_MOST = 1000
"""Identifiers of one person that are looked for."""

Survivors = dict[str, dict[str, Any]]
"""``id^issuer`` that was merged away -> ``survivor``, an ``id^issuer``, and its ``authority``: name, OID, type."""

_ALIASES = PreparedIn(
    lambda identifiers: select(t.alias.c.identifier, t.alias.c.survivor, t.alias.c.authority).where(
        t.alias.c.identifier.in_(identifiers)
    )
)


def survivors(connection: Connection, identifiers: Collection[str]) -> Survivors:
    """Who survives in the end, for each of ``identifiers`` that was merged away; JSON-able."""
    edges: dict[str, tuple[str, str]] = {}
    wanted = set(identifiers)
    while wanted:
        found = {row[0]: (row[1], row[2]) for row in _ALIASES.rows(connection, wanted)}
        edges |= found
        wanted = {survivor for survivor, _ in found.values()} - edges.keys()
    return {name: _last(edges, name) for name in identifiers if name in edges}


def _last(edges: dict[str, tuple[str, str]], name: str) -> dict[str, Any]:
    seen, authority = {name}, ""
    while name in edges and edges[name][0] not in seen:
        name, authority = edges[name]
        seen.add(name)
    return {"survivor": name, "authority": json.loads(authority)}


def settle(tx: Connection, items: Sequence[Acceptance]) -> dict[str, list[str]]:
    """Decide what accepted messages claim, in their sequence, and tell each delivery who its patients are by then.

    Returns what is to be remarked about messages, by their ids.
    """
    remarks: dict[str, list[str]] = {}
    known: Survivors | None = None
    for at, item in enumerate(items):
        if item.event is not None:
            remarks[item.message.id] = apply(tx, item.event, item.message.id)
            known = None
        if known is None:
            known = survivors(tx, {name for later in items[at:] for name in later.message.header.patients})
        for delivery in item.deliveries:
            tell(delivery, item.message.header.patients, known)
            if known:
                widen(delivery, known)
    return remarks


def tell(delivery: Delivery, patients: Iterable[str], known: Survivors) -> None:
    """Put into the context of a delivery that is to be mapped what is known of its patients, and nothing else."""
    mine = {name: known[name] for name in patients if name in known} if known and delivery.mapping else {}
    if mine:
        delivery.context = {**delivery.context, CONTEXT: mine}
    elif CONTEXT in delivery.context:
        delivery.context = {key: value for key, value in delivery.context.items() if key != CONTEXT}


def widen(delivery: Delivery, known: Survivors) -> None:
    """Add the survivors' lane keys, so that what names either identifier stays in one sequence."""
    marks = (("", key) if key[:1] != SHARED else (SHARED, key[1:]) for key in delivery.keys)
    added = {mark + known[key]["survivor"] for mark, key in marks if key in known} - set(delivery.keys)
    if added:
        delivery.keys = tuple(sorted({*delivery.keys, *added}))


def widen_all(tx: Connection, deliveries: Iterable[Delivery]) -> None:
    """The same for deliveries that a person adds."""
    waiting = list(deliveries)
    known = survivors(tx, {key.removeprefix(SHARED) for delivery in waiting for key in delivery.keys})
    for delivery in waiting:
        widen(delivery, known)


def apply(tx: Connection, event: IdentityEvent, message: str) -> list[str]:
    """Bring what a message claims into effect; what is not clear becomes a question. Returns remarks for people."""
    lock(tx)
    remarks = [event.remark]
    for claim in event.claims:
        if claim.act in RETIRING:
            remarks.append(_retire(tx, claim, message))
        elif claim.act is IdentityAct.LINK:
            connect(tx, claim.act, claim.identifier, claim.candidates[0].key, message)
        elif claim.act is IdentityAct.UNLINK:
            remarks.append(_unlink(tx, claim, message))
        else:
            remarks.append(_cross_reference(tx, claim, message))
    return [remark for remark in remarks if remark]


def lock(tx: Connection) -> None:
    """Identity changes one transaction at a time: two nodes must not merge each other's survivors."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def chain(connection: Connection, identifier: str) -> list[str]:
    """The identifier, what it was merged into, and so on to the one that is in use."""
    found = [identifier]
    while True:
        query = select(t.alias.c.survivor).where(t.alias.c.identifier == found[-1])
        following = connection.execute(query).scalar()
        if following is None or following in found:
            return found
        found.append(following)


def _retire(tx: Connection, claim: IdentityClaim, message: str) -> str:
    if claim.doubt:
        return ask(tx, claim, message)
    old, new = claim.identifier, claim.candidates[0]
    line = chain(tx, new.key)
    if old == new.key:
        return ""
    if old in line:
        doubt = "the survivor was itself merged into the identifier that is to be retired"
        return ask(tx, claim, message, doubt)
    mine = chain(tx, old)
    if len(mine) > 1:
        if mine[-1] == line[-1]:
            return ""
        return ask(tx, claim, message, "the identifier was already merged into another one")
    retire(tx, claim.act, old, new, message)
    return "the survivor was itself merged away: its own survivor holds" if len(line) > 1 else ""


def retire(tx: Connection, act: IdentityAct, old: str, new: PatientNumber, message: str, actor: str = "") -> None:
    """From now on ``old`` stands for ``new``. The caller has made sure that this closes no circle."""
    row = {
        "identifier": old,
        "survivor": new.key,
        "authority": json.dumps(new.authority),
        "kind": str(act),
        "since": now_millis(),
        "message": message,
    }
    tx.execute(insert(t.alias), row)
    note(tx, act, old, new.key, message, actor)


def revive(tx: Connection, identifier: str, message: str, actor: str) -> bool:
    """Take the merge of ``identifier`` back; whether there was one."""
    place = t.alias.c.identifier == identifier
    survivor = tx.execute(select(t.alias.c.survivor).where(place)).scalar()
    if survivor is None:
        return False
    tx.execute(delete(t.alias).where(place))
    note(tx, "unmerge", identifier, survivor, message, actor)
    return True


def connect(tx: Connection, act: IdentityAct, one: str, other: str, message: str, actor: str = "") -> None:
    """Link two identifiers, or note that they are one patient's at two authorities; known already: nothing to do."""
    table = t.link if act is IdentityAct.LINK else t.cross_reference
    known = select(table.c.since).where(table.c.identifier == one, table.c.other == other)
    if one == other or tx.execute(known).first():
        return
    facts = {"since": now_millis(), "message": message}
    tx.execute(insert(table), [{"identifier": a, "other": b, **facts} for a, b in ((one, other), (other, one))])
    note(tx, act, one, other, message, actor)


def _unlink(tx: Connection, claim: IdentityClaim, message: str) -> str:
    one, other = claim.identifier, claim.candidates[0].key
    link = t.link.c
    both = or_(and_(link.identifier == one, link.other == other), and_(link.identifier == other, link.other == one))
    if tx.execute(delete(t.link).where(both)).rowcount:
        note(tx, claim.act, one, other, message)
        return ""
    mine, theirs = chain(tx, one), chain(tx, other)
    if other in mine or one in theirs:
        retired = one if other in mine else other
        undo = IdentityClaim(claim.act, retired, (PatientNumber(other if retired == one else one),))
        return ask(tx, undo, message, "these identifiers were merged, not linked: is the merge to be taken back?")
    return "nothing to unlink"


def _cross_reference(tx: Connection, claim: IdentityClaim, message: str) -> str:
    """Two patients of one authority that share another authority's identifier may be one person, or a mistake."""
    mine, shared = claim.identifier, claim.candidates[0].key
    reference = t.cross_reference.c
    others = [
        row.other
        for row in tx.execute(select(reference.other).where(reference.identifier == shared))
        if row.other.rpartition("^")[2] == mine.rpartition("^")[2] and row.other != mine
    ]
    strangers = [other for other in others if not _one_person(tx, mine, other)]
    if strangers:
        doubt = "two patients of one authority have the same identifier of another one: are they one person?"
        numbers = tuple(PatientNumber(other) for other in sorted(strangers))
        return ask(tx, IdentityClaim(claim.act, mine, numbers), message, doubt, again=False)
    connect(tx, claim.act, mine, shared, message)
    return ""


def _one_person(tx: Connection, one: str, other: str) -> bool:
    first, second = chain(tx, one)[-1], chain(tx, other)[-1]
    linked = select(t.link.c.since).where(t.link.c.identifier.in_({one, first}), t.link.c.other.in_({other, second}))
    return first == second or tx.execute(linked).first() is not None


def ask(tx: Connection, claim: IdentityClaim, message: str, doubt: str = "", *, again: bool = True) -> str:
    """Keep a question for a person; one that is open already is not asked twice, and one that was answered only
    ``again``."""
    candidates = json.dumps([[number.key, *number.authority] for number in claim.candidates])
    q = t.question.c
    same = select(q.number, q.status).where(
        q.identifier == claim.identifier, q.act == str(claim.act), q.candidates == candidates
    )
    if again:
        same = same.where(q.status == "open")
    known = tx.execute(same.order_by(q.number.desc())).first()
    if known is not None:
        return f"identity question {known.number} is {'held' if known.status == 'open' else known.status}"
    row = {
        "act": str(claim.act),
        "identifier": claim.identifier,
        "candidates": candidates,
        "doubt": claim.doubt or doubt,
        "message": message,
        "asked_at": now_millis(),
        "status": "open",
        "answered_at": 0,
        "actor": "",
        "reason": "",
    }
    made = tx.execute(insert(t.question), row).inserted_primary_key
    assert made is not None
    return f"identity question {made[0]} is held"


def note(tx: Connection, act: str, one: str, other: str, message: str, actor: str = "") -> None:
    """Add to the history of both."""
    row = {"at": now_millis(), "act": str(act), "identifier": one, "other": other, "message": message, "actor": actor}
    tx.execute(insert(t.history), row)


def names(connection: Connection, identifier: str) -> set[str]:
    """Every identifier of the person that ``identifier`` stands for: merged, linked, cross-referenced. An id without
    issuer is one of any issuer; empty when nothing is known of it."""
    pairs = (
        (t.alias.c.identifier, t.alias.c.survivor),
        (t.alias.c.survivor, t.alias.c.identifier),
        (t.link.c.identifier, t.link.c.other),
        (t.cross_reference.c.identifier, t.cross_reference.c.other),
    )
    found: set[str] = set()
    if "^" in identifier:
        found, wanted = {identifier}, {identifier}
    else:
        start = f"{identifier}^"
        wanted = {
            name
            for column, _ in pairs
            for name in connection.execute(select(column).where(column.startswith(start, autoescape=True))).scalars()
        }
        found |= wanted
    while wanted and len(found) < _MOST:
        near = {
            name
            for column, other in pairs
            for name in connection.execute(select(other).where(column.in_(wanted))).scalars()
        }
        wanted = near - found
        found |= near
    return found


def now_millis() -> int:
    return time.time_ns() // 1_000_000
