"""Servers that replace one of them when it dies: a master with replicas under sentinels, and a cluster."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Self

from tests.servers.clock import Clock
from tests.servers.port import Port
from tests.servers.server import PATIENCE, Server, Startable, client_errors, started
from tests.servers.until import until

# Copies begin at once, and no jump of the clock makes a server believe that another one is long silent.
REPLICATION = {"repl-diskless-sync-delay": "0", "repl-timeout": str(2**31 - 1)}


class Topology(Startable):
    """Servers that start and stop together. `options` are for those that hold data, as for one server."""

    def __init__(self, kind: str, skewed: bool, options: Mapping[str, str]) -> None:
        self.kind = kind
        self._folder = Path(tempfile.mkdtemp(prefix=f"settled-{kind}-"))
        self._clock = Clock(self._folder / "clock") if skewed else None
        self._options = REPLICATION | dict(options)
        self._servers: list[Server] = []

    @classmethod
    def start(cls, kind: str = "redis7", *, skewed: bool = False, options: Mapping[str, str] = {}) -> Self:
        """All of them, ready to be used. `skewed` gives those that hold data one `clock`."""
        return started(lambda: cls(kind, skewed, options))

    @property
    def clock(self) -> Clock:
        """The clock of the servers; only if they were started with one."""
        assert self._clock is not None, "the servers were not started with a clock"
        return self._clock

    def ready(self) -> None:
        self.wait_ok()

    def wait_ok(self, timeout: float = PATIENCE) -> None:
        """Wait until all that are awake agree who is the master of what, and every replica has its copy."""
        until(self._whole, timeout, "agreement of the servers", despite=client_errors())

    def stop(self) -> None:
        for server in self._servers:
            server.stop()
        if self._clock is not None:
            self._clock.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _whole(self) -> bool:
        raise NotImplementedError

    def _run(self, **options: str) -> Server:
        """One more server that holds data."""
        server = Server(self.kind, clock=self._clock, options=self._options | options)
        self._servers.append(server)
        server.launch()
        server.ready()
        return server

    def _at(self, port: int) -> Server:
        return next(server for server in self._servers if server.port == port)


class Sentinels(Topology):
    """A master, two replicas and three sentinels.

    A replica becomes the master 2 to 3 s after the old one died; `wait_ok` takes 2 more until all is quiet again.

    The sentinels' own clocks are right: when their time jumps, they do nothing for half a minute.
    """

    name = "settled"

    def launch(self) -> None:
        master = self._run()
        for _ in range(2):
            self._run(replicaof=f"127.0.0.1 {master.port}")
        self._data = list(self._servers)
        self.sentinels = list(self._sentinels(master.port))

    def _sentinels(self, master: int) -> Iterator[Server]:
        """They know each other from the start; to find each other would take them seconds."""
        ports = [Port.take() for _ in range(3)]
        for port in ports:
            options = {
                "sentinel myid": _sentinel_id(port),
                "sentinel monitor": f"{self.name} 127.0.0.1 {master} 2",
                "sentinel down-after-milliseconds": f"{self.name} 1000",
                "sentinel failover-timeout": f"{self.name} 3000",
            }
            for other in ports:
                if other is not port:
                    known = f"sentinel known-sentinel {self.name} 127.0.0.1 {other.number}"
                    options[known] = _sentinel_id(other)
            sentinel = Server(self.kind, port=port, options=options, arguments=["--sentinel"])
            self._servers.append(sentinel)
            sentinel.launch()
            sentinel.ready()
            yield sentinel

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://{hosts}/0?master_name={self.name}"

    def master(self) -> Server:
        """The server that is the master now, as the first sentinel that is awake says."""
        sentinel = next(sentinel for sentinel in self.sentinels if sentinel.awake())
        _, port = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        return self._at(int(port))

    def replicas(self) -> list[Server]:
        """The servers that hold data and are not the master, dead or alive."""
        master = self.master()
        return [server for server in self._data if server is not master]

    def kill_master(self) -> Server:
        """Kill the master, and return it. `wait_ok` waits for another one."""
        master = self.master()
        master.kill()
        return master

    def restore(self, server: Server) -> None:
        """Run a server again that was killed, as a replica. The sentinels alone would take 10 s for it."""
        master = self.master()
        server.restart()
        server.ask("REPLICAOF", "127.0.0.1", master.port)
        self.wait_ok()

    def _whole(self) -> bool:
        master = self.master()
        for sentinel in self.sentinels:
            if sentinel.awake() and not self._content(sentinel, master):
                return False
        replicas = [server for server in self._data if server.awake() and server is not master]
        return (
            master.awake()
            and master.ask("ROLE")[0] == b"master"
            and all(_follows(replica, master.port) for replica in replicas)
        )

    def _content(self, sentinel: Server, master: Server) -> bool:
        """Whether a sentinel is in the midst of nothing, has this master, and could replace it."""
        words = sentinel.ask("SENTINEL", "MASTER", self.name)
        said = dict(zip(words[::2], words[1::2], strict=True))
        sentinel.ask("SENTINEL", "CKQUORUM", self.name)  # or it raises
        return int(said[b"port"]) == master.port and said[b"flags"] == b"master"


def _sentinel_id(port: Port) -> str:
    return f"{port.number:040}"


def _follows(replica: Server, master: int) -> bool:
    """Whether this is a replica of the server at that port, with its data."""
    role, _, port, state, _ = [*replica.ask("ROLE"), None, None][:5]
    return (role, port, state) == (b"slave", master, b"connected")


SLOTS = 16_384


@dataclass(frozen=True, slots=True)
class Member:
    """A node as a node sees it: itself or another one."""

    node_id: str
    port: int
    flags: frozenset[str]
    master_id: str
    epoch: int
    slots: tuple[range, ...]

    def has(self, slot: int) -> bool:
        return any(slot in each for each in self.slots)


class Cluster(Topology):
    """Three masters, each with a third of the slots, and three replicas, each of one of them.

    A replica becomes the master 3 to 5 s after its own one died.
    """

    def launch(self) -> None:
        self._options |= {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        self.nodes = [self._run() for _ in range(6)]
        self._migrating: dict[int, tuple[Server, Server]] = {}
        masters, replicas = self.nodes[:3], self.nodes[3:]
        bounds = [SLOTS * part // 3 for part in range(4)]
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node, other in combinations(self.nodes, 2):
            node.ask("CLUSTER", "MEET", "127.0.0.1", other.port)
        for number, node in enumerate(masters):
            node.ask("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for master, replica in zip(masters, replicas, strict=True):
            until(lambda: self._knows(replica, master), PATIENCE, "a node's meeting another")  # noqa: B023
            replica.ask("CLUSTER", "REPLICATE", self._id(master))

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def owner(self, slot: int) -> Server:
        """The node that is the slot's master and awake; of two that believe it, the one elected later."""
        claims = [
            (me.epoch, node.port)
            for node in self.nodes
            if node.awake() and (me := self._myself(node)).has(slot) and "master" in me.flags
        ]
        assert claims, f"slot {slot} has no master that is awake"
        return self._at(max(claims)[1])

    def replica_of(self, master: Server) -> Server:
        """A node that is awake and a replica of this one."""
        master_id = self._id(master)
        return next(
            node
            for node in self.nodes
            if node is not master and node.awake() and self._myself(node).master_id == master_id
        )

    # -- moving slots ------------------------------------------------------------------------

    def migrate(self, slot: int, target: Server) -> None:
        """Move a slot with its keys to another master, by the steps below."""
        self.begin_migration(slot, target)
        source, _ = self._migrating[slot]
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            for key in keys:
                self.move_key(key)
        self.end_migration(slot)

    def begin_migration(self, slot: int, target: Server) -> None:
        """From now on its owner answers ASK for keys of the slot that it does not have."""
        source = self.owner(slot)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))
        self._migrating[slot] = source, target

    def move_key(self, key: str | bytes) -> None:
        """Move a key whose slot is migrating."""
        source, target = self._migrating[slot_of(key)]
        source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)

    def end_migration(self, slot: int) -> None:
        """From now on the target owns the slot, and its former owner answers MOVED; the others learn it from them."""
        source, target = self._migrating.pop(slot)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", self._id(target))

    # -- what nodes say ----------------------------------------------------------------------

    def _id(self, node: Server) -> str:
        return str(node.ask("CLUSTER", "MYID"), "ascii")

    def _knows(self, node: Server, other: Server) -> bool:
        return any(member.node_id == self._id(other) for member in _members(node))

    def _myself(self, node: Server) -> Member:
        return next(member for member in _members(node) if "myself" in member.flags)

    def _whole(self) -> bool:
        nodes = [node for node in self.nodes if node.awake()]
        views = {node.port: _members(node) for node in nodes}
        layouts = {
            frozenset((each.port, each.master_id, each.slots) for each in view if each.port in views)
            for view in views.values()
        }
        if len(layouts) != 1 or any("handshake" in each.flags for view in views.values() for each in view):
            return False
        return all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes) and all(
            me.slots or node.ask("ROLE")[3:4] == [b"connected"]  # not so of one that has just become a master
            for node in nodes
            for me in views[node.port]
            if "myself" in me.flags
        )


def slot_of(key: str | bytes) -> int:
    from redis.crc import key_slot

    return key_slot(key.encode() if isinstance(key, str) else key)


def _members(node: Server) -> list[Member]:
    """What a node's CLUSTER NODES says."""
    members = []
    for line in str(node.ask("CLUSTER", "NODES"), "ascii").splitlines():
        node_id, address, flags, master_id, _, _, epoch, _, *ranges = line.split()
        port = int(address.split("@")[0].rpartition(":")[2])
        slots = tuple(_slots(each) for each in ranges if "[" not in each)  # those in brackets are migrating
        members.append(Member(node_id, port, frozenset(flags.split(",")), master_id, int(epoch), slots))
    return members


def _slots(text: str) -> range:
    """`5` and `5-7` as CLUSTER NODES has them."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
