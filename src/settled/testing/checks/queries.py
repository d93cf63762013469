"""Listings."""

from __future__ import annotations

from settled.record import Query, Row
from settled.states import FAILURE, STARTED, SUCCESS
from settled.testing.contract import check
from settled.testing.store import Store


def _ids(store: Store, query: Query | None = None) -> list[str]:
    return [row.task_id for row in store.backend.query(query)]


def _stocked(store: Store) -> None:
    store.settle("a", SUCCESS, name="add", worker="w1", group_id="g1", parent_id="p1")
    store.settle("b", FAILURE, name="add", worker="w2", group_id="g1")
    store.settle("c", STARTED, name="mul", worker="w1", group_id="g2", parent_id="p1")
    store.settle("d", SUCCESS, name="mul", worker="w2")


@check("queries")
def the_newest_come_first(store: Store) -> None:
    """A listing shows the latest write first."""
    for task_id in "bdac":
        store.settle(task_id)
    assert _ids(store) == ["c", "a", "d", "b"]


@check("queries")
def a_write_moves_to_the_front(store: Store) -> None:
    """A task that is written again comes first; it is listed once, in its new state."""
    store.settle("a", STARTED)
    store.settle("b", STARTED)
    store.settle("a", SUCCESS)
    assert [(row.task_id, row.state) for row in store.backend.query()] == [("a", SUCCESS), ("b", STARTED)]


@check("queries")
def what_is_asked_for_is_listed(store: Store) -> None:
    """States, name, worker, group and parent each filter, and all that are given must match."""
    _stocked(store)
    asked = {
        Query(states=(SUCCESS,)): "da",
        Query(states=(FAILURE, STARTED)): "cb",
        Query(name="add"): "ba",
        Query(worker="w1"): "ca",
        Query(group_id="g1"): "ba",
        Query(parent_id="p1"): "ca",
        Query(name="add", worker="w2"): "b",
        Query(states=(SUCCESS,), group_id="g2"): "",
        Query(name="Add"): "",
        Query(name="%"): "",
    }
    assert {query: "".join(_ids(store, query)) for query in asked} == asked


@check("queries")
def a_listing_is_bounded(store: Store) -> None:
    """A listing is at most `limit` rows long: the newest of those that match."""
    for number in range(5):
        store.settle(f"success-{number}", SUCCESS)
        store.settle(f"failure-{number}", FAILURE)
    assert _ids(store, Query(states=(SUCCESS,), limit=2)) == ["success-4", "success-3"]
    assert len(_ids(store, Query(limit=7))) == 7


@check("queries")
def a_span_of_time_is_listed(store: Store) -> None:
    """`since` and `until` list the writes of a span of time."""
    store.settle("old")
    store.advance(1000.0)
    between = store.clock() - 500.0
    store.settle("new")
    assert _ids(store, Query(since=between)) == ["new"]
    assert _ids(store, Query(until=between)) == ["old"]
    assert _ids(store, Query(since=store.clock() + 10.0)) == []


@check("queries")
def a_row_says_what_is_known(store: Store) -> None:
    """A row has the task's id, state, name, worker, group, parent, attempt and the size of its record."""
    write = store.write(
        "task", FAILURE, "x" * 500, attempt=2, name="add", worker="w", group_id="g", parent_id="p"
    )
    store.backend.do_settle(write)
    (row,) = store.backend.query()
    assert isinstance(row, Row)
    assert (row.task_id, row.state, row.attempt, row.size) == ("task", FAILURE, 2, len(write.payload))
    assert (row.name, row.worker, row.group_id, row.parent_id, row.root_id) == ("add", "w", "g", "p", None)
    assert row.done is not None


@check("queries", "columns")
def what_was_known_stays_known(store: Store) -> None:
    """Name, worker, group and parent of an earlier write stay listed where a later write does not know them."""
    store.settle("task", STARTED, name="add", worker="w", group_id="g", parent_id="p")
    store.settle("task", SUCCESS)
    (row,) = store.backend.query()
    assert (row.state, row.name, row.worker, row.group_id, row.parent_id) == (SUCCESS, "add", "w", "g", "p")


@check("queries")
def what_is_gone_is_not_listed(store: Store) -> None:
    """What was forgotten is not listed."""
    store.settle("gone")
    store.settle("stays")
    store.backend.forget("gone")
    assert _ids(store) == ["stays"]


@check("queries", "expiry")
def what_has_expired_is_not_listed(store: Store) -> None:
    """What has expired is not listed, whether it was cleaned up or not."""
    store.settle("old", expires=10.0)
    store.settle("young", expires=1000.0)
    store.advance(20.0)
    assert _ids(store) == ["young"]


@check("queries")
def an_empty_store_lists_nothing(store: Store) -> None:
    """A listing of an empty store is empty; groups and chords are no tasks."""
    store.backend.do_write_group("group", b"{}", None)
    assert _ids(store) == []
