"""Nobody who waits is lost."""

from __future__ import annotations

import asyncio
import builtins
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import cast

from settled.errors import ConfigurationError, TimeoutError
from settled.states import STARTED
from settled.testing.checks.expecting import raised
from settled.testing.contract import check
from settled.testing.store import Store
from settled.testing.threads import Running


@check("waiting")
def a_ready_result_is_had_at_once(store: Store) -> None:
    """Waiting for a ready task returns its value, with a timeout of 0 too."""
    store.backend.mark_as_done("task", 5)
    assert store.backend.wait_for("task", timeout=0) == 5
    assert store.backend.wait_for("task") == 5


@check("waiting")
def a_timeout_of_zero_looks_once(store: Store) -> None:
    """With a timeout of 0 a task that is not ready raises TimeoutError, which is Python's own too."""
    store.backend.mark_as_started("task")
    for task_id in ("task", "unknown"):
        error = raised(lambda task_id=task_id: store.backend.wait_for(task_id, timeout=0))  # type: ignore[misc]
        assert isinstance(error, TimeoutError)
        assert isinstance(error, builtins.TimeoutError)
        assert task_id in str(error)


@check("waiting")
def a_useless_timeout_is_refused(store: Store) -> None:
    """A timeout that is negative, NaN or no number is a ConfigurationError."""
    store.backend.mark_as_done("task", 1)
    for timeout in (-1, -0.1, math.nan, "1", True):
        error = raised(lambda timeout=timeout: store.backend.wait_for("task", timeout=timeout))  # type: ignore[misc]
        assert isinstance(error, ConfigurationError), repr(error)


@check("waiting")
def a_settle_during_the_look_is_seen(store: Store) -> None:
    """A task that is settled between the waiter's look and its wait is not missed."""
    with store.faults.hold_after(store.backend, "do_read") as look:
        waiting = Running(lambda: store.backend.wait_for("task"))
        assert look.entered.wait(store.patience)
        store.backend.mark_as_done("task", "in between")
        look.release()
        assert waiting.result(store.patience) == "in between"


@check("waiting")
def every_waiter_is_told(store: Store) -> None:
    """Every waiter of a task is told, and no waiter of another."""
    told = [threading.Event() for _ in range(20)]
    other = threading.Event()
    watcher = store.backend.watcher
    for event in told:
        watcher.add("task", lambda _, event=event: event.set())  # type: ignore[misc]
    watcher.add("other", lambda _: other.set())
    store.backend.mark_as_done("task", 1)
    assert all(event.wait(store.patience) for event in told)
    assert not other.is_set()


@check("waiting")
def a_waiting_thread_is_told(store: Store) -> None:
    """A thread that waits gets the value as soon as another settles the task; an unready state does not end it."""
    added = store.faults.count(store.backend.watcher, "add")
    waiting = Running(lambda: store.backend.wait_for("task"))
    assert added.reach(1, store.patience)
    store.backend.mark_as_started("task")
    store.backend.store_result("task", {"done": 1}, "PROGRESS")
    store.backend.mark_as_done("task", "value")
    assert waiting.result(store.patience) == "value"


@check("waiting")
def a_waiting_thread_is_raised_at(store: Store) -> None:
    """A thread that waits is raised at when the task fails or is revoked."""
    added = store.faults.count(store.backend.watcher, "add")
    settles: dict[str, Callable[[], object]] = {
        "failed": lambda: store.backend.mark_as_failure("failed", KeyError("why")),
        "revoked": lambda: store.backend.mark_as_revoked("revoked", "why"),
    }
    for name, settle in settles.items():
        before = added.count
        waiting = Running(partial(raised, partial(store.backend.wait_for, name)))
        assert added.reach(before + 1, store.patience)
        settle()
        error = waiting.result(store.patience)
        assert "why" in str(error)
        assert not isinstance(error, TimeoutError)


@check("waiting")
def futures_are_resolved(store: Store) -> None:
    """asyncio futures of one loop are resolved by a settle in another thread, all of them."""

    async def wait() -> list[object]:
        futures = [store.backend.watcher.future(f"task-{number}") for number in range(30)]
        settles = asyncio.get_running_loop().run_in_executor(None, settle)
        metas = await asyncio.wait_for(asyncio.gather(*futures), store.patience)
        await settles
        return [store.backend.result_of(store.backend.outcome_meta(meta)) for meta in metas]

    def settle() -> None:
        for number in reversed(range(30)):
            store.backend.mark_as_done(f"task-{number}", number)

    assert asyncio.run(wait()) == list(range(30))


