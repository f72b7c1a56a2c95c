from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import SettingsError
from bridge.yamlfile import parse


@pytest.mark.parametrize("word", ["off", "no", "NO", "yes", "on", "y", "0123", "00", "12:30", "2024-01-31", "1e3"])
def test_what_only_looks_like_something_else_stays_text(word: str) -> None:
    assert parse(f"a: {word}", "x").data == {"a": word}


@pytest.mark.parametrize(
    ("word", "value"), [("true", True), ("false", False), ("12", 12), ("-1", -1), ("1.5", 1.5), ("~", None), ("", None)]
)
def test_numbers_booleans_and_nothing_are_what_they_look_like(word: str, value: object) -> None:
    assert parse(f"a: {word}", "x").data == {"a": value}


def test_every_value_has_its_place() -> None:
    file = parse("a:\n  - b: 1\n  - {c: 2, d: [3, 4]}\n", "site.yaml")

    assert str(file.finding(("a", 1, "d", 1), "wrong")) == "site.yaml:3:19: error: wrong"
    assert str(file.finding(("a", 1, "nowhere"), "wrong")) == "site.yaml:3:5: error: wrong"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: 2\na: 3", "x:3:1: error: `a` is written twice"),
        ("a: [1", "x:1:6: error: not YAML"),
        ("a: b: c", "x:1:5: error: not YAML"),
        ("a: 1\n\tb: 2", "x:2:1: error: not YAML"),
        ("ok: 1\nbell: \x07", "x:2:7: error: not YAML: control character #x07"),
        ("a: &x [*x]", "x:1:8: error: not YAML: aliases"),
        ("a: !!python/object:os.system 1", "x:1:4: error"),
        ("? {a: b}\n: 1", "x:1:3: error: a key must be plain text"),
        ("a: 1\n---\nb: 2", "x:2:1: error: not YAML"),
        ("[" * 5000, "x:1:1: error: not YAML: nested too deep"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(text: str, place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text, "x")

    assert str(caught.value).startswith(place)


@given(st.text())
def test_any_text_gives_data_or_a_settings_error(text: str) -> None:
    try:
        parse(text, "x")
    except SettingsError as error:
        assert error.findings
