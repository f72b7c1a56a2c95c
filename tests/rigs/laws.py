"""What must hold of everything that arrived at one end, whatever happened to the engine: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tests.rigs.recorders import Arrival
from tests.rigs.sender import Sent


def lost(arrivals: Iterable[Arrival], owed: Iterable[str]) -> set[str]:
    """Messages that were owed to this end and did not arrive."""
    return set(owed) - {arrival.id for arrival in arrivals}


def strangers(arrivals: Iterable[Arrival], owed: Iterable[str]) -> set[str]:
    """Messages that arrived and were not owed to this end."""
    return {arrival.id for arrival in arrivals} - set(owed)


def changed(arrivals: Iterable[Arrival]) -> set[str]:
    """Messages that arrived with other bytes than the first time."""
    first: dict[str, bytes] = {}
    return {arrival.id for arrival in arrivals if first.setdefault(arrival.id, arrival.data) != arrival.data}


def overtaken(arrivals: Iterable[Arrival], sent: Mapping[str, Sent], *, keyed: bool) -> list[tuple[str, str]]:
    """Pairs (earlier, later) of one lane whose first arrivals came the wrong way round.

    Earlier means surely accepted earlier: it was acknowledged before the other was sent for the first time. ``keyed``:
    the lane is the message's key (all of its keys), else it is the whole end.
    """
    latest: dict[str, tuple[float, str]] = {}
    seen: set[str] = set()
    wrong: list[tuple[str, str]] = []
    for arrival in arrivals:
        if arrival.id in seen:
            continue
        seen.add(arrival.id)
        mine = sent[arrival.id]
        for key in arrival.keys if keyed else ("",):
            begun, other = latest.get(key, (0.0, ""))
            if mine.answered < begun:
                wrong.append((arrival.id, other))
            latest[key] = max((begun, other), (mine.first, arrival.id))
    return wrong


def left_behind(arrivals: Sequence[Arrival], *, keyed: bool) -> dict[str, str]:
    """Lanes whose last arrival is not the one that came as the last new one: a repeat of an older one ended them."""
    newest: dict[str, str] = {}
    last: dict[str, str] = {}
    seen: set[str] = set()
    for arrival in arrivals:
        for key in arrival.keys if keyed else ("",):
            last[key] = arrival.id
            if arrival.id not in seen:
                newest[key] = arrival.id
        seen.add(arrival.id)
    return {key: last[key] for key in last if last[key] != newest[key]}


def repeats(arrivals: Iterable[Arrival]) -> Counter[int]:
    """How many messages each life of the engine sent again."""
    seen: dict[str, int] = {}
    again: set[tuple[int, str]] = set()
    for arrival in arrivals:
        if seen.setdefault(arrival.id, arrival.life) != arrival.life:
            again.add((arrival.life, arrival.id))
    return Counter(life for life, _ in again)


def unmarked(arrivals: Iterable[Arrival]) -> Counter[int]:
    """How many of the messages that each life of the engine had sent were sent again by a later one: what its end cost.
    Two lives that end soon after one another may leave theirs to the same successor."""
    last: dict[str, int] = {}
    again: set[tuple[int, str]] = set()
    for arrival in arrivals:
        before = last.get(arrival.id, arrival.life)
        if before != arrival.life:
            again.add((before, arrival.id))
        last[arrival.id] = arrival.life
    return Counter(life for life, _ in again)


def twice_in_a_life(arrivals: Iterable[Arrival]) -> list[str]:
    """Messages that one life of the engine sent more than once, though nothing had gone wrong for it."""
    counts = Counter((arrival.life, arrival.id) for arrival in arrivals)
    return [identifier for (_, identifier), count in counts.items() if count > 1]
