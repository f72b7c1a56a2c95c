"""Stations whose AE title or site changes at a planned time: their steps follow them.

Every title that a station ever has means that station, and at any moment one of them is in force: steps scheduled under
any of them are found under that one alone, and are shown with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bridge.codecs.dicom_match import Exact, Key, Test, Wild, texts
from bridge.codecs.dicom_query import Query

_STEP, _STATION = "ScheduledProcedureStepSequence", "ScheduledStationAETitle"


def titles_of(system: Mapping[str, Any]) -> list[str]:
    """Every AE title that a system has, had or will have, the first one first."""
    later = (one.get("ae_title") for one in system.get("transfers") or ())
    return list(dict.fromkeys(title for title in (system.get("ae_title"), *later) if title))


@dataclass(frozen=True, slots=True)
class Stations:
    """The stations that ever move, as they are at one moment."""

    in_force: Mapping[str, str] = field(default_factory=dict)
    """The title in force, by every title of the same station."""
    sites: Mapping[str, str] = field(default_factory=dict)
    """The institution (InstitutionName) that a station has moved to, by its title in force."""

    def turned_away(self, title: str) -> str:
        """The title in force of a station that calls by another one of its own; else empty."""
        current = self.in_force.get(title, title)
        return "" if current == title else current

    def asked(self, query: Query) -> Query | None:
        """A query so that it finds steps under every title of the stations that it asks for; None if it asks only for
        titles that are not in force."""
        if not self.in_force:
            return query
        keys: list[Key] = []
        for key in query.keys:
            if key.keyword == _STEP and key.item:
                item = tuple(self._key(one) for one in key.item)
                if any(new.universal and not old.universal for new, old in zip(item, key.item, strict=True)):
                    return None
                key = replace(key, item=item)
            keys.append(key)
        return replace(query, keys=tuple(keys))

    def _key(self, key: Key) -> Key:
        if key.keyword != _STATION:
            return key
        return replace(key, tests=tuple(found for test in key.tests for found in self._test(test)))

    def _test(self, test: Test) -> Iterator[Test]:
        if isinstance(test, Wild):
            meant = test.regex()
            current = {title for title in self.in_force.values() if meant.fullmatch(title)}
            yield replace(test, but=frozenset(self.in_force))
        elif isinstance(test, Exact) and test.value in self.in_force:
            current = {test.value}
        else:
            current = set()
            yield test
        yield from (Exact(title) for title, now in self.in_force.items() if now in current)

    def shown(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """An item as it is at this moment: under the titles in force, and of the institution it has moved to."""
        if not self.in_force:
            return attributes
        step, *others = attributes[_STEP]
        titles = [title.strip() for title in texts(step.get(_STATION))]
        now = list(dict.fromkeys(self.in_force.get(title, title) for title in titles))
        site = next((self.sites[title] for title in now if title in self.sites), "")
        if now != titles:
            attributes = {**attributes, _STEP: [{**step, _STATION: now}, *others]}
        return {**attributes, "InstitutionName": site} if site else attributes


NOBODY_MOVES = Stations()


class Timetable:
    """When which station is known by which title, from the settings of systems as channels see them."""

    def __init__(self, systems: Iterable[Mapping[str, Any]]) -> None:
        self._moving = [_Moves(system) for system in systems if system.get("transfers")]

    def at(self, moment: datetime) -> Stations:
        """The stations at this moment, by the clock that it is told by (the site's)."""
        if not self._moving:
            return NOBODY_MOVES
        in_force: dict[str, str] = {}
        sites: dict[str, str] = {}
        for moves in self._moving:
            title, site = moves.at(moment)
            in_force.update(dict.fromkeys(moves.titles, title))
            if site:
                sites[title] = site
        return Stations(in_force, sites)


class _Moves:
    def __init__(self, system: Mapping[str, Any]) -> None:
        self.titles = titles_of(system)
        self._times: list[datetime] = []
        self._places = [(str(system["ae_title"]), "")]
        for one in system["transfers"]:
            title, site = self._places[-1]
            self._times.append(datetime.fromisoformat(one["at"]))
            self._places.append((one.get("ae_title") or title, one.get("site") or site))

    def at(self, moment: datetime) -> tuple[str, str]:
        """Title and site (empty: as its steps say). Who has moved in an hour that the clock shows twice has moved."""
        now, zone = moment.timestamp(), moment.tzinfo
        past = [index for index, at in enumerate(self._times, 1) if at.replace(tzinfo=zone).timestamp() <= now]
        return self._places[max(past, default=0)]
