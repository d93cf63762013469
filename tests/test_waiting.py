"""The watcher, against a listener that does what the test says, and against real backends."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from settled import waiting
from settled.app import App
from settled.callbacks import Callbacks
from settled.delivery import Answer
from settled.errors import StoreError, StoreUnavailable, TimeoutError
from settled.listening import Polling
from settled.waiting import Watcher

PATIENCE = 30.0
"""Seconds after which a test that hangs is ended."""


class Store:
    """What `ready` reads: answers by id. Whoever asks is let through, or told what `fault` says."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.fault: Exception | None = None
        self.looks: list[tuple[str, ...]] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self._changed = threading.Condition()

    def ready(self, task_ids: Sequence[str], deadline: float | None = None) -> list[dict[str, Answer]]:
        self.before()
        if self.fault is not None:
            with self._changed:
                self.looks.append(tuple(task_ids))
                self._changed.notify_all()
            raise self.fault
        found = {task_id: self.answers[task_id] for task_id in task_ids if task_id in self.answers}
        self.after()
        with self._changed:
            self.looks.append(tuple(task_ids))
            self._changed.notify_all()
        return [found]

    def settle(self, task_id: str) -> None:
        self.answers[task_id] = {"status": "SUCCESS", "task_id": task_id}

    def reach(self, looks: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.looks) >= looks, PATIENCE)


class Script:
    """A listener: `say` is what its next wait ends with, an exception is raised there."""

    def __init__(self) -> None:
        self.said: queue.SimpleQueue[Collection[str] | Exception | None] = queue.SimpleQueue()
        self.watched: list[str] = []
        self.unwatched: list[str] = []
        self.closed = threading.Event()
        self.closing: Callable[[], None] = lambda: None
        self._changed = threading.Condition()

    def say(self, what: Collection[str] | Exception | None) -> None:
        self.said.put(what)

    def wait(self, timeout: float) -> Collection[str] | None:
        try:
            said = self.said.get(timeout=timeout)
        except queue.Empty:
            return ()
        if isinstance(said, Exception):
            raise said
        return said

    def wake(self) -> None:
        self.said.put(())

    def watch(self, task_ids: Iterable[str]) -> None:
        with self._changed:
            self.watched.extend(task_ids)
            self._changed.notify_all()

    def unwatch(self, task_ids: Iterable[str]) -> None:
        with self._changed:
            self.unwatched.extend(task_ids)
            self._changed.notify_all()

    def close(self) -> None:
        self.closed.set()
        self.closing()

    def until(self, told: Callable[[Script], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: told(self), PATIENCE)


class Setting:
    """A watcher over a scripted store; every listener it makes is kept."""

    def __init__(self) -> None:
        self.store = Store()
        self.scripts: list[Script] = []
        self.refusals: list[Exception] = []
        self.made = threading.Semaphore(0)
        self.watcher = Watcher(self.store.ready, self._listen)

    def _listen(self) -> Script:
        if self.refusals:
            raise self.refusals.pop()
        self.scripts.append(Script())
        self.made.release()
        return self.scripts[-1]

    def next_script(self) -> Script:
        assert self.made.acquire(timeout=PATIENCE)
        return self.scripts[-1]


class Getting:
    """`watcher.get` in a thread; `result` is its answer, or what it raised."""

    def __init__(self, watcher: Watcher, task_id: str, timeout: float | None = PATIENCE) -> None:
        self._box: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._args = (watcher, task_id, timeout)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        watcher, task_id, timeout = self._args
        try:
            self._box.put(watcher.get(task_id, timeout))
        except Exception as exc:
            self._box.put(exc)

    def result(self) -> Any:
        return self._box.get(timeout=PATIENCE * 2)


def held(entered: threading.Event, go_on: threading.Event) -> Callable[[], None]:
    def hold() -> None:
        entered.set()
        assert go_on.wait(PATIENCE)

    return hold


def in_this_thread(act: Callable[[], object]) -> Callable[[], None]:
    """`act` for the one who calls `get` or `each`, and nothing for the watcher's thread."""
    this = threading.current_thread()

    def only_here() -> None:
        if threading.current_thread() is this:
            act()

    return only_here


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    # Far away, so that no test passes because of the safety poll.
    monkeypatch.setattr(waiting, "SAFETY_POLL", 1000.0)
    made = Setting()
    yield made
    made.watcher.close()


def watcher_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "settled-watcher"]


