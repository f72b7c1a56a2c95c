"""The other end of each channel type: what talks to an inbound channel, and what an outbound one talks to."""

from __future__ import annotations

import asyncio
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import httpx
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityPerformedProcedureStep  # type: ignore[attr-defined]

from bridge.asgi import AsgiServer
from bridge.codecs.dicom_file import to_file
from bridge.codecs.performed import Event, decode_event, encode_event
from bridge.ports import HostPort, Services
from bridge.state import MemoryState
from tests.rigs.ends import SERVICES
from tests.rigs.fhir_search import SearchServer, task
from tests.rigs.performed import created, dataset
from tests.rigs.processes import free_port
from tests.rigs.worklist import attributes, encoded

SHARDS = 1024
"""In which worklist-files keeps what it took."""
ORDER = b'MSH|^~\\&|RIS|A|B|C|20240301||ORM^O01|c1|P|2.5\rPID|1||1||M\xfcller^Test\rZZZ|\\X0D\\||""\r'
"""Bytes of every kind that must arrive as they are: not UTF-8, escapes, trailing and empty fields."""


class Sender:
    """What hands messages to an inbound channel. ``brings`` is False where the channel brings none, ``answers`` where
    nobody is told that a message was refused."""

    brings = True
    listens = True
    answers = True
    services = SERVICES

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()

    def settings(self) -> dict[str, Any]:
        return {"listen": f"127.0.0.1:{self.port}"}

    def message(self, number: int = 1) -> bytes:
        return ORDER.replace(b"|c1|", b"|c%d|" % number)

    async def hand_over(self, data: bytes) -> bool:
        """Send a message, wait for the answer: did it say that the message is accepted?"""
        raise AssertionError("brings no messages")

    async def junk(self, data: bytes) -> None:
        """Throw bytes at the channel, and go."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        await writer.drain()
        writer.close()

    async def reachable(self) -> bool:
        """Does it take connections?"""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


class MllpSender(Sender):
    async def hand_over(self, data: bytes) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"\x0b" + data + b"\x1c\r")
            answer = await reader.readuntil(b"\x1c\r")
            return b"\rMSA|AA|" in answer
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        finally:
            writer.close()


class HttpSender(Sender):
    async def hand_over(self, data: bytes) -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            return (await client.post(f"http://127.0.0.1:{self.port}/hl7", content=data)).is_success


class FileSender(Sender):
    listens = False

    def settings(self) -> dict[str, Any]:
        return {"folder": self.folder, "poll": "10ms", "settle": 0}

    async def hand_over(self, data: bytes) -> bool:
        name = f"{len(list(self.folder.rglob('*.hl7')))}.hl7"
        self.folder.joinpath(f".{name}").write_bytes(data)
        self.folder.joinpath(f".{name}").rename(self.folder / name)
        while True:
            for place, accepted in (("done", True), ("refused", False)):
                if (self.folder / place / name).exists():
                    return accepted
            await asyncio.sleep(0.01)

    async def junk(self, data: bytes) -> None:
        (self.folder / ".unfinished").write_bytes(data)

    async def reachable(self) -> bool:
        return self.folder.exists()


class WorklistFileSender(FileSender):
    """Another worklist server's folder: its files stay. What was taken stands in the state."""

    answers = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.services = Services("under-test", SERVICES.site, state=MemoryState())

    def message(self, number: int = 1) -> bytes:
        return to_file(attributes(number))

    async def hand_over(self, data: bytes) -> bool:
        name = f"{blake2b(data).hexdigest()[:20]}.wl"
        (self.folder / f".{name}").write_bytes(data)
        (self.folder / f".{name}").rename(self.folder / name)
        while True:
            shards = await self.services.state.get([str(number) for number in range(SHARDS)])
            if any("digest" in shard.get(name, {}) for shard in shards.values()):
                return True
            await asyncio.sleep(0.01)

    async def junk(self, data: bytes) -> None:
        (self.folder / "junk.wl").write_bytes(data)


class ModalitySender(Sender):
    brings = False


class NoResources:
    """A FHIR projection in which nothing is done."""

    def at(self, zone: Any) -> NoResources:
        return self

    def write(self, tx: Any, interactions: list[Any], *, message: str, at: int, sight: Any) -> list[Any]:
        return []


class FhirClient(Sender):
    """Posts transactions of no entries."""

    services = Services("under-test", SERVICES.site, fhir=NoResources())

    def message(self, number: int = 1) -> bytes:
        return b'{"resourceType" : "Bundle", "id":"c%d","type":"transaction"}' % number

    async def hand_over(self, data: bytes) -> bool:
        headers = {"content-type": "application/fhir+json"}
        async with httpx.AsyncClient(trust_env=False, timeout=60, headers=headers) as client:
            return (await client.post(f"http://127.0.0.1:{self.port}/fhir", content=data)).is_success


class FhirSearchSender(Sender):
    """A FHIR server that can only be asked. What was taken of it stands in the channel's state."""

    listens = answers = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.services = Services("under-test", SERVICES.site, state=MemoryState())
        self._server = SearchServer()

    def settings(self) -> dict[str, Any]:
        since = {"since": "2026-01-01T00:00:00Z", "interval": "10ms"}
        return {"base_url": self._server.base_url, "search": "Task", **since}

    def message(self, number: int = 1) -> bytes:
        return task(f"t{number}", f"00.{number:03}")

    async def hand_over(self, data: bytes) -> bool:
        self._server.put(data)
        await self._server.open()
        name = f"Task/{json.loads(data)['id']}"
        while name not in (await self.services.state.get(["cursor:Task"])).get("cursor:Task", {}).get("seen", {}):
            await asyncio.sleep(0.01)
        return True

    async def junk(self, data: bytes) -> None:
        self._server.junk.append(data)
        await self._server.open()
        while self._server.junk:
            await asyncio.sleep(0.01)

    async def reachable(self) -> bool:
        return True


