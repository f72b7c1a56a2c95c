"""Tables: CSV files that map codes to codes, by one key column or several."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from bridge.errors import Finding

ANY = "*"
Row = Mapping[str, str]
_Index = list[tuple[tuple[int, ...], dict[tuple[str, ...], Row]]]


@dataclass(slots=True)
class Table:
    """One CSV file: column names in the first row, keys in the first columns; lines that begin with ``#`` are remarks.

    A key cell ``*`` matches anything, an empty one only an empty value. Of the rows that match, the most specific one
    wins: the one with fewest ``*``, and among equals the one that names more in the columns further right (columns go
    from the general to the particular).
    """

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[int, tuple[str, ...]]]
    """Line number and cells of each row."""
    _indexes: dict[int, _Index] = field(default_factory=dict)

    def index(self, keys: int) -> _Index:
        """Rows by their first ``keys`` cells: for each choice of columns that are not ``*``, most specific first."""
        if keys not in self._indexes:
            found: _Index = []
            for size in range(keys, -1, -1):
                for fixed in sorted(combinations(range(keys), size), key=lambda one: one[::-1], reverse=True):
                    rows = self._rows_fixed_at(fixed, keys)
                    if rows:
                        found.append((fixed, rows))
            self._indexes[keys] = found
        return self._indexes[keys]

    def _rows_fixed_at(self, fixed: tuple[int, ...], keys: int) -> dict[tuple[str, ...], Row]:
        rows: dict[tuple[str, ...], Row] = {}
        for _, cells in self.rows:
            if tuple(place for place in range(keys) if cells[place] != ANY) == fixed:
                key = tuple(cells[place] for place in fixed)
                rows.setdefault(key, dict(zip(self.columns, cells, strict=True)))
        return rows

    def find(self, keys: Sequence[str]) -> Row | None:
        """The row for these key values, or None."""
        for fixed, rows in self.index(len(keys)):
            row = rows.get(tuple([keys[place] for place in fixed]))
            if row is not None:
                return row
        return None

    def duplicates(self, keys: int) -> list[tuple[int, int]]:
        """Lines of rows that can never be found, each with the line of the row that has the same keys before it."""
        seen: dict[tuple[str, ...], int] = {}
        found = []
        for line, cells in self.rows:
            first = seen.setdefault(cells[:keys], line)
            if first != line:
                found.append((line, first))
        return found


def read_table(text: str, file: str, findings: list[Finding]) -> Table | None:
    """The table in a CSV file called ``file``; what is wrong with it is appended to ``findings``."""
    name = file.rsplit("/", 1)[-1].removesuffix(".csv")
    lines = ["" if line.lstrip().startswith("#") else line for line in text.removeprefix("\ufeff").splitlines()]
    reader = csv.reader(io.StringIO("\n".join(lines)), strict=True)
    rows: list[tuple[int, tuple[str, ...]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, tuple(cell.strip() for cell in cells)))
    except csv.Error as error:
        findings.append(Finding(file, reader.line_num, 1, f"not CSV: {error}", "check the quotes"))
        return None
    if not rows:
        findings.append(Finding(file, 1, 1, "the table is empty", "write the names of the columns in the first row"))
        return None
    head, columns = rows[0]
    body = rows[1:]
    if len(set(columns)) < len(columns) or not all(columns):
        findings.append(Finding(file, head, 1, "each column needs a name of its own", "name every column once"))
        return None
    for line, row in body:
        if len(row) != len(columns):
            what = f"{len(row)} cells in a table of {len(columns)} columns"
            findings.append(Finding(file, line, 1, what, "put quotes around cells with commas"))
    return Table(name, columns, [row for row in body if len(row[1]) == len(columns)])
