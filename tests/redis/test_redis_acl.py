"""The least that each kind of user needs, as `docs/how-to/redis.md` gives it: enough, and nothing to spare."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest
from redis import ResponseError

from settled import chords
from settled.backends.redis import RedisBackend, RedisClusterBackend, listener
from settled.backends.redis import chords as redis_chords
from settled.codec import compression
from settled.errors import SettledError, StoreError
from settled.record import Query
from settled.testing.app import RecordingApp, Request
from settled.testing.threads import Running
from tests.servers import Cluster, Server, until

PAGE = Path("docs/how-to/redis.md")
PATIENCE = 10.0
PREFIX = "app:"
BODY = {"task": "tests.body", "args": [], "kwargs": {}, "options": {"task_id": "body"}}
RECOUNT = chords.RECOUNT_INTERVAL + 1


def rules_of_the_page():
    """The rules for each user of the section on least privilege: {name: [rule, ...]}."""
    section = PAGE.read_text().partition("## Least privilege\n")[2].partition("\n## ")[0]
    lines = re.sub(r"\\\n\s+", "", section).splitlines()
    found = {}
    for line in lines:
        words = line.split()
        if words[:2] == ["ACL", "SETUSER"]:
            found[words[2]] = [word for word in words[3:] if not word.startswith(">")]
    return found


RULES = rules_of_the_page()


@pytest.fixture
def user(server, monkeypatch):
    """Makes users of the server and opens backends for them: `user(rules, prefix=...)`."""
    monkeypatch.setattr(chords, "SWEEP_INTERVAL", 3600.0)
    made, opened = [], []

    def user(rules, prefix=PREFIX, app=None, **options):
        name = f"user-{len(made)}"
        made.append(name)
        bare = [rule.replace(PREFIX, prefix) for rule in rules]
        server.ask("ACL", "SETUSER", name, "reset", ">secret", *bare)
        url = server.url.replace("redis://", f"redis://{name}:secret@")
        own = app is None
        app = app or RecordingApp()
        backend = RedisBackend(app, url=url, prefix=prefix, **options)
        backend.retry_deadline = 0.2
        if own:
            app.backend = backend
        opened.append(backend)
        return backend

    yield user
    for backend in opened:
        backend.close()
    for name in made:
        server.ask("ACL", "DELUSER", name)


@pytest.fixture
def master(connect):
    """A backend that may do everything, to prepare and to look."""
    return lambda prefix=PREFIX, **options: connect(prefix=prefix, **options)


def part(task_id, place, group):
    return Request(task_id, group=group, group_index=place, chord=BODY)


# -- what each of them does -----------------------------------------------------------------------


def read(reader, master, server):
    """Get, wait, ls."""
    master.mark_as_done("a", 1)
    master.mark_as_failure("b", KeyError("x"))
    master.save_group("g", master.app.GroupResult("g", [master.app.AsyncResult("a")]))
    assert reader.get_state("a") == "SUCCESS"
    assert [task_id for task_id, _ in reader.get_many(["a", "b"], timeout=PATIENCE)] == ["a", "b"]
    assert [each.id for each in reader.restore_group("g").results] == ["a"]
    waiting = Running(lambda: reader.wait_for("c", timeout=PATIENCE))
    listen(reader, server)
    master.mark_as_done("c", 3)
    assert waiting.result(PATIENCE) == 3


def listen(reader, server):
    """Subscribe and unsubscribe, and ask whether the server is still there."""
    told = []
    channel = f"{reader.options['prefix']}celery-task-meta-"

    def see(look, what):
        until(lambda: told or look(), PATIENCE, what)
        assert told == []

    before = pings(server)
    reader.watcher.add("c", told.append)
    see(lambda: listeners(server, channel + "c") == 1, "the first subscription")
    dropped = reader.watcher.add("d", told.append)
    see(lambda: listeners(server, channel + "d") == 1, "another subscription")
    reader.watcher.discard(dropped)
    reader.watcher.add("e", told.append)
    see(lambda: listeners(server, channel + "d") == 0, "its end")
    see(lambda: pings(server) > before, "the heartbeat of who hears nothing")


def listeners(server, channel):
    return server.ask("PUBSUB", "NUMSUB", channel)[1]


def pings(server):
    """How many PINGs the server has done."""
    return server.ask("INFO", "commandstats").get("cmdstat_ping", {"calls": 0})["calls"]


def list_all(reader, master, server):
    for task_id in ("a", "b"):
        master.mark_as_done(task_id, 1)
    assert {row.task_id for row in reader.query(Query())} == {"a", "b"}


def list_by_index(reader, master, server):
    for task_id in ("a", "b", "expiring"):
        master.store_result(task_id, 1, "SUCCESS", expires=5 if task_id == "expiring" else 0)
    server.clock.advance(6)
    assert {row.task_id for row in reader.query(Query())} == {"a", "b"}
    assert {row.task_id for row in reader.query(Query(states=("SUCCESS",)))} == {"a", "b"}


def work(worker, master, server):
    """Settle in every way, count, dispatch, recount, grow, lease; save groups."""
    worker.mark_as_started("a")
    worker.mark_as_failure("a", KeyError("x"))
    assert worker.mark_as_done("a", 1)
    assert worker.store_result("b", 1, "SUCCESS", expires=0)
    packed = compression.MARKER + b"application/x-gzip\0" + zlib.compress(b'{"status": "SUCCESS"}')
    with server.client() as raw:
        raw.set(f"{worker.options['prefix']}celery-task-meta-packed", packed)
    assert not worker.mark_as_started("packed")
    worker.save_group("g", worker.app.GroupResult("g", [worker.app.AsyncResult("a")]))
    assert worker.restore_group("g", cache=False) is not None
    worker.delete_group("g")
    for step in (_count, _reopen, _recount, _expire, _stage):
        step(worker, server)
    assert worker.do_lease(["n"], "token", 10.0) == {"n"}
    assert worker.do_lease(["n"], "token", 0) == frozenset()


def _count(worker, server):
    worker.open_chord("counted", ["p", "q"], BODY)
    worker.grow_chord("counted", ["r"])
    for place, task_id in enumerate("pqr"):
        worker.mark_as_done(task_id, place, request=part(task_id, place, "counted"))
    assert [list(sent.args) for sent in worker.app.sent] == [[[0, 1, 2]]]
    assert worker.chord_state("counted").done
    assert server.ask("PTTL", f"{worker.options['prefix']}celery-taskset-meta-counted.o") > 0


def _reopen(worker, server):
    """The failure of which the body was to fail gives way to a success."""
    worker.open_chord("reopened", ["s", "t"], BODY, on_failure="first")
    write = worker._write("s", KeyError("x"), "FAILURE", None, part("s", 0, "reopened"), None)
    assert worker.do_settle(write).claimed
    worker.mark_as_done("s", 0, request=part("s", 0, "reopened"))
    assert worker.chord_state("reopened").parts == ("SUCCESS", None)
    worker.forget("reopened")


def _recount(worker, server):
    body = {**BODY, "options": {"task_id": "another body"}}
    worker.open_chord("recounted", ["u", "v"], body)
    for task_id in "uv":
        worker.store_result(task_id, task_id, "SUCCESS")
    server.clock.advance(RECOUNT)
    worker.sweep()
    assert [list(sent.args) for sent in worker.app.sent if sent.task_id == "another body"] == [[["u", "v"]]]


def _expire(worker, server):
    body = {**BODY, "options": {"task_id": "failing body"}}
    worker.open_chord("expiring", ["w", "x"], body)
    worker.store_result("w", 1, "STARTED", expires=1.5 * RECOUNT)
    worker.store_result("x", 1, "STARTED", expires=9 * RECOUNT)
    server.clock.advance(RECOUNT)
    worker.sweep()
    worker.forget("x")
    server.clock.advance(RECOUNT)
    worker.sweep()
    worker.store_result("x", 1, "SUCCESS", expires=0, request=part("x", 1, "expiring"))
    assert worker.get_state("failing body") == "FAILURE"


def _stage(worker, server):
    """A header so long that its members are laid ready first."""
    body = {**BODY, "options": {"task_id": "body of many"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_chords, "BATCH", 2)
        worker.open_chord("long", ["l", "m", "n"], body)
    assert server.ask("PTTL", f"{worker.options['prefix']}celery-taskset-meta-long.m") == -1


def work_by_index(worker, master, server):
    worker.store_result("a", 1, "STARTED", expires=5, request=Request("a", task="f", group="g"))
    worker.mark_as_done("b", 1, request=Request("b", task="f", group="g"))
    server.clock.advance(6)
    worker.mark_as_done("c", 1)
    worker.forget("b")
    worker.open_chord("g", ["d"], BODY)
    worker.mark_as_done("d", 1, request=part("d", 0, "g"))
    assert {row.task_id for row in master.query(Query())} == {"c", "d"}


def share(worker, master, server):
    """Count with Celery's workers."""
    worker.open_chord("g", ["a", "b"], BODY)
    worker.grow_chord("g", ["c"])
    worker.mark_as_failure("a", KeyError("x"), request=part("a", 0, "g"))
    worker.mark_as_done("a", 1, request=part("a", 0, "g"))
    with server.client() as raw:
        raw.sadd(f"{worker.options['prefix']}celery-taskset-meta-g.d", "b:1")
    worker.mark_as_done("c", 1, request=part("c", 2, "g"))
    assert worker.chord_state("g").parts == ("SUCCESS",) * 3 or worker.chord_state("g").done


