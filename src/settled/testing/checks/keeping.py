"""Writes that cannot reach the store are kept, and made when it is back."""

from __future__ import annotations

import threading

from settled.backends import spool
from settled.backends.base import BaseBackend
from settled.backends.outbox import drain
from settled.errors import StoreError, StoreUnavailable
from settled.record import Settle
from settled.states import STARTED, SUCCESS
from settled.testing.checks.expecting import raised
from settled.testing.checks.header import BODY, settle_part
from settled.testing.contract import check
from settled.testing.faults import Hook
from settled.testing.processes import Job
from settled.testing.store import Store
from settled.testing.threads import Running

HERE = __name__

SMALL = 2048
"""Bytes of memory that hold some of `MANY` writes."""

MANY = 20


class Outage:
    """No write of this backend reaches the store until `end`. `made` lists what then does, in order.

    A write of the task `refused` the store does not take when it is back either.
    """

    def __init__(self, store: Store, backend: BaseBackend, refused: str | None = None) -> None:
        backend.retry_deadline = 0.0
        self.made: list[tuple[str, str]] = []
        self._refused = refused
        self._over = threading.Event()
        store.faults.wrap(backend, "do_settle", self._fault, None)

    def end(self) -> None:
        self._over.set()

    def _fault(self, call: Hook, args: tuple[object, ...]) -> object:
        (write,) = args
        assert isinstance(write, Settle)
        if not self._over.is_set():
            raise StoreUnavailable("the store is away")
        if write.task_id == self._refused:
            raise StoreError("too large for this store")
        answer = call(write)
        self.made.append((write.task_id, write.state))
        return answer


@check("keeping")
def a_write_outlives_an_outage(store: Store) -> None:
    """A write that does not reach the store until the deadline is kept, says so, and is made after the outage."""
    outage = Outage(store, store.backend)
    settled = store.backend.mark_as_done("task", "value")
    assert settled.kept
    assert not settled.landed
    assert store.stored("task") is None
    outage.end()
    assert store.backend.outbox.drained(store.patience)
    assert store.backend.get_result("task") == "value"


@check("keeping")
def one_outage_costs_one_deadline(store: Store) -> None:
    """While a write is kept those after it do not wait for the store: they go behind it."""
    outage = Outage(store, store.backend)
    store.backend.mark_as_done("first", 1)
    store.backend.retry_deadline = 3600.0
    Running(lambda: store.backend.mark_as_done("second", 2)).result(store.patience)
    outage.end()
    assert store.backend.outbox.drained(store.patience)
    assert outage.made == [("first", SUCCESS), ("second", SUCCESS)]


@check("keeping")
def kept_writes_are_made_in_order(store: Store) -> None:
    """Kept writes are made in the order in which they were kept, those of one task and those of several."""
    outage = Outage(store, store.backend)
    wanted = []
    for task_id, state in (("a", STARTED), ("b", STARTED), ("a", "PROGRESS"), ("b", SUCCESS), ("a", SUCCESS)):
        assert store.backend.store_result(task_id, {}, state).kept
        wanted.append((task_id, state))
    outage.end()
    assert store.backend.outbox.drained(store.patience)
    assert outage.made == wanted


@check("keeping", "guarded", "shared")
def a_kept_write_obeys_the_rule(store: Store) -> None:
    """A kept write does not replace what others have stored meanwhile, unless the rule of states says so."""
    outage = Outage(store, store.backend)
    store.backend.mark_as_started("late")
    store.backend.mark_as_failure("beaten", ValueError("kept"))
    store.backend.mark_as_done("final", "kept")
    other = store.open()
    other.mark_as_done("late", "theirs")
    other.mark_as_done("beaten", "theirs")
    other.mark_as_failure("final", ValueError("theirs"))
    outage.end()
    assert store.backend.outbox.drained(store.patience)
    assert [(store.state(task_id), store.value(task_id)) for task_id in ("late", "beaten", "final")] == [
        (SUCCESS, "theirs"),
        (SUCCESS, "theirs"),
        (SUCCESS, "kept"),
    ]


@check("keeping", "chords")
def a_kept_part_completes_its_chord(store: Store) -> None:
    """A chord whose last part was kept sends its body when the part is made, once."""
    store.backend.open_chord("group", ["a", "b"], BODY)
    settle_part(store, "a", 0)
    outage = Outage(store, store.backend)
    assert settle_part(store, "b", 1).kept
    assert store.app.sent == []
    outage.end()
    assert len(store.app.wait_sent(1, store.patience)) == 1
    assert store.backend.outbox.drained(store.patience)
    assert store.backend.sweep() == 0
    assert len(store.app.sent) == 1


