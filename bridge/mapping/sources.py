"""Source lines: where a value comes from and what is done with it, compiled to one closure.

``"A-1 | B-2"`` or a mapping::

    {when, from | value, as + its options, all, fits, table, column, unknown, default, required, max, pattern,
     unusable, note, fix}

A value goes through these in the sequence in which they stand here. See docs/mappings.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.codecs.paths import Path
from bridge.errors import MappingError
from bridge.mapping.calls import Input, compile_call
from bridge.mapping.conditions import compile_check, compile_pattern
from bridge.mapping.gather import EachRef
from bridge.mapping.lookups import compile_lookup
from bridge.mapping.place import Findings, Place
from bridge.mapping.refs import NameRef, Names, Ref, compile_refs, where
from bridge.mapping.scope import Read, Scope
from bridge.mapping.slices import compile_anchors

LINE_KEYS = (
    "when", "from", "value", "each", "as", "all", "fits", "table", "column", "unknown", "default", "required", "max",
    "pattern", "unusable", "note", "fix",
)  # fmt: skip
Change = Callable[[Scope, Any], Any]
Fit = Callable[[Any], Any]
"""A target's own check of a value that is not empty: the value as it goes into the document."""


@dataclass(slots=True)
class Source:
    """A compiled source line. ``read`` gives its value in a scope: empty text or list when there is none.

    ``read`` raises MappingError with the place in the message and the fix.
    """

    read: Read
    refs: tuple[Ref, ...] = ()
    fix: str = ""

    def paths(self, scope: Scope) -> list[tuple[Scope, Path]]:
        """The paths in the message that the value may come from, in the sequence in which they are tried."""
        return [found for ref in self.refs for found in ref.paths(scope)]

    def where(self, scope: Scope) -> str:
        return where(self.paths(scope))

    def error(self, scope: Scope, what: str, fix: str = "", kind: str = "datatype") -> MappingError:
        """An error about this value, at its place in the message, with the line's own fix if it has one."""
        return MappingError(what, at=self.where(scope), fix=self.fix or fix, kind=kind)

    def missing(self, scope: Scope, what: str) -> MappingError:
        """The error for a value that must be there."""
        paths = self.paths(scope)
        texts = list(dict.fromkeys(path.text for _, path in paths))
        fix = self.fix or (f"send {' or '.join(texts)}" if texts else "")
        return MappingError(what, at=where(paths, missing=True), fix=fix, kind="required")


def is_line(data: Any) -> bool:
    """Whether ``data`` is a source line: text, or a mapping with ``from`` or of nothing but a line's own words."""
    if isinstance(data, dict):
        return "from" in data or ("value" in data and all(key in LINE_KEYS for key in data))
    return isinstance(data, str)


def compile_source(data: Any, place: Place, names: Names, label: str = "", fit: Fit | None = None) -> Source:
    """A source line. ``label`` is what errors call the value; ``fit`` is the target's own check, the last stage.

    Problems are reported; what is returned then is inert.
    """
    if isinstance(data, str):
        data = {"from": data}
    findings = names.findings
    if not isinstance(data, dict) or ("from" in data) == ("value" in data) or data.get("from", "") in (None, []):
        fix = "write a path, or a mapping with either `from:` or `value:`"
        findings.report(place, "this is no source line", fix)
        findings.unknown_keys(data if isinstance(data, dict) else {}, LINE_KEYS, place)
        return Source(lambda scope: "")
    label = label or str(place.path[-1] if place.path else "value")
    inputs = _inputs(data, place, names)
    refs = tuple(ref for one in inputs for ref in one.refs)
    source = Source(lambda scope: "", refs, str(data.get("fix", "")))
    source.read = _first_stage(data, place, names, inputs)
    changes = _changes(data, place, names, source, label)
    omit = _omits(data, place, names)
    if changes or fit is not None or omit or "as" in data:
        source.read = _chain(source, changes, fit, omit, label)
    if "when" in data and "each" not in data:
        source.read = _only_when(compile_check(data["when"], place.child("when"), names), source.read)
    if names.watch is not None:
        names.watch.line(source, inputs, data, place, label)
    return source


def compile_names(data: Any, place: Place, names: Names) -> None:
    """A ``let:`` block: each value may use those above it; ``names`` knows them all afterwards."""
    if data is None:
        return
    if not isinstance(data, dict):
        names.findings.report(place, "`let` is a mapping of names to source lines")
        return
    for name, line in data.items():
        here = place.child(name)
        if not isinstance(name, str) or not name.isidentifier() or not name.islower() or name == "index":
            names.findings.report(here, f"`{name}` cannot be a name", "use small letters, digits and _")
            continue
        names.known[name] = NameRef(name, names.level, compile_source(line, here, names))


def _inputs(data: dict[str, Any], place: Place, names: Names) -> list[Input]:
    if "from" not in data:
        return []
    given, here = data["from"], place.child("from")
    if here.path not in here.file.places:
        here = place
    fits = _fits(data.get("fits"), place.child("fits"), names.findings)
    wrap, inner = _each(data, place, names) if "each" in data else (lambda ref: ref, names)
    if isinstance(given, list):
        return [Input([*map(wrap, compile_refs(one, here.child(at), inner))], fits) for at, one in enumerate(given)]
    return [Input([*map(wrap, compile_refs(given, here, inner))], fits)]


