"""What people do about revisions, by the command or the API: look, compare, deploy, roll back."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.engine.ends import ingredients
from bridge.engine.plan import Plan
from bridge.engine.shadow import Report
from bridge.errors import BridgeError, Finding, NotFound, SettingsError
from bridge.lint import findings_of
from bridge.mapping.cases import run_cases
from bridge.settings import Loaded, from_files, samples
from bridge.store import revisions
from bridge.store.revisions import Deployment
from bridge.store.store import Store

PATIENCE = 20.0
"""Seconds that running nodes get to take a deployment over."""
LOOK = 0.1
AT_START = ("data", "store", "broker", "web", "log")
"""Sections of the site file that an engine reads when it starts, and never again."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a deployment would change; made by :meth:`Deployments.prepare`, or by :meth:`Deployments.compare` for a
    rollback. It changes nothing if both revisions are the same."""

    revision: str
    former: str
    """The revision that runs; empty if none does yet."""
    files: dict[str, str]
    """Of the revision."""
    diff: str
    starts: tuple[str, ...]
    """Channels that are new."""
    restarts: tuple[str, ...]
    """Channels whose connections end, because their settings changed."""
    stops: tuple[str, ...]
    """Channels that are no more. What is still on its way to them is delivered first."""
    at_start: tuple[str, ...]
    """Sections that take effect when the engine is started the next time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How running nodes took a deployment."""

    nodes: tuple[str, ...]
    """Those that serve it."""
    silent: tuple[str, ...]
    """Those that have not taken it over in time; they do when they can."""


class Deployments:
    """Safe from any thread; blocks on the database. Every change names its ``actor``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def history(self, limit: int = 100) -> list[Deployment]:
        """The newest first, with those that were refused."""
        found: list[Deployment] = self._store.read(lambda c: revisions.history(c, limit))
        return found

    def active(self) -> Deployment | None:
        """The one that runs; None before the first start."""
        found: Deployment | None = self._store.read(revisions.active)
        return found

    def revision(self, prefix: str) -> str:
        """The kept revision whose id begins so. Raises NotFound, or BridgeError when several do."""
        found = self._store.read(lambda c: revisions.matching(c, prefix))
        if not found:
            raise NotFound(f"no revision {prefix}", fix="`radbridge revisions` lists them")
        if len(found) > 1:
            raise BridgeError(f"{len(found)} revisions begin with {prefix}", fix="write more of it", kind="unknown_key")
        return str(found[0])

    def files(self, prefix: str) -> dict[str, str]:
        """The files of a kept revision. Raises NotFound."""
        return self._store.revision_files(self.revision(prefix))

    def prepare(self, candidate: Loaded) -> Change:
        """What deploying ``candidate`` would change.

        Raises SettingsError with every error of its files; without any, with every case that does not hold.
        """
        faults = check(candidate)
        if faults:
            raise SettingsError(faults)
        return self.compare(candidate)

    def compare(self, candidate: Loaded) -> Change:
        """The same for files that ran before. Raises SettingsError for what this version cannot use."""
        plan, running = Plan(candidate), self.active()
        former = running.revision if running else ""
        files = self._store.revision_files(former) if former else {}
        known = _plan(from_files(files, candidate.folder)) if former else None
        old = set(known.config.channels) if known else set()
        new = set(plan.config.channels)
        same = {name for name in old & new if known and ingredients(known, name) == ingredients(plan, name)}
        late = [name for name in AT_START if known and getattr(known.config, name) != getattr(plan.config, name)]
        return Change(
            revision=plan.revision,
            former=former,
            files=dict(candidate.files),
            diff=unified(files, candidate.files),
            starts=tuple(sorted(new - old)),
            restarts=tuple(sorted(old & new - same)),
            stops=tuple(sorted(old - new)),
            at_start=tuple(late),
        )

    def deploy(self, change: Change, *, actor: str, why: str = "", signed_off: bool = False) -> Deployment:
        """Make a revision the one that runs, from the next message on.

        Raises BridgeError if a destination that it removes has dead deliveries, or if ``signed_off`` is wanted and
        nobody did.
        """
        if signed_off and not self._store.read(lambda c: revisions.signed_off(c, change.revision)):
            fix = "look at `radbridge shadow`, then add --sign-off TEXT"
            raise BridgeError(f"nobody signed off revision {change.revision}", fix=fix, kind="forbidden")
        return self._make_active(change, "deploy", actor, why)

    def rollback(self, change: Change, *, actor: str, why: str = "") -> Deployment:
        """Make an older revision the one that runs; nothing is written to the files on disk."""
        return self._make_active(change, "rollback", actor, why)

    def older(self, prefix: str, folder: Path) -> Loaded:
        """A kept revision, by default the one that ran before; ``folder`` is that of the site file. Raises NotFound."""
        revision = self.revision(prefix) if prefix else str(self._store.read(revisions.before))
        if not revision:
            raise NotFound("no revision ran before this one", fix="`radbridge revisions` lists them")
        return from_files(self._store.revision_files(revision), folder)

    def sign_off(self, revision: str, report: Report, *, against: str, actor: str, why: str) -> None:
        """Record that somebody looked at what a revision would change, and agreed."""
        seen = {"messages": report.messages, "changed": report.changed, "against": against}
        self._store.record(actor, revisions.SIGN_OFF, revision, {"why": why, **seen})

    def outcome(self, deployment: Deployment, patience: float = PATIENCE) -> Outcome:
        """Wait until every running node has taken it over, at most ``patience`` seconds.

        Raises BridgeError if a node refused it: then the former revision runs on, everywhere.
        """
        deadline, number = time.monotonic() + patience, deployment.number
        while True:
            refused: str = self._store.read(lambda c: revisions.refusal(c, number))
            if refused:
                fix = f"mend it, and deploy again; {deployment.former} runs on"
                raise BridgeError(f"refused by a running engine: {refused}", fix=fix, kind="locked")
            running: dict[str, int] = self._store.read(revisions.nodes)
            taken = sorted(node for node, served in running.items() if served >= number)
            silent = sorted(running.keys() - set(taken))
            if not silent or time.monotonic() > deadline:
                return Outcome(tuple(taken), tuple(silent))
            time.sleep(LOOK)

    def _make_active(self, change: Change, kind: revisions.Kind, actor: str, why: str) -> Deployment:
        for name in change.stops:
            if self._store.deliveries(status="dead", destination=name, limit=1):
                fix = f"replay or skip what `radbridge dead` shows of {name}"
                raise BridgeError(f"{name} is to be removed and has dead deliveries", fix=fix, kind="locked")
        self._store.keep_revision(change.revision, change.files)
        made: Deployment = self._store.write(
            lambda tx: revisions.deploy(tx, change.revision, kind, actor=actor, why=why)
        )
        return made


def check(candidate: Loaded) -> list[Finding]:
    """What keeps files from being deployed: their errors; without any, the cases that do not hold."""
    errors = [finding for finding in findings_of(candidate) if finding.severity == "error"]
    if errors:
        return errors
    results = run_cases(candidate.mapping_files, samples(candidate.config.mappings))
    return [
        Finding(f"mappings/{case.file}", case.line, 1, f"the case `{case.name}` does not hold: {difference}")
        for case in results
        for difference in case.differences
    ]


def unified(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The differences of two revisions' files, as ``diff -u`` shows them; empty if there are none."""
    lines: list[str] = []
    for name in sorted({*before, *after}):
        old, new = (files.get(name, "").splitlines() for files in (before, after))
        lines += difflib.unified_diff(
            old, new, name if name in before else "/dev/null", name if name in after else "/dev/null", lineterm=""
        )
    return "\n".join(lines)


def _plan(loaded: Loaded) -> Plan | None:
    try:
        return Plan(loaded)
    except SettingsError:
        return None
