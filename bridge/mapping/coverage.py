"""What the cases leave untried: lines, rules, alternatives, conditions and table rows that none of them reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bridge.mapping.watch import Spot, Watch


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that no case reaches. ``last`` is the last line of several rows of a table, else ``line``."""

    file: str
    line: int
    last: int
    what: str

    def __str__(self) -> str:
        lines = f"{self.line}-{self.last}" if self.last != self.line else f"{self.line}"
        return f"{self.file}:{lines}: {self.what}"


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are, and how many of them some case reaches."""

    all: int
    reached: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the cases reach of mappings, and of the tables that these use."""

    lines: Count = Count(0, 0)
    """Source lines, edits, rules, their alternatives, and both ways that each condition can go."""
    rows: Count = Count(0, 0)
    gaps: list[Gap] = field(default_factory=list)


def coverage(watch: Watch, *, everything: bool = True) -> Coverage:
    """What was reached of what ``watch`` knows; not ``everything``: of the mappings that ran, and the tables they found
    something in."""
    touched = {spot.file for spot in watch.reached}
    wanted = watch.ran | {spot.file for spot in watch.reached if spot.kind == "row"}
    spots = sorted(spot for spot, files in watch.known.items() if everything or files & wanted)
    rows = [spot for spot in spots if spot.kind == "row"]
    lines = [spot for spot in spots if spot.kind != "row"]
    gaps = [*_untouched(spots, touched), *_lines(lines, watch, touched), *_rows(rows, watch, touched)]
    gaps.sort(key=lambda gap: (gap.file, gap.line, gap.what))
    return Coverage(_count(lines, watch), _count(rows, watch), gaps)


def _count(spots: list[Spot], watch: Watch) -> Count:
    return Count(len(spots), sum(spot in watch.reached for spot in spots))


def _untouched(spots: list[Spot], touched: set[str]) -> Iterator[Gap]:
    for file, kind in dict.fromkeys((spot.file, spot.kind == "row") for spot in spots if spot.file not in touched):
        yield Gap(file, 1, 1, "no case looks anything up in this table" if kind else "no case reaches this mapping")


def _lines(spots: Iterable[Spot], watch: Watch, touched: set[str]) -> Iterator[Gap]:
    """Of a line that is not reached, neither alternatives nor its own condition are told as well."""
    missed = [spot for spot in spots if spot.file in touched and spot not in watch.reached]
    whole = {(spot.file, spot.line) for spot in missed if spot.kind == "line"}
    for spot in missed:
        if spot.kind == "line":
            yield Gap(spot.file, spot.line, spot.line, f"no case reaches this line: {spot.what}")
        elif spot.kind == "rule":
            yield Gap(spot.file, spot.line, spot.line, f"no case breaks this rule: {spot.what}")
        elif (spot.file, spot.line) not in whole:
            what = f"no case takes `{spot.what}`" if spot.kind == "alternative" else f"no case where `when` {spot.what}"
            yield Gap(spot.file, spot.line, spot.line, what)


def _rows(spots: Iterable[Spot], watch: Watch, touched: set[str]) -> Iterator[Gap]:
    """Rows that no case finds; those that follow one another are one gap."""
    first = last = None
    for spot in spots:
        if spot.file not in touched:
            continue
        missed = spot not in watch.reached
        if last is not None and first is not None and (not missed or spot.file != last.file):
            yield _row_gap(first, last)
            first = None
        if missed:
            first, last = first or spot, spot
    if first is not None and last is not None:
        yield _row_gap(first, last)


def _row_gap(first: Spot, last: Spot) -> Gap:
    return Gap(
        first.file, first.line, last.line, "no case finds these rows" if first != last else "no case finds this row"
    )
