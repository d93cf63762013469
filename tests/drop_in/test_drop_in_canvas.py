"""Celery's canvas, call by call as its user guide has it, with a real worker on three result backends.

Two are ours. The third is Celery's own on Redis: it is the judge of what is to be expected. Where it fails a
test `CELERYS_OWN` says what it does instead, and the test has to fail with it in just that way.
"""

from __future__ import annotations

import json
import pickle
import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from celery import Celery, chain, chord, group, signature
from celery.canvas import StampingVisitor
from celery.contrib.abortable import AbortableAsyncResult
from celery.exceptions import ChordError, IncompleteStream, TaskRevokedError, TimeoutError
from celery.result import EagerResult, GroupResult, ResultSet, allow_join_result, result_from_tuple
from kombu.exceptions import EncodeError

from tests.celerys import close
from tests.drop_in.canvas_tasks import (
    Refused,
    abortable,
    about,
    add,
    branch,
    by_error,
    by_id,
    deciding,
    echo,
    fail,
    fail_late,
    fail_with_a_cause,
    fail_with_a_group,
    fail_with_notes,
    gated,
    growing,
    large,
    note,
    note_value,
    pair,
    progressing,
    refuse,
    replaced,
    sending,
    silent,
    stubborn,
    total,
    unstorable,
    waiting,
    waiting_wrongly,
)
from tests.drop_in.conftest import OURS
from tests.drop_in.fleet import Worker
from tests.drop_in.work import words
from tests.servers import TimedOut, until

pytestmark = [
    pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header"),
    pytest.mark.filterwarnings("ignore:Call to deprecated setex"),
]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "celery-canvas.md"

PATIENCE = 20.0
"""Seconds that a result may take on a busy machine."""

IN_VAIN = 0.7
"""Seconds for which Celery's own backend is waited for where it is known to hang."""


class Differs(NamedTuple):
    """What Celery's own backend on Redis does with a test that ours pass."""

    raises: type[BaseException]
    instead: str
    in_time: bool = True  # before the test ends, however busy the machine is


CELERYS_OWN = {
    "test_a_frozen_chord_that_is_sent_again_runs_its_body_once": Differs(
        pytest.fail.Exception, "the body runs again, and what it returns is thrown away", in_time=False
    ),
    "test_the_error_of_a_member_is_the_cause_of_the_error_of_the_body": Differs(
        AssertionError, "the cause is lost on its way through JSON"
    ),
    "test_a_chord_in_a_header_that_fails_fails_the_body[task]": Differs(
        TimeoutError, "the outer body stays PENDING for ever"
    ),
    "test_a_chord_in_a_header_that_fails_fails_the_body[chain]": Differs(
        TimeoutError, "the outer body stays PENDING for ever"
    ),
    "test_a_chord_in_a_header_that_fails_fails_the_body[group]": Differs(
        TimeoutError, "the outer body stays PENDING for ever"
    ),
    "test_a_chord_in_a_header_that_fails_fails_the_body[chord]": Differs(
        TimeoutError, "the outer body stays PENDING for ever"
    ),
    "test_a_chord_as_a_body_fails_to_its_end": Differs(
        TimeoutError, "a task of no one is marked as failed, the body stays PENDING for ever"
    ),
    "test_the_result_of_a_group_is_pickled": Differs(
        TimeoutError, "what comes back is never told that its members are ready: get() waits for ever"
    ),
    "test_then_is_called_without_anybody_waiting": Differs(
        TimedOut, "called only while something waits for that very result"
    ),
    "test_a_callback_that_raises_keeps_no_other_from_being_called": Differs(
        TimedOut, "called only while something waits for that very result"
    ),
    "test_then_is_told_when_there_will_be_no_result": Differs(TimedOut, "never told"),
    "test_then_of_a_group_is_called_once_all_are_ready": Differs(
        TimedOut, "called only while something waits for that very result"
    ),
    "test_then_of_a_set_made_by_hand_is_called": Differs(
        TimedOut, "called only while something waits for that very result"
    ),
    "test_an_exception_with_its_own_init_comes_back_whole": Differs(
        AssertionError, "it comes back as an UnpickleableExceptionWrapper around its text"
    ),
    "test_an_exception_comes_back_with_its_cause": Differs(AssertionError, "the cause is lost"),
    "test_an_exception_comes_back_with_its_notes": Differs(AttributeError, "the notes are lost"),
    "test_a_group_of_exceptions_comes_back_whole": Differs(
        AssertionError, "it comes back as an Exception with the text of its arguments"
    ),
}


class Fleet:
    """A worker on one of the backends, and the app of its client."""

    def __init__(self, kind, app, worker, machine):
        self.kind = kind
        self.machine = machine
        self.app = app
        self.worker = worker
        self.patience = PATIENCE

    def subscriptions(self):
        """The channels to which anybody listens."""
        return self.machine.ask("PUBSUB CHANNELS", "celery-task-meta-*")

    @property
    def ours(self):
        return self.kind.startswith(OURS)

    def get(self, result, **options):
        """Its value; Celery's own backend looks at a group every `interval` seconds."""
        return result.get(timeout=self.patience, interval=0.02, **options)

    def value(self, sig, *args, **kwargs):
        """Send it, and wait for its value."""
        return self.get(sig.delay(*args, **kwargs))

    def failure(self, result):
        """Wait for a task that is to fail, and return its exception."""
        found = self.get(result, propagate=False)
        assert isinstance(found, Exception), found
        assert result.state == "FAILURE"
        return found

    def ready(self, result):
        until(result.ready, self.patience, f"the end of {result}")
        return result

    def noted(self, path, count=1):
        """The words in a file, once there are so many."""
        until(lambda: len(words(path)) >= count, self.patience, f"{count} words in {path}")
        return words(path)


@pytest.fixture(scope="module", params=[f"{OURS}redis", f"{OURS}sqlite", "redis"])
def backend(request, machine, tmp_path_factory):
    """One of the backends with a worker for all tests of this file."""
    machine.ask("FLUSHALL")
    folder = tmp_path_factory.mktemp("fleet")
    url = {
        f"{OURS}redis": OURS + machine.url,
        f"{OURS}sqlite": f"{OURS}sqlite:///{folder}/results.db",
        "redis": machine.url,
    }[request.param]
    conf = {
        "broker_url": machine.url.removesuffix("/0") + "/1",
        "result_backend": url,
        "result_extended": True,
        "imports": ["tests.drop_in.canvas_tasks"],
    }
    app = Celery("canvas", set_as_current=False)
    app.conf.update(accept_content=["json", "pickle"], result_accept_content=["json", "pickle"], **conf)
    worker = Worker(folder, conf, concurrency=3, options=("--queues", "celery,other"))
    try:
        yield Fleet(request.param, app, worker.start(), machine)
    finally:
        worker.stop()
        close(app)


