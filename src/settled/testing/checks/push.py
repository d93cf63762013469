"""Being told by the store, with nothing else to wake a waiter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from settled import waiting
from settled.testing.contract import check
from settled.testing.processes import Job
from settled.testing.store import Store
from settled.testing.threads import Running


@contextmanager
def _without_safety_poll() -> Iterator[None]:
    """Nothing but the push can wake a waiter."""
    usual = waiting.SAFETY_POLL
    waiting.SAFETY_POLL = 3600.0
    try:
        yield
    finally:
        waiting.SAFETY_POLL = usual


@check("push")
def a_push_wakes_a_waiter(store: Store) -> None:
    """A settle in another process wakes a waiter by the store's own push."""
    with _without_safety_poll():
        looks = store.faults.count(store.backend, "do_read")
        waiter = Running(lambda: store.backend.wait_for("task"))
        assert looks.reach(2, store.patience)
        store.elsewhere(Job("settled.testing.checks.sharing:_settled_by", {"task_id": "task", "value": 1}))
        assert waiter.result(store.patience) == 1


@check("push")
def a_settle_while_listening_begins_is_pushed(store: Store) -> None:
    """A settle between the beginning of the listening and the look after it is not missed."""
    other = store.open()
    with _without_safety_poll(), store.faults.hold_after(store.backend, "do_listen") as listen:
        waiter = Running(lambda: store.backend.wait_for("task"))
        assert listen.entered.wait(store.patience)
        other.mark_as_done("task", 1)
        listen.release()
        assert waiter.result(store.patience) == 1


@check("push")
def many_futures_are_pushed(store: Store) -> None:
    """Futures of one loop are resolved by settles in another process, with one listener for all of them."""

    async def wait() -> list[object]:
        futures = [store.backend.watcher.future(f"task-{number}") for number in range(40)]
        settle = asyncio.get_running_loop().run_in_executor(None, store.elsewhere, job)
        metas = await asyncio.wait_for(asyncio.gather(*futures), store.patience)
        await settle
        return [meta["result"] for meta in metas if isinstance(meta, dict)]

    job = Job("settled.testing.checks.push:_settle_many", {"count": 40})
    listens = store.faults.count(store.backend, "do_listen")
    with _without_safety_poll():
        assert asyncio.run(wait()) == list(range(40))
    assert listens.count == 1


def _settle_many(backend: object, count: int) -> None:
    for number in reversed(range(count)):
        backend.mark_as_done(f"task-{number}", number)  # type: ignore[attr-defined]


@check("push")
def nobody_waits_nothing_listens(store: Store) -> None:
    """Nothing listens while nobody waits, nor for a result that is there already."""
    listens = store.faults.count(store.backend, "do_listen")
    store.backend.mark_as_done("task", 1)
    assert store.backend.get_result("task") == 1
    assert store.backend.wait_for("task", timeout=store.patience) == 1
    assert listens.count == 0


@check("push")
def a_cut_listener_listens_again(store: Store) -> None:
    """When the listener loses its connection it listens anew and reads again what is awaited."""
    other = store.open()
    store.faults.cut_listener(store.backend)
    looks = store.faults.count(store.backend, "do_read")
    with _without_safety_poll():
        waiter = Running(lambda: store.backend.wait_for("task"))
        # Its own look, one behind each of the two listeners: from here on only a push can tell it.
        assert looks.reach(3, store.patience)
        other.mark_as_done("task", 1)
        assert waiter.result(store.patience) == 1


@check("push")
def an_outage_of_the_listener_is_not_seen(store: Store) -> None:
    """A waiter does not see that listening failed at first."""
    other = store.open()
    store.faults.drop(store.backend, "do_listen", times=3)
    listens = store.faults.count(store.backend, "do_listen")
    looks = store.faults.count(store.backend, "do_read")
    with _without_safety_poll():
        waiter = Running(lambda: store.backend.wait_for("task"))
        assert listens.reach(4, store.patience)
        assert looks.reach(2, store.patience)
        other.mark_as_done("task", 1)
        assert waiter.result(store.patience) == 1


@check("push")
def a_waiter_added_later_is_pushed(store: Store) -> None:
    """A task that somebody begins to wait for while others are waited for is pushed too."""
    other = store.open()
    looks = store.faults.count(store.backend, "do_read")
    with _without_safety_poll():
        store.backend.watcher.add("first", lambda _: None)
        assert looks.reach(1, store.patience)
        waiter = Running(lambda: store.backend.wait_for("second"))
        assert looks.reach(3, store.patience)
        other.mark_as_done("second", 2)
        assert waiter.result(store.patience) == 2
