"""Functions on plain text."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal

from bridge.mapping.functions.registry import Site, function, unusable

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_UID_SPACE = uuid.UUID("5f0c2c9e-6a0e-5b0a-8f5e-3f1a3d7c9b21")


def read_number(text: str) -> Decimal:
    """An HL7 number (NM): digits with an optional sign and decimal point. Raises MappingError for anything else."""
    if len(text) > 40 or not _NUMBER.fullmatch(text):
        raise unusable("this is not a number", "send a number (NM)")
    return Decimal(text)


@function("text")
def upper(text: str) -> str:
    """The text in capitals.

    >>> run("upper", "ct")
    'CT'
    """
    return text.upper()


@function("text")
def lower(text: str) -> str:
    """The text in small letters.

    >>> run("lower", "Final")
    'final'
    """
    return text.lower()


@function("text")
def join(*texts: str, by: str = "") -> str:
    """The texts that are not empty, one after the other, with ``by`` in between.

    >>> run("join", "Ward 3", "", "Bed 7", by=", ")
    'Ward 3, Bed 7'
    """
    return by.join(text for text in texts if text)


@function("texts")
def lines(texts: list[str], *, by: str = "\n") -> str:
    """Every repetition and occurrence, one line each; empty lines in between stay.

    >>> run("lines", "No fracture.~~Normal joint space.")
    'No fracture.\\n\\nNormal joint space.'
    """
    return by.join(texts).strip("\n")


@function("text")
def split(text: str, *, by: str) -> list[str]:
    """The parts of a text between each ``by`` (empty: spaces), without spaces around them and without empty ones.

    >>> run("split", "CT1 | CT2", by="|")
    ['CT1', 'CT2']
    """
    return [part.strip() for part in text.split(by or None) if part.strip()]


@function("texts")
def distinct(*lists: list[str]) -> list[str]:
    """Every text that is not empty, once, in the sequence in which they come.

    >>> run("distinct", "CT1~CT2~~CT1")
    ['CT1', 'CT2']
    """
    return list(dict.fromkeys(text for texts in lists for text in texts if text))


@function("texts")
def first(texts: list[str]) -> str:
    """The first repetition or occurrence that is not empty.

    >>> run("first", "~A0~B6")
    'A0'
    """
    return next((text for text in texts if text), "")


@function("texts")
def sole(texts: list[str]) -> str:
    """The text if all repetitions and occurrences together hold just one, else nothing.

    >>> run("sole", "1.2.3~1.2.3"), run("sole", "1.2.3~1.2.4")
    ('1.2.3', '')
    """
    different = {text for text in texts if text}
    return different.pop() if len(different) == 1 else ""


@function("text")
def wrap(text: str, *, at: int) -> list[str]:
    """The text in pieces of at most ``at`` characters, broken at spaces: for attributes that take several values.

    >>> run("wrap", "Contrast allergy, pacemaker", at=18)
    ['Contrast allergy,', 'pacemaker']
    """
    pieces: list[str] = []
    for word in text.split():
        if pieces and len(pieces[-1]) + 1 + len(word) <= at:
            pieces[-1] += " " + word
        else:
            pieces.append(word)
    if any(len(piece) > at for piece in pieces):
        raise unusable(f"a word is longer than {at} characters", "break it with a space")
    return pieces


@function("text")
def numbered(text: str, number: str) -> str:
    """The text itself for number 1, and with ``-2``, ``-3`` added for the following ones.

    >>> run("numbered", "A100", "1"), run("numbered", "A100", "2")
    ('A100', 'A100-2')
    """
    return f"{text}-{number}" if text and number != "1" else text


@function("text")
def number(text: str) -> int | Decimal | str:
    """A JSON number with the digits as written (HL7 NM).

    >>> run("number", "12.50"), run("number", "+7")
    (Decimal('12.50'), 7)
    """
    if not text:
        return ""
    value = read_number(text)
    return value if "." in text else int(value)


@function("text")
def uid(*texts: str, site: Site) -> str:
    """A DICOM UID (``2.25.`` and a number, PS3.5 B.2) made of the texts and the site's name; empty if a text is.

    The same texts always give the same UID, so that an order sent again keeps its own.

    >>> run("uid", "P1001", "RP7") == run("uid", "P1001", "RP7") != run("uid", "P1001", "RP8")
    True
    >>> run("uid", "P1001")
    '2.25.186608575902953650740165916071575449232'
    >>> run("uid", "")
    ''
    """
    if not any(texts):
        return ""
    seed = "\x1f".join((str(site.get("name", "")), *texts))
    return f"2.25.{uuid.uuid5(_UID_SPACE, seed).int}"
