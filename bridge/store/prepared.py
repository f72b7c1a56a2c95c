"""Statements of the main path whose text is made once: building one anew costs many times what running it does.

Values go to the driver as they are, and come back as it gives them: SQLite knows no Boolean. Many rows go in few
statements, because each step of a statement lets go of the interpreter and has to wait for it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, CursorResult, Table, bindparam, insert
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError

_ROWS = 16
"""Most rows in one INSERT; making its text takes a while the first time."""


class _Text:
    """A statement as one kind of database reads it."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._text: str = compiled.string
        self._positional: bool = compiled.positional
        names = compiled.positiontup if compiled.positional else compiled.params
        self._names = [(name, compiled.params[name]) for name in names]
        self._direct = dialect.name == "sqlite"

    def bound(self, values: Mapping[str, Any]) -> tuple[Any, ...] | dict[str, Any]:
        if self._positional:
            return tuple([values.get(name, fixed) for name, fixed in self._names])
        return {name: values.get(name, fixed) for name, fixed in self._names}

    def run(self, tx: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        return tx.exec_driver_sql(self._text, self.bound(values))

    def listed(self, values: Sequence[Any]) -> tuple[Any, ...] | dict[str, Any]:
        """The parameters from their values in the sequence of the statement's text."""
        if self._positional:
            return tuple(values)
        return {name: value for (name, _), value in zip(self._names, values, strict=True)}

    def rows(self, tx: Connection, bound: tuple[Any, ...] | dict[str, Any]) -> list[tuple[Any, ...]]:
        """Every row at once. SQLite is asked past SQLAlchemy, whose bookkeeping costs more than the statement."""
        if self._direct:
            try:
                return _driver(tx).execute(self._text, bound).fetchall()
            except sqlite3.Error as error:
                raise self._failed(tx, error) from error
        result = tx.exec_driver_sql(self._text, bound)
        return [tuple(row) for row in result] if result.returns_rows else []

    def many(self, tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        bound = [self.bound(row) for row in rows]
        if self._direct:
            try:
                _driver(tx).executemany(self._text, bound)
            except sqlite3.Error as error:
                raise self._failed(tx, error) from error
        else:
            tx.exec_driver_sql(self._text, bound)

    def _failed(self, tx: Connection, error: sqlite3.Error) -> BaseException:
        """The error as SQLAlchemy tells it, without the values. The statement is not tried again: a full disk ends the
        transaction, and what came after would be committed alone."""
        return DBAPIError.instance(
            self._text, None, error, sqlite3.Error, hide_parameters=True, dialect=tx.dialect, ismulti=False
        )


def _driver(tx: Connection) -> sqlite3.Connection:
    connection = tx.connection.dbapi_connection
    assert isinstance(connection, sqlite3.Connection)
    return connection


class Prepared:
    """A statement with the same parameters each time."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._texts: dict[str, _Text] = {}

    def run(self, tx: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it with ``values`` by the names of its parameters."""
        return self._text(tx.dialect).run(tx, values)

    def rows(self, tx: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run it, and give every row at once; none if it has none. Quicker than :meth:`run`."""
        text = self._text(tx.dialect)
        return text.rows(tx, text.bound(values))

    def put(self, tx: Connection, values: Sequence[Any]) -> None:
        """Run it with ``values`` in the sequence of its parameters."""
        text = self._text(tx.dialect)
        text.rows(tx, text.listed(values))

    def many(self, tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each of ``rows``, of which there is at least one."""
        self._text(tx.dialect).many(tx, rows)

    def _text(self, dialect: Dialect) -> _Text:
        text = self._texts.get(dialect.name)
        if text is None:
            text = self._texts[dialect.name] = _Text(self._statement, dialect)
        return text


class PreparedInsert:
    """Rows into ``table``, every column given."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = [column.name for column in table.c]
        self._sizes: dict[int, Prepared] = {}

    def _make(self, size: int) -> Prepared:
        """The statement for ``size`` rows; its parameters go row by row."""
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
            values = [row[name] for row in rows[done : done + size] for name in self._columns]
            self._sizes[size].put(tx, values)
            done += size


class PreparedIn:
    """A statement about a list of values, made for lists of 1, 2, 4, 8 ...: the last value fills up the rest."""

    def __init__(self, make: Callable[[list[BindParameter[Any]]], Any]) -> None:
        self._make = make
        self._sizes: dict[int, Prepared] = {}

    def run(self, tx: Connection, wanted: Collection[Any], **more: Any) -> CursorResult[Any]:
        """Run it for ``wanted``, of which there is at least one; ``more`` are its other parameters."""
        statement, values = self._fit(wanted)
        return statement.run(tx, values | more)

    def rows(self, tx: Connection, wanted: Collection[Any], **more: Any) -> list[tuple[Any, ...]]:
        """The same, every row at once."""
        statement, values = self._fit(wanted)
        return statement.rows(tx, values | more)

    def _fit(self, wanted: Collection[Any]) -> tuple[Prepared, dict[str, Any]]:
        listed = list(wanted)
        size = _power_below(2 * len(listed) - 1)
        if size not in self._sizes:
            self._sizes[size] = Prepared(self._make([bindparam(f"v{number}") for number in range(size)]))
        listed += [listed[-1]] * (size - len(listed))
        return self._sizes[size], {f"v{number}": value for number, value in enumerate(listed)}


def _power_below(number: int) -> int:
    """The largest power of two that is not above ``number``."""
    return 1 << (number.bit_length() - 1)
