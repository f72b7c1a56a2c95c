"""``extends:``: a mapping or profile that is another one, with lines of its own; for each vendor and site.
``include:``: the same for one item of ``resources:``.

What both name as a block of lines (``let``, ``order``, ``set``...) is joined, line by line. A source line, a constant
or a list is replaced as a whole, and ``name: ~`` takes the other's line away. ``edits:``, ``rules:`` and ``resources:``
go on after the other's; an item of ``resources:`` that is called as one there (``as``, else its type) joins it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.errors import Finding, SettingsError
from bridge.mapping.place import Findings, Place
from bridge.mapping.sources import is_line
from bridge.yamlfile import Path_, YamlFile, parse, suggest

_ITEMS: dict[str, Callable[[Any], str]] = {
    "edits": lambda item: "",
    "rules": lambda item: "",
    "resources": lambda item: str(item.get("as") or item.get("resource") or "") if isinstance(item, dict) else "",
}
"""Lists that go on after the other's: what an item is called, if it can join one of the other's."""
_FIXED = ("target", "steps")


@dataclass(frozen=True)
class ExtendedFile(YamlFile):
    """A joined document. Findings about what came from another file are told there."""

    origins: dict[Path_, tuple[YamlFile, Path_]] = field(default_factory=dict)

    def finding(self, path: Any, what: str, fix: str = "", severity: Any = "error") -> Finding:
        file, at = self.origin(tuple(path))
        return file.finding(at, what, fix, severity)

    def origin(self, path: Path_) -> tuple[YamlFile, Path_]:
        """The file that ``path``, or its nearest ancestor, was written in, and where it is there."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, (YamlFile(self.name, None), ()))


def takes_over(data: Any) -> tuple[str, ...]:
    """The mappings that the one written as ``data`` takes lines of: the one that it extends, those that it includes."""
    if not isinstance(data, dict):
        return ()
    extends = (str(data["extends"]),) if "extends" in data else ()
    return extends + tuple(str(item["include"]) for _, item in _including(data))


def composed(file: YamlFile, files: Mapping[str, str], findings: Findings) -> YamlFile | None:
    """``file`` with all that it takes over from others, and these in their turn.

    ``files`` are texts by name inside the mappings folder. None, with findings, if that is not there.
    """
    return _composed(file, files, findings, (file.name,))


def _composed(file: YamlFile, files: Mapping[str, str], findings: Findings, chain: tuple[str, ...]) -> YamlFile | None:
    own = _included(file, files, findings, chain)
    if own is None or "extends" not in own.data:
        return own
    base = _other("extend", own.data["extends"], Place(own, ("extends",)), files, findings, chain)
    return base and _join(base, own, findings)


def _other(
    verb: str, wanted: Any, place: Place, files: Mapping[str, str], findings: Findings, chain: tuple[str, ...]
) -> YamlFile | None:
    """Another mapping with all that it takes over; None, with findings, if it cannot be had."""
    name = f"{wanted}.yaml"
    if name not in files:
        near = suggest(str(wanted), (one.removesuffix(".yaml") for one in files if one.count(".") == 1))
        findings.report(place, f"there is no mapping `{wanted}` to {verb}", near)
        return None
    if name in chain:
        findings.report(place, f"`{wanted}` {verb}s this one", f"{verb} one that does not")
        return None
    try:
        other = parse(files[name], name)
    except SettingsError as error:
        findings += error.findings
        return None
    if not isinstance(other.data, dict):
        findings.report(place, f"`{wanted}` is no mapping", f"{verb} one")
        return None
    return _composed(other, files, findings, (*chain, name))


