"""``dicom-mpps-out``: passes performed procedure steps on, as they came, to a PACS or RIS (MPPS SCU, PS3.4 annex F)."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any, Literal

from pydantic import Field
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep, Verification  # type: ignore[attr-defined]

from bridge.codecs.performed import CREATE, SOP_CLASS, Event, decode_event
from bridge.errors import CodecError, Permanent, Temporary, Uncertain, Unreachable
from bridge.ports import Address, Answer, ChannelType, Duration, Outgoing, Services, SinkSettings
from channels.dicom_association import AETitle, quiet_pynetdicom
from channels.tls import Certificates, TlsSettings

_SUCCESS = frozenset({0x0000, 0x0001, 0x0107, 0x0116})
"""Success, and the warnings after which the step was taken all the same (PS3.7 annex C)."""
_LATER = frozenset({0x0210, 0x0211, 0x0213})
_HAS_IT, _PROCESSING, _NO_LONGER = 0x0111, 0x0110, 0xA710


class MppsOutSettings(SinkSettings):
    connect: Address
    """The receiver, such as pacs.example:104."""
    called_ae_title: AETitle
    """The receiver's application entity title."""
    ae_title: AETitle = "RADBRIDGE"
    """Our own application entity title."""
    calling: Literal["own", "modality"] = "own"
    """Under whose title we call: `modality` is the one that told of the step."""
    lane: Literal["destination", "patient", "order"] = "patient"
    """What stays in sequence: everything, or what concerns the same patient or order."""
    connect_timeout: Duration = Field(default=10.0, gt=0)
    """How long the receiver may take to accept a connection and an association."""
    answer_timeout: Duration = Field(default=30.0, gt=0)
    """How long the receiver may take to answer."""
    tls: TlsSettings | None = None
    """Encrypt: whose certificate the receiver must show, and ours if it asks for one."""


class DicomMppsOut:
    """The sending end of a ``dicom-mpps-out`` channel: an association for each event."""

    def __init__(self, settings: MppsOutSettings, services: Services) -> None:
        quiet_pynetdicom()
        self._settings = settings
        self._tls = Certificates(settings.tls, services.name, server=False) if settings.tls else None

    @property
    def endpoint(self) -> str:
        return f"{'dicoms' if self._tls else 'dicom'}://{self._settings.called_ae_title}@{self._settings.connect}"

    async def send(self, outgoing: Outgoing) -> Answer:
        """Returns when the receiver has taken the event, or has had it from an attempt that got no answer."""
        try:
            event = decode_event(outgoing.data)
        except CodecError as error:
            fix = "route from a dicom-mpps-in channel, without a mapping"
            raise Permanent(error.what, fix=fix, kind="syntax") from None
        return await asyncio.to_thread(self._send, event, outgoing.delivery.suspected)

    async def close(self) -> None:
        return None

    def _send(self, event: Event, suspected: bool) -> Answer:
        data = read_dataset(BytesIO(event.data), event.implicit, True)
        association = self._associate(event)
        try:
            if not any(context.abstract_syntax == SOP_CLASS for context in association.accepted_contexts):
                fix = "have it offer the MPPS SOP class to our AE title"
                raise Unreachable("the receiver takes no performed procedure steps", fix=fix)
            call = association.send_n_create if event.command == CREATE else association.send_n_set
            status, _ = call(data, SOP_CLASS, event.instance)
        except RuntimeError:
            raise Unreachable("the receiver ended the association", fix="see the receiver's log") from None
        finally:
            association.release()
        return _judge(status, event, suspected)

    def _associate(self, event: Event) -> Any:
        """An association. Raises Unreachable."""
        settings = self._settings
        ae = AE(event.calling if settings.calling == "modality" and event.calling else settings.ae_title)
        for service in (ModalityPerformedProcedureStep, Verification):
            ae.add_requested_context(service, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        ae.connection_timeout = ae.acse_timeout = settings.connect_timeout
        ae.dimse_timeout = ae.network_timeout = settings.answer_timeout
        host, port = settings.connect
        tls = (self._tls.current(), host) if self._tls else None
        association = ae.associate(host, port, ae_title=settings.called_ae_title, tls_args=tls)
        if association.is_established:
            return association
        what = "it cannot be reached"
        if association.is_rejected:
            what = "it rejected the association: the called or our AE title is not known there"
        raise Unreachable(what, at=str(settings.connect), fix="check the address, both AE titles and that it runs")


def _judge(status: Dataset, event: Event, suspected: bool) -> Answer:
    """What the receiver's answer means (PS3.7 annex C, PS3.4 F.7.2)."""
    if "Status" not in status:
        raise Uncertain("no answer came", fix="look whether the receiver has the step")
    code = int(status.Status)
    had = code == _HAS_IT if event.command == CREATE else code == _PROCESSING and status.get("ErrorID") == _NO_LONGER
    if code in _SUCCESS or (suspected and had):
        return Answer(f"{code:04X}")
    what = f"the receiver answered {code:04X}"
    if code in _LATER or (code == _PROCESSING and not had):
        raise Temporary(what, fix="see the receiver's log")
    raise Permanent(what, fix="see the receiver's log; its N-CREATE may be missing there", kind="locked")


DICOM_MPPS_OUT = ChannelType("dicom-mpps-out", "out", MppsOutSettings, DicomMppsOut)