@pytest.fixture
def fleet(request, backend):
    backend.app.set_default()
    backend.patience = PATIENCE
    differs = (
        None
        if backend.ours
        else CELERYS_OWN.get(request.node.name.replace("[redis]", "").replace("redis-", ""))
    )
    if differs is not None:
        backend.patience = IN_VAIN
        xfail = pytest.mark.xfail(raises=differs.raises, reason=differs.instead, strict=differs.in_time)
        request.applymarker(xfail)
    return backend


@pytest.fixture
def gate(tmp_path):
    """What tasks wait for; it is there after the test in any case, for the worker to come to its end."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def ids(results):
    return [result.id for result in results]


# -- signatures ----------------------------------------------------------------------------------


def test_a_signature_takes_partial_arguments_and_options(fleet):
    assert fleet.value(pair.s("second"), "first") == ["first", "second"]
    assert fleet.value(pair.s(y="second"), "first") == ["first", "second"]
    assert fleet.value(pair.s("first", y="old"), y="new") == ["first", "new"]
    assert fleet.value(pair.s("second").clone(("first",))) == ["first", "second"]
    result = add.s(1, 2).set(task_id=str(uuid.uuid4()), queue="other").apply_async(countdown=0.1)
    assert fleet.get(result) == 3
    assert result.queue == "other"


def test_an_immutable_signature_takes_no_arguments(fleet):
    assert fleet.value(chain(add.s(1, 2), pair.si("mine", "too"))) == ["mine", "too"]
    assert fleet.value(chain(add.s(1, 2), pair.s("mine", "too").set(immutable=True))) == ["mine", "too"]


def test_a_frozen_signature_has_the_id_of_its_result(fleet):
    sig = add.s(1, 2)
    result = sig.freeze()
    assert sig.id == result.id == sig.delay().id
    assert fleet.get(result) == 3


def test_a_signature_travels_as_an_argument(fleet):
    task_id = fleet.value(sending.s(add.s(1, 2)))
    assert fleet.get(fleet.app.AsyncResult(task_id)) == 3


def test_a_canvas_is_rebuilt_from_json(fleet):
    canvas = chain(add.s(1, 1), chord([add.s(1), add.s(2)], total.s()), group(add.s(1), add.s(2)))
    assert fleet.value(signature(json.loads(json.dumps(canvas)))) == [8, 9]


def test_a_message_may_be_pickled_and_compressed(fleet):
    result = echo.apply_async((("a", 1),), serializer="pickle", compression="gzip")
    assert fleet.get(result) == ["a", 1]


# -- callbacks -----------------------------------------------------------------------------------


def test_link_is_called_with_the_value(fleet, tmp_path):
    path = tmp_path / "log"
    result = add.apply_async((1, 2), link=add.s(10))
    assert fleet.get(result) == 3
    assert [fleet.get(each) for each in result.children] == [13]
    result = add.apply_async((1, 2), link=[note_value.s(str(path)), add.s(10)])
    assert fleet.get(result) == 3
    assert fleet.noted(path) == ["3"]
    assert [fleet.get(each) for each in result.children] == [[3, 13]]


def test_link_is_not_called_after_a_failure(fleet, tmp_path):
    path = tmp_path / "log"
    sig = fail.s().set(link=note.si(str(path), "link"), link_error=note.si(str(path), "errback"))
    assert repr(fleet.failure(sig.delay())) == "ValueError('no')"
    assert fleet.noted(path) == ["errback"]


def test_an_errback_of_one_argument_is_sent_as_a_task(fleet, tmp_path):
    path = tmp_path / "log"
    result = fail.apply_async(link_error=by_id.s(str(path)))
    fleet.failure(result)
    assert fleet.noted(path) == [result.id]


def test_an_errback_of_three_arguments_is_called_with_the_error(fleet, tmp_path):
    path = tmp_path / "log"
    result = fail.s().on_error(by_error.s(path=str(path))).delay()
    fleet.failure(result)
    assert fleet.noted(path) == [f"{result.id}:ValueError:no"]


def test_an_errback_is_called_once_retries_are_used_up(fleet, tmp_path):
    path = tmp_path / "log"
    result = stubborn.s(1, times=99).on_error(by_error.s(path=str(path))).delay()
    assert repr(fleet.failure(result)) == "ConnectionError('run 3')"
    assert fleet.noted(path) == [f"{result.id}:ConnectionError:run_3"]


# -- chains --------------------------------------------------------------------------------------


def test_a_chain_passes_values_on_and_keeps_its_parents(fleet):
    result = (add.s(1, 1) | add.s(2) | add.s(3)).delay()
    assert fleet.get(result) == 7
    assert fleet.get(result.parent) == 4
    assert fleet.get(result.parent.parent) == 2
    assert result.parent.parent.parent is None
    assert ids(result.parent.parent.children) == [result.parent.id]
    assert ids(result.parent.children) == [result.id]
    assert not result.children


def test_a_chain_is_called_with_arguments_and_made_by_a_generator(fleet):
    assert fleet.value(chain(add.s(n) for n in range(4)), 10) == 16
    assert fleet.value(chain(add.s(1, 1))) == 2
    assert fleet.value(chain(chain(add.s(1), add.s(2)), chain(add.s(3), group())), 4) == 10


def test_a_chain_that_fails_fails_all_that_follows(fleet):
    result = chain(add.s(1, 1), fail.s(text="here"), add.s(1), add.s(2)).delay()
    with pytest.raises(ValueError, match="here"):
        fleet.get(result)
    for each in (result, result.parent, result.parent.parent):
        assert repr(fleet.failure(fleet.app.AsyncResult(each.id))) == "ValueError('here')"
    assert fleet.get(result.parent.parent.parent) == 2


def test_get_raises_the_error_of_a_parent_or_not_as_asked(fleet):
    parent = fail.delay(text="here")
    fleet.ready(parent)
    orphan = fleet.app.AsyncResult(str(uuid.uuid4()), parent=parent)
    with pytest.raises(ValueError, match="here"):
        orphan.get(timeout=fleet.patience)
    with pytest.raises(TimeoutError):
        orphan.get(timeout=0.2, follow_parents=False)


def test_the_error_of_a_parent_ends_a_wait_that_has_begun(fleet, gate):
    parent = fail_late.delay(str(gate))
    orphan = fleet.app.AsyncResult(str(uuid.uuid4()), parent=parent)
    with pytest.raises(ValueError, match="late"):
        orphan.get(timeout=fleet.patience, interval=0.1, on_interval=lambda *_: gate.touch())


def test_an_errback_of_a_chain_belongs_to_each_of_its_tasks(fleet, tmp_path):
    path = tmp_path / "log"
    canvas = chain(add.s(1, 1), fail.s(text="here"), add.s(1))
    canvas.link_error(by_error.s(path=str(path)))
    result = canvas.delay()
    assert repr(fleet.failure(result)) == "ValueError('here')"
    assert fleet.noted(path) == [f"{result.parent.id}:ValueError:here"]


def test_a_graph_shows_what_a_chain_was(fleet):
    result = chain(add.s(1, 1), add.s(2), add.s(3)).delay()
    root = result.parent.parent
    with pytest.raises(IncompleteStream):
        list(fleet.app.AsyncResult(str(uuid.uuid4())).iterdeps())
    assert [fleet.get(each) for each in (root, result.parent, result)] == [2, 4, 7]
    assert [(parent and parent.id, node.id) for parent, node in root.iterdeps()] == [
        (None, root.id),
        (root.id, result.parent.id),
        (result.parent.id, result.id),
    ]
    assert sorted(node.id for node in root.graph) == sorted([root.id, result.parent.id, result.id])
    assert list(root.graph.edges()) == [root, result.parent]
    assert [(node.id, value) for node, value in root.collect()] == [
        (root.id, 2),
        (result.parent.id, 4),
        (result.id, 7),
    ]
    assert root.get_leaf() == 7


def test_collect_follows_what_tasks_have_sent(fleet):
    result = branch.delay(4)

    def leaves():
        return [value for child, value in result.collect() if not child.children and type(value) is int]

    until(lambda: len(leaves()) == 4, fleet.patience, "the tree", despite=(IncompleteStream,))
    assert sorted(leaves()) == [0, 1, 4, 9]
    assert result.get_leaf() in (0, 1, 4, 9)


def test_a_result_in_its_stored_form_is_the_same_result(fleet):
    result = chain(add.s(1, 1), group(add.s(1), add.s(2))).delay()
    assert fleet.get(result) == [3, 4]
    again = result_from_tuple(json.loads(json.dumps(result.as_tuple())), fleet.app)
    assert again == result
    assert fleet.get(again) == [3, 4]
    assert fleet.get(again.parent) == 2
    assert result[0].parent is None or result.parent.as_list() == [result.parent.id]


# -- groups --------------------------------------------------------------------------------------


def test_a_group_returns_values_in_order(fleet):
    assert fleet.value(group(add.s(n, n) for n in range(8))) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert fleet.value(group([add.s(1), add.s(2)]), 10) == [11, 12]
    assert fleet.value(group(add.s(1, 1))) == [2]
    assert fleet.get(group([]).delay()) == []


def test_a_nested_group_is_laid_out_flat(fleet):
    canvas = group(add.s(1, 0), group(add.s(2, 0), group(add.s(3, 0), add.s(4, 0))), add.s(5, 0))
    assert fleet.value(canvas) == [1, 2, 3, 4, 5]


def test_a_group_has_chains_and_chords_as_members(fleet):
    canvas = group(
        chain(add.s(1, 1), add.s(1)),
        chord([add.s(1, 1), add.s(2, 2)], total.s()),
        chain(add.s(1, 1), group(add.s(1), add.s(2))),
    )
    assert fleet.value(canvas) == [3, 6, [3, 4]]


def test_a_group_of_one_chain_that_ends_in_a_group_is_that_group(fleet):
    result = group(add.s(1, 1) | group(add.s(1), add.s(2))).delay()
    assert fleet.get(result) == [3, 4]
    assert len(result) == 2


def test_a_group_tells_how_far_it_is(fleet, gate):
    result = group(add.s(1, 1), add.s(2, 2), gated.s(str(gate), 3)).delay()
    until(lambda: result.completed_count() == 2, fleet.patience, "two members")
    assert (result.waiting(), result.ready(), result.successful(), result.failed()) == (
        True,
        False,
        False,
        False,
    )
    gate.touch()
    assert fleet.get(result) == [2, 4, 3]
    assert (result.waiting(), result.ready(), result.successful(), result.failed()) == (
        False,
        True,
        True,
        False,
    )
    assert result.completed_count() == 3


def test_a_group_with_a_failure_raises_it_or_returns_it(fleet):
    result = group(add.s(1, 1), fail.s(text="here"), add.s(2, 2)).delay()
    with pytest.raises(ValueError, match="here"):
        fleet.get(result)
    fleet.ready(result)
    first, second, third = fleet.get(result, propagate=False)
    assert (first, repr(second), third) == (2, "ValueError('here')", 4)
    assert (result.successful(), result.failed(), result.completed_count()) == (False, True, 2)
    with pytest.raises(ValueError, match="here"):
        result.maybe_throw()


def test_a_group_is_saved_restored_and_deleted(fleet):
    result = group(add.s(1, 1), chain(add.s(1, 1), group(add.s(1), add.s(2)))).delay()
    result.save()
    restored = GroupResult.restore(result.id, app=fleet.app)
    assert restored == result
    assert fleet.get(restored) == [2, [3, 4]]
    restored.delete()
    assert GroupResult.restore(result.id, app=fleet.app) is None


def test_join_and_join_native_agree(fleet):
    result = group(add.s(n, n) for n in range(3)).delay()
    assert result.join(timeout=fleet.patience) == [0, 2, 4]
    assert result.join_native(timeout=fleet.patience) == [0, 2, 4]
    assert result.supports_native_join


def test_a_group_is_iterated_with_a_callback(fleet):
    result = group(add.s(n, n) for n in range(3)).delay()
    seen = {}
    assert result.get(timeout=fleet.patience, callback=seen.__setitem__) is None
    assert seen == dict(zip(ids(result), [0, 2, 4], strict=True))
    assert result.join(timeout=fleet.patience, callback=seen.__setitem__) == []
    assert {task_id: meta["result"] for task_id, meta in result.iter_native()} == seen


def test_a_group_tells_of_each_message_and_interval(fleet, gate):
    result = group(add.s(1, 1), gated.s(str(gate), 3)).delay()
    told = []
    value = result.get(
        timeout=fleet.patience, interval=0.05, on_message=told.append, on_interval=lambda *_: gate.touch()
    )
    assert value == [2, 3]
    # Celery's own tells of results as well that nobody waits for any more, and not of those that are there already.
    assert {meta["result"] for meta in told if meta["status"] == "SUCCESS"} >= ({2, 3} if fleet.ours else {3})


def test_a_group_is_waited_for_no_longer_than_asked(fleet, gate):
    result = group(add.s(1, 1), gated.s(str(gate), 3)).delay()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        result.get(timeout=0.3)
    assert time.monotonic() - began >= 0.25
    gate.touch()
    assert fleet.get(result) == [2, 3]


def test_a_group_is_revoked(fleet):
    result = group(add.s(1, 1).set(countdown=30), add.s(2, 2).set(countdown=30)).delay()
    result.revoke()
    fleet.ready(result)
    assert [each.state for each in result] == ["REVOKED", "REVOKED"]
    with pytest.raises(TaskRevokedError):
        fleet.get(result)


def test_a_group_is_forgotten(fleet):
    result = group(add.s(1, 1), add.s(2, 2)).delay()
    fleet.get(result)
    result.forget()
    again = [fleet.app.AsyncResult(each) for each in ids(result)]
    assert [(each.state, each.exists()) for each in again] == [("PENDING", False)] * 2


def test_a_set_of_results_is_changed_by_hand(fleet):
    first, second = add.delay(1, 1), add.delay(2, 2)
    results = ResultSet([first], app=fleet.app)
    results.add(second)
    results.add(second)
    assert (len(results), results[1], list(results)) == (2, second, [first, second])
    assert fleet.get(results) == [2, 4]
    results.remove(first.id)
    results.discard(first)
    assert fleet.get(results) == [4]


def test_a_group_refuses_callbacks_of_its_own(fleet):
    with pytest.raises(TypeError, match="use a chord"):
        group(add.s(1, 1), add.s(2, 2)).apply_async(link=echo.s())
    with pytest.raises(TypeError, match="individual tasks"):
        group(add.s(1, 1), add.s(2, 2)).apply_async(link_error=echo.s())


def test_an_errback_linked_to_a_group_belongs_to_each_member(fleet, tmp_path):
    path = tmp_path / "log"
    canvas = group(fail.s(text="one"), add.s(1, 1), fail.s(text="two"))
    canvas.link_error(by_error.s(path=str(path)))
    result = canvas.delay()
    fleet.ready(result)
    assert sorted(fleet.noted(path, 2)) == sorted(
        [f"{result[0].id}:ValueError:one", f"{result[2].id}:ValueError:two"]
    )


# -- chords: what a header may be ----------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        lambda: [add.s(1, 1), add.s(2, 2)],
        lambda: (add.s(n, n) for n in (1, 2)),
        lambda: (add.s(1, 1), add.s(2, 2)),
        lambda: group(add.s(1, 1), add.s(2, 2)),
        lambda: group(add.s(n, n) for n in (1, 2)),
        lambda: [chain(add.s(1, 0), add.s(1)), chain(add.s(1, 1), add.s(2))],
        lambda: [chord([add.s(1, 0), add.s(1, 0)], total.s()), add.s(2, 2)],
        lambda: [add.s(1, 1), chain(chord([add.s(1, 0), add.s(1, 0)], total.s()), add.s(2))],
        lambda: [group(add.s(1, 1), add.s(2, 2))],
        lambda: [group(add.s(1, 1), group(add.s(2, 2)))],
        lambda: [silent.s(2), silent.s(4)],
        lambda: [stubborn.s(2, times=2), add.s(2, 2)],
        lambda: [add.s(6, 0)],
        lambda: [add.s(2, 0)] * 3,
    ],
    ids=[
        "list", "generator", "tuple", "group", "group of a generator", "chains", "chord", "chord in a chain",
        "group in a list", "nested groups", "tasks that ignore their result", "task that is retried", "one task",
        "one signature many times",
    ],
)  # fmt: skip
def test_a_chord_takes_any_header(fleet, header):
    assert fleet.value(chord(header(), total.s())) == 6


def test_a_chord_hands_results_over_in_the_order_of_its_header(fleet, gate):
    result = chord([gated.s(str(gate), "late"), echo.s("b"), echo.s("c")], echo.s()).delay()
    until(lambda: result.parent.completed_count() == 2, fleet.patience, "the others")
    gate.touch()
    assert fleet.get(result) == ["late", "b", "c"]


def test_a_nested_header_is_handed_over_as_it_is_nested(fleet):
    canvas = chord([echo.s("a"), chain(echo.s(1), group(add.s(1), add.s(2))), echo.s("b")], echo.s())
    assert fleet.value(canvas) == ["a", [2, 3], "b"]


def test_a_header_of_chains_that_end_in_chains_of_groups(fleet):
    inner = chain(echo.s(1), group(add.s(1), chain(add.s(1), group(add.s(1), add.s(2)))))
    assert fleet.value(chord([inner, echo.s("b")], echo.s())) == [[2, [3, 4]], "b"]


def test_an_empty_header_runs_the_body_at_once(fleet):
    assert fleet.value(chord([], echo.s())) == []
    assert fleet.value(chord(group([]), total.s())) == 0


def test_a_chord_of_many_parts_is_whole(fleet):
    assert fleet.value(chord([echo.s(n) for n in range(80)], echo.s())) == list(range(80))


def test_a_chord_is_given_arguments_for_its_header(fleet):
    assert fleet.get(chord([add.s(1), add.s(2)], total.s()).apply_async((10,))) == 23
    assert fleet.get(chord([add.s(1, 1)])(total.s(), interval=1, max_retries=2)) == 2


def test_a_chord_keeps_the_results_of_its_header(fleet):
    result = chord([add.s(1, 1), add.s(2, 2)], total.s()).delay()
    assert fleet.get(result) == 6
    assert isinstance(result.parent, GroupResult)
    assert fleet.get(result.parent) == [2, 4]


def test_a_chord_can_be_sent_again(fleet):
    canvas = chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert [fleet.value(canvas), fleet.value(canvas)] == [6, 6]


def test_a_frozen_chord_that_is_sent_again_runs_its_body_once(fleet, tmp_path):
    path = tmp_path / "log"
    canvas = chord([echo.s(1), note.si(str(path), "part")], note.si(str(path), "body"))
    frozen = canvas.freeze()
    fleet.get(canvas.delay())
    assert fleet.noted(path, 2) == ["part", "body"]
    canvas.delay()
    assert fleet.noted(path, 3) == ["part", "body", "part"]
    assert frozen.state == "SUCCESS"
    with pytest.raises(TimedOut):
        until(lambda: len(words(path)) > 3, IN_VAIN, "the body")


# -- chords: what a body may be ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (lambda: total.s(), 6),
        (lambda: echo.si("mine"), "mine"),
        (lambda: pair.s(y="more"), [[2, 4], "more"]),
        (lambda: chain(total.s(), add.s(1), add.s(2)), 9),
        (lambda: group(total.s(), echo.s()), [6, [2, 4]]),
        (lambda: group(total.s()), [6]),
        (lambda: chain(total.s(), group(add.s(1), add.s(2))), [7, 8]),
        (lambda: chord([total.s(), total.s()], total.s()), 12),
        (lambda: chain(total.s(), chord([add.s(1), add.s(2)], total.s())), 15),
        (lambda: chain(group(total.s(), total.s()), total.s()), 12),
        (lambda: stubborn.s(), [2, 4]),
        (lambda: replaced.s(by=add.s(1, 1)), 2),
    ],
    ids=[
        "task", "immutable", "partial", "chain", "group", "group of one", "chain that ends in a group", "chord",
        "chain that ends in a chord", "chain that begins with a group", "task that is retried", "task that is replaced",
    ],
)  # fmt: skip
def test_a_chord_takes_any_body(fleet, body, value):
    assert fleet.value(chord([add.s(1, 1), add.s(2, 2)], body())) == value


@pytest.mark.parametrize(
    ("canvas", "value"),
    [
        (lambda: group(add.s(1, 1), add.s(2, 2)) | total.s(), 6),
        (lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | total.s(), 7),
        (lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(1), 8),
        (lambda: group(add.s(1, 1), add.s(2, 2)) | group(total.s(), total.s()), [6, 6]),
        (lambda: group(add.s(1, 1), add.s(2, 2)) | group(total.s(), total.s()) | total.s(), 12),
        (lambda: group(add.s(1, 1), add.s(2, 2)) | total.s() | group(add.s(1), add.s(2)) | total.s(), 15),
        (lambda: chord([add.s(1, 1), add.s(2, 2)], total.s()) | add.s(1), 7),
        (lambda: chord([add.s(1, 1), add.s(2, 2)], total.s()) | group(add.s(1), add.s(2)), [7, 8]),
        (
            lambda: chord([add.s(1, 1), add.s(2, 2)], total.s()) | chord([add.s(1), add.s(2)], total.s()),
            15,
        ),
        (lambda: add.s(1, 1) | chord([add.s(1), add.s(2)], total.s()), 7),
        (
            lambda: group(
                chord([add.s(1, 1), add.s(2, 2)], total.s()), chord([add.s(3, 3), add.s(4, 4)], total.s())
            ),
            [6, 14],
        ),
        (
            lambda: chord(
                [chord([chord([add.s(1, 0), add.s(1, 0)], total.s())], total.s()), add.s(2, 2)], total.s()
            ),
            6,
        ),
    ],
    ids=[
        "group | task", "task | group | task", "task | group | task | task", "group | group",
        "group | group | task", "group | task | group | task", "chord | task", "chord | group", "chord | chord",
        "task | chord", "group of chords", "chord in a chord in a chord",
    ],
)  # fmt: skip
def test_a_barrier_stands_wherever_a_chain_has_one(fleet, canvas, value):
    assert fleet.value(canvas()) == value


def test_a_body_is_sent_with_its_options(fleet):
    body = about.s().set(queue="other", priority=3, countdown=0.2, headers={"x": 1})
    result = chord([add.s(1, 1), add.s(2, 2)], body).delay()
    told = fleet.get(result)
    assert (told["args"], told["queue"], told["priority"]) == ([[2, 4]], "other", 3)
    assert result.queue == "other"


def test_the_options_of_a_chord_are_those_of_its_tasks_and_body(fleet):
    result = chord([add.s(1, 1), add.s(2, 2)], about.s()).apply_async(queue="other")
    assert fleet.get(result)["queue"] == "other"
    assert [each.queue for each in result.parent] == ["other", "other"]


def test_a_body_has_callbacks(fleet, tmp_path):
    path = tmp_path / "log"
    body = total.s().set(link=note_value.s(str(path)))
    assert fleet.value(chord([add.s(1, 1), add.s(2, 2)], body)) == 6
    assert fleet.noted(path) == ["6"]
    canvas = chord([add.s(1, 1), add.s(2, 2)], total.s())
    canvas.link(note_value.s(str(path)))
    assert fleet.value(canvas) == 6
    assert fleet.noted(path, 2) == ["6", "6"]


def test_a_body_is_told_its_parents(fleet):
    result = chord([add.s(1, 1), add.s(2, 2)], about.s()).delay()
    told = fleet.get(result)
    assert told["parent"] in ids(result.parent)
    assert told["root"] in (result.id, *ids(result.parent))


# -- chords that fail ----------------------------------------------------------------------------


def test_a_failed_member_fails_the_body(fleet):
    result = chord([add.s(1, 1), fail.s(text="here")], total.s()).delay()
    error = fleet.failure(result)
    assert isinstance(error, ChordError)
    assert re.search(r"Dependency [-0-9a-f]{36} raised ValueError\('here'\)", str(error))
    assert result.parent[1].id in str(error)
    with pytest.raises(ChordError):
        fleet.get(fleet.app.AsyncResult(result.id))


def test_the_error_of_a_member_is_the_cause_of_the_error_of_the_body(fleet):
    error = fleet.failure(chord([add.s(1, 1), fail.s(text="here")], total.s()).delay())
    assert repr(error.__cause__) == "ValueError('here')"


def test_a_body_has_an_errback(fleet, tmp_path):
    path = tmp_path / "log"
    canvas = chord([add.s(1, 1), fail.s(text="here")], total.s().on_error(by_error.s(path=str(path))))
    result = canvas.delay()
    fleet.failure(result)
    [told] = fleet.noted(path)
    assert told.startswith(f"{result.id}:ChordError:Dependency_{result.parent[1].id}_raised_ValueError")


def test_an_errback_of_one_argument_is_told_the_id_of_the_body(fleet, tmp_path):
    path = tmp_path / "log"
    result = chord([fail.s()], total.s()).on_error(by_id.s(str(path))).delay()
    fleet.failure(result)
    assert fleet.noted(path) == [result.id]


def test_a_body_that_fails_by_itself_calls_its_errback(fleet, tmp_path):
    path = tmp_path / "log"
    result = chord([add.s(1, 1)], fail.s(text="body").on_error(by_error.s(path=str(path)))).delay()
    assert repr(fleet.failure(result)) == "ValueError('body')"
    assert fleet.noted(path) == [f"{result.id}:ValueError:body"]


def test_errbacks_reach_the_header_where_the_setting_says_so(fleet, tmp_path):
    path = tmp_path / "log"
    fleet.app.conf.task_allow_error_cb_on_chord_header = True
    try:
        canvas = chord([add.s(1, 1), fail.s(text="here")], total.s())
        canvas.link_error(by_error.s(path=str(path)))
        result = canvas.delay()
        fleet.failure(result)
    finally:
        fleet.app.conf.task_allow_error_cb_on_chord_header = False
    told = sorted(fleet.noted(path, 2))
    assert sorted(each.split(":")[:2] for each in told) == sorted(
        [[result.parent[1].id, "ValueError"], [result.id, "ChordError"]]
    )


def test_a_chain_in_a_header_that_fails_early_fails_the_body(fleet):
    result = chord([chain(fail.s(text="here"), add.s(1), add.s(2)), add.s(1, 1)], total.s()).delay()
    assert "ValueError('here')" in str(fleet.failure(result))


@pytest.mark.parametrize(
    "body",
    [
        lambda: total.s(),
        lambda: chain(total.s(), add.s(1)),
        lambda: group(total.s(), echo.s()),
        lambda: chord([total.s(), total.s()], total.s()),
    ],
    ids=["task", "chain", "group", "chord"],
)
def test_a_chord_in_a_header_that_fails_fails_the_body(fleet, body):
    inner = chord([add.s(1, 1), fail.s(text="here")], body())
    result = chord([inner, add.s(1, 1)], echo.s()).delay()
    error = fleet.failure(result)
    assert isinstance(error, ChordError)
    assert "here" in str(error)


def test_a_group_as_a_body_fails_as_a_whole(fleet):
    result = chord([add.s(1, 1), fail.s(text="here")], group(total.s(), echo.s())).delay()
    errors = [fleet.failure(each) for each in result]
    assert [repr(error) for error in errors] == ["ValueError('here')"] * 2


def test_a_chain_as_a_body_fails_to_its_end(fleet):
    result = chord([fail.s(text="here")], chain(total.s(), add.s(1), add.s(2))).delay()
    assert isinstance(fleet.failure(result), ChordError)
    assert "here" in str(fleet.failure(result))


def test_a_chord_as_a_body_fails_to_its_end(fleet):
    result = chord([fail.s(text="here")], chord([total.s(), echo.s()], echo.s())).delay()
    assert isinstance(fleet.failure(result), ChordError)
    assert "here" in str(fleet.failure(result))


def test_a_failure_in_the_middle_of_a_chain_of_chords_reaches_its_end(fleet):
    canvas = group(add.s(1, 1), fail.s(text="here")) | total.s() | group(add.s(1), add.s(2)) | total.s()
    assert "here" in str(fleet.failure(canvas.delay()))


def test_a_revoked_member_fails_the_body(fleet):
    result = chord([add.s(1, 1), add.s(2, 2).set(countdown=0.5)], total.s()).delay()
    result.parent[1].revoke()
    error = fleet.failure(result)
    assert isinstance(error, ChordError)
    assert "TaskRevokedError" in str(error)


def test_a_member_that_returns_what_cannot_be_stored_fails_the_body(fleet):
    result = chord([add.s(1, 1), unstorable.s()], total.s()).delay()
    error = fleet.failure(result)
    assert isinstance(error, ChordError)
    assert result.parent[1].state == "FAILURE"
    assert "EncodeError" in str(error)


# -- map, starmap, chunks ------------------------------------------------------------------------


def test_map_and_starmap_are_one_task(fleet):
    assert fleet.value(add.starmap([(1, 1), (2, 2)])) == [2, 4]
    assert fleet.value(echo.map(range(3))) == [0, 1, 2]
    assert fleet.value(chain(echo.map([1, 2]), total.s())) == 3


def test_chunks_are_a_group_of_starmaps(fleet):
    chunks = add.chunks(zip(range(5), range(5), strict=True), 2)
    assert fleet.get(chunks()) == [[0, 2], [4, 6], [8]]
    pieces = add.chunks(zip(range(4), range(4), strict=True), 2).group()
    assert fleet.get(pieces.skew(start=0.1, stop=0.2, step=0.1)()) == [[0, 2], [4, 6]]
    body = chord(add.chunks([(1, 1), (2, 2)], 1).group(), echo.s())
    assert fleet.value(body) == [[2], [4]]


# -- stamps --------------------------------------------------------------------------------------


class Monitoring(StampingVisitor):
    """The guide's: stamps signatures with an id of their own."""

    def on_signature(self, sig, **headers):
        return {"monitoring_id": f"about-{sig.task.rpartition('.')[2]}", "stamped_headers": ["monitoring_id"]}


