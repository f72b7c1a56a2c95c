"""What schemas are put together from: blocks of words, choices by a word, and pydantic models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

Json = dict[str, Any]

VARIABLE = r"\$\{"
"""Any value of a site file may be taken from the environment: ``${NAME}``."""


def ref(name: str) -> Json:
    return {"$ref": f"#/definitions/{name}"}


def text(about: str = "", **more: Any) -> Json:
    return {"type": "string", **({"description": about} if about else {}), **more}


def matches(pattern: str, otherwise: str = "") -> Json:
    """A text's pattern, and what editors that know how say of one that does not match."""
    return {"pattern": pattern, **({"patternErrorMessage": otherwise} if otherwise else {})}


def choice(words: Iterable[str], about: str = "") -> Json:
    return {"enum": list(words), **({"description": about} if about else {})}


def described(words: Mapping[str, str]) -> Json:
    """One of these words, each with what an editor shows of it."""
    return {"anyOf": [{"const": word, "description": about} for word, about in words.items()]}


def said(about: str, schema: Json) -> Json:
    """``schema`` with a description for this place. (Draft-07 ignores what stands beside a ``$ref``.)"""
    return {"description": about, **({"allOf": [schema]} if "$ref" in schema else schema)}


def one_or_list(item: Json, about: str = "") -> Json:
    return {**({"description": about} if about else {}), "anyOf": [item, {"type": "array", "items": item}]}


def block(words: Iterable[str], known: Mapping[str, Json], about: str = "", needs: Iterable[str] = ()) -> Json:
    """A mapping of exactly these ``words``; one that ``known`` does not describe takes anything."""
    properties = {word: known.get(word, {}) for word in words}
    made: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    if needs:
        made["required"] = list(needs)
    return {**made, **({"description": about} if about else {})}


def has(word: str, *values: str) -> Json:
    """The condition that a mapping has ``word``, with one of ``values`` if any are given."""
    wanted: Json = {word: {"enum": list(values)}} if values else {}
    return {"required": [word], "properties": wanted}


def chosen(cases: Iterable[tuple[Json, Json]], otherwise: Json) -> Json:
    """The schema of the first case whose condition holds."""
    result = otherwise
    for condition, schema in reversed(list(cases)):
        result = {"if": condition, "then": schema, "else": result}
    return result


def of_model(model: type[BaseModel], definitions: Json) -> Json:
    """The schema of a settings model as a person writes it; its parts are added to ``definitions``."""
    made = model.model_json_schema(by_alias=True)
    for name, part in made.pop("$defs", {}).items():
        definitions[name] = _written(part)
    written = _written(made)
    assert isinstance(written, dict)
    return written


def _written(node: Any) -> Any:
    """A schema by pydantic with this package's places, and with what people may write besides: one text for a list of
    them, and a variable for whatever is no text."""
    if isinstance(node, list):
        return [_written(one) for one in node]
    if not isinstance(node, dict):
        return node
    found: Json = {
        key: {name: _written(one) for name, one in value.items()} if key in _BY_NAME else _written(value)
        for key, value in node.items()
        if not _is_noise(key, value, node)
    }
    if "$ref" in found:
        target = {"$ref": found.pop("$ref").replace("#/$defs/", "#/definitions/")}
        return {**found, "allOf": [target]} if found else target
    if "description" in found:
        found["description"] = " ".join(str(found["description"]).replace("``", "`").split())
    kind = found.get("type")
    if kind == "array" and found.get("items") == {"type": "string"}:
        found["type"] = ["array", "string"]
    elif kind in ("integer", "number", "boolean"):
        found |= {"type": [kind, "string"], **matches(VARIABLE, f"Write a {kind}, or ${{NAME}}.")}
    elif VARIABLE not in found.get("pattern", "") and any(key in found for key in _NARROW):
        about = {key: found.pop(key) for key in ("description", "default") if key in found}
        return {**about, "anyOf": [found, text(**matches(VARIABLE))]}
    return found


_BY_NAME = ("properties", "patternProperties")
_NARROW = ("enum", "pattern", "maxLength", "format")
"""What of a text the name of a variable need not be."""


def _is_noise(key: str, value: Any, node: Json) -> bool:
    """Titles that only repeat a name, and defaults that are not written as they are kept."""
    if key == "title":
        return isinstance(value, str)
    readable = isinstance(value, str | bool) or (isinstance(value, int) and node.get("type") == "integer")
    return key == "default" and (not readable or value == "")
