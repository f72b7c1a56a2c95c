"""One row of a CSV table set or taken out: every other line of the file stays as it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from bridge.errors import BridgeError, NotFound
from bridge.mapping.tables import Table, csv_line
from bridge.yamlfile import suggest


def with_row(text: str, table: Table, keys: Sequence[str], values: Mapping[str, str]) -> str:
    """``text``, the file of ``table``, with ``values`` by column in the row of ``keys``, its first cells.

    Without such a row there is a new one after the last; what it is not given stays empty. Raises BridgeError for a
    column that the table does not have beside its keys, and for no values.
    """
    known = table.columns[len(keys) :]
    for column in values:
        if column not in known:
            fix = suggest(column, known) or f"its values are {', '.join(known)}"
            raise BridgeError(f"table {table.name} has no value column `{column}`", fix=fix, kind="settings")
    if not values:
        fix = f"for example {known[0]}=..." if known else "give fewer keys"
        raise BridgeError("nothing is set", fix=fix, kind="settings")
    row = _find(table, keys)
    old = row[1] if row else (*keys, *("" for _ in known))
    new = [values.get(column, cell).strip() for column, cell in zip(table.columns, old, strict=True)]
    lines = text.splitlines(keepends=True)
    end = "\r\n" if lines[0].endswith("\r\n") else "\n"
    if row:
        first, last = _place(lines, *row)
    else:
        last = max((line for line, _ in table.rows), default=len(lines))
        first = last + 1
        lines[last - 1] = lines[last - 1].rstrip("\r\n") + end
    lines[first - 1 : last] = [csv_line(new, end)]
    return "".join(lines)


def without_row(text: str, table: Table, keys: Sequence[str]) -> str:
    """``text``, the file of ``table``, without the row of ``keys``. Raises NotFound if there is none."""
    row = _find(table, keys)
    if row is None:
        what = f"table {table.name} has no row for {', '.join(f'`{key}`' for key in keys)}"
        raise NotFound(what, fix=f"`radbridge table show {table.name}` lists them")
    lines = text.splitlines(keepends=True)
    first, last = _place(lines, *row)
    del lines[first - 1 : last]
    return "".join(lines)


def _find(table: Table, keys: Sequence[str]) -> tuple[int, tuple[str, ...]] | None:
    """The row that is written with exactly these keys: line and cells. ``*`` is a key like any other here."""
    wanted = tuple(key.strip() for key in keys)
    return next(((line, cells) for line, cells in table.rows if cells[: len(wanted)] == wanted), None)


def _place(lines: Sequence[str], last: int, cells: tuple[str, ...]) -> tuple[int, int]:
    """First and last line of a row that ends at ``last``: cells in quotes may have line ends."""
    for first in range(last, 0, -1):
        if _read(lines[first - 1 : last]) == cells:
            return first, last
    raise BridgeError(f"the row that ends at line {last} is among remarks", fix="edit the file", kind="settings")


def _read(lines: Sequence[str]) -> tuple[str, ...]:
    try:
        rows = list(csv.reader(io.StringIO("\n".join("".join(lines).splitlines())), strict=True))
    except csv.Error:
        return ()
    return tuple(cell.strip() for cell in rows[0]) if len(rows) == 1 else ()
