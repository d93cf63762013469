"""A Redis or Valkey cluster, in which a record is not where its chord is: two steps instead of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, cast

from msgspec.structs import replace

from settled.backends.redis import listing
from settled.backends.redis.backend import RedisBackend
from settled.backends.redis.chords import Chords
from settled.backends.redis.client import Client
from settled.backends.redis.keys import Keys
from settled.backends.redis.link import Link
from settled.backends.redis.listener import RedisListener
from settled.backends.redis.nodes import Nodes
from settled.backends.redis.places import PORT, settings_of
from settled.backends.redis.records import Head
from settled.backends.redis.scripts import script
from settled.errors import ConfigurationError, StoreUnavailable
from settled.record import Capabilities, Chord, Meta, Query, Row, Settle, Settled
from settled.states import READY_STATES

_STATE = re.compile(rb'\{"status": ?"([^"\\]+)"')


class RedisClusterBackend(RedisBackend):
    """As `RedisBackend`, spread over the servers of a cluster.

    The chord's part is counted in a step of its own behind the record: what a crash leaves uncounted
    between the two is counted by the sweep, within `chords.RECOUNT_INTERVAL`. There is no index.
    """

    capabilities: ClassVar[Capabilities] = replace(RedisBackend.capabilities, atomic=False)
    default_url = "redis+cluster://localhost:6379"

    def _open_client(self) -> Client:
        if not self.location.hosts:
            raise ConfigurationError(f"{self.location.scheme}:// needs a host: {self.default_url}")
        if self.options.get("index"):
            raise ConfigurationError(f"{self.location.scheme}:// keeps no index: leave out index=true")
        settings = settings_of(self.location, self.options)
        if settings["db"]:
            raise ConfigurationError("a cluster has no databases but 0: tell programs apart by prefix=")
        seeds = [(host, port or PORT) for host, port in self.location.hosts]
        self._nodes = Nodes(seeds, settings, self._limit, self._timeout, self.time_left)
        return cast("Client", self._nodes)  # it has the calls that are made here

    def _name_keys(self) -> Keys:
        prefix = str(self.options.get("prefix", ""))
        if "{" in prefix:
            raise ConfigurationError("in a cluster the prefix may hold no '{': it decides where keys are")
        return Keys(prefix, sharded=True)

    def _open_chords(self) -> Chords:
        return Chords(self._client, self._keys, self._heads, apart=True, shared=False, parts=None)

    def do_adopt_chord(self, chord: Chord) -> None:
        """Nothing: Celery has no result backend for clusters, and opens no chords here."""

    def do_size_chord(self, group_id: str, size: int) -> None:
        """Nothing, for the same reason."""

    def do_read_parts(self, group_id: str) -> Mapping[str, Meta]:
        return {}

    def part_value(self, task_id: str, status: str, result: object) -> bytes | None:
        return None  # Celery has no result backend for clusters, so none of its workers counts here

    def _settle_by(self, write: Settle, given: tuple[bytes | str, ...]) -> object:
        key = self._keys.task(write.task_id)
        return self._nodes.run(script("settle", "SPUBLISH"), (key,), given)

    def do_settle(self, write: Settle) -> Settled:
        settled = super().do_settle(write)
        if write.part is None or settled.state not in READY_STATES:
            return settled
        claimed = self._chords.settled(write.part.group_id, write.task_id, settled.state, write.claim)
        return replace(settled, claimed=claimed)

    def _heads(self, task_ids: Sequence[str]) -> dict[str, Head]:
        keys = [*map(self._keys.task, task_ids)]
        begun = self._nodes.ask_each([(b"GETRANGE", key, b"0", b"95") for key in keys])
        lives = self._nodes.ask_each([(b"PTTL", key) for key in keys])
        found: dict[str, Head] = {}
        unread: dict[str, int] = {}
        for task_id, begin, left in zip(task_ids, begun, cast("list[int]", lives), strict=True):
            state = _STATE.match(cast("bytes", begin))
            if state is not None:
                found[task_id] = Head(state[1].decode(), 0, left)
            elif begin:
                unread[task_id] = left
        for task_id, head in super()._heads(list(unread)).items():
            found[task_id] = head._replace(left=unread[task_id])
        return found

    def _payloads(self, task_ids: Sequence[str]) -> dict[str, bytes]:
        values = self._nodes.ask_each([(b"GET", self._keys.task(task_id)) for task_id in task_ids])
        return {
            task_id: cast("bytes", value)
            for task_id, value in zip(task_ids, values, strict=True)
            if value is not None
        }

    def do_forget(self, task_ids: Sequence[str]) -> None:
        self._nodes.ask_each([(b"UNLINK", self._keys.task(task_id)) for task_id in task_ids])

    def do_query(self, query: Query) -> Iterator[Row]:
        return listing.scanned(self._nodes.masters(), self._keys, query, self.read_meta, self._payloads)

    def do_lease(self, names: Sequence[str], token: str, seconds: float) -> frozenset[str]:
        return frozenset().union(
            *(super(RedisClusterBackend, self).do_lease((name,), token, seconds) for name in names)
        )

    def _new_listener(self) -> RedisListener:
        self._nodes.forget()  # this may be because a slot has moved
        links: dict[Client, Link] = {}
        try:
            for client in self._nodes.masters():
                links[client] = client.connect()
        except BaseException:
            for link in links.values():
                link.close()
            raise

        def share(channels: Sequence[bytes]) -> dict[Link, list[bytes]]:
            found = self._nodes.by_master(channels)
            if not found.keys() <= links.keys():
                raise StoreUnavailable(f"{self.url} has another master now: listening anew")
            return {links[client]: heard for client, heard in found.items()}

        return RedisListener(list(links.values()), share, self._keys, sharded=True, timeout=self._timeout)
