"""CPU time of one piece of work: what a busy machine does besides does not count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

ROUND = 0.002
"""Seconds of CPU that one round takes at least: the clock's own grain is far below."""
BUDGET = 4.0
"""Seconds of CPU for one piece of work after which no further round begins."""

Work = Callable[[], object]


def microseconds(work: Work, rounds: int) -> dict[str, float]:
    """``best_us`` and ``median_us``: CPU microseconds of one piece of work, in the best and in the middle round."""
    return side_by_side({"": work}, rounds)[""]


def side_by_side(works: Mapping[str, Work], rounds: int) -> dict[str, dict[str, float]]:
    """The same for several, whose rounds take turns: a machine that slows down slows all of them."""
    clock = time.process_time
    began = clock()
    repeats = {name: max(1, round(ROUND / max(_once(work, 1), 1e-6))) for name, work in works.items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        if number >= 3 and clock() - began > BUDGET * len(works):
            break
        for name, work in works.items():
            times[name].append(_once(work, repeats[name]))
    return {
        name: {"best_us": round(min(some) * 1e6, 1), "median_us": round(statistics.median(some) * 1e6, 1)}
        for name, some in times.items()
    }


def _once(work: Work, repeats: int) -> float:
    """Seconds of CPU for one piece of work, on the average of so many; one more before them finds the caches cold."""
    work()
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats
