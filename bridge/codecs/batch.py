"""HL7 batches: a file (FHS ... FTS) of batches (BHS ... BTS) of messages, cut into its messages; and what answers it.

HL7 v2 chapter 2, 2.10.3 (batch protocol) and 2.10.3.3 (acknowledging batches): the answer is a batch of the messages'
answers, which refers to the batch's own control id in BHS-12 and FHS-12.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

_START = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]{0,64}(?:FHS|BHS)(?![A-Za-z0-9])")
_BORDER = re.compile(rb"(?:FHS|BHS|MSH|BTS|FTS)(?![A-Za-z0-9])")
_END = re.compile(rb"[^\r\n]([\r\n])")
_BLANK, _BOM = b"\r\n", b"\xef\xbb\xbf"
_NEVER = b"\x0b\x1c"
"""What frames and separates answers."""
_REMARKS = 10


@dataclass(slots=True)
class Group:
    """One batch of the file: its BHS as it came (empty without one) and its messages, each byte for byte."""

    header: bytes = b""
    messages: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """A batch that was cut. ``remarks`` (the first ten) tell what does not fit: counts, trailers, stray text."""

    header: bytes = b""
    """FHS as it came; empty without one."""
    groups: list[Group] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def messages(self) -> list[bytes]:
        return [message for group in self.groups for message in group.messages]


def is_batch(raw: bytes) -> bool:
    """Whether this is a batch or a file of batches, not a message."""
    return not raw.startswith(b"MSH") and _START.match(raw) is not None


def split(raw: bytes) -> Batch:
    """Cut ``raw``, for which :func:`is_batch` is true. Never raises: what cannot be read is a message that is refused
    where it is parsed, or a remark. Time is linear."""
    cut = Batch()
    borders = _borders(raw)
    trailer = b""
    for start, end in zip(borders, [*borders[1:], len(raw)], strict=True):
        piece = raw[start:end]
        name, line = piece[:3], piece.rstrip(_BLANK)
        if name == b"MSH":
            if not cut.groups or trailer == b"BTS":
                cut.groups.append(Group())
            cut.groups[-1].messages.append(piece)
        elif name == b"BHS":
            cut.groups.append(Group(_first_line(line)))
        elif name == b"FHS":
            cut.header = cut.header or _first_line(line)
        else:
            expected = len(cut.groups) if name == b"FTS" else len(cut.groups[-1].messages) if cut.groups else 0
            _check_count(line, expected, cut)
        if name != b"MSH" and _first_line(line) != line:
            _remark(cut, f"text after {name.decode()}")
        trailer = name
    if trailer not in (b"BTS", b"FTS"):
        _remark(cut, "the trailer (BTS or FTS) is missing")
    return cut


def answer(cut: Batch, answers: Sequence[Sequence[bytes]], *, control_id: str, now: datetime) -> bytes:
    """The batch that answers ``cut``; ``answers`` holds those of each message, in sequence (none, one or more)."""
    given = iter(answers)
    parts = []
    remark = _text("; ".join(cut.remarks))
    for number, group in enumerate(cut.groups or [Group()], 1):
        acks = [one for _ in group.messages for one in next(given)]
        if group.header:
            parts.append(_reply_header(group.header, f"{control_id}-{number}", now))
        parts += acks
        if group.header:
            parts.append(_trailer(group.header, b"BTS", len(acks), remark))
    if cut.header:
        parts.insert(0, _reply_header(cut.header, control_id, now))
        parts.append(_trailer(cut.header, b"FTS", len(cut.groups), remark))
    return b"".join(parts).translate(None, _NEVER)


def _borders(raw: bytes) -> list[int]:
    """Where a segment of the batch or a message begins: at the start of a line, as the batch ends its lines."""
    first = _END.search(raw)
    feeds = first is not None and first[1] == b"\n"
    head = len(raw) - len(raw.removeprefix(_BOM).lstrip(_BLANK))
    found = []
    for match in _BORDER.finditer(raw):
        at = match.start()
        before = raw[max(at - 2, 0) : at]
        if at == head or before.endswith(b"\r") or before == b"\r\n" or (feeds and before.endswith(b"\n")):
            found.append(at)
    return found


def _first_line(line: bytes) -> bytes:
    return re.split(rb"[\r\n]", line, maxsplit=1)[0]


def _check_count(line: bytes, found: int, cut: Batch) -> None:
    """BTS-1 and FTS-1 count what went before."""
    fields = _first_line(line).split(line[3:4] or b"|")
    declared = fields[1].strip() if len(fields) > 1 else b""
    if declared and (not declared.isdigit() or int(declared[:9]) != found):
        shown = declared[:9].decode("ascii", "replace") if declared.isdigit() else "no number"
        _remark(cut, f"{fields[0].decode()}-1 says {shown}, {found} came")


def _remark(cut: Batch, text: str) -> None:
    if len(cut.remarks) < _REMARKS:
        cut.remarks.append(text)


def _reply_header(header: bytes, control_id: str, now: datetime) -> bytes:
    """FHS or BHS of the answer: sender and receiver change places, field 12 refers to the other's control id."""
    separator = _separator(header)
    fields = header.split(separator)
    fields += [b""] * (12 - len(fields))
    stamp = now.strftime("%Y%m%d%H%M%S%z").encode()
    turned = [fields[0], fields[1], fields[4], fields[5], fields[2], fields[3], stamp, b"", b"", b""]
    return separator.join([*turned, control_id.encode(), fields[10]]) + b"\r"


def _separator(header: bytes) -> bytes:
    mark = header[3:4]
    return b"|" if mark in _NEVER else mark


def _trailer(header: bytes, name: bytes, count: int, remark: bytes) -> bytes:
    separator = _separator(header)
    return separator.join([name, str(count).encode(), remark] if remark else [name, str(count).encode()]) + b"\r"


def _text(remark: str) -> bytes:
    """Only letters, digits and plain punctuation: no delimiter of any batch needs escaping in it."""
    return re.sub(r"[^A-Za-z0-9 ,;().-]", " ", remark).encode()
