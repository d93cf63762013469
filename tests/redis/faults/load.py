"""Threads that wait, write and open chords while something goes wrong, and what became of their tasks."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import Counter
from functools import partial

from settled.chords import body_id_of
from settled.errors import StoreUnavailable, TimeoutError
from settled.states import SUCCESS
from settled.testing.app import Request
from settled.testing.threads import together
from tests.servers import until

BOUND = 2.0
"""Seconds beyond its timeout after which a wait counts as hanging: the machine may be busy."""

PATIENCE = 60.0

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
"""Options of a server that has on disk what it acknowledges."""

BODY = {"task": "faults.body", "args": [], "kwargs": {}, "options": {}}


def value_of(task_id):
    return f"the value of {task_id}"


class Crowd:
    """Threads at work until `finish`; `done` is what they have done so far."""

    def __init__(self):
        self.done = []
        self._ending = threading.Event()
        self._errors = []

    def _running(self, call, *args):
        """A thread that makes the call; an error ends the work of all."""

        def run():
            try:
                call(*args)
            except BaseException as exc:
                self._errors.append(exc)
                self._ending.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def go_on(self, more):
        """Wait until so much more is done."""
        wanted = len(self.done) + more
        until(lambda: len(self.done) >= wanted or self._errors, PATIENCE, f"{more} more")
        self._check()

    def _end(self, threads):
        """Have these end, whose work is over."""
        self._ending.set()
        for thread in threads:
            until(
                lambda thread=thread: not thread.is_alive() or self._errors,
                PATIENCE + BOUND,
                "the end of a thread",
            )
            self._check()

    def _check(self):
        if self._errors:
            raise self._errors[0]


class Load(Crowd):
    """Waiters ask for one task after the other and wait for it; writers settle what is asked for.

    Each side has a backend of its own, so that waiters are told by the store alone. Besides there are
    impatient ones, who wait for what nobody settles, each with a timeout of its own.
    """

    def __init__(self, waiting, writing, *, waiters=50, writers=8, timeout=PATIENCE, impatience=()):
        super().__init__()
        self._waiting = waiting
        self._writing = writing
        self._timeout = timeout
        self._asked = queue.SimpleQueue()
        self.acknowledged = []
        self.refused = []
        """What writers were told, who then tried again."""
        self.kept = []
        """Writes that did not reach the store for so long that they were kept for it."""
        self.waits = []
        """(timeout, how long it took) of the impatient."""
        self._waiters = [self._running(self._wait, f"waiter-{number}") for number in range(waiters)]
        self._waiters += [self._running(self._wait_in_vain, each) for each in impatience]
        self._writers = [self._running(self._write) for _ in range(writers)]

    def _wait(self, name):
        number = 0
        while not self._ending.is_set():
            task_id = f"{name}-{number}"
            self._asked.put(task_id)
            assert self._waiting.wait_for(task_id, timeout=self._timeout) == value_of(task_id)
            self.done.append(task_id)
            number += 1

    def _wait_in_vain(self, timeout):
        while not self._ending.wait(0.01):
            begun = time.monotonic()
            try:
                told = self._waiting.wait_for("settled-by-nobody", timeout=timeout)
            except TimeoutError:
                self.waits.append((timeout, time.monotonic() - begun))
            else:
                raise AssertionError(f"nobody settled it, and it is {told!r}")

    def _write(self):
        while (task_id := self._asked.get()) is not None:
            refused = len(self.refused)
            settled = insisting(self._writing.mark_as_done, task_id, value_of(task_id), refused=self.refused)
            # One that was refused may have landed, its reply lost: then the second one finds it final.
            assert settled or settled.kept or (settled.state == SUCCESS and len(self.refused) > refused)
            self.acknowledged.append(task_id)
            if settled.kept:
                self.kept.append(task_id)

    def finish(self, server):
        """End it. Every wait was answered with its value, or ended in time; what was acknowledged is stored."""
        self._end(self._waiters)
        for _ in self._writers:
            self._asked.put(None)
        self._end(self._writers)
        late = [(timeout, taken) for timeout, taken in self.waits if taken > timeout + BOUND]
        assert not late, f"(timeout, taken) of waits that hung: {late}"
        assert sorted(self.done) == sorted(self.acknowledged)
        assert missing(server, self.acknowledged) == []


class Chords(Crowd):
    """Openers open one chord after the other, have its parts settled, all at once, and wait for its body."""

    def __init__(self, backend, *, openers=4, size=5):
        super().__init__()
        self._backend = backend
        self._size = size
        self._openers = [self._running(self._open, f"chord-{number}") for number in range(openers)]

    def _open(self, name):
        number = 0
        while not self._ending.is_set():
            group_id = f"{name}-{number}"
            insisting(self._backend.open_chord, group_id, self._members(group_id), BODY)
            together(*(partial(self._settle, group_id, place) for place in range(self._size)))
            until(partial(self._has_sent, body_id_of(BODY, group_id)), PATIENCE, f"the body of {group_id}")
            self.done.append(group_id)
            number += 1

    def _members(self, group_id):
        return [f"{group_id}-{place}" for place in range(self._size)]

    def _settle(self, group_id, place):
        insisting(settle_part, self._backend, group_id, place)

    def _has_sent(self, task_id):
        return any(sent.task_id == task_id for sent in reversed(self._sent))

    def finish(self):
        """End it. The body of every chord was sent, as one task, with its results in order."""
        self._end(self._openers)
        wanted = {body_id_of(BODY, group_id): group_id for group_id in self.done}
        assert {sent.task_id for sent in self._sent} == set(wanted)
        for sent in self._sent:
            members = self._members(wanted[sent.task_id])
            assert sent.args == ([value_of(task_id) for task_id in members],)

    @property
    def _sent(self):
        return self._backend.app.sent

    @property
    def repeated(self):
        """Bodies that were sent again, as the same task."""
        counted = Counter(sent.task_id for sent in self._sent)
        return [task_id for task_id, count in counted.items() if count > 1]


def settle_part(backend, group_id, place):
    """Settle the member `place` of a chord by the published interface."""
    task_id = f"{group_id}-{place}"
    request = Request(task_id, group=group_id, group_index=place, chord=BODY)
    return backend.mark_as_done(task_id, value_of(task_id), request=request)


def insisting(call, *args, refused=None):
    """What the call returns, made again for as long as the store is away: as whoever needs it would."""
    while True:
        try:
            return call(*args)
        except StoreUnavailable as exc:
            if refused is not None:
                refused.append(exc)


def missing(server, task_ids):
    """Those of these tasks whose value is not in the store, seen without the engine."""
    with server.client() as client:
        stored = client.mget([f"celery-task-meta-{task_id}" for task_id in task_ids])
    return [
        task_id
        for task_id, payload in zip(task_ids, stored, strict=True)
        if payload is None or json.loads(payload)["result"] != value_of(task_id)
    ]
