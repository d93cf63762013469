"""Calls under way: handed to the pool, followed, and told to their handles."""

from __future__ import annotations

import pickle
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

from settled.backends.base import BaseBackend
from settled.delivery import Answer
from settled.errors import (
    ConfigurationError,
    ResultExpired,
    ResultForgotten,
    SettledError,
    TaskRevokedError,
    WorkerLost,
)
from settled.executor import flight as said
from settled.executor.attempts import attempt_of, floor_of, is_finished
from settled.executor.flight import Flight
from settled.executor.handles import Handle
from settled.executor.mending import Mender
from settled.executor.parking import Parking
from settled.executor.pool import Pool
from settled.executor.register import Register
from settled.executor.tasks import Rules, Task
from settled.executor.worker import BUSY, INTERRUPTED, KEPT, LEFT, run, worker_name
from settled.record import Meta, is_ready
from settled.states import FAILURE, REVOKED

_UNSENDABLE = (pickle.PickleError, TypeError, AttributeError, ImportError, ConfigurationError)
_TELLS_LIMITS = (ProcessPoolExecutor, ThreadPoolExecutor)  # their workers need no watching for time limits


class Flights:
    """The calls of one executor that are not done.

    A flight is with the pool, or parked while another process runs its task. It ends once, in
    `end`: with a ready record, with an error that says why there will be none here, or cancelled.
    """

    def __init__(self, backend: BaseBackend, pool: Pool, rules: Rules, register: Register) -> None:
        self._backend = backend
        self._pool = pool
        self._register = register
        self._mender = Mender(backend, pool, self)
        self._parking = Parking(backend, rules, self.start)

    # -- in ------------------------------------------------------------------------------------

    def enter(self, task: Task, handle: Handle[object]) -> None:
        """Hand a call to the pool, unless one is under way under its id, which `handle` then joins.

        Raises what `submit` raises of a pool that was shut down.
        """
        flight = Flight(self, task, handle, parked=False)
        if not self._register.add(flight):
            return
        task.timed_out = partial(self._resolve, flight)
        try:
            self._hand_over(flight)
        except RuntimeError as exc:
            self.end(flight, error=exc)  # of which a handle that has joined is told
            raise

    def enter_parked(self, task: Task, handle: Handle[object]) -> Flight | None:
        """A call whose `start` comes later, if it is not settled elsewhere; None if one is under way."""
        flight = Flight(self, task, handle, parked=True)
        if not self._register.add(flight):
            return None
        self._watch(flight)
        return flight

    def start(self, flight: Flight) -> None:
        """Hand a parked flight to the pool. Nothing happens if it is there, or has ended."""
        if not self._register.unpark(flight):
            return
        self._unwatch(flight)
        self._parking.remove(flight)
        self.again(flight)

    # -- to the pool and back ------------------------------------------------------------------

    def again(self, flight: Flight) -> None:
        """Hand a flight to the pool from a thread in which nobody would hear of an error."""
        try:
            self._hand_over(flight)
        except Exception as exc:
            self.end(flight, error=said.lost(flight.task, exc))

    def _hand_over(self, flight: Flight) -> None:
        task = flight.task
        pool = self._pool.current()
        task.turn += 1
        flight.handed = task.retries
        task.sealed = isinstance(pool, ProcessPoolExecutor)
        if task.timeout is not None and task.floor == 0 and not isinstance(pool, _TELLS_LIMITS):
            # A time limit in a thread of another process settles the task while the pool runs it.
            # (Not so if there is a record to be replaced: that would be told.)
            self._watch(flight)
        try:
            inner = pool.submit(run, task)
        except BrokenExecutor as exc:
            self._broke(flight, pool, exc)
        except RuntimeError:
            raise
        except Exception as exc:
            self._not_sent(flight, exc)
        else:
            flight.inner = inner
            inner.add_done_callback(partial(self._returned, flight, pool))

    def _returned(self, flight: Flight, pool: Executor, inner: Future[str]) -> None:
        if flight.inner is not inner:
            return  # it was given up, and the call handed over again
        try:
            if inner.cancelled():
                self._dropped(flight)
                return
            error = inner.exception()
            if error is None:
                self._mender.came_back()
                self._report(flight, inner.result())
            elif isinstance(error, BrokenExecutor):
                self._broke(flight, pool, error)
            else:
                self._not_sent(flight, error)
        except Exception as exc:  # in a callback of the pool nobody else would hear of it
            self.end(flight, error=exc)

    def _report(self, flight: Flight, report: str) -> None:
        if report == BUSY:
            flight.inner, flight.parked = None, True
            self._parking.add(flight)
            if flight.task.floor == 0:  # else the record that is to be replaced would be told
                self._watch(flight)
        elif report in (INTERRUPTED, LEFT):
            self.end(flight, error=said.interrupted(flight.task))
        elif report == KEPT:
            self._watch(flight)
        else:
            self._resolve(flight)

    def _broke(self, flight: Flight, pool: Executor, cause: BrokenExecutor) -> None:
        flight.inner = None
        if self._pool.owned:
            self._mender.add(flight, pool)
        else:
            self.end(flight, error=said.broken(flight.task, cause))

    def _not_sent(self, flight: Flight, cause: BaseException) -> None:
        """The pool did not run the call. It is settled, so that nobody waits for it."""
        if isinstance(cause, SettledError) and not isinstance(cause, ConfigurationError):
            self.end(flight, error=cause)  # the store could not be read or written
        elif isinstance(cause, _UNSENDABLE):
            self.fail(flight, said.unsendable(flight.task, cause))
        else:
            self.fail(flight, said.lost(flight.task, cause))

    def fail(self, flight: Flight, error: SettledError) -> None:
        """Settle the task as FAILURE from here: no worker will."""
        task = flight.task
        try:
            meta = self._backend.read_many((task.task_id,)).get(task.task_id)
            attempt = task.floor if meta is None else max(attempt_of(meta), task.floor)
            self._store(task, error, FAILURE, attempt)
            if self._backend.capabilities.leases:
                self._backend.call(self._backend.do_lease, (task.task_id,), task.rules.token, 0.0)
        except SettledError as exc:
            self.end(flight, error=exc)
        else:
            self._resolve(flight)

    def _store(self, task: Task, error: SettledError, status: str, attempt: int) -> None:
        request = task.request(attempt, worker_name())
        self._backend.store_result(task.task_id, error, status, request=request, expires=task.expires)

    # -- being told ------------------------------------------------------------------------------

    def _watch(self, flight: Flight) -> None:
        self._unwatch(flight)
        flight.waiter = self._backend.watcher.add(flight.task.task_id, partial(self._told, flight))

    def _told(self, flight: Flight, answer: Answer) -> None:
        """The watcher: a ready record of the task is in the store, or there will be none."""
        elsewhere = flight.parked and flight.task.turn > 0
        if isinstance(answer, ResultExpired | ResultForgotten) and (elsewhere or not flight.parked):
            self.start(flight)
        elif isinstance(answer, SettledError):
            self.end(flight, error=answer)
        elif elsewhere and answer["status"] == FAILURE and not is_finished(answer, flight.task.retries):
            flight.task.floor = floor_of(answer)  # it was run with fewer retries than we give it
            self.start(flight)
        else:
            self.end(flight, dict(answer))

    def _resolve(self, flight: Flight) -> None:
        task_id = flight.task.task_id
        try:
            meta = self._backend.get_task_meta(task_id, cache=False)
            if not is_ready(meta):
                raise WorkerLost(f"task {task_id!r} has run, but its record was forgotten or has expired")
        except SettledError as exc:
            self.end(flight, error=exc)
        else:
            self.end(flight, meta)

    # -- out -----------------------------------------------------------------------------------

    def cancel(self, flight: Flight, handle: Handle[object]) -> bool:
        """See `Handle.cancel`."""
        inner = flight.inner
        if flight.others(handle):
            return handle.drop()
        if flight.parked:
            self.end(flight)
        elif inner is not None:
            flight.cancelling = handle
            if not inner.cancel():  # which comes to `_dropped`
                flight.cancelling = None
        return handle.cancelled()

    def _dropped(self, flight: Flight) -> None:
        """The pool will not run it: it was cancelled, here or by whoever owns the pool."""
        cancelling, flight.cancelling = flight.cancelling, None
        if cancelling is not None and flight.others(cancelling):  # one joined in the meantime
            cancelling.drop()
            self.again(flight)
            return
        if cancelling is not None:
            self._store(
                flight.task, TaskRevokedError("cancelled before it started"), REVOKED, flight.task.floor
            )
        self.end(flight)

    def abandon(self, handle: Handle[object]) -> None:
        """Cancel without a trace in the store: what has not started is left for another time."""
        flight = self._register.get(handle.id)
        if flight is not None and flight.others(handle):
            handle.drop()
        elif flight is not None:
            self._abandon(flight)

    def abandon_all(self) -> None:
        """Abandon every call that has not started."""
        # Bodies that wait for their header first: they are cancelled too, not failed by its last member.
        newest_first = self._register.all()[::-1]
        for flight in sorted(newest_first, key=lambda flight: not flight.parked):
            self._abandon(flight)

    def _abandon(self, flight: Flight) -> None:
        inner = flight.inner
        if flight.parked:
            self.end(flight)
        elif inner is not None:
            inner.cancel()

    def end(self, flight: Flight, meta: Meta | None = None, *, error: BaseException | None = None) -> None:
        """Tell the handles: the record, or the error, or that they are cancelled. Later calls do nothing."""
        if not self._register.end(flight, meta):
            if not flight.ended:  # who has joined allows it more attempts than it was handed over with
                self._unwatch(flight)
                flight.task.floor = floor_of(meta)
                self.again(flight)
            return
        if meta is not None:
            value = self._backend.result_of(meta)
            for handle in flight.handles:
                handle.settle(meta, value)
        for handle in flight.handles if meta is None else ():
            if error is None:
                handle.drop()
            else:
                handle.fail(error)
        self._unwatch(flight)
        self._parking.remove(flight)
        self._register.remove(flight)

    def _unwatch(self, flight: Flight) -> None:
        waiter, flight.waiter = flight.waiter, None
        if waiter is not None:
            self._backend.watcher.discard(waiter)
