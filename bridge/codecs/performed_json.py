"""An event of a performed procedure step, or a notice, written down as text, for samples that people read and edit.

A JSON object: ``command``, ``instance``, ``calling`` and ``called`` as in :class:`bridge.codecs.performed.Event`,
``data`` the data set in the DICOM JSON Model (PS3.18 annex F), and ``known``, if the step was told of before:
``number``, ``digest`` and ``values`` of :class:`bridge.codecs.performed.KnownStep`. A notice of an archive has
``sop_class``, ``event`` and ``about`` of :class:`bridge.codecs.notice.Notice` in place of ``command`` and ``known``.
"""

from __future__ import annotations

import json
from io import BytesIO

from pydicom import Dataset, dcmwrite

from bridge.codecs.notice import Notice, encode_notice
from bridge.codecs.performed import Event, KnownStep, encode_event
from bridge.errors import CodecError


def is_json(raw: bytes) -> bool:
    """Whether this may be such a text."""
    return raw.lstrip()[:1] == b"{"


def event_file(raw: bytes) -> bytes:
    """The event as the DICOM file that a channel would have stored. Raises CodecError."""
    try:
        told = json.loads(raw)
        known = KnownStep(**told["known"]) if "known" in told else None
        encoded = BytesIO()
        dcmwrite(encoded, Dataset.from_json(told["data"]), implicit_vr=False, little_endian=True)
        if "sop_class" in told:
            who = (told["calling"], told["called"])
            notice = Notice(
                told["sop_class"], told["instance"], told["event"], *who, encoded.getvalue(), False, told["about"]
            )
            return encode_notice(notice)
        event = Event(
            command=told["command"],
            instance=told["instance"],
            calling=told["calling"],
            called=told["called"],
            data=encoded.getvalue(),
            implicit=False,
            known=known,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"not an event of a performed procedure step ({type(error).__name__})"
        raise CodecError(what, fix="see mappings/samples/mpps_created.json for one") from None
    return encode_event(event)
