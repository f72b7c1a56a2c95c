"""France: the national health identity (INS), names, birth places and CDA documents as French messages carry them.

IHE France PAM National Extension 2.11 (6.6: PID-3, PID-5, PID-11, PID-32), FR Core (Interop'Santé), CI-SIS (ANS).
"""

from __future__ import annotations

import base64
import re
from typing import Any, NamedTuple

from bridge.mapping.fields import Field
from bridge.mapping.functions.attachments import attachments
from bridge.mapping.functions.identifiers import fhir_identifier
from bridge.mapping.functions.names import human_name
from bridge.mapping.functions.registry import Site, function

_CORE = "https://hl7.fr/ig/fhir/core"
_TYPES = f"{_CORE}/CodeSystem/fr-core-cs-v2-0203"
_GIVEN_NAMES = f"{_CORE}/StructureDefinition/fr-core-patient-birth-list-given-name"
_INSEE = f"{_CORE}/StructureDefinition/fr-core-address-insee-code"
_TOWNS = "https://mos.esante.gouv.fr/NOS/TRE_R13-CommuneOM/FHIR/TRE-R13-CommuneOM"
_BIRTH_PLACE = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace"


class _Ins(NamedTuple):
    kind: str
    code: str
    use: str


_AUTHORITIES = {
    "1.2.250.1.213.1.4.8": _Ins("NIR", "INS-NIR", "official"),
    "1.2.250.1.213.1.4.9": _Ins("NIA", "INS-NIA", "temp"),
    "1.2.250.1.213.1.4.10": _Ins("TEST", "INS-NIR-TEST", "official"),
    "1.2.250.1.213.1.4.11": _Ins("DEMO", "INS-NIR-DEMO", "official"),
}
"""Who assigns an INS (CX-4.2), as FR Core codes it."""
_BILLING = "NH"
"""The type (CX-5) of a social security number for billing, which may have the same authority and is no INS."""
_NUMBER = re.compile(r"[0-9]{5}(?:[0-9]{2}|2[AB])[0-9]{8}")
_CORSICA = {"2A": "19", "2B": "18"}
"""Departments of Corsica as they count in the key."""


def _ins(one: Field) -> _Ins | None:
    return _AUTHORITIES.get(one.text(4, 2)) if one.text(1) and one.text(5) != _BILLING else None


@function("field")
def ins_kinds(ids: list[Field]) -> list[str]:
    """The kinds of INS among identifiers (CX), by the OID of their authority: NIR, NIA, TEST, DEMO.

    >>> run("ins_kinds", "1^^^HOSP^PI~2^^^INS&1.2.250.1.213.1.4.10&ISO^INS~3^^^SS&1.2.250.1.213.1.4.8&ISO^NH")
    ['TEST']
    """
    return [found.kind for one in ids if (found := _ins(one))]


@function("field")
def ins_key(ids: list[Field]) -> str:
    """Whether every INS among identifiers (CX) has 15 characters and the right key: right, wrong, or nothing.

    The key is 97 less the number modulo 97; 2A and 2B (Corsica) count as 19 and 18.

    >>> run("ins_key", "299002A00000164^^^INS&1.2.250.1.213.1.4.8&ISO^INS"), run("ins_key", "1^^^HOSP^PI")
    ('right', '')
    >>> run("ins_key", "1^^^INS&1.2.250.1.213.1.4.8&ISO^INS")
    'wrong'
    """
    numbers = [one.text(1) for one in ids if _ins(one)]
    if not numbers:
        return ""
    return "right" if all(map(_has_right_key, numbers)) else "wrong"


def _has_right_key(number: str) -> bool:
    if not _NUMBER.fullmatch(number):
        return False
    place = number[5:7]
    return 97 - int(number[:5] + _CORSICA.get(place, place) + number[7:13]) % 97 == int(number[13:])


@function("field")
def french_identifiers(ids: list[Field], status: list[Field], *, site: Site) -> list[dict[str, Any]]:
    """Identifiers (PID-3, and PID-32 beside it) as FHIR Identifier, as FR Core codes them.

    An INS only where PID-32 holds VALI: otherwise no receiver may have it.

    >>> ins = "299000000000192^^^INS&1.2.250.1.213.1.4.8&ISO^INS"
    >>> run("french_identifiers", ins, "VALI")[0]["type"]["coding"][0]["code"]
    'INS-NIR'
    >>> run("french_identifiers", f"1^^^HOSP^PI~{ins}", "PROV")[0]["value"], len(run("french_identifiers", ins, ""))
    ('1', 0)
    >>> run("french_identifiers", "1^^^HOSP^PI", "PROV")[0]["value"]
    '1'
    """
    qualified = any(one.text(1) == "VALI" for one in status)
    found = []
    for one in ids:
        ins = _ins(one)
        if ins is None:
            found += fhir_identifier([one], kind="patient", site=site)
        elif qualified:
            typed = {"coding": [{"system": _TYPES, "code": ins.code}]}
            found.append({"use": ins.use, "type": typed, "system": f"urn:oid:{one.text(4, 2)}", "value": one.text(1)})
    return found


