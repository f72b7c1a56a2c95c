"""``send``: HL7 files to an MLLP receiver, as a sending system would."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.commands import output
from bridge.commands.desk import Config, Json, examples, needs, site_file
from bridge.errors import BridgeError, CodecError, NotFound, Uncertain, Unreachable

app = typer.Typer()

LARGEST_ANSWER = 1 << 20
NOT_TAKEN = 3
"""Exit code when a receiver answers anything but AA or CA."""

_BATCH = re.compile(rb"\s*(?:FHS|BHS)")
_NEXT = re.compile(rb"(?<=[\r\n])(?=MSH[^A-Za-z0-9\s])")
_FRAME_ENDS = re.compile(rb"\x1c\r?\n?\x0b?")


@dataclass(frozen=True, slots=True)
class Payload:
    """One message of a file."""

    name: str
    data: bytes


@app.command(
    epilog=examples(
        "radbridge send order.hl7 --to 127.0.0.1:2575",
        "radbridge send yesterday/*.hl7 --channel ris-in",
        "cat order.hl7 | radbridge send - --channel ris-in --json",
    )
)
def send(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="HL7 files, each with one or more messages; - is standard input."),
    ],
    to: Annotated[str, typer.Option(metavar="HOST:PORT", help="The MLLP receiver.")] = "",
    channel: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="A channel of the site file instead: where it listens, or what it connects to."
        ),
    ] = "",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for each answer.")] = 30.0,
    config: Config = None,
    machine: Json = False,
) -> None:
    """Send HL7 files to a receiver.

        They go over MLLP, one message after the other, and each answer is shown. Line ends of an edited file become
    segment ends. Exit code 0 if every answer is AA or CA, 3 if one is not, 5 if
    nobody answers.
    """
    needs(bool(to) != bool(channel), "name one receiver", "add --to host:port, or --channel name")
    address = _address(to, channel, config)
    payloads = [payload for name in files for payload in _read(name)]
    results: list[dict[str, Any]] = []
    failure: BridgeError | None = None
    with closing(_Connection(address, timeout)) as connection, output.progress(machine or len(payloads) < 2) as bar:
        for payload in bar.track(payloads, description="sending"):
            try:
                results.append(_tell(payload, connection.ask(payload.data), machine))
            except BridgeError as error:
                failure = error
                results.append({"file": payload.name, "ok": False, "error": error.as_dict()})
                break
    if machine:
        output.emit(results)
    elif len(payloads) > 1:
        output.say(f"{sum(result['ok'] for result in results)} of {len(payloads)} taken.")
    if failure and machine:
        raise typer.Exit(failure.face.exit)
    if failure:
        raise failure
    if not all(result["ok"] for result in results):
        raise typer.Exit(NOT_TAKEN)


def _address(to: str, channel: str, config: Path | None) -> tuple[str, int]:
    from pydantic import TypeAdapter, ValidationError

    from bridge.ports import Address

    if to:
        try:
            return tuple(TypeAdapter(Address).validate_python(to))  # type: ignore[return-value]
        except ValidationError as error:
            fix = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise BridgeError(f"{to} is no address", at="--to", fix=fix, kind="settings") from None
    from bridge.settings import load
    from bridge.yamlfile import suggest

    channels = load(site_file(config)).config.channels
    if channel not in channels:
        raise NotFound(f"no channel {channel}", at="--channel", fix=suggest(channel, channels))
    settings = channels[channel]
    needs(settings.type.startswith("mllp"), f"channel {channel} is of type {settings.type}", "name an MLLP channel")
    host, port = getattr(settings, "listen", None) or settings.connect  # type: ignore[attr-defined]
    return ("127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host), port


def _read(name: str) -> Iterator[Payload]:
    """The messages in a file, as they should travel. Raises BridgeError when it cannot be read or holds none."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise BridgeError(
            f"cannot be read: {error.strerror}", at=name, fix="name an HL7 file", kind="settings"
        ) from None
    data, notes = as_segments(data)
    framed = data.startswith(b"\x0b")
    if framed:
        notes.append("MLLP frames taken off")
    pieces = _FRAME_ENDS.split(data[1:]) if framed else [data] if _BATCH.match(data) else _NEXT.split(data)
    parts = [piece for piece in pieces if piece.strip()]
    if len(parts) > 1:
        notes.append(f"{len(parts)} messages")
    if not parts:
        raise CodecError("the file is empty", at=name, fix="name an HL7 file")
    if notes:
        output.note(f"{name}: {', '.join(notes)}")
    for number, part in enumerate(parts, 1):
        yield Payload(f"{name}#{number}" if len(parts) > 1 else name, part)


def as_segments(data: bytes) -> tuple[bytes, list[str]]:
    """File content with CR as segment ends, where an editor made line ends of them; and a remark if it was changed."""
    from bridge.codecs.formats import is_dicom
    from bridge.codecs.performed_json import is_json

    if b"\n" in data and not is_dicom(data) and not is_json(data) and (b"\r\n" in data or b"\r" not in data):
        return data.replace(b"\r\n", b"\r").replace(b"\n", b"\r"), ["line ends made segment ends (CR)"]
    return data, []


def _tell(payload: Payload, answer: bytes, machine: bool) -> dict[str, Any]:
    """Show an answer, and what it means as facts; of a batch, the first that is not positive decides."""
    from bridge.codecs.ack import read_ack
    from bridge.codecs.batch import is_batch, split

    acks = [read_ack(one) for one in (split(answer).messages if is_batch(answer) else ()) or (answer,)]
    ack = next((one for one in acks if one.code not in ("AA", "CA")), acks[0])
    ok = ack.code in ("AA", "CA")
    if not machine:
        output.say(f"{payload.name}: {ack.code}", style="green" if ok else "red")
        output.say(output.content(answer))
    errors = [
        {"code": error.code, "location": error.location, "severity": error.severity, "text": error.text}
        for error in ack.errors
    ]
    return {
        "file": payload.name,
        "ok": ok,
        "code": ack.code,
        "control_id": ack.control_id,
        "text": ack.text,
        "errors": errors,
        "answer": output.content(answer),
    }


class _Connection:
    """One connection that stays open over all messages, made with the first."""

    def __init__(self, address: tuple[str, int], timeout: float) -> None:
        self._address, self._timeout = address, timeout
        self._socket: socket.socket | None = None

    def ask(self, data: bytes) -> bytes:
        """Send one message and return its answer. Raises Unreachable, or Uncertain when no answer comes."""
        from bridge.codecs.mllp import Framer, wrap

        place = f"{self._address[0]}:{self._address[1]}"
        frame = wrap(data)
        if self._socket is None:
            try:
                self._socket = socket.create_connection(self._address, self._timeout)
            except OSError as error:
                reason = error.strerror or str(error)
                raise Unreachable(
                    f"nobody answers: {reason}", at=place, fix="start the receiver, or name another"
                ) from None
        framer = Framer(LARGEST_ANSWER)
        try:
            self._socket.sendall(frame)
            while True:
                received = self._socket.recv(65536)
                frames = framer.feed(received) if received else [end for end in (framer.settle(),) if end is not None]
                for found in frames:
                    if isinstance(found, bytes):
                        return found
                if not received or frames:
                    raise Uncertain("the receiver closed without an answer", at=place, fix="look at the receiver's log")
        except OSError as error:
            reason = "none within the time-out" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise Uncertain(f"no answer came: {reason}", at=place, fix="look at the receiver's log") from None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