def go_on(worker, master, server):
    """Continue what Celery has opened; a second attempt takes the place of the first."""
    worker.adopt_chord("g", BODY)
    worker.mark_as_failure("a", KeyError("x"), request=part("a", 0, "g"))
    worker.mark_as_done("a", 1, request=part("a", 0, "g"))
    worker.grow_chord("g", ["c"])
    server.clock.advance(RECOUNT)
    worker.sweep()
    worker.size_chord("g", 2)
    worker.mark_as_done("c", 3, request=part("c", 2, "g"))
    assert worker.chord_state("g").parts == ("SUCCESS", "SUCCESS", None)
    worker.mark_as_done("b", 2, request=part("b", 1, "g"))
    assert [list(sent.args) for sent in worker.app.sent] == [[[1, 2, 3]]]


JOBS = {
    "app-reader": [(read, {}), (list_all, {})],
    "app-indexed": [(read, {}), (list_by_index, {"index": True})],
    "app-worker": [(work, {}), (work_by_index, {"index": True})],
    "app-mixed": [(work, {}), (share, {"shared": True}), (go_on, {"shared": True})],
    "app-operator": [(read, {}), (list_all, {}), (list_by_index, {"index": True}), (work, {})],
}


class WithQueue(RecordingApp):
    """Has what tells a Celery app: a message queue, which workers of Celery may serve."""

    amqp = True


