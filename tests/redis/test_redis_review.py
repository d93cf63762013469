"""What a review of the engine found."""

from __future__ import annotations

import builtins
import json
import os
import random
import signal
import socket
import time
from contextlib import suppress

import pytest

from settled.backends.redis import RedisBackend, RedisClusterBackend
from settled.backends.redis.link import Link, pack
from settled.chords import RECOUNT_INTERVAL
from settled.codec import compression
from settled.errors import TimeoutError
from settled.record import Chord, Claim, Part, Query, Settle
from settled.testing.app import RecordingApp
from settled.testing.threads import Running, together
from tests.servers import Cluster, Sentinels, until
from tests.servers.topologies import slot_of


def names(count):
    return [f"task-{number:04}" for number in range(count)]


@pytest.fixture
def indexed(connect, server):
    return connect(url=f"{server.url}?index=true")


def test_any_number_of_tasks_is_forgotten_at_once_with_an_index_too(indexed):
    indexed.store_result("task-0001", 1, "SUCCESS")
    indexed.do_forget(names(10_000))
    assert indexed.get_state("task-0001") == "PENDING"


def test_a_listing_passes_over_nothing_though_what_it_listed_is_forgotten_meanwhile(indexed):
    for name in names(700):
        indexed.store_result(name, 1, "SUCCESS")
    rows = indexed.query(Query(limit=1000))
    listed = [next(rows).task_id for _ in range(500)]
    indexed.do_forget(listed[:100])
    assert sorted([*listed, *(row.task_id for row in rows)]) == names(700)


def test_a_listing_passes_over_nothing_of_what_was_written_at_the_same_time(indexed, raw):
    for name in names(700):
        indexed.store_result(name, 1, "SUCCESS")
    raw.zadd("settled-index:t", dict.fromkeys(names(700), 1_000.0))
    assert sorted(row.task_id for row in indexed.query(Query(limit=1000))) == names(700)


def test_a_member_whose_record_no_script_reads_expires_too(connect, raw, server):
    backend = connect()
    chord = Chord("group", ("task",), backend.encode({"task": "body"}), "body of group")
    backend.do_open_chord(chord, None)
    record = json.dumps({"status": "STARTED", "result": None, "task_id": "task"}).encode()
    raw.set("celery-task-meta-task", compression.compress(record, "gzip"), ex=2 * int(RECOUNT_INTERVAL))
    for _ in range(4):
        server.clock.advance(RECOUNT_INTERVAL + 1)
        backend.do_due_chords(10)
    assert backend.do_read_chord("group").parts == ("EXPIRED",)


class Queued(RecordingApp):
    """An app with a message queue: Celery's workers may count its chords too."""

    amqp = None


def test_what_celerys_workers_count_is_looked_at_only_where_it_could_complete_the_chord(connect, raw):
    backend = connect(app=Queued())
    members = tuple(names(40))
    backend.do_open_chord(Chord("group", members, backend.encode({"task": "body"}), "body of group"), None)
    raw.config_resetstat()
    for place in range(0, 40, 2):
        raw.set(f"celery-task-meta-{members[place]}", b'{"status": "SUCCESS"}')
        raw.zadd("celery-taskset-meta-group.j", {f"[{place}]": place})
        raw.sadd("celery-taskset-meta-group.d", f"{members[place]}:{place}")
        part = Part("group", place + 1, b"[1]")
        write = Settle(
            members[place + 1], "SUCCESS", b'{"status": "SUCCESS"}', part=part, claim=Claim("t", 9.0)
        )
        claimed = backend.do_settle(write).claimed
    assert claimed
    assert raw.info("commandstats")["cmdstat_smembers"]["calls"] <= 2


# -- the connections of a process ------------------------------------------------------------------


class Interrupt(Exception):
    """What a signal raises: a soft time limit, say."""


@pytest.fixture
def interrupts():
    """Arms a timer whose signal raises at whatever line the main thread is."""

    def raise_it(number, frame):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, raise_it)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted(interrupts, seconds, call):
    try:
        try:
            interrupts(seconds)
            call()
        finally:
            interrupts(0)
    except Interrupt:
        return 1
    return 0


