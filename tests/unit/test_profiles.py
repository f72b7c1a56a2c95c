"""Message profiles: what each kind of rule finds, where, as what; and what is wrong with a profile itself."""

from __future__ import annotations

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.lint import findings_of
from bridge.mapping import Profile, compile_all, run_cases
from bridge.settings import from_files
from tests.rigs.need import REPOSITORY

ORDER = (
    b"MSH|^~\\&|RIS|R|BRIDGE|B|20260102030405||ORM^O01|C1|P|2.5.1\r"
    b"PID|1||A1^^^HOSP^PI~B2^^^NAT^NI||TESTONE^ALICE||19800101|X\r"
    b"ORC|NW|P1\r"
    b"OBR|1|P1||CT^CT head||||||||||||||A1234567890123456||||||CT\r"
    b"ORC|NW|P2\r"
    b"OBR|2|||MR^MR head||||||||||||||A2||||||MRI\r"
    b'ZZZ|""|x\r'
)
TABLES = {"tables/modality.csv": "code,modality\nCT,CT\nMR,MR\n"}


def compiled(rules: str, head: str = "profile: Orders\nmessages: [ORM]\n") -> Profile:
    found = compile_all({"p.yaml": f"{head}rules:\n{rules}", **TABLES})
    assert [str(one) for one in found.findings] == []
    return found.profiles["p"]


def faults(rules: str, message: bytes = ORDER, **parts: str) -> list[tuple[str, str, str]]:
    found = compiled(rules, **parts).faults(parse(message), {"site": {"name": "here"}})
    return [(one.at, one.kind, one.what) for one in found]


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ("  - require: [PID-3, ORC, OBR]", []),
        ("  - require: [PV1]", [("PV1", "syntax", "required segment PV1 missing")]),
        ("  - require: [PID-11, ZZZ-1]", [
            ("PID-11", "required", "required PID-11 missing"), ("ZZZ-1", "required", "required ZZZ-1 missing")]),
        ("  - require: [ORC-3 | ORC-2, 'PID-3[4.1=NAT].1']", []),
        ("  - require: [ORC-3 | OBR-3]", [("ORC(1)-3", "required", "required ORC-3 | OBR-3 missing")]),
        ("  - {each: OBR, require: [OBR-2]}", [("OBR(2)-2", "required", "required OBR-2 missing")]),
        ("  - forbid: [PID-19, IN1]", []),
        ("  - forbid: [PID-7, ZZZ]", [
            ("PID-7", "datatype", "PID-7 is not allowed here"), ("ZZZ", "syntax", "segment ZZZ is not allowed here")]),
        ("  - only: {PID-8: [F, M]}", [("PID-8", "code", "PID-8 is none of F, M")]),
        ("  - only: {PID-3.5: [PI]}", [("PID-3[2].5", "code", "PID-3.5 is none of PI")]),
        ("  - only: {PID-99: [x]}", []),
        ("  - table: {OBR-24: modality}", [("OBR(2)-24", "code", "OBR-24 is not in table modality")]),
        ("  - max: {OBR-18: 16}", [("OBR-18", "datatype", "OBR-18 is 17 characters long and may have 16")]),
        ("  - pattern: {OBR-18: 'A[0-9]'}", [("OBR-18", "datatype", "OBR-18 does not match A[0-9]")]),
        ("  - {holds: {PID-8: [F, M]}, at: PID-8, what: the sex is needed}", [
            ("PID-8", "datatype", "the sex is needed")]),
        ("  - {holds: {PID-8: X}, at: PID-8, what: never}", []),
        ("  - {when: {PID-8: F}, require: [PV1]}", []),
        ("  - {when: {$who: here}, require: [PV1], let: {who: context.site.name}}", [
            ("PV1", "syntax", "required segment PV1 missing")]),
    ],
)  # fmt: skip
def test_a_rule_finds_what_breaks_it_at_its_place(rules: str, wanted: list[tuple[str, str, str]]) -> None:
    assert faults(rules + "\n") == wanted


def test_a_rule_may_say_what_is_wrong_of_which_kind_and_how_to_mend_it() -> None:
    (fault,) = compiled("  - {require: [PV1], kind: event, what: no visit, fix: register it}").faults(parse(ORDER), {})

    assert (fault.what, fault.kind, fault.face.hl7, fault.fix) == ("no visit", "event", "201", "register it")


def test_messages_that_a_profile_is_not_for_have_no_faults() -> None:
    assert faults("  - require: [PV1]\n", head="profile: Reports\nmessages: [ORU^R01]\n") == []


