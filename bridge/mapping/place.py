"""Where in a mapping file something is written, and the findings about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bridge.errors import Finding
from bridge.yamlfile import Path_, YamlFile, suggest


@dataclass(frozen=True, slots=True)
class Place:
    """One value of a parsed YAML file: the file, and the keys that lead to the value."""

    file: YamlFile
    path: Path_ = ()

    def child(self, *keys: str | int) -> Place:
        return Place(self.file, (*self.path, *keys))

    def finding(self, what: str, fix: str = "", severity: Any = "error") -> Finding:
        return self.file.finding(self.path, what, fix, severity)

    @classmethod
    def named(cls, name: str) -> Place:
        """The place of something that stands in no file; its findings carry the name only."""
        return cls(YamlFile(name, None))


class Findings(list[Finding]):
    """Every problem found while compiling; compiling goes on after each."""

    def report(self, place: Place, what: str, fix: str = "") -> None:
        self.append(place.finding(what, fix))

    def unknown_keys(self, data: dict[Any, Any], known: Iterable[str], place: Place, kind: str = "key") -> None:
        """Report each key of ``data`` that is none of ``known``, with the nearest known one."""
        names = list(known)
        for key in data:
            if key not in names:
                self.report(place.child(key), f"unknown {kind} `{key}`", suggest(str(key), names))
