"""Connections: few for many threads, none left behind, and gevent may switch while a store is busy."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import apsw
import pytest

from settled.backends.sqlite import checkpoints, store
from settled.backends.sqlite.pool import Pool
from settled.record import Settle
from tests.sqlite.conftest import backend_at

THREADS = 200


def write(number: int) -> Settle:
    return Settle(f"t{number}", "SUCCESS", b'{"n": %d}' % number)


def connections_to(path) -> int:
    return sum(db.filename == str(path) for db in apsw.connections())


def test_two_hundred_threads_share_a_handful_of_connections(path, opened):
    backend = opened(readers=3)
    together = threading.Barrier(THREADS)

    def work(number: int) -> bool:
        together.wait(60)
        done = [backend.do_settle(write(number * 10 + n)).landed for n in range(5)]
        return all(done) and set(backend.do_read([f"t{number * 10 + n}" for n in range(5)])) != set()

    with ThreadPoolExecutor(THREADS) as executor:
        assert all(executor.map(work, range(THREADS)))
    assert connections_to(path) <= 1 + 3


def test_a_thread_that_finds_all_readers_in_use_waits_for_one(opened):
    backend = opened(readers=1)
    backend.do_settle(write(1))
    inside, go_on = threading.Event(), threading.Event()

    def slow(db: apsw.Connection) -> bool:
        inside.set()
        return go_on.wait(30)

    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(backend._store.read, slow)
        assert inside.wait(30)
        second = executor.submit(backend.do_read, ["t1"])
        while not backend._store._pool._waiting:
            assert not second.done()
        go_on.set()
        assert first.result(30)
        assert second.result(30) == {"t1": '{"n": 1}'}


def test_close_leaves_no_connection_and_the_next_call_opens_one(path, backend):
    backend.do_close()
    backend.do_settle(write(1))
    backend.do_read(["t1"])
    assert connections_to(path) == 2
    backend.do_close()
    backend.do_close()
    assert connections_to(path) == 0
    assert not path.with_name("results.db-wal").exists()
    assert backend.do_read(["t1"]) == {"t1": '{"n": 1}'}


def test_close_waits_for_what_is_running_and_lets_others_go_on(backend):
    backend.do_settle(write(1))
    inside, go_on = threading.Event(), threading.Event()

    def slow(db: apsw.Connection) -> int:
        inside.set()
        assert go_on.wait(30)
        return len(db.execute("SELECT 1").fetchall())

    with ThreadPoolExecutor(2) as executor:
        reading = executor.submit(backend._store.read, slow)
        assert inside.wait(30)
        closing = executor.submit(backend.do_close)
        assert not closing.done()
        go_on.set()
        assert reading.result(30) == 1
        closing.result(30)
    assert backend.do_settle(write(2))


def test_close_while_many_threads_work_loses_nothing(backend):
    stop = threading.Event()

    def work(first: int) -> list[int]:
        done = []
        while not stop.is_set():
            number = first + len(done)
            assert backend.do_settle(write(number))
            assert backend.do_read([f"t{number}"])
            done.append(number)
        return done

    with ThreadPoolExecutor(4) as executor:
        running = [executor.submit(work, thread * 1_000_000) for thread in range(4)]
        for _ in range(30):
            backend.do_close()
        stop.set()
        numbers = [number for future in running for number in future.result(30)]
    assert len(backend.do_read([f"t{number}" for number in numbers])) == len(numbers)


def test_a_reader_that_cannot_be_opened_does_not_use_up_its_place(path):
    calls = []

    def connect() -> apsw.Connection:
        calls.append(1)
        if len(calls) < 5:
            raise apsw.CantOpenError("not yet")
        return apsw.Connection(str(path))

    pool = Pool(connect, readers=1)
    for _ in range(4):
        with pytest.raises(apsw.CantOpenError):
            pool.borrow()
    pool.give_back(pool.borrow())
    pool.close()


def test_a_failed_step_leaves_no_transaction_behind(backend, opened):
    backend.do_settle(write(1))

    def fail(db: apsw.Connection) -> None:
        db.execute("DELETE FROM settled_task")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend._store.write(fail)
    assert opened().do_settle(write(2))
    assert set(backend.do_read(["t1", "t2"])) == {"t1", "t2"}


def test_the_log_is_copied_and_begun_anew_however_many_write(path, opened, monkeypatch):
    monkeypatch.setattr(checkpoints, "LOG_PAGES", 100)
    monkeypatch.setattr(checkpoints, "AGAIN_PAGES", 20)
    backends = [opened() for _ in range(3)]

    def work(thread: int) -> None:
        for number in range(300):
            backends[thread].do_settle(write(thread * 1000 + number))

    with ThreadPoolExecutor(3) as executor:
        list(executor.map(work, range(3)))
    # Some 900 writes of 3 pages each went through it.
    assert path.with_name("results.db-wal").stat().st_size < 1000 * 4096
    assert path.stat().st_size > 4096


def test_a_checkpoint_that_a_reader_holds_up_does_not_hold_up_the_write(backend, raw, monkeypatch, caplog):
    monkeypatch.setattr(checkpoints, "LOG_PAGES", 10)
    backend.do_settle(write(0))
    raw("BEGIN")
    raw("SELECT count(*) FROM settled_task")
    assert all(backend.do_settle(write(number)) for number in range(1, 50))
    assert raw("SELECT count(*) FROM settled_task") == [(1,)]
    raw("COMMIT")
    assert not caplog.records


GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, types, time
import apsw, gevent
from settled.backends.sqlite import SQLiteBackend
from settled.record import Settle

backend = SQLiteBackend(types.SimpleNamespace(conf={}), url=f"sqlite:///{sys.argv[1]}")
backend.do_settle(Settle("a", "SUCCESS", b"{}"))
other = apsw.Connection(sys.argv[1])
other.execute("BEGIN IMMEDIATE")
# The writers find the store busy; the last greenlet must get its turn while they wait.
writers = [gevent.spawn(backend.do_settle, Settle(f"b{n}", "SUCCESS", b"{}")) for n in range(20)]
readers = [gevent.spawn(backend.do_read, ["a"]) for n in range(20)]
last = gevent.spawn(other.execute, "COMMIT")
gevent.joinall([*writers, *readers, last], timeout=30, raise_error=True)
assert all(writer.value for writer in writers) and all(reader.value for reader in readers)

listener = backend.do_listen()
waiting = gevent.spawn(listener.wait, 30)
gevent.spawn(backend.do_settle, Settle("c", "SUCCESS", b"{}"))
assert "c" in waiting.get(timeout=30)
waiting = gevent.spawn(listener.wait, 30)
gevent.spawn(listener.wake)
waiting.get(timeout=30)
listener.close()
backend.close()
print("fine")
"""


