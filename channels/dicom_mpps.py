"""``dicom-mpps-in``: performed procedure steps as modalities tell them (MPPS SCP, PS3.4 annex F; IHE RAD-6, RAD-7), and
notices of an archive about their images (availability, PS3.4 annex R; commitment, annex J).

Every N-CREATE, N-SET and N-EVENT-REPORT is a message; success is answered once it is committed. The same event once
more, as after a lost answer, gets the same answer and counts once. What is known of a step can be read (N-GET).
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakValueDictionary

import structlog
from pydantic import Field
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
    StorageCommitmentPushModel,
    Verification,
)

from bridge.codecs.dicom_query import query_by
from bridge.codecs.dicom_stations import titles_of
from bridge.codecs.dicom_values import chosen
from bridge.codecs.notice import Notice, about_items, about_step, encode_notice
from bridge.codecs.performed import CREATE, SET, Event, encode_event
from bridge.codecs.performed_order import named, unsaid
from bridge.errors import BridgeError, CodecError
from bridge.model import StepStatus
from bridge.ports import ChannelType, Duration, Inbound, Receive, Reply, Services, SourceSettings
from channels.dicom_association import AETitle, AssociationSettings, Listener, peer, printable
from channels.dicom_view import Caller

log = structlog.get_logger(__name__)

_SERVICES = {
    "steps": (ModalityPerformedProcedureStep, ModalityPerformedProcedureStepRetrieve),
    "availability": (InstanceAvailabilityNotification,),
}
_NO_LONGER = 0xA710
"""Error ID: Performed Procedure Step Object may no longer be updated (PS3.4 table F.7.2-2)."""
_RESOURCES, _PROCESSING = 0x0213, 0x0110
_STATUSES = {"unavailable": _RESOURCES, "overload": _RESOURCES, "syntax": _PROCESSING}
"""Status of a DIMSE-N response where it is another than that of a query (PS3.7 annex C)."""


class MppsInSettings(SourceSettings, AssociationSettings):
    format: Literal["dicom"] = "dicom"
    """Events of performed procedure steps, each a DICOM file."""
    accepts: list[Literal["steps", "availability", "commitment"]] = Field(default=["steps"], min_length=1)
    """What is taken: performed steps, which may be read too; an archive's notices that images are available, or
    committed to be kept."""
    callers: list[AETitle] = []
    """Modalities that are known besides those of `systems`: see `known_callers_only`."""
    incomplete: Literal["refuse", "accept"] = "refuse"
    """A step that is completed or discontinued without all that it should have by then (end, series with protocol)."""
    answer_within: Duration = Field(default=30.0, gt=0)
    """A modality is told to come again when the engine has not answered by then."""


class DicomMppsIn:
    """The listening end of a ``dicom-mpps-in`` channel."""

    def __init__(self, settings: MppsInSettings, services: Services) -> None:
        self._settings, self._channel, self._steps = settings, services.name, services.worklist
        self._listener = Listener(
            settings,
            services.name,
            services=[Verification, *(one for name in settings.accepts for one in _SERVICES.get(name, ()))],
            notified=[StorageCommitmentPushModel] if "commitment" in settings.accepts else [],
            handlers=[
                (evt.EVT_N_CREATE, self._on_create),
                (evt.EVT_N_SET, self._on_set),
                (evt.EVT_N_EVENT_REPORT, self._on_report),
                (evt.EVT_N_GET, self._on_get),
            ],
            callers={**dict.fromkeys(settings.callers, ()), **_known(services)},
        )
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Events of one step are taken one after the other."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receive: Receive | None = None

    @property
    def endpoint(self) -> str:
        return self._listener.endpoint

    async def start(self, receive: Receive) -> None:
        """Listen. Raises BridgeError (kind ``settings``) when the address cannot be had."""
        self._loop, self._receive = asyncio.get_running_loop(), receive
        self._listener.start()
        log.info("mpps_started", channel=self._channel, endpoint=self.endpoint)

    async def stop(self) -> None:
        await self._listener.stop()

    def _on_create(self, event: Any) -> tuple[Dataset, None]:
        request = event.request
        if request.AffectedSOPClassUID == InstanceAvailabilityNotification:
            return self._notified(event, 0, request.AttributeList)
        return self._told(event, CREATE, request.AffectedSOPInstanceUID, request.AttributeList)

    def _on_set(self, event: Any) -> tuple[Dataset, None]:
        return self._told(event, SET, event.request.RequestedSOPInstanceUID, event.request.ModificationList)

    def _on_report(self, event: Any) -> tuple[Dataset, None]:
        return self._notified(event, event.request.EventTypeID, event.request.EventInformation)

    def _on_get(self, event: Any) -> tuple[Dataset, Dataset | None]:
        """What is known of a step (PS3.4 F.8)."""
        try:
            known = self._steps.performed(str(event.request.RequestedSOPInstanceUID or ""))
            if known is None:
                raise BridgeError("no such performed step", at="SOPInstanceUID", kind="unknown_key")
            return _status(None), chosen(known.values, event.attribute_identifiers)
        except BridgeError as error:
            return _status(error), None

    def _told(self, event: Any, command: str, instance: str | None, data: Any) -> tuple[Dataset, None]:
        told = Event(command, str(instance or ""), *_sent(event, data), None, self._settings.incomplete == "accept")
        return self._answer(event, told, command)

    def _notified(self, event: Any, number: int, data: Any) -> tuple[Dataset, None]:
        request = event.request
        service, instance = str(request.AffectedSOPClassUID or ""), str(request.AffectedSOPInstanceUID or "")
        calling, called, sent, implicit = _sent(event, data)
        notice = Notice(service, instance, number, calling, called, sent, implicit)
        return self._answer(event, notice, "N-EVENT-REPORT" if number else CREATE)

    def _answer(self, event: Any, told: Event | Notice, command: str) -> tuple[Dataset, None]:
        """In pynetdicom's thread: what the engine makes of one event, as a response."""
        started = time.monotonic()
        try:
            reply = self._wait(told, peer(event))
            error, message = reply.error, reply.message
        except BridgeError as failed:
            error, message = failed, ""
        except Exception as defect:  # noqa: BLE001 - the channel loop: one event never takes the others along
            log.error("channel_failed", channel=self._channel, exc_info=defect)
            error, message = BridgeError("internal error", fix="see the log"), ""
        status = _status(error)
        log.info(
            "step_told",
            channel=self._channel,
            calling=printable(told.calling),
            command=command,
            message=message,
            status=f"{status.Status:04X}",
            ms=round((time.monotonic() - started) * 1000, 1),
        )
        return status, None

    def _wait(self, told: Event | Notice, where: str) -> Reply:
        assert self._loop is not None
        future: Future[Reply] = asyncio.run_coroutine_threadsafe(self._take(told, where), self._loop)
        try:
            return future.result(self._settings.answer_within)
        except TookTooLong:
            raise BridgeError("the engine did not answer in time", fix="send it again", kind="unavailable") from None

    async def _take(self, told: Event | Notice, where: str) -> Reply:
        """Join the event to what is known of its step, and hand it in. Raises StoreUnavailable."""
        assert self._receive is not None
        async with self._turns.setdefault(told.instance, asyncio.Lock()):
            data = await asyncio.to_thread(self._joined, told)
            return await self._receive(Inbound(data, where))

    def _joined(self, told: Event | Notice) -> bytes:
        """The event as a message: with what is known of its step, or of the study that it is about."""
        if isinstance(told, Event):
            known = self._steps.performed(told.instance)
            return encode_event(replace(told, known=known, ordered={} if known else self._ordered(told)))
        for instance in told.performed:
            if step := self._steps.performed(instance):
                return encode_notice(replace(told, about=about_step(step.values)))
        items = [item for uid in told.studies for item in self._items("StudyInstanceUID", uid)]
        return encode_notice(replace(told, about=about_items(items)))

    def _ordered(self, told: Event) -> dict[str, Any]:
        """What the worklist knows of a new step; nothing of one that cannot be read, which is refused later."""
        try:
            values = told.told
        except CodecError:
            return {}
        return unsaid(values, [item for key, value in named(values) for item in self._items(key, value)])

    def _items(self, keyword: str, value: str) -> list[Any]:
        """The worklist's items with this value."""
        found = self._steps.find(query_by(keyword, value), statuses=tuple(StepStatus))
        return [item.attributes for item in found]


