"""A person's YAML against a typed model: every problem at its own place, with a suggestion, all at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bridge.errors import Finding
from bridge.yamlfile import Path_, YamlFile, suggest

M = TypeVar("M", bound=BaseModel)

_VARIABLE = re.compile(r"\$(?:(\$\{)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")


def read(
    model: type[M], data: Any, file: YamlFile, at: Path_, findings: list[Finding], folder: Path = Path()
) -> M | None:
    """``data`` (found at ``at`` in ``file``) as a ``model``; None, and findings appended, if it is none.

    Relative paths in it start from ``folder``.
    """
    try:
        return model.model_validate({} if data is None else data, context={"folder": folder})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            findings.append(_explain(model, detail, file, at))
        return None


def interpolate(
    data: Any, file: YamlFile, findings: list[Finding], environ: Mapping[str, str] | None = None, at: Path_ = ()
) -> Any:
    """``data`` with ``${NAME}`` and ``${NAME:-default}`` in its texts replaced from the environment.

    ``$${`` stands for a plain ``${``. A variable that is not set and has no default is a finding.
    """
    known = os.environ if environ is None else environ
    if isinstance(data, dict):
        return {key: interpolate(value, file, findings, known, (*at, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [interpolate(value, file, findings, known, (*at, index)) for index, value in enumerate(data)]
    if not isinstance(data, str) or "${" not in data:
        return data

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        found = known.get(match[2]) or match[3]
        if found is None:
            what = f"the environment variable {match[2]} is not set"
            findings.append(file.finding(at, what, f"set it, or write ${{{match[2]}:-default}}"))
        return found or ""

    return _VARIABLE.sub(value, data)


def _explain(model: type[BaseModel], detail: ErrorDetails, file: YamlFile, at: Path_) -> Finding:
    kind, location = detail["type"], detail["loc"]
    here = (*at, *location)
    name = ".".join(str(part) for part in location or at[-1:]) or "the file"
    value, context = detail.get("input"), detail.get("ctx") or {}
    if kind == "missing":
        missing = str(location[-1])
        about = _description(model, location)
        return file.finding(here, f"`{missing}` is missing", f"add `{missing}:`" + (f" ({about})" if about else ""))
    if kind == "extra_forbidden":
        unknown = str(location[-1])
        return file.finding(here, f"unknown setting `{unknown}`", suggest(unknown, _fields(_owner(model, location))))
    if kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        return file.finding(here, f"`{name}` cannot be `{value}`", suggest(str(value), choices))
    if kind == "string_type" and isinstance(value, int | float):
        return file.finding(here, f"`{name}` must be text", "put quotes around it")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return file.finding(here, f"`{name}` must be a block of `name: value`", _description(model, location))
    what = detail["msg"].removeprefix("Value error, ")
    if "ctx" in detail and kind == "value_error":
        return file.finding(here, f"`{name}` cannot be used", what)
    return file.finding(here, f"`{name}` ({_description(model, location)}): {what[:1].lower()}{what[1:]}")


def _owner(model: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that ``location``'s last part is, or should have been, a field of."""
    current: type[BaseModel] | None = model
    for part in location[:-1]:
        field = _fields(current).get(str(part)) if current else None
        current = _nested(field.annotation) if field else None
    return current


def _nested(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _nested(part))), None)


def _fields(model: type[BaseModel] | None) -> dict[str, Any]:
    fields = model.model_fields if model else {}
    return {field.alias or name: field for name, field in fields.items()}


def _description(model: type[BaseModel], location: tuple[str | int, ...]) -> str:
    field = _fields(_owner(model, location)).get(str(location[-1])) if location else None
    text = (field.description or "") if field else ""
    return " ".join(text.replace("``", "`").split()).rstrip(".")
