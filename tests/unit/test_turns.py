"""Whoever waits for a turn gets it in sequence, one in each turn of the event loop."""

from __future__ import annotations

import asyncio

from bridge.engine.turns import Turns


async def test_a_burst_is_let_in_one_by_one_in_sequence_with_turns_for_others_in_between() -> None:
    turns, seen = Turns(), list[str]()

    async def arrive(name: str) -> None:
        await turns.mine()
        seen.append(name)

    async def deliver() -> None:
        while len([one for one in seen if one != "step"]) < 10:
            seen.append("step")
            await asyncio.sleep(0)

    await asyncio.gather(*(arrive(str(number)) for number in range(10)), deliver())

    arrived = [one for one in seen if one != "step"]
    assert arrived == [str(number) for number in range(10)]
    assert all("step" in seen[seen.index(a) : seen.index(b)] for a, b in zip(arrived[1:], arrived[2:], strict=False))


async def test_one_that_gave_up_does_not_hold_the_others() -> None:
    turns = Turns()
    first = asyncio.create_task(turns.mine())
    second = asyncio.create_task(turns.mine())
    third = asyncio.create_task(turns.mine())
    await asyncio.sleep(0)

    second.cancel()

    async with asyncio.timeout(5):
        await asyncio.gather(first, third)
    assert second.cancelled()


async def test_a_single_arrival_need_not_wait() -> None:
    turns = Turns()
    for _ in range(3):
        waiting = turns.mine()
        try:
            waiting.send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("it waited")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
