"""Tables that map codes to codes, by one key column or several, and their CSV files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from bridge.errors import Finding, SettingsError
from bridge.yamlfile import parse

if TYPE_CHECKING:
    from bridge.mapping.watch import Watch

ANY = "*"
POLICIES = ("refuse", "park", "pass", "empty")
HEAD = ("version", "unknown", "source", "target")
"""What the remarks at the beginning of a CSV file may say of the table: ``# version: 2024-05``."""
_SAYS = re.compile(rf"#\s*({'|'.join(HEAD)}):\s*(.+?)\s*")
Row = Mapping[str, str]
_Index = list[tuple[tuple[int, ...], dict[tuple[str, ...], Row]]]


@dataclass(slots=True)
class Table:
    """Rows of codes: keys in the first columns, values in the others.

    In a CSV file the first row has the columns' names, and lines that begin with ``#`` are remarks.

    A key cell ``*`` matches anything, an empty one only an empty value. Of the rows that match, the most specific one
    wins: the one with fewest ``*``, and among equals the one that names more in the columns further right (columns go
    from the general to the particular).
    """

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[int, tuple[str, ...]]]
    """Line number and cells of each row."""
    file: str = ""
    """Its name inside the mappings folder."""
    version: str = ""
    unknown: Any = "refuse"
    """What happens to a key without a row where the line does not say."""
    source: str = ""
    target: str = ""
    """URIs of the code systems of the first key and the first value; empty where the table does not say."""
    description: str = ""
    """What its remarks above the first row say for people."""
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
        return self.finder(len(keys))(tuple(keys))

    def finder(self, keys: int) -> Callable[[tuple[str, ...]], Row | None]:
        """:meth:`find` for so many key values."""
        index = self.index(keys)
        if [len(fixed) for fixed, _ in index] == [keys]:
            return index[0][1].get

        def find(values: tuple[str, ...]) -> Row | None:
            for fixed, rows in index:
                row = rows.get(values if len(fixed) == keys else tuple([values[place] for place in fixed]))
                if row is not None:
                    return row
            return None

        return find

    def duplicates(self, keys: int) -> list[tuple[int, int]]:
        """Lines of rows that can never be found, each with the line of the row that has the same keys before it."""
        seen: dict[tuple[str, ...], int] = {}
        found = []
        for line, cells in self.rows:
            first = seen.setdefault(cells[:keys], line)
            if first != line:
                found.append((line, first))
        return found


class Tables(dict[str, Table]):
    """The tables of one compiling by name, and who watches it."""

    watch: Watch | None = None


def _head_remarks(text: str) -> Iterator[tuple[int, str]]:
    """The remarks above the first row, each with its line."""
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not line.lstrip().startswith("#"):
            return
        yield number, line.strip()


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
    found = Table(name, columns, [row for row in body if len(row[1]) == len(columns)], file)
    lines = []
    for number, remark in _head_remarks(text):
        if says := _SAYS.fullmatch(remark):
            _say(found, says[1], says[2], number, findings)
        else:
            lines.append(remark.removeprefix("#").strip())
    found.description = "\n".join(lines)
    return found


def _say(table: Table, word: str, text: str, line: int, findings: list[Finding]) -> None:
    """What a remark says of the table; ``unknown`` is written as in a source line."""
    if word != "unknown":
        setattr(table, word, text)
        return
    try:
        table.unknown = parse(text, table.file).data
    except SettingsError:
        table.unknown = text
    if not is_policy(table.unknown):
        what, fix = f"`unknown` cannot be `{text}`", f"{', '.join(POLICIES)}, or {{value: ...}}"
        findings.append(Finding(table.file, line, 1, what, fix))
        table.unknown = "refuse"


def is_policy(given: Any) -> bool:
    """Whether this says what happens to a key without a row."""
    return given in POLICIES or (isinstance(given, dict) and list(given) == ["value"])


def to_csv(table: Table) -> str:
    """A CSV file from which :func:`read_table` makes the same table again."""
    lines = [f"# {line}".rstrip() for line in table.description.splitlines()]
    unknown = table.unknown if isinstance(table.unknown, str) else f"{{value: {json.dumps(table.unknown['value'])}}}"
    said = {"version": table.version, "unknown": unknown, "source": table.source, "target": table.target}
    lines += [f"# {word}: {text}" for word, text in said.items() if text and (word, text) != ("unknown", "refuse")]
    rows = (table.columns, *(cells for _, cells in table.rows))
    return "".join(f"{line}\n" for line in lines) + "".join(map(csv_line, rows))


def csv_line(cells: Sequence[str], end: str = "\n") -> str:
    """A row as it is written: in quotes where it would be taken for a remark."""
    line = io.StringIO()
    remark = cells[0].startswith("#")
    csv.writer(line, lineterminator=end, quoting=csv.QUOTE_ALL if remark else csv.QUOTE_MINIMAL).writerow(cells)
    return line.getvalue()
