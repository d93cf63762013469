"""The names of keys and channels. Those of records, groups and chords are Celery's."""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

SHARDS = 16
"""Into how many slots the chords of a cluster are spread: each has its own list of what is due."""


class ChordKeys(NamedTuple):
    """The keys of one chord, all in one slot. In the order in which the scripts take them."""

    own: bytes
    members: bytes
    claim: bytes
    due: bytes
    open: bytes
    parts: bytes
    counted: bytes
    size: bytes
    growth: bytes


class Keys:
    """Names keys, each beginning with `prefix`.

    Args:
        sharded: a chord's keys carry a tag that puts them into one of `SHARDS` slots of a cluster.
    """

    def __init__(self, prefix: str, sharded: bool = False) -> None:
        self.prefix = prefix
        self.task_prefix = f"{prefix}celery-task-meta-".encode()
        self._group_prefix = f"{prefix}celery-taskset-meta-".encode()
        self._sharded = sharded
        self.index_prefix = f"{prefix}settled-index".encode()
        self._lease_prefix = f"{prefix}settled-lease-".encode()
        self.tags = [f"{{settled-{shard}}}" for shard in range(SHARDS)] if sharded else [""]

    def task(self, task_id: str) -> bytes:
        """Of a record, and the channel on which its writes are told."""
        return self.task_prefix + task_id.encode("utf-8", "surrogateescape")

    def task_id(self, key: bytes) -> str:
        return key[len(self.task_prefix) :].decode("utf-8", "surrogateescape")

    def group(self, group_id: str) -> bytes:
        return self._group_prefix + group_id.encode()

    def lease(self, name: str) -> bytes:
        return self._lease_prefix + name.encode()

    def due(self, tag: str) -> tuple[bytes, bytes]:
        """Of the chords that are due, and of those that are open."""
        begin = f"{self.prefix}{tag}settled-".encode()
        return begin + b"due", begin + b"open"

    def chord(self, group_id: str) -> ChordKeys:
        tag = self.tags[crc32(group_id.encode()) % len(self.tags)]
        due, opened = self.due(tag)
        base = f"{self.prefix}{tag}celery-taskset-meta-{group_id}".encode()
        return ChordKeys(
            base + b".o",
            base + b".m",
            base + b".c",
            due,
            opened,
            base + b".j",
            base + b".d",
            base + b".s",
            base + b".t",
        )