def test_stamps_are_in_the_request_and_in_the_record(fleet):
    sig = about.s()
    sig.stamp(customer="acme", visit=7)
    result = sig.delay()
    assert fleet.get(result)["stamps"] == {"customer": "acme", "visit": 7}
    meta = fleet.app.backend.get_task_meta(result.id, cache=False)
    assert sorted(meta["stamped_headers"]) == ["customer", "visit"]
    assert (meta["customer"], meta["visit"]) == ("acme", 7)


def test_a_visitor_stamps_a_whole_canvas(fleet):
    canvas = chord([echo.s(1), about.s(2)], about.s())
    canvas.stamp(visitor=Monitoring())
    result = canvas.delay()
    assert fleet.get(result)["stamps"] == {"monitoring_id": "about-about"}
    meta = fleet.app.backend.get_task_meta(result.parent[0].id, cache=False)
    assert meta["monitoring_id"] == "about-echo"


def test_tasks_are_revoked_by_their_stamps(fleet):
    sig = add.s(1, 1).set(countdown=0.5)
    sig.stamp(customer="closed")
    fleet.app.control.revoke_by_stamped_headers({"customer": ["closed"]}, reply=True, timeout=2.0, limit=1)
    result = sig.delay()
    fleet.ready(result)
    assert result.state == "REVOKED"


