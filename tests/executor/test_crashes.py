"""Programs that are killed, started again, and started twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from settled import Executor, connect
from tests.executor import work

ROOT = Path(__file__).parents[2]
DONE = "30 SUCCESS"


def start(*args):
    command = [sys.executable, "-m", "tests.executor.program", *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


def output_of(program):
    out, _ = program.communicate(timeout=100)
    return out.strip()


@pytest.fixture
def started(tmp_path):
    path = tmp_path / "started"
    os.mkfifo(path)
    return str(path)


def stored(url):
    with connect(url) as backend:
        return {row.task_id for row in backend.query() if row.state == "SUCCESS"}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_killed_program_loses_nothing_and_its_next_run_does_what_is_left(url, log, started, gate, method):
    program = start(url, method, 30, log, started, gate)
    work.pass_gate(started)
    program.kill()
    program.wait()
    work.open_gate(gate)  # its worker is an orphan that still runs this call, and stores it
    # The orphans end by themselves: only then is the pipe that they inherited closed.
    assert program.stdout.read() == ""
    program.stdout.close()
    before = stored(url)
    assert "call 10" in before
    assert output_of(start(url, method, 30, log)) == DONE
    ran = work.runs(log)
    assert sorted(map(int, ran)) == list(range(30))


def test_what_ran_in_a_killed_program_is_done_again_when_its_lease_has_run_out(url, log, started, gate):
    program = start(url, "fork", 0.5, log, started, gate)
    work.pass_gate(started)
    os.killpg(program.pid, signal.SIGKILL)
    program.communicate()
    before = stored(url)
    assert output_of(start(url, "fork", 0.5, log)) == DONE
    ran = list(map(int, work.runs(log)))
    assert set(ran) == set(range(30))
    assert ran.count(10) == 2
    assert all(ran.count(x) == 1 for x in range(30) if f"call {x}" in before)
    with connect(url) as backend:
        [row] = [row for row in backend.query() if row.task_id == "call 10"]
    assert row.attempt == 1


def test_two_programs_at_once_run_each_call_once(url, log):
    programs = [start(url, "fork", 30, log) for _ in range(2)]
    assert [output_of(program) for program in programs] == [DONE, DONE]
    assert sorted(map(int, work.runs(log))) == list(range(30))


def test_a_call_that_runs_elsewhere_is_waited_for(url, log, started, gate):
    with connect(url) as backend:
        backend.do_lease(["call"], "somebody", 100.0)
        backend.mark_as_started("call", pid=1)
        with Executor(lambda: ThreadPoolExecutor(1), url, lease=0.3) as executor:
            handle = executor.submit(work.logged, log, 1, key="call")
            assert executor.submit(work.double, 2).result(20) == 4
            assert not handle.done()
            backend.mark_as_done("call", "theirs")
            assert handle.result(20) == "theirs"
    assert work.runs(log) == []


def test_a_call_whose_holder_fails_is_tried_again_if_retries_are_left(url, log):
    with connect(url) as backend:
        backend.do_lease(["call"], "somebody", 100.0)
        backend.mark_as_started("call", pid=1)
        with Executor(lambda: ThreadPoolExecutor(1), url, lease=0.3, retries=1) as executor:
            handle = executor.submit(work.logged, log, 1, key="call")
            assert executor.submit(work.double, 2).result(20) == 4
            backend.mark_as_failure("call", ValueError())
            backend.do_lease(["call"], "somebody", 0)
            assert handle.result(20) == 2


def test_a_call_whose_holder_dies_meanwhile_is_taken_over(url, log):
    with connect(url) as backend:
        backend.do_lease(["call"], "somebody", 1.0)  # who will not extend it
        backend.mark_as_started("call", pid=1)
        with Executor(lambda: ThreadPoolExecutor(1), url, lease=0.3) as executor:
            handle = executor.submit(work.logged, log, 1, key="call")
            assert executor.submit(work.double, 2).result(20) == 4
            assert not handle.done()
            assert handle.result(20) == 2


def test_a_lease_lives_as_long_as_its_call(url, log, started, gate):
    lease = 0.2
    with Executor(lambda: ThreadPoolExecutor(1), url, lease=lease) as one:
        handle = one.submit(work.meet, log, started, gate, 1)
        work.pass_gate(started)
        with Executor(lambda: ThreadPoolExecutor(1), url, lease=lease) as other:
            second = other.submit(work.meet, log, started, gate, 1)
            assert not threading.Event().wait(4 * lease)  # the time that is the matter here
            work.open_gate(gate)
            assert (handle.result(20), second.result(20)) == (1, 1)
    assert work.runs(log) == ["1"]


def test_parked_calls_are_left_at_shutdown(url, log):
    with connect(url) as backend:
        backend.do_lease(["call"], "somebody", 100.0)
        executor = Executor(lambda: ThreadPoolExecutor(1), url, lease=0.3)
        handle = executor.submit(work.logged, log, 1, key="call")
        assert executor.submit(work.double, 2).result(20) == 4
        executor.shutdown(cancel_futures=True)
        assert handle.cancelled()
        assert backend.get_state("call") == "PENDING"
