"""Notices of an archive (availability, storage commitment) and reading of a step: pynetdicom as archive and as RIS."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pynetdicom import AE, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from bridge.codecs.dicom_file import to_file
from bridge.codecs.formats import FORMATS
from bridge.codecs.notice import Notice, encode_notice
from bridge.errors import BridgeError, StoreUnavailable
from bridge.mapping.conditions import compile_condition
from bridge.message import Message, MessageStatus
from bridge.ports import Inbound, Reply, Services, channel_type
from bridge.store import mpps
from bridge.store.database import Database
from bridge.store.worklist import Worklist
from bridge.store.worklist_tables import TABLES, metadata
from tests.rigs.performed import Modality, created, dataset, order
from tests.rigs.worklist import attributes, encoded, scheduled

IMAGE = {
    "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "ReferencedSOPInstanceUID": "1.2.826.0.1.7.1",
    "InstanceAvailability": "ONLINE",
    "RetrieveAETitle": "PACS",
}
SERIES = {"SeriesInstanceUID": "1.2.826.0.1.7", "ReferencedSOPSequence": [IMAGE]}


class Site:
    """A channel on a free port with its store; what it receives is accepted as the engine does."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        metadata.create_all(self.database.writer, tables=[*TABLES, mpps.performed_step])
        self.worklist = Worklist(self.database.reader)
        self.messages: list[Any] = []
        self.error: BridgeError | None = None

    async def receive(self, inbound: Inbound) -> Reply:
        try:
            if self.error:
                raise self.error
            read: Any = FORMATS["dicom"].read(inbound.data, "")
            FORMATS["dicom"].check(read)
        except BridgeError as error:
            return Reply(False, "", error=error)
        self.messages.append(read)
        known = Message("m", 1, 1, "mpps", "dicom", "", read.header, inbound.data, MessageStatus.ROUTED)
        with self.database.writer.begin() as tx:
            mpps.settle(tx, [known])
        return Reply(True, "m")

    @asynccontextmanager
    async def listening(self, *accepts: str) -> AsyncIterator[int]:
        kind = channel_type("dicom-mpps-in")
        said = {"type": kind.name, "listen": "127.0.0.1:0", "accepts": list(accepts or ("steps",))}
        made = kind.build(kind.settings.model_validate(said), Services("mpps", None, worklist=self.worklist))
        await made.start(self.receive)
        try:
            yield int(made.endpoint.rpartition(":")[2])
        finally:
            await made.stop()


@pytest.fixture
def site(tmp_path: Any) -> Any:
    made = Site(f"sqlite:///{tmp_path / 'store.db'}")
    yield made
    made.database.close()


def available(port: int, **told: Any) -> int | None:
    """An archive says that images of a study are there: the status it is answered; None: not even let in."""
    ae = AE("PACS")
    ae.add_requested_context(InstanceAvailabilityNotification)
    association = ae.associate("127.0.0.1", port)
    if not association.is_established:
        return None
    said = dataset({"StudyInstanceUID": "1.2.826.0.1.1", "ReferencedSeriesSequence": [SERIES], **told})
    status, _ = association.send_n_create(said, InstanceAvailabilityNotification, "1.2.826.0.9.1")
    association.release()
    return int(status.Status)


