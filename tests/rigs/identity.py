"""Claims about patients' identifiers, as messages make them."""

from __future__ import annotations

from bridge.codecs.adt import IdentityAct, IdentityClaim, IdentityEvent, PatientNumber


def number(key: str) -> PatientNumber:
    return PatientNumber(key, (key.rpartition("^")[2], "", ""))


def claim(act: IdentityAct | str, identifier: str, *candidates: str, doubt: str = "") -> IdentityEvent:
    """One claim: ``identifier`` and the other one, or several with a doubt. ``id^issuer`` each."""
    found = IdentityClaim(IdentityAct(act), identifier, tuple(map(number, candidates)), doubt)
    return IdentityEvent("A40", (found,))


def merge(retired: str, survivor: str) -> IdentityEvent:
    return claim("merge", retired, survivor)