def _sent(event: Any, data: Any) -> tuple[str, str, bytes, bool]:
    """Who sent it to whom, the data set, and whether that is in implicit VR."""
    requestor = event.assoc.requestor
    titles = (requestor.ae_title.strip(), requestor.primitive.called_ae_title.strip())
    return *titles, data.getvalue() if data else b"", event.context.transfer_syntax == ImplicitVRLittleEndian


def _known(services: Services) -> dict[str, list[Any]]:
    """Systems with an AE title, and from where each may call: as at the worklist."""
    return {
        title: list(Caller.model_validate(system.get("worklist") or {}).hosts)
        for system in services.systems.values()
        for title in titles_of(system)
    }


def _status(error: BridgeError | None) -> Dataset:
    """The status of a response, with the reason as ErrorComment (PS3.7 annex C)."""
    result = Dataset()
    result.Status = 0x0000
    if error is not None:
        result.Status = _STATUSES.get(error.kind, error.face.dimse)
        result.ErrorComment = (f"{error.what} ({error.at})" if error.at else error.what)[:64]
        if error.kind == "locked":
            result.ErrorComment, result.ErrorID = error.what[:64], _NO_LONGER
    return result


DICOM_MPPS_IN = ChannelType("dicom-mpps-in", "in", MppsInSettings, DicomMppsIn, {"worklist": Caller})
