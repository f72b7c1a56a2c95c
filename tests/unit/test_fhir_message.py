"""FHIR as what mappings and routes read: headers, paths, references, data types."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.codecs.fhir_message import FhirMessage, parse_fhir
from bridge.codecs.fhir_paths import compile_fhir_path, is_fhir_path
from bridge.codecs.formats import FORMATS, read_any
from bridge.codecs.hl7v2 import parse
from bridge.errors import CodecError, SettingsError
from bridge.mapping import compile_all, compile_condition
from tests.rigs.need import REPOSITORY

SAMPLES = REPOSITORY / "mappings" / "samples"
SITE = {"name": "demo-hospital", "timezone": "Europe/Paris"}
Json = dict[str, Any]
PATIENT = {
    "resourceType": "Patient",
    "id": "7",
    "identifier": [{"system": "urn:radbridge:demo-hospital:HOSP", "value": "4711"}],
    "name": [
        {"use": "usual", "family": "TESTUSED"},
        {"use": "official", "family": "TESTPATIENT", "given": ["HÉLÈNE", "MARIE"], "prefix": ["MME"]},
    ],
    "birthDate": "1970-01-02",
}


def message(document: Json) -> FhirMessage:
    return parse_fhir(json.dumps(document).encode())


def order(**more: Any) -> Json:
    return {"resourceType": "ServiceRequest", "status": "active", "intent": "order"} | more


def bundle(*resources: Json, kind: str = "transaction") -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": [{"resource": one} for one in resources]}


def done(method: str, url: str, resource: Json | None = None) -> Json:
    entry: Json = {"request": {"method": method, "url": url}} | ({"resource": resource} if resource else {})
    return {"resourceType": "Bundle", "type": "batch", "entry": [entry]}


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (order(), "ServiceRequest"),
        (done("POST", "ServiceRequest", order()), "ServiceRequest^create"),
        (done("PUT", "ServiceRequest/5", order()), "ServiceRequest^update"),
        (done("PUT", "ServiceRequest?identifier=a|b", order()), "ServiceRequest^update"),
        (done("DELETE", "Patient/5"), "Patient^delete"),
        (bundle(order(), PATIENT), "Bundle^transaction"),
        (bundle(order(), kind="collection"), "Bundle^collection"),
    ],
)
def test_a_message_is_called_by_what_is_done_to_what(document: Json, kind: str) -> None:
    assert message(document).header.type == kind


def test_patients_and_orders_are_the_same_keys_as_in_hl7() -> None:
    """Given the same patient and order in both languages."""
    hl7 = parse(
        b"MSH|^~\\&|RIS|DEMO|||20260106080000||ORM^O01|1|P|2.5.1\rPID|||4711^^^HOSP~9^^^&1.2.3&ISO\r"
        b"ORC|NW|P1^HIS|F1^RIS\rOBR||P1^HIS|F1^RIS|X||||||||||||||A1\r"
    )
    typed = [("PLAC", "HIS", "P1"), ("FILL", "RIS", "F1"), ("ACSN", "accession", "A1")]
    numbers = [
        {"type": {"coding": [{"code": code}]}, "system": f"urn:radbridge:demo-hospital:{by}", "value": value}
        for code, by, value in typed
    ]
    patient = PATIENT | {"identifier": [*PATIENT["identifier"], {"system": "urn:oid:1.2.3", "value": "9"}]}

    fhir = message(bundle(patient, order(identifier=numbers, subject={"reference": "Patient/7"})))

    assert fhir.header.patients == hl7.header.patients == ("4711^HOSP", "9^1.2.3")
    assert fhir.header.orders == hl7.header.orders
    assert fhir.header.accession == hl7.header.accession


def test_a_patient_who_is_only_referred_to_is_a_key_all_the_same() -> None:
    assert message(order(subject={"reference": "Patient/7/_history/2"})).header.patients == ("Patient/7^",)
    logical = {"identifier": {"system": "urn:oid:1.2.3", "value": "9"}}
    assert message(order(subject=logical)).header.patients == ("9^1.2.3",)
    replaced = PATIENT | {"link": [{"type": "replaced-by", "other": {"reference": "Patient/8"}}]}
    assert message(replaced).header.patients == ("4711^HOSP", "Patient/8^")


def test_what_a_resend_changes_is_not_in_the_digest() -> None:
    first = message(order(meta={"lastUpdated": "2026-01-05T08:00:00Z"}, id="5"))
    again = message({"id": "5", **order(meta={"lastUpdated": "2026-01-05T09:00:00Z"})})
    other = message(order(id="5", status="revoked", meta={"lastUpdated": "2026-01-05T08:00:00Z"}))

    assert first.header.digest == again.header.digest != other.header.digest


@pytest.mark.parametrize(
    ("raw", "at"),
    [
        (b"", ""),
        (b"MSH|^~\\&|", ""),
        (b"[1]", ""),
        (b"{}", "resourceType"),
        (b'{"resourceType": "Pateint"}', "resourceType"),
        (b'{"resourceType": ["Patient"]}', "resourceType"),
        (
            b'{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": {}}}]}',
            "Bundle.entry[0].resource.resourceType",
        ),
        (b'{"resourceType": "Patient", "x": NaN}', ""),
        (b'{"resourceType": "Patient", "id": "\\ud800"}', ""),
        (b'{"resourceType": "Bundle", "entry": 1}', "Bundle.entry"),
        (b'{"resourceType": "Bundle", "entry": [1]}', "Bundle.entry[0]"),
        (b'{"resourceType": "Bundle", "entry": [{"resource": []}]}', "Bundle.entry[0].resource.resourceType"),
        (b'{"resourceType": "Patient", "x": ' + b"[" * 120 + b"]" * 120 + b"}", ""),
        (b'{"resourceType": "Patient", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    ],
)
def test_what_is_no_message_is_refused_with_its_place(raw: bytes, at: str) -> None:
    with pytest.raises(CodecError) as error:
        FORMATS["fhir"].read(raw, "")
    assert error.value.at == at
    assert error.value.fix


def test_paths_read_elements_choices_and_what_is_referred_to() -> None:
    given = message(
        bundle(
            PATIENT,
            order(
                id="1",
                subject={"reference": "Patient/7"},
                occurrenceDateTime="2026-01-06T09:30:00.12345Z",
                code={"coding": [{"system": "http://loinc.org", "code": "24725-4"}, {"code": "CTHEAD"}]},
            ),
            {"resourceType": "Appointment", "basedOn": [{"reference": "ServiceRequest/1"}], "status": "cancelled"},
            {"resourceType": "Appointment", "basedOn": [{"reference": "ServiceRequest/1"}], "start": "2026-01-07"},
        )
    )

    read = {
        "ServiceRequest.status": ["active"],
        "ServiceRequest.occurrence": ["20260106093000.1234+0000"],
        "ServiceRequest.code": ["24725-4", "CTHEAD"],
        "ServiceRequest.code.coding[system=http://loinc.org].code": ["24725-4"],
        "ServiceRequest.subject -> Patient.name[use=official].given": ["HÉLÈNE", "MARIE"],
        "ServiceRequest.subject -> Patient.name[1].family": ["TESTPATIENT"],
        "ServiceRequest.subject -> Group.name": [],
        "ServiceRequest <- Appointment[basedOn].status": ["cancelled"],
        "ServiceRequest <- Appointment[basedOn][status!=cancelled].start": ["20260107"],
        "Patient.birthDate": ["19700102"],
        "Observation": [],
        "Patient": ["Patient/7"],
    }
    assert {path: given.all(path) for path in read} == read


def test_contained_conditional_and_logical_references_lead_somewhere() -> None:
    contained = order(contained=[PATIENT | {"id": "p"}], subject={"reference": "#p"})
    conditional = order(subject={"reference": "Patient?identifier=urn:radbridge:demo-hospital:HOSP|4711"})
    logical = order(subject={"identifier": {"system": "urn:oid:1.2.3", "value": "9"}})
    path = "ServiceRequest.subject -> Patient.identifier.value"

    assert message(contained).get(path) == "4711"
    assert message(bundle(PATIENT, conditional)).get(path) == "4711"
    assert message(logical).get(path) == "9"
    assert message(conditional).references == ["Patient?identifier=urn:radbridge:demo-hospital:HOSP|4711"]


def test_the_id_of_what_is_only_being_made_names_nothing() -> None:
    """Servers give a created resource an id of their own: its number may be that of another one."""
    made = done("POST", "Patient", PATIENT)
    made["entry"].append({"resource": order(subject={"reference": "Patient/7"})})

    there = message(made)
    assert there.references == ["Patient/7"]
    assert there.named == []

    made["entry"][0]["fullUrl"] = "http://client.example/fhir/Patient/7"
    assert message(made).all("ServiceRequest.subject -> Patient.identifier") == ["4711"]


def test_a_name_that_two_servers_use_for_two_patients_means_neither() -> None:
    given = bundle(PATIENT, {**PATIENT, "identifier": []}, order(subject={"reference": "Patient/7"}), kind="collection")
    for entry, server in zip(given["entry"], ("one", "other"), strict=False):
        entry["fullUrl"] = f"http://{server}.example/fhir/Patient/7"

    assert message(given).references == ["Patient/7"]


def test_what_is_known_besides_is_followed_into() -> None:
    given = message(order(subject={"reference": "Patient/7"}, requester={"reference": "PractitionerRole/1"}))
    assert given.references == ["Patient/7", "PractitionerRole/1"]

    role = {"resourceType": "PractitionerRole", "id": "1", "practitioner": {"reference": "Practitioner/2"}}
    person = {"resourceType": "Practitioner", "id": "2", "name": [{"family": "TEST", "given": ["AARON"]}]}
    known = given.knowing({"Patient/7": PATIENT, "PractitionerRole/1": role, "Practitioner/2": person})

    assert known.get("ServiceRequest.subject -> Patient.birthDate") == "19700102"
    assert known.er7("ServiceRequest.requester", SITE) == ["^TEST^AARON"]
    assert known.references == []
    assert given.er7("ServiceRequest.subject -> Patient.name", SITE) == []


@pytest.mark.parametrize(
    ("path", "value", "er7"),
    [
        ("Patient.identifier", {"system": "urn:oid:1.2.3", "value": "9"}, "9^^^&1.2.3&ISO"),
        ("Patient.identifier", {"system": "http://ids.example", "value": "9"}, "9^^^&http://ids.example&URI"),
        ("Patient.identifier", {"system": "urn:gam", "value": "9"}, "9^^^GAM"),
        ("ServiceRequest.identifier", {"system": "urn:radbridge:x:RIS%20A", "value": "F1"}, "F1^RIS A"),
        ("ServiceRequest.identifier", {"system": "urn:radbridge:x:placer", "value": "F1"}, "F1"),
        (
            "Patient.name",
            {"use": "official", "family": "A^B", "given": ["C", "D"], "suffix": ["III"]},
            "A\\S\\B^C^D^III^^^L",
        ),
        ("ServiceRequest.requester", {"display": "DR AARON TEST"}, "^DR AARON TEST"),
        (
            "ServiceRequest.code",
            {"coding": [{"system": "http://snomed.info/sct", "code": "1", "display": "x"}]},
            "1^x^SCT",
        ),
        ("ServiceRequest.code", {"text": "only text"}, "^only text"),
        ("Patient.address", {"use": "home", "line": ["1 rue", "B"], "city": "X"}, "1 rue^B^X^^^^H"),
        ("Patient.telecom", {"system": "email", "value": "a@b.example"}, "^NET^Internet^a@b.example"),
        (
            "DiagnosticReport.presentedForm",
            {"contentType": "application/pdf", "data": "JVBERi0="},
            "^AP^PDF^Base64^JVBERi0=",
        ),
    ],
)
def test_data_types_have_the_form_of_hl7(path: str, value: Json, er7: str) -> None:
    kind, element = path.split(".")
    several = element not in ("requester", "code")
    given = message({"resourceType": kind, element: [value] if several else value})

    assert given.er7(path, {**SITE, "authorities": {"GAM": "urn:gam"}}) == [er7]


def test_a_slice_sees_its_own_element_first() -> None:
    given = message(
        bundle(
            order(id="1", identifier=[{"value": "A"}, {"value": "B"}]),
            order(id="2", identifier=[{"value": "C"}]),
        )
    )

    orders = given.split("ServiceRequest")
    numbers = [
        one.get("ServiceRequest.identifier.value") for each in orders for one in each.split("ServiceRequest.identifier")
    ]

    assert [one.all("ServiceRequest.identifier.value") for one in orders] == [["A", "B"], ["C"]]
    assert numbers == ["A", "B", "C"]
    assert orders[1].split("ServiceRequest.identifier")[0].get("ServiceRequest.id") == "2"
    first = orders[0].split("ServiceRequest.identifier")[0]
    assert [first.get(path) for path in ("ServiceRequest.identifier[1].value", "ServiceRequest[1].id")] == ["B", "2"]


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("Patient.nam", "did you mean `name`"),
        ("Pateint.name", "did you mean `Patient`"),
        ("ServiceRequest.subject -> Patiant.name", "did you mean `Patient`"),
        ("Patient.name[usage=official]", "did you mean"),
        ("Patient.name[x]", "write a number from 0"),
        ("Patient.birthDate.year", "write a path"),
        ("Patient.birthDate -> Patient", "write a path"),
        ("ServiceRequest <- Appointment[baseOn]", "did you mean `basedOn`"),
    ],
)
def test_an_unknown_element_is_told_with_a_suggestion(path: str, fix: str) -> None:
    assert is_fhir_path(path)
    with pytest.raises(CodecError) as error:
        compile_fhir_path(path)
    assert fix in error.value.fix


@pytest.mark.parametrize(
    "path", ["PID-3", "Modality", "Location", "PatientName.1", "PerformedSeriesSequence[2].ProtocolName"]
)
def test_paths_of_other_formats_stay_theirs(path: str) -> None:
    assert not is_fhir_path(path)


def test_routes_choose_by_type_and_element() -> None:
    active: Any = message(done("PUT", "ServiceRequest/1", order()))
    bare: Any = message(order())
    revoked: Any = message(done("PUT", "ServiceRequest/1", order(status="revoked")))
    report: Any = message({"resourceType": "DiagnosticReport", "status": "appended"})
    wanted = compile_condition({"message": "ServiceRequest", "ServiceRequest.status": "active"}, "routes.a.when")
    updates = compile_condition({"message": "ServiceRequest^update"}, "routes.b.when")
    final = compile_condition({"report": "final"}, "routes.c.when")

    assert (wanted(active), wanted(revoked), wanted(report)) == (True, False, False)
    assert (updates(active), updates(bare)) == (True, False)
    assert (final(report), final(active)) == (True, False)


def test_a_route_that_names_no_resource_or_element_is_a_finding() -> None:
    with pytest.raises(SettingsError) as error:
        compile_condition({"message": "ServiceReqest", "ServiceRequest.state": "active"}, "routes.a.when")

    assert [one.fix for one in error.value.findings] == [
        "did you mean `ServiceRequest`?",
        "did you mean `status`?, or a $name",
    ]


def test_an_element_with_a_mistake_is_found_where_it_is_written() -> None:
    lines = ["target: hl7v2", "messages: [Patient]", "message:", "  - segment: MSH"]
    text = "\n".join([*lines, "    set: {MSH-9.1: Patient.nam, MSH-12: Patient.id}", ""])
    (finding,) = compile_all({"a.yaml": text}).findings
    assert (finding.line, finding.what) == (5, "`Patient.nam`: Patient has no element `nam`")


def test_the_same_content_sent_twice_on_purpose_is_two_messages_to_who_gets_it() -> None:
    given = message(done("PUT", "ServiceRequest/1", order()))

    assert given.knowing({}, "first").get("MSH-10") != given.knowing({}, "second").get("MSH-10")
    assert given.knowing({}, "first").get("MSH-10") == given.knowing({}, "first").get("MSH-10")


def test_who_is_known_besides_gives_the_lanes_of_hl7() -> None:
    """Given a message that only refers to its patient and order, at a site that has names for their systems."""
    order_known = order(identifier=[{"system": "http://his.example/orders", "value": "P1"}])
    patient_known = PATIENT | {"identifier": [{"system": "http://his.example/patients", "value": "4711"}]}
    given = message(
        {"resourceType": "Task", "focus": {"reference": "ServiceRequest/1"}, "for": {"reference": "Patient/7"}}
    )
    site = {**SITE, "authorities": {"HIS": "http://his.example/orders", "HOSP": "http://his.example/patients"}}

    header = given.knowing({"ServiceRequest/1": order_known, "Patient/7": patient_known}).header_at(site)

    assert header.patients == ("4711^HOSP",)
    assert header.orders == ("placer:P1^HIS",)


def test_an_identifier_that_was_merged_away_is_read_as_the_survivor() -> None:
    lines = ["target: hl7v2", "messages: [Patient]", "message:"]
    lines += ["  - segment: MSH", "    set: {MSH-9.1: {value: ADT}, MSH-12: {value: 2.5.1}}"]
    lines += ["  - segment: PID", "    copy: {PID-3: Patient.identifier}"]
    mapping = compile_all({"a.yaml": "\n".join([*lines, ""])}).mappings["a"]
    identity = {"4711^HOSP": {"survivor": "S1^HOSP", "authority": ["HOSP", "", ""]}}
    moved = {"4711^HOSP": {"survivor": "S1^NEW", "authority": ["NEW", "1.2.9", "ISO"]}}

    def made(**context: Any) -> tuple[str, tuple[str, ...]]:
        rendered = mapping.render(message(PATIENT), {"site": SITE, **context})  # type: ignore[arg-type]
        return parse(rendered.data).get("PID-3"), rendered.notes

    assert made() == ("4711^^^HOSP", ())
    number, (note,) = made(identity=identity)
    assert (number, "merged away" in note) == ("S1^^^HOSP", True)
    assert made(identity=moved)[0] == "S1^^^&1.2.9&ISO"


def test_json_is_read_as_what_it_is() -> None:
    assert isinstance(read_any((SAMPLES / "fhir_report.json").read_bytes()), FhirMessage)
    assert read_any((SAMPLES / "mpps_created.json").read_bytes()).header.type == "MPPS^CREATE"