class Receiver(ABC):
    """What an outbound channel brings messages to. It may be away (not open), or silent (takes, answers nothing)."""

    format = "hl7v2"
    data = ORDER
    can_be_silent = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.silent = False
        self._taken: list[bytes] = []

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Of the channel that is to reach it."""

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    def received(self) -> list[bytes]:
        """What arrived, in the sequence of arrival; as the sender was given it."""
        return self._taken


class MllpReceiver(Receiver):
    def settings(self) -> dict[str, Any]:
        return {"connect": f"127.0.0.1:{self.port}", "ack_timeout": "300ms" if self.silent else "20s"}

    async def open(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while True:
                frame = await reader.readuntil(b"\x1c\r")
                self._taken.append(frame[1:-2])
                if not self.silent:
                    control_id = frame.split(b"|")[9]
                    writer.write(b"\x0bMSH|^~\\&|B|C|RIS|A|20240301||ACK|a1|P|2.5\rMSA|AA|" + control_id + b"\r\x1c\r")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class HttpReceiver(Receiver):
    def settings(self) -> dict[str, Any]:
        return {"url": f"http://127.0.0.1:{self.port}/in", **self._timeout()}

    def _timeout(self) -> dict[str, Any]:
        return {"timeout": "300ms"} if self.silent else {}

    async def open(self) -> None:
        self._hold = asyncio.Event()
        self._server = AsgiServer(self._application, HostPort("127.0.0.1", self.port))
        await self._server.start()

    async def close(self) -> None:
        self._hold.set()
        await self._server.stop()

    async def _application(self, scope: Any, get: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        body, more = b"", True
        while more:
            event = await get()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        self._taken.append(body)
        if self.silent:
            await self._hold.wait()
        headers = [(b"content-type", b"application/fhir+json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._answer(body)})

    def _answer(self, body: bytes) -> bytes:
        return b""


class FhirReceiver(HttpReceiver):
    format = "fhir"
    data = json.dumps(
        {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {
                    "fullUrl": "urn:uuid:0f2a2f6e-0000-4000-8000-000000000001",
                    "resource": {"resourceType": "Patient", "identifier": [{"system": "urn:oid:2.25.1", "value": "1"}]},
                    "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:oid:2.25.1|1"},
                }
            ],
        }
    ).encode()

    def settings(self) -> dict[str, Any]:
        return {"base_url": f"http://127.0.0.1:{self.port}/fhir", "read_first": False, **self._timeout()}

    def _answer(self, body: bytes) -> bytes:
        entries = [
            {"response": {"status": "201", "location": f"Patient/{number}"}}
            for number, _ in enumerate(json.loads(body)["entry"], 1)
        ]
        return json.dumps({"resourceType": "Bundle", "type": "transaction-response", "entry": entries}).encode()

    def received(self) -> list[bytes]:
        """JSON may be written anew on the way: spelled as the sample is."""
        return [json.dumps(json.loads(data)).encode() for data in self._taken]


class FileReceiver(Receiver):
    can_be_silent = False

    def settings(self) -> dict[str, Any]:
        return {"folder": self.folder / "share", "name": "{position}-{delivery}"}

    async def open(self) -> None:
        (self.folder / "share").mkdir(exist_ok=True)

    async def close(self) -> None:
        (self.folder / "share").rename(self.folder / f"share-{len(list(self.folder.iterdir()))}")

    def received(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.folder.glob("share*/*"))]


class MppsReceiver(Receiver):
    """pynetdicom as a receiver of performed procedure steps."""

    format = "dicom"
    data = encode_event(
        Event("N-CREATE", "1.2.9", "CT", "PACS", encoded(dataset(created()), implicit=False), False, None)
    )

    def settings(self) -> dict[str, Any]:
        titles = {"called_ae_title": "PACS", "calling": "modality"}
        return {"connect": f"127.0.0.1:{self.port}", **titles, "answer_timeout": "300ms" if self.silent else "20s"}

    async def open(self) -> None:
        self._hold = threading.Event()
        ae = AE("PACS")
        ae.add_supported_context(ModalityPerformedProcedureStep, ExplicitVRLittleEndian)
        handlers = [(evt.EVT_N_CREATE, self._take)]
        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    async def close(self) -> None:
        self._hold.set()
        await asyncio.to_thread(self._server.shutdown)

    def _take(self, event: Any) -> tuple[int, None]:
        request, titles = event.request, event.assoc.requestor.primitive
        told = Event(
            "N-CREATE",
            str(request.AffectedSOPInstanceUID),
            titles.calling_ae_title.strip(),
            titles.called_ae_title.strip(),
            request.AttributeList.getvalue(),
            False,
            None,
        )
        self._taken.append(encode_event(told))
        if self.silent:
            self._hold.wait(20)
        return 0, None

    def received(self) -> list[bytes]:
        """The file's header is made anew: spelled as the sample's is."""
        return [self._alike(data) for data in self._taken]

    def _alike(self, data: bytes) -> bytes:
        sample = next((self.data.replace(b"1", b"%d" % n) for n in (1, 2, 3) if b"%d.2.9\0" % n in data), data)
        same = decode_event(sample).data == decode_event(data).data
        return sample if same else data


SENDERS: dict[str, type[Sender]] = {
    "mllp-in": MllpSender,
    "http-in": HttpSender,
    "file-in": FileSender,
    "dicom-worklist": ModalitySender,
    "fhir-server": FhirClient,
    "dicom-mpps-in": ModalitySender,
    "fhir-in": FhirSearchSender,
    "worklist-files": WorklistFileSender,
}
RECEIVERS: dict[str, type[Receiver]] = {
    "mllp-out": MllpReceiver,
    "http-out": HttpReceiver,
    "fhir-out": FhirReceiver,
    "file-out": FileReceiver,
    "dicom-mpps-out": MppsReceiver,
}
