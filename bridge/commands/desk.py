"""What most commands need: the site file, the store, who acts, and ids that need not be typed in full."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.errors import BridgeError, NotFound

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from bridge.engine.operations import Operations
    from bridge.settings import Loaded
    from bridge.store.store import Store

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="RADBRIDGE_CONFIG",
        metavar="FILE",
        help="The site file; without it config/bridge.yaml here, else the one that came with the package.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output, nothing else.")]

ID_LENGTH = 26
NEWEST = 20_000
"""Of so many messages an id may be shortened."""


def site_file(config: Path | None) -> Path:
    """The site file to use. The package's own keeps its data in the user's data folder, not inside the package."""
    here = Path("config/bridge.yaml")
    packaged = Path(__file__).parents[1] / "share" / "config" / "bridge.yaml"
    if config is not None or here.exists() or not packaged.exists():
        return config or here
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    os.environ.setdefault("RADBRIDGE_DATA", str(home / "radbridge"))
    return packaged


def actor() -> str:
    """Who acts, for the audit trail: ``cli:`` and the name of the operating system's user."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


@dataclass(frozen=True, slots=True)
class Desk:
    """The store of a site, opened for one command; works whether or not the engine runs."""

    loaded: Loaded
    store: Store
    operations: Operations
    zone: ZoneInfo
    actor: str

    def message_id(self, text: str) -> str:
        """The message whose id is, begins or ends with ``text``. Raises NotFound, or BridgeError if several are."""
        from bridge.store.search import MessageFilter

        if len(text) == ID_LENGTH:
            return text
        newest = (row["id"] for row in self.operations.messages(MessageFilter(limit=NEWEST)))
        return _one_of("message", text, newest)

    def delivery_id(self, text: str) -> str:
        """The same for a delivery that has not ended."""
        if len(text) == ID_LENGTH:
            return text
        rows = self.operations.dead() + self.operations.pending(limit=NEWEST)
        return _one_of("dead or pending delivery", text, (row["id"] for row in rows))

    def known_destination(self, name: str) -> None:
        """Raises NotFound for a name that no channel has; empty is any."""
        from bridge.yamlfile import suggest

        channels = self.loaded.config.channels
        if name and name not in channels:
            raise NotFound(f"no destination {name}", fix=suggest(name, channels))


def _one_of(kind: str, text: str, identifiers: Iterator[str]) -> str:
    found = [identifier for identifier in identifiers if identifier.startswith(text) or identifier.endswith(text)]
    if not found:
        raise NotFound(
            f"no {kind} {text}", fix="write the id, or the end of it; `radbridge dead` and `messages` list them"
        )
    if len(found) > 1:
        raise BridgeError(
            f"{len(found)} ids begin or end with {text}",
            fix="write more of it: " + ", ".join(found[:5]),
            kind="unknown_key",
        )
    return found[0]


@contextmanager
def desk(config: Path | None) -> Iterator[Desk]:
    """Open the store. Raises SettingsError for a site file that cannot be used, StoreUnavailable for its database."""
    from zoneinfo import ZoneInfo

    from bridge.app import configure_logging, open_operations
    from bridge.settings import load

    loaded = load(site_file(config))
    settings = loaded.config
    configure_logging(loaded)
    store, operations = open_operations(loaded)
    try:
        yield Desk(loaded, store, operations, ZoneInfo(settings.site.timezone), actor())
    finally:
        store.close()


def needs(condition: object, what: str, fix: str) -> None:
    """Raises BridgeError (exit code 2) when a command's options do not fit together."""
    if not condition:
        raise BridgeError(what, fix=fix, kind="settings")


def examples(*lines: str) -> str:
    """A help text's end: one example a line, as typed."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def joined(names: Sequence[str], more: str = "more") -> str:
    """The first few of many names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} {more}" if len(names) > 5 else "")
