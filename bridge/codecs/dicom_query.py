"""The identifier of a worklist C-FIND request, read into keys (PS3.4 K.4.1.1.3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from bridge.codecs.dicom import CHARSET_TAG, tag_name
from bridge.codecs.dicom_match import Between, Exact, Key, canonical, parse_tests
from bridge.codecs.dicom_text import decode_text, is_charset
from bridge.codecs.dicom_values import UNREADABLE
from bridge.errors import CodecError

SUPPORTED = frozenset(
    """
    ScheduledProcedureStepSequence ScheduledStationAETitle ScheduledProcedureStepStartDate
    ScheduledProcedureStepStartTime Modality ScheduledPerformingPhysicianName ScheduledProcedureStepDescription
    ScheduledProcedureStepID ScheduledStationName ScheduledProcedureStepLocation ScheduledProtocolCodeSequence
    PreMedication RequestedContrastAgent ScheduledProcedureStepStatus ScheduledProcedureStepEndDate
    ScheduledProcedureStepEndTime CommentsOnTheScheduledProcedureStep ReferencedDefinedProtocolSequence
    ScheduledPerformingPhysicianIdentificationSequence
    RequestedProcedureID RequestedProcedureDescription RequestedProcedureCodeSequence StudyInstanceUID StudyDate
    StudyTime ReferencedStudySequence RequestedProcedurePriority PatientTransportArrangements
    ReasonForTheRequestedProcedure ReasonForRequestedProcedureCodeSequence RequestedProcedureComments
    RequestedProcedureLocation ConfidentialityCode ReportingPriority NamesOfIntendedRecipientsOfResults
    AccessionNumber IssuerOfAccessionNumberSequence RequestingPhysician ReferringPhysicianName RequestingService
    RequestingPhysicianIdentificationSequence ReferringPhysicianIdentificationSequence
    PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest OrderPlacerIdentifierSequence
    OrderFillerIdentifierSequence ImagingServiceRequestComments IssueDateOfImagingServiceRequest
    IssueTimeOfImagingServiceRequest OrderEnteredBy OrderEntererLocation OrderCallbackPhoneNumber
    AdmissionID IssuerOfAdmissionIDSequence CurrentPatientLocation ReferencedPatientSequence InstitutionName
    InstitutionAddress InstitutionCodeSequence AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence
    ServiceEpisodeID VisitComments
    PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID OtherPatientIDs
    OtherPatientIDsSequence OtherPatientNames PatientBirthDate PatientBirthTime PatientSex PatientAge PatientSize
    PatientWeight EthnicGroup Occupation PatientAddress PatientTelephoneNumbers PatientBirthName
    PatientMotherBirthName PatientComments ConfidentialityConstraintOnPatientDataDescription PatientState
    PregnancyStatus MedicalAlerts Allergies SpecialNeeds AdditionalPatientHistory SmokingStatus LastMenstrualDate
    PatientReligiousPreference PatientInstitutionResidence PatientSexNeutered ResponsiblePerson ResponsiblePersonRole
    ResponsibleOrganization PatientSpeciesDescription PatientBreedDescription
    CodeValue CodingSchemeDesignator CodingSchemeVersion CodeMeaning LongCodeValue URNCodeValue MappingResource
    ContextIdentifier ReferencedSOPClassUID ReferencedSOPInstanceUID LocalNamespaceEntityID UniversalEntityID
    UniversalEntityIDType IdentifierTypeCode PersonIdentificationCodeSequence ProtocolContextSequence ValueType
    ConceptNameCodeSequence ConceptCodeSequence NumericValue TextValue MeasurementUnitsCodeSequence
    """.split()  # noqa: SIM905 - a table reads better
)
"""Keys that an order, an appointment or a patient can fill (PS3.4 table K.6-1); any other makes the answer FF01."""

_STEP, _DATE = "ScheduledProcedureStepSequence", "ScheduledProcedureStepStartDate"
_CONSOLE = (
    *("AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "RequestingPhysician", "RequestedProcedureDescription", "RequestedProcedureID"),
)
_CONSOLE_STEP = (
    *("Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"),
    *("ScheduledPerformingPhysicianName", "ScheduledProcedureStepDescription", "ScheduledProcedureStepID"),
)
_ONE_VALUE = frozenset({"ST", "LT", "UT", "UR"})
_NO_MATCHING = frozenset({"DT", "OB", "OW", "UN", "FL", "FD", "AT", "OF", "OD", "OL"})
_BINARY = {"US": False, "UL": False, "SS": True, "SL": True}
"""Whether a number has a sign. None that is served has 0 among its values: clients send it for a key without one."""


@dataclass(frozen=True, slots=True)
class Query:
    """What one C-FIND asks for."""

    keys: tuple[Key, ...]
    charset: str = ""
    """SpecificCharacterSet of the request, as sent."""
    unsupported: tuple[str, ...] = ()
    """Keys that are not served: their values did not take part in matching, and answers say FF01."""

    @property
    def step(self) -> tuple[Key, ...]:
        """The keys inside ScheduledProcedureStepSequence."""
        for key in self.keys:
            if key.keyword == _STEP:
                return key.item or ()
        return ()


EVERYTHING = Query(())


def restriction(
    stations: Sequence[str] = (),
    modalities: Sequence[str] = (),
    sites: Sequence[str] = (),
    first: str = "",
    last: str = "",
) -> Query:
    """What narrows a query: any of these stations, modalities and institution names, from one date to another
    (``yyyymmdd``, both included). What is empty does not narrow."""
    step = (_one_of("ScheduledStationAETitle", stations), _one_of("Modality", modalities), _days(first, last))
    inner = tuple(key for key in step if key)
    keys = [Key(tag_of(_STEP), _STEP, "SQ", item=inner)] if inner else []
    institution = _one_of("InstitutionName", sites)
    return Query((institution, *keys) if institution else tuple(keys))


def carried_over(query: Query, first: str, today: str) -> Query:
    """A query whose dates take in ``today`` so that it finds what is since ``first`` too (``yyyymmdd``, both)."""

    def widened(key: Key) -> Key:
        spans = [test for test in key.tests if isinstance(test, Between)]
        if key.keyword == _DATE and any(span.low <= today <= (span.high or today) for span in spans):
            return replace(key, tests=(*key.tests, Between(first, today)))
        return replace(key, item=tuple(widened(one) for one in key.item)) if key.item else key

    return replace(query, keys=tuple(widened(key) for key in query.keys))


def query_by(keyword: str, value: str) -> Query:
    """All steps with this value of an attribute."""
    key = _one_of(keyword, [value])
    return Query((key,)) if key else EVERYTHING


def console_query(station: str = "", date: str = "") -> Query:
    """What a console asks: the usual return keys, its own station's AE title, and a date or a range of dates; what is
    empty is asked of any. Raises CodecError for a date that is none."""
    matching = {"ScheduledStationAETitle": station, "ScheduledProcedureStepStartDate": date}

    def keys(names: Sequence[str]) -> tuple[Key, ...]:
        vrs = [(name, dictionary_VR(name)) for name in names]
        return tuple(Key(tag_of(name), name, vr, parse_tests(vr, [matching.get(name, "")])) for name, vr in vrs)

    return Query((*keys(_CONSOLE), Key(tag_of(_STEP), _STEP, "SQ", item=keys(_CONSOLE_STEP))))


def _one_of(keyword: str, values: Sequence[str]) -> Key | None:
    vr = dictionary_VR(keyword)
    tests = tuple(Exact(canonical(vr, value)) for value in values)
    return Key(tag_of(keyword), keyword, vr, tests) if tests else None


def _days(first: str, last: str) -> Key | None:
    return Key(tag_of(_DATE), _DATE, "DA", (Between(first, last),)) if first or last else None


def tag_of(keyword: str) -> int:
    """The tag of an attribute that is in the dictionary."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return tag


