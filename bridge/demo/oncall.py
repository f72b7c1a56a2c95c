"""The person on call, who works with the command as everybody does: looks at what is dead, mends, replays or skips."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from bridge.demo.engine import environment
from bridge.demo.site import know_the_new_room
from bridge.errors import BridgeError


class OnCall:
    """Acts on the site whose file is ``config``. ``acts`` tells what was done, in sentences."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self.acts: list[str] = []

    async def look(self) -> int:
        """Deal with every dead letter; how many there were."""
        dead = (await self.state())["dead"]
        for letter in dead:
            await self._deal_with(letter)
        return len(dead)

    async def state(self) -> dict[str, Any]:
        """What ``radbridge dead`` tells: ``dead`` deliveries, and ``lanes`` with what waits."""
        found: dict[str, Any] = await self._radbridge("dead")
        return found

    async def _deal_with(self, letter: dict[str, Any]) -> None:
        error = letter["error"]
        if "stations.csv" in error["fix"]:
            know_the_new_room(self._config.parent)
            await self._radbridge("deploy", "--yes", "--why", "a new room")
            await self._radbridge("replay", letter["id"], "--yes")
            done = "added the room to tables/stations.csv, deployed it and replayed the order"
        else:
            await self._radbridge("skip", letter["id"], "--reason", "the RIS sends it again with the right number")
            done = "had the order sent again with a right number, and skipped this one"
        self.acts.append(f"{letter['destination']}: {error['what']} at {error['at'] or 'the mapping'}: {done}")

    async def _radbridge(self, *arguments: str) -> Any:
        words = [*arguments, "--config", str(self._config), "--json"]
        code = "from bridge.cli import main; main()"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", code, *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        output, errors = await process.communicate()
        if process.returncode:
            what = errors.decode(errors="replace").strip() or output.decode(errors="replace").strip()
            raise BridgeError(f"radbridge {arguments[0]} ended with {process.returncode}: {what[-500:]}")
        return json.loads(output)
