"""Retries, back-off, cancellation and time limits."""

from __future__ import annotations

import concurrent.futures
import functools
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

import settled
from settled import Executor
from settled.errors import TaskRevokedError, TimeLimitExceeded
from settled.executor.attempts import backoff, floor_of, is_finished, next_attempt
from settled.executor.flight import Flight
from settled.executor.handles import Handle
from settled.executor.register import Register
from settled.executor.tasks import Task
from tests.executor import work
from tests.executor.conftest import process_pool
from tests.servers import until


def meta(status, attempt=0, result=None):
    return {"status": status, "attempt": attempt or None, "result": result}


@pytest.mark.parametrize(
    ("record", "retries", "floor", "attempt"),
    [
        (None, 0, 0, 0),
        (meta("PENDING"), 0, 2, 2),
        (meta("STARTED"), 0, 0, 1),
        (meta("STARTED", 3), 0, 0, 4),
        (meta("RETRY", 1), 5, 0, 2),
        (meta("SUCCESS"), 5, 0, None),
        (meta("SUCCESS"), 5, 9, None),
        (meta("FAILURE"), 0, 0, None),
        (meta("FAILURE"), 1, 0, 1),
        (meta("FAILURE", 1), 1, 0, None),
        (meta("FAILURE"), 1, 1, 1),
        (meta("REVOKED"), 0, 0, None),
        (meta("REVOKED"), 0, 1, 1),
        (meta("FAILURE", 0, {"exc_type": "ConfigurationError", "exc_module": "settled.errors"}), 0, 1, 1),
    ],
)
def test_the_attempt_that_a_record_asks_for(record, retries, floor, attempt):
    assert next_attempt(record, retries, floor) == attempt


def test_what_is_finished_is_not_submitted_again():
    assert is_finished(meta("FAILURE", 1), 1)
    assert not is_finished(meta("FAILURE", 1), 2)
    assert not is_finished(meta("REVOKED"), 0)
    assert floor_of(meta("REVOKED", 2)) == 3
    assert floor_of(meta("STARTED", 2)) == floor_of(None) == 0


def test_back_off_grows_and_has_a_bound():
    assert 0.05 <= backoff(0) <= 0.15
    assert 0.4 <= backoff(3) <= 1.2
    assert 30 <= backoff(10_000) <= 90


def test_failed_calls_are_tried_again_after_a_pause(url, tmp_path, log):
    pauses = str(tmp_path / "pauses")
    pause = functools.partial(work.note_pause, pauses)
    with Executor(lambda: ThreadPoolExecutor(1), url, retries=1, backoff=pause) as executor:
        handle = executor.submit(work.fail_until, log, 2, retries=3)
        assert handle.result(20) == 3
        assert work.runs(pauses) == ["0", "1"]
        [row] = executor.backend.query()
        assert (row.state, row.attempt) == ("SUCCESS", 2)
        failing = executor.submit(work.fail, "always")
        assert failing.exception(20).args == ("always",)
        assert work.runs(pauses) == ["0", "1", "0"]


@pytest.mark.parametrize(
    "pool", [lambda: ThreadPoolExecutor(1), process_pool("spawn", 1)], ids=["threads", "processes"]
)
def test_a_call_that_is_joined_with_more_retries_has_them(url, gate, log, pool):
    """Also where the worker has been told of fewer."""
    with Executor(pool, url) as executor:
        first = executor.submit(work.fail_once_behind, gate, log)
        until(lambda: work.runs(log), 20, "the first attempt")
        second = executor.submit(work.fail_once_behind, gate, log, retries=1)
        work.open_gate(gate)
        assert (first.result(20), second.result(20)) == (2, 2)
        [row] = executor.backend.query()
        assert (row.state, row.attempt) == ("SUCCESS", 1)
    assert len(work.runs(log)) == 2


def test_a_call_that_is_joined_with_no_more_retries_fails_once(url, gate, log):
    with Executor(process_pool("spawn", 1), url) as executor:
        first = executor.submit(work.fail_once_behind, gate, log)
        until(lambda: work.runs(log), 20, "the first attempt")
        second = executor.submit(work.fail_once_behind, gate, log)
        work.open_gate(gate)
        assert [type(each.exception(20)) for each in (first, second)] == [ConnectionError] * 2
    assert len(work.runs(log)) == 1


