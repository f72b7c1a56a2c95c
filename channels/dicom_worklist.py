"""A DICOM modality worklist provider: C-ECHO and C-FIND (PS3.4 annexes A and K) on the worklist projection.

Names are matched without regard to case and accents, in every component group.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import structlog
from pydantic import ValidationError
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification  # type: ignore[attr-defined]

from bridge.codecs.dicom_query import Query, console_query, parse_query
from bridge.codecs.dicom_stations import Timetable, titles_of
from bridge.codecs.formats import is_dicom
from bridge.codecs.worklist_file import parse_item
from bridge.errors import BridgeError, CodecError, Permanent
from bridge.model import StepStatus, WorklistDocument
from bridge.ports import Answer, ChannelType, Duration, Outgoing, Receive, Services, SinkSettings
from channels.dicom_association import AETitle, AssociationSettings, Listener, peer, printable
from channels.dicom_echo import Remote, echo
from channels.dicom_find import Asker, Finder
from channels.dicom_response import Responses
from channels.dicom_served import Served
from channels.dicom_view import Caller, View
from channels.worklist_export import Export, ExportSettings

log = structlog.get_logger(__name__)

PENDING, PENDING_SOME_KEYS, CANCELLED = 0xFF00, 0xFF01, 0xFE00
NO_RESOURCES, UNREADABLE, UNABLE = 0xA700, 0xC001, 0xC000
"""Statuses of a response (PS3.4 table K.4-1)."""


class WorklistSettings(SinkSettings, View, AssociationSettings):
    takes: ClassVar[str] = "worklist"
    callers: dict[AETitle, Caller] = {}
    """What single modalities see, by their AE title, where it differs from the above: {CT1: {charset: ISO_IR 100}}.
    It goes before what the system's own `worklist:` says."""
    lane: Literal["destination", "patient", "order"] = "patient"
    """What stays in sequence: everything, or what concerns the same patient or order."""
    unfetched_after: Duration | None = None
    """A scheduled step that no modality has fetched so long after its time raises one alert; nothing: none does."""
    files: ExportSettings | None = None
    """The open steps as `.wl` files too, for a server that answers from a folder."""
    not_in_force: Literal["empty", "refuse"] = "empty"
    """A modality that calls by a title that its `transfers` have not put in force yet, or no longer: it gets an empty
    worklist, or no association."""


@dataclass(slots=True)
class _Asked:
    """One C-FIND, for the log."""

    calling: str
    peer: str
    started: float
    matches: int = 0
    withheld: int = 0
    status: int = 0


