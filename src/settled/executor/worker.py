"""What runs where a call runs: claim it, run it, try again, and store each state at once."""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from settled.backends.base import BaseBackend
from settled.errors import ConfigurationError, SettledError, StoreError, StoreUnavailable
from settled.executor.attempts import next_attempt
from settled.executor.limits import can_interrupt, exceeded, interrupted_after
from settled.executor.pulse import Deadline, Pulse
from settled.executor.tasks import Task
from settled.record import is_ready
from settled.states import FAILURE, RETRY, STARTED, SUCCESS

log = logging.getLogger("settled.executor")

# What `run` says to the process that submitted the task; the outcome itself is in the store.
SETTLED = "settled"
KEPT = "kept"  # the store is away: the outcome is stored when it is back
BUSY = "busy"  # another process holds the task's lease
INTERRUPTED = "interrupted"  # by KeyboardInterrupt
TIMED_OUT = "timed out"  # settled by its time limit while it was still running
LEFT = "left"  # not started: who asked for it is dead, or wants it no more


def run(task: Task) -> str:
    """Run one task in this process, unless it is done or runs elsewhere; what became of it.

    Raises SettledError if the store could not be read or written: the task is then not settled.
    """
    pulse = Pulse.here()
    rules = task.rules
    if rules.owned:
        pulse.exit_when_orphaned()
        if pulse.leaving or pulse.orphaned:
            return LEFT
    backend = rules.store.backend
    if not backend.capabilities.leases:
        return _attempts(task, backend)
    if task.task_id not in backend.call(backend.do_lease, (task.task_id,), rules.token, rules.lease):
        return BUSY
    pulse.hold(backend, task.task_id, rules.token, rules.lease)
    report = ""
    try:
        report = _attempts(task, backend)
    finally:
        if report != TIMED_OUT:  # by now the lease may be that of another run
            _release(backend, task)
    return report


def _release(backend: BaseBackend, task: Task) -> None:
    Pulse.here().drop(backend, task.task_id, task.rules.token)
    if not backend.capabilities.leases:
        return
    try:
        backend.call(backend.do_lease, (task.task_id,), task.rules.token, 0.0)
    except SettledError:
        log.exception("the lease of task %s could not be released; it runs out", task.task_id)


def _attempts(task: Task, backend: BaseBackend) -> str:
    meta = backend.read_many((task.task_id,)).get(task.task_id)
    number = next_attempt(meta, task.retries, task.floor)
    if number is None:
        return SETTLED
    # A ready record gives way to another ready one alone: then nothing is written in between.
    silent = meta is not None and is_ready(meta)
    attempt = _Attempt(task, backend, number, silent)
    try:
        try:
            task.target = target = task.opened()
        except Exception as exc:
            attempt.store(_not_importable(task, exc), FAILURE)
            return KEPT if attempt.kept else SETTLED
        while (error := attempt.run(*target)) is not None:
            del error
            time.sleep(task.rules.backoff(attempt.number))
            attempt = _Attempt(task, backend, attempt.number + 1, silent)
    except KeyboardInterrupt as exc:
        # Not a failure of the call: it is left to be done again, by whoever submits it next.
        attempt.note(exc.with_traceback(None), RETRY)
        return INTERRUPTED
    if attempt.timed_out:
        return TIMED_OUT
    return KEPT if attempt.kept else SETTLED


def _not_importable(task: Task, cause: Exception) -> ConfigurationError:
    error = ConfigurationError(
        f"{task.name} or its arguments cannot be loaded in worker {worker_name()}: {cause!r:.300}. Define "
        "them at the top level of a module that the workers can import, not in a prompt or inside a function"
    )
    error.__cause__ = cause
    return error


class _Attempt:
    """One attempt at a task. Whoever ends it first, the call or its time limit, stores the outcome."""

    def __init__(self, task: Task, backend: BaseBackend, number: int, silent: bool) -> None:
        self.task = task
        self.backend = backend
        self.number = number
        self.silent = silent
        self.timed_out = False
        self.kept = False
        self._end = threading.Lock()

    def run(
        self, fn: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
    ) -> Exception | None:
        """Call it and store the outcome; the exception if it is to be tried again."""
        self.note({"pid": os.getpid(), "hostname": host_name()}, STARTED)
        failure: BaseException | None = None
        value: object = None
        deadline, limit = self._limit()
        try:
            with limit:
                value = fn(*args, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # SystemExit and its like end the call, not the worker
            failure = exc.with_traceback(exc.__traceback__ and exc.__traceback__.tb_next)
        finally:
            if deadline is not None:
                deadline.cancel()
        if not self._end.acquire(blocking=False):
            return None
        if failure is None:
            self._store_value(value)
        elif isinstance(failure, Exception) and self.number < self.task.retries:
            self.note(failure, RETRY)
            return failure
        else:
            self.store(failure, FAILURE)
        return None

    def _limit(self) -> tuple[Deadline | None, AbstractContextManager[None]]:
        timeout = self.task.timeout
        if timeout is None:
            return None, nullcontext()
        if can_interrupt():
            return None, interrupted_after(timeout, self.task.name)
        return Pulse.here().at(timeout, self._time_out), nullcontext()

    def _time_out(self) -> None:
        """The call is in a thread that nothing can stop: it runs on, but its outcome no longer counts."""
        timeout = self.task.timeout
        if timeout is None or not self._end.acquire(blocking=False):
            return
        self.timed_out = True
        self.store(exceeded(self.task.name, timeout), FAILURE)
        _release(self.backend, self.task)
        if self.task.timed_out is not None:
            self.task.timed_out()

    def _store_value(self, value: object) -> None:
        try:
            self.store(value, SUCCESS)
        except StoreUnavailable:
            raise
        except StoreError as exc:  # the store refuses this value, too large perhaps, and says why
            self.store(exc, FAILURE)

    def note(self, result: object, status: str) -> None:
        """Store an unready state, unless a ready one is there to be replaced."""
        if not self.silent:
            self.store(result, status)

    def store(self, result: object, status: str) -> None:
        task = self.task
        request = task.request(self.number, worker_name())
        settled = self.backend.store_result(
            task.task_id, result, status, request=request, expires=task.expires
        )
        self.kept = settled.kept


@functools.cache
def host_name() -> str:
    return socket.gethostname()


def worker_name() -> str:
    """This process as the records name it: "host:pid"."""
    return f"{host_name()}:{os.getpid()}"
