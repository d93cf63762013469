"""More threads than connections."""

from __future__ import annotations

import threading

import pytest

from settled.errors import StoreUnavailable
from settled.testing.threads import Running, together
from tests.redis.faults.load import PATIENCE, Load, value_of
from tests.servers import until

NAME = "settled-under-test"
LIMIT = 10


class Census:
    """Counts our connections on the server again and again; `most` is how many there were at most."""

    def __init__(self, server):
        self._server = server
        self._over = threading.Event()
        self.most = 0

    def _count(self):
        with self._server.client() as client:
            while not self._over.is_set():
                found = sum(each["name"] == NAME for each in client.client_list())
                self.most = max(self.most, found)

    def __enter__(self):
        self._counting = Running(self._count)
        return self

    def __exit__(self, *exc):
        self._over.set()
        self._counting.result(PATIENCE)


def test_two_hundred_threads_share_ten_connections(server, connect):
    backend = connect(server, client_name=NAME)

    def work(number):
        for turn in range(10):
            task_id, other = f"task-{number}-{turn}", f"task-{(number + 1) % 200}-{turn}"
            assert backend.mark_as_done(task_id, value_of(task_id))
            assert backend.wait_for(other, timeout=PATIENCE) == value_of(other)
            assert backend.get_result(task_id) == value_of(task_id)

    with Census(server) as census:
        together(*(lambda number=number: work(number) for number in range(200)))
    assert 2 <= census.most <= LIMIT + 1


def test_two_hundred_threads_and_their_waits_survive_cuts(server, proxy, connect):
    backend = connect(proxy, client_name=NAME)
    load = Load(backend, connect(proxy), waiters=200)
    for _ in range(5):
        load.go_on(300)
        proxy.cut_all()
    load.go_on(300)
    load.finish(server)
    assert load.refused == load.kept == []
    until(lambda: ours(server) <= LIMIT + 1, 10.0, "the limit")


def ours(server):
    with server.client() as client:
        return sum(each["name"] == NAME for each in client.client_list())


def test_a_thread_that_finds_all_connections_in_use_waits_for_one(server, connect):
    backend = connect(server, client_name=NAME, max_connections=2)
    backend.mark_as_done("task", "value")
    server.pause()
    readers = [Running(lambda: backend.get_result("task")) for _ in range(20)]
    server.resume()
    assert [reader.result(PATIENCE) for reader in readers] == ["value"] * 20
    assert ours(server) == 2


def test_who_waits_for_a_connection_in_vain_is_told_what_to_do(server, connect):
    backend = connect(server, max_connections=1, socket_timeout=0.3)
    backend.retry_deadline = 0.0
    backend.get_state("task")
    link = backend._client._pool.take(1.0)
    with pytest.raises(StoreUnavailable, match="raise max_connections"):
        backend.get_state("task")
    backend._client._pool.give(link)
    assert backend.get_state("task") == "PENDING"


def test_no_thread_is_passed_over_by_the_others(server, connect):
    """Of many that ask all the time, none has to wait for much longer than its turns."""
    backend = connect(server, max_connections=2)
    over = threading.Event()
    done = [0] * 40

    def work(number):
        while not over.is_set():
            backend.get_state("task")
            done[number] += 1

    threads = [Running(lambda number=number: work(number)) for number in range(40)]
    until(lambda: sum(done) > 4000, PATIENCE, "the answers")
    over.set()
    for thread in threads:
        thread.result(PATIENCE)
    assert min(done) * 10 > max(done), sorted(done)
