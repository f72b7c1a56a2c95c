"""Writing to the FHIR projection on SQLite and on PostgreSQL: all of a transaction or nothing, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from bridge.errors import NotFound, Refused
from bridge.fhir.interaction import interactions
from bridge.store.store import Store
from tests.rigs.fhir import NOON, Facade, bundle, create, identifier, new_facade, order, patient, put, remove, report


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    with new_facade(request, tmp_path_factory) as facade:
        yield facade


@pytest.fixture
def facade(database: Facade) -> Facade:
    """An empty projection."""
    database.clear()
    return database


def finding(value: str) -> dict[str, object]:
    amount = {"value": Decimal(value), "unit": "mm"}
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueQuantity": amount}


# one resource


def test_a_resource_is_read_as_it_was_written_with_version_and_time(facade: Facade) -> None:
    (made,) = facade.write(create(finding("12.50")))

    stored = facade.fhir.read("Observation", made.id)

    assert (made.status, made.version, made.changed) == (201, "1", True)
    assert b'"value":12.50' in stored.body
    body = facade.body("Observation", made.id)
    assert body["meta"] == {"versionId": "1", "lastUpdated": "2030-01-01T12:00:01.000Z"}
    assert (stored.version, stored.modified, stored.deleted) == ("1", NOON + 1000, False)


def test_an_update_is_a_new_version_and_the_former_one_stays(facade: Facade) -> None:
    (made,) = facade.write(create(patient(1)))

    (changed,) = facade.write(put(patient(1, id=made.id, birthDate="1980-02-04")))

    assert (changed.status, changed.version) == (200, "2")
    assert facade.body("Patient", made.id)["birthDate"] == "1980-02-04"
    assert facade.body("Patient", made.id, "1")["birthDate"] == "1980-02-03"
    assert facade.found("Patient", ("birthdate", "1980-02-03")) == []


def test_an_update_that_changes_nothing_is_no_version(facade: Facade) -> None:
    (made,) = facade.write(create(finding("12.5")))
    same = finding("12.5") | {"id": made.id, "meta": {"versionId": "7"}}

    (again,) = facade.write(put(same))
    (digits,) = facade.write(put(finding("12.50") | {"id": made.id}))

    assert (again.status, again.version, again.changed) == (200, "1", False)
    assert (digits.version, digits.changed) == ("2", True)


def test_a_client_may_name_the_id_of_what_it_makes(facade: Facade) -> None:
    (made,) = facade.write(put(patient(1, id="p1")))

    assert (made.status, made.id, made.version) == (201, "p1", "1")


def test_what_was_deleted_is_gone_keeps_its_history_and_can_come_back(facade: Facade) -> None:
    facade.write(put(patient(1, id="p1")))

    (gone,) = facade.write(remove("Patient/p1"))
    (again,) = facade.write(remove("Patient/p1"))

    assert (gone.status, gone.version, gone.changed) == (204, "2", True)
    assert (again.status, again.changed) == (204, False)
    assert facade.fhir.read("Patient", "p1").deleted
    assert facade.found("Patient") == []
    assert facade.body("Patient", "p1", "1")["birthDate"] == "1980-02-03"
    (back,) = facade.write(put(patient(1, id="p1")))
    assert (back.status, back.version) == (201, "3")
    assert facade.found("Patient", ("family", "sample1")) == ["p1"]


@pytest.mark.parametrize(
    ("kind", "name", "version"), [("Patient", "p9", ""), ("Patient", "p1", "2"), ("Task", "p1", "")]
)
def test_what_never_was_is_not_found(facade: Facade, kind: str, name: str, version: str) -> None:
    facade.write(put(patient(1, id="p1")))

    with pytest.raises(NotFound):
        facade.fhir.read(kind, name, version)


def test_time_never_goes_back_though_a_node_s_clock_does(facade: Facade) -> None:
    facade.write(put(patient(1, id="p1")))
    facade.clock = NOON - 5000

    (late,) = facade.write(put(patient(2, id="p2")))

    assert late.modified == NOON + 1000


# conditions


def test_a_conditional_create_of_what_exists_creates_nothing(facade: Facade) -> None:
    (made,) = facade.write(create(patient(1), "identifier=urn:his|P1"))

    (again,) = facade.write(create(patient(1), "identifier=urn%3Ahis%7CP1"))

    assert (again.status, again.id, again.changed) == (200, made.id, False)
    assert facade.found("Patient") == [made.id]


def test_two_conditional_creates_of_one_transaction_create_one(facade: Facade) -> None:
    entry = create(patient(1), "identifier=urn:his|P1")

    first, second = facade.write(entry, entry)

    assert (first.status, second.status) == (201, 200)
    assert first.id == second.id


def test_a_conditional_update_makes_then_updates(facade: Facade) -> None:
    (made,) = facade.write(put(order(1), "identifier=urn:placer|O1"))
    (done,) = facade.write(put(order(1, status="completed"), "identifier=urn:placer|O1"))

    assert (made.status, done.status, done.id, done.version) == (201, 200, made.id, "2")


def test_a_conditional_update_keeps_to_the_id_it_names(facade: Facade) -> None:
    (made,) = facade.write(put(order(1, id="o1"), "identifier=urn:placer|O1"))
    assert (made.status, made.id) == (201, "o1")

    with pytest.raises(Refused) as error:
        facade.write(put(order(1, id="o2"), "identifier=urn:placer|O1"))

    assert (error.value.at, error.value.face.http) == ("Bundle.entry[0].resource.id", 400)


def test_a_conditional_delete_takes_the_one_that_matches(facade: Facade) -> None:
    (made,) = facade.write(create(order(1)))

    (gone,) = facade.write(remove("ServiceRequest?identifier=urn:placer|O1"))
    (nothing,) = facade.write(remove("ServiceRequest?identifier=urn:placer|O1"))

    assert (gone.id, gone.status, gone.changed) == (made.id, 204, True)
    assert (nothing.id, nothing.status, nothing.changed) == ("", 204, False)


@pytest.mark.parametrize(
    "entry",
    [
        create(order(1), "identifier=urn:placer|O1"),
        put(order(1), "identifier=urn:placer|O1"),
        remove("ServiceRequest?identifier=urn:placer|O1"),
        put(order(1), "status=active&identifier=urn:placer|O1"),
    ],
)
def test_a_condition_that_several_meet_is_refused(facade: Facade, entry: dict[str, object]) -> None:
    facade.write(create(order(1)), create(order(1)))

    with pytest.raises(Refused) as error:
        facade.write(entry)

    assert (error.value.kind, error.value.face.http, error.value.at) == ("ambiguous", 412, "Bundle.entry[0]")


def test_an_update_of_another_version_is_refused(facade: Facade) -> None:
    facade.write(put(patient(1, id="p1")))

    with pytest.raises(Refused) as error:
        facade.write(put(patient(1, id="p1", birthDate="1980"), match="2"))

    assert (error.value.kind, error.value.face.http) == ("precondition", 412)
    assert facade.write(put(patient(1, id="p1", birthDate="1980"), match="1"))[0].version == "2"


def test_what_may_only_be_made_is_not_updated(facade: Facade) -> None:
    entry = put(patient(1, id="p1"))
    entry["request"]["ifNoneMatch"] = "*"
    facade.write(entry)

    with pytest.raises(Refused) as error:
        facade.write(put(patient(1, id="p1", birthDate="1980")) | {"request": entry["request"]})

    assert error.value.kind == "precondition"


def test_a_version_asked_of_what_is_not_there_is_refused(facade: Facade) -> None:
    with pytest.raises(Refused) as error:
        facade.write(put(patient(1, id="p1"), match="1"))

    assert error.value.kind == "precondition"


# rules of status


def test_a_client_cannot_turn_a_final_report_into_a_preliminary(facade: Facade) -> None:
    facade.write(put(report(1, "final", id="r1")))

    with pytest.raises(Refused) as error:
        facade.write(put(report(1, "preliminary", id="r1")))

    assert (error.value.kind, error.value.face.http) == ("business_rule", 422)
    assert facade.write(put(report(1, "corrected", id="r1")))[0].version == "2"


# transactions


def test_references_inside_a_transaction_point_at_what_it_made(facade: Facade) -> None:
    entries = (
        create(report(1, basedOn=[{"reference": "urn:uuid:order"}]), url="https://client.example/DiagnosticReport/x"),
        create(order(1, "urn:uuid:patient"), url="urn:uuid:order"),
        create(patient(1), "identifier=urn:his|P1", url="urn:uuid:patient"),
        create({"resourceType": "Provenance", "target": [{"reference": "DiagnosticReport/x"}]}),
    )

    done = facade.write(*entries)

    assert [one.type for one in done] == ["DiagnosticReport", "ServiceRequest", "Patient", "Provenance"]
    report_, order_, patient_, provenance = (facade.body(one.type, one.id) for one in done)
    assert report_["basedOn"] == [{"reference": f"ServiceRequest/{order_['id']}"}]
    assert order_["subject"] == {"reference": f"Patient/{patient_['id']}"}
    assert provenance["target"] == [{"reference": f"DiagnosticReport/{report_['id']}"}]


def test_a_conditional_reference_finds_what_is_there_and_what_is_made_with_it(facade: Facade) -> None:
    facade.write(put(patient(1, id="p1")))

    here, new = facade.write(
        create(order(1, "Patient?identifier=urn:his|P1")),
        create(order(2, "Patient?identifier=urn:his|P2")),
        put(patient(2, id="p2")),
    )[:2]

    assert facade.body("ServiceRequest", here.id)["subject"] == {"reference": "Patient/p1"}
    assert facade.body("ServiceRequest", new.id)["subject"] == {"reference": "Patient/p2"}


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("urn:uuid:nobody", "required"),
        ("Patient?identifier=urn:his|P9", "precondition"),
        ("Patient?name=s", "ambiguous"),
    ],
)
def test_a_reference_to_nothing_is_refused_and_nothing_is_written(facade: Facade, subject: str, kind: str) -> None:
    facade.write(put(patient(1, id="p1")), put(patient(2, id="p2")))

    with pytest.raises(Refused) as error:
        facade.write(create(patient(3)), create(order(1, subject)))

    assert error.value.kind == kind
    assert error.value.at == "Bundle.entry[1].resource (ServiceRequest.subject.reference)"
    assert len(facade.found("Patient")) == 2


def test_deletes_go_before_creates_and_updates(facade: Facade) -> None:
    facade.write(put(order(1, id="o1")))

    facade.write(create(order(2)), remove("ServiceRequest/o1"))

    assert [one.method for one in facade.fhir.changes(1, 9)] == ["DELETE", "POST"]


def test_a_resource_is_written_once_in_a_transaction(facade: Facade) -> None:
    with pytest.raises(Refused) as error:
        facade.write(put(patient(1, id="p1")), put(patient(2, id="p1")))

    assert (error.value.kind, error.value.at) == ("duplicate_key", "Bundle.entry[1]")


def test_of_many_writers_of_the_same_at_once_one_creates(facade: Facade) -> None:
    def send(_: int) -> list[str]:
        entries = (
            create(patient(1), "identifier=urn:his|P1", url="urn:uuid:p"),
            put(order(1, "urn:uuid:p"), "identifier=urn:placer|O1"),
        )
        wanted = interactions(bundle(*entries))
        second = Store(facade.store.database.url.render_as_string(hide_password=False))
        try:
            done = second.write(lambda tx: second.fhir.write(tx, wanted, message="m", at=NOON))
        finally:
            second.close()
        return [one.id for one in done]

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(send, range(8)))

    assert len({tuple(one) for one in ids}) == 1
    assert facade.fhir.newest() == 2
    assert facade.body("ServiceRequest", ids[0][1])["subject"] == {"reference": f"Patient/{ids[0][0]}"}


# history and what follows it


def test_history_tells_every_version_newest_first_page_by_page(facade: Facade) -> None:
    for birth in ("1980", "1981", "1982"):
        facade.write(put(patient(1, id="p1", birthDate=birth)))
    facade.write(put(order(1, id="o1")))
    facade.write(remove("Patient/p1"))

    first = facade.fhir.history("Patient", "p1", count=3)
    second = facade.fhir.history("Patient", "p1", count=3, cursor=first.cursor)

    assert [(one.version, one.method) for one in first.matches] == [("4", "DELETE"), ("3", "PUT"), ("2", "PUT")]
    assert ([one.version for one in second.matches], second.cursor) == (["1"], "")
    assert [one.version for one in facade.fhir.history("Patient", since=NOON + 3000).matches] == ["4", "3"]
    assert len(facade.fhir.history().matches) == 5
    with pytest.raises(NotFound):
        facade.fhir.history("Patient", "p9")
    with pytest.raises(Refused):
        facade.fhir.history(cursor="x")


def test_a_history_since_a_moment_is_all_that_came_then_and_later(facade: Facade) -> None:
    assert facade.fhir.history(since=NOON).matches == []
    for year in range(1980, 1984):
        facade.write(*(put(patient(number, id=f"p{number}", birthDate=str(year))) for number in (1, 2, 3)))

    everything = facade.fhir.history().matches

    assert len(everything) == 12
    for moment in range(NOON - 1500, NOON + 6000, 500):
        expected = [one for one in everything if one.modified >= moment]
        assert facade.fhir.history(since=moment).matches == expected


def test_changes_are_told_in_their_sequence_with_the_message_that_made_them(facade: Facade) -> None:
    facade.write(put(patient(1, id="p1")), put(order(1, id="o1")))
    seen = facade.fhir.newest()
    facade.write(put(order(1, id="o1", status="revoked")))

    (change,) = facade.fhir.changes(seen, 10)

    assert (change.type, change.id, change.version, change.message) == ("ServiceRequest", "o1", "2", f"m{facade.clock}")
    assert [one.sequence for one in facade.fhir.changes(0, 2)] == [1, 2]


def test_a_day_is_a_day_where_the_site_is(facade: Facade) -> None:
    paris = facade.fhir.at(ZoneInfo("Europe/Paris"))
    facade.write(put(order(1, id="o1", occurrenceDateTime="2030-01-01T23:30:00Z")), fhir=paris)

    asked = [("occurrence", "2030-01-02")]

    assert facade.fhir.zone == UTC
    assert [one.id for one in paris.search("ServiceRequest", asked).matches] == ["o1"]
    assert facade.fhir.search("ServiceRequest", asked).matches == []


def test_identifiers_that_are_long_or_odd_are_kept_and_found(facade: Facade) -> None:
    for number, value in enumerate(("x" * 5000, "A|1", "A,1", "nul\x00", "é\U0001f600")):
        facade.write(put(order(1, id=f"o{number}", identifier=[identifier("placer", value)])))
        said = value.replace("\\", "\\\\").replace("|", "\\|").replace(",", "\\,")

        assert facade.found("ServiceRequest", ("identifier", f"urn:placer|{said}")) == [f"o{number}"]
