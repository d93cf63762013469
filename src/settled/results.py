"""Handles: what the one who asked for a task holds on to.

Names and behaviour are Celery's `celery.result`, with `await` added. A handle is cheap: nothing
is asked of the store before somebody asks the handle.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

from settled.backends import tree
from settled.backends.base import BaseBackend
from settled.backends.protocols import Application
from settled.delivery import Answer
from settled.errors import SettledError
from settled.record import Meta, Presence, checked_id, is_ready
from settled.states import FAILURE, PENDING, PROPAGATE_STATES, READY_STATES, SUCCESS

if TYPE_CHECKING:
    import asyncio

    from settled.groups import ResultSet

log = logging.getLogger("settled.results")

T = TypeVar("T")

AnyResult: TypeAlias = "ResultBase[object] | ResultSet"
"""A handle on one task, or on a set of them: what a tree of results is made of."""


class ResultBase(Generic[T]):
    """What every handle on one task can do. The record of a ready task is read once and kept.

    Args:
        id: the task id; InvalidTaskId if it is none.
        backend: where the result will be.
        parent: the handle of the task that sent this one.
    """

    def __init__(self, id: str, backend: BaseBackend, parent: AnyResult | None = None) -> None:
        self.id = checked_id(id)
        self.backend = backend
        self.parent = parent
        self._meta: Meta | None = None

    # -- waiting -----------------------------------------------------------------------------

    def get(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> T:
        """Wait for the task and return its value, or raise its exception.

        Args:
            timeout: seconds; None waits for ever, 0 looks once.
            propagate: False returns the exception instead of raising it.
            interval: accepted for compatibility; waiting is pushed.

        Raises TimeoutError, ResultExpired, ResultForgotten, CorruptRecord, or the task's exception.
        """
        if self._meta is None:
            self.keep(self.backend.wait_meta(self.id, timeout))
        return self._value(propagate)

    wait = get

    def __await__(self) -> Generator[object, None, T]:
        """`await handle` is `get()` without a thread: the process's one watcher resolves it."""
        if self._meta is None:
            answer = yield from self.backend.watcher.answer(self.id)
            self.keep(self.backend.outcome_meta(answer))
        return self._value(True)

    def future(self) -> asyncio.Future[Answer]:
        """A future of the running loop that is done when the task is ready; what it holds is private.

        A ready record is kept by the handle; why there is none is said by `get`.
        """
        if self._meta is not None:
            from asyncio import get_running_loop

            held: asyncio.Future[Answer] = get_running_loop().create_future()
            held.set_result(self._meta)
            return held
        future = self.backend.watcher.future(self.id)
        future.add_done_callback(self._keep_answer)
        return future

    def _keep_answer(self, future: asyncio.Future[Answer]) -> None:
        if not future.cancelled() and not isinstance(future.result(), SettledError):
            self.keep(self.backend.outcome_meta(future.result()))

    def tasks(self) -> Iterator[ResultBase[object]]:
        """Itself: what a group answers with its members."""
        yield cast("ResultBase[object]", self)

    def when_told(self, tell: Callable[[ResultBase[T]], object]) -> Callable[[], object]:
        """Have `tell(self)` called once, from any thread, when there is nothing more to wait for.

        That is when the record is ready, which the handle then keeps, or when there will be none.
        Calling what is returned lets go of it.
        """
        watcher = self.backend.watcher

        def deliver(answer: Answer) -> None:
            if not isinstance(answer, SettledError):
                self.keep(self.backend.outcome_meta(answer))
            tell(self)

        if self._meta is not None:
            tell(self)
            return bool
        return partial(watcher.discard, watcher.add(self.id, deliver))

    def then(
        self,
        callback: Callable[[ResultBase[T]], object],
        on_error: Callable[[ResultBase[T]], object] | None = None,
    ) -> None:
        """Call `callback(self)` when the task has succeeded, `on_error(self)` when it has not.

        At once if this handle holds the result already, else later, one at a time in the thread for
        callbacks. What they raise is logged. `on_error` is also called where there will be no result,
        because it has expired, say: `get` then raises why.
        """
        then = _Then(self, callback, on_error)
        if self._meta is not None:
            then.run(self._meta)
        else:
            self.backend.watcher.add(self.id, then)

    def _value(self, propagate: bool) -> T:
        assert self._meta is not None
        return cast("T", self.backend.value_of(self._meta, propagate))

    # -- looking -----------------------------------------------------------------------------

    def _load(self) -> Meta:
        if self._meta is not None:
            return self._meta
        meta = self.backend.get_task_meta(self.id)
        if is_ready(meta):
            self.keep(meta)
        return meta

    @property
    def wanted(self) -> bool:
        """Whether the record is still to be read."""
        return self._meta is None

    def keep(self, meta: Meta) -> None:
        """Hold on to a ready record that was read elsewhere."""
        self._meta = meta

    @property
    def task_id(self) -> str:
        return self.id

    @property
    def state(self) -> str:
        """The task's state; PENDING if nothing is known of it."""
        return str(self._load()["status"])

    status = state

    def ready(self) -> bool:
        """Whether the task has succeeded, failed or been revoked."""
        return self.state in READY_STATES

    def successful(self) -> bool:
        return self.state == SUCCESS

    def failed(self) -> bool:
        return self.state == FAILURE

    def exists(self) -> bool:
        """Whether the store holds a record for this id."""
        return self._meta is not None or self.presence() in (Presence.PENDING, Presence.STORED)

    def presence(self) -> Presence:
        """Unknown, pending, stored, expired or forgotten, as far as the engine can tell."""
        return self.backend.presence(self.id)

    @property
    def info(self) -> object:
        """The value, the exception object, or an unready task's own notes (progress and the like)."""
        return self.backend.result_of(self._load())

    @property
    def traceback(self) -> str | None:
        """The remote traceback as text, if there is one."""
        text = self._load().get("traceback")
        return None if text is None else str(text)

    def _field(self, name: str) -> object:
        return self._load().get(name)

    @property
    def date_done(self) -> object:
        """When the task became ready: ISO 8601 text in UTC, None before."""
        return self._field("date_done")

    @property
    def name(self) -> object:
        return self._field("name")

    @property
    def worker(self) -> object:
        return self._field("worker")

    # -- relations ---------------------------------------------------------------------------

    @property
    def children(self) -> list[AnyResult]:
        """Handles of the tasks that this task has sent; empty before it is ready."""
        stored = self._load().get("children") or ()
        app = self.backend.app
        return [result_from_tuple(child, app) for child in cast("list[object]", stored)]

    def collect(self, timeout: float | None = None) -> Iterator[tuple[AnyResult, object]]:
        """Yield (handle, value) of this task, its children, theirs and so on, each when it is ready.

        `timeout` seconds are for each task. Breadth first, parents before children.
        """
        todo: deque[AnyResult] = deque([cast("ResultBase[object]", self)])
        while todo:
            node = todo.popleft()
            yield node, node.get(timeout=timeout)
            todo.extend(node.children)

    def as_tuple(self) -> tuple[object, object]:
        """The handle's stored form: `((id, parent's form), None)`."""
        parent = self.parent
        return (self.id, None if parent is None else parent.as_tuple()), None

    def forget(self, children: bool = False) -> None:
        """Delete the record; with `children` those of everything the task has sent."""
        self._meta = None
        self.backend.forget(self.id, children=children)

    # -- being an object ---------------------------------------------------------------------

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other == self.id
        return isinstance(other, ResultBase) and other.id == self.id


