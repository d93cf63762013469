"""The proxy: what clients see of each fault, and what the server has done meanwhile."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import Proxy, until

PATIENCE = 10.0


@pytest.fixture
def server(redis7):
    redis7.ask("FLUSHALL")
    return redis7


@pytest.fixture
def proxy(server):
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy, server):
    """Clients with one connection each, through the proxy; their first one is there already."""
    clients = []

    def client(**options):
        made = server.client(port=proxy.port, single_connection_client=True, **options)
        clients.append(made)
        made.ping()
        return made

    yield client
    for made in clients:
        made.close()


def test_bytes_pass_both_ways_and_are_counted(proxy, connect):
    client = connect()
    before = proxy.request_bytes, proxy.reply_bytes
    value = bytes(range(256)) * 4096
    client.set("key", value)
    assert client.get("key") == value
    assert proxy.request_bytes - before[0] > len(value)
    assert proxy.reply_bytes - before[1] > len(value)
    assert proxy.connections == proxy.open == 1
    client.close()
    until(lambda: proxy.open == 0, PATIENCE, "the end of the connection")
    assert proxy.connections == 1


def test_all_connections_can_be_cut(proxy, connect):
    clients = [connect(), connect()]
    assert proxy.cut_all() == 2
    for client in clients:
        with pytest.raises(redis.ConnectionError, match="reset"):
            client.connection.read_response()
        assert client.ping()
    assert proxy.connections == 4


def test_new_connections_can_be_refused(proxy, connect, server):
    old = connect()
    proxy.refuse()
    with server.client(port=proxy.port) as client:
        with pytest.raises(redis.ConnectionError):
            client.ping()
        assert old.ping()
        proxy.refuse(False)
        assert client.ping()


def test_bytes_can_be_swallowed(proxy, connect, server):
    client = connect(socket_timeout=0.1)
    proxy.blackhole()
    with pytest.raises(redis.TimeoutError):
        client.set("key", "value")
    with server.client(port=proxy.port, socket_timeout=0.1) as other, pytest.raises(redis.TimeoutError):
        other.ping()
    assert server.ask("EXISTS", "key") == 0
    proxy.blackhole(False)
    assert client.set("key", "value")


def test_a_black_hole_hides_that_the_server_went_away(proxy, connect, server):
    client = connect(socket_timeout=0.1)
    proxy.blackhole()
    server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    client.connection.send_command("PING")
    with pytest.raises(redis.TimeoutError):
        client.connection.read_response()


def test_replies_can_be_late(proxy, connect):
    clients = [connect(), connect()]
    proxy.delay(0.2)
    started = time.monotonic()
    for client in clients:
        for _ in range(3):
            client.connection.send_command("PING")
    for client in clients:
        for _ in range(3):
            assert client.connection.read_response() == b"PONG"
    assert 0.2 <= time.monotonic() - started < 0.4  # they are late together, not one after another
    proxy.delay(0.0)
    assert clients[0].echo("prompt") == b"prompt"


def test_a_connection_can_be_cut_amid_a_reply(proxy, connect):
    client = connect()
    client.set("key", "0123456789")
    proxy.cut_after_reply_bytes(9)
    client.connection.send_command("GET", "key")
    got = client.connection._sock.recv(100)
    while len(got) < 9:
        got += client.connection._sock.recv(100)
    assert got == b"$10\r\n0123"
    with pytest.raises(ConnectionResetError):
        client.connection._sock.recv(100)
    client.connection.disconnect()
    assert client.get("key") == b"0123456789"


def test_a_reply_can_be_lost_after_the_write_happened(proxy, connect, server):
    client = connect()
    lost = proxy.lose_next_reply()
    with pytest.raises(redis.ConnectionError):
        client.incr("count")
    assert lost.is_set()
    assert server.ask("GET", "count") == b"1"
    assert client.incr("count") == 2


def test_the_reply_to_lose_can_be_chosen(proxy, connect):
    one, other = connect(), connect()
    lost = proxy.lose_next_reply(containing=b"chosen")
    assert one.incr("count") == 1
    assert not lost.is_set()
    with pytest.raises(redis.ConnectionError):
        other.incr("chosen")
    assert lost.is_set()
    assert one.get("chosen") == b"1"


def test_a_client_of_a_server_repeats_nothing_and_one_of_redis_py_does(proxy, connect, server):
    proxy.lose_next_reply(containing=b"ours")
    client = connect()
    with pytest.raises(redis.ConnectionError):
        client.incr("ours")
    assert server.ask("GET", "ours") == b"1"
    proxy.lose_next_reply(containing=b"theirs")
    with redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 1)) as theirs:
        assert theirs.incr("theirs") == 2


def test_a_server_that_is_away_resets_what_comes():
    with closing(Proxy(1)) as proxy, redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0)) as client:
        with pytest.raises(redis.ConnectionError):
            client.ping()
        assert proxy.connections == 1


def test_a_proxy_is_closed_with_its_connections(server):
    threads = threading.active_count()
    proxy = Proxy(server.port)
    with server.client(port=proxy.port) as client:
        client.ping()
        proxy.close()
        with pytest.raises(redis.ConnectionError):
            client.ping()
    proxy.close()
    assert threading.active_count() == threads
