"""Handles on many tasks at once: sets of results, groups, and waiting for whichever comes first."""

from __future__ import annotations

import asyncio
import builtins
import copy
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterable, Iterator
from typing import Generic, Self, TypeVar, cast

from settled.backends.base import BaseBackend
from settled.backends.protocols import Application, checked_timeout
from settled.errors import ConfigurationError, EncodeError, SettledError, TimeoutError
from settled.record import checked_id
from settled.results import AnyResult, ResultBase
from settled.states import PROPAGATE_STATES

T = TypeVar("T")


class ResultSet:
    """An ordered set of handles, of tasks or of groups, that can be waited for together.

    Args:
        results: the handles; the first of two that are equal stays.
        app: makes the handles' backend known where the set is empty.
    """

    def __init__(self, results: Iterable[AnyResult], app: Application | None = None) -> None:
        self.results: list[AnyResult] = list(dict.fromkeys(results))
        self.app = app

    @property
    def backend(self) -> BaseBackend:
        if self.results:
            return self.results[0].backend
        backend = getattr(self.app, "backend", None)
        if backend is None:
            raise ConfigurationError("an empty set of results knows no backend: give it app=")
        return cast("BaseBackend", backend)

    # -- waiting -----------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, object], object] | None = None,
    ) -> list[object]:
        """The values in order, when all are ready; the same as `join`."""
        return self.join(timeout, propagate, interval, callback)

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, object], object] | None = None,
    ) -> list[object]:
        """Wait for all and return their values in order.

        Args:
            timeout: seconds for all of them together; TimeoutError when they have passed.
            propagate: raise the first failure, in order, instead of returning it in its place.
            interval: accepted for compatibility; waiting is pushed.
            callback: called as `callback(task_id, value)` for each, in order; then [] is returned.
        """
        deadline = _deadline(timeout)
        self._look()
        values: list[object] = []
        for result in self.results:
            value = result.get(_left(deadline), propagate)
            if callback is None:
                values.append(value)
            else:
                callback(result.id, value)
        return values

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, object], object] | None = None,
    ) -> list[object]:
        """As `join`, but told as they arrive: the first failure to arrive raises at once."""
        arrived: dict[AnyResult, object] = {}
        for result in as_completed(self.results, timeout):
            value = result.get(0, propagate)
            if callback is None:
                arrived[result] = value
            else:
                callback(result.id, value)
        return [arrived[result] for result in self.results] if callback is None else []

    def __await__(self) -> Generator[object, None, list[object]]:
        return gather(*self.results).__await__()

    def _load(self) -> None:
        """Read every record that is not held yet, in one look."""
        for backend, by_id in _wanted(self.results).items():
            for task_id, meta in backend.read_ready(list(by_id)).items():
                for result in by_id[task_id]:
                    result.keep(meta)

    def _look(self) -> None:
        """As `_load`, for one who waits: nothing is read while the store is out of reach."""
        _look(self.results)

    # -- looking -----------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether every task is ready."""
        self._load()
        return all(result.ready() for result in self.results)

    def successful(self) -> bool:
        """Whether every task has succeeded."""
        self._load()
        return all(result.successful() for result in self.results)

    def failed(self) -> bool:
        """Whether any task has failed."""
        self._load()
        return any(result.failed() for result in self.results)

    def waiting(self) -> bool:
        """Whether any task is not ready."""
        return not self.ready()

    def completed_count(self) -> int:
        """How many of the tasks have succeeded; those of nested groups counted one by one."""
        self._load()
        return sum(
            each.completed_count() if isinstance(each, ResultSet) else each.successful()
            for each in self.results
        )

    def maybe_throw(self, propagate: bool = True) -> None:
        """Raise the exception of the first task, in order, that has failed."""
        self._load()
        for result in self.results:
            if isinstance(result, ResultSet):
                result.maybe_throw(propagate)
            elif propagate and result.state in PROPAGATE_STATES:
                result.get(0)

    def forget(self, children: bool = False) -> None:
        """Forget every task's result."""
        for result in self.results:
            result.forget(children=children)

    # -- being a collection ------------------------------------------------------------------

    def add(self, result: AnyResult) -> None:
        """Put a handle behind the others, if it is not there."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: AnyResult) -> None:
        """Take a handle out; KeyError if it is not there."""
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: AnyResult) -> None:
        """Take a handle out if it is there."""
        if result in self.results:
            self.results.remove(result)

    def update(self, results: Iterable[AnyResult]) -> None:
        for result in results:
            self.add(result)

    def clear(self) -> None:
        self.results.clear()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        made = copy.copy(self)  # the app is the same one
        made.results = copy.deepcopy(self.results, memo)
        return made

    def __iter__(self) -> Iterator[AnyResult]:
        return iter(self.results)

    def __getitem__(self, index: int) -> AnyResult:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultSet) and other.results == self.results

    def __hash__(self) -> int:
        raise TypeError("a plain set of results can change and has no hash; a GroupResult has")

    def __repr__(self) -> str:
        shown = ", ".join(str(each) for each in self.results[:5])
        return f"<{type(self).__name__} [{shown}{', ...' if len(self) > 5 else ''}]>"

    @property
    def id(self) -> str:
        raise AttributeError("a plain set of results has no id; a GroupResult has")

    def as_tuple(self) -> tuple[object, object]:
        raise EncodeError("a plain set of results cannot be stored; a GroupResult can")

    @property
    def children(self) -> list[AnyResult]:
        return self.results


class GroupResult(ResultSet):
    """The handles of a group's tasks, in order, under the group's id.

    Args:
        id: the group id.
        parent: the handle of the task that sent the group.
    """

    def __init__(
        self,
        id: str,
        results: Iterable[AnyResult] = (),
        parent: AnyResult | None = None,
        app: Application | None = None,
    ) -> None:
        super().__init__((), app)
        # A header may hold the same task at two places: unlike a set, a group keeps both.
        self.results = list(results)
        self._id = checked_id(id, "group id")
        self.parent = parent

    @property
    def id(self) -> str:
        return self._id

    def as_tuple(self) -> tuple[object, object]:
        """The stored form: `((id, parent's form), [members' forms])`."""
        parent = self.parent
        return (self.id, None if parent is None else parent.as_tuple()), [
            each.as_tuple() for each in self.results
        ]

    def save(self, backend: BaseBackend | None = None) -> None:
        """Store the members under the group's id, so that `restore` finds them from anywhere."""
        (backend or self.backend).save_group(self.id, self)

    def delete(self, backend: BaseBackend | None = None) -> None:
        """Delete what `save` stored. The tasks' results stay."""
        (backend or self.backend).delete_group(self.id)

    @classmethod
    def restore(
        cls, id: str, backend: BaseBackend | None = None, app: Application | None = None
    ) -> GroupResult | None:
        """The group saved under `id`, or None. Give the backend, or an app that has one."""
        backend = backend or cast("BaseBackend | None", getattr(app, "backend", None))
        if backend is None:
            raise ConfigurationError("GroupResult.restore needs backend= or app=")
        return cast("GroupResult | None", backend.restore_group(id))

    def forget(self, children: bool = False) -> None:
        """Forget the group, its barrier and every task's result."""
        super().forget(children)
        self.backend.forget(self.id)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupResult) and other.id == self.id and other.results == self.results

    def __reduce__(self) -> tuple[object, ...]:
        return GroupResult, (self.id, self.results, self.parent, self.app)


