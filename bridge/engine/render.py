"""From a claimed delivery to the bytes that leave: the mapping of its revision, frozen before the first attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from bridge.codecs.formats import FORMATS
from bridge.engine import references
from bridge.engine.lane import Entry
from bridge.engine.plan import Plan
from bridge.engine.workers import Workers
from bridge.errors import BridgeError
from bridge.model import Unmapped
from bridge.store import identity
from bridge.store.deliveries import Owed
from bridge.store.finish import Frozen
from bridge.store.store import Store

PATIENCE = 0.001
"""Seconds that rendered bytes wait for a commit to share."""

Plans = Callable[[str], Plan]
"""Revision -> plan, from memory or from the store."""


class Renderer:
    """Renders claimed deliveries. A failure is kept with its entry and told when its turn comes."""

    def __init__(self, store: Store, plans: Plans, workers: Workers) -> None:
        self._store, self._plans, self._workers = store, plans, workers

    async def prepare(self, owed: list[Owed]) -> list[Entry]:
        """Entries ready to leave, in the given sequence."""
        entries = [Entry(item, control_id=item.control_id, format=item.format) for item in owed]
        await self.fill(entries)
        return entries

    async def fill(self, entries: list[Entry]) -> None:
        """Render each entry, or note its failure; what was newly rendered is committed before it can leave (law 5).

        Raises what the store raises; then nothing was rendered.
        """
        fresh: list[Entry] = []
        unmapped: list[tuple[str, Unmapped]] = []
        await self._look_up(entries)
        for entry in entries:
            delivery = entry.owed.delivery
            if not delivery.mapping and delivery.payload is None:
                entry.rendered = entry.owed.raw
                continue
            frozen = delivery.payload is not None
            try:
                unmapped += [(delivery.message, one) for one in await self._render(entry)]
            except Exception as error:  # noqa: BLE001 - the delivery loop: judged by policy at the delivery's turn
                unmapped += [(delivery.message, one) for one in getattr(error, "unmapped", ())]
                entry.failure, entry.owed = error, replace(entry.owed, fresh=False)
                continue
            if not frozen:
                fresh.append(entry)
        if fresh or unmapped:
            await self._freeze(fresh, unmapped)

    async def _freeze(self, fresh: list[Entry], unmapped: list[tuple[str, Unmapped]]) -> None:
        deliveries = [entry.owed.delivery for entry in fresh]
        frozen = [Frozen(delivery.id, delivery.payload, delivery.context) for delivery in deliveries]
        try:
            await self._store.freeze(frozen, unmapped=unmapped, patience=PATIENCE)
        except BridgeError:
            for entry in fresh:
                entry.rendered = entry.owed.delivery.payload = None
            raise

    async def _look_up(self, entries: list[Entry]) -> None:
        """Tell each that is about to be rendered what its message refers to, and which of its patients' identifiers
        were merged away by now."""
        patients: dict[str, tuple[str, ...]] = {}
        waiting = [entry for entry in entries if entry.owed.delivery.mapping and entry.owed.delivery.payload is None]
        waiting = [entry for entry in waiting if not entry.owed.fresh or entry.owed.format == "fhir"]
        for entry in waiting:
            owed, delivery = entry.owed, entry.owed.delivery
            try:
                parsed = owed.parsed or FORMATS[owed.format].read(owed.raw, owed.charset)
                site = self._plans(delivery.revision).context.get("site", {})
            except BridgeError:  # told when it is rendered
                continue
            entry.owed = replace(owed, parsed=parsed)
            known = await references.asked(self._store.fhir, parsed)
            patients[delivery.id] = references.settled(parsed.header, parsed, known, site).patients
            delivery.context = {**delivery.context, **references.context(parsed, known, delivery.message)}
        named = {name for names in patients.values() for name in names}
        survivors = await asyncio.to_thread(self._store.survivors, named) if named else {}
        for entry in waiting:
            identity.tell(entry.owed.delivery, patients.get(entry.owed.delivery.id, ()), survivors)

    async def _render(self, entry: Entry) -> tuple[Unmapped, ...]:
        """Fill an entry; the codes on the way that no table has."""
        owed, delivery = entry.owed, entry.owed.delivery
        plan = self._plans(delivery.revision)
        target = plan.mapping(delivery.mapping).target if delivery.mapping else owed.format
        entry.format = target
        if delivery.payload is not None:
            entry.rendered = delivery.payload
            if target == "hl7v2":
                entry.control_id = FORMATS[target].read(delivery.payload, owed.charset).header.control_id
            return ()
        parsed = owed.parsed or FORMATS[owed.format].read(owed.raw, owed.charset)
        rendered = await self._workers.render(plan, delivery.mapping, parsed, owed.raw, owed.charset, delivery.context)
        entry.rendered, entry.control_id, entry.format = rendered.data, rendered.control_id, rendered.format
        delivery.payload = rendered.data
        return rendered.unmapped
