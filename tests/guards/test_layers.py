"""Imports point down only: values < pure < store < engine < edges < top. Pure code has no clock, network or chance."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.need import REPOSITORY

LAYERS = ("values", "pure", "store", "engine", "edges", "top")
HOMES = {
    "bridge.errors": "values",
    "bridge.message": "values",
    "bridge.model": "values",
    "bridge.peers": "values",
    "bridge.ports": "values",
    "bridge.state": "values",
    "bridge.yamlfile": "values",
    "bridge.settings": "values",
    "bridge.asgi": "values",
    "bridge.listening": "values",
    "bridge.codecs": "pure",
    "bridge.fhir": "pure",
    "bridge.mapping": "pure",
    "bridge.lint": "pure",
    "bridge.scaffold": "pure",
    "bridge.importers": "pure",
    "bridge.schemas": "pure",
    "bridge.store": "store",
    "bridge.engine": "engine",
    "bridge.web": "edges",
    "channels": "edges",
    "bridge.app": "top",
    "bridge.cli": "top",
    "bridge.commands": "top",
    "bridge.demo": "top",
    "bridge.bench": "top",
}
"""Layer of each module, or of the package it is in."""

IMPURE = {
    *("asyncio", "concurrent", "multiprocessing", "random", "secrets", "selectors", "socket", "ssl", "subprocess"),
    *("threading", "time", "urllib.request", "http", "httpx", "kombu", "pynetdicom", "sqlalchemy", "uvicorn"),
}
"""What codecs and mappings may not import (law 6)."""

CLOCKS = {"now", "utcnow", "today", "uuid1", "uuid4", "urandom"}


def modules() -> list[Path]:
    return sorted(path for folder in ("bridge", "channels") for path in (REPOSITORY / folder).rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def package_of(path: Path) -> str:
    return dotted(path.parent) if path.name != "__init__.py" else dotted(path)


def layer(module: str) -> str | None:
    while module:
        if module in HOMES:
            return HOMES[module]
        module = module.rpartition(".")[0]
    return None


def imports(code: str, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that code imports, also inside functions; names as ``package.module.name``."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*up, node.module or ""]).strip(".")
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def problems(code: str, module: str, package: str) -> Iterator[str]:
    mine = layer(module)
    if mine is None:
        yield f"{module}: has no layer; add it to HOMES"
        return
    for line, name in imports(code, package):
        theirs = layer(name) if name.split(".")[0] in ("bridge", "channels") else None
        if name in ("bridge", "channels") or theirs is None:
            continue
        if LAYERS.index(theirs) > LAYERS.index(mine):
            yield f"{module}:{line}: {mine} imports {name}, which is {theirs}"
        if module.startswith("channels") and not name.startswith("channels") and theirs not in ("values", "pure"):
            yield f"{module}:{line}: a channel imports {name}; it may use values and pure code only"
        if module.startswith("bridge.web") and name.startswith("channels"):
            yield f"{module}:{line}: the web end imports a channel"


@pytest.mark.parametrize("path", [path for path in modules() if dotted(path) not in ("bridge", "channels")], ids=dotted)
def test_imports_point_down_only(path: Path) -> None:
    assert list(problems(path.read_text(encoding="utf-8"), dotted(path), package_of(path))) == []


@pytest.mark.parametrize("path", [path for path in modules() if layer(dotted(path)) == "pure"], ids=dotted)
def test_codecs_and_mappings_are_pure(path: Path) -> None:
    code = path.read_text(encoding="utf-8")
    impure = [
        f"{dotted(path)}:{line}: imports {name}"
        for line, name in imports(code, package_of(path))
        if any(name == bad or name.startswith(f"{bad}.") for bad in IMPURE)
    ]
    clocks = [
        f"{dotted(path)}:{node.lineno}: calls {node.func.attr}()"
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS
    ]

    assert impure + clocks == []


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("bridge.codecs.bad", "from bridge.store import schema"),
        ("bridge.errors", "import bridge.codecs.hl7v2"),
        ("channels.bad", "def f():\n    from bridge.engine import runtime"),
        ("channels.bad", "from bridge.store.store import Store"),
        ("bridge.codecs.bad", "from ..store import schema"),
        ("bridge.engine.bad", "from channels import mllp"),
        ("bridge.web.bad", "import channels.http"),
        ("bridge.brand_new", "import json"),
    ],
)
def test_the_guard_sees_what_it_is_there_for(module: str, code: str) -> None:
    assert problems_found(code, module)


def problems_found(code: str, module: str) -> list[str]:
    return list(problems(code, module, module.rpartition(".")[0]))


def test_the_guard_lets_pass_what_points_down() -> None:
    code = "import json\nfrom bridge.errors import BridgeError\nfrom ..codecs import ack"

    assert problems_found(code, "bridge.web.x") == []
