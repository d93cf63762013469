"""A master dies under Sentinel or in a cluster, and a slot moves: nobody is told, nothing is lost."""

from __future__ import annotations

import json
import threading
from functools import partial

import pytest

from settled.backends.redis import RedisBackend, RedisClusterBackend
from settled.errors import TimeoutError
from settled.record import Claim, Part, Settle
from settled.states import FAILURE, STARTED, SUCCESS
from settled.testing.app import RecordingApp
from settled.testing.threads import Running, together
from tests.redis.faults.load import BODY, PATIENCE, insisting, settle_part, value_of
from tests.servers import Cluster, Sentinels
from tests.servers.topologies import slot_of

WRITERS = 4
EACH = 15


class UnderSentinel:
    topology = Sentinels
    engine = RedisBackend

    def masters(self, servers):
        return [servers.master()]

    def kill(self, servers, key):
        servers.kill_master()


class InCluster:
    topology = Cluster
    engine = RedisClusterBackend

    def masters(self, servers):
        return servers.nodes[:3]

    def kill(self, servers, key):
        servers.owner(slot_of(key)).kill()


@pytest.fixture(params=[UnderSentinel, InCluster])
def kind(request):
    return request.param()


@pytest.fixture
def servers(kind):
    with kind.topology.start() as servers:
        yield servers


@pytest.fixture
def cluster():
    with Cluster.start() as servers:
        yield servers


@pytest.fixture
def connect(tmp_path):
    opened = []

    def connect(engine, servers, app=None):
        app = app or RecordingApp()
        app.backend = engine(app, url=servers.url, spool=tmp_path)
        app.backend.retry_deadline = PATIENCE  # what is kept meanwhile is for other tests
        opened.append(app.backend)
        return app.backend

    yield connect
    for backend in opened:
        backend.close()


def replicated(kind, servers):
    """All that was acknowledged so far is on the replicas: Redis itself does not wait for that."""
    for master in kind.masters(servers):
        assert master.ask("WAIT", 1, 10_000) >= 1


def test_a_dead_master_is_replaced_and_nothing_is_lost(kind, servers, connect):
    """Waiters wait on, writers write on; what was stored before and after is there."""
    writing, waiting = connect(kind.engine, servers), connect(kind.engine, servers)
    before = [f"before-{number}" for number in range(50)]
    for task_id in before:
        writing.mark_as_done(task_id, value_of(task_id))
    replicated(kind, servers)
    after = [f"after-{number}" for number in range(WRITERS * EACH)]
    waiters = [Running(partial(waiting.wait_for, task_id, timeout=PATIENCE)) for task_id in after[::3]]
    kind.kill(servers, "celery-task-meta-after-0")

    def write(writer):
        return [bool(writing.mark_as_done(each, value_of(each))) for each in after[writer::WRITERS]]

    assert together(*(partial(write, writer) for writer in range(WRITERS))) == [[True] * EACH] * WRITERS
    assert [each.result(PATIENCE) for each in waiters] == [value_of(task_id) for task_id in after[::3]]
    servers.wait_ok()
    stored = connect(kind.engine, servers).read_many([*before, *after])
    assert {task_id: meta["result"] for task_id, meta in stored.items()} == {
        task_id: value_of(task_id) for task_id in (*before, *after)
    }


def test_a_chord_survives_the_death_of_its_master(kind, servers, connect):
    """Parts before, during and after: one body, with the results in order."""
    backend = connect(kind.engine, servers)
    size = 9
    group_id = "chord"
    backend.open_chord(group_id, [f"{group_id}-{place}" for place in range(size)], BODY)
    for place in range(3):
        settle_part(backend, group_id, place)
    replicated(kind, servers)
    kind.kill(servers, backend._keys.chord(group_id).own)
    together(*(partial(insisting, settle_part, backend, group_id, place) for place in range(3, size)))
    sent = backend.app.wait_sent(1, PATIENCE)
    assert [each.args for each in sent] == [([value_of(f"{group_id}-{place}") for place in range(size)],)]
    servers.wait_ok()
    backend.sweep()
    assert len(backend.app.sent) == 1
    assert backend.chord_state(group_id).done


