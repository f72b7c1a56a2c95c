"""Schemas of mappings, by their target, and of message profiles."""

from __future__ import annotations

from bridge.errors import FACES
from bridge.mapping import profiles
from bridge.mapping.compile import TARGETS
from bridge.mapping.targets import appointment, hl7compose, hl7edit, patient, performed, worklist
from bridge.model import PATIENT_ATTRIBUTES
from bridge.schemas.fhir import resource_schema
from bridge.schemas.lines import EACH, LET, LINE, MESSAGES, PATH, SEGMENT, WHEN, line_definitions
from bridge.schemas.parts import Json, block, choice, chosen, has, one_or_list, ref, said, text
from bridge.schemas.worklist import attribute_properties

_TARGET = choice(TARGETS, "What the mapping makes: worklist items, an HL7 v2 message, or a FHIR bundle.")
_HEAD: Json = {"target": _TARGET, "messages": MESSAGES, "let": LET}
_SCOPE: Json = {"each": EACH, "when": WHEN, "let": LET}
_EXTENDS = text("The mapping that this one is, but for the lines that stand here; ~ takes a line away.")
_EXTENDED = (
    "profile", "order", "step", "patient", "performed", "appointment", "edits", "message", "resources", "rules",
    "up_to", "leave_out", "numbered",
)  # fmt: skip
_PLACES = one_or_list(text(), "Segments and places, such as IN1 or PID-19.")
_IDENTIFIERS: Json = {
    "description": "What the order is known by.",
    **block(worklist.KINDS, dict.fromkeys(worklist.KINDS, LINE)),
}


def mapping_schema() -> Json:
    """Any file of the mappings folder that is not of cases."""
    worklists = [(has(kind), ref(f"{kind} mapping")) for kind in ("patient", "performed", "appointment")]
    made = chosen(
        [
            (has("steps"), ref("chain")),
            (has("extends"), ref("extension")),
            (has("profile"), ref("profile")),
            (has("target", "fhir"), ref("fhir mapping")),
            (has("target", "hl7v2"), chosen([(has("message"), ref("composed mapping"))], ref("edit mapping"))),
            (has("target", "worklist"), chosen(worklists, ref("worklist mapping"))),
        ],
        {"required": ["target"]},
    )
    steps = text("A mapping; every one but the last is an edit.")
    chain: Json = {"type": "array", "minItems": 2, "items": steps}
    definitions = {
        **line_definitions(),
        **_hl7(),
        **_worklists(),
        "extension": _extension(),
        "chain": block(["steps"], {"steps": chain}),
        "profile": _profile(),
        "fhir mapping": block(["target", "messages", "let", "resources"], {**_HEAD, "resources": resource_schema()}),
    }
    begin = {
        "target": _TARGET,
        "profile": text("The title of a message profile."),
        "extends": _EXTENDS,
        "steps": {**chain, "description": "Mappings made one after the other, in place of a `target`."},
    }
    return {"type": "object", "properties": begin, **made, "definitions": definitions}


def profile_schema() -> Json:
    return {**_profile(), "definitions": line_definitions()}


def _extension() -> Json:
    """A mapping that extends another one: which target it has, and so which words, is said there."""
    lines: Json = {"additionalProperties": {"anyOf": [LINE, {"type": "null"}]}}
    attributes = {name: {"anyOf": [line, {"type": "null"}]} for name, line in attribute_properties().items()}
    known: Json = dict.fromkeys(_EXTENDED, {"description": "What is other than in the mapping that this one extends."})
    known |= {"extends": _EXTENDS, "messages": MESSAGES, "let": {**LET, **lines}, **attributes}
    return {**block(known, known, needs=["extends"]), "patternProperties": {"^[A-Z]": {}}}


