"""A DICOM modality worklist provider: C-ECHO and C-FIND (PS3.4 annexes A and K) on the worklist projection.

The associations are served by pynetdicom in its own threads. Names are matched without regard to case and accents, in
every component group.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification  # type: ignore[attr-defined]

from bridge.codecs.dicom import Encoding, UnfitPolicy, answer, dataset
from bridge.codecs.dicom_query import Query, parse_query
from bridge.codecs.dicom_text import Unfit, charset, is_charset
from bridge.errors import BridgeError, CodecError, Permanent
from bridge.model import StepStatus, WorklistDocument
from bridge.ports import Address, Answer, ChannelType, Duration, HostPort, Outgoing, Receive, Services, SinkSettings

log = structlog.get_logger(__name__)

PENDING, PENDING_SOME_KEYS, CANCELLED = 0xFF00, 0xFF01, 0xFE00
_LARGEST_PDU = 1 << 20
_BACKLOG = 64
_BURST = 64
_GRACE = 1.0
"""Seconds that an aborted association has to end."""


def _charset(text: str) -> str:
    if not is_charset(text):
        raise ValueError("write a DICOM character set, for example ISO_IR 192 (UTF-8) or ISO_IR 100 (Latin-1)")
    return charset(text)


Charset = Annotated[str, AfterValidator(_charset)]
AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[!-\[\]-~]([ -\[\]-~]*[!-\[\]-~])?$")]
"""An application entity title (PS3.5, VR AE)."""


class View(BaseModel):
    """What a calling AE sees, and in which characters."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    charset: Charset = "ISO_IR 192"
    """Specific character set of the answers."""
    unfit: UnfitPolicy = "refuse"
    """An item with a character that the set lacks: left out and reported, or spelled plainly (é -> e)."""
    stations: list[AETitle] = []
    """If given, only steps for these stations are shown, whatever the query asks for."""
    statuses: list[StepStatus] = Field(default=[StepStatus.SCHEDULED, StepStatus.STARTED], min_length=1)
    """Steps of these statuses are shown."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many items in one answer."""
    over_limit: Literal["stop", "refuse"] = "stop"
    """More matches than ``limit``: send the first ones and end with success (and an alert), or answer A700."""


class WorklistSettings(SinkSettings, View):
    listen: Address = HostPort("127.0.0.1", 11112)
    """Where modalities connect."""
    ae_title: AETitle = "RADBRIDGE"
    """Our own application entity title."""
    require_called_ae: bool = False
    """Refuse modalities that call us by another title."""
    callers: dict[AETitle, View] = {}
    """What single modalities see, by their AE title, where it differs from the above: {CT1: {charset: ISO_IR 100}}."""
    known_callers_only: bool = False
    """Refuse modalities that ``callers`` does not name."""
    max_associations: int = Field(default=32, ge=1, le=1000)
    """Associations at a time; further ones are rejected."""
    lane: Literal["destination", "patient", "order"] = "patient"
    """What stays in sequence: everything, or what concerns the same patient or order."""
    request_timeout: Duration = Field(default=30.0, gt=0)
    """How long a new connection may take to ask for its association."""
    idle_timeout: Duration = Field(default=60.0, gt=0)
    """How long an association may be silent."""

    def view(self, caller: str) -> View:
        """What ``caller`` sees: the channel's view with what ``callers`` says otherwise."""
        own = self.callers.get(caller)
        base = View.model_construct(**{name: getattr(self, name) for name in View.model_fields})
        return base.model_copy(update=own.model_dump(include=own.model_fields_set)) if own else base


