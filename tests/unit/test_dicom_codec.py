"""DICOM text, values, queries and answers, without a network or a store."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence

from bridge.codecs.dicom import Encoding, answer, entry, missing, problems, write
from bridge.codecs.dicom_match import matches
from bridge.codecs.dicom_query import SUPPORTED, parse_query
from bridge.codecs.dicom_text import Unfit, charset, decode_text, encode_text, transliterate
from bridge.errors import CodecError
from tests.rigs.worklist import attributes, encoded, identifier, query


def hit(item: dict[str, Any], step: dict[str, Any] | None = None, **keys: Any) -> bool:
    return matches(query("ISO_IR 192", step, **keys).keys, item)


def answered(item: dict[str, Any], encoding: Encoding, step: dict[str, Any] | None = None, **keys: Any) -> Dataset:
    """What a caller reads of the answer."""
    raw = write(answer(item, query("ISO_IR 192", step, **keys).keys, encoding), implicit=encoding.implicit)
    return read_dataset(BytesIO(raw), encoding.implicit, True)


# characters


@pytest.mark.parametrize(
    ("text", "term", "raw"),
    [
        ("LEFÈVRE^ÉLODIE", "ISO_IR 100", "LEFÈVRE^ÉLODIE".encode("latin_1")),
        ("LŒILLET^€", "ISO_IR 203", "LŒILLET^€".encode("iso8859_15")),
        ("ИВАНОВ^ТЕСТ", "ISO_IR 144", "ИВАНОВ^ТЕСТ".encode("iso8859_5")),
        ("ΔΟΚΙΜΗ^ΤΕΣΤ", "ISO_IR 126", "ΔΟΚΙΜΗ^ΤΕΣΤ".encode("iso8859_7")),
        ("王^測試", "GB18030", "王^測試".encode("gb18030")),
        ("YAMADA^TAROU=山田^太郎", "\\ISO 2022 IR 87", b"YAMADA^TAROU=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
    ],
)
def test_a_name_is_written_in_the_set_that_is_asked_for_and_read_back_the_same(
    text: str, term: str, raw: bytes
) -> None:
    assert encode_text(text, term, name=True) == raw
    assert decode_text(raw, term, name=True) == text


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("ŁUKASZ", "ISO_IR 100"),
        ("É", ""),
        ("é", "ISO_IR 6"),
        ("é", "\\ISO 2022 IR 87"),
        ("山", "ISO_IR 100"),
        ("山", "ISO_IR 13"),
    ],
)
def test_a_character_that_the_set_lacks_is_refused_and_never_replaced(text: str, term: str) -> None:
    with pytest.raises(Unfit):
        encode_text(text, term)


@given(st.text(max_size=20), st.sampled_from(["", "ISO_IR 100", "ISO_IR 203", "\\ISO 2022 IR 87", "\\ISO 2022 IR 149"]))
def test_whatever_is_encoded_can_be_read_back(text: str, term: str) -> None:
    try:
        raw = encode_text(text, term)
    except Unfit:
        return
    assert decode_text(raw, term) == text


def test_only_letters_that_the_set_lacks_are_transliterated() -> None:
    assert transliterate("Łukasz Dupré Œuvrard", "ISO_IR 100") == "Lukasz Dupré OEuvrard"
    assert transliterate("Łukasz Dupré", "") == "Lukasz Dupre"
    assert transliterate("山田", "ISO_IR 100") == "山田"


@pytest.mark.parametrize("term", ["LATIN1", "ISO_IR 999", "ISO_IR 100\\ISO_IR 192", "ISO 2022 IR 6\\ISO_IR 192"])
def test_an_unknown_or_misplaced_character_set_is_a_settings_error(term: str) -> None:
    with pytest.raises(CodecError) as caught:
        charset(term)
    assert caught.value.kind == "settings"


# values


def test_a_complete_item_has_no_problem() -> None:
    item = attributes()
    assert problems(item) == []
    assert missing(item) == []


@pytest.mark.parametrize(
    ("keyword", "value", "what"),
    [
        ("AccessionNumber", "A" * 17, "longer than the 16 characters of SH"),
        ("PatientSex", "m", "not a CS"),
        ("PatientBirthDate", "19700231", "not a date"),
        ("PatientBirthDate", "1970.02.01", "a form that DICOM retired"),
        ("StudyInstanceUID", "1.02.3", "not a UI"),
        ("PatientName", "A^B^C^D^E^F", "more than 3 groups or 5 components in a name"),
        ("PatientName", "A" * 65, "longer than the 64 characters of a name's group"),
        ("PatientID", "12\\34", "a backslash, which separates values"),
        ("PatientID", "12\n34", "a control character"),
        ("PatientID", ["1", "2"], "2 values where 1 is allowed"),
        ("PregnancyStatus", "65536", "no number that fits US"),
        ("PatientWeight", "70 kg", "not a DS"),
        ("PatientNickname", "X", "no such DICOM attribute"),
        ("ReferencedStudySequence", "1.2.3", "a sequence needs a list of items"),
    ],
)
def test_a_value_that_could_not_be_sent_is_named_with_its_place(keyword: str, value: Any, what: str) -> None:
    (problem,) = problems(attributes(**{keyword: value}))
    assert (problem.at, problem.what) == (keyword, what)


def test_problems_inside_a_step_are_named_by_their_path() -> None:
    (problem,) = problems(attributes(step={"ScheduledStationAETitle": "A_TITLE_THAT_IS_TOO_LONG"}))
    assert problem.at == "ScheduledProcedureStepSequence.ScheduledStationAETitle"


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "StudyInstanceUID", "RequestedProcedureID"])
def test_a_type_1_return_key_without_value_is_missing(keyword: str) -> None:
    assert [problem.at for problem in missing(attributes(**{keyword: " "}))] == [keyword]


def test_an_item_without_a_step_lacks_all_of_the_steps_type_1_keys() -> None:
    lacking = missing(attributes(ScheduledProcedureStepSequence=[]))
    assert len(lacking) == 5
    assert all(problem.at.startswith("ScheduledProcedureStepSequence.") for problem in lacking)


def test_every_supported_key_is_in_the_dictionary() -> None:
    assert [keyword for keyword in SUPPORTED if entry(keyword) is None] == []


# matching


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("LEFÈVRE^ÉLODIE", True),
        ("lefèvre^élodie", True),
        ("lefevre^elodie", True),
        ("LEFÈVRE", False),
        ("LEFÈVRE^*", True),
        ("LEFÈVRE^ÉLODIE^^^", True),
        ("lef*", True),
        ("*ELODIE", True),
        ("LEF?VRE^*", True),
        ("LEF??VRE^*", False),
        ("*^*", True),
        ("*", True),
        ("", True),
        ("DUPONT*", False),
    ],
)
def test_names_match_without_regard_to_case_and_accents(pattern: str, found: bool) -> None:
    assert hit(attributes(PatientName="LEFÈVRE^ÉLODIE"), PatientName=pattern) is found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("YAMADA^*", True),
        ("山田*", True),
        ("やまだ^たろう", True),
        ("=山田^*", True),
        ("YAMADA^TAROU=山田^太郎=やまだ^たろう", True),
        ("=YAMADA^*", False),
        ("YAMADA*==さとう*", False),
    ],
)
def test_a_name_matches_in_any_component_group_or_in_the_one_that_is_given(pattern: str, found: bool) -> None:
    assert hit(attributes(PatientName="YAMADA^TAROU=山田^太郎=やまだ^たろう"), PatientName=pattern) is found


@pytest.mark.parametrize(
    ("pattern", "found"), [("A12", True), ("a12", False), ("A*", True), ("A?2", True), ("A?", False), ("A1", False)]
)
def test_other_text_matches_with_regard_to_case(pattern: str, found: bool) -> None:
    assert hit(attributes(12), AccessionNumber=pattern) is found


@pytest.mark.parametrize(
    ("day", "found"),
    [
        ("20260105", True),
        ("20260104-20260106", True),
        ("20260105-", True),
        ("-20260105", True),
        ("20260106-", False),
        ("2026.01.05", True),
        ("20260101\\20260105", True),
    ],
)
def test_dates_match_by_value_range_and_list(day: str, found: bool) -> None:
    assert hit(attributes(), {"ScheduledProcedureStepStartDate": day}) is found


@pytest.mark.parametrize(
    ("time", "found"),
    [
        ("0930", True),
        ("093000", True),
        ("09", True),
        ("0931", False),
        ("0800-0930", True),
        ("0931-", False),
        ("-0929", False),
        ("09:30:00", True),
    ],
)
def test_times_match_to_the_precision_that_is_given(time: str, found: bool) -> None:
    assert hit(attributes(), {"ScheduledProcedureStepStartTime": time}) is found


def test_a_date_range_and_a_time_range_are_one_range_of_moments() -> None:
    # Given a step on the middle day, earlier than the range's first hour
    item = attributes(step={"ScheduledProcedureStepStartDate": "20260706", "ScheduledProcedureStepStartTime": "0700"})
    # When three days are asked for, from ten in the morning of the first to six in the evening of the last
    keys = {"ScheduledProcedureStepStartDate": "20260705-20260707", "ScheduledProcedureStepStartTime": "1000-1800"}
    # Then it is inside, and steps before and after these moments are not
    assert hit(item, keys)
    for day, time in (("20260705", "0959"), ("20260707", "1801")):
        outside = {"ScheduledProcedureStepStartDate": day, "ScheduledProcedureStepStartTime": time}
        assert not hit(attributes(step=outside), keys)


def test_several_values_match_if_any_does() -> None:
    item = attributes(step={"ScheduledStationAETitle": ["CT1", "CT2"]})
    assert hit(item, {"ScheduledStationAETitle": "MR1\\CT2", "Modality": "MR\\CT"})
    assert not hit(item, {"ScheduledStationAETitle": "MR1\\MR2"})
    assert hit(item, StudyInstanceUID=["1.2.3", "1.2.826.0.1.1"])


def test_an_unknown_value_matches_universal_keys_only() -> None:
    item = attributes(AccessionNumber="")
    assert hit(item, AccessionNumber="")
    assert not hit(item, AccessionNumber="?*")


def test_nested_sequences_match_when_one_item_matches_all_its_keys() -> None:
    codes = [
        {"CodeValue": "CTT", "CodingSchemeDesignator": "99A"},
        {"CodeValue": "CTA", "CodingSchemeDesignator": "99B"},
    ]
    item = attributes(step={"ScheduledProtocolCodeSequence": codes})
    both, mixed = Dataset(), Dataset()
    both.CodeValue, both.CodingSchemeDesignator = "CTA", "99B"
    mixed.CodeValue, mixed.CodingSchemeDesignator = "CTA", "99A"
    assert hit(item, {"ScheduledProtocolCodeSequence": Sequence([both])})
    assert not hit(item, {"ScheduledProtocolCodeSequence": Sequence([mixed])})


# requests


@pytest.mark.parametrize("implicit", [True, False])
def test_a_request_is_read_in_its_own_character_set(implicit: bool) -> None:
    raw = encoded(identifier("ISO_IR 144", PatientName="ИВАНОВ*"), implicit=implicit)
    parsed = parse_query(raw, implicit=implicit)
    assert parsed.charset == "ISO_IR 144"
    assert matches(parsed.keys, attributes(PatientName="Иванов^Тест"))


def test_a_byte_that_the_declared_set_does_not_explain_matches_any_character() -> None:
    # Given a scanner that sends Latin-1 and declares nothing
    data = identifier()
    data.add_new("PatientName", "PN", "LEF*")
    raw = encoded(data).replace(b"LEF*", "LÉF*".encode("latin_1"))
    # Then its query finds the name, and not another
    parsed = parse_query(raw, implicit=True)
    assert matches(parsed.keys, attributes(PatientName="LÉFEBVRE"))
    assert not matches(parsed.keys, attributes(PatientName="MARTIN"))


def test_absent_empty_and_one_item_sequences_differ() -> None:
    item = attributes()
    absent = answered(item, Encoding(), PatientName="")
    empty = answered(item, Encoding(), ScheduledProcedureStepSequence=Sequence([]))
    one = answered(item, Encoding(), {"Modality": ""})
    assert "ScheduledProcedureStepSequence" not in absent
    assert len(empty.ScheduledProcedureStepSequence[0]) == 6
    assert [element.keyword for element in one.ScheduledProcedureStepSequence[0]] == ["Modality"]


def test_a_sequence_key_with_two_items_is_refused() -> None:
    with pytest.raises(CodecError) as caught:
        query(ScheduledProcedureStepSequence=Sequence([Dataset(), Dataset()]))
    assert caught.value.at == "ScheduledProcedureStepSequence"


@pytest.mark.parametrize("keys", [{"PatientBirthDate": "TODAY"}, {"PatientBirthDate": "-"}])
def test_a_date_key_that_is_no_date_is_refused_with_its_place(keys: dict[str, str]) -> None:
    data = identifier()
    data.add_new("PatientBirthDate", "LO", keys["PatientBirthDate"])
    with pytest.raises(CodecError) as caught:
        parse_query(encoded(data), implicit=True)
    assert caught.value.at == "PatientBirthDate"


def test_keys_that_are_not_served_are_named_and_do_not_take_part_in_matching() -> None:
    parsed = query(PatientName="TEST*", QueryRetrieveLevel="STUDY", step={"Manufacturer": "X"})
    assert parsed.unsupported == ("QueryRetrieveLevel", "Manufacturer")
    assert matches(parsed.keys, attributes())


REQUEST = encoded(
    identifier("ISO_IR 100", {"Modality": "CT", "ScheduledProcedureStepStartDate": "20260101-"}, PregnancyStatus=4)
)


@given(st.lists(st.tuples(st.integers(0, len(REQUEST) - 1), st.integers(0, 255)), max_size=5), st.booleans())
def test_a_damaged_request_is_a_query_or_a_codec_error(damage: list[tuple[int, int]], implicit: bool) -> None:
    raw = bytearray(REQUEST)
    for place, byte in damage:
        raw[place] = byte
    try:
        assert isinstance(parse_query(bytes(raw), implicit=implicit).keys, tuple)
    except CodecError as error:
        assert error.what


# answers


def test_every_requested_key_comes_back_even_when_empty_and_nothing_else() -> None:
    data = answered(attributes(), Encoding(), {"Modality": "", "PreMedication": ""}, PatientID="", PatientState="")
    assert [element.keyword for element in data] == [
        "SpecificCharacterSet", "PatientID", "PatientState", "ScheduledProcedureStepSequence"
    ]  # fmt: skip
    assert (data.PatientID, data.PatientState) == ("P1", "")
    step = data.ScheduledProcedureStepSequence[0]
    assert (step.Modality, step.PreMedication) == ("CT", "")


def test_of_a_sequence_only_the_items_that_match_come_back() -> None:
    ids = [{"PatientID": "X1", "IssuerOfPatientID": "A"}, {"PatientID": "X2", "IssuerOfPatientID": "B"}]
    wanted = Dataset()
    wanted.IssuerOfPatientID = "B"
    data = answered(attributes(OtherPatientIDsSequence=ids), Encoding(), OtherPatientIDsSequence=Sequence([wanted]))
    assert [item.IssuerOfPatientID for item in data.OtherPatientIDsSequence] == ["B"]
    assert "PatientID" not in data.OtherPatientIDsSequence[0]


@pytest.mark.parametrize("implicit", [True, False])
def test_values_of_every_kind_survive_both_transfer_syntaxes(implicit: bool) -> None:
    item = attributes(
        PregnancyStatus="4", PatientWeight="70.5", MedicalAlerts=["éclats", "pacemaker"], PatientComments="a\nb"
    )
    wanted = {
        "PregnancyStatus": None,
        "PatientWeight": None,
        "MedicalAlerts": "",
        "PatientComments": "",
        "PatientName": "",
    }
    data = answered(item, Encoding(implicit=implicit), StudyInstanceUID="", **wanted)
    assert (data.PregnancyStatus, data.PatientWeight, data.PatientComments) == (4, 70.5, "a\nb")
    assert list(data.MedicalAlerts) == ["éclats", "pacemaker"]
    assert data.StudyInstanceUID == "1.2.826.0.1.1"
    assert data.PatientName == "TEST00001^ÉLODIE"


def test_a_name_that_does_not_fit_the_callers_set_is_refused_by_default() -> None:
    with pytest.raises(Unfit) as caught:
        answered(attributes(PatientName="ŁUKASZ^TEST"), Encoding("ISO_IR 100"), PatientName="")
    assert caught.value.at == "PatientName"


def test_what_was_not_asked_for_need_not_fit() -> None:
    data = answered(attributes(PatientName="ŁUKASZ^TEST"), Encoding("ISO_IR 100"), PatientID="")
    assert data.PatientID == "P1"


def test_transliteration_by_policy_keeps_what_fits_and_drops_groups_that_cannot_be_spelled() -> None:
    item = attributes(PatientName="ŁUKASZ^ÉLODIE=山田^太郎")
    data = answered(item, Encoding("ISO_IR 100", "transliterate"), PatientName="")
    assert data.PatientName == "LUKASZ^ÉLODIE"


def test_a_name_without_any_plain_spelling_is_refused_even_by_the_transliterating_policy() -> None:
    with pytest.raises(Unfit):
        answered(attributes(PatientName="山田^太郎"), Encoding("ISO_IR 100", "transliterate"), PatientName="")


def test_the_default_repertoire_is_not_declared() -> None:
    item = attributes(PatientName="TEST^ELODIE")
    assert "SpecificCharacterSet" not in answered(item, Encoding("ISO_IR 6"), PatientName="")
