"""Functions and tables on data types that they are not made for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.codecs.fhir_paths import TIME, compile_fhir_path, is_fhir_path
from bridge.codecs.paths import Path
from bridge.errors import CodecError, Finding
from bridge.lint import hl7
from bridge.lint.outline import Alternative, Line, Outline

_TEXT = ("ST", "TX", "FT", "ID", "IS")
_NAME = ("XPN", "PPN", "PN")
_STAFF = ("XCN", "CN", "CNN", "CM", "NDL", "PPN", "PRL")
_CX = ("CX", "CK", "CM", "EI", "ST")
_CODE = ("CE", "CWE", "CNE", "CF", "CM", "CQ", *_TEXT)
_NUMBER = ("EI", "EIP", "CX", "CM", *_TEXT)
_TIME = ("TS", "DTM", "DT", "TM", "TQ", "DR", "RI", "CM", "ST", "TX", "FT")
_QUANTITY = ("NM", "SN", "SI", "CQ", "CM", *_TEXT)
MADE_FOR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("person_name", "human_name", "french_names"), _NAME),
    **dict.fromkeys(("staff_name", "staff_names", "staff_human_name", "display_name"), _STAFF),
    **dict.fromkeys(("patient_id", "patient_id_issuer", "other_patient_ids", "ins_key", "ins_kinds"), _CX),
    **dict.fromkeys(("address", "birth_place"), ("XAD", "AD", "SAD")),
    "telecom": ("XTN", "TN"),
    **dict.fromkeys(("code_items", "codeable_concept", "codeable_concepts", "meaning", "meanings"), _CODE),
    **dict.fromkeys(("number_and_issuer", "numbers_and_issuers", "issuer_item"), _NUMBER),
    **dict.fromkeys(("date", "local_date", "local_time", "fhir_date", "fhir_datetime", "fhir_instant"), _TIME),
    "number": _QUANTITY,
    **dict.fromkeys(("attachments", "cda_content"), ("ED", "RP", "CM", *_TEXT)),
}
"""Data types (HL7 2.1 to 2.8) that a function understands; any, for one that is not here."""


_FORMS = {
    "Identifier": "CX", "HumanName": "XPN", "CodeableConcept": "CWE", "Coding": "CWE", "Address": "XAD",
    "ContactPoint": "XTN", "Attachment": "ED", TIME: "TS", "Quantity": "NM",
    **dict.fromkeys(("Reference", "Practitioner", "PractitionerRole", "Patient", "RelatedPerson"), "XCN"),
}  # fmt: skip
"""Data types of FHIR, and the one of HL7 as which a function gets them."""


def findings(found: Outline) -> Iterator[Finding]:
    for line in found.lines:
        yield from _function(line)
        if "table" in line.data and "as" not in line.data:
            yield from _table(line)


def _function(line: Line) -> Iterator[Finding]:
    name = str(line.data.get("as", ""))
    fitting = MADE_FOR.get(name)
    if fitting is None:
        return
    for one in (one for some in line.inputs[:1] for one in some):
        if one.path is None and is_fhir_path(one.text):
            yield from _of_fhir(one, name, fitting)
        elif one.path is not None and not hl7.any_type(one.path, lambda kind: kind.partition("_")[0] in fitting):
            kind = hl7.type_name(one.path)
            what = f"`{name}` takes {', '.join(dict.fromkeys(fitting))}, and {one.path.text} is {kind}"
            yield one.place.finding(what, _other(one.path, fitting), "warning")


def _of_fhir(one: Alternative, name: str, fitting: Sequence[str]) -> Iterator[Finding]:
    """The same for an element of FHIR, by the form in which HL7 has it; a path that is none is told by the compiler."""
    try:
        kinds = compile_fhir_path(one.text).kinds
    except CodecError:
        return
    if not any(_FORMS.get(kind, "ST") in fitting for kind in kinds):
        kind = " or ".join(dict.fromkeys(kind or "text" for kind in kinds))
        what = f"`{name}` takes {', '.join(dict.fromkeys(fitting))}, and {one.text} is {kind}"
        names = sorted(name for name, types in MADE_FOR.items() if _FORMS.get(kinds[0], "ST") in types)
        yield one.place.finding(what, f"for {kind} there are {', '.join(names[:6])}", "warning")


def _other(path: Path, fitting: tuple[str, ...]) -> str:
    """Where the function would have what it is made for: the whole field, or another function."""
    if path.component:
        whole = Path(f"{path.segment}-{path.field}", path.segment, None, path.field, None, 0, 0)
        if hl7.any_type(whole, lambda kind: kind.partition("_")[0] in fitting):
            return f"write {whole.text}, without the component"
    kind = hl7.type_name(path)
    names = sorted(name for name, types in MADE_FOR.items() if kind in types)
    return f"for {kind} there are {', '.join(names[:6])}" if names else "choose another function"


def _table(line: Line) -> Iterator[Finding]:
    """Codes are in components: a whole field with several is the text as sent, delimiters and all."""
    for one in (one for some in line.inputs for one in some):
        path = one.path
        if path is not None and not path.component and hl7.is_composite(path):
            what = f"{path.text} ({hl7.type_name(path)}) has components: a table finds none of it"
            yield one.place.finding(what, f"write {path.text}.1", "warning")