class DicomWorklist:
    """Source (the C-FIND provider; it brings no messages) and Projection (takes worklist documents)."""

    def __init__(self, settings: WorklistSettings, services: Services) -> None:
        self._settings, self._channel, self._worklist = settings, services.name, services.worklist
        self._zone = ZoneInfo(services.site.timezone) if services.site else None
        self._order_issuer = services.site.order_issuer if services.site else ""
        self._profiles = profiles(settings, services)
        self._timetable = Timetable(services.systems.values())
        self._finder = Finder(services.worklist, services.name)
        self._served = Served(services.worklist, services.name, settings.unfetched_after, self._now)
        self._export = settings.files and Export(
            settings.files, services.name, services.worklist, services.state, lambda: self._timetable.at(self._now())
        )
        self._keeping: list[asyncio.Task[None]] = []
        self._listener = Listener(
            settings,
            services.name,
            services=[Verification, ModalityWorklistInformationFind],
            handlers=[(evt.EVT_C_FIND, self._on_find)],
            callers={title: caller.hosts for title, caller in self._profiles.items()},
            turned_away=self._turned_away,
        )

    @property
    def endpoint(self) -> str:
        return self._listener.endpoint

    def view(self, caller: str) -> View:
        """What ``caller`` sees: the channel's view, then its system's, then what ``callers`` says otherwise."""
        base = View.model_construct(**{name: getattr(self._settings, name) for name in View.model_fields})
        own = self._profiles.get(caller)
        return base.model_copy(update=_said(own)) if own else base

    def asker(self, caller: str, moment: datetime) -> Asker:
        """``caller`` as it asks at this moment. A station that moved and sees only some sites sees its new one."""
        view, stations = self.view(caller), self._timetable.at(moment)
        if view.sites and (site := stations.sites.get(caller)):
            view = view.model_copy(update={"sites": [site]})
        return Asker(caller, view, moment, stations)

    def ping(self, called: str, end: Mapping[str, Any]) -> float:
        """C-ECHO to a system's own DICOM end, as its `dicom:` says: milliseconds. Blocks. Raises BridgeError."""
        remote, stations = Remote.model_validate(end), self._timetable.at(self._now())
        called = remote.ae_title or stations.turned_away(called) or called
        return echo(remote, called, calling=self._settings.ae_title)

    def shown(self, caller: str, date: str, moment: datetime | None = None) -> tuple[list[Any], list[tuple[Any, str]]]:
        """What a modality gets that asks for its own steps of this date (``yyyymmdd``, a range, empty: any), and why it
        does not get the other steps of that date. ``moment``: when it asks; now. Raises CodecError for a date that is
        none."""
        asker, query = self.asker(caller, moment or self._now()), console_query(caller, date)
        got = {found.item for found in self._finder.find(query, asker) if found.unfit is None}
        every = {"statuses": tuple(StepStatus), "seen": asker.stations.shown}
        items = list(self._worklist.find(asker.widened(console_query(date=date)), **every))
        missing = [(item, self._finder.why_not(item, query, asker)) for item in items if item.id not in got]
        return [item for item in items if item.id in got], missing

    def apply(self, tx: Any, outgoing: Outgoing) -> Answer:
        """Bring a worklist document into the projection, inside the delivery's transaction. Raises Permanent."""
        document = self._document(outgoing)
        origin = outgoing.delivery.origin
        summaries = [self._worklist.apply(tx, update, origin) for update in document.updates]
        summaries += [self._worklist.refresh(tx, patient, origin) for patient in document.patients]
        summaries += [self._worklist.book(tx, appointment, origin) for appointment in document.appointments]
        summaries += [self._worklist.perform(tx, performed, origin) for performed in document.performed]
        return Answer("; ".join(summaries) or "nothing to change")

    def _document(self, outgoing: Outgoing) -> WorklistDocument:
        """What a mapping made, or what a worklist file says by itself."""
        try:
            if is_dicom(outgoing.data):
                return parse_item(outgoing.data).document(self._order_issuer)
            return WorklistDocument.from_json(outgoing.data)
        except (ValueError, KeyError, TypeError, AttributeError, CodecError):
            raise Permanent(
                "not a worklist document", fix="name a mapping with `target: worklist` in the route", kind="syntax"
            ) from None

    async def start(self, receive: Receive) -> None:
        """Listen. Raises BridgeError (kind ``settings``) when the address cannot be had."""
        if self._export:
            self._export.check()
        self._listener.start()
        self._keeping = [asyncio.create_task(self._served.keep())]
        if self._export:
            self._keeping.append(asyncio.create_task(self._export.keep()))
        log.info("worklist_started", channel=self._channel, endpoint=self.endpoint)

    async def stop(self) -> None:
        await self._listener.stop()
        for task in self._keeping:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._keeping:
            self._keeping = []
            await asyncio.to_thread(self._served.write)

    def _now(self) -> datetime:
        return datetime.now(self._zone)

    def _turned_away(self, caller: str) -> bool:
        refuses = self._settings.not_in_force == "refuse"
        return refuses and bool(self._timetable.at(self._now()).turned_away(caller))

    def _on_find(self, event: Any) -> Iterator[tuple[int | Dataset, None]]:
        """Answer one C-FIND (PS3.4 K.4.1.3). Pending responses are sent from here, the final one is yielded."""
        asked = _Asked(printable(event.assoc.requestor.ae_title), peer(event), time.monotonic())
        query = Query(())
        try:
            raw = event.request.Identifier.getvalue() if event.request.Identifier else b""
            implicit = event.context.transfer_syntax == ImplicitVRLittleEndian
            query = parse_query(raw, implicit=implicit)
            asked.status = self._answer(event, query, implicit, asked)
            if event.assoc.is_established:
                yield asked.status, None
        except BridgeError as error:
            asked.status = _status(error)
            log.warning("worklist_query_failed", channel=self._channel, calling=asked.calling, **error.as_dict())
            yield _failure(error, asked.status), None
        except Exception as error:  # noqa: BLE001 - the channel loop: one query never takes the others along
            asked.status = UNABLE
            log.error("channel_failed", channel=self._channel, error=type(error).__name__, stack=_places(error))
            yield _failure(BridgeError("internal error", fix="see the log"), asked.status), None
        finally:
            self._log_query(asked, query)

    def _answer(self, event: Any, query: Query, implicit: bool, asked: _Asked) -> int:
        """Send every match; the final status."""
        asker = self.asker(event.assoc.requestor.ae_title.strip(), self._now())
        view = asker.view
        pending = PENDING_SOME_KEYS if query.unsupported and view.warn_unsupported else PENDING
        responses = Responses(event.assoc, event.request, event.context.context_id, pending)
        given: list[int] = []
        try:
            for found in self._finder.find(query, asker, implicit=implicit):
                if event.is_cancelled:
                    return CANCELLED
                if found.unfit:
                    asked.withheld += 1
                    if found.news:
                        where = {"attribute": found.unfit.at, "charset": view.charset, "calling": asked.calling}
                        log.warning("worklist_item_withheld", channel=self._channel, item=found.item, **where)
                    continue
                if not responses.send(found.data):
                    return CANCELLED
                given.append(found.item)
        finally:
            asked.matches = len(given)
            self._served.note(asked.calling, given)
        return 0

    def _log_query(self, asked: _Asked, query: Query) -> None:
        log.info(
            "worklist_queried",
            channel=self._channel,
            calling=asked.calling,
            peer=asked.peer,
            keys=len(query.keys),
            unsupported=list(query.unsupported),
            matches=asked.matches,
            withheld=asked.withheld,
            status=f"{asked.status:04X}",
            ms=round((time.monotonic() - asked.started) * 1000, 1),
        )