# -- what tasks do -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "value"),
    [
        (lambda: add.s(10, 1), 11),
        (lambda: chain(add.s(10, 1), add.s(2)), 13),
        (lambda: group(add.s(10, 1), add.s(10, 2)), [11, 12]),
        (lambda: chord([add.s(10, 1), add.s(10, 2)], total.s()), 23),
        (lambda: chain(add.s(10, 1), chord([add.s(1), add.s(2)], total.s())), 25),
        (lambda: chain(add.s(10, 1), group(add.s(1), add.s(2))), [12, 13]),
    ],
    ids=["task", "chain", "group", "chord", "chain that ends in a chord", "chain that ends in a group"],
)
def test_a_task_is_replaced(fleet, by, value):
    assert fleet.value(replaced.s(by=by())) == value


def test_a_replaced_task_is_still_a_link_of_its_chain(fleet):
    by = chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert fleet.value(chain(replaced.s(by=by), add.s(100))) == 106
    assert fleet.value(chain(add.s(1, 1), replaced.s(by=by), add.s(100), add.s(200))) == 306


def test_a_replaced_task_is_still_a_part_of_its_chord(fleet):
    canvas = chord([replaced.s(by=add.s(1, 1)), replaced.s(by=group(add.s(1, 1), add.s(2, 2)))], echo.s())
    assert fleet.value(canvas) == [2, [2, 4]]


