"""Sets of servers: they form, one dies, another takes its place."""

from __future__ import annotations

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

from tests.servers import KINDS, Cluster, Sentinels
from tests.servers.topologies import SLOTS, slot_of

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_sentinels_know_the_master_and_replicas_have_its_data(kind):
    with Sentinels.start(kind, skewed=True, options={"min-replicas-to-write": "2"}) as sentinels:
        master, replicas = sentinels.master(), sentinels.replicas()
        assert len({master, *replicas}) == 3
        with master.client() as client:
            client.set("key", "value", px=60_000)
            assert client.wait(2, 5000) == 2
        assert [replica.ask("GET", "key") for replica in replicas] == [b"value"] * 2
        sentinels.clock.advance(100 * 365.25 * 86400)
        assert [server.ask("GET", "key") for server in (master, *replicas)] == [None] * 3
        sentinels.wait_ok()
        assert sentinels.master() is master


def test_a_replica_takes_the_place_of_a_master_that_was_killed():
    with Sentinels.start() as sentinels:
        hosts = sentinels.url.removeprefix("sentinel://").partition("/")[0].split(",")
        assert sentinels.url.endswith("/0?master_name=settled")
        finder = Sentinel([tuple(host.split(":")) for host in hosts])
        assert finder.discover_master("settled") == ("127.0.0.1", sentinels.master().port)
        with sentinels.master().client() as client:
            client.set("key", "value")
            client.wait(2, 5000)

        killed = sentinels.kill_master()
        sentinels.wait_ok()
        master = sentinels.master()
        assert master is not killed
        assert finder.discover_master("settled") == ("127.0.0.1", master.port)
        assert master.ask("INCR", "count") == 1
        assert master.ask("GET", "key") == b"value"

        sentinels.restore(killed)
        assert sentinels.master() is master
        assert killed.ask("GET", "count") == b"1"
        for sentinel in finder.sentinels:
            sentinel.close()


def cluster_client(cluster):
    hosts = cluster.url.removeprefix("redis+cluster://").split(",")
    return RedisCluster(startup_nodes=[ClusterNode(*host.split(":")) for host in hosts])


@every_kind
def test_a_cluster_serves_every_slot_while_one_moves(kind):
    with Cluster.start(kind, skewed=True) as cluster, cluster_client(cluster) as client:
        keys = [f"key {number}" for number in range(12)]
        assert {cluster.owner(slot_of(key)) for key in keys} == set(cluster.nodes[:3])
        for key in keys:
            client.set(key, key)
        source = cluster.owner(slot := slot_of(keys[0]))
        target = cluster.owner((slot + SLOTS // 3 + 1) % SLOTS)
        client.set(other := "{%s} other" % keys[0], "other")  # noqa: UP031

        cluster.begin_migration(slot, target)
        cluster.move_key(keys[0])
        with pytest.raises(redis.exceptions.AskError):
            source.ask("GET", keys[0])
        with pytest.raises(redis.exceptions.TryAgainError):
            source.ask("MGET", keys[0], other)
        assert source.ask("GET", other) == b"other"
        cluster.move_key(other)
        cluster.end_migration(slot)
        with pytest.raises(redis.exceptions.MovedError):
            source.ask("GET", keys[0])
        cluster.wait_ok()
        assert cluster.owner(slot) is target
        assert [client.get(key) for key in keys] == [key.encode() for key in keys]

        cluster.migrate(slot, source)
        assert source.ask("MGET", keys[0], other) == [keys[0].encode(), b"other"]
        cluster.clock.advance(1000.0)
        assert client.set(keys[0], "again")


def test_a_replica_takes_over_the_slots_of_a_master_that_was_killed():
    with Cluster.start("redis") as cluster:
        killed = cluster.owner(0)
        killed.ask("SET", key := key_of(cluster, killed), "value")
        killed.ask("WAIT", 1, 5000)
        replica = cluster.replica_of(killed)
        killed.kill()
        cluster.wait_ok()
        assert cluster.owner(0) is replica
        assert replica.ask("GET", key) == b"value"
        killed.restart()
        cluster.wait_ok()
        assert cluster.owner(0) is replica
        assert cluster.replica_of(replica) is killed


def key_of(cluster, node):
    keys = (f"key {number}" for number in range(100))
    return next(key for key in keys if cluster.owner(slot_of(key)) is node)