@dataclass(slots=True)
class _Served:
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
        self._ae: Any = None
        self._server: Any = None
        self._address = settings.listen

    @property
    def endpoint(self) -> str:
        return f"dicom://{self._settings.ae_title}@{self._address}"

    def apply(self, tx: Any, outgoing: Outgoing) -> Answer:
        """Bring a worklist document into the projection, inside the delivery's transaction. Raises Permanent."""
        try:
            document = WorklistDocument.from_json(outgoing.data)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Permanent(
                "not a worklist document", fix="name a mapping with `target: worklist` in the route", kind="syntax"
            ) from None
        origin = outgoing.delivery.origin
        summaries = [self._worklist.apply(tx, update, origin) for update in document.updates]
        summaries += [self._worklist.refresh(tx, patient, origin) for patient in document.patients]
        summaries += [self._worklist.book(tx, appointment, origin) for appointment in document.appointments]
        return Answer("; ".join(summaries) or "nothing to change")

    async def start(self, receive: Receive) -> None:
        """Listen. Raises BridgeError (kind ``settings``) when the address cannot be had."""
        _quiet_pynetdicom()
        self._ae = self._application_entity()
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._on_open),
            (evt.EVT_CONN_CLOSE, self._on_close),
            (evt.EVT_REJECTED, self._on_rejected),
            (evt.EVT_C_FIND, self._on_find),
        ]
        host, port = self._settings.listen
        try:
            self._server = self._ae.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise BridgeError(
                f"cannot listen: {error.strerror or error}",
                at=f"{self._channel}.listen {self._settings.listen}",
                fix="end what uses the port, or choose another address",
                kind="settings",
            ) from None
        self._server.socket.listen(_BACKLOG)
        self._address = HostPort(host, self._server.socket.getsockname()[1])
        log.info("worklist_started", channel=self._channel, endpoint=self.endpoint)

    async def stop(self) -> None:
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        """Stop listening, abort what is open, and after a moment cut off who does not let go."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server = None
        open_ = [association for association in self._ae.active_associations if association.is_established]
        aborts = [threading.Thread(target=association.abort, daemon=True) for association in open_]
        for abort in aborts:
            abort.start()
        end = time.monotonic() + _GRACE
        for abort in aborts:
            abort.join(max(0.0, end - time.monotonic()))
        for association in self._ae.active_associations:
            if association.dul.socket:
                association.dul.socket.close()
            association.dul.kill_dul()

    def _application_entity(self) -> AE:
        settings = self._settings
        ae = AE(settings.ae_title)
        for context in (Verification, ModalityWorklistInformationFind):
            ae.add_supported_context(context, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        ae.require_called_aet = settings.require_called_ae
        ae.require_calling_aet = list(settings.callers) if settings.known_callers_only else []
        ae.maximum_associations = settings.max_associations
        ae.acse_timeout = settings.request_timeout
        ae.network_timeout = settings.idle_timeout
        return ae

    def _on_open(self, event: Any) -> None:
        """Answers leave at once; a peer that stops in the middle of a PDU, or announces a huge one, is dropped."""
        transport = event.assoc.dul.socket
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.socket.settimeout(self._settings.idle_timeout)
        read = transport.recv

        def recv(size: int) -> bytearray:
            if size > _LARGEST_PDU:
                raise OSError("a PDU larger than any that was agreed on")
            data: bytearray = read(size)
            return data

        transport.recv = recv

    def _on_close(self, event: Any) -> None:
        if event.assoc.requestor.primitive is None:
            log.info("connection_without_association", channel=self._channel, peer=_peer(event))

    def _on_rejected(self, event: Any) -> None:
        request = event.assoc.requestor.primitive
        calling, called = _printable(request.calling_ae_title), _printable(request.called_ae_title)
        log.warning("association_rejected", channel=self._channel, calling=calling, called=called, peer=_peer(event))

    def _on_find(self, event: Any) -> Iterator[tuple[int | Dataset, Dataset | None]]:
        """Answer one C-FIND (PS3.4 K.4.1.3): this generator's items are the responses."""
        served = _Served(_printable(event.assoc.requestor.ae_title), _peer(event), time.monotonic())
        query = Query(())
        try:
            raw = event.request.Identifier.getvalue() if event.request.Identifier else b""
            implicit = event.context.transfer_syntax == ImplicitVRLittleEndian
            query = parse_query(raw, implicit=implicit)
            yield from self._answers(event, query, implicit, served)
        except BridgeError as error:
            served.status = error.face.dimse
            log.warning("worklist_query_failed", channel=self._channel, calling=served.calling, **error.as_dict())
            yield _failure(error), None
        except Exception as error:  # noqa: BLE001 - the channel loop: one query never takes the others along
            served.status = 0xC000
            log.error("channel_failed", channel=self._channel, error=type(error).__name__, stack=_places(error))
            yield _failure(BridgeError("internal error", fix="see the log"), 0xC000), None
        finally:
            self._log_query(served, query)

    def _answers(
        self, event: Any, query: Query, implicit: bool, served: _Served
    ) -> Iterator[tuple[int | Dataset, Dataset | None]]:
        if not query.keys:
            raise CodecError("a query without any key", fix="request at least one attribute")
        view = self._settings.view(event.assoc.requestor.ae_title.strip())
        encoding = Encoding(view.charset, view.unfit, implicit)
        served.status = PENDING_SOME_KEYS if query.unsupported else PENDING
        for item in self._matches(query, view, served):
            if event.is_cancelled:
                served.status = CANCELLED
                yield CANCELLED, None
                return
            try:
                elements = answer(item.attributes, query.keys, encoding)
            except Unfit as error:
                served.withheld += 1
                where = {"attribute": error.at, "charset": view.charset, "calling": served.calling}
                log.warning("worklist_item_withheld", channel=self._channel, item=item.id, **where)
                continue
            served.matches += 1
            yield served.status, dataset(elements, encoding)
            if served.matches % _BURST == 0 and not _sent(event.assoc):
                return
        served.status = 0

    def _matches(self, query: Query, view: View, served: _Served) -> Iterator[Any]:
        found = self._worklist.find(
            query, stations=view.stations, statuses=view.statuses, limit=view.limit and view.limit + 1
        )
        if view.limit is None:
            return iter(found)
        items = list(islice(found, view.limit + 1))
        if len(items) > view.limit:
            log.warning("worklist_limit_reached", channel=self._channel, calling=served.calling, limit=view.limit)
            if view.over_limit == "refuse":
                raise BridgeError(
                    "more matches than the limit", at="limit", fix="ask for less, or raise it", kind="overload"
                )
        return iter(items[: view.limit])

    def _log_query(self, served: _Served, query: Query) -> None:
        log.info(
            "worklist_queried",
            channel=self._channel,
            calling=served.calling,
            peer=served.peer,
            keys=len(query.keys),
            unsupported=list(query.unsupported),
            matches=served.matches,
            withheld=served.withheld,
            status=f"{served.status:04X}",
            ms=round((time.monotonic() - served.started) * 1000, 1),
        )


