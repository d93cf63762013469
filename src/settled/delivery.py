"""Handing an outcome to the one who waits for it: a callback, or a future of another thread's event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from settled.errors import SettledError

if TYPE_CHECKING:
    import asyncio  # 30 ms and 8 MB: loaded where it is used, for programs that do without

log = logging.getLogger("settled.waiting")

Answer = Mapping[str, object] | SettledError
"""What a waiter is told: the ready record, or why there will never be one."""


class Waiter:
    """One registration: `deliver` is called once, from any thread, unless it is dropped first."""

    __slots__ = ("deliver", "task_id")

    def __init__(self, task_id: str, deliver: Callable[[Answer], None]) -> None:
        self.task_id = task_id
        self.deliver = deliver


def deliver_to(waiter: Waiter, outcome: Answer) -> None:
    """Tell one waiter. What it raises must cost no other waiter its outcome, nor end the thread."""
    try:
        waiter.deliver(outcome)
    except (Exception, SystemExit):
        log.exception("the one who waits for task %s could not be told", waiter.task_id)


class AsyncDelivery:
    """Hands one outcome to a future of another thread's loop; kept small, there may be 10,000."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Answer]) -> None:
        self.loop = loop
        self.future = future

    def __call__(self, outcome: Answer) -> None:
        hand_over(self.loop, [(self.future, outcome)])


def hand_over(loop: asyncio.AbstractEventLoop, batch: list[tuple[asyncio.Future[Answer], Answer]]) -> None:
    def resolve() -> None:
        for future, outcome in batch:
            if not future.done():
                future.set_result(outcome)

    try:
        loop.call_soon_threadsafe(resolve)
    except RuntimeError:
        if not loop.is_closed():  # nobody can await in a closed loop any more
            raise
