"""What ADT messages claim about identifiers."""

from __future__ import annotations

import pytest

from bridge.codecs.adt import IdentityAct, IdentityClaim, identity_event
from bridge.codecs.hl7v2 import parse
from bridge.errors import CodecError
from tests.rigs.need import require_data


def adt(trigger: str, *segments: str) -> bytes:
    head = f"MSH|^~\\&|HIS|H|RADBRIDGE|H|20260105||ADT^{trigger}|C1|P|2.5.1"
    return "\r".join([head, "EVN||20260105", *segments, ""]).encode()


def claims(trigger: str, *segments: str) -> tuple[IdentityClaim, ...]:
    event = identity_event(parse(adt(trigger, *segments)))
    return event.claims if event else ()


def told(found: tuple[IdentityClaim, ...]) -> list[tuple[str, str, list[str], bool]]:
    """Act, identifier, candidates, and whether it is clear."""
    return [(c.act.value, c.identifier, [one.key for one in c.candidates], not c.doubt) for c in found]


@pytest.mark.parametrize("trigger", ["A18", "A30", "A34", "A36", "A40"])
def test_a_merge_retires_what_mrg_names(trigger: str) -> None:
    found = claims(trigger, "PID|||S^^^H||TEST^ALICE", "MRG|O^^^H")

    assert told(found) == [("merge", "O^H", ["S^H"], True)]


def test_a_change_of_identifier_retires_the_former_one() -> None:
    assert told(claims("A47", "PID|||N^^^H", "MRG|O^^^H")) == [("change", "O^H", ["N^H"], True)]


def test_an_identifier_that_is_withdrawn_is_changed_into_no_other_one() -> None:
    withdrawn = 'PID|||1^^^H^PI~""^^^INS-NIR&1.2.250.1.213.1.4.8&ISO^INS'

    assert claims("A47", withdrawn, "MRG|299000000000192^^^INS-NIR&1.2.250.1.213.1.4.8&ISO^INS") == ()


def test_another_identifier_in_the_same_message_is_changed_all_the_same() -> None:
    found = claims("A47", 'PID|||N^^^H~""^^^INS', "MRG|O^^^H~9^^^INS")

    assert told(found) == [("change", "O^H", ["N^H"], True)]


@pytest.mark.parametrize(("trigger", "act"), [("A39", "merge"), ("A46", "change")])
def test_a_person_is_known_by_pid_2_and_mrg_4_and_the_patients_number_may_go_with_it(trigger: str, act: str) -> None:
    alone = claims(trigger, "PID||S^^^REGION", "MRG||||O^^^REGION")
    both = claims(trigger, "PID||S^^^REGION|2^^^H", "MRG|1^^^H|||O^^^REGION")
    as_a_patient = claims(trigger, "PID|||2^^^H", "MRG|1^^^H")

    assert told(alone) == [(act, "O^REGION", ["S^REGION"], True)]
    assert told(both) == [(act, "O^REGION", ["S^REGION"], True), (act, "1^H", ["2^H"], True)]
    assert told(as_a_patient) == [(act, "1^H", ["2^H"], True)]


def test_the_lanes_of_a_merge_of_persons_are_those_of_both() -> None:
    header = parse(adt("A39", "PID||S^^^REGION|2^^^H", "MRG||||O^^^REGION")).header

    assert header.patients == ("2^H", "O^REGION", "S^REGION")


@pytest.mark.parametrize(
    ("trigger", "segments", "place"),
    [
        ("A43", ["PID||S^^^REGION|1^^^H", "MRG|1^^^H|||O^^^REGION"], "MRG-4"),
        ("A43", ["PID|||1^^^H~S^^^REGION", "MRG|1^^^H~O^^^REGION"], "MRG-1"),
        ("A44", ["PID|||2^^^H", "MRG|1^^^H||ACCOUNT"], "MRG-1"),
        ("A45", ["PID|||2^^^H", "MRG|1^^^H||||VISIT", "PV1||O"], "MRG-1"),
        ("Z01", ["PID|||2^^^H", "MRG|1^^^H"], "MRG-1"),
    ],
)
def test_an_event_about_two_patients_that_takes_no_effect_is_told(
    trigger: str, segments: list[str], place: str
) -> None:
    event = identity_event(parse(adt(trigger, *segments)))

    assert event is not None
    assert [claim for claim in event.claims if claim.act is not IdentityAct.KNOWN] == []
    assert event.remark.startswith(f"{place} names another patient, and {trigger} changes no identifier")


