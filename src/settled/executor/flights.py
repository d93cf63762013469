"""Calls under way: handed to the pool, followed, and told to their handles."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from functools import partial
from typing import cast

from settled.backends.base import BaseBackend
from settled.errors import ConfigurationError, ResultExpired, ResultForgotten, SettledError, WorkerLost
from settled.executor.attempts import attempt_of, floor_of, is_finished
from settled.executor.handles import Handle
from settled.executor.pool import Pool
from settled.executor.tasks import Task
from settled.executor.worker import BUSY, INTERRUPTED, LEFT, run, worker_name
from settled.record import Meta, is_ready
from settled.states import FAILURE, PENDING, RECEIVED
from settled.waiting import Answer, Waiter

log = logging.getLogger("settled.executor")

LOSSES_ALLOWED = 2
"""How many workers a call may kill beyond its retries before it is given up."""

BREAKS_ALLOWED = 5
"""How often in a row the pool may break without one call coming back from it."""

LONGEST_POLL = 5.0

_UNSENDABLE = (pickle.PickleError, TypeError, AttributeError, ImportError, ConfigurationError)


class Flight:
    """One call under way, and the handles that wait for it."""

    __slots__ = ("_flights", "cancelling", "handles", "inner", "losses", "parked", "pool", "task", "waiter")

    def __init__(self, flights: Flights, task: Task, handle: Handle[object], parked: bool) -> None:
        self._flights = flights
        self.task = task
        self.handles = [handle]
        self.inner: Future[str] | None = None
        self.pool: Executor | None = None
        self.waiter: Waiter | None = None
        self.parked = parked
        """It is not with the pool: it runs in another process, or is a body whose time has not come."""
        self.cancelling = False
        self.losses = 0

    def cancel(self, handle: Handle[object]) -> bool:
        return self._flights.cancel(self, handle)

    def running(self) -> bool:
        inner = self.inner
        return inner is not None and inner.running()


class Flights:
    """The calls of one executor that are not done.

    A flight is with the pool, or parked while another process runs its task. It ends once, in
    `_end`: with a ready record, or with an error that says why there will be none here.
    """

    def __init__(self, backend: BaseBackend, pool: Pool) -> None:
        self.backend = backend
        self.pool = pool
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._flights: dict[str, Flight] = {}
        self._lost: list[Flight] = []
        self._breaks = 0
        self._poller: threading.Thread | None = None

    # -- in ------------------------------------------------------------------------------------

    def join(self, handle: Handle[object]) -> bool:
        """Have `handle` told of a call that is under way under its id. False if there is none."""
        with self._lock:
            flight = self._flights.get(handle.id)
            if flight is None:
                return False
            flight.handles.append(handle)
            handle.attend(flight)
            return True

    def enter(self, task: Task, handle: Handle[object], parked: bool = False) -> Flight | None:
        """Put a call under way; None if one is under way under its id, which `handle` then joins.

        Raises what the pool's `submit` raises of a pool that was shut down.
        """
        flight = Flight(self, task, handle, parked)
        with self._lock:
            other = self._flights.setdefault(task.task_id, flight)
            if other is not flight:
                other.handles.append(handle)
            handle.attend(other)
        if other is not flight:
            return None
        if parked:
            flight.waiter = self.backend.watcher.add(task.task_id, partial(self._told, flight))
            return flight
        if task.timeout is not None:
            self._watch_limit(flight)
        try:
            self._hand_over(flight)
        except RuntimeError:
            self._pop(flight)
            raise
        return flight

    def _watch_limit(self, flight: Flight) -> None:
        # A time limit in a thread settles the task while the pool still runs it. A record that was
        # there before would be told at once, and says nothing of this run.
        flight.task.timed_out = partial(self._resolve, flight)
        if flight.task.floor == 0 and self.backend.capabilities.shared:
            flight.waiter = self.backend.watcher.add(flight.task.task_id, partial(self._told, flight))

    # -- to the pool and back ------------------------------------------------------------------

    def start(self, flight: Flight) -> None:
        """Hand a parked flight to the pool."""
        self._discard(flight)
        with self._lock:
            if not flight.parked or self._flights.get(flight.task.task_id) is not flight:
                return
            flight.parked = False
        self._again(flight)

    def _again(self, flight: Flight) -> None:
        try:
            self._hand_over(flight)
        except Exception as exc:
            self._not_sent(flight, exc)

    def _hand_over(self, flight: Flight) -> None:
        task = flight.task
        pool = self.pool.current()
        flight.pool = pool
        task.turn += 1
        task.sealed = isinstance(pool, ProcessPoolExecutor)
        try:
            inner = pool.submit(run, task)
        except BrokenExecutor as exc:
            self._broke(flight, exc)
            return
        except RuntimeError:
            raise
        except Exception as exc:
            self._not_sent(flight, exc)
            return
        flight.inner = inner
        inner.add_done_callback(partial(self._returned, flight))

    def _returned(self, flight: Flight, inner: Future[str]) -> None:
        try:
            if inner.cancelled():
                self._dropped(flight)
                return
            error = inner.exception()
            if error is None:
                self._report(flight, inner.result())
            elif isinstance(error, BrokenExecutor):
                self._broke(flight, error)
            else:
                self._not_sent(flight, error)
        except Exception as exc:  # in a callback of the pool nobody else would hear of it
            self._end(flight, error=exc)

    def _report(self, flight: Flight, report: str) -> None:
        self._breaks = 0
        if report == BUSY:
            self._park(flight)
        elif report in (INTERRUPTED, LEFT):
            self._end(flight, error=_interrupted(flight))
        else:
            self._resolve(flight)

    def _resolve(self, flight: Flight) -> None:
        task_id = flight.task.task_id
        try:
            meta = self.backend.get_task_meta(task_id, cache=False)
            if not is_ready(meta):
                raise WorkerLost(f"task {task_id!r} has run, but its record is gone: it was forgotten or has expired")
        except SettledError as exc:
            self._end(flight, error=exc)
        else:
            self._end(flight, meta)

    def _dropped(self, flight: Flight) -> None:
        """The pool will not run it: it was cancelled, here or by whoever owns the pool."""
        with self._lock:
            cancelling, flight.cancelling = flight.cancelling, False
            waiting = [handle for handle in flight.handles if not handle.done()]
        if cancelling and len(waiting) > 1:  # another handle joined meanwhile
            self._again(flight)
            return
        self._pop(flight)
        for handle in flight.handles:
            handle.drop()

    def _not_sent(self, flight: Flight, cause: BaseException) -> None:
        """The pool did not get the call to run. Settled, so that nobody waits for it."""
        task = flight.task
        if isinstance(cause, SettledError) and not isinstance(cause, ConfigurationError):
            self._end(flight, error=cause)
            return
        if isinstance(cause, _UNSENDABLE):
            error: SettledError = ConfigurationError(
                f"{task.name} or its arguments cannot be sent to a worker: {cause!r:.300}. Use functions at the top "
                "level of a module and arguments that can be pickled, or threads"
            )
        else:
            error = WorkerLost(f"the pool lost task {task.task_id!r} ({task.name}): {cause!r:.300}")
        error.__cause__ = cause
        self._fail(flight, error)

    def _fail(self, flight: Flight, error: SettledError) -> None:
        task = flight.task
        try:
            meta = self.backend.read_many((task.task_id,)).get(task.task_id)
            attempt = task.floor if meta is None else max(attempt_of(meta), task.floor)
            request = task.request(attempt, worker_name())
            self.backend.store_result(task.task_id, error, FAILURE, request=request, expires=task.expires)
            self._release(task)
        except SettledError as exc:
            self._end(flight, error=exc)
        else:
            self._resolve(flight)

    def _release(self, task: Task) -> None:
        if self.backend.capabilities.leases:
            self.backend.call(self.backend.do_lease, (task.task_id,), task.rules.token, 0.0)

    # -- parked --------------------------------------------------------------------------------

    def _park(self, flight: Flight) -> None:
        """Another process runs the task: wait to be told, and look whether its lease runs out."""
        with self._lock:
            flight.inner = flight.pool = None
            flight.parked = True
            if self._poller is None:
                self._poller = threading.Thread(target=self._poll, name="settled-executor", daemon=True)
                self._poller.start()
        if flight.task.floor == 0:  # else the record that is to be replaced would be told
            flight.waiter = self.backend.watcher.add(flight.task.task_id, partial(self._told, flight))

    def _told(self, flight: Flight, answer: Answer) -> None:
        if not flight.parked:
            self._told_while_running(flight, answer)
        elif isinstance(answer, ResultExpired | ResultForgotten):
            self.start(flight)
        elif isinstance(answer, SettledError):
            self._end(flight, error=answer)
        elif answer["status"] == FAILURE and not is_finished(dict(answer), flight.task.retries):
            flight.task.floor = floor_of(dict(answer))
            self.start(flight)
        else:
            self._end(flight, dict(answer))

    def _told_while_running(self, flight: Flight, answer: Answer) -> None:
        if not isinstance(answer, SettledError):
            self._end(flight, dict(answer))

    def _poll(self) -> None:
        while True:
            with self._changed:
                parked = self._parked()
                if not parked:
                    self._poller = None
                    return
                self._changed.wait(min(parked[0].task.rules.lease / 3, LONGEST_POLL))
                parked = self._parked()
            try:
                self._take_over(parked)
            except SettledError:
                log.exception("the leases of %s tasks could not be looked at; it is tried again", len(parked))

    def _parked(self) -> list[Flight]:
        # A body that waits for its header has no turn yet and no lease to look at.
        return [flight for flight in self._flights.values() if flight.parked and flight.task.turn]

    def _take_over(self, parked: list[Flight]) -> None:
        """Start those whose lease is free: whoever ran them is done, or dead."""
        if not parked:
            return
        backend, rules = self.backend, parked[0].task.rules
        names = [flight.task.task_id for flight in parked]
        free = backend.call(backend.do_lease, names, rules.token, rules.lease)
        # The worker claims them again. Held from here they would be kept from others while they queue.
        backend.call(backend.do_lease, tuple(free), rules.token, 0.0)
        for flight in parked:
            if flight.task.task_id in free:
                self.start(flight)

    # -- a pool that broke ------------------------------------------------------------------------

    def _broke(self, flight: Flight, cause: BrokenExecutor) -> None:
        if not self.pool.owned:
            self._end(flight, error=_broken(flight, cause))
            return
        with self._lock:
            self._lost.append(flight)
            first = len(self._lost) == 1
        if first:
            # The pool ends its other workers after it has told us: those that live now are not to blame.
            alive = frozenset(child.pid for child in multiprocessing.active_children() if child.is_alive())
            mend = partial(self._mend, flight.pool, alive)
            threading.Thread(target=mend, name="settled-mend", daemon=True).start()

    def _mend(self, broken: Executor, alive: frozenset[int | None]) -> None:
        broken.shutdown(wait=True)  # until its workers are gone, and every loss is reported
        self.pool.retire(broken)
        with self._lock:
            lost, self._lost = self._lost, []
            self._breaks += 1
            hopeless = self._breaks > BREAKS_ALLOWED
        for flight in lost:
            try:
                self._recover(flight, alive, hopeless)
            except Exception as exc:
                self._end(flight, error=exc)

    def _recover(self, flight: Flight, alive: frozenset[int | None], hopeless: bool) -> None:
        task = flight.task
        meta = self.backend.read_many((task.task_id,)).get(task.task_id)
        flight.losses += _was_running(meta) and _pid_of(meta) not in alive
        if flight.losses > task.retries + LOSSES_ALLOWED:
            self._fail(flight, WorkerLost(
                f"{task.name} was given up: {flight.losses} workers died while they ran task {task.task_id!r}. Look at "
                "its memory use; a higher retries= tries again"
            ))  # fmt: skip
        elif hopeless:
            self._end(flight, error=WorkerLost(
                f"the pool broke {BREAKS_ALLOWED + 1} times in a row before it ran a call: does its initializer fail?"
            ))  # fmt: skip
        else:
            self._again(flight)

    # -- out -----------------------------------------------------------------------------------

    def cancel(self, flight: Flight, handle: Handle[object]) -> bool:
        """See `Handle.cancel`."""
        with self._lock:
            others = [each for each in flight.handles if each is not handle and not each.done()]
            inner = flight.inner
            flight.cancelling = not others
        if others:
            return handle.drop()
        if flight.parked:
            return self._leave(flight)
        if inner is None or not inner.cancel():
            flight.cancelling = False
            return False
        task = flight.task
        request = task.request(task.floor)
        self.backend.store_result(task.task_id, _revoked(), "REVOKED", request=request, expires=task.expires)
        return handle.drop()

    def _leave(self, flight: Flight) -> bool:
        """Cancel the handles of what is not with our pool; nothing is stored."""
        self._pop(flight)
        return all([handle.drop() for handle in flight.handles])

    def abandon(self, handle: Handle[object]) -> None:
        """Cancel without a trace in the store: what did not start is left for another time."""
        with self._lock:
            flight = self._flights.get(handle.id)
        if flight is None:
            return
        if flight.parked:
            self._leave(flight)
        elif flight.inner is not None:
            flight.inner.cancel()

    def abandon_all(self) -> None:
        with self._lock:
            flights = list(self._flights.values())
        for flight in reversed(flights):
            self.abandon(flight.handles[0])

    def wait(self) -> None:
        """Until no call is under way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._flights)

    def when_empty(self, then: Callable[[], None]) -> None:
        """Call `then` once no call is under way: now, or in the thread that ends the last one."""
        with self._lock:
            self._when_empty = then
            empty = not self._flights
        if empty:
            then()

    _when_empty: Callable[[], None] | None = None

    def _discard(self, flight: Flight) -> None:
        waiter, flight.waiter = flight.waiter, None
        if waiter is not None:
            self.backend.watcher.discard(waiter)

    def _pop(self, flight: Flight) -> bool:
        """Take it out of what is under way. False if that was done before."""
        self._discard(flight)
        with self._changed:
            if self._flights.get(flight.task.task_id) is not flight:
                return False
            del self._flights[flight.task.task_id]
            empty = not self._flights
            if empty or flight.parked:
                self._changed.notify_all()
        if empty and self._when_empty is not None:
            self._when_empty()
        return True

    def _end(self, flight: Flight, meta: Meta | None = None, error: BaseException | None = None) -> None:
        if not self._pop(flight):
            return
        for handle in flight.handles:
            if meta is None:
                handle.fail(cast("BaseException", error))
            else:
                handle.settle(meta, self.backend.result_of(meta))


def _was_running(meta: Meta | None) -> bool:
    return meta is not None and not is_ready(meta) and meta["status"] not in (PENDING, RECEIVED)


def _pid_of(meta: Meta | None) -> int | None:
    notes = None if meta is None else meta.get("result")
    pid = notes.get("pid") if isinstance(notes, dict) else None
    return pid if isinstance(pid, int) else None


def _revoked() -> SettledError:
    from settled.errors import TaskRevokedError

    return TaskRevokedError("cancelled before it started")


def _interrupted(flight: Flight) -> WorkerLost:
    task = flight.task
    return WorkerLost(f"task {task.task_id!r} ({task.name}) was interrupted: it is done again when it is submitted again")


def _broken(flight: Flight, cause: BrokenExecutor) -> WorkerLost:
    task = flight.task
    error = WorkerLost(
        f"the pool broke before task {task.task_id!r} ({task.name}) was done: {cause}. Nothing that is stored is lost: "
        "submit again to another pool, or give Executor what makes one, Executor(lambda: ProcessPoolExecutor(4)), "
        "which then is done by itself"
    )
    error.__cause__ = cause
    return error
