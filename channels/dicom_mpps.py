"""``dicom-mpps-in``: performed procedure steps as modalities tell them (MPPS SCP, PS3.4 annex F; IHE RAD-6, RAD-7).

Every N-CREATE and N-SET is a message; success is answered once it is committed. The same event once more, as after an
answer that was lost, gets the same answer and counts once.
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
from pynetdicom.sop_class import ModalityPerformedProcedureStep, Verification  # type: ignore[attr-defined]

from bridge.codecs.performed import CREATE, SET, Event, encode_event
from bridge.errors import BridgeError
from bridge.ports import ChannelType, Duration, Inbound, Receive, Reply, Services, SourceSettings
from channels.dicom_association import AETitle, AssociationSettings, Listener, peer, printable
from channels.dicom_view import Caller

log = structlog.get_logger(__name__)

_NO_LONGER = 0xA710
"""Error ID: Performed Procedure Step Object may no longer be updated (PS3.4 table F.7.2-2)."""
_RESOURCES, _PROCESSING = 0x0213, 0x0110
_STATUSES = {"unavailable": _RESOURCES, "overload": _RESOURCES, "syntax": _PROCESSING}
"""Status of a DIMSE-N response where it is another than that of a query (PS3.7 annex C)."""


class MppsInSettings(SourceSettings, AssociationSettings):
    format: Literal["dicom"] = "dicom"
    """Events of performed procedure steps, each a DICOM file."""
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
            services=[Verification, ModalityPerformedProcedureStep],
            handlers=[(evt.EVT_N_CREATE, self._on_create), (evt.EVT_N_SET, self._on_set)],
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
        return self._answer(event, CREATE, event.request.AffectedSOPInstanceUID, event.request.AttributeList)

    def _on_set(self, event: Any) -> tuple[Dataset, None]:
        return self._answer(event, SET, event.request.RequestedSOPInstanceUID, event.request.ModificationList)

    def _answer(self, event: Any, command: str, instance: str | None, data: Any) -> tuple[Dataset, None]:
        """In pynetdicom's thread: what the engine makes of one event, as a response."""
        started, requestor = time.monotonic(), event.assoc.requestor
        told = Event(
            command,
            str(instance or ""),
            requestor.ae_title.strip(),
            requestor.primitive.called_ae_title.strip(),
            data.getvalue() if data else b"",
            event.context.transfer_syntax == ImplicitVRLittleEndian,
            None,
            self._settings.incomplete == "accept",
        )
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

    def _wait(self, told: Event, where: str) -> Reply:
        assert self._loop is not None
        future: Future[Reply] = asyncio.run_coroutine_threadsafe(self._take(told, where), self._loop)
        try:
            return future.result(self._settings.answer_within)
        except TookTooLong:
            raise BridgeError("the engine did not answer in time", fix="send it again", kind="unavailable") from None

    async def _take(self, told: Event, where: str) -> Reply:
        """Join the event to what is known of its step, and hand it in. Raises StoreUnavailable."""
        assert self._receive is not None
        async with self._turns.setdefault(told.instance, asyncio.Lock()):
            known = await asyncio.to_thread(self._steps.performed, told.instance)
            return await self._receive(Inbound(encode_event(replace(told, known=known)), where))


def _known(services: Services) -> dict[str, list[Any]]:
    """Systems with an AE title, and from where each may call: as at the worklist."""
    titled = [system for system in services.systems.values() if system.get("ae_title")]
    return {one["ae_title"]: list(Caller.model_validate(one.get("worklist") or {}).hosts) for one in titled}


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
