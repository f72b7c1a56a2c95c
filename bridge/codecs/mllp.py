"""Minimal Lower Layer Protocol without sockets: bytes in, frames out.

A frame is VT, the payload, FS CR (HL7 Transport Specification: MLLP, release 1). Peers differ: FS followed by LF, or
by the VT of the next frame, ends a frame too; FS followed by anything else is part of the payload. VT never is: it
starts a frame anew, and what was open is discarded. Every byte is accounted for:
``received == payloads of frames + envelope + discarded + buffered``.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import CodecError

_VT, _FS = b"\x0b", b"\x1c"
_AFTER_END = frozenset(b"\r\n\x0b")
_SAMPLE = 16
_NONE, _UNKNOWN = -1, -2
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class TooLong:
    """A frame that grew past the limit and was discarded; ``head`` is its beginning, enough to answer it."""

    head: bytes
    limit: int


def wrap(payload: bytes) -> bytes:
    """One frame. Raises CodecError if the payload holds VT or FS, which some receiver would take for its border."""
    if _VT in payload or _FS in payload:
        what = "the message holds a control character that ends or starts a frame"
        raise CodecError(what, at="MLLP", fix="escape VT and FS in the message as \\X0B\\ and \\X1C\\")
    return b"\x0b%b\x1c\r" % payload


class Framer:
    """Cuts a stream into frames. ``max_size`` is the longest payload in bytes. Time is linear in what is fed."""

    def __init__(self, max_size: int) -> None:
        self._max = max_size
        self._buffer = bytearray()
        self._open = False
        """VT was read: the buffer holds the payload so far (without VT)."""
        self._scanned = 0
        """So much of the buffer holds neither VT nor the end of the frame."""
        self.received = 0
        self.envelope = 0
        """Bytes of VT, FS and CR around the frames that were given out."""
        self.discarded = 0
        self.sample = b""
        """The first few discarded bytes. May hold patient content: not for logs."""

    @property
    def buffered(self) -> int:
        """Bytes of a frame that is not complete, its VT included."""
        return len(self._buffer) + self._open

    @property
    def ends_open(self) -> bool:
        """The last byte so far is FS: the frame is complete unless more comes."""
        return self._open and self._buffer.endswith(_FS)

    def feed(self, data: bytes) -> list[bytes | TooLong]:
        """Take what was read; returns the payloads that it completed, in order."""
        self.received += len(data)
        buffer = self._buffer
        buffer += data
        found: list[bytes | TooLong] = []
        at, end = 0, _UNKNOWN
        while True:
            if not self._open:
                start = buffer.find(_VT, at)
                self._discard(at, len(buffer) if start < 0 else start)
                if start < 0:
                    at = len(buffer)
                    break
                at, self._open, self._scanned = start + 1, True, 0
            scan = at + self._scanned
            if end != _NONE and end < scan:
                end = self._find_end(scan)
            limit = min(end if end >= 0 else len(buffer) - buffer.endswith(_FS), at + self._max + 1)
            again = buffer.find(_VT, scan, limit)
            if again >= 0:
                self._discard(at - 1, again)
                at, self._scanned = again + 1, 0
            elif limit - at > self._max:
                found.append(TooLong(bytes(buffer[at : at + min(_HEAD, self._max)]), self._max))
                self._discard(at - 1, limit)
                at, self._open = limit, False
            elif end == _NONE:
                self._scanned = limit - at
                break
            else:
                found.append(self._cut(at, end))
                at, self._open = self._after(end), False
        if at:
            self._forget(at)
        return found

    def skip(self, data: bytes) -> None:
        """Throw away what was read, and count it."""
        self.received += len(data)
        self.discarded += len(data)

    def settle(self) -> bytes | None:
        """After a pause, or at the end of the stream: the frame that ended in FS without CR, if there is one."""
        if not self.ends_open:
            return None
        payload = self._cut(0, len(self._buffer) - 1)
        self.envelope += 2
        self._open = False
        self._forget(len(self._buffer))
        return payload

    def abandon(self) -> None:
        """The stream is over: what is buffered counts as discarded."""
        self._discard(-1 if self._open else 0, len(self._buffer))
        self._open = False
        self._forget(len(self._buffer))

    def _find_end(self, scan: int) -> int:
        """Where the FS is that ends the open frame, at or after ``scan``; _NONE when it is not there yet."""
        buffer = self._buffer
        while True:
            scan = buffer.find(_FS, scan)
            if scan < 0 or scan + 1 == len(buffer):
                return _NONE
            if buffer[scan + 1] in _AFTER_END:
                return scan
            scan += 1

    def _after(self, end: int) -> int:
        """Where to go on after the frame that FS at ``end`` ended; the VT of the next frame is not ours to take."""
        taken = 1 if self._buffer.startswith(_VT, end + 1) else 2
        self.envelope += 1 + taken
        return end + taken

    def _cut(self, start: int, end: int) -> bytes:
        with memoryview(self._buffer) as view:
            return bytes(view[start:end])

    def _forget(self, count: int) -> None:
        if count == len(self._buffer):
            self._buffer = bytearray()
        else:
            del self._buffer[:count]

    def _discard(self, start: int, end: int) -> None:
        """Count bytes of the buffer; -1 is the VT before it."""
        if end > start:
            if len(self.sample) < _SAMPLE:
                shown = self._buffer[start:end] if start >= 0 else _VT + self._buffer[:end]
                self.sample = bytes(self.sample + shown[:_SAMPLE])[:_SAMPLE]
            self.discarded += end - start
