"""Programs of the npm registry that tests talk to; installed on first use, outside of the repository.

Into ``$RADBRIDGE_RIGS`` (default ``~/.cache/radbridge-rigs``). Without node or npm the tests that need one are skipped,
or fail where ``RADBRIDGE_REQUIRE_ALL=1``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.rigs.need import missing, require


def installed(rig: Path, script: str) -> list[str]:
    """The command that runs ``script`` of the folder ``rig``, which holds a package.json too."""
    node, where = require("node", "nodejs"), folder(rig)
    code = (rig / script).read_bytes()
    file = where / f"{Path(script).stem}-{hashlib.sha256(code).hexdigest()[:12]}.mjs"
    file.write_bytes(code)
    return [node, str(file)]


async def started(rig: Path, script: str, wish: dict[str, Any]) -> asyncio.subprocess.Process:
    """``script`` under way, its wish given as JSON; what it writes is to be read."""
    command, pipe = await asyncio.to_thread(installed, rig, script), asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, json.dumps(wish), stdout=pipe, stderr=pipe, limit=1 << 26)


async def told(rig: Path, script: str, wish: dict[str, Any]) -> list[bytes]:
    """The lines that ``script`` has written when it ends well, within a minute."""
    process = await started(rig, script, wish)
    try:
        said, complained = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, complained.decode()
    return said.splitlines()


def folder(rig: Path) -> Path:
    """Where the packages of ``rig`` are installed."""
    package = (rig / "package.json").read_bytes()
    rigs = Path(os.environ.get("RADBRIDGE_RIGS") or Path.home() / ".cache" / "radbridge-rigs")
    found = rigs / f"{rig.name.replace('_', '-')}-{hashlib.sha256(package).hexdigest()[:12]}"
    if found.is_dir():
        return found
    npm = [require("npm"), "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    rigs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=rigs) as temporary:
        fresh = Path(temporary) / "rig"
        fresh.mkdir()
        (fresh / "package.json").write_bytes(package)
        try:
            subprocess.run(npm, cwd=fresh, capture_output=True, text=True, timeout=240, check=True)
        except subprocess.TimeoutExpired:
            missing(rig.name, "npm could not install it in 240 s")
        except subprocess.CalledProcessError as error:
            missing(rig.name, f"npm could not install it: {error.stderr.strip()[-300:]}")
        try:
            fresh.rename(found)
        except OSError:
            if not found.is_dir():
                raise
    return found
