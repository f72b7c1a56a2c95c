"""The FHIR projection: resources with their history, written by clients and by mappings, found by their indexes.

Every version has a sequence number, allotted while no other transaction can write here: who follows the numbers misses
nothing. See ``fhir_write.py`` for what a write does, ``fhir_apply.py`` for a mapping's, ``fhir_find.py`` for a search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import Any

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from bridge.errors import NotFound, Refused, StoreUnavailable
from bridge.fhir.interaction import Interaction, Outcome
from bridge.fhir.query import Query, parse, restriction
from bridge.fhir.rights import EVERYTHING, Sight
from bridge.fhir.summary import shaped
from bridge.store import fhir_apply, fhir_rows, fhir_sight, fhir_write
from bridge.store import fhir_tables as t
from bridge.store.fhir_find import FEW, find
from bridge.store.fhir_includes import included
from bridge.store.fhir_rows import Stored, stored


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search or a history."""

    matches: list[Stored]
    included: list[Stored] = field(default_factory=list)
    total: int | None = None
    """How many match in all; None where counting them was neither asked for nor quick."""
    cursor: str = ""
    """Asks for the next page; empty on the last one."""
    query: Query | None = None
    """What was searched, with `_summary` and `_elements`; None of a history."""

    @property
    def used(self) -> list[tuple[str, str]]:
        """The parameters that took effect, as they came: the self link."""
        return list(self.query.used) if self.query else []

    @property
    def ignored(self) -> list[str]:
        """Names of the parameters that did not."""
        return list(self.query.ignored) if self.query else []


