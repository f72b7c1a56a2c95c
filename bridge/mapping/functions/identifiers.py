"""Identifiers: HL7 CX and EI to DICOM attributes and FHIR Identifier. An identifier is its number and its issuer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote

from bridge.codecs import fhir
from bridge.mapping.fields import Field
from bridge.mapping.functions.registry import Site, function, unusable

_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"


def _chosen(ids: list[Field], issuer: str, otherwise: str, site: Site) -> Field | None:
    """The repetition of the wanted assigning authority (CX-4, by name or by OID)."""
    present = [one for one in ids if one.text(1)]
    wanted = issuer or str(site.get("patient_id_issuer") or "")
    for one in present:
        if not wanted or wanted in (one.text(4, 1), one.text(4, 2)):
            return one
    if not present:
        return None
    if otherwise == "first":
        return present[0]
    raise unusable(
        f"there is no identifier of the assigning authority {wanted}",
        "have the sender add it, or change the site's patient_id_issuer",
        "unknown_key",
    )


@function("field")
def patient_id(
    ids: list[Field], *, issuer: str = "", otherwise: Literal["refuse", "first"] = "refuse", site: Site
) -> str:
    """The number of a patient (CX): of ``issuer``, else of the site's ``patient_id_issuer``, else the first one.

    Where the wanted authority gave none: refused, or the first one with ``otherwise: first``.

    >>> run("patient_id", "111^^^SSN~222^^^HOSP", issuer="HOSP")
    '222'
    """
    one = _chosen(ids, issuer, otherwise, site)
    return one.text(1) if one else ""


@function("field")
def patient_id_issuer(
    ids: list[Field], *, issuer: str = "", otherwise: Literal["refuse", "first"] = "refuse", site: Site
) -> str:
    """The assigning authority of the number that patient_id chooses: its name, else its OID.

    >>> run("patient_id_issuer", "222^^^HOSP&1.2.3&ISO")
    'HOSP'
    """
    one = _chosen(ids, issuer, otherwise, site)
    return (one.text(4, 1) or one.text(4, 2)) if one else ""


@function("field")
def other_patient_ids(
    ids: list[Field], *, issuer: str = "", otherwise: Literal["refuse", "first"] = "refuse", site: Site
) -> list[dict[str, Any]]:
    """Items of Other Patient IDs Sequence: every number but the one that patient_id chooses.

    >>> run("other_patient_ids", "111^^^SSN~222^^^HOSP", issuer="HOSP")
    [{'PatientID': '111', 'IssuerOfPatientID': 'SSN', 'TypeOfPatientID': 'TEXT'}]
    """
    chosen, items = _chosen(ids, issuer, otherwise, site), []
    for one in ids:
        if one is not chosen and one.text(1):
            by = one.text(4, 1) or one.text(4, 2)
            item = {"PatientID": one.text(1), "IssuerOfPatientID": by, "TypeOfPatientID": "TEXT"}
            items.append({key: value for key, value in item.items() if value})
    return items


@function("field")
def number_and_issuer(ids: list[Field], *, site: Site) -> str:
    """An order, accession or other entity identifier (EI) as ``number^issuer``.

    The issuer is the namespace, else the universal id, else the site's ``order_issuer``.

    >>> run("number_and_issuer", "A100^RIS"), run("number_and_issuer", "A100^^1.2.3^ISO")
    ('A100^RIS', 'A100^1.2.3')
    >>> run("number_and_issuer", "A100")
    'A100^'
    """
    for one in ids:
        number, namespace, universal = one.run(1, 3)
        if number:
            return f"{number}^{namespace or universal or site.get('order_issuer') or ''}"
    return ""


@function("field")
def numbers_and_issuers(ids: list[Field], *, site: Site) -> list[str]:
    """Every order, accession or other entity identifier (EI) of a field, each as number_and_issuer gives it.

    >>> run("numbers_and_issuers", "A100^RIS~A101^RIS")
    ['A100^RIS', 'A101^RIS']
    """
    return [found for one in ids if (found := number_and_issuer([one], site=site))]


@function("field")
def issuer_item(ids: list[Field]) -> list[dict[str, Any]]:
    """The issuer of an EI as the one item of a DICOM issuer sequence (HL7v2 Hierarchic Designator, PS3.3 10.14).

    >>> run("issuer_item", "A100^RIS^1.2.3^ISO")
    [{'LocalNamespaceEntityID': 'RIS', 'UniversalEntityID': '1.2.3', 'UniversalEntityIDType': 'ISO'}]
    """
    for one in ids:
        number, namespace, universal, kind = one.run(1, 4)
        if number:
            item = {"LocalNamespaceEntityID": namespace} if namespace else {}
            if universal:
                item |= {"UniversalEntityID": universal, "UniversalEntityIDType": kind}
            return [{key: value for key, value in item.items() if value}] if item else []
    return []


def system_of(name: str, universal: str, kind: str, site: Site) -> str:
    """The FHIR system of an assigning authority: its OID, else what the site says, else one of our own for it."""
    known = (site.get("authorities") or {}).get(name or universal)
    if known:
        return str(known)
    if universal.isascii() and universal.replace(".", "").isdigit():
        return f"urn:oid:{universal}"
    return _own_system(str(site.get("name", "")), name or universal or kind)


@lru_cache(maxsize=1024)
def _own_system(site: str, name: str) -> str:
    return f"urn:radbridge:{quote(site, safe='')}:{quote(name, safe='')}"


def _pairs(ids: list[Field], form: str, kind: str, site: Site) -> list[tuple[str, str, str]]:
    """System, number and type code of each identifier that has a number."""
    found = []
    for one in ids:
        if number := one.text(1):
            name, universal = (one.text(4, 1), one.text(4, 2)) if form == "CX" else (one.text(2), one.text(3))
            found.append((system_of(name, universal, kind, site), number, one.text(5) if form == "CX" else ""))
    return found


@function("field")
def fhir_identifier(
    ids: list[Field], *, form: Literal["CX", "EI"] = "CX", kind: str = "id", type: str = "", site: Site
) -> list[dict[str, Any]]:
    """Every identifier of a field as FHIR Identifier. ``form``: CX for people and visits, EI for orders.

    The system is the authority's OID, else what the site's ``authorities`` says, else one made of the site's name and
    the authority (or ``kind``, where there is no authority). ``type`` is a code of table 0203, else CX-5.

    >>> run("fhir_identifier", "222^^^HOSP&1.2.3&ISO^PI")[0]["system"]
    'urn:oid:1.2.3'
    >>> run("fhir_identifier", "A100^RIS", form="EI", type="ACSN") == [{
    ...     "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
    ...     "system": "urn:radbridge:here:RIS", "value": "A100"}]
    True
    """
    found = []
    for system, number, coded in _pairs(ids, form, kind, site):
        code = type or coded
        typed = {"type": {"coding": [{"system": _TYPES, "code": code}]}} if code else {}
        found.append({**typed, "system": system, "value": number})
    return found


@function("field")
def fhir_token(
    ids: list[Field], *, form: Literal["CX", "EI"] = "CX", kind: str = "id", issuer: str = "", site: Site
) -> str:
    """The identifier as a FHIR search token ``system|value``; for ``identify:``.

    With several repetitions: the one of ``issuer``, else of the site's ``patient_id_issuer`` (CX only), else the first.

    >>> run("fhir_token", "111^^^SSN~222^^^HOSP", issuer="HOSP")
    'urn:radbridge:here:HOSP|222'
    """
    one = _chosen(ids, issuer, "refuse", site) if form == "CX" else next((one for one in ids if one.text(1)), None)
    if one is None:
        return ""
    (system, number, _), *_ = _pairs([one], form, kind, site)
    return fhir.token(system, number)


@function("text")
def derived_identifier(*texts: str, kind: str, site: Site) -> list[dict[str, Any]]:
    """A FHIR Identifier made of texts that together name something; empty if one of them is missing.

    Its system is one of our own for this ``kind`` of thing at this site.

    >>> run("derived_identifier", "A100", "3", kind="observation")
    [{'system': 'urn:radbridge:here:observation', 'value': 'A100/3'}]
    """
    return [{"system": system_of("", "", kind, site), "value": "/".join(texts)}] if all(texts) else []


@function("text")
def derived_token(*texts: str, kind: str, site: Site) -> str:
    """The search token of a derived_identifier of the same texts; for ``identify:``.

    >>> run("derived_token", "A100", "3", kind="observation")
    'urn:radbridge:here:observation|A100/3'
    """
    return fhir.token(system_of("", "", kind, site), "/".join(texts)) if all(texts) else ""
