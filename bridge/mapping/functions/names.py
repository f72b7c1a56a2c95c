"""Names of people: HL7 XPN, XCN and CNN to DICOM PN (PS3.5 6.2.1) and FHIR HumanName."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bridge.mapping.fields import Field
from bridge.mapping.functions.registry import Site, function, unusable

_USES = {"L": "official", "D": "usual", "M": "maiden", "N": "nickname", "A": "anonymous", "T": "temp", "BAD": "old"}
"""XPN-7 (table 0200) to NameUse, after the HL7 v2-to-FHIR guide."""


class _Name(NamedTuple):
    family: str
    given: str
    middle: str
    suffix: str
    prefix: str
    degree: str


def _read(field: Field, start: int) -> _Name:
    """Family name and what follows it, from component ``start`` on: family, given, second, suffix, prefix, degree."""
    return _Name(*field.run(start, 6))


def _middle(name: _Name) -> str:
    """Second names without the first one, which some senders (all French ones) repeat there."""
    if not name.middle:
        return ""
    first, second = name.given.casefold(), name.middle.casefold()
    if first and (second + " ").startswith((first + " ", first + ",")):
        return name.middle[len(first) :].strip(" ,")
    return name.middle


def _dicom(name: _Name) -> str:
    """The five components of a PN: family, given, middle, prefix, suffix; trailing empty ones left out."""
    suffix = f"{name.suffix} {name.degree}" if name.suffix and name.degree else name.suffix or name.degree
    text = f"{name.family}^{name.given}^{_middle(name)}^{name.prefix}^{suffix}"
    if "\\" in text or "=" in text or text.count("^") > 4:
        raise unusable("the name has a character that DICOM names cannot hold (\\ ^ =)", "have the sender correct it")
    return text.rstrip("^")


def _choose(names: list[Field], types: Sequence[str]) -> Field | None:
    """The name of the first preferred type that is there, else the first. One without a family name (a null takes it
    away) is chosen only if all are."""
    present = [one for one in names if one.text(1)] or [one for one in names if one.text(2)]
    for wanted in types:
        for one in present:
            if one.text(7) == wanted:
                return one
    return present[0] if present else None


@function("field")
def person_name(names: list[Field], *, types: list[str] | None = None, site: Site) -> str:
    """A patient's name (XPN) as DICOM PN: family^given^middle^prefix^suffix.

    HL7 puts the suffix before the prefix, DICOM after it; a degree joins the suffix. A second name that only repeats
    the first is left out. ``types`` (XPN-7), or the site's ``name_type``, says which name is wanted first.

    >>> run("person_name", "TEST^ALICE^^III^DR^MD")
    'TEST^ALICE^^DR^III MD'
    >>> run("person_name", "BIRTHNAME^ALICE^ALICE BERTHE^^^^L~USEDNAME^ALICE^^^^^D", types=["D", "L"])
    'USEDNAME^ALICE'
    >>> run("person_name", "BIRTHNAME^ALICE^ALICE BERTHE^^^^L")
    'BIRTHNAME^ALICE^BERTHE'
    """
    chosen = _choose(names, types if types is not None else site.get("name_type") or ())
    return _dicom(_read(chosen, 1)) if chosen else ""


def _staff(one: Field) -> _Name:
    """XCN, or - where the first component has subcomponents (NDL, CNN) - the name inside it."""
    return _read(one.component(1), 2) if one.nested(1) else _read(one, 2)


@function("field")
def staff_name(people: list[Field]) -> str:
    """The first person of a field (XCN, NDL) as DICOM PN. In an NDL the name's parts are subcomponents.

    >>> run("staff_name", "0210^TEST^AARON^A^^DR^MD")
    'TEST^AARON^A^DR^MD'
    >>> run("staff_name", "0210&TEST&AARON^202601061000^^ROOM1")
    'TEST^AARON'
    """
    for one in people:
        if name := _dicom(_staff(one)):
            return name
    return ""


@function("field")
def staff_names(people: list[Field]) -> list[str]:
    """Every person of a field (XCN, NDL) as DICOM PN.

    >>> run("staff_names", "1^TEST^ONE~2^TEST^TWO")
    ['TEST^ONE', 'TEST^TWO']
    """
    return [name for name in map(_dicom, map(_staff, people)) if name]


@function("field")
def human_name(names: list[Field]) -> list[dict[str, Any]]:
    """Every name of a patient (XPN) as FHIR HumanName.

    >>> run("human_name", "TEST^ALICE^BERTHE^III^DR^MD^L")
    [{'use': 'official', 'family': 'TEST', 'given': ['ALICE', 'BERTHE'], 'prefix': ['DR'], 'suffix': ['III', 'MD']}]
    """
    return [name for one in names if (name := _fhir(_read(one, 1), _USES.get(one.text(7), "")))]


@function("field")
def staff_human_name(people: list[Field]) -> list[dict[str, Any]]:
    """The first person of a field (XCN, NDL) as a list with one FHIR HumanName.

    >>> run("staff_human_name", "0210^TEST^AARON^^^DR")
    [{'family': 'TEST', 'given': ['AARON'], 'prefix': ['DR']}]
    """
    found = (_fhir(_staff(one), "") for one in people)
    return [name for name in found if name][:1]


@function("field")
def display_name(people: list[Field]) -> str:
    """The first person of a field (XCN, NDL) as people write it: prefix, given names, family name, suffix.

    >>> run("display_name", "0210^TEST^AARON^^^DR")
    'DR AARON TEST'
    """
    for one in people:
        name = _staff(one)
        if name.family or name.given:
            parts = (name.prefix, name.given, _middle(name), name.family, name.suffix, name.degree)
            return " ".join(part for part in parts if part)
    return ""


def _fhir(name: _Name, use: str) -> dict[str, Any]:
    if not (name.family or name.given):
        return {}
    whole = {
        "use": use,
        "family": name.family,
        "given": [part for part in (name.given, _middle(name)) if part],
        "prefix": [name.prefix] if name.prefix else [],
        "suffix": [part for part in (name.suffix, name.degree) if part],
    }
    return {key: value for key, value in whole.items() if value}