def test_gevent_may_switch_while_the_store_is_busy_or_quiet(path):
    done = subprocess.run([sys.executable, "-c", GEVENT, path], capture_output=True, text=True, timeout=90)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


@pytest.mark.parametrize("names", [["results.db"], ["results.db", "results.db-wal", "results.db-shm"]])
def test_what_is_stored_after_the_file_was_deleted_is_in_the_new_one(
    path, backend, opened, names, monkeypatch
):
    monkeypatch.setattr(store, "CHECK_INTERVAL", 0.0)
    backend.do_settle(write(1))
    for name in names:
        path.with_name(name).unlink()
    assert backend.do_settle(write(2))
    assert "t2" in opened().do_read(["t2"])
    assert backend._store.generation == 1


def test_what_is_stored_after_the_file_was_replaced_is_in_the_one_that_is_there(path, opened, monkeypatch):
    monkeypatch.setattr(store, "CHECK_INTERVAL", 0.0)
    backend, other = opened(), backend_at(path.with_name("other.db"))
    backend.do_settle(write(1))
    other.do_settle(write(2))
    other.close()
    path.with_name("other.db").replace(path)
    path.with_name("results.db-wal").unlink()
    path.with_name("results.db-shm").unlink()
    assert set(backend.do_read(["t1", "t2"])) == {"t2"}
    assert backend.do_settle(write(3))
    assert set(opened().do_read(["t1", "t2", "t3"])) == {"t2", "t3"}


def test_a_backend_that_is_dropped_lets_go_of_its_file(path):
    backend = backend_at(path)
    backend.do_settle(write(1))
    del backend
    gc.collect()
    assert connections_to(path) == 0