def _status(error: BridgeError) -> int:
    """The error's own status, if a C-FIND has it."""
    own = error.face.dimse
    return own if own in (NO_RESOURCES, UNREADABLE) else UNABLE


def _failure(error: BridgeError, status: int) -> Dataset:
    """The status of a response that ends a query, with the reason as ErrorComment (PS3.7 C.4)."""
    result = Dataset()
    result.Status = status
    result.ErrorComment = f"{error.what} ({error.at})"[:64] if error.at else error.what[:64]
    return result


def _places(error: BaseException) -> list[str]:
    """Where an unforeseen error came up; its text may hold content, and stays out of the log."""
    return [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]


def profiles(settings: WorklistSettings, services: Services) -> dict[str, Caller]:
    """The known modalities by AE title: systems that have one, and ``callers``, which goes before.

    Raises BridgeError for a system's ``worklist:`` that cannot be used.
    """
    found: dict[str, Caller] = {}
    for name, system in services.systems.items():
        for title in titles_of(system):
            try:
                found[title] = Caller.model_validate(system.get("worklist") or {})
            except ValidationError as error:
                first = error.errors()[0]
                at = ".".join(map(str, ("systems", name, "worklist", *first["loc"])))
                raise BridgeError(first["msg"], at=at, fix="see docs/worklist.md", kind="settings") from None
    for title, own in settings.callers.items():
        found[title] = found[title].model_copy(update=_said(own)) if title in found else own
    return found


def _said(view: View) -> dict[str, Any]:
    """The settings that a view says itself."""
    return {name: getattr(view, name) for name in view.model_fields_set}


DICOM_WORKLIST = ChannelType(
    "dicom-worklist", "both", WorklistSettings, DicomWorklist, {"worklist": Caller, "dicom": Remote}, role="dicom"
)
