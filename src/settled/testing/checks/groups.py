"""Saved groups."""

from __future__ import annotations

from settled.groups import GroupResult
from settled.testing.contract import check
from settled.testing.store import Store


@check("groups")
def a_group_is_kept(store: Store) -> None:
    """A group's payload is read back as it was written; writing it again replaces it."""
    backend = store.backend
    backend.do_write_group("group", b"first", None)
    assert backend.do_read_group("group") in (b"first", "first")
    backend.do_write_group("group", b"second", None)
    assert backend.do_read_group("group") in (b"second", "second")


@check("groups")
def an_unknown_group_is_none(store: Store) -> None:
    """A group that was never saved is None."""
    store.backend.do_write_group("known", b"{}", None)
    assert store.backend.do_read_group("unknown") is None
    assert store.backend.restore_group("unknown") is None


@check("groups")
def a_deleted_group_is_gone(store: Store) -> None:
    """Deleting a group deletes that one; deleting it again is not an error."""
    backend = store.backend
    backend.do_write_group("one", b"1", None)
    backend.do_write_group("two", b"2", None)
    for _ in range(2):
        backend.do_delete_group("one")
        assert backend.do_read_group("one") is None
    assert backend.do_read_group("two") is not None


@check("groups")
def a_saved_group_is_restored(store: Store) -> None:
    """`save_group` and `restore_group`: the same members in the same order."""
    app = store.app
    ids = [f"task-{number}" for number in (3, 1, 2)]
    group = app.GroupResult("group", [app.AsyncResult(task_id) for task_id in ids])
    store.backend.save_group("group", group)
    restored = store.backend.restore_group("group", cache=False)
    assert isinstance(restored, GroupResult)
    assert (restored.id, [str(each) for each in restored.results]) == ("group", ids)


@check("groups")
def a_deleted_groups_tasks_stay(store: Store) -> None:
    """`delete_group` deletes the group alone: its tasks' results stay."""
    store.backend.mark_as_done("task", 1)
    group = store.app.GroupResult("group", [store.app.AsyncResult("task")])
    store.backend.save_group("group", group)
    store.backend.delete_group("group")
    assert store.backend.restore_group("group") is None
    assert store.backend.get_result("task") == 1
