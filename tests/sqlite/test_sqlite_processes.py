"""Many processes on one file: none is told that it is locked, none loses what it was told is stored."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import threading
import time

import pytest

from settled.record import Chord, Claim, Part, Settle
from tests.sqlite.conftest import backend_at

PAYLOAD = b'{"status": "SUCCESS", "result": "%s"}' % (b"x" * 400)


def _settle_many(path, name, count, barrier):
    backend = backend_at(path, busy_timeout=30)
    barrier.wait(60)
    for number in range(count):
        assert backend.do_settle(Settle(f"{name}-{number}", "STARTED", b"{}"))
        assert backend.do_settle(Settle(f"{name}-{number}", "SUCCESS", PAYLOAD, expires=3600))
    backend.close()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_eight_processes_write_at_once_and_no_write_is_lost(path, backend, raw, method):
    backend.do_settle(Settle("before", "SUCCESS", PAYLOAD))
    context = multiprocessing.get_context(method)
    barrier = context.Barrier(8)
    processes = [context.Process(target=_settle_many, args=(path, n, 150, barrier)) for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * 8
    assert raw("SELECT state, count(*) FROM settled_task GROUP BY state") == [("SUCCESS", 8 * 150 + 1)]
    assert raw("PRAGMA integrity_check") == [("ok",)]


def _settle_parts(path, group_id, members, ready):
    backend = backend_at(path, busy_timeout=30)
    ready.set()
    for number, task_id in enumerate(members):
        claim = Claim(f"{os.getpid()}-{number}", 60.0)
        backend.do_settle(Settle(task_id, "SUCCESS", PAYLOAD, part=Part(group_id), claim=claim))
    backend.close()


def test_sigkill_at_any_moment_leaves_record_part_and_counter_as_one(path, backend, raw):
    context = multiprocessing.get_context("spawn")
    chance = random.Random(7)
    stored = 0
    for turn in range(8):
        group_id = f"g{turn}"
        members = tuple(f"{group_id}-{number}" for number in range(3000))
        backend.do_open_chord(Chord(group_id, members, b"", f"body{turn}"), None)
        ready = context.Event()
        process = context.Process(target=_settle_parts, args=(path, group_id, members, ready))
        process.start()
        assert ready.wait(60)
        time.sleep(chance.uniform(0.0, 0.1))  # the random moment
        process.kill()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        _check(raw, group_id)
        stored += raw("SELECT counted FROM settled_chord WHERE group_id = ?", group_id)[0][0]
        _settle_the_rest(backend, group_id, members)
    assert stored > 0


def _check(raw, group_id):
    disagreeing = raw(
        "SELECT count(*) FROM settled_part AS part LEFT JOIN settled_task AS task USING (task_id)"
        " WHERE part.group_id = ? AND part.state IS NOT task.state",
        group_id,
    )
    assert disagreeing == [(0,)]
    [(counted, size, parts)] = raw(
        "SELECT counted, size, (SELECT count(state) FROM settled_part AS p WHERE p.group_id = chord.group_id)"
        " FROM settled_chord AS chord WHERE group_id = ?",
        group_id,
    )
    assert counted == parts <= size


def _settle_the_rest(backend, group_id, members):
    """Whoever comes next finds the chord to be as far as its records are, and is the one to complete it."""
    before = backend.do_read_chord(group_id)
    rest = [task_id for task_id, state in zip(members, before.parts, strict=True) if state is None][:2]
    for task_id in rest:
        backend.do_settle(Settle(task_id, "FAILURE", b"{}", part=Part(group_id)))
    assert backend.do_read_chord(group_id).counted == before.counted + len(rest)


def _claim_it(path, task_id, barrier, results):
    backend = backend_at(path, busy_timeout=30)
    barrier.wait(60)
    write = Settle(task_id, "SUCCESS", b"{}", part=Part("g"), claim=Claim(task_id, 60.0))
    results.put(backend.do_settle(write).claimed)
    backend.close()


def test_of_processes_that_settle_the_last_parts_together_one_gets_the_claim(path, backend):
    context = multiprocessing.get_context("fork")
    members = ("t0", "t1", "t2", "t3")
    for _ in range(5):
        backend.do_forget(members)
        backend.do_delete_chord("g")
        backend.do_open_chord(Chord("g", members, b"", "body"), None)
        barrier, results = context.Barrier(4), context.Queue()
        processes = [
            context.Process(target=_claim_it, args=(path, each, barrier, results)) for each in members
        ]
        for process in processes:
            process.start()
        claims = [results.get(timeout=60) for _ in processes]
        for process in processes:
            process.join(60)
        assert sorted(claims) == [False, False, False, True]


# -- forks ---------------------------------------------------------------------------------------


def _in_child(work) -> int:
    """Run `work` in a forked child that ends without any clearing up; its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_and_its_parent_both_go_on(backend):
    backend.do_settle(Settle("parent", "SUCCESS", b"{}"))
    backend.do_read(["parent"])

    def child() -> None:
        assert backend.do_read(["parent"]) == {"parent": "{}"}
        for number in range(50):
            assert backend.do_settle(Settle(f"child-{number}", "SUCCESS", b"{}"))

    children = [_in_child(child)]
    for number in range(50):
        assert backend.do_settle(Settle(f"parent-{number}", "SUCCESS", b"{}"))
    assert [_ended(pid) for pid in children] == [0]
    assert len(backend.do_read([f"{who}-{n}" for who in ("parent", "child") for n in range(50)])) == 100


