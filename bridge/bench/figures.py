"""From what both ends saw to figures and problems: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bridge.bench.ends import Arrived, Load
from bridge.bench.orders import control_id, order
from bridge.bench.sequence import overtaken


@dataclass(frozen=True, slots=True)
class Answers:
    """How fast the acknowledgements came."""

    per_s: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def answers(load: Load) -> Answers:
    waits = sorted((b - a) * 1000 for a, b in zip(load.sent, load.answered, strict=True))
    per_s = len(waits) / (max(load.answered) - min(load.sent))
    p50, p95, p99 = (round(percentile(waits, part), 2) for part in (0.50, 0.95, 0.99))
    return Answers(round(per_s), p50, p95, p99, round(waits[-1], 2))


def percentile(ascending: Sequence[float], part: float) -> float:
    """The smallest value that at least ``part`` of all values don't exceed (nearest rank)."""
    rank = -int(-len(ascending) * part // 1)
    return ascending[max(rank, 1) - 1]


@dataclass(frozen=True, slots=True)
class Level:
    """One number of connections, through the engine."""

    connections: int
    run: int
    load: Load
    arrived: Arrived
    cpu_seconds: float
    rss_mib: float
    bare: Load
    """The same load on an end that only acknowledges."""

    def problems(self) -> list[str]:
        """What was lost, refused, left unedited or out of sequence; empty when all is well."""
        times = {
            control_id(order(self.run, number)).decode(): pair
            for number, pair in enumerate(zip(self.load.sent, self.load.answered, strict=True))
        }
        ids = self.arrived.ids
        first = list(dict.fromkeys(ids))
        counts = {
            "answered other than AA": self.load.refused,
            "lost": len(times.keys() - set(ids)),
            "never sent": len(set(ids) - times.keys()),
            "arrived again": len(ids) - len(first),
            "arrived unedited": self.arrived.unedited,
            "overtaken by a later one": len(overtaken([one for one in first if one in times], times)),
        }
        return [f"{self.connections} connection(s): {count} {what}" for what, count in counts.items() if count]

    def figures(self, commits_per_s: float) -> dict[str, Any]:
        """All figures of this level, for people and programs. Rates are per second, times as their names say."""
        mine, bare = answers(self.load), answers(self.bare)
        began, ended = min(self.load.sent), max(self.load.answered)
        delivered = len(self.load.sent) / (self.arrived.last - began) if self.arrived.ids else 0.0
        return {
            "connections": self.connections,
            "messages": len(self.load.sent),
            "acknowledged": asdict(mine),
            "delivered_per_s": round(delivered),
            "last_delivery_after_last_ack_ms": round((self.arrived.last - ended) * 1000, 1),
            "cpu_percent": round(100 * self.cpu_seconds / (max(self.arrived.last, ended) - began)),
            "cpu_us_per_message": round(1e6 * self.cpu_seconds / len(self.load.sent)),
            "rss_mib": round(self.rss_mib),
            "only_acknowledging": asdict(bare),
            "ratios": {
                "acknowledged_to_only_acknowledging": round(mine.per_s / bare.per_s, 3),
                "acknowledged_to_commits": round(mine.per_s / commits_per_s, 3),
                "delivered_to_acknowledged": round(delivered / mine.per_s, 3),
            },
            "problems": self.problems(),
        }