@pytest.mark.parametrize("trigger", ["A35", "A41", "A42", "A49", "A50"])
def test_an_event_about_accounts_or_visits_of_one_patient_needs_no_remark(trigger: str) -> None:
    assert identity_event(parse(adt(trigger, "PID|||1^^^H", "MRG|1^^^H||ACCOUNT"))) is None


def test_the_trigger_of_an_old_message_stands_in_evn() -> None:
    raw = b"MSH|^~\\&|HIS|H|R|H|2026||ADT|C1|P|2.2\rEVN|A18|2026\rPID|||S^^^H\rMRG|O^^^H\r"

    event = identity_event(parse(raw))

    assert event is not None
    assert told(event.claims) == [("merge", "O^H", ["S^H"], True)]


def test_identifiers_are_matched_by_issuer_whatever_their_sequence() -> None:
    found = claims("A40", "PID|||1^^^SSN~2^^^H&1.2&ISO", "MRG|3^^^H~4^^^SSN")

    merges = [claim for claim in found if claim.act is IdentityAct.MERGE]
    assert told(tuple(merges)) == [("merge", "3^H", ["2^H"], True), ("merge", "4^SSN", ["1^SSN"], True)]
    assert merges[0].candidates[0].authority == ("H", "1.2", "ISO")


def test_the_issuer_of_an_identifier_without_a_namespace_is_its_oid() -> None:
    assert told(claims("A40", "PID|||S^^^&1.2.3&ISO", "MRG|O^^^&1.2.3&ISO")) == [
        ("merge", "O^1.2.3", ["S^1.2.3"], True)
    ]


def test_of_several_identifiers_of_one_issuer_the_type_decides() -> None:
    found = claims("A40", "PID|||1^^^H^PI~2^^^H^AN", "MRG|3^^^H^AN")

    assert told(found) == [("merge", "3^H", ["2^H"], True)]


def test_several_candidates_of_one_type_are_for_a_person() -> None:
    found = claims("A40", "PID|||1^^^H^PI~2^^^H^PI", "MRG|3^^^H^PI")

    assert told(found) == [("merge", "3^H", ["1^H", "2^H"], False)]


def test_identifiers_of_different_authorities_are_for_a_person() -> None:
    assert told(claims("A47", "PID|||1^^^H", "MRG|2^^^OTHER")) == [("change", "2^OTHER", ["1^H"], False)]


def test_what_the_retired_patient_had_at_another_authority_is_the_survivors() -> None:
    found = claims("A40", "PID|||S^^^H", "MRG|O^^^H~9^^^SSN")

    assert told(found) == [("merge", "O^H", ["S^H"], True), ("known", "9^SSN", ["S^H"], True)]


def test_two_identifiers_in_pid_and_none_in_mrg_are_for_a_person() -> None:
    assert told(claims("A40", "PID|||A^^^H~B^^^H")) == [("merge", "", ["A^H", "B^H"], False)]


def test_both_identifiers_in_pid_are_clear_when_mrg_says_which_is_retired() -> None:
    assert told(claims("A40", "PID|||O^^^H~S^^^H", "MRG|O^^^H")) == [("merge", "O^H", ["S^H"], True)]


def test_an_identifier_merged_into_itself_claims_nothing() -> None:
    assert claims("A40", "PID|||S^^^H", "MRG|S^^^H") == ()


def test_every_group_of_a_merge_is_a_claim() -> None:
    found = claims("A40", "PID|1||S1^^^H", "MRG|O1^^^H", "PID|2||S2^^^H", "PD1|", "MRG|O2^^^H")

    assert told(found) == [("merge", "O1^H", ["S1^H"], True), ("merge", "O2^H", ["S2^H"], True)]


@pytest.mark.parametrize(("trigger", "act"), [("A24", "link"), ("A37", "unlink")])
def test_a_link_and_its_end_are_about_two_patients(trigger: str, act: str) -> None:
    found = claims(trigger, "PID|1||A^^^H", "PV1||O", "PID|2||B^^^CLINIC")

    assert told(found) == [(act, "A^H", ["B^CLINIC"], True)]