def test_what_a_child_stores_after_its_parent_has_closed_is_not_lost(path, backend, raw):
    """A child that leant on inherited locks would hold none, and lose its log to the last to close."""
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    stored, closed = multiprocessing.Event(), multiprocessing.Event()

    def child() -> None:
        backend.do_settle(Settle("b", "SUCCESS", b"{}"))
        stored.set()
        assert closed.wait(60)
        backend.do_settle(Settle("c", "SUCCESS", b"{}"))
        # No close: what is in the log now has to be found there by whoever opens the file next.

    pid = _in_child(child)
    assert stored.wait(60)
    backend.do_close()
    other = backend_at(path)
    assert set(other.do_read(["a", "b"])) == {"a", "b"}
    other.close()
    closed.set()
    assert _ended(pid) == 0
    assert raw("SELECT task_id FROM settled_task ORDER BY seq") == [("a",), ("b",), ("c",)]


def test_a_child_that_does_nothing_disturbs_nobody(path, backend):
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    process = multiprocessing.get_context("fork").Process()  # which runs nothing
    process.start()
    process.join(60)
    assert path.with_name("results.db-wal").exists()
    other = backend_at(path)
    assert other.do_read(["a"])
    other.close()
    assert path.with_name("results.db-wal").exists()
    assert backend.do_settle(Settle("b", "SUCCESS", b"{}"))


def test_a_fork_while_other_threads_read_and_write(backend):
    stop = threading.Event()

    def work(name: str) -> None:
        number = 0
        while not stop.is_set():
            assert backend.do_settle(Settle(f"{name}-{number}", "SUCCESS", PAYLOAD))
            assert backend.do_read([f"{name}-{number}", "other"])
            number += 1

    threads = [threading.Thread(target=work, args=(f"thread{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for number in range(15):
        assert (
            _ended(_in_child(lambda n=number: backend.do_settle(Settle(f"child-{n}", "SUCCESS", b"{}")))) == 0
        )
    stop.set()
    for thread in threads:
        thread.join(60)
    assert len(backend.do_read([f"child-{number}" for number in range(15)])) == 15


def test_a_fork_that_gives_no_notice_leaves_the_parents_connections_alone(backend):
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    backend.do_read(["a"])
    pid = ctypes.PyDLL(None).fork()  # as a server written in C does it
    if not pid:
        code = 1
        try:
            backend.call(backend.do_settle, Settle("b", "SUCCESS", b"{}"))
            code = 0
        finally:
            os._exit(code)
    assert _ended(pid) == 0
    assert backend.do_settle(Settle("c", "SUCCESS", b"{}"))
    assert set(backend.do_read(["a", "b", "c"])) == {"a", "b", "c"}
