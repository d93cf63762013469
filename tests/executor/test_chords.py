"""Groups and chords of calls."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial

import msgspec
import pytest

import settled
from settled import Executor, call
from settled.errors import ChordError, ConfigurationError
from settled.executor.bodies import Bodies
from tests.executor import work
from tests.executor.conftest import process_pool
from tests.servers import until


def test_a_group_keeps_its_order_and_may_be_nested(threads):
    group = threads.group(
        [call(work.double, 1), [call(work.double, 2), call(work.double, 3)], call(work.double, 1)]
    )
    assert isinstance(group, settled.GroupResult)
    assert group.join(timeout=20) == [2, [4, 6], 2]
    assert group.completed_count() == 4
    assert (
        group.id
        == threads.group(
            [call(work.double, 1), [call(work.double, 2), call(work.double, 3)], call(work.double, 1)]
        ).id
    )
    group.save()
    assert settled.GroupResult.restore(group.id, threads.backend).join(timeout=20) == [2, [4, 6], 2]


def test_the_body_gets_the_values_in_order_before_its_own_arguments(threads):
    body = threads.chord([call(work.double, x) for x in range(5)], call(work.weighted, 10, offset=1))
    assert body.result(20) == 10 * 20 + 1
    assert body.parent.join(timeout=20) == [0, 2, 4, 6, 8]


def test_an_empty_header_runs_the_body(threads):
    assert threads.chord([], call(work.total)).result(20) == 0


def test_in_processes_the_body_runs_as_soon_as_the_header_is_done(processes, log):
    body = processes.chord([call(work.logged, log, x) for x in range(20)], call(work.total))
    assert body.result(60) == 380
    again = processes.chord([call(work.logged, log, x) for x in range(20)], call(work.total))
    assert (again.id, again.result(60)) == (body.id, 380)
    assert len(work.runs(log)) == 20


def count_and_sum(path):
    def body(values):
        work.logged(path, "body")
        return sum(values)

    return body


def test_run_again_a_finished_chord_does_nothing_but_what_is_asked(url, tmp_path, log):
    bodies = str(tmp_path / "bodies")
    calls = [call(work.logged, log, x) for x in range(5)]
    for rerun, expected in ((False, 1), (False, 1), (True, 2), (True, 3)):
        with Executor(lambda: ThreadPoolExecutor(2), url) as executor:
            body = executor.chord(calls, call(count_and_sum(bodies)), rerun_body=rerun)
            assert body.result(20) == 20
            assert len(work.runs(bodies)) == expected
    with Executor(lambda: ThreadPoolExecutor(2), url) as executor:
        assert executor.chord(calls, call(count_and_sum(bodies), key=None)).result(20) == 20
    assert len(work.runs(bodies)) == 4
    assert len(work.runs(log)) == 5


def test_the_same_chord_submitted_twice_at_once_is_one(url, gate, log):
    with Executor(lambda: ThreadPoolExecutor(2), url) as executor:
        calls = [call(work.announce_and_pass, log, gate, 1), call(work.double, 2)]
        first, second = (executor.chord(calls, call(work.total)) for _ in range(2))
        work.open_gate(gate)
        assert first.result(20) == second.result(20) == 5
        assert first.id == second.id
    assert work.runs(log) == ["1"]


def test_a_member_that_was_under_way_before_its_chord_is_counted(threads, gate, log):
    member = threads.submit(work.announce_and_pass, log, gate, 1)
    body = threads.chord([call(work.announce_and_pass, log, gate, 1), call(work.double, 1)], call(work.total))
    work.open_gate(gate)
    assert body.result(20) == 3
    assert member.result(20) == 1


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_failure_policies(pool, url, gate):
    make = process_pool("fork") if pool == "processes" else lambda: ThreadPoolExecutor(2)
    calls = [call(work.fail, "no"), call(work.double, 1)]
    with Executor(make, url) as executor:
        outcomes = executor.chord(calls, call(work.states), on_failure="outcomes")
        assert outcomes.result(30) == ["FAILURE", "SUCCESS"]
        with pytest.raises(ChordError, match=r"raised ValueError\('no'\)"):
            executor.chord(calls, call(work.total), on_failure="all").result(30)
        first = executor.chord([*calls, call(work.pass_gate, gate)], call(work.total), on_failure="first")
        with pytest.raises(ChordError):
            first.result(30)
        assert not first.parent.results[2].done()
        work.open_gate(gate)
        with pytest.raises(ConfigurationError, match="'outcomes'"):
            executor.chord(calls, call(work.total), on_failure="perhaps")


def fail_whole(body):
    """Until the body has failed and its header has ended: a call that is under way would be joined, not redone."""
    with pytest.raises(ChordError):
        body.result(20)
    for member in body.parent.results:
        member.exception(20)


def test_more_retries_redo_the_failed_members_and_then_the_body(url, log):
    def calls(retries):
        return [call(work.fail_until, log, 2, retries=retries), call(work.double, 1)]

    with Executor(lambda: ThreadPoolExecutor(2), url, backoff=work.no_pause) as executor:
        fail_whole(executor.chord(calls(0), call(work.total)))
        fail_whole(executor.chord(calls(0), call(work.total)))
        assert executor.chord(calls(5), call(work.total)).result(20) == 3 + 2
    assert len(work.runs(log)) == 3


def test_the_end_of_an_earlier_submission_takes_nothing_from_a_later_one(url, log, monkeypatch):
    """Whoever waits for a body is woken before its handle's callbacks run: they may come after its next one."""
    late: list[Callable[[], None]] = []
    add, remove = Bodies.add, Bodies.remove

    def add_and_be_overtaken(*args):
        add(*args)
        for each in late:
            each()

    monkeypatch.setattr(Bodies, "add", add_and_be_overtaken)
    monkeypatch.setattr(Bodies, "remove", lambda *args: late.append(partial(remove, *args)))
    with Executor(lambda: ThreadPoolExecutor(2), url, backoff=work.no_pause) as executor:
        fail_whole(executor.chord([call(work.fail_until, log, 1)], call(work.total)))
        assert executor.chord([call(work.fail_until, log, 1, retries=1)], call(work.total)).result(20) == 2
    assert late


