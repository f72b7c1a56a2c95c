"""Conditions: ``when:`` in routes, lines and resources."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import reduce
from typing import Any

from bridge.codecs.dicom_message import EVENTS
from bridge.codecs.fhir_models import RESOURCES
from bridge.codecs.hl7v2 import Hl7Message
from bridge.codecs.views import first_of
from bridge.errors import SettingsError
from bridge.mapping.place import Findings, Place
from bridge.mapping.refs import Names, PathRef, Ref, compile_refs
from bridge.mapping.reports import is_final
from bridge.mapping.scope import Scope
from bridge.mapping.tables import Tables
from bridge.yamlfile import suggest

Check = Callable[[Scope], bool]
_Test = Callable[[str], bool]
_DICOM = "|".join(rf"{kind}(?:\^(?:{'|'.join(events)}))?" for kind, events in EVENTS.items())
_TYPE = re.compile(rf"[A-Z]{{3}}(?:\^[A-Z0-9]{{3}})?|{_DICOM}|[A-Z][A-Za-z]*[a-z](?:\^[a-z]+)?")
_TESTS = ("equals", "in", "not", "matches")
_FIX = "write a value, a list of values, present, absent, {not: ...} or {matches: pattern}"


def compile_condition(data: Any, place: Place | str) -> Callable[[Hl7Message], bool]:
    """A route's ``when:`` as a test of a message; None or an empty mapping is always true.

    ``place`` is where it is written. Raises SettingsError with every problem at once.
    """
    findings = Findings()
    here = Place.named(place) if isinstance(place, str) else place
    check = compile_check({} if data is None else data, here, Names(Tables(), findings))
    if findings:
        raise SettingsError(findings)
    return lambda message: check(Scope(message, {}))


def compile_check(data: Any, place: Place, names: Names) -> Check:
    """A condition on a scope. All entries of a mapping must hold; ``any``, ``all`` and ``not`` combine conditions."""
    if not isinstance(data, dict):
        names.findings.report(place, "a condition is a mapping of places to values", "for example {OBR-24: CT}")
        return lambda scope: True
    checks = [_entry(key, value, place.child(key), names) for key, value in data.items()]
    check: Check = reduce(_both, checks) if checks else lambda scope: True
    if names.watch is not None and place.path[-1:] == ("when",):
        return names.watch.condition(check, place)
    return check


def _both(one: Check, other: Check) -> Check:
    return lambda scope: one(scope) and other(scope)


def _either(one: Check, other: Check) -> Check:
    return lambda scope: one(scope) or other(scope)


def _not(check: Check) -> Check:
    return lambda scope: not check(scope)


def _entry(key: Any, value: Any, place: Place, names: Names) -> Check:
    if key in ("any", "all"):
        if not isinstance(value, list) or not value:
            names.findings.report(place, f"`{key}` takes a list of conditions", "begin each one with a dash")
            return lambda scope: True
        checks = [compile_check(one, place.child(at), names) for at, one in enumerate(value)]
        return reduce(_either if key == "any" else _both, checks)
    if key == "not":
        return _not(compile_check(value, place, names))
    if key == "message":
        return _message_type(value, place, names)
    if key == "report":
        if value != "final":
            names.findings.report(place, f"`report` cannot be `{value}`", "final, or `not: {report: final}`")
        return lambda scope: is_final(scope.view)
    refs = compile_refs(key, place, names)
    test = _test(value, place, names)
    paths = [ref.path for ref in refs if isinstance(ref, PathRef)]
    if len(paths) == len(refs):
        first = first_of(paths)
        return lambda scope: test(first(scope.view))
    return lambda scope: test(_text(refs, scope))


def _text(refs: list[Ref], scope: Scope) -> str:
    for ref in refs:
        found = ref.value(scope)
        if isinstance(found, list | tuple):
            found = found[0] if found else ""
        if found not in ("", None):
            return str(found)
    return ""


def _message_type(value: Any, place: Place, names: Names) -> Check:
    wanted = frozenset(value if isinstance(value, list) else [value])
    for one in wanted:
        if not isinstance(one, str) or not _TYPE.fullmatch(one):
            names.findings.report(place, f"`{one}` is no message type", "write ORM^O01, or ORM for every event")
        elif (code := one.partition("^")[0]) != code.upper() and code not in RESOURCES:
            names.findings.report(place, f"R4 has no resource `{code}`", suggest(code, RESOURCES))

    def check(scope: Scope) -> bool:
        code, event = scope.message.kind
        return code in wanted or f"{code}^{event}" in wanted

    return check


def _test(value: Any, place: Place, names: Names) -> _Test:
    if isinstance(value, dict):
        return _named_tests(value, place, names)
    if isinstance(value, list):
        texts = frozenset(_plain(one, place, names) for one in value)
        return lambda text: text in texts
    if value == "present":
        return bool
    if value == "absent":
        return lambda text: not text
    wanted = _plain(value, place, names)
    return lambda text: text == wanted


def _named_tests(value: dict[Any, Any], place: Place, names: Names) -> _Test:
    names.findings.unknown_keys(value, _TESTS, place, "test")
    tests: list[_Test] = []
    if "equals" in value:
        wanted = _plain(value["equals"], place, names)
        tests.append(lambda text: text == wanted)
    if "in" in value:
        tests.append(_test(value["in"] if isinstance(value["in"], list) else [value["in"]], place, names))
    if "not" in value:
        inner = _test(value["not"], place, names)
        tests.append(lambda text: not inner(text))
    if "matches" in value:
        pattern = compile_pattern(value["matches"], place.child("matches"), names.findings)
        tests.append(lambda text: pattern.fullmatch(text) is not None)
    return lambda text: all(test(text) for test in tests)


def _plain(value: Any, place: Place, names: Names) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        names.findings.report(place, f"`{value}` cannot be compared with a field", _FIX)
    return str(value)


def compile_pattern(text: Any, place: Place, findings: Findings) -> re.Pattern[str]:
    """A regular expression that has to match a whole value."""
    try:
        return re.compile(text)
    except (re.error, TypeError) as error:
        findings.report(place, f"not a regular expression: {error}")
        return re.compile("")
