"""The open steps as ``.wl`` files in a folder, kept in step with the worklist: for a server that answers from files.

Files appear whole or not at all. The folder can be thrown away: it is made anew from the worklist.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field

from bridge.codecs.dicom_file import to_file
from bridge.codecs.dicom_query import EVERYTHING
from bridge.codecs.dicom_stations import NOBODY_MOVES, Stations
from bridge.codecs.dicom_text import Unfit
from bridge.errors import BridgeError
from bridge.ports import Duration, LocalPath
from bridge.state import State
from channels.dicom_view import Charset
from channels.folder import usable, write_whole

log = structlog.get_logger(__name__)

_OURS = re.compile(r"step(\d{8,})\.wl")
_TURNS = 3
"""Rounds for which this node alone writes."""


class ExportSettings(BaseModel):
    """A folder of files that follows the worklist."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    folder: LocalPath
    """The folder; it must exist. Files named step*.wl in it are ours."""
    every: Duration = Field(default=5.0, gt=0)
    """How often it is brought up to date."""
    charset: Charset = "ISO_IR 192"
    """Specific character set of the files. A step whose text does not fit is left out, and logged."""


class Export:
    """Writes for as long as :meth:`keep` runs."""

    def __init__(
        self,
        settings: ExportSettings,
        channel: str,
        worklist: Any,
        state: State,
        stations: Callable[[], Stations] = lambda: NOBODY_MOVES,
    ) -> None:
        """``stations`` are as they are when it is called."""
        self._stations, self._shown = stations, NOBODY_MOVES
        self._settings, self._channel, self._worklist, self._state = settings, channel, worklist, state
        self._folder = settings.folder.absolute()
        self._written: dict[int, tuple[int, Any, bool]] = {}
        """Version and status of each item at the last time, and whether it was written (else it was left out)."""

    def check(self) -> None:
        """Raises BridgeError (kind ``settings``) for a folder that cannot be used."""
        with usable(self._folder):
            (self._folder / "lockfile").touch()  # wlmscpfs answers from no folder without one

    async def keep(self) -> None:
        """Bring the folder up to date every few seconds, until cancelled."""
        while True:
            try:
                if await self._state.turn(_TURNS * self._settings.every):
                    await asyncio.to_thread(self.write)
                else:
                    self._written.clear()
            except BridgeError as error:
                log.warning("worklist_files_not_written", channel=self._channel, what=error.what)
            except OSError as error:
                log.warning("folder_unreachable", channel=self._channel, reason=error.strerror)
            await asyncio.sleep(self._settings.every)

    def write(self) -> None:
        """Write what changed since the last time, and take away what is no more open."""
        there = {int(match[1]): path for path in self._folder.iterdir() if (match := _OURS.fullmatch(path.name))}
        former, self._shown = self._shown, self._stations()
        before, self._written = self._written if former == self._shown else {}, {}

        def known(number: int, *how: Any) -> bool:
            return before.get(number) == (*how, number in there)

        for item in self._worklist.find(EVERYTHING, known=known, seen=self._shown.shown):
            written = self._written_whole(item) if item.attributes else item.id in there
            if written:
                there.pop(item.id, None)
            self._written[item.id] = (item.version, item.status, written)
        for path in there.values():
            path.unlink(missing_ok=True)

    def _written_whole(self, item: Any) -> bool:
        try:
            data = to_file(item.attributes, charset=self._settings.charset)
        except Unfit as error:
            log.warning("worklist_item_withheld", channel=self._channel, item=item.id, attribute=error.at)
            return False
        write_whole(self._folder, f"step{item.id:08}.wl", data)
        return True
