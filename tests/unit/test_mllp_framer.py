"""MLLP framing: every byte becomes part of a frame, its envelope, or a counted discard."""

from __future__ import annotations

import pytest

from bridge.codecs.mllp import Framer, TooLong, wrap
from bridge.errors import CodecError


def check(framer: Framer, frames: list[bytes | TooLong]) -> None:
    payloads = sum(len(frame) for frame in frames if isinstance(frame, bytes))
    assert framer.received == payloads + framer.envelope + framer.discarded + framer.buffered


@pytest.mark.parametrize(
    ("stream", "frames", "discarded"),
    [
        (b"\x0bA\x1c\r", [b"A"], 0),
        (b"\x0bA\x1c\r\x0bB\x1c\r", [b"A", b"B"], 0),
        (b"\x0b\x1c\r", [b""], 0),
        (b"junk\x0bA\x1c\r", [b"A"], 4),
        (b"\x0bA\x1c\rjunk\x0bB\x1c\r\r\n", [b"A", b"B"], 6),
        (b"\x0bA\x1c\n", [b"A"], 0),
        (b"\x0bA\x1c\x0bB\x1c\r", [b"A", b"B"], 0),
        (b"\x0bA\x1cB\x1c\r", [b"A\x1cB"], 0),
        (b"\x0bA\x1c\x1c\r", [b"A\x1c"], 0),
        (b"\x0bpartial\x0bA\x1c\r", [b"A"], 8),
        (b"\x0b\x0b\x0bA\x1c\r", [b"A"], 2),
        (b"\x1c\r\x0bA\x1c\r", [b"A"], 2),
        (b"\x0bA\rB\nC\x1c\r", [b"A\rB\nC"], 0),
        (b"GET / HTTP/1.1\r\n\r\n", [], 18),
    ],
)
def test_a_stream_gives_the_same_frames_whole_and_one_byte_at_a_time(
    stream: bytes, frames: list[bytes], discarded: int
) -> None:
    whole, single = Framer(100), Framer(100)

    at_once = whole.feed(stream)
    one_by_one = [frame for byte in stream for frame in single.feed(bytes([byte]))]

    assert at_once == one_by_one == frames
    assert whole.discarded == single.discarded == discarded
    check(whole, at_once)
    check(single, one_by_one)


def test_an_unfinished_frame_waits() -> None:
    framer = Framer(100)

    assert framer.feed(b"\x0bMSH|") == []
    assert framer.buffered == 5
    assert framer.feed(b"x\x1c") == []
    assert framer.ends_open
    assert framer.feed(b"\r") == [b"MSH|x"]
    assert framer.buffered == 0


def test_fs_without_cr_is_settled_after_a_pause() -> None:
    framer = Framer(100)
    frames = framer.feed(b"\x0bA\x1c")

    assert frames == []
    assert framer.settle() == b"A"
    assert framer.settle() is None
    assert framer.feed(b"\r\x0bB\x1c\r") == [b"B"]
    assert framer.discarded == 1
    check(framer, [b"A", b"B"])


def test_nothing_is_settled_in_the_middle_of_a_frame() -> None:
    framer = Framer(100)
    framer.feed(b"\x0bA\x1cB")

    assert framer.settle() is None
    assert framer.feed(b"\x1c\r") == [b"A\x1cB"]


def test_the_longest_frame_passes_and_one_byte_more_does_not() -> None:
    framer = Framer(5)

    frames = framer.feed(b"\x0b12345\x1c\r\x0b123456\x1c\r\x0bok\x1c\r")

    assert frames == [b"12345", TooLong(b"12345", 5), b"ok"]
    assert framer.discarded == 9
    check(framer, frames)


def test_an_endless_frame_is_reported_once_and_not_kept() -> None:
    framer = Framer(1000)
    frames = framer.feed(b"\x0bMSH|^~\\&|RIS")
    for _ in range(100):
        frames += framer.feed(b"x" * 500)

    assert [type(frame) for frame in frames] == [TooLong]
    assert isinstance(frames[0], TooLong) and frames[0].head.startswith(b"MSH|^~\\&|RIS")
    assert framer.buffered == 0
    check(framer, frames)


def test_the_first_discarded_bytes_are_kept_as_a_sample() -> None:
    framer = Framer(100)
    framer.feed(b"0123")
    framer.feed(b"456\x0bA\x1c\r")
    framer.feed(b"789abcdefghijklmnop")

    assert framer.sample == b"0123456789abcdef"
    assert framer.discarded == 26


def test_what_is_left_at_the_end_of_the_stream_is_discarded() -> None:
    framer = Framer(100)
    framer.feed(b"\x0bhalf")
    framer.abandon()

    assert (framer.discarded, framer.buffered, framer.sample) == (5, 0, b"\x0bhalf")


@pytest.mark.parametrize("size", [1, 65536, 1 << 30])
def test_a_frame_of_two_megabytes_arrives_in_pieces_of_any_size(size: int) -> None:
    payload = b"MSH|" + b"x" * 2_000_000
    framer, stream = Framer(4 << 20), wrap(payload)

    found = [frame for at in range(0, len(stream), size) for frame in framer.feed(stream[at : at + size])]

    assert found == [payload]
    check(framer, found)


@pytest.mark.parametrize(
    "stream",
    [b"\x0b" * 300_000, b"\x0b" + b"\x1cx" * 150_000, b"\x0b\x1c\x0b\x1c\r" * 60_000, b"\x1c" * 300_000],
)
def test_storms_of_control_characters_are_accounted_for(stream: bytes) -> None:
    framer = Framer(1 << 20)

    check(framer, framer.feed(stream))


def test_wrapping_and_framing_are_inverse() -> None:
    assert Framer(10).feed(wrap(b"A\rB") + wrap(b"")) == [b"A\rB", b""]


@pytest.mark.parametrize("payload", [b"a\x0bb", b"a\x1cb", b"a\x1c"])
def test_a_payload_that_would_break_the_frame_is_not_wrapped(payload: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        wrap(payload)

    assert caught.value.at == "MLLP"
