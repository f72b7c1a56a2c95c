"""The examples of a function, as its description has them: what goes in, and what comes out of it."""

from __future__ import annotations

import ast
import doctest
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.mapping.functions.registry import FUNCTIONS, Function, run

_WIDE = 100
"""Characters of a result in the reference."""


@dataclass(frozen=True, slots=True)
class Example:
    """One call of a function: texts as they stand in a message, options, and the result."""

    inputs: tuple[str, ...]
    options: Mapping[str, Any]
    result: Any


def examples_of(chosen: Function) -> list[Example]:
    """Every example that gives all its texts as they are."""
    source = doctest.DocTestParser().get_examples(inspect.getdoc(chosen.call) or "")
    calls = (call for one in source for call in ast.walk(ast.parse(one.source)) if isinstance(call, ast.Call))
    return list(_examples(chosen, calls))


def _examples(chosen: Function, calls: Iterator[ast.Call]) -> Iterator[Example]:
    for call in calls:
        if not isinstance(call.func, ast.Name) or call.func.id != run.__name__:
            continue
        try:
            name, *inputs = (ast.literal_eval(one) for one in call.args)
            options = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
        except ValueError:
            continue
        if name == chosen.name:
            yield Example(tuple(inputs), options, run(name, *inputs, **options))


def shown(result: Any) -> str:
    """A result for people: a line of text as it is, all else as JSON."""
    plain = isinstance(result, str) and result.isprintable()
    return str(result) if plain else json.dumps(result, ensure_ascii=False, default=str)


def reference() -> list[str]:
    """The rows of docs/mappings.md about functions, in Markdown: each with its first example that gives something."""
    return [_row(chosen) for _, chosen in sorted(FUNCTIONS.items())]


def _row(chosen: Function) -> str:
    first = next(one for one in examples_of(chosen) if one.result)
    given = [f"`{text}`" if text else "nothing" for text in first.inputs]
    given += [f"`{name}: {_option(value)}`" for name, value in first.options.items()]
    options = ", ".join(f"{name} (needed)" if one.required else name for name, one in chosen.options.items())
    result = shown(first.result)
    if len(result) > _WIDE:
        result = f"{result[:_WIDE]} ..."
    cells = (f"`{chosen.name}`", chosen.takes, options, chosen.summary, f"{', '.join(given)} gives `{result}`")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _option(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return repr(value) if value != str(value).strip() else str(value)
