"""A request's body, read as strictly as FHIR's JSON wants it, and checked (R4 json.html)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from bridge.codecs.fhir_check import Release, faults
from bridge.errors import BridgeError, CodecError

DEEPEST = 100
"""Levels of objects and arrays in one another."""
_MOST = 50


def read(body: bytes) -> Any:
    """The JSON value of a body; decimals keep their digits.

    Raises CodecError with line and column for what is no JSON, two members of one name, and what is nested too deep.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CodecError("not UTF-8", at=f"byte {error.start + 1}", fix="send JSON in UTF-8") from None
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}"
        raise CodecError(f"not JSON: {error.msg}", at=at, fix="send one JSON value") from None
    except (ValueError, ArithmeticError):
        raise CodecError("not JSON: a number that no FHIR value is", fix="send finite numbers") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    return value


def resource_faults(body: bytes, release: Release) -> tuple[Any, list[dict[str, str]]]:
    """A body's value, and what is wrong with it as a resource: the first fifty, as :meth:`BridgeError.as_dict`.

    Errors are values, so that they cross from one process to another.
    """
    try:
        value = read(body)
    except CodecError as error:
        return None, [error.as_dict()]
    if not isinstance(value, dict):
        return None, [CodecError("not a resource", at="line 1 column 1", fix="send a JSON object").as_dict()]
    return value, [fault.as_dict() for fault in faults(value, release)[:_MOST]]


def revived(error: dict[str, str]) -> BridgeError:
    return CodecError(error["what"], at=error["at"], fix=error["fix"], kind=error["kind"])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CodecError("two members of one object have the same name", fix="send each element once")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> CodecError:
    return CodecError("nested too deep", fix=f"nest {DEEPEST} levels at most")
