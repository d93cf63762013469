"""Waiting for many handles at once, whichever comes first."""

from __future__ import annotations

import asyncio
import builtins
import queue
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from typing import Generic, TypeVar, cast

from settled.backends.base import BaseBackend
from settled.backends.protocols import checked_timeout
from settled.errors import SettledError, TimeoutError
from settled.results import AnyResult, ResultBase

T = TypeVar("T")


class AsCompleted(Generic[T]):
    """Handles in the order in which they become ready: `for` in a thread, `async for` in a loop."""

    def __init__(self, results: Iterable[AnyResult], timeout: float | None) -> None:
        self._results = list(results)
        self._timeout = checked_timeout(timeout)

    def __iter__(self) -> Iterator[AnyResult]:
        deadline = deadline_in(self._timeout)
        tally = _Tally(self._results)
        yield from tally.complete()
        arrived: queue.SimpleQueue[ResultBase[object]] = queue.SimpleQueue()
        missing = {id(task): task for task in tally.missing}
        look(missing.values())
        letting_go = [task.when_told(arrived.put) for task in missing.values()]
        try:
            while missing:
                for task in self._next(arrived, missing.values(), left_until(deadline)):
                    if missing.pop(id(task), None) is not None:
                        yield from tally.strike(task)
        finally:
            for let_go in letting_go:
                let_go()

    def _next(
        self,
        arrived: queue.SimpleQueue[ResultBase[object]],
        missing: Collection[ResultBase[object]],
        left: float | None,
    ) -> list[ResultBase[object]]:
        """The next task to arrive; TimeoutError if a last look after `left` seconds finds none either."""
        try:
            return [arrived.get(timeout=None if left is None else min(left, threading.TIMEOUT_MAX))]
        except queue.Empty:
            look(missing)
        late = [task for task in missing if not task.wanted]
        if not late:
            raise TimeoutError(f"{len(missing)} results were not ready within {self._timeout} s")
        return late

    async def __aiter__(self) -> AsyncIterator[AnyResult]:
        deadline = deadline_in(self._timeout)
        arrived: asyncio.Queue[int] = asyncio.Queue()
        futures: list[asyncio.Future[object]] = []
        missing = dict.fromkeys(range(len(self._results)))
        try:
            for place, result in enumerate(self._results):
                futures.append(_tell(result, arrived, place))
            while missing:
                try:
                    places = [await asyncio.wait_for(arrived.get(), left_until(deadline))]
                except builtins.TimeoutError:
                    places = await asyncio.to_thread(self._late, list(missing))
                    if not places:
                        message = f"{len(missing)} results were not ready within {self._timeout} s"
                        raise TimeoutError(message) from None
                for place in places:
                    if place in missing:
                        del missing[place]
                        yield self._results[place]
        finally:
            for future in futures:
                future.cancel()

    def _late(self, places: list[int]) -> list[int]:
        """The last look before a timeout: which of these are ready after all."""
        look([self._results[place] for place in places])
        return [place for place in places if not wanted([self._results[place]])]


class _Tally:
    """Which of some handles, groups among them, have all their tasks settled."""

    def __init__(self, results: list[AnyResult]) -> None:
        self._results = results
        # Asked once: a handle may be told its record by somebody else at any moment.
        missing = {id(task): task for task in tasks_of(results) if task.wanted}
        self.missing = list(missing.values())
        self._open: list[int] = []
        self._places: dict[int, list[int]] = {}
        for place, result in enumerate(results):
            tasks = [each for each in tasks_of([result]) if id(each) in missing]
            self._open.append(len(tasks))
            for each in tasks:
                self._places.setdefault(id(each), []).append(place)

    def complete(self) -> list[AnyResult]:
        """Those of which nothing is missing from the start."""
        return [result for result, missing in zip(self._results, self._open, strict=True) if not missing]

    def strike(self, task: ResultBase[object]) -> Iterator[AnyResult]:
        """The task is settled: those of which it was the last."""
        for place in self._places.pop(id(task), ()):
            self._open[place] -= 1
            if not self._open[place]:
                yield self._results[place]


def tasks_of(results: Iterable[AnyResult]) -> Iterator[ResultBase[object]]:
    """The handles of tasks among these, and in the groups among them."""
    for result in results:
        yield from result.tasks()


def wanted(results: Iterable[AnyResult]) -> dict[BaseBackend, dict[str, list[ResultBase[object]]]]:
    """The handles whose record is still to be read, each once, by backend and task id."""
    found: dict[BaseBackend, dict[str, list[ResultBase[object]]]] = {}
    for task in {id(task): task for task in tasks_of(results) if task.wanted}.values():
        found.setdefault(task.backend, {}).setdefault(task.id, []).append(task)
    return found


def look(results: Iterable[AnyResult]) -> None:
    """Have these handles keep the records that are ready now."""
    for backend, by_id in wanted(results).items():
        for found in backend.watcher.looks(list(by_id)):
            for task_id, answer in found:
                for result in by_id[task_id] if not isinstance(answer, SettledError) else ():
                    result.keep(backend.outcome_meta(answer))


def _tell(result: AnyResult, arrived: asyncio.Queue[int], place: int) -> asyncio.Future[object]:
    """Have `place` put into `arrived` once the handle is ready; cancel what is returned to let go of it."""
    future = cast("asyncio.Future[object]", result.future())

    def put(done: asyncio.Future[object]) -> None:
        if not done.cancelled():
            arrived.put_nowait(place)

    future.add_done_callback(put)
    return future


def as_completed(results: Iterable[AnyResult], timeout: float | None = None) -> AsCompleted[object]:
    """Iterate over handles as they become ready, with `for` or with `async for`.

    `timeout` seconds are for all together, None for ever; TimeoutError when they have passed. What
    became of each task is asked of its handle; nothing is raised here. A group comes when all
    its tasks are ready. With `for`, handles of several backends come one backend after the other.
    """
    return AsCompleted(results, timeout)


async def gather(*results: AnyResult, return_exceptions: bool = False) -> list[object]:
    """The values of these handles in order, awaited together; the first failure is raised.

    With `return_exceptions` failures are returned in their place instead.
    """

    async def value(result: AnyResult) -> object:
        return await result

    tasks = [asyncio.ensure_future(value(result)) for result in results]
    try:
        return list(await asyncio.gather(*tasks, return_exceptions=return_exceptions))
    finally:
        for task in tasks:  # after a failure nobody waits for the others any more
            task.cancel()


def deadline_in(timeout: float | None) -> float | None:
    timeout = checked_timeout(timeout)
    return None if timeout is None else time.monotonic() + timeout


def left_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
