"""Worker processes: forked and spawned, killed and starved."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

import settled
from settled import Executor
from settled.errors import ConfigurationError, TimeLimitExceeded, WorkerLost
from tests.executor import work
from tests.executor.conftest import process_pool


def test_calls_run_in_other_processes_and_are_read_from_the_store(processes, log):
    assert list(processes.map(work.logged, [log] * 30, range(30), timeout=60)) == list(range(0, 60, 2))
    assert sorted(map(int, work.runs(log))) == list(range(30))
    workers = {row.worker.rpartition(":")[2] for row in processes.backend.query()}
    assert str(os.getpid()) not in workers
    error = processes.submit(work.whole_traceback, 7).exception(30)
    assert error.__cause__.args == (7,)


def test_a_huge_value_crosses(processes):
    assert len(processes.submit(work.large, 5_000_000).result(60)) == 5_000_000


@pytest.mark.parametrize("fn", [lambda x: 1, work.Scaler(threading.Lock())], ids=["lambda", "argument"])
def test_what_cannot_be_pickled_fails_by_name_and_hangs_nothing(processes, fn):
    handle = processes.submit(fn, 1, key="call")
    with pytest.raises(ConfigurationError, match=r"(lambda|Scaler).* top level of a module"):
        handle.result(30)
    assert handle.state == "FAILURE"
    assert processes.submit(work.double, 1).result(30) == 2


class Unloadable:
    def __reduce__(self):
        return int, ("no number",)


def test_what_the_worker_cannot_load_fails_by_name_and_the_pool_lives(processes):
    handle = processes.submit(work.add, Unloadable(), key="call")
    with pytest.raises(
        ConfigurationError, match=r"work.add or its arguments cannot be loaded in worker .*no number"
    ):
        handle.result(30)
    assert processes.submit(work.add, 3, key="call").result(30) == 3  # mended, it is done again


def test_a_time_limit_interrupts_and_is_tried_again(processes):
    handle = processes.submit(work.spin, timeout=0.05, retries=1, key="spin")
    with pytest.raises(TimeLimitExceeded):
        handle.result(30)
    [row] = processes.backend.query()
    assert row.attempt == 1
    assert processes.submit(work.double, 1).result(30) == 2


@pytest.mark.parametrize("fn", [work.interrupt, work.leave])
def test_interrupts_and_exits_do_not_end_the_worker(processes, fn):
    args = (3,) if fn is work.leave else ()
    assert processes.submit(fn, *args).exception(30) is not None
    assert processes.submit(work.double, 1).result(30) == 2


def test_memory_is_refused_for_processes_before_anything_hangs():
    for inner in (ProcessPoolExecutor, process_pool("fork")):
        with pytest.raises(ConfigurationError, match="sqlite:///"):
            Executor(inner, "memory://").submit(work.double, 1)
    with ProcessPoolExecutor(1) as pool, pytest.raises(ConfigurationError, match="sqlite:///"):
        Executor(pool, "memory://")


def test_a_killed_worker_is_replaced_and_its_call_done_again(processes, tmp_path, log):
    handle = processes.submit(work.die_once, str(tmp_path / "died"))
    values = processes.map(work.logged, [log] * 30, range(30), timeout=60)
    assert list(values) == list(range(0, 60, 2))
    assert handle.result(60) == "lived"
    [row] = [row for row in processes.backend.query() if row.task_id == handle.id]
    assert row.attempt == 1


def test_a_call_that_kills_its_workers_is_given_up_and_takes_nobody_with_it(url, log, gate):
    with Executor(process_pool("fork"), url) as executor:
        victim = executor.submit(work.die, log)
        bystander = executor.submit(work.pass_gate, gate)
        with pytest.raises(WorkerLost, match=r"work.die was given up: 3 workers died"):
            victim.result(60)
        assert victim.state == "FAILURE"
        assert len(work.runs(log)) == 3
        assert not bystander.done()
        work.open_gate(gate)
        assert bystander.result(60) == "open"
    with Executor(process_pool("fork"), url) as executor, pytest.raises(WorkerLost):
        executor.submit(work.die, log).result(60)
    assert len(work.runs(log)) == 3


def test_a_pool_that_was_given_fails_what_it_had_and_says_how_to_go_on(url, log):
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool, Executor(pool, url) as executor:
        assert executor.submit(work.logged, log, 1).result(30) == 2
        lost = [executor.submit(work.die), executor.submit(work.logged, log, 2)]
        for handle in lost:
            with pytest.raises(WorkerLost, match="submit again"):
                handle.result(30)
        with pytest.raises(WorkerLost):
            executor.submit(work.double, 2).result(30)
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        assert list(executor.map(work.logged, [log] * 2, [1, 2])) == [2, 4]
    assert work.runs(log) == ["1", "2"]


def test_handles_that_end_without_a_record_are_completed_like_the_others(url, log):
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool, Executor(pool, url) as executor:
        lost = [executor.submit(work.die), executor.submit(work.logged, log, 2)]
        plain = executor.backend.app.AsyncResult("stored elsewhere")
        executor.backend.mark_as_done(plain.id, 3)
        assert list(settled.as_completed([plain])) == [plain]
        assert set(settled.as_completed([*lost, plain], timeout=60)) == {*lost, plain}


def broken_from_the_start():
    os._exit(1)


def test_a_pool_that_never_starts_is_given_up(url):
    context = multiprocessing.get_context("fork")
    make = lambda: ProcessPoolExecutor(1, context, initializer=broken_from_the_start)  # noqa: E731
    with Executor(make, url) as executor, pytest.raises(WorkerLost, match="initializer"):
        executor.submit(work.double, 1).result(60)


def test_a_handle_travels_as_a_result(url):
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        handle = executor.submit(work.double, 1)
        assert handle.result(30) == 2
        copy = pickle.loads(pickle.dumps(handle))
        assert type(copy) is settled.AsyncResult
        assert copy.get(10) == 2
        copy.backend.close()
