"""Schemas are made of what reads the files: nothing in them is said twice, or left unsaid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.lint.types import MADE_FOR
from bridge.mapping.functions import FUNCTIONS
from bridge.mapping.profiles import _RULE
from bridge.mapping.sources import LINE_KEYS
from bridge.mapping.targets.hl7edit import _EDIT
from bridge.ports import channel_type, channel_type_names
from bridge.schemas import KINDS, schema


def walk(node: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    yield at, node
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from walk(value, f"{at}/{key}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_that_a_compiler_accepts_is_described(kind: str) -> None:
    strict = [
        node for _, node in walk(schema(kind)) if isinstance(node, dict) and node.get("additionalProperties") is False
    ]

    assert strict
    assert [
        word for node in strict for word, known in node.get("properties", {}).items() if known == {} and word != "as"
    ] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_reference_leads_somewhere(kind: str) -> None:
    made = schema(kind)
    wanted = {
        node["$ref"].removeprefix("#/definitions/")
        for _, node in walk(made)
        if isinstance(node, dict) and "$ref" in node
    }

    assert wanted <= set(made.get("definitions", {}))
    assert made == json.loads(json.dumps(made)) == schema(kind)


def test_the_words_are_those_of_the_compilers() -> None:
    made = schema("mapping")["definitions"]
    edit = made["edit mapping"]["properties"]["edits"]["items"]
    line, functions = made["line"], []
    while "if" in line:
        functions.append((line["if"]["properties"]["as"]["enum"][0], line["then"]))
        line = line["else"]

    assert tuple(edit["properties"]) == _EDIT
    assert tuple(line["properties"]) == LINE_KEYS
    assert dict(functions).keys() == FUNCTIONS.keys()
    assert [name for name, then in functions if set(then["properties"]) != {*LINE_KEYS, *FUNCTIONS[name].options}] == []


def test_every_installed_channel_type_has_its_own_settings() -> None:
    definitions = schema("site")["definitions"]

    for name in channel_type_names():
        fields = channel_type(name).settings.model_fields
        assert set(definitions[f"channel {name}"]["properties"]) == {one.alias or key for key, one in fields.items()}


def test_a_profile_requires_what_its_compiler_requires() -> None:
    made = schema("profile")

    assert made["required"] == ["profile", "messages", "rules"]
    assert tuple(made["properties"]["rules"]["items"]["properties"]) == _RULE


def test_lint_knows_the_data_types_of_functions_that_exist() -> None:
    assert set(MADE_FOR) <= set(FUNCTIONS)


def test_the_command_shows_one_or_writes_them_all(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["schema", "cases"])
    written = CliRunner().invoke(app, ["schema", "--out", str(tmp_path / "new"), "--json"])

    assert json.loads(shown.output) == schema("cases")
    assert {one["kind"] for one in json.loads(written.output)["schemas"]} == set(KINDS)
    assert json.loads((tmp_path / "new" / "cases.schema.json").read_text()) == schema("cases")


@pytest.mark.parametrize(("arguments", "what"), [(["mappping"], "no kind of file"), ([], "several files")])
def test_the_command_tells_what_it_cannot_show(arguments: list[str], what: str) -> None:
    result = CliRunner().invoke(app, ["schema", *arguments])

    assert what in str(result.exception) and "fix" in str(result.exception)
