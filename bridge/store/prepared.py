"""Statements of the main path whose text is made once: building one anew costs many times what running it does.

Values go to the driver as they are, and come back as it gives them: SQLite knows no Boolean. Many rows go in few
statements, because each step of a statement lets go of the interpreter and has to wait for it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, CursorResult, Table, bindparam, insert
from sqlalchemy.engine import Connection, Dialect

_ROWS = 64
"""Most rows in one INSERT."""


class _Text:
    """A statement as one kind of database reads it."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._text: str = compiled.string
        self._positional: bool = compiled.positional
        names = compiled.positiontup if compiled.positional else compiled.params
        self._names = [(name, compiled.params[name]) for name in names]

    def run(self, tx: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        bound = [(name, values.get(name, fixed)) for name, fixed in self._names]
        return tx.exec_driver_sql(self._text, tuple(value for _, value in bound) if self._positional else dict(bound))


class Prepared:
    """A statement with the same parameters each time."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._texts: dict[str, _Text] = {}

    def run(self, tx: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it with ``values`` by the names of its parameters."""
        text = self._texts.get(tx.dialect.name)
        if text is None:
            text = self._texts[tx.dialect.name] = _Text(self._statement, tx.dialect)
        return text.run(tx, values)


class PreparedInsert:
    """Rows into ``table``, every column given."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = [column.name for column in table.c]
        self._sizes: dict[int, Prepared] = {}

    def _make(self, size: int) -> Prepared:
        rows: list[dict[str, BindParameter[Any]]] = [
            {name: bindparam(f"{name}_{number}") for name in self._columns} for number in range(size)
        ]
        return Prepared(insert(self._table).values(rows))

    def run(self, tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert ``rows``, in their sequence; nothing happens without any."""
        done = 0
        while done < len(rows):
            size = min(_power_below(len(rows) - done), _ROWS)
            if size not in self._sizes:
                self._sizes[size] = self._make(size)
            some = rows[done : done + size]
            values = {f"{name}_{number}": row[name] for number, row in enumerate(some) for name in self._columns}
            self._sizes[size].run(tx, values)
            done += size


class PreparedIn:
    """A statement about a list of values, made for lists of 1, 2, 4, 8 ...: the last value fills up the rest."""

    def __init__(self, make: Callable[[list[BindParameter[Any]]], Any]) -> None:
        self._make = make
        self._sizes: dict[int, Prepared] = {}

    def run(self, tx: Connection, wanted: Collection[Any], **more: Any) -> CursorResult[Any]:
        """Run it for ``wanted``, of which there is at least one; ``more`` are its other parameters."""
        listed = list(wanted)
        size = _power_below(2 * len(listed) - 1)
        if size not in self._sizes:
            self._sizes[size] = Prepared(self._make([bindparam(f"v{number}") for number in range(size)]))
        listed += [listed[-1]] * (size - len(listed))
        return self._sizes[size].run(tx, {**{f"v{number}": value for number, value in enumerate(listed)}, **more})


def _power_below(number: int) -> int:
    """The largest power of two that is not above ``number``."""
    return 1 << (number.bit_length() - 1)
