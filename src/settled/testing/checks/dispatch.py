"""Chords by the published interface: the body is sent once, with what its header came to."""

from __future__ import annotations

from settled.chords import Outcome
from settled.errors import ChordError
from settled.groups import GroupResult
from settled.states import FAILURE, PENDING, SUCCESS
from settled.testing.app import Task
from settled.testing.checks.expecting import raised
from settled.testing.checks.header import BODY, begun, body_error, fail_part, part_request, settle_part
from settled.testing.contract import check
from settled.testing.store import Store


@check("dispatch")
def the_body_gets_the_results_in_order(store: Store) -> None:
    """The body is sent when the last header task is settled, with the results in header order."""
    begun(store, "a", "b", "c")
    for place, task_id in ((2, "c"), (0, "a"), (1, "b")):
        assert store.app.sent == []
        settle_part(store, task_id, place, f"value of {task_id}")
    (sent,) = store.app.wait_sent(1, store.patience)
    assert sent.task_id == "body"
    assert sent.args == (["value of a", "value of b", "value of c"],)
    assert (sent.body["task"], sent.body["kwargs"]) == ("kit.body", {"k": 1})


@check("dispatch")
def the_header_may_run_before_the_barrier(store: Store) -> None:
    """`apply_chord` opens the barrier for a header that has run already, and sends the body."""

    def header(*args: object, task_id: str) -> GroupResult:
        for place in range(2):
            settle_part(store, f"task-{place}", place, group_id=task_id)
        return store.app.GroupResult(task_id, [store.app.AsyncResult(f"task-{place}") for place in range(2)])

    store.backend.apply_chord(header, (), "group", BODY)
    assert store.app.wait_sent(1, store.patience)[0].args == ([0, 1],)


@check("dispatch")
def the_barrier_may_be_open_before_the_header(store: Store) -> None:
    """`apply_chord(result=)` has the barrier open before the first header task is sent."""
    results = [store.app.AsyncResult(f"task-{place}") for place in range(2)]

    def header(*args: object, task_id: str) -> GroupResult:
        state = store.backend.chord_state(task_id)
        assert state is not None
        assert state.chord.members == ("task-0", "task-1")
        assert args == (7,)
        return store.app.GroupResult(task_id, results)

    assert isinstance(store.backend.apply_chord(header, (7,), "group", BODY, result=results), GroupResult)
    for place in range(2):
        settle_part(store, f"task-{place}", place)
    assert store.app.wait_sent(1, store.patience)[0].args == ([0, 1],)


@check("dispatch")
def a_header_that_cannot_be_sent_leaves_no_barrier(store: Store) -> None:
    """If sending the header raises, `apply_chord` raises it and no barrier is left open."""

    def header(*args: object, task_id: str) -> GroupResult:
        raise ConnectionError("no broker")

    results = [store.app.AsyncResult("task")]
    assert isinstance(
        raised(lambda: store.backend.apply_chord(header, (), "group", BODY, result=results)), ConnectionError
    )
    assert store.backend.chord_state("group") is None


@check("dispatch")
def an_empty_header_is_complete(store: Store) -> None:
    """The body of a chord without header tasks is sent at once, with an empty list."""
    begun(store)
    assert store.app.wait_sent(1, store.patience)[0].args == ([],)


@check("dispatch")
def a_duplicate_part_sends_nothing_more(store: Store) -> None:
    """Header tasks that are delivered again, before or after the end, send no second body."""
    begun(store, "a", "b")
    for place, task_id in ((0, "a"), (0, "a"), (1, "b"), (1, "b"), (0, "a")):
        settle_part(store, task_id, place)
    store.app.wait_sent(1, store.patience)
    store.backend.sweep()
    assert len(store.app.sent) == 1
    state = store.backend.chord_state("group")
    assert state is not None
    assert state.done


@check("dispatch")
def the_policy_all_waits_then_fails(store: Store) -> None:
    """With "all" the body fails with a ChordError that names the failed task, after every task is settled."""
    begun(store, "a", "b", "c")
    fail_part(store, "b", 1)
    settle_part(store, "a", 0)
    assert store.backend.get_state("body") == PENDING
    settle_part(store, "c", 2)
    error = body_error(store)
    assert "b" in str(error)
    assert isinstance(error.__cause__, ValueError)
    assert store.app.sent == []


