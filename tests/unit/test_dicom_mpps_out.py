"""What ``dicom-mpps-out`` makes of a receiver's answers; the receiver is pynetdicom's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityPerformedProcedureStep, Verification  # type: ignore[attr-defined]

from bridge.codecs.performed import Event, encode_event
from bridge.errors import BridgeError, Permanent, Temporary, Unreachable
from tests.rigs.ends import channel, outgoing
from tests.rigs.performed import after, created, ended, event
from tests.rigs.processes import free_port

CREATE = event(created())
SET = event(ended(), after(CREATE))


@contextmanager
def receiver(status: int, error: int = 0, service: Any = ModalityPerformedProcedureStep) -> Iterator[int]:
    """A receiver that gives every event this status; its port."""
    answer = Dataset()
    answer.Status = status
    if error:
        answer.ErrorID = error
    ae, port = AE("PACS"), free_port()
    ae.add_supported_context(service)
    handlers = [(kind, lambda event: (answer, None)) for kind in (evt.EVT_N_CREATE, evt.EVT_N_SET)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    yield port
    server.shutdown()


async def sent(port: int, told: Event, *, suspected: bool = False) -> str:
    sink = channel("dicom-mpps-out", connect=f"127.0.0.1:{port}", called_ae_title="PACS")
    one = outgoing(encode_event(told), format="dicom")
    one.delivery.suspected = suspected
    return str((await sink.send(one)).summary)


@pytest.mark.parametrize("status", [0x0000, 0x0107, 0x0116])
async def test_success_and_warnings_mean_that_it_was_taken(status: int) -> None:
    with receiver(status) as port:
        assert await sent(port, SET) == f"{status:04X}"


@pytest.mark.parametrize(("told", "status", "error"), [(CREATE, 0x0111, 0), (SET, 0x0110, 0xA710)])
async def test_what_the_receiver_had_already_is_done_only_if_we_may_have_sent_it(
    told: Event, status: int, error: int
) -> None:
    with receiver(status, error) as port:
        assert await sent(port, told, suspected=True) == f"{status:04X}"
        with pytest.raises(Permanent):
            await sent(port, told)


@pytest.mark.parametrize(
    ("status", "kind"), [(0x0112, Permanent), (0x0106, Permanent), (0x0213, Temporary), (0x0110, Temporary)]
)
async def test_a_refusal_is_final_and_trouble_is_not(status: int, kind: type[BridgeError]) -> None:
    with receiver(status) as port, pytest.raises(kind) as caught:
        await sent(port, SET, suspected=True)

    assert f"{status:04X}" in caught.value.what


async def test_a_receiver_that_takes_no_steps_is_waited_for() -> None:
    with receiver(0, service=Verification) as port, pytest.raises(Unreachable):
        await sent(port, CREATE)


async def test_what_is_no_event_is_never_sent() -> None:
    sink = channel("dicom-mpps-out", connect="127.0.0.1:9", called_ae_title="PACS")

    with pytest.raises(Permanent) as caught:
        await sink.send(outgoing(b"MSH|^~\\&|"))

    assert "without a mapping" in caught.value.fix


async def test_the_data_set_arrives_as_it_came() -> None:
    told: list[bytes] = []
    ae, port = AE("PACS"), free_port()
    ae.add_supported_context(ModalityPerformedProcedureStep)

    def take(event: Any) -> tuple[int, None]:
        told.append(event.request.AttributeList.getvalue())
        return 0, None

    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_CREATE, take)])
    odd = replace(CREATE, data=CREATE.data.replace(b"ISO_IR 100", b"ISO_IR 999"))

    await sent(port, odd)

    server.shutdown()
    assert told == [odd.data]