@pytest.fixture(autouse=True)
def _no_other_watchers():
    """Those of other tests linger for a while after their last waiter; these tests count threads."""
    for thread in watcher_threads():
        thread.join(60)


def waiting_for(setting: Setting, task_id: str) -> tuple[Script, Getting]:
    """A thread that waits, and the listener, once that has been told and has been looked behind."""
    getting = Getting(setting.watcher, task_id)
    script = setting.next_script()
    script.until(lambda script: task_id in script.watched)
    setting.store.reach(2)
    return script, getting


# -- looking first -----------------------------------------------------------------------------


def test_a_ready_task_costs_one_look_and_no_listener(setting):
    setting.store.settle("a")
    assert setting.watcher.get("a", None) == setting.store.answers["a"]
    assert setting.store.looks == [("a",)]
    assert (setting.watcher.waiting, setting.scripts) == (0, [])


def test_a_timeout_of_0_looks_once(setting):
    assert setting.watcher.get("a", 0) is None
    assert setting.store.looks == [("a",)]
    assert setting.scripts == []


def test_a_timeout_of_0_during_an_outage_is_still_exact(setting):
    setting.store.fault = StoreUnavailable("away")
    assert setting.watcher.get("a", 0) is None
    assert list(setting.watcher.looks(["a"])) == []


def test_the_last_look_is_after_the_timeout(setting):
    looks = iter((lambda: None, lambda: setting.store.settle("a")))
    setting.store.before = in_this_thread(lambda: next(looks)())
    assert setting.watcher.get("a", 0.2) == {"status": "SUCCESS", "task_id": "a"}
    assert setting.watcher.waiting == 0


@pytest.mark.parametrize("timeout", [1e300, float("inf")])
def test_a_huge_timeout_is_one(setting, timeout):
    getting = Getting(setting.watcher, "a", timeout)
    setting.next_script().until(lambda script: "a" in script.watched)
    setting.store.settle("a")
    setting.watcher.notice("a")
    assert getting.result() == {"status": "SUCCESS", "task_id": "a"}
    setting.store.answers.clear()
    setting.watcher.add("b", lambda answer: None)
    each = setting.watcher.each(["a", "b"], timeout)
    setting.store.before = lambda: (setting.store.settle("a"), setting.store.settle("b"))
    assert {task_id for task_id, _ in each} == {"a", "b"}


# -- being told ----------------------------------------------------------------------------------


def test_a_push_tells_the_one_who_waits(setting):
    script, getting = waiting_for(setting, "a")
    setting.store.settle("a")
    script.say(["a"])
    assert getting.result() == {"status": "SUCCESS", "task_id": "a"}
    assert setting.watcher.waiting == 0


def test_anything_may_have_changed_reads_all(setting):
    script, getting = waiting_for(setting, "a")
    setting.store.settle("a")
    script.say(None)
    assert getting.result()["task_id"] == "a"


def test_spurious_wakes_end_no_wait(setting):
    script, getting = waiting_for(setting, "a")
    for said in ((), ["other"], ["a"], None, ["a", "a", "other"]):
        script.say(said)
    setting.store.reach(2 + 3)
    assert setting.watcher.waiting == 1
    setting.store.settle("a")
    script.say(["a"])
    script.say(["a"])
    assert getting.result()["task_id"] == "a"


def test_what_settles_between_the_look_and_the_registration_is_found(setting):
    looks = iter((lambda: setting.store.settle("a"),))
    setting.store.after = lambda: next(looks, lambda: None)()
    # Nothing is ever pushed: the look behind the registration finds it.
    assert Getting(setting.watcher, "a").result()["task_id"] == "a"


def test_a_settle_in_this_process_tells_at_once(setting):
    script, getting = waiting_for(setting, "a")
    setting.store.settle("a")
    setting.watcher.notice("a")
    assert getting.result()["task_id"] == "a"
    setting.watcher.notice("a")
    script.until(lambda script: True)
    assert setting.watcher.waiting == 0