@pytest.fixture
def attempt(user, master, server, monkeypatch):
    """Has a user with these rules do its jobs; what it could not do, as an error, or None."""
    monkeypatch.setattr(listener, "HEARTBEAT", 0.2)

    def attempt(rules, jobs, prefix=PREFIX):
        for job, options in jobs:
            server.ask("FLUSHALL")
            server.ask("SCRIPT", "FLUSH")
            app = WithQueue() if options.get("shared") else None
            index = {"index": True} if options.get("index") else {}
            try:
                with user(rules, prefix, app, **index) as own:
                    job(own, master(prefix, **index), server)
            except (SettledError, AssertionError) as exc:
                return exc
        return None

    return attempt


# -- it is enough, and not too much ------------------------------------------------------------------


def test_the_page_gives_the_rules_for_each_kind_of_user():
    assert set(RULES) == set(JOBS)


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("prefix", [PREFIX, ""])
def test_each_can_do_its_work(attempt, name, prefix):
    failure = attempt(RULES[name], JOBS[name], prefix)
    assert failure is None, repr(failure)


@pytest.mark.parametrize("name", ["app-reader", "app-indexed", "app-worker", "app-mixed"])
def test_each_needs_all_that_it_is_given(attempt, name, caplog):
    """With any one rule less some part of the work fails."""
    caplog.set_level(100)
    for rule in RULES[name]:
        if rule != "resetchannels":
            rest = [each for each in RULES[name] if each != rule]
            assert attempt(rest, JOBS[name]) is not None, rule


@pytest.mark.parametrize("missing", [None, "+rpush", "+lrem", "+lrange"])
def test_parts_in_lists_ask_for_three_commands_more(user, master, server, missing, caplog):
    caplog.set_level(100)
    rules = [*RULES["app-mixed"], *(rule for rule in ("+rpush", "+lrem", "+lrange") if rule != missing)]
    app = WithQueue(result_backend_transport_options={"result_chord_ordered": False})
    try:
        go_on(user(rules, PREFIX, app), master(), server)
    except (SettledError, AssertionError):
        assert missing is not None
    else:
        assert missing is None


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_the_rules_are_enough_for_other_servers_too(kind, monkeypatch):
    monkeypatch.setattr(chords, "SWEEP_INTERVAL", 3600.0)
    with Server.start(kind, skewed=True) as server:
        for name, jobs in JOBS.items():
            server.ask("ACL", "SETUSER", name, "reset", ">secret", *RULES[name])
            for job, options in jobs:
                server.ask("FLUSHALL")
                index = {"index": True} if options.get("index") else {}
                url = server.url.replace("redis://", f"redis://{name}:secret@")
                app, masters = WithQueue() if options.get("shared") else RecordingApp(), RecordingApp()
                monkeypatch.setattr(listener, "HEARTBEAT", 0.2)
                with (
                    RedisBackend(app, url=url, prefix=PREFIX, **index) as own,
                    RedisBackend(masters, url=server.url, prefix=PREFIX, **index) as master,
                ):
                    app.backend, masters.backend = own, master
                    job(own, master, server)