@check("keeping")
def a_full_memory_spills(store: Store) -> None:
    """What has no room in memory goes to the spool; all of it is made in order, and the spool deleted."""
    backend = store.keeping(outbox=SMALL)
    outage = Outage(store, backend)
    task_ids = [f"task-{number}" for number in range(MANY)]
    for task_id in task_ids:
        assert backend.mark_as_done(task_id, "x" * 100).kept
    (path,) = spool.found(store.spools)
    spilled = [kept.write.task_id for kept in spool.writes_in(path)]
    assert 0 < len(spilled) < MANY
    assert spilled == task_ids[-len(spilled) :]
    outage.end()
    assert backend.outbox.drained(store.patience)
    assert outage.made == [(task_id, SUCCESS) for task_id in task_ids]
    assert spool.found(store.spools) == []


@check("keeping")
def a_refused_write_holds_up_nobody(store: Store) -> None:
    """A kept write that the store refuses for good is put aside in a file; those behind it are made."""
    outage = Outage(store, store.backend, refused="large")
    for task_id in ("large", "task"):
        store.backend.mark_as_done(task_id, task_id)
    outage.end()
    assert store.backend.outbox.drained(store.patience)
    assert store.value("task") == "task"
    (path,) = spool.found(store.spools)
    (kept,) = spool.writes_in(path)
    assert (path.suffix, kept.write.task_id) == (spool.REFUSED, "large")
    assert "too large" in str(kept.refused)


def _drained(backend: BaseBackend, folder: str) -> int:
    """Drains every orphaned spool in the folder; how many writes that were."""
    looks = [look for path in spool.found(spool.folder(folder)) if (look := spool.look(path)) is not None]
    done = [drain(backend, look.path) for look in sorted(looks, key=lambda look: look.head.at)]
    return sum(each.made for each in done if each is not None)


@check("keeping", "shared")
def closing_leaves_a_spool(store: Store) -> None:
    """What is kept when its backend is closed is left in the spool; one of those that drain it makes it, once."""
    backend = store.keeping(outbox=SMALL)
    Outage(store, backend)
    for number in range(MANY):
        assert backend.store_result("task", number, "PROGRESS").kept
        assert backend.mark_as_done(f"task-{number}", number).kept
    backend.close()
    assert spool.found(store.spools)
    jobs = [Job(f"{HERE}:_drained", {"folder": str(store.spools)})] * 3
    counts = [told.answer for told in store.elsewhere(*jobs)]
    assert sum(count for count in counts if isinstance(count, int)) == 2 * MANY
    assert spool.found(store.spools) == []
    assert [store.value(f"task-{number}") for number in range(MANY)] == list(range(MANY))


@check("keeping")
def waiters_are_told_when_it_is_made(store: Store) -> None:
    """Whoever waits in this process is told when the kept write is made, and not before."""
    told = threading.Event()
    store.backend.watcher.add("task", lambda _: told.set())
    outage = Outage(store, store.backend)
    store.backend.mark_as_done("task", "value")
    assert not told.is_set()
    outage.end()
    assert told.wait(store.patience)
    assert store.backend.get_state("task") == SUCCESS


@check("keeping")
def nothing_is_kept_while_the_store_answers(store: Store) -> None:
    """A write that reaches the store before the deadline is made at once: no thread, no file."""
    store.faults.drop(store.backend, "do_settle", times=2)
    for state in (STARTED, SUCCESS):
        settled = store.backend.store_result("task", "value", state)
        assert settled.landed
        assert not settled.kept
    assert "settled-outbox" not in {thread.name for thread in threading.enumerate()}
    assert not store.spools.exists()


@check("keeping")
def what_nothing_can_hold_is_an_error(store: Store) -> None:
    """A write that neither memory nor the spool can hold raises StoreUnavailable, naming the spool and the cause."""
    store.spools.write_text("this is not a folder")
    backend = store.keeping(outbox=0)
    Outage(store, backend)
    error = raised(lambda: backend.mark_as_done("task", "value"))
    assert isinstance(error, StoreUnavailable)
    assert isinstance(error.__cause__, OSError)
    assert str(store.spools) in str(error)