class FhirStore:
    """Reads through ``reader``; writes in the transaction it is handed. Thread-safe.

    ``zone`` is where dates without an offset are meant; ``few``: see ``fhir_find.py``.
    """

    def __init__(self, reader: Engine, zone: tzinfo = UTC, few: int = FEW) -> None:
        if reader.dialect.name == "postgresql":
            # each statement sees what is committed, in a transaction too: its beginning and end are only waited for
            reader = reader.execution_options(isolation_level="AUTOCOMMIT")
        self._reader, self.zone, self._few = reader, zone, few

    def at(self, zone: tzinfo) -> FhirStore:
        """The same projection, seen from ``zone``."""
        return FhirStore(self._reader, zone, self._few)

    # in the store's writer thread

    def write(
        self,
        tx: Connection,
        interactions: Sequence[Interaction],
        *,
        message: str,
        at: int,
        sight: Sight = EVERYTHING,
    ) -> list[Outcome]:
        """Do all of them, or raise Refused and leave the rest to the transaction's rollback (R4 http.html 3.1.0.11.2).

        ``message`` is the id of the message that asks, ``at`` the time of it in milliseconds. Outcomes come in the
        sequence of the interactions. ``at`` of a Refused is the entry or the element; its kind: ``precondition``
        (another version is there, or one where none may be), ``ambiguous`` (several match), ``business_rule`` (a report
        may not be replaced by this one), ``unknown_key``, ``search``, ``unsupported``, ``required``, ``syntax``,
        ``forbidden`` (``sight`` does not allow it, or not what would come of it). What ``sight`` does not show is
        written as if it were not there.
        """
        return fhir_write.write(tx, interactions, fhir_write.Writing(message, at, self.zone, sight))

    def apply(self, tx: Connection, bundle: dict[str, Any], *, message: str, at: int) -> str:
        """Write the difference that a mapping's transaction bundle makes here, and say what was done:
        ``2 created 1 unchanged``. Raises Permanent."""
        return fhir_apply.apply(tx, bundle, fhir_write.Writing(message, at, self.zone))

    # from any thread; they block on the database and raise StoreUnavailable

    def read(self, kind: str, identifier: str, version: str = "", *, sight: Sight = EVERYTHING) -> Stored:
        """A resource as it is now, or was at ``version``; ``deleted`` where it is gone. Raises NotFound, also for what
        ``sight`` does not show: former versions and deleted resources are for those who see all of the type."""
        hidden = restriction(kind, sight.restrict(kind, "read"), zone=self.zone)

        def get(connection: Connection) -> Stored | None:
            if hidden:
                now = fhir_sight.shown(connection, hidden, fhir_rows.one(connection, kind, identifier))
                return now if now and version in ("", now.version) else None
            if not version:
                return fhir_rows.one(connection, kind, identifier)
            if not version.isascii() or not version.isdigit() or len(version) > 9:
                return None
            return fhir_rows.at_version(connection, kind, identifier, int(version))

        one: Stored | None = self.ask(get)
        if one is None:
            raise NotFound("no such resource" if not version else "no such version", at=kind)
        return one

    def search(
        self,
        kind: str,
        parameters: Sequence[tuple[str, str]],
        *,
        strict: bool = False,
        restrict: Sequence[tuple[str, str]] = (),
        sight: Sight = EVERYTHING,
        cursor: str = "",
    ) -> Page:
        """What matches ``parameters`` (decoded name and value, as in the URL) and ``restrict``, which is not told of
        (``bridge.fhir.query.restriction``), of what ``sight`` shows: also what is included, and what chains follow.
        Bodies are as `_summary` and `_elements` ask for them.

        ``strict`` refuses a parameter that is not known, else it is ignored. Raises Refused (kind ``search`` or
        ``unsupported``; ``at`` names the parameter), also for a ``cursor`` that is none.
        """
        query = fhir_sight.guarded(parse(kind, parameters, strict=strict, zone=self.zone), sight, self.zone)
        hidden = restriction(kind, [*restrict, *sight.restrict(kind)], zone=self.zone)

        def run(connection: Connection) -> Page:
            found = find(connection, query, cursor, hidden, self._few)
            matches = fhir_rows.of_rows(connection, found.rows)
            more = included(
                connection, query, matches, lambda some: fhir_sight.seen(connection, sight, self.zone, some)
            )
            return Page(matches, more, found.total, found.cursor, query)

        page: Page = self.ask(run)
        return _shaped(page, query)

    def history(
        self,
        kind: str = "",
        identifier: str = "",
        *,
        since: int = 0,
        count: int = 50,
        cursor: str = "",
        sight: Sight = EVERYTHING,
    ) -> Page:
        """Versions, newest first: of one resource, of a type, or of all; from ``since`` (milliseconds) on. Who does not
        see all of a type sees the versions that are current. Raises NotFound for a resource that never was, Refused for
        a ``cursor`` that is none, and for all types if ``sight`` does not show all of each."""
        if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 18):
            fix = "follow the links of the pages"
            raise Refused("not a page of this history", at="_cursor", fix=fix, kind="search")
        where = [t.version.c.type == kind] if kind else []
        where += [t.version.c.id == identifier] if identifier else []
        if identifier:
            self.read(kind, identifier, sight=sight)
        pairs = sight.restrict(kind, "read" if identifier else "search")
        if hidden := restriction(kind, pairs, zone=self.zone):
            where.append(fhir_sight.current(hidden))
        if since:
            where.append(t.version.c.sequence >= self.ask(lambda connection: fhir_rows.first_since(connection, since)))
        if cursor:
            where.append(t.version.c.sequence < int(cursor))
        newest = (t.version.c.version if identifier else t.version.c.sequence).desc()
        wanted = select(t.version).where(*where).order_by(newest).limit(count + 1)
        found: list[Stored] = self.ask(lambda c: [stored(row) for row in c.execute(wanted)])
        page = found[:count]
        return Page(page, cursor=str(page[-1].sequence) if len(found) > count and page else "")

    def changes(self, after: int, limit: int) -> list[Stored]:
        """The versions that came after the sequence number ``after``, in their sequence: nothing is ever missed."""
        wanted = select(t.version).where(t.version.c.sequence > after).order_by(t.version.c.sequence).limit(limit)
        found: list[Stored] = self.ask(lambda c: [stored(row) for row in c.execute(wanted)])
        return found

    def newest(self) -> int:
        """The sequence number of the newest version; 0 if there is none."""
        number: int = self.ask(fhir_rows.newest)[0]
        return number

    def ask(self, question: Callable[[Connection], Any]) -> Any:
        """Run ``question(connection)`` on a reader."""
        try:
            with self._reader.connect() as connection:
                return question(connection)
        except DBAPIError:
            raise StoreUnavailable("FHIR could not be read", fix="look at the database's own log") from None


def _shaped(page: Page, query: Query) -> Page:
    if not query.elements and query.summary in ("", "false"):
        return page
    matches = [replace(one, body=shaped(one.body, query)) for one in page.matches]
    return replace(
        page,
        matches=matches,
        included=[replace(one, body=shaped(one.body, query, match=False)) for one in page.included],
    )