def test_a_part_adds_another_to_its_chord(fleet):
    result = chord([growing.s(1, by=echo.s(5)), echo.s(2)], total.s()).delay()
    assert fleet.get(result) == 8


def test_a_task_sends_others_and_does_not_wait_for_them(fleet):
    assert repr(fleet.failure(waiting_wrongly.delay(add.s(1, 1)))).startswith("RuntimeError(")


def test_a_task_waits_for_another_where_that_is_allowed(fleet):
    assert fleet.value(waiting.s(add.s(1, 1))) == 2
    assert fleet.value(waiting.s(chord([add.s(1, 1), add.s(2, 2)], total.s()))) == 6


def test_a_task_is_retried_and_says_so(fleet):
    result = stubborn.delay("at last", times=2)
    assert fleet.get(result) == "at last"
    assert result.retries == 2


def test_a_task_that_ignores_its_result_keeps_none(fleet):
    result = silent.delay(1)
    assert fleet.get(result) is None
    other = add.apply_async((1, 1), ignore_result=True)
    assert other.get(timeout=fleet.patience) is None
    assert fleet.value(add.s(1, 1)) == 2
    assert [fleet.app.AsyncResult(each.id).exists() for each in (result, other)] == [False, False]


def test_a_custom_state_has_notes(fleet, gate):
    result = progressing.delay(str(gate))
    until(lambda: result.state == "PROGRESS", fleet.patience, "progress")
    assert result.info == {"done": 3, "of": 4}
    assert not result.ready()
    gate.touch()
    assert fleet.get(result) == "done"


