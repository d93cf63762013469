"""Messages that come twice, parts that end at the same moment, and holders of a claim that pause."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.drop_in.doomed import Doomed
from tests.drop_in.dying import PAUSE
from tests.drop_in.faults import PATIENCE, Fleet, ran
from tests.servers import until

ROUNDS = 20


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def fleet(request, tmp_path_factory):
    with Fleet.of(request.param, tmp_path_factory.mktemp(request.param)) as fleet:
        fleet.start("one", queues="celery,one", concurrency=4, wait=False)
        fleet.start("two", queues="two", concurrency=4)
        until(lambda: "one@test ready." in fleet.said(), PATIENCE, "the first worker")
        yield fleet


@pytest.mark.parametrize("acks", ["early", "late"])
def test_messages_that_were_published_twice_count_once(fleet, acks):
    path, queue = fleet.path("ran"), f"twice-{acks}"
    parts = [fleet.sig(acks, path, value, queue=queue) for value in (1, 2)]
    body = fleet.chord(parts, fleet.sig("body", path))
    with fleet.broker.client(db=1) as broker:
        messages = broker.lrange(queue, 0, -1)
        broker.rpush(queue, *messages, *messages)
    fleet.consume(queue, "two")
    assert body.get(timeout=PATIENCE) == [1, 2]
    fleet.ended(body)
    # One that was just fetched, or is acknowledged early, is no message any more before its task has run.
    until(lambda: ran(path, "part") >= 6, PATIENCE, "the task of each message")
    assert (ran(path, "part"), ran(path, "body")) == (6, 1)


def test_a_message_that_is_delivered_again_while_its_task_runs_counts_once(fleet):
    path, gate = fleet.path("ran"), fleet.path("gate")
    part = fleet.sig("late", path, 1, gate)
    body = fleet.chord([part, fleet.sig("early", path, 2)], fleet.sig("body", path))
    until(lambda: ran(path, "part") == 2, PATIENCE, "the two parts")
    fleet.redeliver()
    until(lambda: ran(path, "part") == 3, PATIENCE, "the same part again")
    Path(gate).touch()
    assert body.get(timeout=PATIENCE) == [1, 2]
    fleet.ended(body)
    assert ran(path, "body") == 1


def test_two_workers_that_end_the_last_two_parts_at_the_same_moment_send_one_body(fleet):
    for _ in range(ROUNDS):
        path, gate = fleet.path("ran"), fleet.path("gate")
        parts = [
            fleet.sig("at_once", gate, number, queue=queue) for number, queue in enumerate(["one", "two"])
        ]
        body = fleet.chord(parts, fleet.sig("body", path))
        for part in parts:
            started = part.options["task_id"]
            until(lambda started=started: fleet.state(started) == "STARTED", PATIENCE, started)
        Path(gate + ".new").write_text(str(time.monotonic() + 0.02))
        Path(gate + ".new").rename(gate)
        assert body.get(timeout=PATIENCE) == [0, 1]
        fleet.ended(body)
        assert ran(path, "body") == 1


PAUSES = [("after:settle", "part", 1), ("before:claim", "group", 1), ("before:send", "body", 2)]
"""At what, about whom, and how often the body then runs."""


def test_a_holder_that_pauses_for_longer_than_its_lease_finds_its_claim_gone_but_for_one_moment(fleet):
    """Between the extension of its claim and the sending it cannot know: the same task runs a second time."""
    paused = [Doomed(fleet, "early", step, about, PAUSE, queue="two").finish() for step, about, _ in PAUSES]
    for each in paused:
        each.has_run()
    results = [fleet.app.AsyncResult(each.body.id)._get_task_meta() for each in paused]
    for child in fleet.worker("two").children():
        os.kill(child, signal.SIGCONT)
    for each, (step, _, runs) in zip(paused, PAUSES, strict=True):
        awake = f"[{each.ids[1]}] succeeded in"  # which the worker says when the dispatch is over
        until(lambda awake=awake: awake in fleet.said(), PATIENCE, "the end of the pause")
        until(lambda: not fleet.messages(), PATIENCE, "the end of all messages")
        until(
            lambda each=each, runs=runs: ran(each.path, "body") >= runs, PATIENCE, f"the body, paused {step}"
        )
        assert ran(each.path, "body") == runs, step
    assert [fleet.app.AsyncResult(each.body.id)._get_task_meta() for each in paused] == results
