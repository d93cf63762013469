"""One call under way, and what is said when it comes to nothing."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Protocol

from settled.delivery import Waiter
from settled.errors import ConfigurationError, WorkerLost
from settled.executor.attempts import attempt_of
from settled.executor.handles import Handle
from settled.executor.tasks import Task
from settled.record import Meta
from settled.states import FAILURE


class Tower(Protocol):
    """Who follows the flights, as one of them sees it."""

    def cancel(self, flight: Flight, handle: Handle[object]) -> bool: ...


class Flight:
    """One call under way, and the handles that wait for it."""

    __slots__ = (
        "_tower",
        "cancelling",
        "ended",
        "handed",
        "handles",
        "inner",
        "losses",
        "parked",
        "pool",
        "task",
        "waiter",
    )

    def __init__(self, tower: Tower, task: Task, handle: Handle[object], parked: bool) -> None:
        self._tower = tower
        self.task = task
        self.handles = [handle]
        self.inner: Future[str] | None = None
        self.pool: Executor | None = None
        self.waiter: Waiter | None = None
        self.parked = parked  # not with the pool: it runs elsewhere, or its time has not come
        self.ended = False
        self.handed = task.retries  # with so many it was handed to the pool
        self.cancelling: Handle[object] | None = None
        self.losses = 0  # workers that died while they ran it

    def cancel(self, handle: Handle[object]) -> bool:
        return self._tower.cancel(self, handle)

    def running(self) -> bool:
        inner = self.inner
        return inner is not None and inner.running()

    def may_go_on(self, meta: Meta | None) -> bool:
        """Whether its end as `meta` is a failure for which it has been given more retries since it was handed over."""
        if meta is None or meta["status"] != FAILURE or self.task.turn == 0:
            return False
        return self.task.retries > max(self.handed, attempt_of(meta))

    def others(self, handle: Handle[object] | None) -> bool:
        """Whether handles beside this one wait for the call."""
        return any(each is not handle and not each.done() for each in self.handles)


def unsendable(task: Task, cause: BaseException) -> ConfigurationError:
    found: BaseException | None = cause
    while found is not None:
        if isinstance(found, ConfigurationError):  # it says better what is wrong, with the backend perhaps
            return found
        found = found.__cause__ or found.__context__
    error = ConfigurationError(
        f"{task.name} or its arguments cannot be sent to a worker: {cause!r:.300}. Use functions at the top "
        "level of a module and arguments that can be pickled, or a pool of threads"
    )
    error.__cause__ = cause
    return error


def lost(task: Task, cause: BaseException) -> WorkerLost:
    error = WorkerLost(
        f"the pool lost task {task.task_id!r} ({task.name}): {cause!r:.300}. What is stored is safe; "
        "submitted again, the call is done again"
    )
    error.__cause__ = cause
    return error


def broken(task: Task, cause: BrokenExecutor) -> WorkerLost:
    error = WorkerLost(
        f"the pool broke before task {task.task_id!r} ({task.name}) was done: {cause}. What is stored is "
        "safe: submit again to another pool, or give Executor what makes one, such as ProcessPoolExecutor "
        "itself: it then makes a new one and goes on"
    )
    error.__cause__ = cause
    return error


def interrupted(task: Task) -> WorkerLost:
    return WorkerLost(
        f"task {task.task_id!r} ({task.name}) was interrupted; submitted again, it is done again"
    )


def given_up(task: Task, losses: int) -> WorkerLost:
    return WorkerLost(
        f"{task.name} was given up: {losses} workers died while they ran task {task.task_id!r}. Look at "
        "its use of memory; a higher retries= tries again"
    )


def hopeless(breaks: int) -> WorkerLost:
    return WorkerLost(
        f"the pool broke {breaks} times in a row before it ran a call: does its initializer fail?"
    )
