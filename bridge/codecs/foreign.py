"""Messages that are not HL7, read as mappings read HL7: by path, and split into slices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from bridge.codecs.er7 import Delimiters, delimiters
from bridge.codecs.views import Numbers

if TYPE_CHECKING:
    from bridge.codecs.paths import Path
    from bridge.message import Header

_CODING = b"^~\\&"


class Foreign(ABC):
    """A message of another format than HL7, or a slice of one; how its values are read is each format's own.

    A path of HL7 finds nothing here, but for the header that an HL7 message made of this one begins with: its time,
    type, id, P, 2.5.1 and UTF-8.
    """

    header: Header
    charset = codec = "utf-8"
    names: Sequence[str] = ("",)
    own: Sequence[int] = (0,)
    delimiters: Delimiters = delimiters(b"|" + _CODING)
    _index = Numbers()

    def get(self, path: str) -> str:
        """Text of the first value at ``path``; empty when it is absent or empty."""
        found = self.field(0, 9).decode() if path == "MSH-10" else ""
        return found or next(iter(self.all(path)), "")

    @abstractmethod
    def all(self, path: str) -> list[str]:
        """Every value at ``path``; none of a path of another format."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether what a path begins with is there."""

    def moment(self) -> str:
        """The message's time (DTM); empty where it has none of its own."""
        return ""

    def places(self, path: Path) -> Sequence[int]:
        return (0,) if self.has(path.segment) else ()

    def occurrences(self, path: Path, every: bool = False) -> Sequence[int]:
        return ()

    def numbers(self, name: str) -> Sequence[int]:
        return ()

    def segments(self, name: str = "") -> list[Any]:
        return []

    def fields(self, number: int) -> list[bytes]:
        return []

    def field(self, number: int, index: int) -> bytes:
        """A field of the header that a message made of this one begins with (MSH)."""
        if index == 1:
            return _CODING
        if index == 6:
            return self.moment().encode()
        if index == 9:
            return blake2b(self.header.control_id.encode() + self.header.digest, digest_size=10).hexdigest().encode()
        return {8: self.header.type.encode(), 10: b"P", 11: b"2.5.1", 17: b"UNICODE UTF-8"}.get(index, b"")