class AsCompleted(Generic[T]):
    """Handles in the order in which they become ready: `for` in a thread, `async for` in a loop."""

    def __init__(self, results: Iterable[AnyResult], timeout: float | None) -> None:
        self._results = list(results)
        self._timeout = checked_timeout(timeout)

    def __iter__(self) -> Iterator[AnyResult]:
        deadline = _deadline(self._timeout)
        tally = _Tally(self._results)
        yield from tally.complete()
        arrived: queue.SimpleQueue[ResultBase[object]] = queue.SimpleQueue()
        missing = {id(task): task for task in tally.missing}
        _look(missing.values())
        letting_go = [task.when_told(arrived.put) for task in missing.values()]
        try:
            while missing:
                for task in self._next(arrived, missing.values(), _left(deadline)):
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
            _look(missing)
        late = [task for task in missing if not task.wanted]
        if not late:
            raise TimeoutError(f"{len(missing)} results were not ready within {self._timeout} s")
        return late

    async def __aiter__(self) -> AsyncIterator[AnyResult]:
        deadline = _deadline(self._timeout)
        arrived: asyncio.Queue[int] = asyncio.Queue()
        futures: list[asyncio.Future[object]] = []
        missing = dict.fromkeys(range(len(self._results)))
        try:
            for place, result in enumerate(self._results):
                futures.append(_tell(result, arrived, place))
            while missing:
                try:
                    places = [await asyncio.wait_for(arrived.get(), _left(deadline))]
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
        _look([self._results[place] for place in places])
        return [place for place in places if not _wanted([self._results[place]])]


class _Tally:
    """Which of some handles, groups among them, have all their tasks settled."""

    def __init__(self, results: list[AnyResult]) -> None:
        self._results = results
        # Asked once: a handle may be told its record by somebody else at any moment.
        missing = {id(task): task for task in _tasks(results) if task.wanted}
        self.missing = list(missing.values())
        self._open: list[int] = []
        self._places: dict[int, list[int]] = {}
        for place, result in enumerate(results):
            tasks = [each for each in _tasks([result]) if id(each) in missing]
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


def _tasks(results: Iterable[AnyResult]) -> Iterator[ResultBase[object]]:
    """The handles of tasks among these, and in the groups among them."""
    for result in results:
        if isinstance(result, ResultSet):
            yield from _tasks(result.results)
        else:
            yield result


def _wanted(results: Iterable[AnyResult]) -> dict[BaseBackend, dict[str, list[ResultBase[object]]]]:
    """The handles whose record is still to be read, each once, by backend and task id."""
    wanted: dict[BaseBackend, dict[str, list[ResultBase[object]]]] = {}
    for task in {id(task): task for task in _tasks(results) if task.wanted}.values():
        wanted.setdefault(task.backend, {}).setdefault(task.id, []).append(task)
    return wanted


def _look(results: Iterable[AnyResult]) -> None:
    """Have these handles keep the records that are ready now."""
    for backend, by_id in _wanted(results).items():
        for found in backend.watcher.looks(list(by_id)):
            for task_id, answer in found:
                for result in by_id[task_id] if not isinstance(answer, SettledError) else ():
                    result.keep(backend.outcome_meta(answer))


def _tell(result: AnyResult, arrived: asyncio.Queue[int], place: int) -> asyncio.Future[object]:
    """Have `place` put into `arrived` once the handle is ready; cancel what is returned to let go of it."""
    if isinstance(result, ResultSet):
        gathering = asyncio.ensure_future(gather(*result, return_exceptions=True))
        future = cast("asyncio.Future[object]", gathering)
    else:
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


def _deadline(timeout: float | None) -> float | None:
    timeout = checked_timeout(timeout)
    return None if timeout is None else time.monotonic() + timeout


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
