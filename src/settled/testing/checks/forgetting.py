"""Forgetting is whole, and repeatable."""

from __future__ import annotations

from settled.record import Chord
from settled.states import PENDING, SUCCESS
from settled.testing.app import Request
from settled.testing.contract import check
from settled.testing.store import Store


@check("forgetting")
def a_forgotten_record_is_gone(store: Store) -> None:
    """What was forgotten is PENDING, and nothing of it is left in the store."""
    store.backend.mark_as_done("task", "secret")
    store.backend.forget("task")
    assert store.backend.get_state("task") == PENDING
    assert store.raw("task") is None


@check("forgetting")
def forgetting_again_is_harmless(store: Store) -> None:
    """Forgetting twice, or what was never there, is not an error."""
    store.settle("task")
    for _ in range(2):
        store.backend.forget("task")
        store.backend.forget("never")
        assert store.stored("task") is None


@check("forgetting")
def only_what_was_named_is_forgotten(store: Store) -> None:
    """Forgetting some ids leaves every other record."""
    for number in range(6):
        store.settle(f"task-{number}", value=number)
    store.backend.do_forget(("task-1", "task-4"))
    left = [store.value(f"task-{number}") for number in range(6)]
    assert left == [0, None, 2, 3, None, 5]


@check("forgetting")
def a_forgotten_group_is_gone(store: Store) -> None:
    """`forget` takes the saved group of that id with it."""
    store.backend.do_write_group("group", b"{}", None)
    store.backend.forget("group")
    assert store.backend.do_read_group("group") is None


@check("forgetting", "chords")
def a_forgotten_barrier_is_gone(store: Store) -> None:
    """`forget` takes the barrier of that id with it."""
    store.backend.do_open_chord(Chord("group", ("a",), b"{}", "body"), None)
    store.settle("a")
    store.backend.do_count_parts("group", None, None)
    assert list(store.backend.do_due_chords(10)) == ["group"]
    store.backend.forget("group")
    assert store.backend.do_read_chord("group") is None
    assert list(store.backend.do_due_chords(10)) == []


@check("forgetting")
def children_are_forgotten_when_asked(store: Store) -> None:
    """`forget(children=True)` takes the children, theirs, and the members of a group among them; else they stay."""
    app, backend = store.app, store.backend
    for task_id in ("grandchild", "m1", "m2", "other"):
        backend.mark_as_done(task_id, 1)
    child = app.AsyncResult("child")
    group = app.GroupResult("group", [app.AsyncResult("m1"), app.AsyncResult("m2")])
    backend.mark_as_done("child", 1, request=Request("child", children=[app.AsyncResult("grandchild")]))
    for parent in ("one", "two"):
        backend.mark_as_done(parent, 1, request=Request(parent, children=[child, group]))
    family = ("one", "child", "grandchild", "m1", "m2")
    backend.forget("two")
    assert [store.state(task_id) for task_id in family] == [SUCCESS] * 5
    backend.forget("one", children=True)
    assert [store.stored(task_id) for task_id in family] == [None] * 5
    assert store.state("other") == SUCCESS


@check("forgetting")
def a_forgotten_id_can_be_used_again(store: Store) -> None:
    """After forgetting, any state may be written, as for a new id."""
    store.settle("task", SUCCESS, "first")
    store.backend.forget("task")
    assert store.settle("task", "STARTED", "second")
    assert (store.state("task"), store.value("task")) == ("STARTED", "second")