def test_a_task_settles_itself_and_is_then_ignored(fleet):
    meta = {"exc_type": "KeyError", "exc_message": ["mine"], "exc_module": "builtins"}
    assert repr(fleet.failure(deciding.delay("FAILURE", meta))) == "KeyError('mine')"
    assert fleet.value(deciding.s("SUCCESS", [1, 2])) == [1, 2]


def test_an_abortable_task_is_aborted(fleet):
    result = AbortableAsyncResult(abortable.delay().id, app=fleet.app)
    until(lambda: result.state == "STARTED", fleet.patience, "its start")
    result.abort()
    fleet.ready(result)
    assert result.result == "stopped"


def test_a_task_that_runs_is_terminated(fleet, gate):
    result = gated.delay(str(gate))
    until(lambda: result.state == "STARTED", fleet.patience, "its start")
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        fleet.get(result)
    assert result.state == "REVOKED"


def test_a_task_that_has_expired_is_revoked(fleet):
    result = add.apply_async((1, 1), expires=datetime.now(UTC) - timedelta(seconds=5))
    with pytest.raises(TaskRevokedError, match="expired"):
        fleet.get(result)


# -- results -------------------------------------------------------------------------------------


def test_get_takes_its_options(fleet, gate):
    result = gated.delay(str(gate), "value")
    with pytest.raises(TimeoutError):
        result.get(timeout=0.1)
    told, called = [], []
    value = result.get(
        timeout=fleet.patience,
        interval=0.05,
        on_interval=lambda *_: gate.touch(),
        on_message=told.append,
        callback=lambda task_id, value: called.append((task_id, value)),
    )
    assert value == "value"
    assert called == [(result.id, "value")]
    assert told[-1]["result"] == "value"