def test_a_value_that_cannot_be_read_is_a_fault_of_its_own() -> None:
    rules = "  - {let: {m: {from: OBR(2)-24, table: modality}}, when: {$m: present}, require: [PV1]}\n"

    ((at, kind, what),) = faults(rules)

    assert (at, kind) == ("OBR(2)-24", "code")
    assert "no row" in what


def test_no_fault_shows_what_the_message_holds() -> None:
    rules = """\
  - only: {PID-5.1: [x], PID-8: [F]}
    table: {PID-3.1: modality}
    max: {PID-5: 2}
    pattern: {PID-7: x}
    forbid: [PID-3]
"""
    told = " ".join(str(one) for one in compiled(rules).faults(parse(ORDER), {}))

    assert told.count("; fix:") == 8
    assert not [secret for secret in ("TESTONE", "ALICE", "A1 ", "19800101") if secret in told]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("profile: P\nmessages: [ORM]\n", "p.yaml:1:1", "`rules` lists what must hold"),
        ("profile: P\nmessages: [ORM]\nrules: []\n", "p.yaml:3:1", "`rules` lists what must hold"),
        ("profile:\nmessages: [ORM]\nrules: [{require: PID}]\n", "p.yaml:1:1", "`profile` is the profile's title"),
        ("profile: P\nrules: [{require: PID}]\n", "p.yaml:1:1", "`messages` is missing"),
        ("profile: P\nmessages: [ORM^o01]\nrules: [{require: PID}]\n", "p.yaml:2:1", "`ORM^o01` is no message type"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - when: {PID-8: F}\n", "p.yaml:4:5", "a rule says what must hold"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - requires: [PID-3]\n", "p.yaml:4:5", "unknown key `requires`"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - require: [PID-X]\n", "p.yaml:4:15", "`PID-X`: not a path"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - only: {PIX8: [F]}\n", "p.yaml:4:12", "`PIX8`: not a path"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - only: {PID-8: [true]}\n", "p.yaml:4:12", "`only` lists values"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - table: {PID-8: sexes}\n", "p.yaml:4:13", "unknown table `sexes`"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - max: {PID-8: long}\n", "p.yaml:4:11", "`max` is a number"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - pattern: {PID-8: '('}\n", "p.yaml:4:15", "not a regular expression"),
        (
            "profile: P\nmessages: [ORM]\nrules:\n  - holds: {PID-8: F}\n",
            "p.yaml:4:5",
            "`holds` needs `at:` and `what:`",
        ),
        ("profile: P\nmessages: [ORM]\nrules:\n  - {require: PID, kind: requird}\n", "p.yaml:4:20", "unknown kind"),
        ("profile: P\nmessages: [ORM]\nrules:\n  - only: [PID-8]\n", "p.yaml:4:5", "`only` is a mapping of places"),
    ],
)
def test_a_mistake_in_a_profile_is_told_at_its_place(text: str, place: str, what: str) -> None:
    found = compile_all({"p.yaml": text})

    told = [str(one) for one in found.findings]
    assert any(line.startswith(place) and what in line for line in told), told
    assert not found.profiles


CASES = "profile: P\nmessages: [ORM]\nrules: [{require: [PV1, PID-11]}]\n"


@pytest.mark.parametrize(
    ("expected", "difference"),
    [
        ("[{at: PV1, kind: syntax}, {at: PID-11}]", ""),
        ("{at: PV1}", "the message has a fault: required PID-11 missing at PID-11"),
        ("[{at: PV1}, {at: PID-11}, {at: PID-8}]", 'expected a fault {"at": "PID-8"}'),
        ("[]", "the message has a fault: required segment PV1"),
    ],
)
def test_a_case_of_a_profile_names_every_fault(expected: str, difference: str) -> None:
    case = f"- {{name: it, given: samples/o.hl7, expect_faults: {expected}}}\n"

    (result,) = run_cases({"x/p.yaml": CASES, "x/p.cases.yaml": case}, {"samples/o.hl7": ORDER})

    assert (result.mapping, result.ok) == ("x/p", not difference)
    assert difference in "\n".join(result.differences)


def test_a_case_of_a_profile_has_no_result_to_expect() -> None:
    case = "- {name: it, given: samples/o.hl7, expect: {PID-3: x}}\n"

    (result,) = run_cases({"p.yaml": CASES, "p.cases.yaml": case}, {"samples/o.hl7": ORDER})

    assert any("unknown key `expect`" in one for one in result.differences)
    assert any("add `expect_faults:`" in one for one in result.differences)