def _sent(assoc: Any) -> bool:
    """Wait until the answers so far are on their way, so that a C-CANCEL is read and a slow peer fills no memory.

    False if the association ended meanwhile.
    """
    while assoc.is_established and not assoc.dul.to_provider_queue.empty():
        time.sleep(0.0005)
    return bool(assoc.is_established)


def _failure(error: BridgeError, status: int = 0) -> Dataset:
    """The status of a response that ends a query, with the reason as ErrorComment (PS3.7 C.4)."""
    result = Dataset()
    result.Status = status or error.face.dimse
    result.ErrorComment = f"{error.what} ({error.at})"[:64] if error.at else error.what[:64]
    return result


def _places(error: BaseException) -> list[str]:
    """Where an unforeseen error came up; its text may hold content, and stays out of the log."""
    return [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]


def _peer(event: Any) -> str:
    info = event.assoc.requestor.address_info
    return str(HostPort(info.address, info.port)) if info else ""


def _printable(title: str | None) -> str:
    """An AE title that somebody sent, safe to show."""
    return "".join(c if " " <= c <= "~" else "?" for c in (title or "").strip())


def _quiet_pynetdicom() -> None:
    """Its own log would hold patient content, and takes a fifth of the time of an answer."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


DICOM_WORKLIST = ChannelType("dicom-worklist", "both", WorklistSettings, DicomWorklist)