def _worklists() -> Json:
    attributes, others = attribute_properties(), {"patternProperties": {"^[A-Z]": LINE}}
    named = {
        "type": "object",
        "additionalProperties": LINE,
        "description": "What a message says of which step it means.",
    }
    order = {
        "each": EACH,
        "let": LET,
        "identifiers": _IDENTIFIERS,
        "status": said("scheduled, started, completed, discontinued, cancelled, held, or ignore.", LINE),
        "change": said("yes: the order should be known already.", LINE),
        "if_unknown": said("What becomes of a change of an unknown order: create, ignore or reject.", LINE),
    }
    booked = {
        **order,
        "appointment": said("Tells the appointments of an order apart.", LINE),
        "service": said("What is booked, as the scheduler calls it: the steps that are called so are meant.", LINE),
        "status": said("booked, freed, open, or ignore.", LINE),
    }
    who = {"each": EACH, "when": WHEN, "identifiers": text("Whose items are meant, for example PID-3 | PID-2.")}
    done = {
        "each": EACH,
        "let": LET,
        "instance": said("What the performed step is known by.", LINE),
        "status": said("scheduled, started, completed or discontinued.", LINE),
        "study": said("The Study Instance UID of the scheduled step that was worked on.", LINE),
        "accession": said("Its accession number.", LINE),
        "step": said("Its Scheduled Procedure Step ID.", LINE),
    }
    step = {"each": EACH, "let": LET, "named": named}
    words = {
        **_HEAD,
        "order": block(worklist._ORDER, order, "One order, or one for each repetition.", ["identifiers", "status"]),
        "step": block(worklist._STEP, step, "One step, or one for each repetition in the order."),
        "patient": block(patient._BLOCK, who, "Refreshes the open items of a patient.", ["identifiers"]),
        "performed": block(performed._BLOCK, done, "What a modality did (MPPS).", performed._NEEDED),
        "appointment": block(appointment._BLOCK, booked, "When and where the steps of orders are done."),
    }
    made = {
        "worklist mapping": block(worklist._HEAD, words, needs=["messages", "order"]),
        "appointment mapping": block(appointment._HEAD, words, needs=["messages"]),
    }
    for one in made.values():
        one["properties"] = {**one["properties"], **attributes}
        one |= others
    made["performed mapping"] = block(performed._HEAD, words, needs=["messages"])
    patients = {name: attributes[name] for name in PATIENT_ATTRIBUTES}
    made["patient mapping"] = block((*patient._HEAD, *patients), {**words, **patients}, needs=["messages"])
    return made


def _paths(item: Json, about: str) -> Json:
    return {"type": "object", "description": about, "propertyNames": PATH, "additionalProperties": item}


def _hl7() -> Json:
    made = _paths(LINE, "Path: source line. Nothing to set changes nothing; '\"\"' sends null.")
    edit: Json = {
        **_SCOPE,
        "add": one_or_list(SEGMENT, "Segments at the end, where there is none."),
        "surviving": one_or_list(PATH, "Identifiers that were merged away become the surviving ones."),
        "copy": _paths(text(), "Path: path, as sent, with components and repetitions."),
        "set": made,
        "translate": _paths(ref("lookup"), "Every repetition through a table."),
        "remove": _PLACES,
    }
    items: Json = {"type": "array", "minItems": 1, "items": ref("item")}
    item = {
        **_SCOPE,
        "segment": said("A segment of the new message.", SEGMENT),
        "from": said("Begins as this segment of the source.", SEGMENT),
        "copy": {"description": "Segments as sent (Z*, others), or of a segment path: path."},
        "set": made,
        "remove": _PLACES,
        "group": {**items, "description": "Items that repeat together."},
    }
    kinds = [(has(kind), block(words, item)) for kind, words in hl7compose._KINDS.items()]
    head = {
        **_HEAD,
        "edits": {"type": "array", "items": block(hl7edit._EDIT, edit), "description": "Changes to the message."},
        "message": {**items, "description": "The segments of a new message, MSH first."},
        "up_to": {
            "type": "object",
            "description": "The last field that is copied of a segment.",
            "additionalProperties": {"type": "integer", "minimum": 1},
        },
        "leave_out": one_or_list(text(), "What the new message does without."),
        "numbered": {
            "type": "object",
            "description": "Segments whose first field counts them, each with the one after which it begins anew.",
            "additionalProperties": SEGMENT,
        },
    }
    return {
        "edit mapping": block(hl7edit._HEAD, head, needs=["messages", "edits"]),
        "composed mapping": block(hl7compose._HEAD, head, needs=["messages"]),
        "item": {"type": "object", **chosen(kinds, {"required": ["segment"]})},
    }


def _profile() -> Json:
    scalar: Json = {"type": ["string", "integer"]}
    rule = {
        **_SCOPE,
        "require": one_or_list(text(), "A value in one of the alternatives, or a segment."),
        "forbid": one_or_list(text(), "Places and segments that stay empty."),
        "only": _paths(one_or_list(scalar), "Every value that is there is one of these."),
        "table": _paths(text(), "Every value that is there is a key of tables/NAME.csv."),
        "max": _paths({"type": "integer", "minimum": 1}, "At most so many characters."),
        "pattern": _paths(text(), "A regular expression that matches as a whole."),
        "holds": {**WHEN, "description": "A condition; the fault is at `at:` and is told as `what:`."},
        "at": text("Where the fault is."),
        "what": text("What the fault is; never what the message holds."),
        "kind": choice(FACES, "The kind of fault (ERR-3, table 0357)."),
        "fix": text("What the sender's error tells people to do."),
    }
    rules = {"type": "array", "minItems": 1, "items": block(profiles._RULE, rule), "description": "What must hold."}
    head = {**_HEAD, "profile": text("The profile's title."), "rules": rules}
    return block(profiles._HEAD, head, needs=["profile", "messages", "rules"])