@check("dispatch")
def the_policy_first_fails_at_once(store: Store) -> None:
    """With "first" the body fails with a ChordError as soon as one header task has failed."""
    begun(store, "a", "b", on_failure="first")
    fail_part(store, "b", 1)
    assert "b" in str(body_error(store))
    settle_part(store, "a", 0)
    assert store.app.sent == []


@check("dispatch")
def the_policy_outcomes_hands_over_all(store: Store) -> None:
    """With "outcomes" the body is handed every outcome in order, failures and revoked tasks included."""
    begun(store, "a", "b", "c", on_failure="outcomes")
    settle_part(store, "a", 0, "fine")
    fail_part(store, "b", 1)
    store.backend.mark_as_revoked("c", "unwanted", request=part_request("c", 2))
    (sent,) = store.app.wait_sent(1, store.patience)
    (outcomes,) = sent.args
    assert isinstance(outcomes, list)
    assert all(isinstance(each, Outcome) for each in outcomes)
    assert [(each.task_id, each.state) for each in outcomes] == [
        ("a", SUCCESS),
        ("b", FAILURE),
        ("c", "REVOKED"),
    ]
    assert outcomes[0].get() == "fine"
    assert isinstance(outcomes[1].error, ValueError)
    assert outcomes[2].error is not None


@check("dispatch")
def a_retried_task_counts_as_its_success(store: Store) -> None:
    """A header task that failed, was run again and succeeded while the chord was open counts as a success."""
    begun(store, "a", "b")
    fail_part(store, "a", 0)
    store.backend.mark_as_done("a", "second try", request=part_request("a", 0, attempt=1))
    settle_part(store, "b", 1)
    assert store.app.wait_sent(1, store.patience)[0].args == (["second try", 1],)


@check("dispatch")
def the_body_id_is_fixed(store: Store) -> None:
    """The body's task id is fixed when the chord is opened, also if its signature names none."""
    body_id = store.backend.open_chord("group", ["a"], {"task": "kit.body"})
    state = store.backend.chord_state("group")
    assert state is not None
    assert state.chord.body_id == body_id == store.backend.open_chord("group", ["a"], {"task": "kit.body"})
    settle_part(store, "a", 0)
    assert store.app.wait_sent(1, store.patience)[0].task_id == body_id


@check("dispatch")
def a_part_may_be_reported(store: Store) -> None:
    """`on_chord_part_return` counts a task that was settled in another way; again, it changes nothing."""
    begun(store, "a", "b")
    for place, task_id in enumerate("ab"):
        store.settle(task_id, value=place)
        store.backend.on_chord_part_return(Task(part_request(task_id, place)))
    store.app.wait_sent(1, store.patience)
    store.backend.on_chord_part_return(Task(part_request("a", 0)))
    assert [sent.args for sent in store.app.sent] == [([0, 1],)]


@check("dispatch")
def chords_nest(store: Store) -> None:
    """A chord's body that is a header task of another chord is counted there, when it fails too."""
    outer = {"task": "kit.outer", "options": {"task_id": "outer-body"}}
    store.backend.open_chord("outer", ["body", "z"], outer)
    inner = {**BODY, "options": {"task_id": "body", "group_id": "outer", "group_index": 0, "chord": outer}}
    store.backend.open_chord("group", ["a"], inner)
    fail_part(store, "a", 0)
    assert "a" in str(body_error(store))
    settle_part(store, "z", 1, group_id="outer")
    assert "body" in str(body_error(store, "outer-body"))


@check("dispatch")
def a_header_task_may_add_to_its_header(store: Store) -> None:
    """`grow_chord` adds header tasks while one runs; the body gets their results behind the others'."""
    begun(store, "a", "b")
    settle_part(store, "a", 0)
    assert store.backend.grow_chord("group", ["c"]) == 3
    settle_part(store, "b", 1)
    assert store.app.sent == []
    settle_part(store, "c", 2)
    assert store.app.wait_sent(1, store.patience)[0].args == ([0, 1, 2],)
    assert isinstance(raised(lambda: store.backend.grow_chord("group", ["d"])), ChordError)
    assert isinstance(raised(lambda: store.backend.grow_chord("unknown", ["d"])), ChordError)