EDIT = "target: hl7v2\nmessages: [ORM]\nedits:\n  - set: {PID-8: {value: O}, MSH-5: {value: PACS}}\n"
LAST = "target: hl7v2\nmessages: [ORM^O01]\nedits:\n  - {when: {PID-8: O}, set: {PID-8: {value: F}}}\n"


def test_steps_are_taken_one_after_the_other() -> None:
    chain = "steps: [site/first, last]\n"
    found = compile_all({"site/first.yaml": EDIT, "last.yaml": LAST, "a.yaml": chain})

    rendered = found.mappings["a"].render(parse(ORDER), {})

    assert found.findings == []
    assert found.mappings["a"].messages == ("ORM^O01",)
    assert parse(rendered.data).get("PID-8") == "F"
    assert parse(rendered.data).get("MSH-5") == "PACS"


def test_steps_that_change_nothing_leave_every_byte() -> None:
    nothing = "target: hl7v2\nmessages: [ORM]\nedits:\n  - {when: {PID-8: F}, remove: ZZZ}\n"
    found = compile_all({"n.yaml": nothing, "m.yaml": nothing, "a.yaml": "steps: [n, m]\n"})

    assert found.mappings["a"].render(parse(ORDER), {}).data == ORDER


@pytest.mark.parametrize(
    ("chain", "place", "what"),
    [
        ("steps: [first]\n", "a.yaml:1:1", "`steps` lists mappings"),
        ("steps: first\n", "a.yaml:1:1", "`steps` lists mappings"),
        ("steps: [first, lst]\n", "a.yaml:1:16", "no mapping `lst`"),
        ("steps: [first, a]\n", "a.yaml:1:16", "no mapping `a` of its own"),
        ("steps: [list, first]\n", "a.yaml:1:9", "`list` does not give HL7"),
        ("steps: [first, last]\nmessages: [ORM]\n", "a.yaml:2:1", "unknown key `messages`"),
    ],
)
def test_a_mistake_in_steps_is_told_at_its_place(chain: str, place: str, what: str) -> None:
    worklist = (REPOSITORY / "mappings" / "adt-to-worklist.yaml").read_text()
    tables = {"tables/sex.csv": (REPOSITORY / "mappings" / "tables" / "sex.csv").read_text()}

    found = compile_all({"first.yaml": EDIT, "last.yaml": LAST, "list.yaml": worklist, "a.yaml": chain, **tables})

    told = [str(one) for one in found.findings]
    assert any(line.startswith(place) and what in line for line in told), told
    assert "a" not in found.mappings


SITE = """\
site: {name: test-site, timezone: Europe/Paris}
channels:
  inbox: {type: file-in, folder: in, SETTINGS}
  outbox: {type: file-out, folder: out}
routes:
  all: {from: inbox, to: TARGET}
"""
FILES = {
    "mappings/agreed.yaml": "profile: Agreed\nmessages: [ORM]\nrules: [{require: PID}]\n",
    "mappings/edit.yaml": EDIT,
}


def told(settings: str, target: str = "outbox") -> list[str]:
    site = SITE.replace("SETTINGS", settings).replace("TARGET", target)
    found = findings_of(from_files({"config/bridge.yaml": site, **FILES}, environ={}))
    return [str(one) for one in found if one.severity != "hint"]


@pytest.mark.parametrize(
    "settings",
    [
        "validate: warn, profile: agreed",
        "validate: strict, profile: [agreed], structure: false",
        "validate: strict",
        "validate: off, profile: agreed",
    ],
)
def test_a_channel_is_validated_by_what_it_names(settings: str) -> None:
    assert told(settings) == []


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ("profile: agreed", "add `validate: warn` or `validate: strict` beside `profile`"),
        ("validate: strict, structure: false", "leaves nothing to validate by: add `profile`"),
        ("validate: warn, profile: agred", "there is no profile `agred`; fix: did you mean `agreed`?"),
        ("validate: warn, profile: edit", "there is no profile `edit`"),
        ("validate: lenient", "one of off, strict, warn"),
        ("validate: strict, format: bytes", "only hl7v2 is validated"),
    ],
)
def test_validation_by_nothing_is_told_before_anything_runs(settings: str, what: str) -> None:
    assert any(what in line for line in told(settings)), told(settings)


def test_a_profile_is_no_mapping_of_a_route() -> None:
    (line,) = told("validate: off", "[{outbox: agreed}]")

    assert "there is no mapping `agreed`" in line
