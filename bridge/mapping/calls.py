"""Calls of named functions: ``as:`` and the function's options, checked against its declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from bridge.codecs.views import first_of
from bridge.mapping.fields import Field
from bridge.mapping.functions import FUNCTIONS, Function, Option
from bridge.mapping.gather import EachRef
from bridge.mapping.place import Findings, Place
from bridge.mapping.refs import ForeignRef, Names, PathRef, Ref
from bridge.mapping.scope import Read, Scope
from bridge.yamlfile import suggest


class Input:
    """One value of ``from``: its alternatives, and what an alternative must fit to be taken."""

    __slots__ = ("fits", "refs", "text", "value")

    def __init__(self, refs: list[Ref], fits: Callable[[str], bool] | None = None) -> None:
        self.refs, self.fits = refs, fits
        self.value: Read = _first_of(refs, fits)
        """The first alternative that holds something (and fits)."""
        plain = fits is None and all(isinstance(ref, PathRef) for ref in refs)
        self.text: Read = self.value if plain else self._text

    def _text(self, scope: Scope) -> str:
        found = self.value(scope)
        if isinstance(found, list | tuple):
            return str(found[0])
        return found if isinstance(found, str) else str(found)

    def texts(self, scope: Scope) -> list[str]:
        """All values of the first alternative that holds any."""
        fits = self.fits
        for ref in self.refs:
            found = ref.texts(scope)
            if fits is not None:
                found = [text for text in found if fits(text)]
            if any(found):
                return found
        return []

    def fields(self, scope: Scope) -> list[Field]:
        """The repetitions of the first alternative that holds any."""
        for ref in self.refs:
            found = ref.fields(scope)
            if found:
                return found
        return []


def _first_of(refs: list[Ref], fits: Callable[[str], bool] | None) -> Read:
    """The closure that tries alternatives; the common case, paths only, without detours."""
    paths = [ref.path for ref in refs if isinstance(ref, PathRef)]
    if fits is None and len(paths) == len(refs):
        first = first_of(paths)
        return lambda scope: first(scope.view)

    def read(scope: Scope) -> Any:
        for ref in refs:
            found = ref.value(scope)
            if (found or found == 0) and (fits is None or fits(str(found))):
                return found
        return ""

    return read


def compile_call(data: dict[str, Any], inputs: list[Input], place: Place, names: Names, line: Iterable[str]) -> Read:
    """The closure that reads the inputs and calls the function that ``as:`` names."""
    name, findings = data["as"], names.findings
    chosen = FUNCTIONS.get(name) if isinstance(name, str) else None
    if chosen is None:
        findings.report(place.child("as"), f"unknown function `{name}`", suggest(str(name), FUNCTIONS))
        return lambda scope: ""
    findings.unknown_keys(data, [*line, *chosen.options], place, f"option of {name}:")
    options = _options(data, chosen, place, findings)
    if len(inputs) < chosen.least or (chosen.most is not None and len(inputs) > chosen.most):
        wanted = str(chosen.least) if chosen.most == chosen.least else f"{chosen.least} or more"
        findings.report(place, f"`{name}` takes {wanted} values in `from`, not {len(inputs)}")
        return lambda scope: ""
    if chosen.takes == "field" and not all(_is_field(ref) for one in inputs for ref in one.refs):
        findings.report(place, f"`{name}` takes fields of the message, not named values", "write the path itself")
    return _bind(chosen, partial(chosen.call, **options) if options else chosen.call, inputs)


def _is_field(ref: Ref) -> bool:
    return isinstance(ref.ref if isinstance(ref, EachRef) else ref, PathRef | ForeignRef)


def _bind(chosen: Function, call: Callable[..., Any], inputs: list[Input]) -> Read:
    readers: list[Callable[[Scope], Any]]
    if chosen.takes == "text":
        readers = [one.text for one in inputs]
    elif chosen.takes == "texts":
        readers = [one.texts for one in inputs]
    else:
        readers = [one.fields for one in inputs]
    if len(readers) == 1:
        read = readers[0]  # of nothing, every function of one value makes nothing: it need not be called
        if chosen.wants_site:
            return lambda scope: call(found, site=scope.site) if (found := read(scope)) else ""
        return lambda scope: call(found) if (found := read(scope)) else ""
    if chosen.wants_site:
        return lambda scope: call(*[read(scope) for read in readers], site=scope.site)
    return lambda scope: call(*[read(scope) for read in readers])


def _options(data: dict[str, Any], chosen: Function, place: Place, findings: Findings) -> dict[str, Any]:
    found = {}
    for name, option in chosen.options.items():
        if name in data:
            found[name] = _option(data[name], option, place.child(name), findings)
        elif option.required:
            findings.report(place, f"`{chosen.name}` needs `{name}:`")
    return found


def _option(value: Any, option: Option, place: Place, findings: Findings) -> Any:
    if option.kind == "list":
        return [str(one) for one in value] if isinstance(value, list) else [str(value)]
    right = {"text": str, "number": int, "switch": bool}[option.kind]
    if not isinstance(value, right) or (right is int and isinstance(value, bool)):
        findings.report(place, f"`{option.name}` must be {option.kind}", "put quotes around it" if right is str else "")
    elif option.choices and value not in option.choices:
        findings.report(place, f"`{option.name}` cannot be `{value}`", suggest(str(value), option.choices))
    return value