# -- what they can not -------------------------------------------------------------------------------


@pytest.fixture
def as_user(user, server):
    """A raw client that is the user of the page with this name."""
    clients = []

    def as_user(name):
        backend = user(RULES[name])
        clients.append(server.client(username=backend.location.username, password="secret"))
        return clients[-1]

    yield as_user
    for client in clients:
        client.close()


DENIED = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("KEYS", "*"),
    ("ACL", "LIST"),
    ("SHUTDOWN",),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("SCRIPT", "FLUSH"),
    ("MODULE", "LIST"),
    ("REPLICAOF", "NO", "ONE"),
    ("GET", "foreign"),
    ("SET", "foreign", "x"),
    ("SUBSCRIBE", "foreign"),
    ("PSUBSCRIBE", "*"),
    ("PUBLISH", "foreign", "x"),
    ("EVAL", "return redis.call('GET', 'foreign')", "0"),
    ("EVAL", "return redis.call('SET', 'foreign', 'x')", "0"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("EVAL", "return redis.call('KEYS', '*')", "0"),
]

WRITES = [
    ("SET", "app:celery-task-meta-a", "x"),
    ("DEL", "app:celery-task-meta-a"),
    ("UNLINK", "app:celery-task-meta-a"),
    ("EXPIRE", "app:celery-task-meta-a", "1"),
    ("RENAME", "app:celery-task-meta-a", "app:celery-task-meta-b"),
    ("PUBLISH", "app:celery-task-meta-a", "x"),
    ("HSET", "app:celery-taskset-meta-g.o", "size", "1"),
    ("ZADD", "app:settled-due", "1", "g"),
    ("EVAL", "return redis.call('SET', 'app:celery-task-meta-a', 'x')", "0"),
    ("EVAL", "return redis.call('PUBLISH', 'app:celery-task-meta-a', 'x')", "0"),
]


@pytest.mark.parametrize("name", JOBS)
def test_none_of_them_can_reach_beyond_its_prefix_or_rule_the_server(as_user, server, name):
    server.ask("SET", "foreign", "secret")
    client = as_user(name)
    for command in DENIED:
        with pytest.raises(ResponseError, match=r"no permission|can't run this|can't access"):
            client.execute_command(*command)
    assert server.ask("GET", "foreign") == b"secret"


@pytest.mark.parametrize("name", ["app-reader", "app-indexed"])
def test_a_reader_cannot_write(as_user, server, name):
    server.ask("SET", "app:celery-task-meta-a", "kept")
    client = as_user(name)
    for command in WRITES:
        with pytest.raises(ResponseError, match=r"no permission|can't run this|can't access"):
            client.execute_command(*command)
    assert server.ask("GET", "app:celery-task-meta-a") == b"kept"


@pytest.mark.parametrize("command", [("SCAN", "0"), ("SUBSCRIBE", "app:celery-task-meta-a")])
def test_a_worker_can_neither_list_nor_listen(as_user, command):
    with pytest.raises(ResponseError, match="no permission"):
        as_user("app-worker").execute_command(*command)


@pytest.mark.parametrize("kind", ["redis7", "redis", "valkey"])
def test_what_is_missing_is_said_with_the_way_out(kind, monkeypatch):
    """Of a command and of a key, plainly and in a script, and while somebody waits; never with the password."""
    monkeypatch.setattr(chords, "SWEEP_INTERVAL", 3600.0)
    with Server.start(kind) as server:
        server.ask("ACL", "SETUSER", "user", "reset", ">secret-word", *RULES["app-reader"])
        scripts = [rule for rule in RULES["app-worker"] if rule not in ("+set", "+hset")]
        server.ask("ACL", "SETUSER", "scripts", "reset", ">secret-word", *scripts)
        url = server.url.replace("redis://", "redis://user:secret-word@")
        said = {}
        for prefix, calls in CALLS.items():
            for name, call in calls.items():
                said[name] = refused(call, url, prefix)
        for name in ("a write", "a lease", "a chord"):
            said[f"{name} in a script"] = refused(CALLS[PREFIX][name], url.replace("user", "scripts"), PREFIX)
        for name, message in said.items():
            assert f"127.0.0.1:{server.port}: its user may not do what settled needs" in message, name
            assert "'Least privilege' in the page 'Run it on Redis'" in message, name
            assert "secret-word" not in message, name


