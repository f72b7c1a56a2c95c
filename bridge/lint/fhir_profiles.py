"""The FHIR profiles that channels judge by: folders that cannot be used, and what in them is not judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge.codecs.fhir_profile import Library, library, mistakes, stamp
from bridge.errors import Finding
from bridge.settings.model import Config
from bridge.yamlfile import YamlFile


def findings(config: Config, file: YamlFile) -> Iterator[Finding]:
    """An error for what stops a channel from starting, a hint for each element that is not judged."""
    for name, channel in config.channels.items():
        profiles: Any = getattr(channel, "profiles", None)
        if profiles is None:
            continue
        known = library(profiles.folder, stamp(profiles.folder))
        for note in mistakes(known, profiles.of):
            about = f"{note.file or note.at}: " if note.file or note.at else ""
            fix = "mend the folder, or what names it"
            yield file.finding(("channels", name, "profiles", "of" if note.at else "folder"), about + note.what, fix)
        yield from _not_judged(known, str(profiles.folder))


def _not_judged(known: Library, folder: str) -> Iterator[Finding]:
    for note in known.notes:
        if note.severity == "warning":
            yield Finding(f"{folder}/{note.file}", 0, 0, f"{note.at}: {note.what}".removeprefix(": "), severity="hint")
