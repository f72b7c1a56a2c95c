"""What a scanner gets when it asks for its worklist: matches, adapted to its profile, encoded, and kept encoded.

At any moment a scanner's station has one AE title; steps under its other titles are found under that one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import structlog

from bridge.codecs.dicom import Encoding, answer, write
from bridge.codecs.dicom_match import Key, matches
from bridge.codecs.dicom_query import Query, carried_over
from bridge.codecs.dicom_stations import NOBODY_MOVES, Stations
from bridge.codecs.dicom_text import Unfit
from bridge.errors import BridgeError, CodecError
from bridge.model import StepStatus
from channels.dicom_view import View

log = structlog.get_logger(__name__)

_STEP = "ScheduledProcedureStepSequence"
_BUDGET = 64 << 20
"""Bytes of encoded answers that are kept."""
_MOST = 256
"""Kinds of queries whose answers are kept."""
_REASONS = {
    "ScheduledStationAETitle": "other station",
    "Modality": "other modality",
    "InstitutionName": "other site",
    "ScheduledProcedureStepStartDate": "outside window",
    "ScheduledProcedureStepStartTime": "outside window",
}


@dataclass(frozen=True, slots=True)
class Found:
    """One match: its encoded Identifier, or why it cannot be sent to this caller."""

    item: int
    data: bytes = b""
    unfit: Unfit | None = None
    news: bool = False
    """It was not refused before."""


@dataclass(slots=True)
class _Shape:
    """Answers to queries that ask for the same attributes in the same form, by item."""

    keys: tuple[Key, ...]
    encoding: Encoding
    answers: dict[int, tuple[int, StepStatus, bytes]] = field(default_factory=dict)
    size: int = 0
    refused: dict[int, int] = field(default_factory=dict)

    def known(self, item: int, version: int, status: StepStatus) -> bool:
        kept = self.answers.get(item)
        return kept is not None and kept[0] == version and kept[1] is status

    def keep(self, item: Any, data: bytes) -> None:
        former = self.answers.get(item.id)
        self.answers[item.id] = (item.version, item.status, data)
        self.size += len(data) - (len(former[2]) if former else 0)

    def refuse(self, item: Any) -> bool:
        """Remember that the item cannot be sent as it is; whether that is news."""
        former, self.refused[item.id] = self.refused.get(item.id), item.version
        return bool(former != item.version)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, what it may see, and when: the stations are as they are at that moment."""

    title: str
    view: View
    moment: datetime
    stations: Stations = NOBODY_MOVES

    @property
    def restriction(self) -> Query:
        return self.view.restriction(self.moment.date(), self.stations)

    def widened(self, query: Query) -> Query:
        """The query as it finds what is carried over from the days before."""
        today = self.moment.date()
        first = today - timedelta(self.view.carry_over)
        return carried_over(query, f"{first:%Y%m%d}", f"{today:%Y%m%d}") if self.view.carry_over else query


class Finder:
    """Answers queries for one channel. Thread-safe."""

    def __init__(self, worklist: Any, channel: str) -> None:
        self._worklist, self._channel = worklist, channel
        self._shapes: OrderedDict[Any, _Shape] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, query: Query, asker: Asker, *, implicit: bool = True) -> Iterator[Found]:
        """What ``asker`` gets, by date and time. Raises BridgeError, of kind ``overload`` where the view says so for
        more matches than its limit."""
        if not query.keys:
            raise CodecError("a query without any key", fix="request at least one attribute")
        view = asker.view
        shape = self._shape(query, asker, implicit)
        for item in self._items(query, asker, shape):
            if not item.attributes:
                yield Found(item.id, shape.answers[item.id][2])
                continue
            attributes, cut = view.adapted(item.attributes) if view.changes else (item.attributes, [])
            if cut:
                log.info("worklist_item_shortened", channel=self._channel, item=item.id, attributes=cut)
            try:
                data = write(answer(attributes, shape.keys, shape.encoding), implicit=implicit)
            except Unfit as error:
                yield Found(item.id, unfit=error, news=shape.refuse(item))
                continue
            shape.keep(item, data)
            yield Found(item.id, data)

    def why_not(self, item: Any, query: Query, asker: Asker) -> str:
        """Why ``asker`` does not get an item (as it is at that moment) in answer to a query."""
        view = asker.view
        if current := asker.stations.turned_away(asker.title):
            return f"title not in force ({current} is)"
        if item.status not in view.statuses:
            return f"status {item.status}"
        query = asker.widened(query)
        for asked in (asker.restriction, query):
            for key in _flat(asked):
                if not matches((key,), item.attributes):
                    inner = key.item[0] if key.item else key
                    return _REASONS.get(inner.keyword, "not asked for")
        if not matches(query.keys, item.attributes):
            return "not asked for"
        try:
            answer(view.adapted(item.attributes)[0], _bare(query, view), Encoding(view.charset, view.unfit))
        except Unfit as error:
            return f"charset refused ({error.at})"
        return "over the limit"

    def _items(self, query: Query, asker: Asker, shape: _Shape) -> Iterator[Any]:
        view, stations = asker.view, asker.stations
        if current := stations.turned_away(asker.title):
            log.warning("worklist_title_not_in_force", channel=self._channel, calling=asker.title, in_force=current)
            return iter(())
        asked, restrict = stations.asked(asker.widened(query)), stations.asked(asker.restriction)
        if asked is None or restrict is None:
            return iter(())
        found = self._worklist.find(
            asked,
            restrict=restrict,
            statuses=view.statuses,
            limit=view.limit and view.limit + 1,
            known=shape.known,
            seen=stations.shown,
        )
        if view.limit is None:
            return iter(found)
        items = list(islice(found, view.limit + 1))
        if len(items) > view.limit:
            log.warning("worklist_limit_reached", channel=self._channel, calling=asker.title, limit=view.limit)
            if view.over_limit == "refuse":
                raise BridgeError(
                    "more matches than the limit", at="limit", fix="ask for less, or raise it", kind="overload"
                )
        return iter(items[: view.limit])

    def _shape(self, query: Query, asker: Asker, implicit: bool) -> _Shape:
        view, stations = asker.view, asker.stations
        moved = (tuple(stations.in_force.items()), tuple(stations.sites.items()))
        keys, encoding = _bare(query, view), Encoding(view.charset, view.unfit, implicit)
        name = (keys, encoding, tuple(view.shorten.items()), tuple(view.add.items()), moved)
        with self._lock:
            shape = self._shapes.pop(name, _Shape(keys, encoding))
            self._shapes[name] = shape
            while len(self._shapes) > _MOST or sum(one.size for one in self._shapes.values()) > _BUDGET:
                self._shapes.popitem(last=False)
            return self._shapes.setdefault(name, _Shape(keys, encoding))


def _bare(query: Query, view: View) -> tuple[Key, ...]:
    """The keys that the caller gets, without what they have to match: an item that is found has one step, and it
    matches. Tests inside other sequences choose among their items, and stay."""
    out = set(view.leave_out)
    keys = []
    for key in query.keys:
        if key.keyword in out:
            continue
        if key.keyword == _STEP and key.item is not None:
            inner = tuple(replace(one, tests=()) for one in key.item if f"{_STEP}.{one.keyword}" not in out)
            keys.append(replace(key, item=inner))
        else:
            keys.append(replace(key, tests=()))
    return tuple(keys)


def _flat(restriction: Query) -> Iterator[Key]:
    """Each thing that is asked, by itself."""
    for key in restriction.keys:
        if key.item is None:
            yield key
        for inner in key.item or ():
            yield replace(key, item=(inner,))
