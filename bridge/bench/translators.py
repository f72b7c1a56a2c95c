"""The order to the worklist, translated by others: JSONata (``jsonata-python``) and a Jinja2 template.

Both are given the message taken apart already, and the same tables as dictionaries; both write the document as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bridge.codecs.hl7v2 import Hl7Message
from bridge.mapping.tables import Table

Json = dict[str, Any]
Translate = Callable[[Json], bytes]
_HERE = Path(__file__).parent
_PAIRS = {
    "modality": "modality", "priority": "priority", "sex": "sex", "pregnancy": "pregnancy", "procedures": "modality",
}  # fmt: skip
"""Tables of one key and one value, and the value's column."""


def taken_apart(message: Hl7Message) -> Json:
    """A message as JSON: ``PID[0].f3[1].c4`` is component 4 of the second PID-3, ``c4s2`` its second subcomponent."""
    found: Json = {}
    for segment in message.segments():
        fields = {}
        for number in range(1, len(message.fields(segment.number)) + 1):
            repetitions = [
                one for parts in segment.all_parts(f"{segment.name}-{number}") if (one := _components(parts))
            ]
            if repetitions:
                fields[f"f{number}"] = repetitions
        found.setdefault(segment.name, []).append(fields)
    return found


def _components(parts: list[list[str]]) -> dict[str, str]:
    return {
        f"c{component}" if part == 1 else f"c{component}s{part}": text
        for component, texts in enumerate(parts, start=1)
        for part, text in enumerate(texts, start=1)
        if text
    }


def dictionaries(tables: Mapping[str, Table]) -> Json:
    """The tables that an order needs, as a template looks into them."""
    found: Json = {name: {row["code"]: row[value] for row in _rows(tables[name])} for name, value in _PAIRS.items()}
    found["order-status"] = {f"{row['control']}|{row['status']}": row for row in _rows(tables["order-status"])}
    return {**found, "stations": _rows(tables["stations"])}


def _rows(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.columns, cells, strict=True)) for _, cells in table.rows]


def jsonata() -> Translate | None:
    """By ``order.jsonata``, compiled once; None if jsonata-python is not installed."""
    try:
        from jsonata import Jsonata
    except ImportError:
        return None
    expression = Jsonata((_HERE / "order.jsonata").read_text())
    return lambda given: json.dumps(expression.evaluate(given), ensure_ascii=False).encode()


def jinja2() -> Translate | None:
    """By ``order.jinja``, compiled once; None if Jinja2 is not installed."""
    try:
        from jinja2 import ChainableUndefined, Environment
    except ImportError:
        return None
    environment = Environment(undefined=ChainableUndefined, autoescape=False)
    environment.filters["json"] = json.encoder.encode_basestring
    environment.filters["trimmed"] = lambda text: text.rstrip("^")
    template = environment.from_string((_HERE / "order.jinja").read_text())
    return lambda given: template.render(given).encode()