def test_a_notice_that_nobody_waits_for_reads_nothing(setting):
    setting.watcher.notice("a")
    assert setting.store.looks == []
    setting.store.settle("a")
    assert setting.watcher.get("a", 0) is not None


def test_the_safety_poll_finds_what_no_push_told(setting, monkeypatch):
    monkeypatch.setattr(waiting, "SAFETY_POLL", 0.05)
    _, getting = waiting_for(setting, "a")
    setting.store.settle("a")
    assert getting.result()["task_id"] == "a"


def test_everyone_who_waits_for_one_task_is_told_once(setting):
    told: list[int] = []
    waiters = [setting.watcher.add("a", lambda answer, n=n: told.append(n)) for n in range(4)]
    setting.watcher.discard(waiters[1])
    setting.watcher.discard(waiters[1])
    setting.store.settle("a")
    setting.watcher.notice("a")
    setting.watcher.notice("a")
    setting.watcher.discard(waiters[0])
    assert told == [0, 2, 3]


def test_a_dropped_registration_is_unwatched(setting):
    waiter = setting.watcher.add("a", lambda answer: None)
    script = setting.next_script()
    script.until(lambda script: "a" in script.watched)
    setting.watcher.discard(waiter)
    assert setting.watcher.waiting == 0
    setting.watcher.add("b", lambda answer: None)
    script.until(lambda script: script.unwatched == ["a"])


def test_a_registration_may_be_made_by_the_watchers_own_thread(setting):
    told: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    setting.watcher.add("a", lambda answer: setting.watcher.add("b", told.put) and None)
    script = setting.next_script()
    setting.store.settle("a")
    setting.store.settle("b")
    script.say(["a"])
    assert told.get(timeout=PATIENCE)["task_id"] == "b"


@pytest.mark.parametrize("error", [ValueError("bug"), SystemExit(1)])
def test_a_callback_that_raises_costs_nobody_else_his_answer(setting, error, caplog):
    def fail(answer: Answer) -> None:
        raise error

    setting.watcher.add("a", fail)
    script = setting.next_script()
    script.until(lambda script: "a" in script.watched)
    others = [queue.SimpleQueue() for _ in range(3)]
    setting.watcher.add("a", others[0].put)
    setting.watcher.add("b", others[1].put)
    setting.store.settle("a")
    setting.store.settle("b")
    script.say(["a", "b"])
    assert [other.get(timeout=PATIENCE)["task_id"] for other in others[:2]] == ["a", "b"]
    setting.store.settle("c")
    setting.watcher.add("c", others[2].put)  # the thread is still there
    assert others[2].get(timeout=PATIENCE)["task_id"] == "c"
    assert "task a could not be told" in caplog.text


# -- outages -------------------------------------------------------------------------------------


def test_an_outage_shorter_than_the_timeout_is_invisible(setting):
    script, getting = waiting_for(setting, "a")
    setting.refusals = [StoreUnavailable("still away"), StoreUnavailable("away")]
    script.say(StoreUnavailable("cut"))
    again = setting.next_script()
    again.until(lambda script: script.watched == ["a"])
    assert script.closed.is_set()
    setting.store.settle("a")
    again.say(["a"])
    assert getting.result()["task_id"] == "a"


def test_after_a_reconnect_everything_awaited_is_read_again(setting):
    script, getting = waiting_for(setting, "a")
    setting.store.settle("a")  # and no push arrives, because the connection was cut
    script.say(StoreUnavailable("cut"))
    assert getting.result()["task_id"] == "a"


def test_a_timeout_holds_while_the_listener_never_works(setting):
    setting.refusals = [StoreUnavailable("away")] * 1000
    assert setting.watcher.get("a", 0.1) is None
    assert setting.watcher.waiting == 0


def test_reads_that_fail_during_the_outage_are_made_again(setting):
    getting = Getting(setting.watcher, "a")
    script = setting.next_script()
    setting.store.reach(2)
    setting.store.fault = StoreUnavailable("away")
    script.say(["a"])
    setting.store.reach(4)  # once for the push, and again behind a new listener
    setting.store.settle("a")
    setting.store.fault = None
    assert getting.result()["task_id"] == "a"


