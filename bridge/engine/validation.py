"""Validation: what is wrong with a message by its channel's profiles and by HL7's structures, and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bridge.engine.plan import Plan
from bridge.engine.workers import Workers
from bridge.errors import Invalid
from bridge.message import Header
from bridge.ports import SourceSettings

_MOST = 50
"""Faults told of one message; a sender that has more mends these first."""


async def validated(parsed: Any, raw: bytes, plan: Plan, settings: SourceSettings, workers: Workers) -> Header:
    """The message's header; where the channel only warns, with every fault among the warnings.

    Profiles are judged here: they take tenths of a millisecond. HL7's structures take tens of milliseconds in a worker
    process; of their faults those are told that no profile told. Raises Invalid where the channel is strict.
    """
    header: Header = parsed.header
    if settings.validation == "off":
        return header
    found = [fault for name in settings.profile for fault in plan.profiles[name].faults(parsed, plan.context)]
    if settings.structure:
        told = {(fault.at, fault.kind) for fault in found}
        others = await workers.structure_faults(raw, settings.charset)
        found += [fault for fault in others if (fault.at, fault.kind) not in told]
    if not found:
        return header
    faults = found[:_MOST]
    if settings.validation == "strict":
        raise Invalid(faults)
    return replace(header, warnings=(*header.warnings, *map(str, faults)))