def test_any_adt_tells_which_identifiers_are_one_patients() -> None:
    found = claims("A08", "PID|||1^^^H~2^^^SSN~3^^^H~4^^^LAB")

    assert told(found) == [("known", "1^H", ["2^SSN"], True), ("known", "1^H", ["4^LAB"], True)]


@pytest.mark.parametrize(
    "raw",
    [
        adt("A08", "PID|||1^^^H"),
        adt("A08", 'PID|||""~^^^H'),
        b"MSH|^~\\&|RIS|R|B|H|2026||ORM^O01|C1|P|2.5.1\rPID|||1^^^H~2^^^SSN\rMRG|3^^^H\r",
    ],
    ids=["one identifier", "none", "no ADT"],
)
def test_other_messages_claim_nothing(raw: bytes) -> None:
    assert identity_event(parse(raw)) is None


@pytest.mark.parametrize(
    ("trigger", "segments", "place"),
    [
        ("A40", ["PID|||S^^^H"], "MRG-1"),
        ("A40", ["PID|||S^^^H", "MRG|"], "MRG-1"),
        ("A40", ["PID|||S^^^H~1^^^SSN", "MRG|"], "MRG-1"),
        ("A40", ["PID|1||S^^^H", "MRG|O^^^H", "PID|2||T^^^H"], "MRG(2)-1"),
        ("A40", ["PID|||", "MRG|O^^^H"], "PID-3"),
        ("A40", ["MRG|O^^^H"], "PID"),
        ("A39", ["PID||S^^^REGION", "MRG|"], "MRG-4"),
        ("A46", ["PID|||S^^^H", "MRG||||O^^^REGION"], "PID-2"),
        ("A24", ["PID|||A^^^H"], "PID(2)-3"),
        ("A37", ["PID|1||", "PID|2||B^^^H"], "PID(1)-3"),
    ],
)
def test_an_act_that_names_nobody_is_refused_with_place_and_fix(trigger: str, segments: list[str], place: str) -> None:
    with pytest.raises(CodecError) as caught:
        claims(trigger, *segments)

    assert caught.value.at == place
    assert caught.value.kind == "required"
    assert caught.value.fix


def test_an_identifier_too_long_to_be_kept_is_refused() -> None:
    with pytest.raises(CodecError) as caught:
        claims("A40", f"PID|||{'9' * 300}^^^H", "MRG|O^^^H")

    assert (caught.value.at, caught.value.kind) == ("PID-3", "datatype")


def test_the_identifiers_of_a_claim_are_those_of_the_header() -> None:
    message = parse(adt("A40", r"PID|||S\T\1 ^^^H &1.2&ISO", "MRG| O^^^H"))

    (claim,) = identity_event(message).claims  # type: ignore[union-attr]

    assert (claim.candidates[0].key, claim.identifier) == message.header.patients


# the published samples

PUBLISHED: dict[str, list[tuple[str, str, list[str], bool]]] = {
    "dcm4che/ADT_A40-PatientMerge.hl7": [("merge", "OLD_PID_1^ADT1", ["NEW_PID_1^ADT1"], True)],
    "fhir-converter/ADT-A40-01.hl7": [("merge", "56789^BCBS", ["12345^BCBS"], True)],
    "fhir-converter/ADT-A47-01.hl7": [("change", "MR102^BCBS", ["MR101^GOOD HEALTH HOSPITAL"], False)],
    **{
        f"fhir-converter/ADT-A{number}-01.hl7": [("known", "PATID1234^test1", ["123456789^USSSA"], True)]
        for number in ("01", "02", "03", "04", "05", "08", "11", "13", "28", "31")
    },
}


def test_every_published_adt_message_is_in_the_table() -> None:
    folder = require_data("hl7")

    assert {path.relative_to(folder).as_posix() for path in folder.rglob("ADT*.hl7")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_adt_message_claims_what_it_says(name: str) -> None:
    event = identity_event(parse(require_data("hl7", name).read_bytes()))

    assert event is not None
    assert told(event.claims) == PUBLISHED[name]


def test_an_identifier_that_no_database_could_hold_is_refused_where_it_is() -> None:
    with pytest.raises(CodecError, match="NUL") as caught:
        claims("A40", "PID|||S^^^H", "MRG|O\\X00\\1^^^H")
    assert caught.value.at == "MRG-1"