def test_get_in_a_task_is_refused_unless_it_is_allowed(fleet):
    from celery.result import denied_join_result

    result = add.delay(1, 1)
    fleet.ready(result)
    with denied_join_result():
        with pytest.raises(RuntimeError, match="within a task"):
            result.get(timeout=1)
        assert result.get(timeout=1, disable_sync_subtasks=False) == 2
        with allow_join_result():
            assert result.get(timeout=1) == 2


def test_a_failure_is_returned_where_it_is_not_to_be_raised(fleet):
    result = fail.delay(text="here")
    assert repr(fleet.get(result, propagate=False)) == "ValueError('here')"
    assert repr(result.result) == "ValueError('here')"
    assert "ValueError: here" in result.traceback
    with pytest.raises(ValueError, match="here"):
        result.maybe_throw()
    assert (result.failed(), result.successful(), result.ready()) == (True, False, True)


def test_a_result_is_pickled_and_copied(fleet):
    result = chain(add.s(1, 1), add.s(1)).delay()
    again = pickle.loads(pickle.dumps(result))
    assert fleet.get(again) == 3
    assert fleet.get(again.parent) == 2
    assert again == result


def test_the_result_of_a_group_is_pickled(fleet):
    again = pickle.loads(pickle.dumps(group(add.s(1, 1), add.s(2, 2)).delay()))
    assert fleet.get(again) == [2, 4]


def test_the_record_is_extended(fleet):
    result = pair.apply_async(("a",), {"y": "b"})
    fleet.get(result)
    assert (result.name, result.args, result.kwargs) == ("tests.drop_in.canvas_tasks.pair", ["a"], {"y": "b"})
    assert (result.worker, result.retries, result.queue) == ("one@test", 0, "celery")


def test_a_result_says_whether_it_exists_and_when_it_was_done(fleet):
    result = add.delay(1, 1)
    fleet.get(result)
    assert result.exists()
    assert abs(result.date_done - datetime.now(UTC)) < timedelta(minutes=1)
    nobody = fleet.app.AsyncResult(str(uuid.uuid4()))
    assert (nobody.exists(), nobody.state, nobody.result, nobody.date_done) == (False, "PENDING", None, None)


def test_a_result_is_forgotten_with_its_parents(fleet):
    result = chain(add.s(1, 1), add.s(1)).delay()
    fleet.get(result)
    task_ids = [result.id, result.parent.id]
    result.forget()
    assert [fleet.app.AsyncResult(each).state for each in task_ids] == ["PENDING", "PENDING"]


def test_a_value_may_be_large(fleet):
    assert fleet.value(large.s(5_000_000)) == "x" * 5_000_000
    assert [len(each) for each in fleet.value(chord([large.s(500_000)] * 3, echo.s()))] == [500_000] * 3


