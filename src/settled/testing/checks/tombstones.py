"""Unknown, pending, stored, expired and forgotten are told apart."""

from __future__ import annotations

import queue
from collections.abc import Callable

from settled.errors import ResultExpired, ResultForgotten
from settled.record import Gone, Presence
from settled.states import STARTED
from settled.testing.checks.expecting import raised
from settled.testing.contract import check
from settled.testing.store import Store


@check("tombstones")
def four_answers_and_yes(store: Store) -> None:
    """`presence` tells unknown, pending, stored, expired and forgotten apart."""
    store.settle("pending", "PENDING")
    store.settle("stored", STARTED)
    store.settle("forgotten")
    store.backend.forget("forgotten")
    told = {name: store.backend.presence(name) for name in ("unknown", "pending", "stored", "forgotten")}
    assert told == {
        "unknown": Presence.UNKNOWN,
        "pending": Presence.PENDING,
        "stored": Presence.STORED,
        "forgotten": Presence.FORGOTTEN,
    }


@check("tombstones", "expiry")
def the_expired_are_known(store: Store) -> None:
    """What has expired is told from what was never there, before its cleanup and after it."""
    store.settle("task", expires=10.0)
    store.advance(20.0)
    assert store.backend.presence("task") is Presence.EXPIRED
    if store.capabilities.expiry == "cleanup":
        assert store.backend.cleanup() == 1
    assert store.backend.do_read(("task", "unknown")) == {"task": Gone.EXPIRED}


@check("tombstones")
def forgetting_the_unknown_leaves_it_unknown(store: Store) -> None:
    """Forgetting what was never there leaves it unknown."""
    store.backend.forget("never")
    assert store.backend.presence("never") is Presence.UNKNOWN


@check("tombstones")
def a_new_record_ends_the_tombstone(store: Store) -> None:
    """A record that is written after forgetting is stored, not forgotten."""
    store.settle("task", value="old")
    store.backend.forget("task")
    assert store.settle("task", STARTED, "new")
    assert store.backend.presence("task") is Presence.STORED
    assert store.value("task") == "new"


@check("tombstones")
def waiting_for_the_forgotten_says_so(store: Store) -> None:
    """Waiting for a task that was forgotten raises ResultForgotten, naming it."""
    store.settle("task")
    store.backend.forget("task")
    error = raised(lambda: store.backend.wait_for("task", timeout=store.patience))
    assert isinstance(error, ResultForgotten)
    assert "task" in str(error)


@check("tombstones")
def forgetting_tells_waiters(store: Store) -> None:
    """Whoever waits for a task while it is forgotten is told so."""
    store.settle("task", STARTED)
    assert isinstance(_told(store, lambda: store.backend.forget("task")), ResultForgotten)


@check("tombstones", "cleanup")
def a_cleanup_tells_waiters(store: Store) -> None:
    """Whoever waits for a task whose record expires unready is told so, at the latest when it is cleaned up."""
    store.settle("task", STARTED, expires=10.0)

    def expire() -> None:
        store.advance(20.0)
        store.backend.cleanup()

    assert isinstance(_told(store, expire), ResultExpired)


def _told(store: Store, end: Callable[[], object]) -> object:
    """What somebody who waits for "task" is told when `end` is called."""
    told: queue.SimpleQueue[object] = queue.SimpleQueue()
    store.backend.watcher.add("task", told.put)
    end()
    try:
        return told.get(timeout=store.patience)
    except queue.Empty:
        raise AssertionError("a waiter was told nothing") from None