def committed(port: int, event: int, **told: Any) -> int:
    """An archive says, as the provider of storage commitment, what it keeps."""
    ae = AE("PACS")
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = ae.associate("127.0.0.1", port, ext_neg=[role])
    said = dataset({"TransactionUID": "1.2.826.0.8.1", "ReferencedSOPSequence": [IMAGE], **told})
    status, _ = association.send_n_event_report(
        said, event, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return int(status.Status)


async def test_that_images_are_available_is_told_with_the_patient_and_order_of_the_study(site: Site) -> None:
    # Given an order in the worklist
    with site.database.writer.begin() as tx:
        site.worklist.apply(tx, scheduled(1, FillerOrderNumberImagingServiceRequest="F1", IssuerOfPatientID="H"), 1)

    # When the archive names the study alone
    async with site.listening("availability") as port:
        assert await asyncio.to_thread(available, port) == 0x0000

    # Then the message has what the order knows, and what the archive said
    (told,) = site.messages
    assert told.header.type == "IAN^CREATE" and told.header.accession == "A1"
    assert told.header.patients == ("P1^H",) and told.header.orders == ("filler:F1^",)
    assert told.get("ReferencedSeriesSequence.ReferencedSOPSequence.InstanceAvailability") == "ONLINE"
    assert told.get("PatientName") == "TEST00001^ÉLODIE"
    assert compile_condition({"message": ["IAN", "STGCMT^FAILURE"], "PatientID": "P1"}, "when")(told)
    assert not compile_condition({"message": ["MPPS", "MWL^GONE", "STGCMT"]}, "when")(told)
    assert FORMATS["dicom"].read(told.raw, "").header == told.header


async def test_a_notice_that_names_a_performed_step_is_of_its_orders(site: Site) -> None:
    async with site.listening("steps", "availability") as port:
        modality = Modality(port)
        assert (await asyncio.to_thread(modality.create, "1.2.9", created(order(1), order(2)))).Status == 0x0000
        step = {"ReferencedSOPClassUID": ModalityPerformedProcedureStep, "ReferencedSOPInstanceUID": "1.2.9"}
        status = await asyncio.to_thread(
            lambda: available(port, StudyInstanceUID="1.2.5", ReferencedPerformedProcedureStepSequence=[step])
        )
        assert status == 0x0000

    told = site.messages[-1]
    assert told.header.orders == ("placer:1^", "filler:F1^", "placer:2^", "filler:F2^")
    assert told.get("StudyInstanceUID") == "1.2.5"


async def test_what_an_archive_keeps_and_what_not_are_two_messages(site: Site) -> None:
    async with site.listening("commitment") as port:
        assert await asyncio.to_thread(committed, port, 1) == 0x0000
        failed = {**{key: IMAGE[key] for key in list(IMAGE)[:2]}, "FailureReason": 0x0112}
        assert await asyncio.to_thread(lambda: committed(port, 2, FailedSOPSequence=[failed])) == 0x0000

    kept, failed_one = site.messages
    assert (kept.header.type, kept.header.control_id) == ("STGCMT^SUCCESS", "1.2.826.0.8.1#1")
    assert (failed_one.header.type, failed_one.get("FailedSOPSequence.FailureReason")) == ("STGCMT^FAILURE", "274")


async def test_a_notice_is_taken_only_where_the_site_says_so_and_only_once_it_is_stored(site: Site) -> None:
    async with site.listening("steps") as port:
        assert await asyncio.to_thread(available, port) is None
    async with site.listening("availability") as port:
        assert await asyncio.to_thread(lambda: available(port, StudyInstanceUID="")) == 0x0120
        site.error = StoreUnavailable("away", fix="wait")
        assert await asyncio.to_thread(available, port) == 0x0213

    assert site.messages == []


async def test_what_is_known_of_a_step_can_be_read(site: Site) -> None:
    def read(port: int, instance: str, *tags: int) -> tuple[int, Any]:
        ae = AE("RIS")
        ae.add_requested_context(ModalityPerformedProcedureStepRetrieve)
        association = ae.associate("127.0.0.1", port)
        status, found = association.send_n_get(list(tags), ModalityPerformedProcedureStepRetrieve, instance)
        association.release()
        return int(status.Status), found

    async with site.listening() as port:
        modality = Modality(port)
        dose = {"ExposureDoseSequence": [{"CTDIvol": 8.5, "KVP": "120"}], "TotalTimeOfFluoroscopy": 5}
        await asyncio.to_thread(modality.create, "1.2.9", created(**dose, SelectorOBValue=b"12"))
        status, some = await asyncio.to_thread(read, port, "1.2.9", 0x00400252, 0x00100010)
        assert status == 0x0000 and some.PerformedProcedureStepStatus == "IN PROGRESS"
        assert str(some.PatientName) == "TEST00001^ÉLODIE" and "PatientID" not in some
        _, everything = await asyncio.to_thread(read, port, "1.2.9")
        assert everything.ScheduledStepAttributesSequence[0].AccessionNumber == "A1"
        assert everything.ExposureDoseSequence[0].CTDIvol == 8.5 and everything.TotalTimeOfFluoroscopy == 5
        assert everything.StudyID == "" and "SelectorOBValue" not in everything
        assert (await asyncio.to_thread(read, port, "1.2.404"))[0] == 0x0112


def test_damaged_files_of_every_kind_are_refused_and_never_a_crash() -> None:
    # Given a notice and a worklist file, each damaged in a few bytes, or cut
    said = encoded(dataset({"StudyInstanceUID": "1.2", "ReferencedSeriesSequence": [SERIES]}))
    about = {"PatientID": "P1", "ScheduledStepAttributesSequence": [{"AccessionNumber": "A1"}]}
    notice = Notice(InstanceAvailabilityNotification, "1.2.3", 0, "PACS", "RADBRIDGE", said, True, about)
    chance, refused = random.Random(7), 0
    for whole in (encode_notice(notice), to_file(attributes(1))):
        for _ in range(400):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(132, len(damaged))] = chance.randrange(256)
            if chance.random() < 0.3:
                del damaged[chance.randrange(len(damaged)) :]
            # Then it is read, or refused with a reason
            try:
                read: Any = FORMATS["dicom"].read(bytes(damaged), "")
                FORMATS["dicom"].check(read)
            except BridgeError:
                refused += 1
    assert 0 < refused < 800
