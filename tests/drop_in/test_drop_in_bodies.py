"""Bodies of all kinds: sent by a worker that does not know them, taken over, or failed."""

from __future__ import annotations

import pytest
from celery import chain, group
from celery.exceptions import ChordError

from tests.drop_in.faults import PATIENCE, Fleet, ran
from tests.servers import until

KINDS = ["group", "chain", "chord"]

SENDING = ["before:send", "after:task", "after:send"]


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def fleet(request, tmp_path_factory):
    with Fleet.of(request.param, tmp_path_factory.mktemp(request.param)) as fleet:
        fleet.start("old", queues="old", env={"SETTLED_UNKNOWN": "body"}, wait=False)
        fleet.start("one", concurrency=6)
        until(lambda: "old@test ready." in fleet.said(), PATIENCE, "the other worker")
        yield fleet


def test_a_body_that_the_worker_does_not_know_is_sent_by_its_name(fleet):
    path = fleet.path("ran")
    parts = [fleet.sig("early", path, value, queue="old") for value in (1, 2)]
    body = fleet.chord(parts, fleet.sig("body", path))
    assert body.get(timeout=PATIENCE) == [1, 2]
    fleet.ended(body)
    assert (ran(path, "part"), ran(path, "body")) == (2, 1)


def test_a_body_that_the_worker_does_not_know_fails_and_its_errback_runs_once(fleet):
    path = fleet.path("ran")
    parts = [fleet.sig("broken", path, queue="old") for _ in range(2)]
    body = fleet.chord(parts, fleet.sig("body", path, link_error=[fleet.sig("errback", path)]))
    assert isinstance(body.get(timeout=PATIENCE, propagate=False), ChordError)
    fleet.ended(body)
    assert [ran(path, word) for word in ("part", "body", "errback")] == [2, 0, 1]


def test_a_body_that_fails_does_so_once_though_a_worker_dies_of_it(fleet):
    sent = [failing(fleet, step) for step in ("before:fail", "after:fail")]
    for body, path, order in sent:
        assert isinstance(body.get(timeout=PATIENCE, propagate=False), ChordError)
        fleet.ended(body)
        assert order.done
        assert [ran(path, word) for word in ("part", "body", "errback")] == [2, 0, 1], order.path.name


def failing(fleet, step):
    """A chord whose body fails, the handle of that, what is noted, and the order to die of it."""
    path = fleet.path("ran")
    then = fleet.sig("body", path, link_error=[fleet.sig("errback", path)])
    order = fleet.order(step, then.options["task_id"])
    return fleet.chord([fleet.sig("broken", path), fleet.sig("early", path)], then), path, order


def test_a_body_of_several_tasks_is_taken_over_and_each_runs_once(fleet):
    sent = [(kind, *taken_over(fleet, kind, step)) for kind in KINDS for step in SENDING]
    for kind, result, path, order in sent:
        assert result.get(timeout=PATIENCE) == ([1, 2] if kind == "chain" else [[1, 2]] * 3)
        until(lambda: not fleet.messages(), PATIENCE, "the end of all messages")
        # A chord whose header was sent in part is sent anew, and counts what runs again once.
        first = 2 if kind == "chord" and order.path.name.startswith("after:task") else 1
        assert [ran(path, word) for word in ("0", "1", "2")] == [first, 1, 1], f"{kind} {order.path.name}"


def taken_over(fleet, kind, step):
    """A chord whose body is several tasks: the handle, what they note, and the order to die of sending them."""
    path = fleet.path("ran")
    tasks = [fleet.sig("passed", path, str(number)) for number in range(3)]
    order = fleet.order(step, tasks[0].options["task_id"])
    body = chain(*tasks) if kind == "chain" else group(tasks, app=fleet.app)
    if kind == "chord":
        body |= fleet.sig("passed", path, "end")
    result = fleet.chord([fleet.sig("early", path, value) for value in (1, 2)], body)
    until(lambda: order.done, PATIENCE, f"the death {order.path.name}")
    return result, path, order