def refused(call, url, prefix):
    """What a user without the right to it is told."""
    with RedisBackend(RecordingApp(), url=url, prefix=prefix) as backend:
        with pytest.raises(StoreError) as raised:
            call(backend)
        return str(raised.value)


CALLS = {
    PREFIX: {
        "a write": lambda backend: backend.mark_as_done("t", 1),
        "a lease": lambda backend: backend.do_lease(["n"], "token", 1.0),
        "a chord": lambda backend: backend.open_chord("g", ["a"], BODY),
        "a sweep": lambda backend: backend.sweep(),
        "to forget": lambda backend: backend.forget("t"),
    },
    "foreign:": {
        "to read": lambda backend: backend.get_state("t"),
        "to wait": lambda backend: backend.wait_for("t", timeout=PATIENCE),
        "to restore": lambda backend: backend.restore_group("g"),
    },
}


def test_who_waits_without_the_right_to_listen_is_told(user):
    rules = [rule for rule in RULES["app-reader"] if rule != "+subscribe"]
    with pytest.raises(StoreError, match="'Least privilege'"):
        user(rules).wait_for("t", timeout=PATIENCE)


def test_who_waits_on_another_channel_is_told(user):
    rules = [rule.replace("&app:", "&other:") for rule in RULES["app-reader"]]
    with pytest.raises(StoreError, match="'Least privilege'"):
        user(rules).wait_for("t", timeout=PATIENCE)


@pytest.mark.parametrize(
    ("options", "rule"), [({"db": 1}, "+select"), ({"client_name": "me"}, "+client|setname")]
)
def test_two_options_ask_for_one_command_more(server, user, options, rule):
    rules = RULES["app-reader"]
    url = server.url.removesuffix("/0").replace("redis://", "redis://{}:secret@")
    name = user(rules).location.username
    with RedisBackend(RecordingApp(), url=url.format(name), prefix=PREFIX, **options) as backend:
        backend.retry_deadline = 0.2
        with pytest.raises(StoreError, match="'Least privilege'"):
            backend.get_state("t")
    name = user([*rules, rule]).location.username
    with RedisBackend(RecordingApp(), url=url.format(name), prefix=PREFIX, **options) as backend:
        assert backend.get_state("t") == "PENDING"


# -- a cluster -----------------------------------------------------------------------------------


def of_a_cluster(rules):
    """The rules as the page has them for a cluster."""
    others = {f"+{name}": f"+s{name}" for name in ("subscribe", "unsubscribe", "publish")}
    chords_of_one = ["~app:{settled-*"] if "~app:settled-*" in rules else []
    return [*(others.get(rule, rule) for rule in rules), *chords_of_one, "+cluster|slots", "+asking"]


def test_the_rules_for_a_cluster_are_enough(monkeypatch):
    monkeypatch.setattr(chords, "SWEEP_INTERVAL", 3600.0)
    with Cluster.start("redis7", skewed=True) as cluster:
        urls = {}
        for name in ("app-reader", "app-worker"):
            urls[name] = cluster.url.replace("://", f"://{name}:secret@")
            for node in cluster.nodes:
                node.ask("ACL", "SETUSER", name, "reset", ">secret", *of_a_cluster(RULES[name]))
        reading, working = RecordingApp(), RecordingApp()
        with (
            RedisClusterBackend(reading, url=urls["app-reader"], prefix=PREFIX) as reader,
            RedisClusterBackend(working, url=urls["app-worker"], prefix=PREFIX) as worker,
        ):
            waiting = Running(lambda: reader.wait_for("a", timeout=PATIENCE))
            until(lambda: any(node.ask("PUBSUB", "SHARDCHANNELS") for node in cluster.nodes), PATIENCE, "it")
            worker.mark_as_started("a")
            worker.open_chord("g", ["a", "b"], BODY)
            for place, task_id in enumerate("ab"):
                worker.mark_as_done(task_id, place, request=part(task_id, place, "g"))
            worker.sweep()
            assert [list(sent.args) for sent in working.sent] == [[[0, 1]]]
            assert worker.do_lease(["n"], "token", 10.0) == {"n"}
            worker.forget("g")
            assert waiting.result(PATIENCE) == 0
            assert {row.task_id for row in reader.query(Query())} == {"a", "b"}
            with pytest.raises(StoreError, match="'Least privilege'"):
                reader.forget("a")
