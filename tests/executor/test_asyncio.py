"""Handles in an event loop."""

from __future__ import annotations

import asyncio

import pytest

import settled
from tests.executor import work


def test_handles_are_awaited(threads):
    async def main():
        handle = threads.submit(work.double, 1)
        assert await handle == 2
        assert await handle == 2
        assert await asyncio.wrap_future(threads.submit(work.double, 2)) == 4
        values = await asyncio.gather(
            *(asyncio.wrap_future(threads.submit(work.double, x)) for x in range(50))
        )
        assert values == list(range(0, 100, 2))
        with pytest.raises(ValueError, match="no"):
            await threads.submit(work.fail, "no")

    asyncio.run(asyncio.wait_for(main(), 30))


def test_cancelling_the_one_who_awaits_leaves_the_call(threads, gate):
    async def main():
        handle = threads.submit(work.pass_gate, gate)

        async def wait():
            return await handle

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not handle.cancelled()
        await asyncio.to_thread(work.open_gate, gate)
        assert await handle == "open"

    asyncio.run(asyncio.wait_for(main(), 30))


def test_groups_gather_and_as_completed_take_handles(threads):
    async def main():
        group = threads.group([settled.call(work.double, x) for x in range(10)])
        assert await group == list(range(0, 20, 2))
        handles = [threads.submit(work.add, x, y=100) for x in range(10)]
        assert await settled.gather(*handles) == list(range(100, 110))
        fresh = [threads.submit(work.double, x, key=None) for x in range(10)]
        seen = [await handle async for handle in settled.as_completed(fresh, timeout=20)]
        assert sorted(seen) == list(range(0, 20, 2))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_as_completed_in_a_thread(threads):
    handles = [threads.submit(work.double, x) for x in range(10)]
    assert sorted(handle.get() for handle in settled.as_completed(handles, timeout=20)) == list(
        range(0, 20, 2)
    )