def parse_query(raw: bytes, *, implicit: bool) -> Query:
    """Read a request's Identifier, little endian. Raises CodecError if it cannot be read or breaks the rules.

    Bytes that its SpecificCharacterSet does not explain match any character (PS3.4 C.2.2.2).
    """
    unsupported: list[str] = []
    try:
        identifier = read_dataset(BytesIO(raw), implicit, True)
        charset = _charset(identifier)
        keys = _keys(identifier, charset, unsupported)
    except UNREADABLE:
        raise CodecError("the identifier is no DICOM data set", fix="send it in the accepted transfer syntax") from None
    return Query(keys, charset, tuple(dict.fromkeys(unsupported)))


def _charset(identifier: Dataset) -> str:
    value = identifier.get("SpecificCharacterSet") or ""
    terms = [value] if isinstance(value, str) else [str(term) for term in value]
    text = "\\".join(term.strip() for term in terms)
    return text if is_charset(text) else "unknown"


def _keys(data: Dataset, charset: str, unsupported: list[str]) -> tuple[Key, ...]:
    keys = []
    for tag in sorted(data.keys()):
        if tag != CHARSET_TAG and tag.element != 0:
            keys.append(_key(data, tag, charset, unsupported))
    return tuple(keys)


def _key(data: Dataset, tag: BaseTag, charset: str, unsupported: list[str]) -> Key:
    raw = data.get_item(tag)
    keyword = keyword_for_tag(tag)
    known = dictionary_has_tag(tag) and not tag.is_private
    vr = dictionary_VR(tag) if known else (raw.VR or "UN")
    name = keyword or tag_name(tag)
    if keyword not in SUPPORTED:
        unsupported.append(name)
        return Key(tag, keyword or name, vr[:2] if known else "UN")
    if vr == "SQ":
        return _sequence(data, tag, charset, unsupported)
    if vr in _NO_MATCHING:
        if _bytes(raw).strip():
            unsupported.append(name)
        return Key(tag, keyword, vr)
    try:
        return Key(tag, keyword, vr, parse_tests(vr, _values(vr, _bytes(raw), charset)))
    except CodecError as error:
        raise CodecError(error.what, at=keyword, fix=error.fix) from None


def _sequence(data: Dataset, tag: BaseTag, charset: str, unsupported: list[str]) -> Key:
    keyword = keyword_for_tag(tag)
    value = data[tag].value
    items = list(value) if value else []
    if len(items) > 1:
        raise CodecError("a sequence key with several items", at=keyword, fix="send one item (PS3.4 C.2.2.2.6)")
    inner = _keys(items[0], charset, unsupported) if items else ()
    return Key(tag, keyword, "SQ", item=inner or None)


def _values(vr: str, raw: bytes, charset: str) -> list[str]:
    if vr in _BINARY:
        width = 2 if vr in ("US", "SS") else 4
        parts = (raw[at : at + width] for at in range(0, len(raw), width))
        numbers = (int.from_bytes(part, "little", signed=_BINARY[vr]) for part in parts)
        return [str(number) for number in numbers if number]
    text = decode_text(raw, charset, name=vr == "PN").rstrip(" \0")
    return [text] if vr in _ONE_VALUE else text.split("\\")


def _bytes(element: DataElement | RawDataElement) -> bytes:
    value = element.value
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode("utf-8")
