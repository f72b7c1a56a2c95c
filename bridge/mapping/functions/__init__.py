"""The named functions of the mapping language: a closed set, each with examples that are run as tests."""

from bridge.mapping.functions import attachments, codes, contact, dicom, france, identifiers, names, text, times
from bridge.mapping.functions.registry import FUNCTIONS, Function, Option, run

__all__ = [
    "FUNCTIONS",
    "Function",
    "Option",
    "attachments",
    "codes",
    "contact",
    "dicom",
    "france",
    "identifiers",
    "names",
    "run",
    "text",
    "times",
]
