"""The standard library's contract, on threads."""

from __future__ import annotations

import concurrent.futures
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial

import pytest

import settled
from settled import Executor
from settled.executor import Handle
from tests.executor import work


def test_a_handle_is_a_future_and_a_result(threads):
    handle = threads.submit(work.add, 1, y=2)
    assert isinstance(handle, Future)
    assert isinstance(handle, Handle)
    assert handle.result(10) == handle.get(10) == 3
    assert handle.exception() is None
    assert (handle.state, handle.successful(), handle.done(), handle.running()) == (
        "SUCCESS",
        True,
        True,
        False,
    )


def test_wait_and_as_completed_accept_handles(threads):
    handles = [threads.submit(work.double, x) for x in range(20)]
    done, not_done = concurrent.futures.wait(handles, 20)
    assert (len(done), not_done) == (20, set())
    assert sorted(each.result() for each in concurrent.futures.as_completed(handles, 20)) == list(
        range(0, 40, 2)
    )


def test_wait_returns_at_the_first_exception(threads, gate):
    waiting = threads.submit(work.pass_gate, gate)
    failing = threads.submit(work.fail, 1)
    done, not_done = concurrent.futures.wait([waiting, failing], 20, concurrent.futures.FIRST_EXCEPTION)
    assert (done, not_done) == ({failing}, {waiting})
    work.open_gate(gate)
    assert waiting.result(20) == "open"


def test_two_handles_of_one_call_are_two_futures(threads, gate, log):
    first = threads.submit(work.announce_and_pass, log, gate, 1)
    second = threads.submit(work.announce_and_pass, log, gate, 1)
    assert first.id == second.id
    assert len({first, second}) == 2
    work.open_gate(gate)
    assert (first.result(20), second.result(20)) == (1, 1)
    assert work.runs(log) == ["1"]


def test_map_yields_in_order_and_shows_its_handles(threads):
    values = threads.map(work.add, range(50), range(50), timeout=20)
    assert len(values.handles) == 50
    assert list(values) == list(range(0, 100, 2))