def _including(data: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The items of ``resources:`` that include one of another mapping, each with its place in the list."""
    items = data.get("resources")
    found = enumerate(items) if isinstance(items, list) else ()
    return [(number, item) for number, item in found if isinstance(item, dict) and "include" in item]


def _included(file: YamlFile, files: Mapping[str, str], findings: Findings, chain: tuple[str, ...]) -> YamlFile | None:
    """``file`` with each item that says ``include:`` joined with the one of the same name there."""
    including, called = _including(file.data), _ITEMS["resources"]
    if not including:
        return file
    whole = _Join(file, file, findings)
    data = {**whole.blocks(file.data, {}, (), (), ()), "resources": list(file.data["resources"])}
    for number, item in including:
        at, mine = ("resources", number), {key: value for key, value in item.items() if key != "include"}
        place = Place(file, (*at, "include"))
        other = _other("include", item["include"], place, files, findings, chain)
        if other is None:
            return None
        named = [called(one) for one in other.data.get("resources") or ()]
        if not called(mine) or called(mine) not in named:
            what = f"`{item['include']}` has no resource called `{called(mine)}`"
            findings.report(place, what, suggest(called(mine), filter(None, named)))
            return None
        there = ("resources", named.index(called(mine)))
        one = _Join(other, file, findings)
        data["resources"][number] = one.blocks(other.data["resources"][there[1]], mine, at, there, at)
        one.origins[at] = (file, at)
        whole.origins = {path: origin for path, origin in whole.origins.items() if path[:2] != at} | one.origins
    return whole.document(file.name, data)


def _join(base: YamlFile, own: YamlFile, findings: Findings) -> YamlFile:
    joined = _Join(base, own, findings)
    for key in _FIXED:
        if key in own.data and own.data[key] != base.data.get(key):
            findings.report(Place(own, (key,)), f"`{key}` is that of the extended mapping", "leave it out")
    if "profile" in base.data and "profile" not in own.data:
        findings.report(Place(own), "`profile` is missing", "write its title")
    mine = {key: value for key, value in own.data.items() if key not in ("extends", *_FIXED)}
    return joined.document(own.name, joined.blocks(base.data, mine, (), (), ()))


class _Join:
    """Joins two documents and remembers where each part was written."""

    def __init__(self, base: YamlFile, own: YamlFile, findings: Findings) -> None:
        self.base, self.own, self.findings = base, own, findings
        self.origins: dict[Path_, tuple[YamlFile, Path_]] = {}

    def document(self, name: str, data: dict[Any, Any]) -> ExtendedFile:
        """What was joined, as a file in which every part knows where it was written."""
        self.origins.setdefault((), (self.own, ()))
        places = {path: file.places[at] for path, (file, at) in self.origins.items() if at in file.places}
        return ExtendedFile(name, data, places, self.origins)

    def blocks(self, base: dict[Any, Any], own: dict[Any, Any], at: Path_, there: Path_, here: Path_) -> dict[Any, Any]:
        """``base`` (at ``there`` in its file) and ``own`` (at ``here`` in this one) as they stand at ``at``.

        A name that ``base`` lacks stands before the next one of its own file that ``base`` has, so that a replaced line
        may use it; else at the end.
        """
        before, last = self._new_ones(base, own, here)
        result: dict[Any, Any] = {}
        for key, value in base.items():
            for name in before.get(key, ()):
                result[name] = self._taken(own[name], (*at, name), self.own, (*here, name))
            if key not in own:
                result[key] = self._taken(value, (*at, key), self.base, (*there, key))
            elif own[key] is not None:
                result[key] = self._both(value, own[key], (*at, key), (*there, key), (*here, key))
        for name in last:
            result[name] = self._taken(own[name], (*at, name), self.own, (*here, name))
        return result

    def _new_ones(
        self, base: dict[Any, Any], own: dict[Any, Any], here: Path_
    ) -> tuple[dict[Any, list[Any]], list[Any]]:
        """The names that only ``own`` has: before which of ``base`` they stand, and those that come last."""
        before: dict[Any, list[Any]] = {}
        waiting: list[Any] = []
        for key, value in own.items():
            if key in base:
                before[key], waiting = waiting, []
            elif value is None:
                self.findings.report(Place(self.own, (*here, key)), f"there is no `{key}` to take away")
            else:
                waiting.append(key)
        return before, waiting

    def _both(self, base: Any, own: Any, at: Path_, there: Path_, here: Path_) -> Any:
        if isinstance(base, dict) and isinstance(own, dict) and not any(map(_is_leaf, (base, own))):
            self._note(at, self.own, here)
            return self.blocks(base, own, at, there, here)
        if isinstance(base, list) and isinstance(own, list) and len(at) == 1 and at[0] in _ITEMS:
            self._note(at, self.own, here)
            return self._items(base, own, at, there, here, _ITEMS[at[0]])
        return self._taken(own, at, self.own, here)

    def _items(
        self, base: list[Any], own: list[Any], at: Path_, there: Path_, here: Path_, called: Callable[[Any], str]
    ) -> list[Any]:
        mine = {name: number for number, item in enumerate(own) if (name := called(item))}
        joined = {mine[name]: number for number, item in enumerate(base) if (name := called(item)) in mine}
        pairs = {number: other for other, number in joined.items()}
        result = [
            self._both(item, own[pairs[number]], (*at, number), (*there, number), (*here, pairs[number]))
            if number in pairs
            else self._taken(item, (*at, number), self.base, (*there, number))
            for number, item in enumerate(base)
        ]
        for number, item in enumerate(own):
            if number not in joined:
                result.append(self._taken(item, (*at, len(result)), self.own, (*here, number)))
        return result

    def _taken(self, value: Any, at: Path_, file: YamlFile, path: Path_) -> Any:
        """``value`` as it is, from ``path`` in ``file``, with all that is below it."""
        self._note(at, file, path)
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, part in inner:
            self._taken(part, (*at, key), file, (*path, key))
        return value

    def _note(self, at: Path_, file: YamlFile, path: Path_) -> None:
        self.origins[at] = file.origin(path) if isinstance(file, ExtendedFile) else (file, path)


def _is_leaf(data: dict[Any, Any]) -> bool:
    """What is one statement, and not a block of lines."""
    return is_line(data) or "ref" in data


def at_home(borrowed: Findings, known: Findings, file: YamlFile) -> Findings:
    """Findings about what was taken over: those in another file that are ``known`` there stay as they are, the others
    come from what this one changes, and are told where it takes that over."""
    return Findings(
        one if one.file == file.name or one in known else _with_changes(one, _taken_where(one.file, file).finding(""))
        for one in borrowed
    )


def _taken_where(name: str, file: YamlFile) -> Place:
    """Where ``file`` takes lines of another one over."""
    including = _including(file.data)
    found = [number for number, item in including if f"{item['include']}.yaml" == name]
    if not found and "extends" in file.data:
        return Place(file, ("extends",))
    return Place(file, ("resources", (found or [number for number, _ in including])[0], "include"))


def _with_changes(one: Finding, here: Finding) -> Finding:
    what = f"with the changes of this file, {one.file}:{one.line}:{one.column} does not hold: {one.what}"
    return replace(one, file=here.file, line=here.line, column=here.column, what=what)