def test_a_notice_during_an_outage_is_not_lost(setting):
    _, getting = waiting_for(setting, "a")
    setting.store.settle("a")
    setting.store.fault = StoreUnavailable("away")
    setting.watcher.notice("a")  # raises nothing: the task was settled
    setting.store.fault = None
    assert getting.result()["task_id"] == "a"


def test_without_a_listener_an_outage_is_survived_by_polling():
    store = Store()
    watcher = Watcher(store.ready, None)
    getting = Getting(watcher, "a")
    store.reach(2)
    store.settle("a")
    store.fault = StoreUnavailable("away")
    watcher.notice("a")
    store.fault = None
    assert getting.result()["task_id"] == "a"
    watcher.close()


# -- errors --------------------------------------------------------------------------------------


def test_a_bug_in_the_listener_is_told_to_everyone_who_waits(setting):
    bug = ValueError("bug")
    script, getting = waiting_for(setting, "a")
    script.say(bug)
    error = getting.result()
    assert isinstance(error, StoreError)
    assert error.__cause__ is bug
    assert setting.watcher.waiting == 0


@pytest.mark.parametrize("where", ["listen", "watch", "close"])
def test_a_bug_at_any_place_of_the_listener_ends_the_wait(setting, where, monkeypatch):
    def fail(*args: object) -> None:
        raise ValueError(where)

    if where == "listen":
        setting.refusals = [ValueError(where)] * 1000
    else:
        monkeypatch.setattr(Script, where, fail)
    getting = Getting(setting.watcher, "a")
    if where == "close":
        setting.next_script().say(StoreUnavailable("cut"))
    error = getting.result()
    assert isinstance(error, StoreError)
    assert repr(error.__cause__) == repr(ValueError(where))
    monkeypatch.undo()


def test_the_stores_own_error_is_told_as_it_is(setting):
    script, getting = waiting_for(setting, "a")
    error = StoreError("disk full")
    script.say(error)
    assert getting.result() is error


def test_a_bug_in_reading_is_told_and_costs_a_settle_nothing(setting):
    _, getting = waiting_for(setting, "a")
    setting.store.fault = ValueError("bug")
    setting.watcher.notice("a")
    assert isinstance(getting.result(), StoreError)
    with pytest.raises(ValueError, match="bug"):
        setting.watcher.get("b", None)
    assert setting.watcher.waiting == 0


def test_after_a_bug_the_next_wait_works(setting):
    script, getting = waiting_for(setting, "a")
    script.say(ValueError("bug"))
    getting.result()
    setting.store.settle("b")
    setting.store.looks.clear()
    told: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    setting.watcher.add("b", told.put)
    assert told.get(timeout=PATIENCE)["task_id"] == "b"


def test_where_no_thread_can_be_started_nothing_is_registered(setting, monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="start new thread"):
            setting.watcher.get("a", None)
    assert setting.watcher.waiting == 0
    _, getting = waiting_for(setting, "b")
    setting.store.settle("b")
    setting.watcher.notice("b")
    assert getting.result()["task_id"] == "b"


# -- the thread ----------------------------------------------------------------------------------


def test_nobody_waits_so_there_is_no_thread(setting):
    others = set(watcher_threads())  # those of another test may linger
    with pytest.raises(StopIteration):
        next(setting.watcher.each([], None))
    assert set(watcher_threads()) <= others
    assert setting.scripts == []


def test_the_thread_ends_when_nobody_has_waited_for_a_while_and_starts_again(setting, monkeypatch):
    monkeypatch.setattr(waiting, "LINGER", 0.01)
    for task_id in ("a", "b"):
        setting.store.looks.clear()
        script, getting = waiting_for(setting, task_id)
        thread = watcher_threads()[0]
        setting.store.settle(task_id)
        script.say([task_id])
        assert getting.result()["task_id"] == task_id
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert script.closed.is_set()


