"""C-FIND responses as prepared bytes: command and identifier in one PDU, straight to the upper layer (PS3.7 9.3.2).

pynetdicom makes each response from a Dataset and sends it in two PDUs; that takes twenty times as long. The final
response is still its own.
"""

from __future__ import annotations

import struct
import time
from typing import Any

from pynetdicom.pdu_primitives import P_DATA

from bridge.codecs.dicom import write

_BURST = 64
"""Responses after which is waited until they are on their way: only then a C-CANCEL is read."""
_PAUSE = 0.0005
_ITEM = 6
"""Bytes of a presentation data value beside its data: length, context, control header (PS3.8 9.3.5.1)."""
_COMMAND, _DATA, _LAST_DATA = b"\x03", b"\x00", b"\x02"
_C_FIND_RSP, _WITH_DATA = 0x8020, 0x0001


class Responses:
    """Sends the pending responses to one C-FIND request."""

    def __init__(self, association: Any, request: Any, context: int, status: int) -> None:
        self._association, self._context = association, context
        self._command = _command(str(request.AffectedSOPClassUID), request.MessageID, status)
        self._room = (association.dimse.maximum_pdu_size or 1 << 24) - _ITEM
        self._sent = 0

    def send(self, identifier: bytes) -> bool:
        """Queue one response, and now and then wait until all are sent. False if the association has ended."""
        values: Any = [[self._context, _COMMAND + self._command]]
        room = self._room - len(self._command) - _ITEM
        if len(identifier) > room:
            self._put(values)
            values, room = [], self._room
        while len(identifier) > room:
            self._put([[self._context, _DATA + identifier[:room]]])
            identifier = identifier[room:]
        self._put([*values, [self._context, _LAST_DATA + identifier]])
        self._sent += 1
        return self._drained() if self._sent % _BURST == 0 else bool(self._association.is_established)

    def _put(self, values: Any) -> None:
        """Queue one PDU of presentation data values: context, and control header with data."""
        data = P_DATA()
        data.presentation_data_value_list = values
        self._association.dul.to_provider_queue.put(data)

    def _drained(self) -> bool:
        """Wait until everything is sent and what has come is read: a slow peer fills no memory, a cancel is seen."""
        association, dul = self._association, self._association.dul
        while association.is_established and (not dul.to_provider_queue.empty() or dul.socket.ready):
            time.sleep(_PAUSE)
        return bool(association.is_established)


def _command(sop_class: str, message: int, status: int) -> bytes:
    """The command set of a response that has an identifier (PS3.7 table 9.3-4), group length first."""
    name = sop_class.encode("ascii")
    numbers = ((0x0100, _C_FIND_RSP), (0x0120, message), (0x0800, _WITH_DATA), (0x0900, status))
    elements = [(0x0002, "UI", name + b"\0" * (len(name) % 2))]
    elements += [(tag, "US", struct.pack("<H", value)) for tag, value in numbers]
    body = write(elements, implicit=True)
    return write([(0x0000, "UL", struct.pack("<L", len(body)))], implicit=True) + body