def test_a_signal_while_a_command_is_packed_is_an_exception_and_no_crash(interrupts):
    pid = os.fork()  # what is tried may end the process
    if pid == 0:
        command = (b"EVALSHA", b"digest", "1", *["86400000"] * 100)
        hits = sum(
            interrupted(interrupts, 30e-6, lambda: [*map(pack, [command] * 1000)]) for _ in range(2000)
        )
        os._exit(0 if hits else 1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of sockets being connected
def test_interrupts_at_any_line_cost_the_pool_no_connection(connect, interrupts):
    backend = connect(max_connections=2, outbox=0)
    backend.retry_deadline = 0.0
    backend.store_result("task", "value", "SUCCESS")
    chance = random.Random(1)
    hits = 0
    for number in range(1500):
        seconds = chance.choice((chance.uniform(10e-6, 300e-6), chance.uniform(5e-4, 3e-3)))
        hits += interrupted(
            interrupts, seconds, lambda number=number: backend.store_result(f"{number}", 1, "SUCCESS")
        )
    assert hits > 100
    together(*[lambda: backend.get_task_meta("task", cache=False)] * 2)
    assert backend.get_task_meta("task", cache=False)["result"] == "value"


class Made:
    """What redis-py makes of a connection, as far as a link sees it."""

    def __init__(self, sock):
        self._sock = sock

    def disconnect(self):
        self._sock.close()


def test_a_reply_that_never_stops_coming_is_not_waited_for_beyond_the_deadline():
    ours, theirs = socket.socketpair()
    link = Link(Made(ours), "a server", 5.0)

    def trickle():
        with theirs, suppress(OSError):
            theirs.sendall(b"$1000000\r\n")
            while True:
                theirs.sendall(b"x" * 10)
                time.sleep(0.01)

    sender = Running(trickle)
    link.deadline = time.monotonic() + 0.2
    with pytest.raises(builtins.TimeoutError):
        link.ask((b"GET", b"key"), 5.0)
    assert time.monotonic() - link.deadline < 1.0
    assert not link.open
    sender.result(5.0)


def test_a_great_many_tasks_are_listened_for_at_once(connect, server):
    server.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
    backend = connect()
    listener = backend.do_listen()
    try:
        listener.watch(f"{number:036}" for number in range(150_000))
        assert len(server.ask("PUBSUB", "CHANNELS")) == 150_000
    finally:
        listener.close()
        server.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")


# -- sentinels and clusters ------------------------------------------------------------------------


def test_a_wait_ends_in_time_though_the_sentinels_do_not_answer():
    with Sentinels.start() as servers:
        app = RecordingApp()
        with RedisBackend(app, url=f"{servers.url}&socket_timeout=1&socket_connect_timeout=1") as backend:
            for sentinel in servers.sentinels:
                sentinel.pause()
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                backend.wait_for("task", timeout=0.5)
            assert time.monotonic() - began < 1.5


def test_a_sentinel_that_does_not_answer_is_passed_over():
    with Sentinels.start() as servers:
        app = RecordingApp()
        with RedisBackend(app, url=f"{servers.url}&socket_timeout=1.5") as backend:
            servers.sentinels[0].pause()
            assert backend.store_result("task", 1, "SUCCESS")


@pytest.fixture
def cluster():
    with Cluster.start() as servers:
        yield servers


@pytest.fixture
def clustered(cluster):
    app = RecordingApp()
    with RedisClusterBackend(app, url=cluster.url) as backend:
        app.backend = backend
        yield backend


def name_at(cluster, owner):
    """A task id whose record is on this server."""
    return next(name for name in names(1000) if cluster.owner(slot_of(f"celery-task-meta-{name}")) is owner)


def test_who_waits_is_told_though_another_server_has_become_a_master(cluster, clustered):
    first, second = cluster.nodes[:2]
    awaited, moved = name_at(cluster, first), name_at(cluster, second)
    waits = Running(lambda: clustered.wait_for(awaited, timeout=20))
    until(lambda: clustered.watcher.waiting, 5.0, "a wait")
    replace_master(cluster, second)
    clustered.store_result(moved, None, "STARTED")  # the client learns of it
    more = Running(lambda: clustered.wait_for(moved, timeout=20))
    until(lambda: clustered.watcher.waiting == 2, 5.0, "another wait")
    for name in (awaited, moved):
        clustered.store_result(name, "value", "SUCCESS")
    assert [waits.result(20), more.result(20)] == ["value", "value"]


def replace_master(cluster, master):
    cluster.replica_of(master).ask("CLUSTER", "FAILOVER")
    until(lambda: master.ask("ROLE")[0] == b"slave", 10.0, "a failover")
    cluster.wait_ok()


def test_a_server_that_has_left_the_cluster_is_not_asked_for_ever(cluster, clustered):
    leaving = cluster.nodes[0]
    name = name_at(cluster, leaving)
    clustered.store_result(name, "value", "SUCCESS")
    replace_master(cluster, leaving)
    for node in cluster.nodes[1:]:
        node.ask("CLUSTER", "FORGET", leaving.ask("CLUSTER", "MYID"))
    leaving.ask("CLUSTER", "RESET", "HARD")
    assert clustered.get_task_meta(name, cache=False)["result"] == "value"
    until(
        lambda: len(leaving.ask("CLIENT", "LIST", "TYPE", "NORMAL").splitlines()) == 1, 5.0, "no connections"
    )