def test_a_value_that_cannot_be_stored_fails_its_task(fleet):
    result = unstorable.delay()
    error = fleet.failure(result)
    assert isinstance(error, EncodeError)
    assert "Unstorable" in str(error)


# -- callbacks of handles ------------------------------------------------------------------------


def test_then_is_called_without_anybody_waiting(fleet, gate):
    told = []
    result = gated.delay(str(gate), "value")
    result.then(told.append)
    gate.touch()
    until(lambda: told, fleet.patience, "the callback")
    assert told == [result]
    assert (told[0] is result, result._cache["result"]) == (True, "value")


def test_then_is_called_while_somebody_waits(fleet, gate):
    told = []
    result = gated.delay(str(gate), "value")
    result.then(told.append)
    gate.touch()
    assert fleet.get(result) == "value"
    until(lambda: told, fleet.patience, "the callback")
    result.then(told.append)
    assert told == [result, result]


def test_then_is_called_for_a_failure_too(fleet):
    told, errors = [], []
    result = fail.delay(text="here")
    result.then(told.append, on_error=errors.append)
    fleet.failure(result)
    until(lambda: told, fleet.patience, "the callback")
    assert (told, errors) == ([result], [])


def test_a_callback_that_raises_keeps_no_other_from_being_called(fleet, gate):
    told = []

    def broken(result):
        raise ZeroDivisionError

    result = gated.delay(str(gate))
    for callback in (broken, told.append, told.append):
        result.then(callback)
    gate.touch()
    try:
        until(lambda: len(told) == 2, fleet.patience, "the other callbacks")
    finally:
        result.forget()  # else Celery's own backend calls it in the next test


def test_then_is_told_when_there_will_be_no_result(fleet, gate):
    if fleet.kind == f"{OURS}redis":
        pytest.skip("Redis does not remember what was forgotten")
    told, errors = [], []
    result = gated.delay(str(gate))
    until(lambda: result.state == "STARTED", fleet.patience, "its start")
    result.then(told.append, on_error=errors.append)
    result.forget()
    until(lambda: errors, fleet.patience, "the error")
    gate.touch()
    assert told == []
    assert result.id in str(errors[0])


def test_then_of_a_group_is_called_once_all_are_ready(fleet, gate):
    told = []
    nested = group(add.s(1, 1), chain(add.s(1, 1), group(add.s(1), gated.si(str(gate), "last")))).delay()
    nested.then(told.append)
    until(lambda: nested[1][0].ready(), fleet.patience, "all but one")
    assert told == []
    gate.touch()
    until(lambda: told, fleet.patience, "the callback")
    assert told == [nested]
    assert fleet.get(nested) == [2, [3, "last"]]


def test_then_of_a_set_made_by_hand_is_called(fleet):
    told = []
    results = ResultSet([], app=fleet.app)
    results.add(add.delay(1, 1))
    results.add(add.delay(2, 2))
    results.then(told.append)
    until(lambda: told, fleet.patience, "the callback")
    assert [each.result for each in told[0]] == [2, 4]


def test_nothing_is_subscribed_before_somebody_waits(fleet, gate):
    if fleet.kind != f"{OURS}redis":
        pytest.skip("only Redis can be asked who has subscribed to what")
    told = []
    until(lambda: fleet.subscriptions() == [], fleet.patience, "the end of earlier ones")
    result = group(gated.s(str(gate), 1), chain(gated.si(str(gate), 2), group(add.s(1), add.s(2)))).delay()
    again = GroupResult(result.id, list(result.results), app=fleet.app)
    assert fleet.subscriptions() == []
    again.then(told.append)
    until(lambda: len(fleet.subscriptions()) == 3, fleet.patience, "the subscriptions")
    gate.touch()
    until(lambda: told, fleet.patience, "the callback")
    until(lambda: fleet.subscriptions() == [], fleet.patience, "their end")


# -- exceptions ----------------------------------------------------------------------------------


def test_an_exception_with_its_own_init_comes_back_whole(fleet):
    error = fleet.failure(refuse.delay(7, "why"))
    assert isinstance(error, Refused)
    assert (error.code, error.detail, str(error)) == (7, "why", "refused with 7")


def test_an_exception_comes_back_with_its_cause(fleet):
    error = fleet.failure(fail_with_a_cause.delay())
    assert (repr(error), repr(error.__cause__)) == ("RuntimeError('outer')", "KeyError('inner')")


def test_an_exception_comes_back_with_its_notes(fleet):
    assert fleet.failure(fail_with_notes.delay()).__notes__[0] == "seen on a Tuesday"


def test_a_group_of_exceptions_comes_back_whole(fleet):
    error = fleet.failure(fail_with_a_group.delay())
    assert isinstance(error, ExceptionGroup)
    assert [repr(each) for each in error.exceptions] == ["ValueError('one')", "KeyError('two')"]


# -- in place ------------------------------------------------------------------------------------


def test_a_canvas_is_applied_in_place(fleet):
    result = chord([add.s(1, 1), add.s(2, 2)], total.s()).apply()
    assert isinstance(result, EagerResult)
    assert result.get() == 6
    assert chain(add.s(1, 1), group(add.s(1), add.s(2))).apply().get() == [3, 4]
    assert fail.s(text="here").apply().state == "FAILURE"


@pytest.mark.filterwarnings("ignore:Results are not stored in backend")
def test_an_eager_app_stores_what_it_is_told_to(fleet):
    eager = Celery("eager", set_as_current=False)
    eager.conf.update(
        result_backend=fleet.app.conf.result_backend, task_always_eager=True, task_store_eager_result=True
    )
    eager.set_default()
    try:
        result = chord([add.s(1, 1), add.s(2, 2)], total.s()).delay()
        assert result.get() == 6
        stored = fleet.app.AsyncResult(result.id)
        assert (stored.state, stored.result) == ("SUCCESS", 6)
        assert group(add.s(1, 1), fail.s(text="no")).delay().get(propagate=False)[0] == 2
    finally:
        fleet.app.set_default()
        close(eager)


# -- the page ------------------------------------------------------------------------------------


def test_the_page_tells_of_every_test_here_and_of_no_other():
    told = re.findall(r"`(test_\w+)`", PAGE.read_text())
    here = [name for name in globals() if name.startswith("test_") and not name.startswith("test_the_page_")]
    assert sorted(told) == sorted(here)


def test_the_page_tells_where_celerys_own_backend_differs():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for name, differs in CELERYS_OWN.items():
        [row] = [row for row in rows if f"`{name.partition('[')[0]}`" in row]
        assert differs.instead in row
