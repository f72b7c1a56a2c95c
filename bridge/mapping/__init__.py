"""The mapping language: YAML to one pure callable that makes an outgoing document of a message; docs/mappings.md."""

from bridge.mapping.cases import CaseResult, run_cases
from bridge.mapping.compile import CompiledMapping, MappingSet, Rendered, compile_all
from bridge.mapping.conditions import compile_condition
from bridge.mapping.place import Place
from bridge.mapping.profiles import Profile

__all__ = [
    "CaseResult", "CompiledMapping", "MappingSet", "Place", "Profile", "Rendered", "compile_all", "compile_condition",
    "run_cases",
]  # fmt: skip