def test_of_two_who_report_the_same_failure_one_hands_the_call_over_again():
    with settled.connect("memory://") as backend:
        register = Register()
        task = Task("call", "double", (work.double, (1,), {}), None, retries=0, turn=1)
        flight = Flight(None, task, Handle("call", backend), parked=False)
        register.add(flight)
        register.join(Handle("call", backend), retries=1)
        failed = meta("FAILURE", 0)
        assert not register.end(flight, failed)
        assert not flight.ended
        assert register.end(flight, failed)


def test_an_interrupted_call_is_left_to_be_done_again(url, log):
    def interrupted_once():
        work.logged(log, "run")
        if len(work.runs(log)) == 1:
            raise KeyboardInterrupt
        return "done"

    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        handle = executor.submit(interrupted_once, key="call")
        with pytest.raises(settled.errors.WorkerLost, match="submitted again"):
            handle.result(20)
        assert handle.state == "RETRY"
        assert executor.submit(interrupted_once, key="call").result(20) == "done"


def test_cancel_before_the_start_revokes_and_submitting_again_runs(url, gate, log):
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        running = executor.submit(work.announce_and_pass, log, gate, 1)
        queued = executor.submit(work.logged, log, 2)
        assert queued.cancel()
        assert queued.cancel()
        assert queued.cancelled()
        assert concurrent.futures.wait([queued], 0).done == {queued}
        assert queued.state == "REVOKED"
        with pytest.raises(CancelledError):
            queued.result(0)
        with pytest.raises(TaskRevokedError):
            executor.backend.wait_for(queued.id, 0)
        work.open_gate(gate)
        running.result(20)
        assert not running.cancel()
        assert not running.cancelled()
        again = executor.submit(work.logged, log, 2)
        assert again.result(20) == 4
        assert not again.cancel()


def test_a_running_call_cannot_be_cancelled(threads, tmp_path, gate):
    seen = concurrent.futures.Future()

    def start_and_pass():
        seen.set_result(None)
        return work.pass_gate(gate)

    handle = threads.submit(start_and_pass, key="running")
    seen.result(20)
    assert handle.running()
    assert not handle.cancel()
    work.open_gate(gate)
    assert handle.result(20) == "open"


def test_cancelling_one_of_two_handles_leaves_the_call_to_the_other(url, gate):
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        running = executor.submit(work.pass_gate, gate)
        one, other = (executor.submit(work.double, 2) for _ in range(2))
        assert one.cancel()
        assert not other.done()
        work.open_gate(gate)
        assert (running.result(20), other.result(20)) == ("open", 4)


def test_what_somebody_else_revoked_does_not_run(url, gate, log):
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        running = executor.submit(work.pass_gate, gate)
        queued = executor.submit(work.logged, log, 1)
        executor.backend.mark_as_revoked(queued.id, "not wanted")
        work.open_gate(gate)
        assert running.result(20) == "open"
        with pytest.raises(TaskRevokedError, match="not wanted"):
            queued.result(20)
    assert work.runs(log) == []


def test_a_time_limit_in_a_thread_settles_the_task_and_the_thread_runs_on(threads, gate):
    handle = threads.submit(work.pass_gate, gate, timeout=0.05, retries=3)
    with pytest.raises(TimeLimitExceeded, match=r"pass_gate ran for longer than its timeout of 0.05 s"):
        handle.result(20)
    assert handle.state == "FAILURE"
    work.open_gate(gate)
    threads.shutdown()
    assert threads.backend.get_state(handle.id) == "FAILURE"


def test_a_time_limit_is_kept_where_a_failure_is_tried_again(url, gate):
    with Executor(lambda: ThreadPoolExecutor(2), url) as executor:
        executor.backend.mark_as_failure("call", ValueError(), request={"retries": 0})
        handle = executor.submit(work.pass_gate, gate, key="call", retries=1, timeout=0.05)
        with pytest.raises(TimeLimitExceeded):
            handle.result(20)
        work.open_gate(gate)


def test_a_time_limit_that_is_not_reached_is_not_noticed(threads):
    assert list(threads.map(work.double, [1, 2])) == [2, 4]
    assert threads.submit(work.double, 1, timeout=60).result(20) == 2
