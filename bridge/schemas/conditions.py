"""Schema of conditions (``when:``), which routes, lines and profiles share."""

from __future__ import annotations

from bridge.mapping.conditions import _TESTS, _TYPE
from bridge.schemas.parts import Json, block, choice, matches, one_or_list, ref, text

CONDITION = ref("condition")
MESSAGE = text(**matches(f"^(?:{_TYPE.pattern})$", "Write ORM^O01, or ORM for every event."))
_ABOUT = "A place in the message (PID-3.1), a $name, or several alternatives, and what is there: a value, a list of "
_VALUES = "values, present, absent, {not: ...} or {matches: pattern}."


def condition_definitions() -> Json:
    scalar: Json = {"type": ["string", "number"]}
    tests: Json = {
        "equals": scalar,
        "in": one_or_list(scalar, "One of these values."),
        "not": {**ref("test")},
        "matches": text("A regular expression that matches the value as a whole."),
    }
    named = block(_TESTS, tests)
    test = {**named, "type": ["string", "number", "array", "object"], "items": scalar, "description": _ABOUT + _VALUES}
    listed: Json = {"type": "array", "minItems": 1, "items": CONDITION}
    words: Json = {
        "message": one_or_list(MESSAGE, "Type and event (ORM^O01), or the type alone (ORM); one of a list."),
        "report": choice(["final"], "A final report, and all that corrects, amends or withdraws one."),
        "any": {**listed, "description": "At least one of these conditions holds."},
        "all": {**listed, "description": "All of these conditions hold."},
        "not": {"allOf": [CONDITION], "description": "This condition does not hold."},
    }
    return {
        "test": test,
        "condition": {"type": "object", "properties": words, "additionalProperties": ref("test")},
    }
