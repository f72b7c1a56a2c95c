"""What every channel type's settings owe to the person who writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from bridge.ports import channel_type, channel_type_names
from bridge.settings import Overrides, from_files
from tests.contract.ends import RECEIVERS, SENDERS

pytestmark = pytest.mark.parametrize("kind", channel_type_names())


def good(kind: str, folder: Path) -> dict[str, Any]:
    """Settings that work."""
    ends: Any = {**SENDERS, **RECEIVERS}
    made = ends[kind](folder).settings()
    return {"type": kind, **{key: str(value) if isinstance(value, Path) else value for key, value in made.items()}}


def findings(channel: dict[str, Any]) -> list[str]:
    site = {"site": {"name": "s", "timezone": "UTC"}, "channels": {"under-test": channel}}
    loaded = from_files({"config/b.yaml": yaml.safe_dump(site)}, overrides=Overrides.model_construct())
    assert all(finding.line for finding in loaded.findings)
    return [str(finding) for finding in loaded.findings if finding.severity == "error"]


def models(model: Any) -> Iterator[type[BaseModel]]:
    """A settings model and those nested in it."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        yield model
        for field in model.model_fields.values():
            yield from models(field.annotation)
    for part in get_args(model):
        yield from models(part)


def test_the_suite_knows_the_other_end(kind: str) -> None:
    direction = channel_type(kind).direction

    assert (kind in SENDERS) is (direction in ("in", "both"))
    assert (kind in RECEIVERS) is (direction == "out")


def test_every_setting_is_described(kind: str) -> None:
    undescribed = {
        f"{model.__name__}.{name}"
        for model in models(channel_type(kind).settings)
        for name, field in model.model_fields.items()
        if not field.description
    }

    assert undescribed == set()


def test_good_settings_have_no_findings(kind: str, tmp_path: Path) -> None:
    assert findings(good(kind, tmp_path)) == []


def test_a_setting_that_does_not_exist_is_told_with_its_place(kind: str, tmp_path: Path) -> None:
    told = findings({**good(kind, tmp_path), "systen": "ris"})

    assert len(told) == 1
    assert told[0].endswith("error: unknown setting `systen`; fix: did you mean `system`?")


def test_nonsense_in_any_setting_is_told_never_a_crash(kind: str, tmp_path: Path) -> None:
    settings = channel_type(kind).settings
    names = [field.alias or name for name, field in settings.model_fields.items() if name != "type"]

    silent = [name for name in names if not findings({**good(kind, tmp_path), name: [{"x": [None]}]})]

    assert silent == []


def test_every_required_setting_is_asked_for(kind: str, tmp_path: Path) -> None:
    required = [name for name, field in channel_type(kind).settings.model_fields.items() if field.is_required()]

    told = findings({"type": kind})

    assert len(told) == len(required) - 1
    assert all(any(f"`{name}` is missing" in line for line in told) for name in required if name != "type")


def test_a_secret_is_never_shown(kind: str, tmp_path: Path) -> None:
    model = channel_type(kind).settings
    secrets = [name for name in model.model_fields if any(word in name for word in ("token", "password", "secret"))]

    settings = model.model_validate({**good(kind, tmp_path), **dict.fromkeys(secrets, "s3cret")})

    assert "s3cret" not in repr(settings)
    assert "s3cret" not in json.dumps(settings.model_dump(mode="json"))
