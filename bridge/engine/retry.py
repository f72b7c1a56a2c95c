"""What an attempt's end means for its delivery: pure policy, no clock, no store."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from bridge.errors import BridgeError, Held, Overloaded, Permanent, StoreUnavailable, Temporary, Uncertain, Unreachable
from bridge.message import DeliveryStatus
from bridge.ports import RetryPolicy
from bridge.store.finish import Fenced

Scope = Literal["delivery", "destination"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after an attempt that did not succeed."""

    status: DeliveryStatus
    """PENDING (again) or DEAD."""
    scope: Scope
    """``destination``: the whole destination waits, because it is away."""
    counted: bool
    """The attempt spends the delivery's budget."""
    suspected: bool
    """The destination may have the message already."""
    bug: bool = False
    hold: bool = False
    """Dead, and its lane keys wait for a person whatever the channel's policy."""


def judge(error: BaseException, attempts: int, policy: RetryPolicy, repeats: int = 0) -> Verdict:
    """The verdict on ``error`` after ``attempts`` counted attempts, this one included; ``repeats`` of those before it
    may have reached the destination.

    Unreachable waits for the destination and spends nothing. Permanent is dead at once. Temporary and Uncertain are
    tried again until the budget is spent, Uncertain also until a repeat would be one too many. Trouble with our own
    store is not the delivery's: it waits, and spends nothing. Anything else is a defect of ours: tried again until the
    budget is spent, then dead, with the lane held for a person.
    """
    if isinstance(error, Unreachable):
        return Verdict(DeliveryStatus.PENDING, "destination", counted=False, suspected=False)
    if isinstance(error, Permanent):
        return Verdict(DeliveryStatus.DEAD, "delivery", counted=True, suspected=False, hold=isinstance(error, Held))
    if isinstance(error, Temporary):
        suspected = isinstance(error, Uncertain)
        spent = attempts >= policy.attempts or (suspected and repeats >= policy.repeats)
        status = DeliveryStatus.DEAD if spent else DeliveryStatus.PENDING
        return Verdict(status, "delivery", counted=True, suspected=suspected)
    if isinstance(error, StoreUnavailable | Overloaded | Fenced):
        return Verdict(DeliveryStatus.PENDING, "delivery", counted=False, suspected=False)
    status = DeliveryStatus.DEAD if attempts >= policy.attempts else DeliveryStatus.PENDING
    return Verdict(status, "delivery", counted=True, suspected=False, bug=True, hold=True)


def backoff(policy: RetryPolicy, attempt: int, chance: float | None = None) -> float:
    """Seconds to wait after the ``attempt``-th failure (from 1): doubling from ``first`` to ``max``, full range of
    jitter in the upper half, so that lanes that failed together don't come back together."""
    ceiling = min(policy.max, policy.first * 2.0 ** min(attempt - 1, 32))
    return ceiling * (0.5 + 0.5 * (random.random() if chance is None else chance))


def wait_for(error: BaseException, policy: RetryPolicy, attempt: int) -> float:
    """Seconds to wait: what the destination asked for (Retry-After), else the policy's backoff, eightfold from one
    attempt to the next where each may make a duplicate."""
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        return max(float(asked), policy.first)
    return backoff(policy, 3 * attempt - 2 if isinstance(error, Uncertain) else attempt)


def describe(error: BaseException, verdict: Verdict, attempts: int, policy: RetryPolicy) -> dict[str, str]:
    """The error as kept with the delivery and shown to people; never the text of an unexpected exception."""
    if not isinstance(error, BridgeError):
        what = f"internal error ({type(error).__name__}), attempt {attempts} of {policy.attempts}"
        fix = "see the engine's log"
        if verdict.status is DeliveryStatus.DEAD:
            fix += ", then replay or skip"
        return {"kind": "internal", "what": what, "at": "", "fix": fix}
    facts = error.as_dict()
    if verdict.suspected and verdict.status is DeliveryStatus.DEAD and attempts < policy.attempts:
        facts["what"] += f" (given up: the destination may have it, and {policy.repeats} repeats are allowed)"
    elif verdict.status is DeliveryStatus.DEAD and not isinstance(error, Permanent):
        facts["what"] += f" (given up after {attempts} of {policy.attempts} attempts)"
    return facts
