"""What was written while the store was away, kept and made in order when it is back."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from settled.backends.backlog import Backlog
from settled.backends.spool import Kept, Spool
from settled.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from settled.backends.writing import Writer
    from settled.record import Settle, Settled

log = logging.getLogger("settled.backends")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two tries to reach the store."""

CLOSE_TIMEOUT = 2.0
"""Seconds in which closing tries to make what is kept; what is left goes to the spool."""


class Outbox:
    """Writes of one backend that could not reach the store. Thread-safe, fork-safe and gevent-safe.

    A daemon thread makes them, the oldest first, when the store is back; it lives while there are any,
    and so does the backend. A write that the store then refuses for good is logged and put aside, in a
    spool of its own. When the backend is closed, or the interpreter ends, what is left goes to the spool.

    Args:
        backend: whose writes these are; not kept alive while there are none.
        url, folder, limit: see `Backlog`.
    """

    def __init__(self, backend: Writer, url: str, folder: object, limit: int) -> None:
        self._backend = weakref.ref(backend)
        self._backlog = Backlog(url, folder, limit)
        self._begin()
        weakref.finalize(backend, self._end)
        os.register_at_fork(after_in_child=partial(_call, weakref.ref(self), Outbox._check_fork))

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._back = False  # the store has taken what was kept first
        self._minds_exit = False
        self._pid = os.getpid()

    def _check_fork(self) -> None:
        """Begin with nothing in a forked child: what is kept is the parent's, and so are its files."""
        if self._pid != os.getpid():
            self._backlog.let_go()
            self._begin()

    # -- what the backend calls ------------------------------------------------------------------

    def behind(self, write: Settle, patience: float) -> bool:
        """Keep `write` if others are kept before it; whether it is. Raises as `keep`.

        While those are being made, since the store is back, it waits for them, up to `patience` seconds: busy
        writers would else add to them faster than one thread can make them.
        """
        self._check_fork()
        if not self._backlog.count:
            return False
        with self._lock:
            if self._thread is not threading.current_thread():
                self._ended.wait_for(lambda: not (self._back and self._backlog.count), patience)
            if not self._backlog.count:
                return False
            self._keep(write)
            return True

    def keep(self, write: Settle, error: StoreUnavailable) -> None:
        """Keep `write`, which did not reach the store for `error`. StoreUnavailable if nothing can hold it."""
        self._check_fork()
        with self._lock:
            first = not self._backlog.count
            self._keep(write)
        if first:
            log.warning(
                "%s is away (%s): what is written is kept until it is back", self._backlog.url, str(error)
            )

    def _keep(self, write: Settle) -> None:
        if not self._serving:
            self._start(write)
        self._backlog.add(write)

    def _start(self, write: Settle) -> None:
        self._mind_exit()
        closing = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(self._backend(), closing), name="settled-outbox", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as exc:
            raise StoreUnavailable(
                f"{self._backlog.url} is away, and the write of task {write.task_id!r} cannot be kept: {exc}"
            ) from exc
        self._thread, self._closing = thread, closing

    @property
    def _serving(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def drained(self, timeout: float) -> bool:
        """Wait until nothing is kept any more; False if `timeout` seconds passed first."""
        self._check_fork()
        with self._lock:
            self._ended.wait_for(lambda: not self._serving, timeout)
            return not self._backlog.count

    def close(self) -> None:
        """Try once more to make what is kept, then leave it in the spool and let go of all files.

        StoreUnavailable if the spool cannot be written: it is still kept then, in memory.
        """
        self._check_fork()
        with self._lock:
            self._closing.set()
            ours = self._thread is threading.current_thread()
        if not ours:
            self.drained(CLOSE_TIMEOUT)
        with self._lock:
            self._thread, self._back = None, False
            self._ended.notify_all()
            left, url = self._backlog.count, self._backlog.url
            try:
                files = self._backlog.leave()
            except OSError as exc:
                raise StoreUnavailable(
                    f"{url} is away, and what is kept for it ({left} writes) cannot be spooled: {exc}"
                ) from exc
        if files:
            log.warning(
                "%s: %s writes were not made before the backend was closed. `settled doctor --drain` makes "
                "them from %s",
                *(url, left, " and ".join(map(str, files))),
            )

    def _end(self) -> None:
        """The backend or the interpreter is at its end: nothing may stay in memory."""
        self._backlog.limit = 0
        self.close()

    def _mind_exit(self) -> None:
        """A child of multiprocessing leaves without what atexit has; this it calls."""
        util = sys.modules.get("multiprocessing.util")
        if util is not None and not self._minds_exit:
            util.Finalize(None, _call, (weakref.ref(self), Outbox._end), exitpriority=0)
            self._minds_exit = True

    # -- the thread ------------------------------------------------------------------------------
    # It is the outbox's as long as `_thread` says so; another one that finds itself replaced ends. It
    # never holds the lock while the store works. It holds the backend: who is done with that in an outage,
    # as a worker is after its task, still has its writes made.

    def _run(self, backend: Writer, closing: threading.Event) -> None:
        pause = FIRST_PAUSE
        while True:
            last = closing.is_set()
            made = self._make(backend)
            if last:
                self._rest()
            if self._thread is not threading.current_thread():
                return
            pause = FIRST_PAUSE if made else min(pause * 2, LONGEST_PAUSE)
            closing.wait(pause * random.uniform(0.5, 1.5))

    def _make(self, backend: Writer) -> int:
        """Make what is kept until nothing is left, or the store is away; how many writes."""
        made = 0
        try:
            while (kept := self._oldest(made)) is not None:
                try:
                    settled = backend.do_settle(kept.write)
                except StoreUnavailable:
                    self._gone()
                    break
                except Exception as exc:
                    self._refuse(kept, exc)
                else:
                    made += 1
                    try:
                        self._made()
                    finally:
                        _follow_up(backend, kept.write, settled)
        except OSError:
            log.exception("a spool for %s could not be read or written; it is tried again", self._backlog.url)
        return made

    def _oldest(self, made: int) -> Kept | None:
        """The next, after `made` others; None when there is none, and this thread no longer the outbox's."""
        with self._lock:
            if self._thread is not threading.current_thread():
                return None
            kept = self._backlog.oldest()
            if kept is None:
                self._thread, self._back = None, False
                self._ended.notify_all()
                if made:
                    log.info("%s is back, and has what was kept for it", self._backlog.url)
            return kept

    def _made(self) -> None:
        with self._lock:
            if self._thread is threading.current_thread():
                self._backlog.made()
                self._back = True

    def _gone(self) -> None:
        with self._lock:
            self._back = False
            self._ended.notify_all()

    def _refuse(self, kept: Kept, error: Exception) -> None:
        with self._lock:
            if self._thread is not threading.current_thread():
                return
            path = self._backlog.refuse(kept, error)
        _log_refusal(kept, error, path)

    def _rest(self) -> None:
        """End, and leave what is kept to whoever closes."""
        with self._lock:
            if self._thread is threading.current_thread():
                self._thread, self._back = None, False
                self._ended.notify_all()


def _call(held: weakref.ref[Outbox], method: Callable[[Outbox], None]) -> None:
    outbox = held()
    if outbox is not None:
        method(outbox)


def _follow_up(backend: Writer, write: Settle, settled: Settled) -> None:
    try:
        backend.follow_up(write, settled)
    except Exception:
        log.exception("task %s is stored; what follows from that failed", write.task_id)


def _log_refusal(kept: Kept, error: Exception, path: Path) -> None:
    log.error("the store refuses what was kept of task %s: %s. It is in %s", kept.write.task_id, error, path)


class Drained(NamedTuple):
    """What became of an orphan's spool: how many writes the store took, and how many it refused."""

    made: int
    refused: int


def drain(backend: Writer, path: Path) -> Drained | None:
    """Make the writes in the spool of a process that has ended, in order, and delete it.

    None if its process lives, or another one drains it. Raises StoreUnavailable, the rest still in the
    file; SchemaError for what is no spool; OSError.
    """
    orphan = Spool.take(path)
    if orphan is None:
        return None
    backlog = Backlog.of(orphan)
    made = refused = 0
    try:
        while (kept := backlog.oldest()) is not None:
            write = kept.write
            if write.part is not None:  # the claim that it asked for was its process's
                write = replace(write, claim=backend.new_claim())
            try:
                settled = backend.call(backend.do_settle, write)
            except StoreUnavailable:
                raise
            except StoreError as exc:
                _log_refusal(kept, exc, backlog.refuse(kept, exc))
                refused += 1
            else:
                backlog.made()
                made += 1
                _follow_up(backend, write, settled)
    finally:
        backlog.let_go()
    return Drained(made, refused)
