"""Any bytes as an MLLP stream: the frames are those of the rules read a byte at a time, and every byte is counted."""

from __future__ import annotations

from random import Random

from tests.fuzz.harness import fuzz, instrumented

with instrumented(__name__):
    from bridge.codecs.mllp import Framer, TooLong, wrap
    from bridge.errors import CodecError

_LIMITS = (1, 2, 7, 40, 300, 1000, 5000, 1 << 20)
_VT, _FS, _AFTER_END = 0x0B, 0x1C, b"\r\n\x0b"
_HEAD = 4096


def check(data: bytes) -> None:
    """The last two bytes of ``data`` choose the limit and the splits; the rest is the stream."""
    stream, control = data[:-2], data[-2:].rjust(2, b"\0")
    limit, chance = _LIMITS[control[0] % len(_LIMITS)], Random(control[1])
    expected = _slowly(stream, limit)

    whole, split, paused = Framer(limit), Framer(limit), Framer(limit)
    assert whole.feed(stream) == expected
    found: list[bytes | TooLong] = []
    settled: list[bytes | TooLong] = []
    for piece in _pieces(stream, chance):
        found += split.feed(piece)
        settled += paused.feed(piece)
        if chance.random() < 0.3:
            settled += [end for end in [paused.settle()] if end is not None]
        _account(split, found, limit)
        _account(paused, settled, limit)
    assert found == expected
    _end(whole, expected, limit)
    _end(split, found, limit)
    _end(paused, settled, limit)
    assert (split.discarded, split.envelope, split.sample) == (whole.discarded, whole.envelope, whole.sample)
    _wrap([frame for frame in found if isinstance(frame, bytes)])


def _slowly(stream: bytes, limit: int) -> list[bytes | TooLong]:
    """The frames of a stream, by the rules of MLLP and nothing else."""
    frames: list[bytes | TooLong] = []
    payload: bytearray | None = None
    ending = False
    for byte in stream:
        if ending and payload is not None:
            ending = False
            if byte in _AFTER_END:
                frames.append(bytes(payload))
                payload = bytearray() if byte == _VT else None
                continue
            payload = _grown(payload, _FS, limit, frames)
        if byte == _VT:
            payload = bytearray()
        elif payload is not None and byte == _FS:
            ending = True
        elif payload is not None:
            payload = _grown(payload, byte, limit, frames)
    return frames


def _grown(payload: bytearray, byte: int, limit: int, frames: list[bytes | TooLong]) -> bytearray | None:
    payload.append(byte)
    if len(payload) <= limit:
        return payload
    frames.append(TooLong(bytes(payload[: min(_HEAD, limit)]), limit))
    return None


def _pieces(stream: bytes, chance: Random) -> list[bytes]:
    longest = chance.choice((1, 3, 20, 2000))
    longest = max(longest, len(stream) // 40)
    pieces = []
    while stream:
        size = chance.randint(1, longest)
        pieces.append(stream[:size])
        stream = stream[size:]
    return pieces


def _account(framer: Framer, frames: list[bytes | TooLong], limit: int) -> None:
    payloads = sum(len(frame) for frame in frames if isinstance(frame, bytes))
    assert framer.received == payloads + framer.envelope + framer.discarded + framer.buffered
    assert framer.buffered <= limit + 2
    assert len(framer.sample) <= min(16, framer.discarded)


def _end(framer: Framer, frames: list[bytes | TooLong], limit: int) -> None:
    """The stream ends: what ended in FS is a frame, the rest is discarded, and nothing stays."""
    last = framer.settle()
    _account(framer, frames if last is None else [*frames, last], limit)
    framer.abandon()
    assert not framer.buffered and not framer.ends_open
    _account(framer, frames if last is None else [*frames, last], limit)


def _wrap(payloads: list[bytes]) -> None:
    """What can be wrapped comes out again, the same and in order."""
    wrapped = []
    for payload in payloads:
        try:
            wrapped.append((wrap(payload), payload))
        except CodecError:
            assert _FS in payload
    framer = Framer(1 << 20)
    assert framer.feed(b"".join(frame for frame, _ in wrapped)) == [payload for _, payload in wrapped]
    assert not framer.discarded and not framer.buffered


if __name__ == "__main__":
    fuzz(check)