def _each(data: dict[str, Any], place: Place, names: Names) -> tuple[Callable[[Ref], Ref], Names]:
    """What makes a place one of every slice, and the names known inside a slice."""
    (anchor, *deeper), inner = compile_anchors(data["each"], place.child("each"), names), names.inner()
    if deeper:
        names.findings.report(place.child("each"), "`each` of a line is one segment", "for example `each: OBX`")
    check = compile_check(data["when"], place.child("when"), inner) if "when" in data else None
    return lambda ref: EachRef(anchor, check, ref), inner


def _fits(given: Any, place: Place, findings: Findings) -> Callable[[str], bool] | None:
    if given is None:
        return None
    if isinstance(given, int) and not isinstance(given, bool):
        return lambda text: len(text) <= given
    from bridge.mapping.targets.dicom import VALIDATORS

    if isinstance(given, str) and given in VALIDATORS:
        check = VALIDATORS[given]
        return lambda text: check(text) is None
    fix = "write a number of characters, or a DICOM value representation such as SH or AE"
    findings.report(place, f"`fits` cannot be `{given}`", fix)
    return None


def _first_stage(data: dict[str, Any], place: Place, names: Names, inputs: list[Input]) -> Read:
    """Constant, function call, table key tuple, or plain text."""
    findings = names.findings
    if "value" in data:
        constant = data["value"]
        findings.unknown_keys(data, ("value", "when"), place)
        return lambda scope: constant
    if "as" in data:
        return compile_call(data, inputs, place, names, LINE_KEYS)
    findings.unknown_keys(data, LINE_KEYS, place)
    if len(inputs) > 1:
        if "table" not in data:
            findings.report(place, "several values in `from` need a function or a table", "add `as:` or `table:`")
        return lambda scope: [one.text(scope) for one in inputs]
    one = inputs[0]
    if data.get("all") is True:
        return one.texts
    return one.value


def _changes(data: dict[str, Any], place: Place, names: Names, source: Source, label: str) -> list[Change]:
    """What is done with the value after it was read."""
    changes: list[Change] = []
    if "table" in data:
        several = isinstance(data.get("from"), list) and "as" not in data
        changes.append(compile_lookup(data, place, names, source, several=several))
    else:
        for word in ("column", "unknown"):
            if word in data:
                names.findings.report(place.child(word), f"`{word}` goes with `table`")
    if "default" in data:
        default = data["default"]
        changes.append(lambda scope, value: default if value in ("", None, [], {}) else value)
    if data.get("required") is True:
        changes.append(_require(source, label))
    if "note" in data:
        changes.append(_note(str(data["note"])))
    if "max" in data:
        changes.append(_limit(data["max"], place.child("max"), names, source, label))
    if "pattern" in data:
        changes.append(_match(data["pattern"], place.child("pattern"), names, source, label))
    return changes


def _require(source: Source, label: str) -> Change:
    def require(scope: Scope, value: Any) -> Any:
        if value in ("", None, [], {}):
            raise source.missing(scope, f"{label} is missing")
        return value

    return require


def _note(text: str) -> Change:
    def note(scope: Scope, value: Any) -> Any:
        if value:
            scope.note(text)
        return value

    return note


def _limit(limit: Any, place: Place, names: Names, source: Source, label: str) -> Change:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        names.findings.report(place, "`max` is a number of characters")
        limit = 1

    def check(scope: Scope, value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and len(text) > limit:
                what = f"{label} is {len(text)} characters long and may have {limit}"
                raise source.error(scope, what, f"send at most {limit} characters")
        return value

    return check


def _match(given: Any, place: Place, names: Names, source: Source, label: str) -> Change:
    pattern = compile_pattern(given, place, names.findings)

    def check(scope: Scope, value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if text and not pattern.fullmatch(str(text)):
                raise source.error(scope, f"{label} does not match {given}", f"send a value that matches {given}")
        return value

    return check


def _omits(data: dict[str, Any], place: Place, names: Names) -> bool:
    """Whether a value that cannot be used is left out, with a note, instead of being refused."""
    word = data.get("unusable", "refuse")
    if word not in ("refuse", "omit"):
        names.findings.report(place.child("unusable"), f"`unusable` cannot be `{word}`", "refuse or omit")
    return bool(word == "omit")


def _chain(source: Source, changes: list[Change], fit: Fit | None, omit: bool, label: str) -> Read:
    """One closure for all stages; an error gets its place, or becomes a note where the line says so."""
    first = source.read

    def read(scope: Scope) -> Any:
        try:
            value = first(scope)
            for change in changes:
                value = change(scope, value)
            return fit(value) if value and fit is not None else value
        except MappingError as error:
            if not error.at:
                error.at, error.fix = source.where(scope), source.fix or error.fix
            if not omit:
                raise
            scope.note(f"{label} left out: {error.what} ({error.at})")
            return ""

    return read


def _only_when(check: Callable[[Scope], bool], read: Read) -> Read:
    return lambda scope: read(scope) if check(scope) else ""
