"""What a scanner gets when it asks for its worklist: matches, adapted to its profile, encoded, and kept encoded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice
from typing import Any

import structlog

from bridge.codecs.dicom import Encoding, answer, write
from bridge.codecs.dicom_match import Key, matches
from bridge.codecs.dicom_query import Query
from bridge.codecs.dicom_text import Unfit
from bridge.errors import BridgeError, CodecError
from bridge.model import StepStatus
from channels.dicom_view import View

log = structlog.get_logger(__name__)

_STEP = "ScheduledProcedureStepSequence"
_BUDGET = 64 << 20
"""Bytes of encoded answers that are kept."""
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


class Finder:
    """Answers queries for one channel. Thread-safe. ``today`` is the site's date."""

    def __init__(self, worklist: Any, channel: str, today: Callable[[], date]) -> None:
        self._worklist, self._channel, self._today = worklist, channel, today
        self._shapes: OrderedDict[Any, _Shape] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, query: Query, view: View, caller: str, *, implicit: bool = True) -> Iterator[Found]:
        """What ``caller``, whose view this is, gets, by date and time. Raises BridgeError, of kind ``overload`` where
        the view says so for more matches than its limit."""
        if not query.keys:
            raise CodecError("a query without any key", fix="request at least one attribute")
        shape = self._shape(query, view, implicit)
        for item in self._items(query, view, caller, shape):
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

    def why_not(self, item: Any, query: Query, view: View) -> str:
        """Why a caller with this view does not get an item in answer to a query."""
        if item.status not in view.statuses:
            return f"status {item.status}"
        for asked in (view.restriction(self._today()), query):
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

    def _items(self, query: Query, view: View, caller: str, shape: _Shape) -> Iterator[Any]:
        found = self._worklist.find(
            query,
            restrict=view.restriction(self._today()),
            statuses=view.statuses,
            limit=view.limit and view.limit + 1,
            known=shape.known,
        )
        if view.limit is None:
            return iter(found)
        items = list(islice(found, view.limit + 1))
        if len(items) > view.limit:
            log.warning("worklist_limit_reached", channel=self._channel, calling=caller, limit=view.limit)
            if view.over_limit == "refuse":
                raise BridgeError(
                    "more matches than the limit", at="limit", fix="ask for less, or raise it", kind="overload"
                )
        return iter(items[: view.limit])

    def _shape(self, query: Query, view: View, implicit: bool) -> _Shape:
        keys, encoding = _bare(query, view), Encoding(view.charset, view.unfit, implicit)
        name = (keys, encoding, tuple(view.shorten.items()), tuple(view.add.items()))
        with self._lock:
            shape = self._shapes.pop(name, _Shape(keys, encoding))
            self._shapes[name] = shape
            while sum(one.size for one in self._shapes.values()) > _BUDGET:
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
