"""What a composed message takes from its source, and what it leaves behind: nothing is dropped in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bridge.codecs.hl7v2 import Hl7Message
from bridge.codecs.paths import Path
from bridge.mapping.gather import EachRef
from bridge.mapping.refs import NameRef, PathRef, Ref
from bridge.mapping.scope import Scope

_WHOLE = 0
Use = tuple[int | None, str, bool]
"""What a line reads: the level it is read at (None: its own), the segment, and whether every occurrence of it."""


def uses(refs: Iterable[Ref], level: int | None = None, *, every: bool = False) -> Iterator[tuple[Use, Path]]:
    """The places in the message that a source line depends on, through named values too."""
    for ref in refs:
        if isinstance(ref, PathRef):
            yield (level, ref.path.segment, every or not ref.path.plain), ref.path
        elif isinstance(ref, NameRef):
            yield from uses(ref.source.refs, ref.level, every=True)
        elif isinstance(ref, EachRef):
            yield from uses([ref.ref], level, every=True)


@dataclass(slots=True)
class Reads:
    """Which fields and components the lines of a mapping read, and what it says that it leaves out."""

    parts: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    """As the mapping writes it: ``BLG``, ``PID-19``, ``IPC-1.2``."""

    def add(self, path: Path) -> None:
        whole = path.repetition is not None or not path.component
        self.parts.setdefault((path.segment, path.field), set()).add(_WHOLE if whole else path.component)

    def left_behind(self, message: Hl7Message, copied: dict[int, int], read: set[int]) -> list[str]:
        """Segments, fields and components that hold something, and neither go with the message nor are left out.

        ``copied`` has the number of each copied segment, with its first field that was not copied (0: none); ``read``
        the numbers of those that lines have read from.
        """
        found: dict[str, None] = {}
        totals = Counter(message.names)
        seen: Counter[str] = Counter()
        for number, name in enumerate(message.names):
            seen[name] += 1
            first = copied.get(number)
            if name in self.left_out or first == 0:
                continue
            if first is None and number not in read:
                which = f"({seen[name]})" if totals[name] > 1 else ""
                found[f"{name}{which}" if name else f"line {number + 1}"] = None
            else:
                found |= dict.fromkeys(self._unread(message, number, first or 1))
        return list(found)

    def _unread(self, message: Hl7Message, number: int, first: int) -> Iterator[str]:
        name, marks = message.names[number], message.delimiters
        shift = 1 if name == "MSH" else 0
        for place, value in enumerate(message.fields(number)[first - shift :], start=first):
            at, parts = f"{name}-{place}", self.parts.get((name, place), ())
            if not value or _WHOLE in parts or at in self.left_out or (name, place) in _DELIMITERS:
                continue
            if not parts or marks.repetition in value:
                yield at
                continue
            for component, part in enumerate(value.split(marks.component), start=1):
                if part and component not in parts and f"{at}.{component}" not in self.left_out:
                    yield f"{at}.{component}"


_DELIMITERS = (("MSH", 1), ("MSH", 2))


def mark(read: set[int], scope: Scope, used: Iterable[Use]) -> None:
    """Note which segments lines read from in this scope."""
    for level, name, every in used:
        found = (scope if level is None else scope.at(level)).view.numbers(name)
        read.update(found if every else found[:1])
