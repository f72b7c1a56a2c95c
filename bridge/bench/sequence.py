"""Sequence judged from outside: by what was sent and answered when, and in which sequence it arrived."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def overtaken(arrivals: Sequence[K], times: Mapping[K, tuple[float, float]]) -> list[K]:
    """The arrivals that a later message overtook: something sent only after their answer had come arrived before them.

    ``times`` holds (sent, answered) of each, on one clock. Two messages under way at once may arrive either way round.
    """
    late: list[K] = []
    newest = float("-inf")
    for one in arrivals:
        sent, answered = times[one]
        if newest > answered:
            late.append(one)
        newest = max(newest, sent)
    return late