def test_a_new_waiter_during_the_linger_keeps_the_listener(setting, monkeypatch):
    monkeypatch.setattr(waiting, "LINGER", 1000.0)
    script, getting = waiting_for(setting, "a")
    setting.store.settle("a")
    script.say(["a"])
    getting.result()
    setting.store.settle("b")
    told: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    setting.watcher.add("b", told.put)
    assert told.get(timeout=PATIENCE)["task_id"] == "b"
    assert len(setting.scripts) == 1


def test_a_thread_that_ends_does_not_take_its_successors_listener_away(setting, monkeypatch):
    monkeypatch.setattr(waiting, "LINGER", 0.0)
    ending, go_on = threading.Event(), threading.Event()
    script, getting = waiting_for(setting, "a")
    old = watcher_threads()[0]
    script.closing = held(ending, go_on)
    setting.store.settle("a")
    script.say(["a"])
    getting.result()
    assert ending.wait(PATIENCE)  # the old thread is between its last look and its end
    setting.watcher.add("b", lambda answer: None)
    successor = setting.next_script()
    successor.until(lambda script: "b" in script.watched)
    go_on.set()
    old.join(PATIENCE)
    setting.watcher.add("c", lambda answer: None)
    successor.until(lambda script: "c" in script.watched)  # it can still be woken


def test_close_tells_those_who_wait_and_leaves_no_thread(setting):
    _, getting = waiting_for(setting, "a")
    setting.watcher.close()
    error = getting.result()
    assert isinstance(error, StoreError)
    assert "closed" in str(error)
    assert (watcher_threads(), setting.watcher.waiting) == ([], 0)
    setting.watcher.close()
    setting.store.looks.clear()
    _, getting = waiting_for(setting, "b")  # it can be used again
    setting.store.settle("b")
    setting.watcher.notice("b")
    assert getting.result()["task_id"] == "b"


def test_close_does_not_wait_for_those_who_come_during_it(setting):
    holding, go_on = threading.Event(), threading.Event()
    script, _ = waiting_for(setting, "a")
    script.closing = held(holding, go_on)
    closer = threading.Thread(target=setting.watcher.close)
    closer.start()
    assert holding.wait(PATIENCE)
    late: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    setting.watcher.add("b", late.put)
    setting.next_script().until(lambda script: "b" in script.watched)
    go_on.set()
    closer.join(PATIENCE)
    assert not closer.is_alive()
    setting.store.settle("b")
    setting.watcher.notice("b")
    assert late.get(timeout=PATIENCE)["task_id"] == "b"


def test_close_in_a_callback_of_the_watcher(setting):
    closed = threading.Event()

    def close(answer: Answer) -> None:
        setting.watcher.close()
        closed.set()

    setting.watcher.add("a", close)
    script = setting.next_script()
    thread = watcher_threads()[0]
    setting.store.settle("a")
    script.say(["a"])
    assert closed.wait(PATIENCE)
    thread.join(PATIENCE)
    assert not thread.is_alive()


