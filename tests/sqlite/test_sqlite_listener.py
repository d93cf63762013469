"""Listeners: every ready write is told, from any process, soon; and nothing is done while nothing happens."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from settled.backends.sqlite import inotify, listener
from settled.backends.sqlite.listener import NotifiedListener, PollingListener
from settled.errors import StoreUnavailable
from settled.record import Settle
from tests.sqlite.conftest import backend_at

ENOUGH = 60.0

needs_inotify = pytest.mark.skipif(not inotify.available(), reason="there is no inotify here")


def done(task_id: str, state: str = "SUCCESS") -> Settle:
    return Settle(task_id, state, b"{}")


@pytest.fixture(params=[pytest.param("auto", marks=needs_inotify), "poll"])
def push(request):
    return request.param


@pytest.fixture
def listening(opened, push):
    """A listener of each kind, and the backend that it is of."""
    backend = opened(push=push)
    found = backend.do_listen()
    assert isinstance(found, NotifiedListener if push == "auto" else PollingListener)
    yield found
    found.close()


def heard(listening, wanted: set[str]) -> set[str]:
    """What is told until all of `wanted` was, each of it once."""
    told: list[str] = []
    deadline = time.monotonic() + ENOUGH
    while not wanted <= set(told) and time.monotonic() < deadline:
        told += listening.wait(deadline - time.monotonic())
    assert len(told) == len(set(told))
    return set(told)


def test_what_is_ready_is_told_and_nothing_else(listening, backend):
    backend.do_settle(done("started", "STARTED"))
    backend.do_settle(done("a"))
    backend.do_settle(done("b", "FAILURE"))
    backend.do_settle(done("retried", "RETRY"))
    assert heard(listening, {"a", "b"}) == {"a", "b"}
    assert list(listening.wait(0)) == []


def test_what_was_ready_before_is_not_told(backend, opened, push):
    backend.do_settle(done("before"))
    listening = opened(push=push).do_listen()
    backend.do_settle(done("after"))
    assert heard(listening, {"after"}) == {"after"}
    listening.close()


def test_a_task_that_becomes_ready_again_is_told_again(listening, backend):
    backend.do_settle(done("a", "FAILURE"))
    assert heard(listening, {"a"}) == {"a"}
    backend.do_settle(done("a", "SUCCESS"))
    assert heard(listening, {"a"}) == {"a"}


def test_a_write_of_this_process_wakes_a_thread_that_waits(listening, backend):
    with ThreadPoolExecutor() as executor:
        waiting = executor.submit(listening.wait, ENOUGH)
        backend.do_settle(done("a"))
        assert set(waiting.result()) == {"a"}


def test_wake_ends_a_wait_before_and_while_it_waits(listening):
    listening.wake()
    assert list(listening.wait(ENOUGH)) == []
    with ThreadPoolExecutor() as executor:
        waiting = executor.submit(listening.wait, ENOUGH)
        listening.wake()
        assert list(waiting.result()) == []


def test_a_wait_lasts_as_long_as_it_may(listening):
    begun = time.monotonic()
    assert list(listening.wait(0.05)) == []
    assert time.monotonic() - begun >= 0.05
    assert list(listening.wait(0)) == []


def _settle_on_command(path, commands, options):
    backend = backend_at(path, **options)
    while (task_id := commands.recv()) is not None:
        backend.do_settle(done(task_id))
    backend.close()


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_a_write_of_another_process_is_told(path, listening, durability):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_settle_on_command, args=(path, theirs, {"durability": durability})
    )
    process.start()
    for number in range(30):
        ours.send(f"t{number}")
        assert heard(listening, {f"t{number}"}) == {f"t{number}"}
    ours.send(None)
    process.join(60)


def _settle_many(path, name, count):
    backend = backend_at(path, busy_timeout=30)
    for number in range(count):
        backend.do_settle(done(f"{name}-{number}", "STARTED"))
        backend.do_settle(done(f"{name}-{number}"))
    backend.close()


def test_nothing_is_missed_while_processes_come_write_and_go(path, listening):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_settle_many, args=(path, n, 300)) for n in range(3)]
    for process in processes:
        process.start()
    wanted = {f"{n}-{number}" for n in range(3) for number in range(300)}
    assert heard(listening, wanted) == wanted
    for process in processes:
        process.join(60)


def test_more_than_a_batch_is_told_in_several(listening, backend, monkeypatch):
    monkeypatch.setattr(listener, "BATCH", 7)
    for number in range(20):
        backend.do_settle(done(f"t{number}"))
    assert [len(listening.wait(0)) for _ in range(4)] == [7, 7, 6, 0]


def test_a_transaction_that_is_long_in_the_log_before_it_is_committed(listening, raw):
    """Its first pages are a sign of writing, after which there is nothing to be seen yet."""
    raw("PRAGMA cache_size = 5")
    raw("PRAGMA cache_spill = 1")
    raw("BEGIN IMMEDIATE")
    insert = (
        "INSERT INTO settled_task (task_id, state, attempt, created, updated, done, size, record)"
        " VALUES (?, 'SUCCESS', 0, 1, 1, 1, 0, zeroblob(20000))"
    )
    with ThreadPoolExecutor() as executor:
        waiting = executor.submit(heard, listening, {f"t{number}" for number in range(50)})
        for number in range(50):
            raw(insert, f"t{number}")
        assert not waiting.done()
        raw("COMMIT")
        assert len(waiting.result()) == 50


def test_the_store_may_be_closed_and_its_log_deleted_meanwhile(path, opened, push):
    backend = opened(push=push)
    listening = backend.do_listen()
    for number in range(3):
        backend.do_close()
        assert not path.with_name("results.db-wal").exists()
        with ThreadPoolExecutor() as executor:
            waiting = executor.submit(heard, listening, {f"t{number}"})
            other = backend_at(path)
            other.do_settle(done(f"t{number}"))
            other.close()
            assert waiting.result() == {f"t{number}"}
    listening.close()


@needs_inotify
def test_a_new_log_is_watched_in_place_of_the_deleted_one(path, backend, monkeypatch):
    listening = backend.do_listen()
    read_on, looked = listening.ids, threading.Event()
    backend.do_close()
    listening.wait(1.0)  # opens the store, which makes the log anew, and watches that

    def ids() -> object:
        found = read_on()
        looked.set()
        return found

    monkeypatch.setattr(listening, "ids", ids)
    other = backend_at(path)
    other.do_read(["any"])
    with ThreadPoolExecutor() as executor:
        waiting = executor.submit(listening.wait, 20.0)
        assert looked.wait(ENOUGH)
        begun = time.monotonic()
        other.do_settle(done("a"))
        assert waiting.result() == {"a"}
        assert time.monotonic() - begun < 20.0
    other.close()
    listening.close()


def test_a_listener_says_so_when_the_file_was_replaced(path, opened, push, caplog):
    """Its place in the old file means nothing in the new one: who waits has to read everything again."""
    backend = opened(push=push)
    for number in range(10):
        backend.do_settle(done(f"t{number}"))
    listening = backend.do_listen()
    for name in ("results.db", "results.db-wal", "results.db-shm"):
        path.with_name(name).unlink()
    other = backend_at(path)
    other.do_settle(done("a"))
    with pytest.raises(StoreUnavailable, match=r"results\.db was replaced"):
        heard(listening, {"never"})
    listening.close()
    listening = backend.do_listen()
    other.do_settle(done("b"))
    assert heard(listening, {"b"}) == {"b"}
    listening.close()
    other.close()
    assert "deleted or replaced" in caplog.text


def test_a_closed_listener_may_be_woken_and_closed_again(listening):
    listening.close()
    listening.wake()
    listening.close()


@needs_inotify
def test_a_quiet_store_is_not_read(backend, monkeypatch):
    backend.do_settle(done("a"))
    looks = []
    listening = backend.do_listen()
    monkeypatch.setattr(listening, "ids", lambda: looks.append(1) or ())
    listening.wait(1.0)
    after_a_sign = len(looks)
    listening.wait(1.0)
    assert after_a_sign < 30
    assert len(looks) - after_a_sign <= 2
    listening.close()


@needs_inotify
def test_without_inotify_to_be_had_it_polls(backend, monkeypatch):
    def refuse(self: object) -> None:
        raise OSError(24, "Too many open files", "inotify_init1")

    monkeypatch.setattr(inotify.Inotify, "__init__", refuse)
    listening = backend.do_listen()
    assert isinstance(listening, PollingListener)
    backend.do_settle(done("a"))
    assert heard(listening, {"a"}) == {"a"}


@needs_inotify
def test_a_closed_listener_leaves_no_descriptor(backend):
    backend.do_listen().close()
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        backend.do_listen().close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_many_listeners_hear_the_same(path, opened, backend, push):
    listeners = [opened(push=push).do_listen() for _ in range(4)]
    go = threading.Barrier(5)

    def hear(listening) -> set[str]:
        go.wait(ENOUGH)
        return heard(listening, {f"t{number}" for number in range(100)})

    with ThreadPoolExecutor() as executor:
        waiting = [executor.submit(hear, listening) for listening in listeners]
        go.wait(ENOUGH)
        for number in range(100):
            backend.do_settle(done(f"t{number}"))
        assert all(len(future.result()) == 100 for future in waiting)
    for listening in listeners:
        listening.close()
