"""The transition rule, write after write."""

from __future__ import annotations

from itertools import product

from settled import codec
from settled.record import Settle
from settled.states import FAILURE, PENDING, RETRY, REVOKED, STARTED, SUCCESS
from settled.testing.contract import check
from settled.testing.model import gives_way
from settled.testing.store import Store

STATES = (PENDING, "RECEIVED", STARTED, RETRY, "PROGRESS", SUCCESS, FAILURE, REVOKED)
ATTEMPTS = ((0, 0), (0, 1), (1, 0), (2, 2))


@check("rule")
def every_transition_follows_the_rule(store: Store) -> None:
    """PENDING < RECEIVED < STARTED = RETRY = custom < ready; a write that would move a record down is refused."""
    for old, new, (before, after) in product(STATES, STATES, ATTEMPTS):
        task_id = f"{old}-{new}-{before}-{after}"
        store.settle(task_id, old, "old", attempt=before)
        settled = store.settle(task_id, new, "new", attempt=after)
        lands = gives_way(old, before, new, after)
        assert settled.landed == lands, task_id
        assert (store.state(task_id), store.value(task_id)) == ((new, "new") if lands else (old, "old")), (
            task_id
        )


@check("rule")
def success_is_final(store: Store) -> None:
    """SUCCESS is final: no state of any attempt, and no other SUCCESS, takes its place."""
    store.settle("task", SUCCESS, "first")
    for state, attempt in product(STATES, (0, 1, 9)):
        assert not store.settle("task", state, "late", attempt=attempt)
    assert store.value("task") == "first"


@check("rule")
def a_late_start_is_refused(store: Store) -> None:
    """STARTED, RETRY and custom states come too late for a task that is ready."""
    for ready, late in product(
        (SUCCESS, FAILURE, REVOKED), (PENDING, "RECEIVED", STARTED, RETRY, "PROGRESS")
    ):
        store.settle(f"{ready}-{late}", ready, "ready")
        assert not store.settle(f"{ready}-{late}", late, "late", attempt=5)
        assert store.value(f"{ready}-{late}") == "ready"


@check("rule")
def an_earlier_attempt_is_refused(store: Store) -> None:
    """A FAILURE gives way to a ready state of the same or a later attempt, never to one of an earlier."""
    for state in (SUCCESS, FAILURE, REVOKED):
        store.settle(f"task-{state}", FAILURE, "second", attempt=1)
        assert not store.settle(f"task-{state}", state, "first", attempt=0)
        assert store.value(f"task-{state}") == "second"
        assert store.settle(f"task-{state}", state, "third", attempt=2)
        assert store.value(f"task-{state}") == "third"


@check("rule")
def running_states_follow_each_other(store: Store) -> None:
    """STARTED, RETRY and custom states replace each other in any order, whatever the attempt."""
    for number, state in enumerate((STARTED, "PROGRESS", RETRY, STARTED, "other", "PROGRESS", RETRY)):
        assert store.settle("task", state, number, attempt=number % 2), state
        assert (store.state("task"), store.value("task")) == (state, number)


@check("rule")
def a_refused_write_leaves_the_bytes(store: Store) -> None:
    """A write that is refused leaves the stored bytes as they were."""
    write = store.write("task", SUCCESS, "first")
    store.backend.do_settle(write)
    store.settle("task", STARTED, "late")
    store.settle("task", FAILURE, "late")
    assert store.raw("task") == write.payload


@check("rule")
def a_refused_write_says_what_is_stored(store: Store) -> None:
    """A write that is refused says so, and which state is stored."""
    store.settle("task", REVOKED)
    settled = store.settle("task", STARTED)
    assert (settled.landed, settled.state) == (False, REVOKED)


@check("rule")
def a_repeated_write_changes_nothing(store: Store) -> None:
    """The same SUCCESS written again is harmless, and says that SUCCESS is stored."""
    write = store.write("task", SUCCESS, "first")
    assert store.backend.do_settle(write).landed
    assert store.backend.do_settle(write).state == SUCCESS
    assert store.value("task") == "first"


@check("rule")
def the_guard_needs_no_decoding(store: Store) -> None:
    """The rule holds between payloads of any serializer, also those that the backend does not accept."""
    for old, new in product(("json", "msgpack", "pickle"), repeat=2):
        task_id = f"{old}-{new}"
        first = codec.encode({"status": SUCCESS, "result": "first", "task_id": task_id}, old)
        late = codec.encode({"status": STARTED, "result": "late", "task_id": task_id}, new)
        store.backend.do_settle(Settle(task_id, SUCCESS, first))
        assert not store.backend.do_settle(Settle(task_id, STARTED, late)), task_id
        assert store.stored(task_id) == first


@check("rule")
def the_marks_report_what_landed(store: Store) -> None:
    """`mark_as_started` after `mark_as_done` is refused and returns something false."""
    assert store.backend.mark_as_done("task", "value")
    assert not store.backend.mark_as_started("task", pid=2)
    assert not store.backend.mark_as_failure("task", ValueError("late"))
    assert store.backend.get_result("task") == "value"