def test_map_submits_at_once_and_raises_where_the_first_call_failed(threads):
    values = threads.map(lambda x: 1 // x, [1, 0, 1])
    concurrent.futures.wait(values.handles, 20)
    assert next(values) == 1
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_map_times_out(threads, gate):
    values = threads.map(work.pass_gate, [gate], timeout=0)
    with pytest.raises(TimeoutError):
        next(values)
    work.open_gate(gate)


def test_map_refuses_a_chunksize_of_nothing(threads):
    with pytest.raises(ValueError, match="chunksize"):
        threads.map(work.double, [1], chunksize=0)


def test_a_timeout_names_the_task_and_the_call_goes_on(threads, gate):
    handle = threads.submit(work.pass_gate, gate)
    for ask in (handle.result, handle.get, handle.exception):
        with pytest.raises(settled.TimeoutError, match=handle.id):
            ask(0)
    work.open_gate(gate)
    assert handle.result(20) == "open"


@pytest.mark.parametrize("timeout", [-1, "1"])
def test_get_refuses_what_is_no_timeout(threads, timeout):
    with pytest.raises(ValueError, match="timeout"):
        threads.submit(work.double, 1).get(timeout)


def test_a_calls_own_timeout_error_is_its_own(threads):
    def late():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        threads.submit(late).result(20)


def test_exceptions_come_back_whole(threads):
    handle = threads.submit(work.whole_traceback, 7)
    error = handle.exception(20)
    assert isinstance(error, LookupError)
    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.args == (7,)
    assert "in whole_traceback" in handle.traceback
    assert "executor/worker.py" not in handle.traceback
    assert isinstance(handle.get(propagate=False), LookupError)


def test_system_exit_is_a_failure_and_never_comes_out(threads):
    error = threads.submit(work.leave, 3).exception(20)
    assert isinstance(error, settled.RemoteError)
    assert error.exc_type == "SystemExit"


def test_a_value_that_cannot_be_stored_is_a_failure_that_names_it(threads):
    handle = threads.submit(work.unstorable)
    with pytest.raises(TypeError, match=r"result\['rows'\]\[1\]"):
        handle.result(20)
    assert handle.state == "FAILURE"


def test_a_huge_value_is_stored(threads):
    assert len(threads.submit(work.large, 5_000_000).result(60)) == 5_000_000


def test_callbacks_run_when_the_record_is_there(threads):
    seen = []
    told = threading.Event()

    def look(future):
        seen.append((future.result(), future.state))
        told.set()

    threads.submit(work.double, 4).add_done_callback(look)
    assert told.wait(20)
    assert seen == [(8, "SUCCESS")]


def test_then_tells_of_success_and_of_failure(threads):
    told = concurrent.futures.Future()
    threads.submit(work.fail, 5).then(lambda handle: None, on_error=told.set_result)
    assert isinstance(told.result(20).info, ValueError)
    told = concurrent.futures.Future()
    threads.submit(work.double, 5).then(told.set_result)
    assert told.result(20).get() == 10


def test_functions_with_keywords_of_ours_are_given_them_by_partial(threads):
    handle = threads.submit(partial(work.own_key, key="theirs"), 1, key="ours")
    assert (handle.id, handle.result(20)) == ("ours", [1, "theirs"])


def test_after_shutdown_nothing_is_taken(threads):
    threads.shutdown()
    for submit in (
        lambda: threads.submit(work.double, 1),
        lambda: threads.map(work.double, [1]),
        lambda: threads.group([settled.call(work.double, 1)]),
        lambda: threads.chord([], settled.call(work.total)),
    ):
        with pytest.raises(RuntimeError, match="after shutdown"):
            submit()


def test_shutdown_waits_for_the_calls_and_leaves_a_given_pool_alone():
    with ThreadPoolExecutor(1) as pool:
        executor = Executor(pool, "memory://")
        handle = executor.submit(work.double, 1)
        executor.shutdown()
        assert handle.done()
        assert pool.submit(work.double, 2).result(20) == 4


def test_shutdown_without_waiting_lets_the_calls_finish(gate):
    made = []

    def make():
        made.append(ThreadPoolExecutor(1))
        return made[0]

    executor = Executor(make, "memory://")
    handle = executor.submit(work.pass_gate, gate)
    queued = executor.submit(work.double, 3)
    executor.shutdown(wait=False)
    work.open_gate(gate)
    assert (handle.result(20), queued.result(20)) == ("open", 6)
    executor.shutdown(wait=True)
    with pytest.raises(RuntimeError):
        made[0].submit(work.double, 1)


def test_shutdown_can_leave_what_has_not_started(url, gate):
    executor = Executor(lambda: ThreadPoolExecutor(1), url)
    running = executor.submit(work.pass_gate, gate)
    left = [executor.submit(work.double, x) for x in range(5)]
    executor.shutdown(wait=False, cancel_futures=True)
    work.open_gate(gate)
    assert running.result(20) == "open"
    for handle in left:
        with pytest.raises(CancelledError):
            handle.result(20)
        assert handle.state == "PENDING"
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        assert list(executor.map(work.double, range(5))) == [0, 2, 4, 6, 8]


def test_leaving_by_ctrl_c_starts_nothing_more(gate):
    queued = None

    def leave():
        nonlocal queued
        with Executor(lambda: ThreadPoolExecutor(1), "memory://") as executor:
            executor.submit(work.pass_gate, gate)
            queued = executor.submit(work.double, 1)
            threading.Timer(0, work.open_gate, (gate,)).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert queued.done()


def test_ten_thousand_calls_in_flight_need_no_threads(gate):
    with Executor(lambda: ThreadPoolExecutor(2), "memory://") as executor:
        before = threading.active_count()
        blocked = executor.submit(work.pass_gate, gate)
        handles = [executor.submit(work.double, x) for x in range(10_000)]
        assert threading.active_count() <= before + 4
        work.open_gate(gate)
        assert blocked.result(20) == "open"
        assert [handle.result(60) for handle in handles[:3]] == [0, 2, 4]
        executor.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Executor(3, "memory://"), "not 3"),
        (lambda: Executor(ThreadPoolExecutor, 3), "backend must be"),
        (lambda: Executor(ThreadPoolExecutor, "memory://", retries=-1), "retries"),
        (lambda: Executor(ThreadPoolExecutor, "memory://", lease=0), "lease"),
        (lambda: Executor(lambda: 3, "memory://").submit(work.double, 1), "no submit"),
        (lambda: Executor(ThreadPoolExecutor, "memory://").submit(3), "nothing to call"),
        (lambda: Executor(ThreadPoolExecutor, "memory://").submit(work.double, 1, timeout=0), "timeout"),
        (lambda: Executor(ThreadPoolExecutor, "memory://").submit(work.double, 1, timeout="1"), "timeout"),
        (lambda: Executor(ThreadPoolExecutor, "memory://").submit(work.double, 1, expires=-1), "expires"),
        (lambda: Executor(ThreadPoolExecutor, "memory://").submit(work.double, 1, key=""), "key is empty"),
        (lambda: Executor(ThreadPoolExecutor, "memory://").submit(work.double, threading.Lock()), "key="),
    ],
)
def test_what_cannot_work_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_given_pool_that_is_shut_down_refuses_as_it_does():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with Executor(pool, "memory://") as executor:
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(work.double, 1)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(work.double, 1)


def test_what_the_owner_of_the_pool_cancels_is_cancelled_and_left(gate):
    pool = ThreadPoolExecutor(1)
    with Executor(pool, "memory://") as executor:
        running = executor.submit(work.pass_gate, gate)
        queued = executor.submit(work.double, 1)
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(CancelledError):
            queued.result(20)
        assert queued.state == "PENDING"
        work.open_gate(gate)
        assert running.result(20) == "open"


def test_leaving_a_map_leaves_what_has_not_started_undone(url, gate, log):
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        values = executor.map(work.announce_and_pass, [log] * 3, [gate] * 3, [1, 2, 3], timeout=20)
        work.open_gate(gate)
        assert next(values) == 1
        values.close()
        left = values.handles[2]
        assert left.cancelled()
        assert left.state == "PENDING"
        if not values.handles[1].cancelled():
            work.open_gate(gate)


def test_a_record_that_cannot_be_read_fails_its_own_call_alone(threads):
    from settled.record import Settle

    threads.backend.do_settle(Settle("damaged", "SUCCESS", b"\x00nothing"))
    with pytest.raises(settled.errors.DecodeError, match="damaged"):
        threads.submit(work.double, 1, key="damaged").result(20)
    assert threads.submit(work.double, 1).result(20) == 2