class AsyncResult(ResultBase[T]):
    """The handle of one task, made from its id anywhere: `app.AsyncResult(id)`."""

    @property
    def result(self) -> object:
        """The value, or the exception object; the same as `info`. Never waits, never raises it."""
        return self.info

    def __copy__(self) -> AsyncResult[T]:
        return AsyncResult(self.id, self.backend, self.parent)

    def __reduce__(self) -> tuple[object, ...]:
        return AsyncResult, (self.id, self.backend, self.parent)


class EagerResult(AsyncResult[T]):
    """The handle of a task that ran in place: its outcome is here, no store is asked.

    Args:
        ret_value: the value, or the exception where `state` says that it failed.
    """

    def __init__(self, id: str, ret_value: object, state: str, traceback: str | None = None) -> None:
        self.id = checked_id(id)
        self.parent = None
        self._held = ret_value
        self._meta = {
            "status": state,
            "result": None,
            "traceback": traceback,
            "children": [],
            "task_id": self.id,
        }

    def _value(self, propagate: bool) -> T:
        if propagate and self.state in PROPAGATE_STATES and isinstance(self._held, BaseException):
            raise self._held
        return cast("T", self._held)

    def get(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> T:
        return self._value(propagate)

    wait = get

    @property
    def info(self) -> object:
        return self._held

    @property
    def children(self) -> list[AnyResult]:
        return []

    def presence(self) -> Presence:
        return Presence.PENDING if self.state == PENDING else Presence.STORED

    def then(
        self,
        callback: Callable[[ResultBase[T]], object],
        on_error: Callable[[ResultBase[T]], object] | None = None,
    ) -> None:
        _Then(self, callback, on_error).run(self._meta or {})

    def forget(self, children: bool = False) -> None:
        """Nothing is stored: there is nothing to forget."""

    def __copy__(self) -> AsyncResult[T]:
        return EagerResult(self.id, self._held, self.state, self.traceback)

    def __reduce__(self) -> tuple[object, ...]:
        return EagerResult, (self.id, self._held, self.state, self.traceback)


class _Then:
    """Keeps the outcome in the handle and runs the callback that fits."""

    __slots__ = ("callback", "on_error", "result")

    def __init__(
        self,
        result: ResultBase[T],
        callback: Callable[[ResultBase[T]], object],
        on_error: Callable[[ResultBase[T]], object] | None,
    ) -> None:
        self.result = result
        self.callback = callback
        self.on_error = on_error

    def __call__(self, answer: Answer) -> None:
        self.result.backend.watcher.callbacks.run(partial(self.run, answer))

    def run(self, answer: Answer) -> None:
        callback = self.on_error
        if not isinstance(answer, SettledError):
            self.result.keep(dict(answer))
            callback = self.callback if answer["status"] == SUCCESS else self.on_error
        elif callback is None:
            log.error("the result of task %s cannot be had: %s", self.result.id, answer)
        try:
            if callback is not None:
                callback(self.result)
        except (Exception, SystemExit):
            log.exception("the callback of task %s failed", self.result.id)


def result_from_tuple(form: object, app: Application) -> AnyResult:
    """The handle that `as_tuple` described, made by `app`. DecodeError if it describes none."""
    return cast("AnyResult", tree.result_from_tuple(form, app))