@function("field")
def french_names(names: list[Field]) -> list[dict[str, Any]]:
    """Names (XPN) as FHIR HumanName: the birth name (type L) with all given names of the birth certificate (XPN-3).

    >>> run("french_names", "TEST^ALICE^ALICE BERTHE^^^^L")[0]["extension"][0]["valueString"]
    'ALICE BERTHE'
    """
    found = []
    for one in names:
        for name in human_name([one]):
            listed = one.text(3) if one.text(7) == "L" else ""
            extension = {"extension": [{"url": _GIVEN_NAMES, "valueString": listed}]} if listed else {}
            found.append({**extension, **name})
    return found


@function("field")
def birth_place(places: list[Field]) -> list[dict[str, Any]]:
    """The birth place among addresses (XAD of type BDL, its INSEE code in component 9) as a FHIR extension.

    >>> run("birth_place", "1 rue du Test^^PARIS^^75007^FRA^H~^^TESTVILLE^^^FRA^BDL^^99999")[0]["valueAddress"]["city"]
    'TESTVILLE'
    """
    for one in places:
        code, town, country = one.text(9), one.text(3), one.text(6)
        if one.text(7) == "BDL" and (code or town or country):
            coded = [{"url": _INSEE, "valueCoding": {"system": _TOWNS, "code": code}}] if code else []
            whole = {"extension": coded, "city": town, "country": country}
            return [{"url": _BIRTH_PLACE, "valueAddress": {key: value for key, value in whole.items() if value}}]
    return []


_BODY = re.compile(rb"<(?:\w{1,60}:)?nonXMLBody\b")
_MEDIA_TYPE = re.compile(rb"\bmediaType\s{0,9}=\s{0,9}[\"']([\w/+.-]{1,60})[\"']")
_NEAR = 2000
"""Bytes after the start of the body in which its media type is looked for."""
_FORMATS = {
    "application/pdf": "urn:ihe:iti:xds-sd:pdf:2008",
    "text/plain": "urn:ihe:iti:xds-sd:text:2008",
    "text/rtf": "urn:ihe:iti-fr:xds-sd:rtf:2010",
    "image/jpeg": "urn:ihe:iti-fr:xds-sd:jpeg:2010",
}
"""Media type of the body of a CDA document of level 1 -> its XDS format code (ANS, ASS_A12)."""
_FORMAT_SYSTEM = "https://mos.esante.gouv.fr/NOS/TRE_A11-IheFormatCode/FHIR/TRE-A11-IheFormatCode"


@function("field")
def cda_content(documents: list[Field]) -> list[dict[str, Any]]:
    """CDA R2 documents (ED) as they are, as content of a FHIR DocumentReference.

    Of a document of level 1 also its XDS format code, by the media type of its body; that of other levels is not in
    the message.

    >>> cda = "PENsaW5pY2FsRG9jdW1lbnQ+PG5vblhNTEJvZHk+PHRleHQgbWVkaWFUeXBlPSJhcHBsaWNhdGlvbi9wZGYiLz4="
    >>> (content,) = run("cda_content", f"^text^XML^Base64^{cda}")
    >>> content["attachment"]["contentType"], content["attachment"]["data"] == cda, content["format"]["code"]
    ('text/xml', True, 'urn:ihe:iti:xds-sd:pdf:2008')
    >>> run("cda_content", "^text^XML^Base64^PENsaW5pY2FsRG9jdW1lbnQvPg==")
    [{'attachment': {'contentType': 'text/xml', 'data': 'PENsaW5pY2FsRG9jdW1lbnQvPg=='}}]
    """
    found = []
    for content in attachments(documents, inside="attachment"):
        document = base64.b64decode(content["attachment"]["data"])
        body = _BODY.search(document)
        kind = _MEDIA_TYPE.search(document, body.end(), body.end() + _NEAR) if body else None
        code = _FORMATS.get(kind[1].decode().lower()) if kind else None
        found.append({**content, "format": {"system": _FORMAT_SYSTEM, "code": code}} if code else content)
    return found
