"""What a test needs from its machine: skipped with the reason where it is missing, failed where all must be there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

DATA = REPOSITORY.parent / "shared" / "data"
"""Published sample messages, beside the repository."""


def all_required() -> bool:
    """True where a missing component is a failure: ``RADBRIDGE_REQUIRE_ALL=1``."""
    return os.environ.get("RADBRIDGE_REQUIRE_ALL") == "1"


def missing(component: str, how: str) -> None:
    """End this test: ``component`` is not here. ``how`` tells what to do about it."""
    reason = f"needs {component}: {how}"
    if all_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require(program: str, package: str = "") -> str:
    """Path of an installed program; ``package`` is its Debian package."""
    found = shutil.which(program)
    if not found:
        missing(program, f"apt-get install {package or program}")
    assert found
    return found


def require_data(*parts: str) -> Path:
    """Path of published sample data below ``shared/data``."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        missing("sample data", "put shared/data beside the repository")
    return path
