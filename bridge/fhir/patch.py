"""Patches: JSON Patch (RFC 6902) and FHIRPath Patch (R4 fhirpatch.html), applied to a resource as JSON values."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

import jsonpatch
from fhirpathpy import evaluate
from jsonpointer import JsonPointerException

from bridge.codecs.fhir_check import repeats
from bridge.errors import CodecError, Refused

Json = dict[str, Any]
_PLACE = "\x00place"
_LAST = re.compile(r"(?s)(.+)\.([A-Za-z_]\w*)(?:\[(\d+)\])?")
_CHOICE = re.compile(r"[A-Z][A-Za-z0-9]*")
"""What stands after ``value`` in ``valueQuantity``."""
_OPERATIONS = {"add", "insert", "delete", "replace", "move"}
_MEMBERS = "check op, path, value and from"
_At = tuple[str | int, ...]


def check(change: Any, *, json_patch: bool) -> None:
    """Raises CodecError for what is no JSON Patch, or no FHIRPath Patch."""
    if not json_patch:
        _operations(change)
        return
    if not isinstance(change, list):
        raise CodecError("not a JSON Patch", at="line 1 column 1", fix="send an array of operations (RFC 6902)")
    for number, operation in enumerate(change):
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise CodecError("not an operation with op and path", at=f"[{number}]", fix="see RFC 6902")
        try:
            jsonpatch.JsonPatch([operation])
        except (jsonpatch.JsonPatchException, JsonPointerException, TypeError):
            raise CodecError("an operation is not as RFC 6902 has it", at=f"[{number}]", fix=_MEMBERS) from None


def json_patch(resource: Json, operations: Any) -> Json:
    """The resource as the operations of a checked JSON Patch make it. Raises Refused for one that does not fit the
    resource: a path that is not there, a test that fails."""
    try:
        made = jsonpatch.JsonPatch(operations).apply(copy.deepcopy(resource))
    except jsonpatch.InvalidJsonPatch:
        raise CodecError("an operation is not as RFC 6902 has it", fix=_MEMBERS) from None
    except jsonpatch.JsonPatchTestFailed:
        raise _does_not_fit("a test of the patch fails") from None
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, ValueError, KeyError, IndexError):
        raise _does_not_fit("a path of the patch is not in the resource") from None
    if not isinstance(made, dict):
        raise _does_not_fit("the patch leaves no resource")
    return made


def fhirpath_patch(resource: Json, parameters: Any) -> Json:
    """The resource as a Parameters resource with `operation` parameters makes it. Raises CodecError for one that is
    none, Refused for a path that selects nothing, or several elements."""
    made: Json = copy.deepcopy(resource)
    for number, operation in enumerate(_operations(parameters)):
        _operate(made, operation, f"Parameters.parameter[{number}]")
    return made


def _operations(parameters: Any) -> Sequence[Json]:
    listed = parameters.get("parameter") if isinstance(parameters, dict) else None
    if not isinstance(listed, list) or not listed:
        raise CodecError("no operations", at="Parameters.parameter", fix="send parameters named `operation`")
    found = []
    for number, one in enumerate(listed):
        parts = one.get("part") if isinstance(one, dict) else None
        if not isinstance(parts, list) or one.get("name") != "operation":
            raise CodecError("not an operation with parts", at=f"Parameters.parameter[{number}]")
        found.append({str(part.get("name")): _value(part) for part in parts if isinstance(part, dict)})
    return found


def _value(part: Json) -> Any:
    """``value[x]`` of a part; of one with parts of its own, the object that they describe (fhirpatch.html)."""
    if "resource" in part:
        return part["resource"]
    for key, value in part.items():
        if key.startswith("value"):
            return value
    made: Json = {}
    for inner in part.get("part", ()):
        name, value = str(inner.get("name")), _value(inner)
        if name in made:
            value = [*(made[name] if isinstance(made[name], list) else [made[name]]), value]
        made[name] = value
    return made


def _operate(resource: Json, operation: Json, at: str) -> None:
    kind, path = operation.get("type"), operation.get("path")
    if kind not in _OPERATIONS or not isinstance(path, str) or not path.strip():
        fix = f"give each operation a path and one of the types {', '.join(sorted(_OPERATIONS))}"
        raise CodecError("not an operation", at=at, fix=fix)
    if kind == "delete":
        found = _locate(resource, path, at)
        if found:
            _delete(resource, _only(found, at))
        return
    place = _only(_locate(resource, path, at), at) if kind in ("add", "replace") else None
    if kind == "add":
        assert place is not None
        name = str(operation.get("name", ""))
        listed = repeats(str(resource.get("resourceType")), (*place, name))
        _add(_at(resource, place), name, operation.get("value"), at, listed=listed)
    elif kind == "replace":
        assert place
        _at(resource, place[:-1])[place[-1]] = operation.get("value")
    else:
        _rearrange(resource, operation, path, at)


def _add(owner: Any, name: str, value: Any, at: str, *, listed: bool) -> None:
    if not isinstance(owner, dict) or not name or value is None:
        raise CodecError("`add` needs a path to an object, a name and a value", at=at)
    if isinstance(owner.get(name), list):
        owner[name].append(value)
    elif name in owner:
        raise _does_not_fit("the element is there already", at)
    else:
        owner[name] = [value] if listed else value


def _rearrange(resource: Json, operation: Json, path: str, at: str) -> None:
    """insert and move: into, and within, the list at ``path``."""
    places = _locate(resource, f"{path}[0]", at) or _locate(resource, path, at)
    owner = _at(resource, places[0][:-1]) if places else None
    if not isinstance(owner, list):
        raise _does_not_fit("the path is no list", at)
    try:
        if operation["type"] == "insert":
            index, item = operation["index"], operation["value"]
        else:
            index, item = operation["destination"], owner[operation["source"]]
    except (KeyError, IndexError, TypeError):
        raise CodecError("`insert` needs index and value, `move` needs source and destination", at=at) from None
    if not isinstance(index, int) or not 0 <= index <= len(owner):
        raise _does_not_fit("the index is outside of the list", at)
    if operation["type"] == "move":
        owner.pop(operation["source"])
    owner.insert(index, item)


def _delete(resource: Json, place: _At) -> None:
    owner = _at(resource, place[:-1])
    del owner[place[-1]]
    if isinstance(owner, list) and not owner:
        _delete(resource, place[:-1])


def _only(found: list[_At], at: str) -> _At:
    if len(found) != 1:
        raise _does_not_fit("the path selects nothing" if not found else "the path selects several elements", at)
    return found[0]


def _locate(resource: Json, path: str, at: str) -> list[_At]:
    """Where the elements are that a path selects: FHIRPath tells their values, a mark in each object its place. A
    primitive is found below the object that it is of."""
    marked = _marked(resource, ())
    selected = _evaluate(marked, path, at)
    if selected and all(isinstance(one, dict) and _PLACE in one for one in selected):
        return [_place(one) for one in selected]
    last = _LAST.fullmatch(path.strip())
    if last is None:
        raise _does_not_fit("the path selects no element", at)
    above, name, index = last.groups()
    found: list[_At] = []
    for owner in _evaluate(marked, above, at):
        if not isinstance(owner, dict) or _PLACE not in owner:
            continue
        key = next((one for one in owner if one == name or _CHOICE.fullmatch(one.removeprefix(name))), name)
        value = owner.get(key)
        if isinstance(value, list):
            chosen = range(len(value)) if index is None else range(int(index), min(int(index) + 1, len(value)))
            found += [(*_place(owner), key, number) for number in chosen]
        elif value is not None:
            found.append((*_place(owner), key))
    return found


def _evaluate(marked: Json, path: str, at: str) -> list[Any]:
    try:
        return list(evaluate(marked, path, {}))
    except Exception:  # noqa: BLE001 - the library raises whatever it meets; a path is content
        raise CodecError("the path cannot be evaluated", at=at, fix="write FHIRPath, such as Patient.name[0]") from None


def _marked(value: Any, at: _At) -> Any:
    if isinstance(value, dict):
        return {_PLACE: json.dumps(at), **{key: _marked(inner, (*at, key)) for key, inner in value.items()}}
    if isinstance(value, list):
        return [_marked(inner, (*at, number)) for number, inner in enumerate(value)]
    return value


def _place(marked: Json) -> _At:
    return tuple(json.loads(marked[_PLACE]))


def _at(resource: Any, place: _At) -> Any:
    for step in place:
        resource = resource[step]
    return resource


def _does_not_fit(what: str, at: str = "") -> Refused:
    return Refused(what, at=at, fix="read the resource as it is now, and send a patch that fits", kind="business_rule")