@contextmanager
def forked_child() -> Iterator[tuple[int, int]]:
    """(pid, write end): pid is 0 in the child, which writes its verdict; the parent asserts it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            yield 0, write
        finally:
            os._exit(0)
    os.close(write)
    try:
        yield pid, read
    finally:
        os.close(read)
        os.waitpid(pid, 0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_waits_on_its_own(setting):
    script, getting = waiting_for(setting, "a")
    abandoned = setting.watcher.add("a", lambda answer: None)
    with setting.watcher._lock, forked_child() as (pid, end):
        if pid == 0:  # with the parent's lock held, its waiter registered, its thread gone
            watcher, store = setting.watcher, setting.store
            watcher.discard(abandoned)
            watcher.notice("a")
            watcher.close()
            before = watcher.waiting
            told: queue.SimpleQueue[Answer] = queue.SimpleQueue()
            watcher.add("child", told.put)
            store.settle("child")
            setting.next_script().say(["child"])
            os.write(end, f"{before} {told.get(timeout=PATIENCE)['task_id']}".encode())
            return
        assert os.read(end, 100) == b"0 child"
    setting.store.settle("a")
    script.say(["a"])
    assert getting.result()["task_id"] == "a"


def test_200_threads_on_40_tasks(setting):
    gettings = [Getting(setting.watcher, f"t{n % 40}") for n in range(200)]
    script = setting.next_script()
    for n in range(40):
        setting.store.settle(f"t{n}")
        setting.watcher.notice(f"t{n}")
        script.say([f"t{n}"])
    assert [getting.result()["task_id"] for getting in gettings] == [f"t{n % 40}" for n in range(200)]
    assert len(watcher_threads()) == 1
    assert setting.watcher.waiting == 0


# -- each ----------------------------------------------------------------------------------------


def test_each_comes_as_it_becomes_ready_and_once(setting):
    setting.store.settle("ready")
    each = setting.watcher.each(["a", "ready", "b", "a"], PATIENCE)
    assert next(each)[0] == "ready"
    setting.store.before = lambda: setting.store.settle("b")
    assert next(each)[0] == "b"
    setting.store.settle("a")
    setting.watcher.notice("a")
    assert [task_id for task_id, _ in each] == ["a"]
    assert setting.watcher.waiting == 0


def test_each_looks_once_with_a_timeout_of_0(setting):
    setting.store.settle("a")
    each = setting.watcher.each(["a", "b"], 0)
    assert next(each)[0] == "a"
    with pytest.raises(TimeoutError, match="1 tasks were not ready within 0 s: b"):
        next(each)
    assert setting.scripts == []


def test_each_takes_a_last_look_and_no_answer_twice(setting):
    each = setting.watcher.each(["a", "b", "c"], 0.2)

    looks = iter((lambda: None, lambda: (setting.store.settle("a"), setting.store.settle("b"))))
    setting.store.before = in_this_thread(lambda: next(looks, lambda: None)())
    assert [next(each)[0], next(each)[0]] == ["a", "b"]
    setting.watcher.notice("a")
    with pytest.raises(TimeoutError, match="1 tasks"):
        next(each)
    assert setting.watcher.waiting == 0


def test_an_abandoned_each_lets_go(setting):
    setting.store.settle("a")
    each = setting.watcher.each(["a", "b", "c"], None)
    assert next(each)[0] == "a"
    setting.store.before = lambda: setting.store.settle("b")
    assert next(each)[0] == "b"
    assert setting.watcher.waiting == 1
    each.close()
    assert setting.watcher.waiting == 0


def test_an_each_collected_while_the_lock_is_held_is_no_deadlock(setting):
    setting.store.settle("a")
    each = setting.watcher.each(["a", "b", "c"], None)
    next(each)
    setting.store.before = lambda: setting.store.settle("b")
    next(each)
    assert setting.watcher.waiting == 1
    cycle: list[object] = [each]
    cycle.append(cycle)
    with setting.watcher._lock:
        del each, cycle
        gc.collect()
    assert setting.watcher.waiting == 0


# -- asyncio -------------------------------------------------------------------------------------


def test_a_future_is_resolved_in_its_loop(setting):
    async def main() -> Answer:
        future = setting.watcher.future("a")
        setting.store.settle("a")
        await asyncio.to_thread(setting.watcher.notice, "a")
        return await asyncio.wait_for(future, PATIENCE)

    assert asyncio.run(main())["task_id"] == "a"
    assert setting.watcher.waiting == 0


def test_a_cancelled_future_lets_go(setting):
    async def main() -> int:
        future = setting.watcher.future("a")
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        await asyncio.sleep(0)
        return setting.watcher.waiting

    assert asyncio.run(main()) == 0


def test_a_loop_that_was_closed_costs_nobody_else_his_answer(setting):
    gone: list[asyncio.Future[Answer]] = []

    async def leave() -> None:
        gone.append(setting.watcher.future("a"))

    asyncio.run(leave())
    script, getting = setting.next_script(), Getting(setting.watcher, "b")
    script.until(lambda script: {"a", "b"} <= set(script.watched))
    setting.store.settle("a")
    setting.store.settle("b")
    script.say(["a", "b"])
    assert getting.result()["task_id"] == "b"
    assert setting.watcher.waiting == 0


def test_5000_futures_have_one_thread(setting):
    async def main() -> tuple[int, int, set[object]]:
        futures = [setting.watcher.future(f"t{n}") for n in range(5000)]
        awaited, threads = setting.watcher.waiting, len(watcher_threads())
        for n in range(5000):
            setting.store.settle(f"t{n}")
        setting.next_script().say(None)
        answers = await asyncio.wait_for(asyncio.gather(*futures), PATIENCE)
        return awaited, threads, {answer["task_id"] for answer in answers}

    assert asyncio.run(main()) == (5000, 1, {f"t{n}" for n in range(5000)})
    assert setting.watcher.waiting == 0


# -- polling, callbacks --------------------------------------------------------------------------


def test_polling_looks_at_everything_ever_more_slowly():
    polling = Polling()
    assert polling.wait(0) is None
    first = polling._pause
    for _ in range(5):
        polling.wait(0)
    assert Polling.SHORTEST < first < polling._pause <= Polling.LONGEST
    polling.watch(["a"])
    assert polling._pause == Polling.SHORTEST
    polling.wake()
    polling.wait(PATIENCE)
    assert polling._pause == Polling.SHORTEST
    polling.unwatch(["a"])
    polling.close()


def test_callbacks_run_in_order_in_one_thread_that_ends():
    callbacks = Callbacks()
    ran: queue.SimpleQueue[tuple[int, threading.Thread]] = queue.SimpleQueue()
    go_on = threading.Event()
    callbacks.run(lambda: go_on.wait(PATIENCE))
    for n in range(10):
        callbacks.run(lambda n=n: ran.put((n, threading.current_thread())))
    go_on.set()
    told = [ran.get(timeout=PATIENCE) for _ in range(10)]
    assert [n for n, _ in told] == list(range(10))
    assert len({thread for _, thread in told}) == 1
    told[0][1].join(PATIENCE)
    callbacks.run(lambda: ran.put((99, threading.current_thread())))
    assert ran.get(timeout=PATIENCE)[0] == 99


# -- on a real backend ---------------------------------------------------------------------------


def test_a_handle_that_nobody_reads_costs_nothing():
    backend = App("memory://").backend
    handle = backend.app.AsyncResult("a")
    backend.mark_as_done("a", 1)
    assert backend._watcher is None
    assert handle.state == "SUCCESS"
    assert backend._watcher is None


def test_close_leaves_no_thread(tmp_path):
    before = set(threading.enumerate())
    backend = App(f"sqlite:///{tmp_path}/r.db").backend
    getting = Getting(backend.watcher, "a")
    watcher = backend.watcher
    backend.mark_as_done("a", 1)
    assert getting.result()["result"] == 1
    backend.close()
    assert {thread for thread in threading.enumerate() if thread.name.startswith("settled")} <= before
    assert watcher.waiting == 0


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from settled.app import App
backend = App(sys.argv[1]).backend
waiting = [gevent.spawn(backend.wait_for, f"t{n % 10}", 30.0) for n in range(50)]
gevent.sleep(0)
for n in range(10):
    gevent.spawn(backend.mark_as_done, f"t{n}", n)
gevent.joinall(waiting, raise_error=True)
handle = backend.app.AsyncResult("then")
told = gevent.event.Event() if hasattr(gevent, "event") else __import__("gevent.event").event.Event()
handle.then(lambda result: told.set())
backend.mark_as_done("then", 1)
assert told.wait(30.0)
print(sum(each.value for each in waiting), backend.watcher.waiting)
backend.close()
"""


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/r.db"])
def test_under_gevent(url, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", GEVENT, url.format(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
    )
    assert (done.stdout.split(), done.stderr) == (["225", "0"], "")


CROSS_PROCESS = """
import sys
from settled.app import App
backend = App(sys.argv[1]).backend
sys.stdin.readline()
for n in range(20):
    backend.mark_as_done(f"t{n}", n)
backend.close()
"""


def test_another_process_settles(tmp_path):
    url = f"sqlite:///{tmp_path}/r.db"
    backend = App(url).backend
    with subprocess.Popen(
        [sys.executable, "-c", CROSS_PROCESS, url], stdin=subprocess.PIPE, text=True
    ) as other:
        gettings = [Getting(backend.watcher, f"t{n}") for n in range(20)]
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
        assert [getting.result()["result"] for getting in gettings] == list(range(20))
    assert other.returncode == 0
    backend.close()
