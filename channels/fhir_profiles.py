"""Profiles of FHIR resources that a channel's `profiles` names: what they refuse, and what they warn of."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field

from bridge.codecs.fhir_check import Release, faults
from bridge.codecs.fhir_profile import Verdict, judged, library, mistakes, stamp
from bridge.codecs.fhir_profile_files import bare
from bridge.errors import BridgeError, Permanent
from bridge.ports import LocalPath, Names, Work

log = structlog.get_logger(__name__)


class ProfileSettings(BaseModel):
    """Profiles by which resources are judged beyond what FHIR itself says."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, use_attribute_docstrings=True)
    folder: LocalPath
    """Where they are: StructureDefinitions with snapshots, ValueSets and CodeSystems as JSON, or an unpacked FHIR
    package. Read when the channel starts."""
    validation: Literal["off", "warn", "strict"] = Field(default="warn", alias="validate")
    """What follows from a fault: ``strict`` refuses the resource, ``warn`` lets it pass and tells its elements;
    ``off``: only `$validate` uses them."""
    of: dict[str, Names] = {}
    """The profiles of each resource type, by their URLs. Besides, what a resource claims in `meta.profile` counts."""


class Profiles:
    """What a channel judges by; without settings, nothing."""

    def __init__(self, settings: ProfileSettings | None, channel: str, release: Release = "R4") -> None:
        """Raises BridgeError (kind ``settings``) for a folder that cannot be used."""
        self._settings, self._channel, self._release = settings, channel, release
        self._in_use = settings if settings and settings.validation != "off" else None
        self._stamp = stamp(settings.folder) if settings else ""
        for note in mistakes(library(settings.folder, self._stamp), settings.of) if settings else ():
            fix = "mend the folder of `profiles`, or what names it"
            raise BridgeError(note.what, at=note.file or note.at or "profiles.folder", fix=fix, kind="settings")

    def judge(self, value: Any) -> Verdict:
        """What a resource that FHIR itself allows is refused for, and what is only told."""
        one = self._in_use
        return self._weighed(judged(value, one.folder, self._stamp, one.of)) if one else Verdict()

    async def judge_large(self, value: Any, work: Work) -> Verdict:
        """The same, elsewhere."""
        one = self._in_use
        return self._weighed(await work(judged, value, one.folder, self._stamp, one.of)) if one else Verdict()

    def by(self, value: Any, url: str) -> Verdict:
        """By one profile, whatever `validate` says. Raises BridgeError for one that the folder does not have."""
        known = library(self._settings.folder, self._stamp) if self._settings else None
        if known is None or bare(url) not in known.profiles:
            raise BridgeError("there is no such profile here", at="http.profile", kind="unsupported")
        return known.by(value, url)

    async def let_out(self, bundle: dict[str, Any], delivery: str) -> None:
        """:meth:`let_pass`, without anybody waiting for it."""
        if self._in_use:
            await asyncio.to_thread(self.let_pass, bundle, delivery)

    def let_pass(self, bundle: dict[str, Any], delivery: str) -> None:
        """Raises Permanent for a Bundle on its way out that is refused; logs what is only told."""
        if not self._in_use:
            return
        wrong = faults(bundle, self._release)
        found = self._weighed(Verdict([*wrong])) if wrong else self.judge(bundle)
        for fault in found.faults:
            raise Permanent(fault.what, at=fault.at, fix=fault.fix, kind=fault.kind)
        if found.unjudged:
            places = [one.at for one in found.unjudged]
            log.warning("fhir_profile_not_kept", channel=self._channel, delivery=delivery, elements=places)

    def _weighed(self, found: Verdict) -> Verdict:
        if self._settings and self._settings.validation == "strict":
            return found
        return Verdict([], [*found.faults, *found.unjudged])
