"""The channel types that the project declares are the ones that run."""

from __future__ import annotations

import tomllib

import pytest

from bridge.ports import ChannelSettings, ChannelType, SinkSettings, SourceSettings, channel_type, channel_type_names
from tests.rigs.need import REPOSITORY

DECLARED = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]["radbridge.channels"]


def test_every_declared_type_is_installed() -> None:
    assert set(DECLARED) <= set(channel_type_names())


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_every_declared_type_loads(name: str) -> None:
    loaded = channel_type(name)

    assert isinstance(loaded, ChannelType)
    assert loaded.name == name
    assert issubclass(loaded.settings, ChannelSettings)
    assert issubclass(loaded.settings, SourceSettings) or loaded.direction != "in"
    assert issubclass(loaded.settings, SinkSettings) or loaded.direction != "out"
