"""What was stored outlives whoever stored it."""

from __future__ import annotations

from settled.backends.base import BaseBackend
from settled.record import Chord
from settled.states import SUCCESS
from settled.testing.checks.header import standing
from settled.testing.contract import check
from settled.testing.processes import Job, die
from settled.testing.store import Store

HERE = __name__


def _store_and_die(backend: BaseBackend, count: int) -> None:
    for number in range(count):
        backend.mark_as_done(f"task-{number}", number)
    die()


@check("durability")
def what_was_acknowledged_survives_a_kill(store: Store) -> None:
    """What a process had stored when it was killed is all there."""
    (told,) = store.elsewhere(Job(f"{HERE}:_store_and_die", {"count": 30}))
    assert told.killed
    assert [store.backend.get_result(f"task-{number}") for number in range(30)] == list(range(30))


@check("durability")
def records_survive_closing(store: Store) -> None:
    """Records and groups are there when every backend was closed and another is opened."""
    store.backend.mark_as_done("task", "kept")
    store.backend.do_write_group("group", b"{}", None)
    store.backend.close()
    other = store.open()
    assert other.get_result("task") == "kept"
    assert other.do_read_group("group") is not None


def _open_and_die(backend: BaseBackend) -> None:
    backend.do_open_chord(Chord("group", ("a", "b"), b"{}", "body"), None)
    backend.mark_as_done("a", 1)
    backend.do_count_parts("group", ("a",), None)
    if backend.capabilities.leases:
        backend.do_lease(("lease",), "dead", 600.0)
    die()


@check("durability", "chords")
def barriers_survive_a_kill(store: Store) -> None:
    """A barrier, what it has counted, and a lease are there when the process that made them was killed."""
    (told,) = store.elsewhere(Job(f"{HERE}:_open_and_die"))
    assert told.killed
    assert standing(store).parts == (SUCCESS, None)
    if store.capabilities.leases:
        assert store.backend.do_lease(("lease",), "other", 600.0) == frozenset()


@check("durability", "tombstones")
def tombstones_survive_closing(store: Store) -> None:
    """What was forgotten is known to be forgotten after closing too."""
    store.settle("task")
    store.backend.forget("task")
    before = store.backend.presence("task")
    store.backend.close()
    assert store.open().presence("task") is before
