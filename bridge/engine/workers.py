"""Work that burns CPU, kept out of the process that acknowledges: strict validation and FHIR bundles.

A worker gets the revision's files and bytes, and gives bytes or a BridgeError back; it compiles a revision once.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from bridge.codecs.formats import read_any
from bridge.engine.plan import Plan
from bridge.errors import BridgeError, CodecError, Temporary
from bridge.mapping import MappingSet, Rendered, compile_all

HEAVY_TARGETS = frozenset({"fhir"})


class Workers:
    """A small pool of processes, started on first use."""

    def __init__(self, size: int = 1) -> None:
        self._size = size
        self._pool: ProcessPoolExecutor | None = None

    async def structure_faults(self, raw: bytes, charset: str) -> list[BridgeError]:
        """What is wrong with an HL7 v2 message by the structures and data types of its version."""
        found = await self.run(_validate, raw, charset)
        return [CodecError(one["what"], at=one["at"], fix=one["fix"], kind=one["kind"]) for one in found]

    async def render(
        self, plan: Plan, mapping: str, parsed: Any, raw: bytes, charset: str, context: Mapping[str, Any]
    ) -> Rendered:
        """Render here when it is cheap, in a worker when it is not. Raises MappingError."""
        if plan.mapping(mapping).target not in HEAVY_TARGETS:
            return plan.render(mapping, parsed, context)
        full = {**plan.context, **context}
        rendered: Rendered = await self.run(_render, plan.revision, dict(plan.files), mapping, raw, charset, full)
        return rendered

    async def run(self, function: Any, *arguments: Any) -> Any:
        """What a function of a module makes of its arguments, in a worker. Raises Temporary if that one ended."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._size, mp_context=context, initializer=_end_with_the_engine)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        except BrokenProcessPool:
            self._pool = None
            raise Temporary("a worker process ended unexpectedly", fix="it is started again by itself") from None

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _end_with_the_engine() -> None:
    """In a worker: an engine that was killed leaves none behind."""
    engine = multiprocessing.parent_process()
    assert engine is not None

    def watch() -> None:
        engine.join()
        os._exit(0)

    threading.Thread(target=watch, name="radbridge-watch", daemon=True).start()


_REVISIONS: dict[str, MappingSet] = {}


def _compiled(revision: str, files: Mapping[str, str]) -> MappingSet:
    if revision not in _REVISIONS:
        inside = {name[9:]: text for name, text in files.items() if name.startswith("mappings/")}
        _REVISIONS[revision] = compile_all(inside)
    return _REVISIONS[revision]


def _render(
    revision: str, files: Mapping[str, str], mapping: str, raw: bytes, charset: str, context: Mapping[str, Any]
) -> Rendered:
    return _compiled(revision, files).mappings[mapping].render(read_any(raw, charset), context)


def _validate(raw: bytes, charset: str) -> list[dict[str, str]]:
    from bridge.codecs.strict import validate

    return validate(raw, charset)
