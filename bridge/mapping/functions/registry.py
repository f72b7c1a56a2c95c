"""The closed registry of named functions (``as:`` in a source line)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bridge.errors import MappingError
from bridge.mapping.fields import Field

Takes = Literal["text", "texts", "field"]
Site = Mapping[str, Any]
"""What a mapping knows of the site: name, timezone, patient_id_issuer, name_type, authorities..."""


@dataclass(frozen=True, slots=True)
class Option:
    """One named option of a function, as a mapping writes it."""

    name: str
    kind: Literal["text", "number", "list", "switch"]
    required: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A named function: pure, and described well enough to check its use in a mapping.

    ``takes`` says what it gets for each value of ``from``: one text, every text (repetitions and occurrences), or
    the field's repetitions with their components. It returns text, a list of texts, a list of sequence items, or FHIR
    JSON; empty when there is nothing. It raises MappingError, without a place, for what it cannot use.
    """

    name: str
    takes: Takes
    call: Callable[..., Any]
    options: Mapping[str, Option]
    least: int
    most: int | None
    wants_site: bool

    @property
    def summary(self) -> str:
        return self.description.split("\n\n")[0].replace("\n", " ")

    @property
    def description(self) -> str:
        """What it does, without its examples."""
        return (inspect.getdoc(self.call) or "").partition(">>>")[0].strip()


FUNCTIONS: dict[str, Function] = {}


def function(takes: Takes) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function under its own name, without a trailing underscore.

    Positional parameters are the values of ``from``; keyword-only ones are options, but for ``site``.
    """

    def register(call: Callable[..., Any]) -> Callable[..., Any]:
        name = call.__name__.rstrip("_")
        parameters = inspect.signature(call, eval_str=True).parameters.values()
        inputs = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
        options = {one.name: _option(one) for one in parameters if one.kind is one.KEYWORD_ONLY and one.name != "site"}
        FUNCTIONS[name] = Function(
            name,
            takes,
            call,
            options,
            least=sum(one.default is one.empty for one in inputs),
            most=None if any(one.kind is one.VAR_POSITIONAL for one in parameters) else len(inputs),
            wants_site=any(one.name == "site" for one in parameters),
        )
        return call

    return register


def _option(parameter: inspect.Parameter) -> Option:
    kind, choices = parameter.annotation, ()
    if getattr(kind, "__origin__", None) is Literal:
        choices, kind = kind.__args__, str
    name: Any = {str: "text", int: "number", bool: "switch"}.get(kind, "list")
    return Option(parameter.name, name, parameter.default is parameter.empty, choices)


def run(name: str, *inputs: str, site: Site | None = None, **options: Any) -> Any:
    """Try a function on HL7 text with the usual delimiters; what its examples use.

    Texts are given as they are, repetitions after ``~``.
    """
    chosen = FUNCTIONS[name]
    if chosen.wants_site:
        options["site"] = site or {"name": "here", "timezone": "Europe/Paris"}
    values: Sequence[Any]
    if chosen.takes == "text":
        values = inputs
    elif chosen.takes == "texts":
        values = [text.split("~") for text in inputs]
    else:
        values = [[Field.read(one) for one in text.split("~")] for text in inputs]
    return chosen.call(*values, **options)


def unusable(what: str, fix: str = "", kind: str = "datatype") -> MappingError:
    """What a function raises; the line that called it adds the place."""
    return MappingError(what, fix=fix, kind=kind)
