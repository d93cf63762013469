"""`then` of Celery's handles: called when the results are there, whether or not anybody waits for them.

A handle that is made, waited for or put into a group subscribes nothing: a group's barrier is a callback too,
and is told when somebody waits. What makes it watch is the first callback that is no barrier, of a task's
handle or of a group's. The handle is held until then. Callbacks are called with it, one at a time, in the
watcher's thread for callbacks; at once where the results are known already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from celery.result import ResultSet
from vine import Thenable, barrier, promise

from settled.delivery import Answer
from settled.errors import SettledError
from settled.integrations.celery.shapes import Pending
from settled.waiting import Watcher

if TYPE_CHECKING:
    from settled.integrations.celery.backend import Backend

log = logging.getLogger("settled.results")

Callback = Callable[[object], object]


class Watched(Pending, Protocol):
    """Celery's AsyncResult with a backend of ours."""

    ignored: bool

    @property
    def backend(self) -> Backend: ...


def attend(result: Pending) -> None:
    """Have this handle's `then` watch."""
    if result.on_ready.__class__ is promise:
        result.on_ready.__class__ = TaskReady


class TaskReady(promise):
    """The `on_ready` of a task's handle. (Its class is changed: made anew it would lose what it holds.)"""

    __slots__ = ()

    def then(self, callback: Callback, on_error: Callback | None = None) -> promise | Thenable:
        if isinstance(callback, barrier):
            _lead_to_groups(callback)
            return super().then(callback, on_error)
        method = self.fun()  # held weakly
        if method is None:
            return super().then(callback, on_error)
        result = cast("Watched", method.__self__)
        return _watch(result, [result], callback, on_error)


class AllReady(promise):
    """What a barrier calls: groups, each by a callback of its own."""

    __slots__ = ()

    def then(self, callback: Callback, on_error: Callback | None = None) -> promise | Thenable:
        _attend_group(callback)
        return super().then(callback, on_error)


class GroupReady(promise):
    """The `on_ready` of a group's handle."""

    __slots__ = ()

    def then(self, callback: Callback, on_error: Callback | None = None) -> promise | Thenable:
        if isinstance(callback, barrier):
            _lead_to_groups(callback)
            return super().then(callback, on_error)
        [proxy] = cast("tuple[ResultSet]", self.args)
        result = proxy.then.__self__
        tasks = list(_tasks(result))
        if not all(isinstance(task.on_ready, TaskReady) for task in tasks):
            return super().then(callback, on_error)  # of another backend
        return _watch(result, tasks, callback, on_error)


def _lead_to_groups(callback: barrier) -> None:
    """Have the groups that this barrier is for watch, those that have told it and those that will."""
    ready = callback.p
    if ready.__class__ is promise:
        for listener in ready.listeners:
            _attend_group(listener)
        ready.__class__ = AllReady


def _attend_group(callback: object) -> None:
    method = callback.fun() if isinstance(callback, promise) and callback.weak else None
    group = getattr(method, "__self__", None)
    if isinstance(group, ResultSet) and group.on_ready.__class__ is promise:
        group.on_ready.__class__ = GroupReady


def _tasks(result: object) -> Iterator[Watched]:
    if isinstance(result, ResultSet):
        for each in cast("Sequence[object]", result.results):
            yield from _tasks(each)
    else:
        yield cast("Watched", result)


def _watch(
    result: object, tasks: Sequence[Watched], callback: Callback, on_error: Callback | None
) -> promise | Thenable:
    told = callback if isinstance(callback, Thenable) else promise(callback, on_error=on_error)
    missing = [task for task in tasks if not task._cache and not task.ignored]
    if missing:
        countdown = Countdown(result, told, len(missing))
        for task in missing:
            watcher = task.backend.engine.watcher
            watcher.add(task.id, partial(countdown.deliver, watcher, task))
    else:
        told(result)
    return told


class Countdown:
    """Calls `told(result)` when so many records have arrived, which their handles then keep.

    Where there will be none, because it has expired, say, `told` is thrown why: that is what `on_error` gets.
    """

    def __init__(self, result: object, told: promise, missing: int) -> None:
        self._result = result
        self._told = told
        self._missing = missing

    def deliver(self, watcher: Watcher, task: Watched, answer: Answer) -> None:
        watcher.callbacks.run(partial(self._arrived, task, answer))

    def _arrived(self, task: Watched, answer: Answer) -> None:
        try:
            if isinstance(answer, SettledError):
                self._fail(task, answer)
                return
            if not task._cache:
                task._maybe_set_cache(dict(answer))
            self._missing -= 1
            if not self._missing:
                self._told(self._result)
        except (Exception, SystemExit):
            log.exception("the callback of task %s failed", task.id)

    def _fail(self, task: Watched, error: SettledError) -> None:
        if self._told.failed:
            return
        if self._told.on_error is None:
            log.error("the result of task %s cannot be had: %s", task.id, error)
        self._told.throw(error, propagate=False)
