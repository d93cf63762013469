"""The watcher: one per backend and process, serving every waiting thread and asyncio future.

A waiter first looks; if the task is not settled it is registered, then looked at again, then
told. What tells it: a settle in this process (at once), the engine's listener (other processes),
and a slow safety poll behind both. The watcher's thread lives only while somebody waits.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from settled.callbacks import Callbacks
from settled.delivery import Answer, AsyncDelivery, Waiter, deliver_to, hand_over
from settled.errors import SettledError, StoreError, StoreUnavailable, TimeoutError
from settled.listening import Listening, Pauses, Polling

if TYPE_CHECKING:
    import asyncio  # 30 ms and 8 MB: loaded where it is used, for programs that do without

log = logging.getLogger("settled.waiting")

SAFETY_POLL = 5.0
"""Seconds between two looks at everything awaited, whatever was or was not pushed."""

LINGER = 2.0
"""Seconds the watcher goes on listening when nobody waits any more."""

READ_BATCH = 1000
"""Records that are read at once."""

HANDED_ON = 100
"""Records of these that are decoded at once: more would not stay in the processor's cache, and take twice the time."""

ONE_LOOK = 0.1
"""Seconds that a look may take whatever its caller's timeout: a store that answers is heard at a timeout of 0."""


class Watcher:
    """Tells waiters that their tasks are settled.

    Args:
        ready: reads these ids, by the deadline given if one is, and yields what is ready (or hopeless)
            among them, by id, `HANDED_ON` at a time. Raises StoreUnavailable while the store cannot be reached.
        listen: makes the engine's listener, or None where every settle is made in this process.
    """

    def __init__(
        self,
        ready: Callable[[Sequence[str], float | None], Iterable[Mapping[str, Answer]]],
        listen: Callable[[], Listening] | None,
    ) -> None:
        self._ready = ready
        self._listen = listen
        self._fork_lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        # Re-entrant: a collected `each` lets go of its waiters wherever the collector happens to run.
        self._lock = threading.RLock()
        self._waiters: dict[str, Waiter | list[Waiter]] = {}
        self._unseen: deque[str] = deque()
        self._fresh: deque[str] = deque()
        self._dropped: deque[str] = deque()
        self._listener: Listening | None = None
        self._thread: threading.Thread | None = None
        self.callbacks = Callbacks()
        self._pid = os.getpid()

    def _check_fork(self) -> None:
        """Start anew in a forked child: the parent's waiters, thread and lock stay behind."""
        if self._pid != os.getpid():
            with self._fork_lock:
                if self._pid != os.getpid():
                    self._reset()

    # -- what waiters call -------------------------------------------------------------------

    def get(
        self, task_id: str, timeout: float | None, unready: Callable[[], object] | None = None
    ) -> Answer | None:
        """Block this thread until the task is ready; None when `timeout` seconds passed first.

        0 looks once. An outage of the store that is shorter than the timeout is not seen.
        `unready` is called where the first look has found nothing, before the wait.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        found = self.look((task_id,), deadline).get(task_id)
        if found is not None or timeout == 0:
            return found
        if unready is not None:
            unready()
        box: list[Answer] = []
        settled = threading.Lock()
        settled.acquire()

        def deliver(outcome: Answer) -> None:
            box.append(outcome)
            settled.release()

        waiter = self.add(task_id, deliver)
        try:
            left = -1 if deadline is None else max(0.0, deadline - time.monotonic())
            if settled.acquire(timeout=min(left, threading.TIMEOUT_MAX)):
                return box[0]
            return self.look((task_id,), deadline).get(task_id)
        finally:
            self.discard(waiter)

    def each(self, task_ids: Sequence[str], timeout: float | None) -> Iterator[tuple[str, Answer]]:
        """Yield (id, outcome) of each of these ids as it becomes ready.

        TimeoutError after `timeout` seconds, when a last look has found nothing more.
        """
        for arrived in self.arrivals(task_ids, timeout):
            yield from arrived

    def arrivals(
        self, task_ids: Sequence[str], timeout: float | None
    ) -> Iterator[Sequence[tuple[str, Answer]]]:
        """`each`, of which those that are seen at once are yielded together."""
        deadline = None if timeout is None else time.monotonic() + timeout
        arrived: queue.SimpleQueue[tuple[str, Answer]] = queue.SimpleQueue()
        waiters: dict[str, Waiter] = {}
        missing = dict.fromkeys(task_ids)
        try:
            for found in self.looks(task_ids, deadline):
                yield _struck(missing, found)
            for task_id in missing if timeout != 0 else ():
                waiters[task_id] = self.add(task_id, partial(_arrive, arrived, task_id))
            while missing:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    found = [arrived.get(timeout=None if left is None else min(left, threading.TIMEOUT_MAX))]
                except queue.Empty:
                    found = [pair for late in self.looks(list(missing), deadline) for pair in late]
                    if not found:
                        shown = ", ".join(itertools.islice(missing, 3))
                        raise TimeoutError(
                            f"{len(missing)} tasks were not ready within {timeout} s: {shown}..."
                        ) from None
                yield _struck(missing, found)
        finally:
            for waiter in waiters.values():
                self.discard(waiter)

    def look(self, task_ids: Sequence[str], deadline: float | None = None) -> Mapping[str, Answer]:
        """What is ready among these ids, by id; nothing while the store cannot be reached.

        A store that does not answer is waited for until `deadline`, or for `ONE_LOOK` if that is later.
        """
        return {each: answer for found in self._seen(task_ids, deadline) for each, answer in found.items()}

    def looks(
        self, task_ids: Sequence[str], deadline: float | None = None
    ) -> Iterator[Iterable[tuple[str, Answer]]]:
        """`look` at any number of ids: read in batches, and handed on by few at a time."""
        for start in range(0, len(task_ids), READ_BATCH):
            for found in self._seen(task_ids[start : start + READ_BATCH], deadline):
                yield found.items()

    def _seen(self, task_ids: Sequence[str], deadline: float | None) -> Iterator[Mapping[str, Answer]]:
        with suppress(StoreUnavailable):
            yield from self._ready(task_ids, deadline and max(deadline, time.monotonic() + ONE_LOOK))

    def future(self, task_id: str) -> asyncio.Future[Answer]:
        """A future of the running loop. Cancelling it lets go of the registration."""
        future, waiter = self._future(task_id)
        future.add_done_callback(lambda _: self.discard(waiter))
        return future

    def answer(self, task_id: str) -> Generator[object, None, Answer]:
        """To be awaited in place (`yield from`): as `future`, without the callback."""
        future, waiter = self._future(task_id)
        try:
            return (yield from future)
        finally:
            if future.cancelled() or not future.done():
                self.discard(waiter)

    def _future(self, task_id: str) -> tuple[asyncio.Future[Answer], Waiter]:
        from asyncio import get_running_loop

        loop = get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        waiter = Waiter(task_id, AsyncDelivery(loop, future))
        self._register(waiter, seen=False)
        return future, waiter

    def add(self, task_id: str, deliver: Callable[[Answer], None]) -> Waiter:
        """Have `deliver` called, from any thread, when the task is ready; perhaps before this returns."""
        waiter = Waiter(task_id, deliver)
        self._register(waiter)
        return waiter

    def discard(self, waiter: Waiter) -> None:
        """Drop a registration. Not an error when it was served or dropped before."""
        if self._pid != os.getpid():
            return
        with self._lock:
            held = self._waiters.get(waiter.task_id)
            if held is waiter:
                del self._waiters[waiter.task_id]
            elif isinstance(held, list) and waiter in held:
                held.remove(waiter)
                if held:
                    return
                del self._waiters[waiter.task_id]
            else:
                return
            if self._thread is not None:
                self._dropped.append(waiter.task_id)

    # -- what a settle in this process calls ---------------------------------------------------

    def notice(self, task_id: str) -> None:
        """A ready state of this task was stored, or its record was forgotten, by this process."""
        if task_id in self._waiters and self._pid == os.getpid():
            self._tell_safely((task_id,))

    def notice_all(self) -> None:
        """Anything that is awaited may have changed."""
        if self._waiters and self._pid == os.getpid():
            self._tell_safely(tuple(self._waiters))

    @property
    def waiting(self) -> int:
        """How many task ids are awaited."""
        return len(self._waiters) if self._pid == os.getpid() else 0

    def close(self) -> None:
        """Stop listening. Who still waits is told that the backend was closed."""
        if self._pid != os.getpid():
            return
        with self._lock:
            left = list(self._waiters)
            thread, listener = self._thread, self._listener
            self._thread = self._listener = None
        if listener is not None:
            listener.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._give_up(left, StoreError("the backend was closed while its results were awaited"))

    # -- inside --------------------------------------------------------------------------------

    def _register(self, waiter: Waiter, seen: bool = True) -> None:
        """`seen`: the task was looked at just now, and was not ready."""
        self._check_fork()
        first = False
        with self._lock:
            if self._listen is not None:
                self._have_thread()
                fresh = self._fresh if seen else self._unseen
                fresh.append(waiter.task_id)
                first = len(fresh) == 1
            held = self._waiters.get(waiter.task_id)
            if held is None:
                self._waiters[waiter.task_id] = waiter
            elif isinstance(held, list):
                self._waiters[waiter.task_id] = [*held, waiter]
            else:
                self._waiters[waiter.task_id] = [held, waiter]
        if self._listen is None:
            self._tell_safely((waiter.task_id,))
        elif first:
            self._wake()

    def _have_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="settled-watcher", daemon=True)
            thread.start()  # what it may raise is the caller's: nothing is registered yet
            self._thread = thread

    def _wake(self) -> None:
        listener = self._listener
        if listener is not None:
            listener.wake()

    def _tell_safely(self, task_ids: Sequence[str]) -> None:
        """Tell, and leave it to the watcher's thread and the safety poll if the store is away."""
        try:
            self._tell(task_ids)
        except StoreUnavailable:
            with self._lock:
                self._have_thread()
                self._fresh.extend(task_ids)
            self._wake()
        except Exception as exc:
            self._give_up(task_ids, exc)

    def _tell(self, task_ids: Sequence[str]) -> None:
        """Read these ids and serve the waiters of those that are ready, each with a record of its own."""
        for start in range(0, len(task_ids), READ_BATCH):
            self._tell_these(task_ids[start : start + READ_BATCH])

    def _tell_these(self, task_ids: Sequence[str]) -> None:
        batches: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Answer], Answer]]] = {}
        woken = False
        try:
            for few in self._ready(task_ids, None):
                for task_id, outcome in few.items():
                    for waiter in self._take(task_id):
                        told = outcome if isinstance(outcome, SettledError) else dict(outcome)
                        deliver = waiter.deliver
                        if isinstance(deliver, AsyncDelivery):
                            batches.setdefault(deliver.loop, []).append((deliver.future, told))
                        else:
                            deliver_to(waiter, told)
                            woken = True
        finally:  # also of those that were taken before something went wrong
            for loop, batch in batches.items():
                hand_over(loop, batch)
        if woken and not self._waiters:
            time.sleep(0)  # lets go of the interpreter, for which who was told last would wait

    def _take(self, task_id: str) -> Sequence[Waiter]:
        with self._lock:
            held = self._waiters.pop(task_id, None)
            if held is None:
                return ()
            if self._thread is not None:
                self._dropped.append(task_id)
            return held if isinstance(held, list) else (held,)

    # -- the watcher's thread ------------------------------------------------------------------
    # It is the watcher's as long as `_thread` says so; another one that finds itself replaced ends.

    def _run(self) -> None:
        pauses = Pauses()
        while True:
            try:
                self._serve(pauses)
            except StoreUnavailable:
                pass  # an outage: nobody is told, everything awaited is read again after it
            except Exception as exc:
                self._give_up(list(self._waiters), exc)
            if self._ended():
                return
            time.sleep(pauses.next())

    def _give_up(self, task_ids: Sequence[str], cause: Exception) -> None:
        """Nothing more will be pushed or read of these: say so to everyone who waits for them."""
        error = (
            cause if isinstance(cause, SettledError) else StoreError(f"waiting for results failed: {cause!r}")
        )
        if error is not cause:
            error.__cause__ = cause
        for task_id in task_ids:
            for waiter in self._take(task_id):
                deliver_to(waiter, error)

    def _serve(self, pauses: Pauses) -> None:
        """Listen and tell until nobody has waited for a while."""
        self._tell_unseen()
        listener = (self._listen or Polling)()
        try:
            with self._lock:
                if self._thread is not threading.current_thread():
                    return
                self._listener = listener
                awaited = list(self._waiters)
                self._unseen.clear()
                self._fresh.clear()
                self._dropped.clear()
            listener.watch(awaited)
            self._tell(awaited)
            pauses.reset()
            self._loop(listener)
        finally:
            with self._lock:
                if self._listener is listener:
                    self._listener = None
            listener.close()

    def _loop(self, listener: Listening) -> None:
        safety = time.monotonic() + SAFETY_POLL
        idle_until: float | None = None
        while self._mind_changes(listener):
            now = time.monotonic()
            if self._waiters:
                idle_until = None
            elif idle_until is None:
                idle_until = now + LINGER
            if idle_until is not None and now >= idle_until and self._ended():
                return
            until = safety if idle_until is None else idle_until
            changed = () if self._fresh or self._unseen else listener.wait(max(0.0, until - now))
            if changed is None or time.monotonic() >= safety:
                self._tell(list(self._waiters))
                safety = time.monotonic() + SAFETY_POLL * random.uniform(0.8, 1.2)
            elif changed:
                self._tell([task_id for task_id in changed if task_id in self._waiters])

    def _mind_changes(self, listener: Listening) -> bool:
        """Watch the newly awaited and read them; unwatch those nobody waits for any more.

        False if this thread has been replaced.
        """
        self._tell_unseen()
        with self._lock:
            if self._thread is not threading.current_thread():
                return False
            fresh = [task_id for task_id in dict.fromkeys(self._fresh) if task_id in self._waiters]
            gone = [task_id for task_id in dict.fromkeys(self._dropped) if task_id not in self._waiters]
            self._fresh.clear()
            self._dropped.clear()
        if gone:
            listener.unwatch(gone)
        if fresh:
            listener.watch(fresh)
            self._tell(fresh)
        return True

    def _tell_unseen(self) -> None:
        """Read those that nobody has looked at yet: what is ready need not be listened for."""
        with self._lock:
            unseen = [task_id for task_id in dict.fromkeys(self._unseen) if task_id in self._waiters]
            self._unseen.clear()
            self._fresh.extend(unseen)
        if unseen:
            self._tell(unseen)

    def _ended(self) -> bool:
        """Whether the thread may end: decided under the lock, so that no new waiter is left behind."""
        with self._lock:
            if self._thread is threading.current_thread():
                if self._waiters:
                    return False
                self._thread = self._listener = None
            return True


def _struck(missing: dict[str, None], found: Iterable[tuple[str, Answer]]) -> Sequence[tuple[str, Answer]]:
    """What of `found` is still missing, struck from there: an id may be both pushed and looked up."""
    return [pair for pair in found if missing.pop(pair[0], 0) is None]


def _arrive(arrived: queue.SimpleQueue[tuple[str, Answer]], task_id: str, outcome: Answer) -> None:
    arrived.put((task_id, outcome))
