"""``radbridge demo``: a day of a small radiology group, played by simulated systems around the real engine."""

from __future__ import annotations

from pathlib import Path


def run_demo(
    *,
    json: bool = False,
    fast: bool = False,
    seed: int = 1,
    exams: int = 24,
    keep: Path | None = None,
    pacs_forgets: frozenset[int] = frozenset(),
) -> int:
    """Play the day and check its end; 0 when all is as it must be, else 1.

    The same ``seed`` plays the same day. ``fast`` takes a quarter of a minute instead of a whole one. ``keep`` is a
    new or empty folder in which the engine's data stay. ``pacs_forgets`` makes the PACS lose the messages with these
    numbers (from 1), so that one can see the check fail. Raises BridgeError if the engine does not start.
    """
    from bridge.demo.show import show

    return show(machine=json, fast=fast, seed=seed, exams=exams, keep=keep, pacs_forgets=pacs_forgets)
