"""The server is away, for a shorter or a longer time than somebody waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from settled.errors import StoreUnavailable, TimeoutError
from settled.testing.threads import Running
from tests.redis.faults.load import BOUND, PATIENCE, value_of
from tests.servers import Proxy, until


def go_away(proxy):
    """Reset what is open and what comes."""
    proxy.refuse()
    proxy.cut_all()


def timed(call, *args, **kwargs):
    """What the call raised, and how many seconds it took."""
    begun = time.monotonic()
    try:
        told = call(*args, **kwargs)
    except Exception as exc:
        return exc, time.monotonic() - begun
    raise AssertionError(f"the call returned {told!r}")


@pytest.fixture
def backend(proxy, connect):
    """One that was in use before the server goes away."""
    backend = connect(proxy)
    backend.mark_as_done("before", value_of("before"))
    return backend


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["the wait", "the outage"])
def test_an_outage_that_is_shorter_than_a_timeout_is_not_seen(server, proxy, backend, connect, first):
    if first == "the outage":
        go_away(proxy)
    handle = backend.app.AsyncResult("task")
    wait = Running(lambda: handle.get(timeout=PATIENCE))
    until(lambda: backend.watcher.waiting, PATIENCE, "the wait")
    if first == "the wait":
        go_away(proxy)
    connect(server).mark_as_done("task", "value")
    seen = proxy.connections
    until(lambda: proxy.connections > seen + 5, PATIENCE, "tries to connect")
    proxy.heal()
    assert wait.result(PATIENCE) == "value"


@pytest.mark.parametrize("timeout", [0, 0.3, 1.5])
def test_an_outage_that_is_longer_than_a_timeout_ends_with_the_timeout(proxy, backend, timeout):
    go_away(proxy)
    error, taken = timed(backend.app.AsyncResult("task").get, timeout=timeout)
    assert type(error) is TimeoutError
    assert timeout <= taken < timeout + BOUND


def test_many_who_wait_end_with_their_own_timeouts(proxy, backend):
    go_away(proxy)
    timeouts = [0.1 * number for number in range(20)]
    waits = [Running(lambda each=each: timed(backend.wait_for, "task", timeout=each)) for each in timeouts]
    for timeout, wait in zip(timeouts, waits, strict=True):
        error, taken = wait.result(PATIENCE)
        assert type(error) is TimeoutError
        assert taken < timeout + BOUND


def test_a_wait_for_many_ends_with_its_timeout(proxy, backend):
    go_away(proxy)
    error, taken = timed(lambda: list(backend.get_many(["a", "b"], timeout=0.5)))
    assert type(error) is TimeoutError
    assert taken < 0.5 + BOUND


def test_a_coroutine_that_waits_through_an_outage_is_told(server, proxy, backend, connect):
    other = connect(server)

    async def main():
        waiting = asyncio.ensure_future(value(backend.app.AsyncResult("task")))
        await asyncio.to_thread(until, lambda: backend.watcher.waiting, PATIENCE, "the wait")
        go_away(proxy)
        other.mark_as_done("task", "value")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.3)
        proxy.heal()
        return await asyncio.wait_for(waiting, PATIENCE)

    async def value(handle):
        return await handle

    assert asyncio.run(main()) == "value"


def test_a_read_during_a_long_outage_says_that_the_store_is_away(proxy, backend):
    backend.retry_deadline = 0.3
    go_away(proxy)
    error, taken = timed(backend.get_state, "task")
    assert type(error) is StoreUnavailable
    assert f"127.0.0.1:{proxy.port}" in str(error)
    assert taken < 0.3 + BOUND


# -- silent ----------------------------------------------------------------------------------------


def test_a_timeout_of_0_is_soon_over_before_a_server_that_says_nothing(proxy, backend):
    proxy.blackhole()
    for _ in range(3):
        error, taken = timed(backend.wait_for, "task", timeout=0)
        assert type(error) is TimeoutError
        assert taken < 0.3


def test_a_timeout_of_0_is_soon_over_where_no_connection_was_made_yet(proxy, connect):
    proxy.blackhole()
    error, taken = timed(connect(proxy).wait_for, "task", timeout=0)
    assert type(error) is TimeoutError
    assert taken < 0.3


def test_a_timeout_of_0_is_soon_over_where_all_connections_are_in_silent_use(proxy, connect):
    backend = connect(proxy, max_connections=2, socket_timeout=2.0)
    proxy.blackhole()
    asked = [Running(lambda: timed(backend.wait_for, "task", timeout=1.5)) for _ in range(10)]
    until(lambda: proxy.connections >= 2, PATIENCE, "the first connections")
    error, taken = timed(backend.wait_for, "task", timeout=0)
    assert type(error) is TimeoutError
    assert taken < 0.3
    for each in asked:
        error, taken = each.result(PATIENCE)
        assert type(error) is TimeoutError
        assert taken < 1.5 + BOUND


def test_a_silence_that_is_shorter_than_a_timeout_is_not_seen(server, proxy, connect, monkeypatch):
    monkeypatch.setattr("settled.waiting.SAFETY_POLL", 0.5)
    backend, other = connect(proxy, socket_timeout=0.5), connect(server)
    waits = [Running(lambda n=n: backend.wait_for(f"task-{n}", timeout=PATIENCE)) for n in range(20)]
    until(lambda: backend.watcher.waiting == 20, PATIENCE, "the waits")
    proxy.blackhole()
    for number in range(20):
        other.mark_as_done(f"task-{number}", number)
    seen = proxy.connections
    until(lambda: proxy.connections > seen, PATIENCE, "a try to connect anew")
    proxy.heal()
    assert [wait.result(PATIENCE) for wait in waits] == [*range(20)]


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [go_away, Proxy.blackhole], ids=["refused", "silent"])
def test_a_backend_that_waits_and_sweeps_is_soon_closed(proxy, connect, monkeypatch, fault):
    monkeypatch.setattr("settled.waiting.SAFETY_POLL", 0.5)
    backend = connect(proxy, socket_timeout=0.5)
    wait = Running(lambda: timed(backend.wait_for, "task", timeout=PATIENCE))
    until(lambda: backend.watcher.waiting, PATIENCE, "the wait")
    fault(proxy)
    failing = proxy.connections
    until(lambda: proxy.connections > failing + 2, PATIENCE, "tries to connect")
    begun = time.monotonic()
    backend.close()
    assert time.monotonic() - begun < 0.5 + 1.5 + BOUND  # an answer that does not come, and a pause
    error, _ = wait.result(PATIENCE)
    assert "closed" in str(error)
