"""Listing records: by the index where there is one, else by looking at every key in bounded steps."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import msgspec

from settled.backends.keyvalue import row_from, row_of
from settled.backends.redis.client import Client
from settled.backends.redis.keys import Keys
from settled.backends.redis.scripts import script
from settled.record import Meta, Query, Row, Settle

STEP = 500
"""Keys, or rows of the index, that the server looks at in one go."""

Payloads = Callable[[Sequence[str]], Mapping[str, bytes]]
ReadMeta = Callable[[str, bytes | str], Meta]


def scanned(
    clients: Sequence[Client], keys: Keys, query: Query, read_meta: ReadMeta, payloads: Payloads
) -> Iterator[Row]:
    """The newest records that match, found by SCAN. Every record is read; other clients get their turns."""
    rows = (
        row
        for client in clients
        for task_id, payload in _records(client, keys, payloads)
        if query.matches(row := row_from(task_id, payload, read_meta), row.created)
    )
    return iter(heapq.nlargest(query.limit, rows, key=lambda row: row.created))


def _records(client: Client, keys: Keys, payloads: Payloads) -> Iterator[tuple[str, bytes]]:
    """(task id, payload) of every record on one server, each once."""
    pattern = _literal(keys.task_prefix) + b"*"
    seen: set[bytes] = set()
    cursor: bytes = b"0"
    while True:
        answer = client.ask(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", str(STEP), b"TYPE", b"string")
        cursor, found = cast("tuple[bytes, list[bytes]]", answer)
        fresh = [key for key in dict.fromkeys(found) if key not in seen]
        seen.update(fresh)
        yield from payloads([keys.task_id(key) for key in fresh]).items()
        if cursor == b"0":
            return


def _literal(text: bytes) -> bytes:
    """A pattern that matches just this text."""
    special = b"*?[]^\\"
    return b"".join(b"\\" + bytes([byte]) if byte in special else bytes([byte]) for byte in text)


class Index:
    """The optional index: rows beside the records, written in the same step.

    `call` is the engine's retry layer: a listing is read page by page, as it is asked for.
    """

    def __init__(self, client: Client, keys: Keys, call: Callable[..., object]) -> None:
        self._call = call
        self._client = client
        self._keys = keys
        self._name = keys.index_prefix

    def args(self, write: Settle) -> tuple[bytes | str, ...]:
        """What `settle_indexed` is given beyond `settle_part`."""
        known = (write.name, write.worker, write.queue, write.group_id, write.parent_id, write.root_id)
        return (self._name, *(each or "" for each in known))

    def forget(self, task_ids: Sequence[str]) -> None:
        records = [*map(self._keys.task, task_ids)]
        named = (self._name, *records)
        self._client.run(script("forget_indexed"), records, (self._name, *task_ids), named)

    def rows(self, query: Query) -> Iterator[Row]:
        """The newest rows that match. A task that is written meanwhile is listed at most once."""
        limit = query.limit
        listed: set[str] = set()
        for task_id, row, updated in self._newest(query):
            if limit <= 0:
                return
            if task_id not in listed and query.matches(row, updated):
                listed.add(task_id)
                limit -= 1
                yield row

    def _newest(self, query: Query) -> Iterator[tuple[str, Row, float]]:
        latest: str | bytes = "+inf" if query.until is None else f"({query.until!r}"
        earliest = "-inf" if query.since is None else repr(query.since)
        passed = 0
        while True:
            given = (self._name, self._set(query), latest, earliest, passed, STEP, self._keys.task_prefix)
            answer = cast(
                "list[int | bytes]", self._call(self._client.run, script("page"), (), given, (self._name,))
            )
            if not answer:
                return
            latest, passed = cast("bytes", answer[0]), cast("int", answer[1])
            flat = cast("list[bytes]", answer[2:])
            for task_id, packed in zip(flat[::2], flat[1::2], strict=True):
                yield _row(task_id.decode("utf-8", "surrogateescape"), packed)

    def _set(self, query: Query) -> bytes:
        """The shortest list that holds everything asked for."""
        if query.group_id is not None:
            return self._name + b":g:" + query.group_id.encode()
        if query.name is not None:
            return self._name + b":n:" + query.name.encode()
        if len(query.states) == 1:
            return self._name + b":s:" + query.states[0].encode()
        return self._name + b":t"


class _Packed(msgspec.Struct, array_like=True):
    """A row as the index holds it: False where nothing is known."""

    state: str
    name: str | bool
    worker: str | bool
    queue: str | bool
    group_id: str | bool
    parent_id: str | bool
    root_id: str | bool
    attempt: float
    created: float
    started: float | bool
    done: float | bool
    expires: float | bool
    size: float
    updated: float


def _row(task_id: str, packed: bytes) -> tuple[str, Row, float]:
    """Task id, row and time of the latest write; a damaged row is listed as UNREADABLE."""
    try:
        return _read_row(task_id, msgspec.msgpack.decode(packed, type=_Packed))
    except (msgspec.DecodeError, ValueError, OverflowError):
        return task_id, row_of(task_id, {"status": "UNREADABLE"}, len(packed)), 0.0


def _read_row(task_id: str, held: _Packed) -> tuple[str, Row, float]:
    row = Row(
        task_id,
        held.state,
        **{name: getattr(held, name) or None for name in _TEXTS},
        attempt=int(held.attempt),
        created=held.created,
        started=held.started or None,
        done=held.done or None,
        expires=held.expires or None,
        size=int(held.size),
    )
    return task_id, row, held.updated


_TEXTS = ("name", "worker", "queue", "group_id", "parent_id", "root_id")
