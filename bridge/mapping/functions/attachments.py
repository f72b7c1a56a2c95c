"""Report content: text lines and encapsulated documents (HL7 ED) to FHIR Attachment."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from bridge.mapping.fields import Field
from bridge.mapping.functions.registry import function, unusable

_MEDIA = {"PDF": "application/pdf", "RTF": "application/rtf", "HTML": "text/html", "XML": "text/xml",
          "X-HL7-CDA-LEVEL-ONE": "text/xml", "JPEG": "image/jpeg", "PNG": "image/png", "TIFF": "image/tiff",
          "GIF": "image/gif", "DICOM": "application/dicom", "PLAIN": "text/plain"}  # fmt: skip
"""Media type of a data subtype (HL7 table 0291)."""


@function("texts")
def text_attachment(texts: list[str], *, inside: str = "") -> list[dict[str, Any]]:
    """All lines as a list with one FHIR Attachment of plain text; empty when no line says anything.

    ``inside`` names an element that each attachment is put into.

    >>> run("text_attachment", "No fracture.")
    [{'contentType': 'text/plain; charset=utf-8', 'data': 'Tm8gZnJhY3R1cmUu'}]
    """
    text = "\n".join(texts).strip()
    data = base64.b64encode(text.encode()).decode()
    return _inside(inside, [{"contentType": "text/plain; charset=utf-8", "data": data}] if text else [])


@function("field")
def attachments(documents: list[Field], *, inside: str = "") -> list[dict[str, Any]]:
    """Every encapsulated document (ED) as FHIR Attachment. Its encoding may be Base64, Hex or A (plain text).

    ``inside`` names an element that each attachment is put into (``attachment``, in ``DocumentReference.content``).

    >>> run("attachments", "RIS^AP^PDF^Base64^JVBERi0=")
    [{'contentType': 'application/pdf', 'data': 'JVBERi0='}]
    """
    return _inside(inside, [_attachment(one) for one in documents if one.text(5)])


@function("field")
def document_lines(documents: list[Field]) -> list[str]:
    """The lines of every encapsulated document (ED) of plain text; an empty one is a space.

    >>> run("document_lines", "^TEXT^PLAIN^Base64^Tm8gZnJhY3R1cmUuCk5vcm1hbC4=")
    ['No fracture.', 'Normal.']
    """
    found: list[str] = []
    for one in documents:
        attachment = _attachment(one)
        if attachment["contentType"] == "text/plain":
            try:
                text = base64.b64decode(attachment["data"]).decode()
            except UnicodeDecodeError:
                raise unusable("the text is not UTF-8", "send it as UTF-8") from None
            found += [line or " " for line in text.splitlines()]
    return found


def _inside(element: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{element: one} for one in found] if element else found


def _attachment(document: Field) -> dict[str, Any]:
    subtype, encoding, data = (document.text(number) for number in (3, 4, 5))
    media = _MEDIA.get(subtype.upper(), "application/octet-stream")
    try:
        if encoding.upper() == "HEX":
            data = base64.b64encode(bytes.fromhex(data)).decode()
        elif encoding.upper() == "BASE64":
            data = "".join(data.split())
            base64.b64decode(data, validate=True)
        else:
            data = base64.b64encode(data.encode()).decode()
    except (ValueError, binascii.Error):
        raise unusable(f"the document is not {encoding} as it says", "send what ED-4 names") from None
    return {"contentType": media, "data": data}
