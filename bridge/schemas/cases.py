"""Schema of files of cases, beside a mapping or profile."""

from __future__ import annotations

from bridge.errors import FACES
from bridge.mapping.cases import _EXPECTED, _FAULTS, _GIVEN
from bridge.schemas.parts import Json, block, choice, one_or_list, ref, text

_WORDS: Json = {
    "name": text("What the case shows, as a claim."),
    "mapping": text("The mapping or profile, where it is not the one beside this file."),
    "given": text("The message, by its name inside the mappings folder."),
    "edit": {
        "type": "object",
        "description": "Places changed before: fields as ER7 (an empty text empties, '\"\"' is HL7's null), elements of"
        " FHIR and attributes of DICOM with any value.",
    },
    "remove": one_or_list(text(), "Segments taken out before."),
    "context": {"type": "object", "description": "What the engine knows besides the message: site, identity."},
    "expect": {"type": "object", "description": "Paths into the result and their values; nothing else is compared."},
    "expect_error": {"allOf": [ref("error")], "description": "The message is refused, and this is said of it."},
    "expect_notes": one_or_list(text(), "Texts that the notes of the result contain."),
    "snapshot": {"type": "boolean", "description": "The whole result is kept as a file, and compared with it."},
    "expect_faults": one_or_list(ref("error"), "Every fault that a profile finds; [] for a good message."),
}
_ERROR: Json = {
    "at": text("The place in the message, exactly."),
    "what": text("A part of what is said."),
    "fix": text("A part of the fix."),
    "kind": choice(FACES, "The kind of error (ERR-3, table 0357)."),
}


def cases_schema() -> Json:
    words = tuple(dict.fromkeys((*_GIVEN, *_EXPECTED, _FAULTS)))
    case = block(words, _WORDS, needs=["name", "given"])
    return {"type": "array", "items": case, "definitions": {"error": block(_ERROR, _ERROR)}}