def test_a_wait_ends_in_time_while_there_is_no_master(kind, servers, connect):
    """Whoever waits for less than the failover takes is told so, by a TimeoutError alone."""
    backend = connect(kind.engine, servers)
    kind.kill(servers, "celery-task-meta-late")
    for timeout in (0, 0.5):
        with pytest.raises(TimeoutError):
            backend.wait_for("late", timeout=timeout)


# -- a slot that moves ---------------------------------------------------------------------------


def moving(cluster, key):
    """(slot, the master that does not have it)."""
    slot = slot_of(key)
    owner = cluster.owner(slot)
    return slot, next(node for node in cluster.nodes[:3] if node is not owner)


def test_a_record_is_guarded_while_its_slot_moves(cluster, connect):
    """Before, while and after its key moves, a write finds the record, and obeys it."""
    backend = connect(RedisClusterBackend, cluster)
    key = backend._keys.task("task")
    slot, target = moving(cluster, key)
    backend.mark_as_failure("task", ValueError("first"))
    steps = [
        lambda: cluster.begin_migration(slot, target),
        lambda: cluster.move_key(key),
        lambda: cluster.end_migration(slot),
    ]
    for step in steps:
        step()
        assert not backend.mark_as_started("task")
        assert backend.get_state("task") == FAILURE
        fresh = connect(RedisClusterBackend, cluster)
        assert (fresh.get_state("task"), fresh.mark_as_started("task").landed) == (FAILURE, False)
    assert backend.mark_as_done("task", "second")
    assert backend.get_result("task") == "second"


def test_a_waiter_hears_of_a_write_after_the_move(cluster, connect):
    """The channel moves with the slot: who waits listens anew."""
    waiting, writing = connect(RedisClusterBackend, cluster), connect(RedisClusterBackend, cluster)
    key = waiting._keys.task("task")
    slot, target = moving(cluster, key)
    waiting.mark_as_started("task")
    heard = threading.Event()
    waiting.watcher.add("task", lambda _: heard.set())
    cluster.migrate(slot, target)
    writing.mark_as_done("task", "moved")
    assert heard.wait(PATIENCE)


def test_a_chord_is_counted_while_its_slot_moves(cluster, connect):
    """With its keys on two servers a part waits until they are together again, and is counted once."""
    backend = connect(RedisClusterBackend, cluster)
    members = [f"m{number}" for number in range(3)]
    backend.open_chord("group", members, BODY)
    keys = backend._keys.chord("group")
    slot, target = moving(cluster, keys.own)

    def settle(number):
        payload = json.dumps({"status": SUCCESS, "result": number, "task_id": members[number]}).encode()
        write = Settle(
            members[number], SUCCESS, payload, part=Part("group", number), claim=Claim("token", 60.0)
        )
        return backend.call(backend.do_settle, write).claimed

    assert not settle(0)
    cluster.begin_migration(slot, target)
    cluster.move_key(keys.own)
    second = Running(partial(settle, 1))
    for key in (keys.members, keys.claim, keys.due, keys.open):
        cluster.move_key(key)
    cluster.end_migration(slot)
    assert second.result(PATIENCE) is False
    assert settle(2)
    assert backend.chord_state("group").parts == (SUCCESS,) * 3


def test_listing_while_a_slot_moves_shows_everything(cluster, connect):
    """Keys on the way are read where they are."""
    backend = connect(RedisClusterBackend, cluster)
    for number in range(20):
        backend.store_result(f"task-{number}", None, STARTED)
    key = backend._keys.task("task-0")
    slot, target = moving(cluster, key)
    cluster.begin_migration(slot, target)
    cluster.move_key(key)
    assert {row.task_id for row in backend.query()} == {f"task-{number}" for number in range(20)}
    cluster.end_migration(slot)
    assert len(list(backend.query())) == 20