def test_a_chord_that_was_left_is_completed_by_the_next_run(url, gate, log):
    calls = [call(work.logged, log, 1), call(work.announce_and_pass, log, gate, 2), call(work.logged, log, 3)]
    executor = Executor(lambda: ThreadPoolExecutor(1), url)
    body = executor.chord(calls, call(work.states), on_failure="outcomes")
    assert body.parent.results[0].result(20) == 2
    until(lambda: "2" in work.runs(log), 20, "the second call")  # else it would be cancelled as well
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        body.result(20)
    work.open_gate(gate)
    executor.shutdown()
    assert body.state == "PENDING"
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        body = executor.chord(calls, call(work.states), on_failure="outcomes")
        assert body.result(20) == ["SUCCESS"] * 3
    assert work.runs(log) == ["1", "2", "3"]


def test_a_member_that_is_lost_for_good_ends_the_wait_for_the_body(url):
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool, Executor(pool, url) as executor:
        body = executor.chord([call(work.die), call(work.double, 1)], call(work.total))
        with pytest.raises(ChordError, match="not settled here"):
            body.result(30)
        assert body.state == "PENDING"


def test_a_cancelled_body_does_not_run(url, gate, log):
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        body = executor.chord([call(work.pass_gate, gate)], call(work.logged, log))
        assert body.cancel()
        work.open_gate(gate)
        assert body.parent.join(timeout=20) == ["open"]
    assert work.runs(log) == []


def test_nothing_is_run_because_the_store_names_it(url, log):
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        executor.chord([call(work.double, 1)], call(work.total)).result(20)
        executor.backend.mark_as_done("member", 1)
        signature = {
            "task": "tests.executor.work.die",
            "args": [],
            "kwargs": {},
            "options": {"task_id": "body"},
        }
        executor.backend.open_chord("planted", ["member"], signature)
        assert executor.backend.sweep() == 0
        assert executor.backend.get_state("body") == "PENDING"


def test_an_app_that_sends_tasks_of_its_own_still_does(url):
    sent = []
    app = settled.App(
        url, send=lambda signature, args, task_id: sent.append((signature["task"], args, task_id))
    )
    with Executor(lambda: ThreadPoolExecutor(1), app) as executor:
        assert executor.chord([call(work.double, 1)], call(work.total)).result(20) == 2
        app.backend.mark_as_done("member", 1)
        app.backend.open_chord(
            "theirs", ["member"], {"task": "their.task", "options": {"task_id": "their-body"}}
        )
        assert sent == [("their.task", ([1],), "their-body")]
    app.backend.close()


@pytest.mark.parametrize("state", ["STARTED", "RETRY", "PENDING"])
def test_a_body_whose_program_died_is_done_again(url, tmp_path, state):
    bodies = str(tmp_path / "bodies")
    chord = [call(work.double, 1)], call(count_and_sum(bodies))
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        body = executor.chord(*chord)
        assert body.result(20) == 2
        executor.backend.forget(body.id)  # the barrier is done and stays so
        executor.backend.store_result(body.id, None if state != "RETRY" else ValueError(), state)
    with Executor(lambda: ThreadPoolExecutor(1), url) as executor:
        assert executor.chord(*chord).result(20) == 2
    assert len(work.runs(bodies)) == 2


def test_a_chord_on_an_engine_that_cannot_count(tmp_path):
    from settled.backends.memory import MemoryBackend

    class Uncounted(MemoryBackend):
        capabilities = msgspec.structs.replace(MemoryBackend.capabilities, chords=False, leases=False)

    app = settled.App("memory://")
    with Executor(lambda: ThreadPoolExecutor(2), Uncounted(app)) as executor:
        assert executor.chord([call(work.double, 1)], call(work.total)).result(20) == 2
        failing = executor.chord([call(work.fail, 1)], call(work.total))
        with pytest.raises(ChordError):
            failing.result(20)


def test_a_body_that_fails_by_itself_is_a_stored_failure(url, log):
    for retries in (0, 0, 1):
        with Executor(lambda: ThreadPoolExecutor(1), url, backoff=work.no_pause) as executor:

            def body(values):
                work.logged(log, "body")
                raise LookupError("mine")

            with pytest.raises(LookupError, match="mine"):
                executor.chord([call(work.double, 1)], call(body, key="body", retries=retries)).result(20)
    assert len(work.runs(log)) == 3


def test_a_member_that_somebody_else_runs_is_waited_for(url, log):
    with settled.connect(url) as backend, Executor(lambda: ThreadPoolExecutor(1), url, lease=0.5) as executor:
        backend.do_lease(["theirs"], "somebody", 100.0)
        body = executor.chord(
            [call(work.double, 1), call(work.logged, log, 5, key="theirs")], call(work.total)
        )
        assert body.parent.results[0].result(20) == 2
        backend.mark_as_done("theirs", 40)
        assert body.result(20) == 42
    assert work.runs(log) == []
