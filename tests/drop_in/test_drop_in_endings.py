"""All the ways in which a header task may end: its state, and that its chord counts it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery.exceptions import ChordError

from settled import chords
from tests.drop_in.faults import PATIENCE, Fleet, ran
from tests.servers import until


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def fleet(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            chords, "RECOUNT_INTERVAL", RECOUNT
        )  # who opens a chord says when it is recounted first
        tuning = {"settled.chords.RECOUNT_INTERVAL": RECOUNT}
        with Fleet.of(request.param, tmp_path_factory.mktemp(request.param), tuning=tuning) as fleet:
            fleet.start("one", concurrency=4)
            yield fleet


@pytest.fixture(scope="module")
def celerys(tmp_path_factory):
    """A fleet on Celery's own backend."""
    with Fleet.of("celery", tmp_path_factory.mktemp("celery")) as fleet:
        fleet.start("one", concurrency=4)
        yield fleet


RECOUNT = 0.5

REPLACEMENTS = [
    ("task", 1),
    ("chain", 1),
    ("group", [1, 1]),
    ("chord", [1, 1]),
    ("chain of groups", [1, 1]),
]


class Chord:
    """A chord of the part that is looked at and a plain one, with an errback."""

    def __init__(self, fleet, name, *args, **options):
        self.fleet = fleet
        self.path = fleet.path("ran")
        self.part = fleet.sig(name, self.path, *args, **options)
        self.id = self.part.options["task_id"]
        then = fleet.sig("body", self.path, link_error=[fleet.sig("errback", self.path)])
        self.body = fleet.chord([self.part, fleet.sig("passed", 2, self.path, "other")], then)

    def has_run(self, results, parts):
        assert self.body.get(timeout=PATIENCE) == results
        self.fleet.ended(self.body)
        assert [ran(self.path, word) for word in ("part", "body", "errback")] == [parts, 1, 0]

    def has_failed(self, state, error, parts=1):
        """The part is in that state, and the body failed for this error of it, once."""
        failure = self.body.get(timeout=PATIENCE, propagate=False)
        self.fleet.ended(self.body)
        assert isinstance(failure, ChordError)
        assert f"Dependency {self.id} raised {error}" in str(failure)
        assert self.fleet.state(self.id) == state
        assert [ran(self.path, word) for word in ("part", "body", "errback")] == [parts, 0, 1]


def test_a_hard_time_limit(fleet):
    Chord(fleet, "early", 1, fleet.path("never"), time_limit=1).has_failed("FAILURE", "TimeLimitExceeded")


def test_a_soft_time_limit(fleet):
    Chord(fleet, "early", 1, fleet.path("never"), soft_time_limit=1).has_failed(
        "FAILURE", "SoftTimeLimitExceeded"
    )


def test_a_part_that_is_revoked_while_it_runs(fleet):
    chord = Chord(fleet, "early", 1, fleet.path("never"))
    until(lambda: fleet.state(chord.id) == "STARTED", PATIENCE, "the part")
    fleet.app.control.revoke(chord.id, terminate=True, signal="SIGKILL")
    chord.has_failed("REVOKED", "TaskRevokedError")


def test_a_part_that_is_revoked_before_it_runs(fleet):
    chord = Chord(fleet, "early", 1, queue="revoked")
    fleet.app.control.revoke(chord.id)
    until(lambda: fleet.state(chord.id) == "REVOKED", PATIENCE, "the part")
    fleet.consume("revoked", "one")
    chord.has_failed("REVOKED", "TaskRevokedError", parts=0)


def test_a_part_that_is_revoked_and_whose_message_is_lost(fleet):
    if fleet.is_sqlite:
        pytest.skip("it counts records that were written by themselves only when they expire")
    chord = Chord(fleet, "early", 1, queue="purged")
    fleet.app.control.revoke(chord.id)
    until(lambda: fleet.state(chord.id) == "REVOKED", PATIENCE, "the part")
    with fleet.broker.client(db=1) as broker:
        broker.delete("purged")
    chord.has_failed("REVOKED", "TaskRevokedError", parts=0)


def test_a_part_that_comes_after_its_time(fleet):
    chord = Chord(fleet, "early", 1, queue="expired", expires=datetime.now(UTC) - timedelta(seconds=1))
    fleet.consume("expired", "one")
    chord.has_failed("REVOKED", "TaskRevokedError", parts=0)


def test_a_part_that_rejects_its_message(fleet):
    Chord(fleet, "rejecting", True).has_run([1, 2], parts=2)
    Chord(fleet, "rejecting", False).has_failed("FAILURE", "Reject")


def test_a_part_that_says_its_state_itself(fleet):
    Chord(fleet, "ignoring", "SUCCESS").has_run([1, 2], parts=1)
    Chord(fleet, "ignoring", "FAILURE").has_failed("FAILURE", "ValueError('said so')")


def test_a_part_that_is_retried(fleet):
    Chord(fleet, "retrying", 2).has_run([1, 2], parts=3)
    Chord(fleet, "retrying", 4).has_failed("FAILURE", "ConnectionError('run 3')", parts=4)


@pytest.mark.parametrize(("how", "value"), REPLACEMENTS)
def test_a_part_that_is_replaced(fleet, how, value):
    chord = Chord(fleet, "replacing", how)
    assert chord.body.get(timeout=PATIENCE) == [value, 2]
    fleet.ended(chord.body)


def test_a_part_that_adds_another(fleet):
    chord = Chord(fleet, "adding")
    assert sorted(chord.body.get(timeout=PATIENCE)) == [1, 2, 2]
    fleet.ended(chord.body)
    assert (ran(chord.path, "part"), ran(chord.path, "body")) == (2, 1)


# -- what comes late ---------------------------------------------------------------------------------


def settled_part(fleet, state):
    """A task that has ended in this state."""
    task = fleet.sig({"SUCCESS": "early", "FAILURE": "broken", "REVOKED": "early"}[state], fleet.path("ran"))
    if state == "REVOKED":
        task.set(expires=datetime.now(UTC) - timedelta(seconds=1))
    task.delay()
    task_id = task.options["task_id"]
    until(lambda: fleet.state(task_id) == state, PATIENCE, f"the end of {task_id}")
    return task_id


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_late_word_of_another_worker_moves_no_state(fleet, state):
    task_id = settled_part(fleet, state)
    backend = fleet.app.backend
    before = backend.get_task_meta(task_id, cache=False)
    backend.store_result(task_id, {"pid": 1}, "STARTED")
    backend.mark_as_retry(task_id, ConnectionError("late"))
    backend.store_result(task_id, {"done": 1}, "PROGRESS")
    after = backend.get_task_meta(task_id, cache=False)
    assert {**after, "result": repr(after["result"])} == {**before, "result": repr(before["result"])}


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
@pytest.mark.parametrize("state", ["FAILURE", "REVOKED"])
def test_celerys_own_is_moved_by_it(celerys, state):
    task_id = settled_part(celerys, state)
    celerys.app.backend.store_result(task_id, {"pid": 1}, "STARTED")
    assert celerys.state(task_id) == "STARTED"
    celerys.app.backend.mark_as_retry(task_id, None)
    assert celerys.state(task_id) == "RETRY"