@check("waiting")
def a_cancelled_future_is_let_go(store: Store) -> None:
    """A future that is cancelled, or a wait that timed out, leaves no registration behind."""

    async def wait() -> None:
        future = store.backend.watcher.future("task")
        future.cancel()
        await asyncio.sleep(0)

    asyncio.run(wait())
    raised(lambda: store.backend.wait_for("task", timeout=0.001))
    assert store.backend.watcher.waiting == 0


@check("waiting")
def many_come_as_they_are_ready(store: Store) -> None:
    """`get_many` yields each task once, as it becomes ready, not in the order asked."""
    ids = [f"task-{number}" for number in range(5)]
    store.backend.mark_as_done("task-3", 3)
    store.backend.mark_as_started("task-1")
    tasks = store.backend.get_many([*ids, "task-3"])
    assert next(tasks)[0] == "task-3"
    added = store.faults.count(store.backend.watcher, "add")
    for settled, number in enumerate((4, 0, 1, 2)):
        coming = Running(partial(next, tasks))
        assert added.reach(4, store.patience), f"nobody waits, {settled} have come"
        store.backend.mark_as_done(f"task-{number}", number)
        task_id, meta = cast("tuple[str, dict[str, object]]", coming.result(store.patience))
        assert (task_id, meta["result"]) == (f"task-{number}", number)
    assert list(tasks) == []


@check("waiting")
def many_that_are_ready_are_had_at_once(store: Store) -> None:
    """Of any number that are ready `get_many` yields each once, with its own record, and waits for nothing."""
    values = {f"task-{number}": number for number in range(250)}
    for task_id, value in values.items():
        store.backend.mark_as_done(task_id, value)
    found = [(task_id, meta["result"]) for task_id, meta in store.backend.get_many(values, timeout=0)]
    assert len(found) == len(values)
    assert dict(found) == values


@check("waiting")
def many_have_one_timeout(store: Store) -> None:
    """`get_many` raises TimeoutError when its timeout has passed, after what was ready."""
    store.backend.mark_as_done("ready", 1)
    tasks = store.backend.get_many(["never", "ready"], timeout=0)
    assert next(tasks)[0] == "ready"
    assert isinstance(raised(lambda: next(tasks)), TimeoutError)


@check("waiting")
def other_states_can_be_waited_for(store: Store) -> None:
    """`get_many` with other READY_STATES yields a task in one of them."""
    store.backend.mark_as_started("task", pid=1)
    wanted = frozenset({STARTED})
    found = list(store.backend.get_many(["task"], timeout=store.patience, interval=0.01, READY_STATES=wanted))
    assert [(task_id, meta["status"]) for task_id, meta in found] == [("task", STARTED)]


@check("waiting")
def threads_wait_by_the_dozen(store: Store) -> None:
    """Forty threads that wait for forty tasks, settled in another order, each get their own value."""
    added = store.faults.count(store.backend.watcher, "add")
    waiting = [Running(partial(store.backend.wait_for, f"task-{number}")) for number in range(40)]
    assert added.reach(40, store.patience)
    for number in reversed(range(40)):
        store.backend.mark_as_done(f"task-{number}", number)
    assert [each.result(store.patience) for each in waiting] == list(range(40))


@check("waiting", "shared")
def an_outage_is_not_seen(store: Store) -> None:
    """An outage of the store that is shorter than the timeout is not seen by the waiter."""
    store.backend.mark_as_done("task", "value")
    store.faults.drop(store.backend, "do_read", times=3)
    assert store.backend.wait_for("task", timeout=store.patience) == "value"


@check("waiting", "shared")
def an_outage_ends_with_the_timeout(store: Store) -> None:
    """In an outage that is longer, the waiter gets TimeoutError when its time has passed."""
    store.faults.drop(store.backend, "do_read", times=None)
    for timeout in (0, 0.05):
        error = raised(lambda timeout=timeout: store.backend.wait_for("task", timeout=timeout))  # type: ignore[misc]
        assert isinstance(error, TimeoutError), repr(error)
