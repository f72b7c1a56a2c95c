"""Cases: examples beside a mapping or profile, run as tests. What a mapping's case does not name is not compared."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.codecs.fhir_message import FhirMessage
from bridge.codecs.formats import read_any
from bridge.codecs.hl7v2 import NULL, Hl7Message, parse
from bridge.errors import BridgeError, Finding, SettingsError
from bridge.mapping.compile import CASES, MappingSet, Rendered, compile_all
from bridge.mapping.place import Findings, Place
from bridge.mapping.profiles import Profile
from bridge.mapping.snapshots import snapshot_changes, snapshot_name, snapshot_text
from bridge.mapping.watch import Watch
from bridge.yamlfile import parse as parse_yaml
from bridge.yamlfile import suggest

_GIVEN = ("name", "mapping", "given", "edit", "remove", "context")
_EXPECTED = ("expect", "expect_error", "expect_notes", "snapshot")
_FAULTS = "expect_faults"
"""What a profile's case expects: the faults of the message, all of them; none of a good one."""
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_FIELD = re.compile(r"(?:[A-Z_]{4,}(?:\([^()]+\))?\.)*[A-Z][A-Z0-9]{2}(?:\([^()]+\))?-\d")
SITE = {"name": "demo-hospital", "timezone": "Europe/Paris"}
"""The site of cases that name none in ``context:``."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole output of a case: the file inside the mappings folder that keeps it, and its text as of now."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How one case went."""

    file: str
    line: int
    name: str
    mapping: str
    differences: tuple[str, ...]
    """What is not as expected, for people; empty when the case holds."""
    snapshot: Snapshot | None = None
    """What its snapshot has to be, where it keeps one."""

    @property
    def ok(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        verdict = "holds" if self.ok else "does not hold"
        return "\n  ".join([f"{self.file}:{self.line}: {self.name}: {verdict}", *self.differences])


def run_cases(files: Mapping[str, str], samples: Mapping[str, bytes], watch: Watch | None = None) -> list[CaseResult]:
    """Run every case in ``*.cases.yaml``. ``samples`` holds messages and snapshots by their name inside the mappings
    folder; ``watch`` is told what the cases reach.

    A file of cases that cannot be read gives one result that says why.
    """
    compiled = compile_all(files, watch)
    results: list[CaseResult] = []
    for file in sorted(files):
        if file.endswith(CASES):
            results += _run_file(file, files[file], compiled, samples)
            if watch is not None:
                watch.clear()
    return _told_apart(results)


def _told_apart(results: list[CaseResult]) -> list[CaseResult]:
    """Two cases that would keep one snapshot both fail."""
    count = Counter(result.snapshot.name for result in results if result.snapshot)
    what = "another case has the same snapshot; fix: give each a name of its own"
    return [
        replace(one, differences=(*one.differences, what)) if one.snapshot and count[one.snapshot.name] > 1 else one
        for one in results
    ]


def _run_file(file: str, text: str, compiled: MappingSet, samples: Mapping[str, bytes]) -> list[CaseResult]:
    default = file.removesuffix(CASES)
    try:
        document = parse_yaml(text, file)
    except SettingsError as error:
        return [_broken(finding, default) for finding in error.findings]
    place, findings = Place(document), Findings()
    if not isinstance(document.data, list):
        findings.report(place, "a file of cases is a list", "begin each one with `- name:`")
        return [_broken(finding, default) for finding in findings]
    return [_run_case(case, place.child(at), default, compiled, samples) for at, case in enumerate(document.data)]


def _broken(finding: Finding, mapping: str) -> CaseResult:
    what = finding.what + (f"; fix: {finding.fix}" if finding.fix else "")
    return CaseResult(finding.file, finding.line, "cannot be run", mapping, (what,))


def _run_case(case: Any, place: Place, default: str, compiled: MappingSet, samples: Mapping[str, bytes]) -> CaseResult:
    findings = Findings()
    if not isinstance(case, dict):
        findings.report(place, "a case is a mapping", "begin it with `- name:`")
        return _broken(findings[0], default)
    name = str(case.get("mapping", default))
    judged = compiled.mappings.get(name) or compiled.profiles.get(name)
    expected = (_FAULTS,) if isinstance(judged, Profile) else _EXPECTED
    findings.unknown_keys(case, (*_GIVEN, *expected), place)
    if judged is None:
        fix = suggest(name, [*compiled.mappings, *compiled.profiles]) or "see the findings of `radbridge check`"
        findings.report(place.child("mapping"), f"no mapping or profile `{name}` that compiles", fix)
    given = str(case.get("given", ""))
    if given not in samples:
        findings.report(place.child("given"), f"no sample `{given}`", suggest(given, samples))
    if not any(word in case for word in expected):
        findings.report(place, "nothing is expected", f"add `{expected[0]}:`")
    if not isinstance(case.get("snapshot", True), bool):
        findings.report(place.child("snapshot"), "`snapshot` is true, or left out")
    line = place.finding("").line
    title = str(case.get("name", "without a name"))
    if findings or judged is None:
        return CaseResult(place.file.name, line, title, name, tuple(str(finding) for finding in findings))
    result = CaseResult(place.file.name, line, title, name, ())
    if isinstance(judged, Profile):
        return replace(result, differences=tuple(_other_faults(case, judged, samples[given])))
    try:
        message = _edited(samples[given], case)
        rendered = judged.render(message, _context(case))
    except BridgeError as error:
        return replace(result, differences=tuple(_compare_error(error, case.get("expect_error"))))
    differences, kept = _differences(case, rendered, message), None
    if case.get("snapshot") is True:
        kept = Snapshot(snapshot_name(default, title, rendered), snapshot_text(rendered))
        differences += _changed(kept, samples)
    return replace(result, differences=tuple(differences), snapshot=kept)


def _changed(snapshot: Snapshot, samples: Mapping[str, bytes]) -> list[str]:
    kept = samples.get(snapshot.name)
    if kept is None:
        return [f"no snapshot is kept; fix: `radbridge test --update` writes {snapshot.name}"]
    lines = snapshot_changes(kept.decode(errors="replace"), snapshot.text)
    head = f"{snapshot.name} differs; fix: `radbridge test --update` keeps what is made now"
    return ["\n".join([head, *lines])] if lines else []


def _differences(case: dict[str, Any], rendered: Rendered, message: Hl7Message) -> list[str]:
    wanted = case.get("expect_error")
    if wanted is not None:
        return [f"expected an error at {wanted.get('at', 'some place')}, but the message was mapped"]
    look_up = _reader(rendered, message)
    found = [_compare(str(path), value, look_up) for path, value in (case.get("expect") or {}).items()]
    notes = " / ".join(rendered.notes)
    for note in _as_list(case.get("expect_notes")):
        if str(note) not in notes:
            found.append(f"notes: expected `{note}`, found `{notes}`")
    return [difference for difference in found if difference]


def _other_faults(case: dict[str, Any], profile: Profile, raw: bytes) -> list[str]:
    """What is expected of a message and not found, or found and not expected."""
    found = profile.faults(_edited(raw, case), _context(case))
    differences = []
    for wanted in _as_list(case[_FAULTS]):
        fitting = next((fault for fault in found if not _compare_error(fault, wanted)), None)
        if fitting is None:
            differences.append(f"expected a fault {_shown(wanted)}, which the message does not have")
        else:
            found.remove(fitting)
    return differences + [f"the message has a fault: {fault}" for fault in found]


def _context(case: dict[str, Any]) -> dict[str, Any]:
    return {"site": SITE, **(case.get("context") or {})}


def _edited(raw: bytes, case: dict[str, Any]) -> Any:
    message = read_any(raw)
    edits, removed = case.get("edit") or {}, _as_list(case.get("remove"))
    if not edits and not removed:
        return message
    if isinstance(message, FhirMessage):
        return message.edited(edits, [str(one) for one in removed])
    editor = message.edit()
    for path, text in edits.items():
        if text in ("", None):
            editor.delete(str(path))
        elif text == NULL:
            editor.set_null(str(path))
        else:
            editor.set_er7(str(path), str(text))
    for name in removed:
        editor.remove_segment(str(name))
    return parse(editor.encode())


def _compare_error(error: BridgeError, wanted: Any) -> list[str]:
    if not isinstance(wanted, dict):
        return [f"the message was refused: {error}"]
    found = []
    for key, actual in (("at", error.at), ("what", error.what), ("fix", error.fix), ("kind", error.kind)):
        expected = str(wanted.get(key, ""))
        same = expected == actual if key in ("at", "kind") else expected in actual
        if key in wanted and not same:
            found.append(f"error {key}: expected `{expected}`, found `{actual}`")
    return found


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


_LookUp = Callable[[str], Any]


def _reader(rendered: Rendered, given: Hl7Message) -> _LookUp:
    """How ``expect:`` paths read the rendered document."""
    if rendered.format == "hl7v2":
        out = parse(rendered.data)

        def read_hl7(path: str) -> Any:
            if path == "unchanged":
                return rendered.data == given.raw
            return out.get(path) if _FIELD.match(path) else len(out.segments(path))

        return read_hl7
    document = json.loads(rendered.data)
    if rendered.format == "fhir":
        return lambda path: _walk({**_by_type(document), "entries": document["entry"]}, path)
    updates = document["updates"]
    first = updates[0] if updates else {}
    steps = first.get("steps") or [{"attributes": {}}]
    patients = document.get("patients", [])
    appointments = document.get("appointments", [])
    other: dict[str, Any] = next(iter([*patients, *appointments]), {"attributes": {}})
    view = {**steps[0]["attributes"], **other["attributes"], **other, **first}
    view |= {"updates": updates, "every_patient": patients, "appointments": appointments}
    view |= {"performed": document.get("performed", [])}
    view["steps"] = [step["attributes"] for step in first.get("steps", [])]
    return lambda path: _walk(view, path)


def _by_type(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in bundle["entry"]:
        resource = {**entry["resource"], "request": entry["request"]}
        found.setdefault(resource["resourceType"], []).append(resource)
    return found


def _walk(value: Any, path: str) -> Any:
    """The value at a dotted path; a name below a list means its first item. None when there is nothing."""
    for name, number in _STEP.findall(path):
        if number:
            value = value[int(number)] if isinstance(value, list) and int(number) < len(value) else None
            continue
        if isinstance(value, list):
            value = value[0] if value else None
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _compare(path: str, expected: Any, look_up: _LookUp) -> str:
    found = look_up(path)
    if _same(expected, found):
        return ""
    return f"{path}: expected {_shown(expected)}, found {_shown(found)}"


def _same(expected: Any, found: Any) -> bool:
    if expected is None:
        return found in (None, "", [], {})
    if isinstance(found, list) and not isinstance(expected, list):
        if isinstance(expected, int) and not isinstance(expected, bool) and len(found) == expected:
            return True
        return len(found) == 1 and _same(expected, found[0])
    if isinstance(expected, list):
        items = found if isinstance(found, list) else [found]
        return len(items) == len(expected) and all(_same(a, b) for a, b in zip(expected, items, strict=True))
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(_same(value, found.get(key)) for key, value in expected.items())
    if isinstance(found, bool) or isinstance(expected, bool) or found is None:
        return expected is found
    return str(expected) == str(found)


def _shown(value: Any) -> str:
    return "nothing" if value in (None, "") else json.dumps(value, ensure_ascii=False)
