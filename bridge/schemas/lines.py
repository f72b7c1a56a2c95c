"""Schema of source lines and of what several kinds of mapping share."""

from __future__ import annotations

from bridge.codecs.fhir_paths import PATTERN as FHIR_PATH
from bridge.codecs.paths import _PATH
from bridge.mapping.functions import FUNCTIONS, Function, Option
from bridge.mapping.slices import _ANCHOR
from bridge.mapping.sources import LINE_KEYS
from bridge.mapping.tables import POLICIES
from bridge.mapping.targets.dicom import VALIDATORS
from bridge.schemas.conditions import CONDITION, MESSAGE, condition_definitions
from bridge.schemas.parts import Json, block, choice, chosen, described, has, matches, one_or_list, ref, text

LINE = ref("line")
PATH = text(**matches(f"^{_PATH.pattern}$", "Write a path such as PID-3.1, OBX(2)-5 or ORDER(2).OBR-18."))
SEGMENT = text(**matches("^[A-Z][A-Z0-9]{2}$", "Write a segment such as OBX."))
_SLICES = f"^(?:{_ANCHOR.pattern}|{FHIR_PATH.pattern})$"
ANCHOR = text(**matches(_SLICES, "Write a segment such as OBX; of DICOM messages a sequence, of FHIR a path."))
EACH = one_or_list(ANCHOR, "One for each slice that begins with this segment; a list goes from the outside in.")
LET: Json = {
    "type": "object",
    "description": "Values with a name, for use as $name further down; each may use those above it.",
    "propertyNames": {"pattern": "^[a-z_][a-z0-9_]*$"},
    "additionalProperties": LINE,
}
MESSAGES = one_or_list(MESSAGE, "The message types it is made for; any other is refused.")
WHEN: Json = {"allOf": [CONDITION], "description": "Only if this condition holds."}
TABLE = text("Looks the value up in tables/NAME.csv.")

_TAKEN = {"description": "Taken instead."}
_SOURCE = "Alternatives `A-1 | B-2 | $name`: the first that holds something is taken. A list gives several values."
LINE_WORDS: Json = {
    "when": WHEN,
    "from": one_or_list(text(), _SOURCE),
    "value": {"description": "A constant instead of `from`."},
    "each": {"allOf": [ANCHOR], "description": "Looks through every slice that starts with this segment."},
    "as": {},
    "all": {"type": "boolean", "description": "Every repetition and occurrence, as a list."},
    "fits": {
        "description": "Takes only an alternative of at most so many characters, or valid for a DICOM VR.",
        "anyOf": [{"type": "integer", "minimum": 1}, {"enum": sorted(VALIDATORS)}],
    },
    "table": TABLE,
    "column": text("The value column; without it the first one after the keys."),
    "unknown": {
        "description": "For a key without a row: refuse (default), park, pass (as it is), empty, or {value: x}.",
        "anyOf": [{"enum": list(POLICIES)}, block(["value"], {"value": _TAKEN}, needs=["value"])],
    },
    "default": {"description": "Taken instead of nothing."},
    "required": {"type": "boolean", "description": "Nothing is refused."},
    "max": {"type": "integer", "minimum": 1, "description": "Longer is refused; never cut."},
    "pattern": text("A regular expression; what does not match as a whole is refused."),
    "unusable": choice(["refuse", "omit"], "What becomes of a value that cannot be used; `omit` notes it."),
    "note": text("Says so among the notes of the result when the line gave a value."),
    "fix": text("What an error tells people to do, instead of the usual text."),
}
_KINDS: dict[str, Json] = {
    "text": {"type": "string"},
    "number": {"type": "integer"},
    "switch": {"type": "boolean"},
    "list": {"type": ["array", "string", "number"]},
}


def line_definitions() -> Json:
    """Definitions that every kind of mapping needs: lines, functions, conditions, lookups."""
    functions = described({name: _told(FUNCTIONS[name]) for name in sorted(FUNCTIONS)})
    plain = _line((), {})
    calls = [(has("as", name), _call(FUNCTIONS[name])) for name in sorted(FUNCTIONS)]
    line = {
        "type": ["string", "object"],
        "description": "A source line: where a value comes from, and what is done with it.",
        "properties": {"as": functions},
        **chosen(calls, plain),
    }
    look_up = ("table", "column", "unknown", "fix")
    return {
        **condition_definitions(),
        **{f"word {word}": known for word, known in LINE_WORDS.items()},
        "line": line,
        "lookup": {**block(look_up, LINE_WORDS), "type": ["object", "string"]},
    }


def _line(options: tuple[str, ...], known: Json, needs: tuple[str, ...] = ()) -> Json:
    words = {**{word: ref(f"word {word}") for word in LINE_WORDS}, **known}
    return {**block((*LINE_KEYS, *options), words, needs=needs), "type": ["string", "object"]}


def _call(function: Function) -> Json:
    known = {name: _option(option) for name, option in function.options.items()}
    return _line(tuple(function.options), known, tuple(one.name for one in function.options.values() if one.required))


def _option(option: Option) -> Json:
    return choice(option.choices) if option.choices and option.kind == "text" else _KINDS[option.kind]


def _told(function: Function) -> str:
    """What a function does, for people who choose one."""
    takes = {"text": "one text for each value", "texts": "every text", "field": "the field with its components"}
    options = ", ".join(f"`{name}:`" + (" (needed)" if one.required else "") for name, one in function.options.items())
    told = function.summary.replace("``", "`")
    return f"{told}\n\nTakes {takes[function.takes]}." + (f" Options: {options}." if options else "")
