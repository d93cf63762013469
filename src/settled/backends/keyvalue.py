"""The backend of a store that knows keys and values: an author writes get, set and delete.

With `compare_and_set` the transition rule, chords and leases hold against concurrent writers; with
`keys` records can be listed and cleaned up; `mget`, `expire` and `incr` make things faster.
Defining a method declares what follows from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from inspect import signature
from types import FunctionType
from typing import ClassVar, cast

import msgspec

from settled.backends.barrier import KeyValueBarrier
from settled.backends.protocols import Result, field, text_field
from settled.backends.template import BaseBackend, header_tasks, tasks_of
from settled.codec import compression
from settled.errors import ConfigurationError, ContentRefused, DecodeError
from settled.record import (
    Capabilities,
    FailurePolicy,
    Gone,
    Meta,
    Query,
    Row,
    Settle,
    Settled,
    checked_id,
    meta_of,
)
from settled.states import FAILURE, READY_STATES, may_replace

Key = bytes | str

_STATUS = re.compile(rb"(?s)status(?:q.)?X?[^A-Za-z]{1,6}([A-Z][A-Z_]*)[^A-Z_]")
"""The status of a record that is not read: JSON, msgpack, pickle (older protocols have a `q` and an `X` there)."""


class KeyValueStoreBackend(KeyValueBarrier, BaseBackend):
    """Celery's records under Celery's keys, in any store with get, set and delete."""

    task_keyprefix: Key = "celery-task-meta-"
    group_keyprefix: Key = "celery-taskset-meta-"
    chord_keyprefix: Key = "chord-unlock-"
    implements_incr = False

    capabilities: ClassVar[Capabilities] = Capabilities(shared=True)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        swaps = cls.compare_and_set is not KeyValueStoreBackend.compare_and_set
        lists = cls.keys is not KeyValueStoreBackend.keys
        expires = cls.expire is not KeyValueStoreBackend.expire
        cls.stamps_expiry = not expires
        cls.stamps_writes = lists
        key_t = cls.__dict__.get("key_t")
        if isinstance(key_t, FunctionType) and len(signature(key_t).parameters) == 1:
            # Published engines say `key_t = bytes_to_str`: a plain function, and no method.
            cls.key_t = staticmethod(key_t)  # type: ignore[method-assign]
        if "capabilities" not in cls.__dict__:
            cls.capabilities = msgspec.structs.replace(
                cls.capabilities,
                guarded=swaps,
                chords=swaps,
                leases=swaps,
                durable=cls.persistent,
                queries=lists,
                expiry="store" if expires else "cleanup" if lists else "none",
            )

    # -- what a store author writes -------------------------------------------------------------

    def get(self, key: Key) -> bytes | str | None:
        """The value under `key`, or None."""
        raise NotImplementedError(f"{type(self).__name__} must implement get(key)")

    def set(self, key: Key, value: bytes) -> object:
        """Store `value` under `key`, whatever was there."""
        raise NotImplementedError(f"{type(self).__name__} must implement set(key, value)")

    def delete(self, key: Key) -> object:
        """Delete `key`; not an error if it is not there."""
        raise NotImplementedError(f"{type(self).__name__} must implement delete(key)")

    # -- what may be added ------------------------------------------------------------------------

    def compare_and_set(self, key: Key, old: bytes | str | None, new: bytes) -> bool:
        """Store `new` if the value is still `old` (None: no value), atomically; whether it was stored."""
        raise NotImplementedError(f"{type(self).__name__} has no compare_and_set(key, old, new)")

    def mget(self, keys: Sequence[Key]) -> Sequence[bytes | str | None] | Mapping[Key, bytes | str | None]:
        """The values of `keys`, in order or by key."""
        return [self.get(key) for key in keys]

    def incr(self, key: Key) -> int:
        """Add one to the counter under `key`, atomically; its new value. Declared by `implements_incr`."""
        raise NotImplementedError(f"{type(self).__name__} must implement incr(key)")

    def expire(self, key: Key, value: float) -> object:
        """Have the store drop `key` in `value` seconds."""
        raise NotImplementedError(f"{type(self).__name__} must implement expire(key, value)")

    def keys(self, prefix: Key) -> Iterator[Key]:
        """Every key that begins with `prefix`."""
        raise NotImplementedError(f"{type(self).__name__} has no keys(prefix)")

    # -- keys -------------------------------------------------------------------------------------

    def key_t(self, s: str | bytes) -> Key:
        """A key in the type that the store wants: bytes, unless an engine says otherwise."""
        return s if isinstance(s, bytes) else s.encode()

    def get_key_for_task(self, task_id: str) -> Key:
        return self.key_t(_text(self.task_keyprefix) + checked_id(task_id))

    def get_key_for_group(self, group_id: str) -> Key:
        return self.key_t(_text(self.group_keyprefix) + checked_id(group_id, "group id"))

    def get_key_for_chord(self, group_id: str) -> Key:
        return self.key_t(_text(self.chord_keyprefix) + checked_id(group_id, "group id"))

    def values_of(self, keys: Sequence[Key]) -> list[bytes | str | None]:
        """`mget` as a list in the order of `keys`, whichever form the store answers in."""
        values = self.mget(keys)
        return [values.get(key) for key in keys] if isinstance(values, Mapping) else list(values)

    # -- hooks ------------------------------------------------------------------------------------

    def do_settle(self, write: Settle) -> Settled:
        key = self.get_key_for_task(write.task_id)
        while True:
            old = self.get(key)
            state, attempt = self._head(old)
            if not may_replace(state, attempt, write.state, write.attempt):
                # Made before, it is repeated since its answer was lost.
                landed = state == write.state and old == write.payload
                break
            if not self.capabilities.guarded:
                self.set(key, write.payload)
            elif not self.compare_and_set(key, old, write.payload):
                continue
            landed = True
            self.expire_key(key, write.expires)
            break
        stored = write.state if landed or state is None else state
        claimed = False
        if write.part is not None and stored in READY_STATES:
            claimed = self.count_parts(write.part.group_id, {write.task_id: stored}, write.claim)
        return Settled(landed, stored, claimed)

    def expire_key(self, key: Key, seconds: float | None) -> None:
        """Have the store drop `key` in so many seconds, if it can and there are any."""
        if seconds is not None and not self.stamps_expiry:
            self.expire(key, seconds)

    def _head(self, payload: bytes | str | None) -> tuple[str | None, int]:
        """State and attempt of a stored record; (None, 0) where there is none that counts.

        A damaged record gives way to any write. One in a serializer that is not accepted here is
        still guarded: its status can be seen without decoding it.
        """
        if payload is None or self._expired(payload):
            return None, 0
        return head_of(payload, self.decode)

    def state_of(self, payload: bytes | str) -> str:
        """A stored record's state, for its chord; FAILURE of a damaged one, so that nobody waits for it."""
        try:
            return str(meta_of(self.decode(payload), "")["status"])
        except ContentRefused:
            return self._head(payload)[0] or FAILURE
        except DecodeError:
            return FAILURE

    def _expired(self, payload: bytes | str) -> bool:
        if ("expires_at" if isinstance(payload, str) else b"expires_at") not in payload:  # type: ignore[operator]
            return False
        try:
            meta = self.decode(payload)
        except DecodeError:
            return False
        expires = meta.get("expires_at") if isinstance(meta, dict) else None
        return isinstance(expires, (int, float)) and expires <= self.clock()

    def do_read(self, task_ids: Sequence[str]) -> Mapping[str, bytes | str | Gone]:
        values = self.values_of([self.get_key_for_task(task_id) for task_id in task_ids])
        return {
            task_id: Gone.EXPIRED if self._expired(value) else value
            for task_id, value in zip(task_ids, values, strict=True)
            if value is not None
        }

    def do_forget(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            self.delete(self.get_key_for_task(task_id))

    def do_write_group(self, group_id: str, payload: bytes, expires: float | None) -> None:
        key = self.get_key_for_group(group_id)
        self.set(key, payload)
        self.expire_key(key, expires)

    def do_read_group(self, group_id: str) -> bytes | str | None:
        payload = self.get(self.get_key_for_group(group_id))
        return None if payload is None or self._expired(payload) else payload

    def do_delete_group(self, group_id: str) -> None:
        self.delete(self.get_key_for_group(group_id))

    def do_query(self, query: Query) -> Iterator[Row]:
        found = sorted(
            filter(None, map(self._row, self._task_ids())), key=lambda row: row.created, reverse=True
        )
        matching = (row for row in found if query.matches(row, row.created))
        return (row for row, _ in zip(matching, range(query.limit), strict=False))

    def _task_ids(self) -> list[str]:
        skip = len(self.task_keyprefix)
        keys = self.keys(self.key_t(self.task_keyprefix))
        return [_text(key)[skip:] for key in keys]

    def _row(self, task_id: str) -> Row | None:
        payload = self.get(self.get_key_for_task(task_id))
        if payload is None or self._expired(payload):
            return None
        return row_from(task_id, payload, self.read_meta)

    def do_cleanup(self, limit: int) -> int:
        deleted = 0
        for task_id in self._task_ids():
            key = self.get_key_for_task(task_id)
            payload = self.get(key)
            if payload is not None and self._expired(payload):
                self.count_expired(task_id)
                self.delete(key)
                deleted += 1
                if deleted == limit:
                    return deleted
        for key in list(self.keys(self.key_t(self.group_keyprefix))):
            payload = self.get(key)
            if payload is not None and self._expired(payload):
                self.delete(key)
        self.drop_done_chords()
        return deleted

    # -- chords on a store that counts, but cannot compare and set ---------------------------------

    @property
    def _counts_by_incr(self) -> bool:
        return self.implements_incr and not self.capabilities.chords

    def apply_chord(
        self,
        header: Callable[..., object],
        partial_args: Sequence[object],
        group_id: str,
        body: Mapping[str, object],
        **options: object,
    ) -> object:
        """As `BaseBackend.apply_chord`.

        On a store with `incr` but no `compare_and_set` the header is saved as a group, and nobody
        polls: whoever calls `on_chord_part_return` last looks at its records and dispatches.
        """
        if not self._counts_by_incr:
            return super().apply_chord(header, partial_args, group_id, body, **options)
        if options.get("on_failure") not in (None, FailurePolicy.ALL):
            raise ConfigurationError(f"{self.url} counts by incr alone: on_failure can only be 'all'")
        members = cast("Sequence[Result] | None", options.get("result"))
        if members is not None:
            self._save_header(group_id, tasks_of(members))
        sent = header(*partial_args, task_id=group_id)
        if members is None:
            self._save_header(group_id, header_tasks(sent))
            self._unlock_counted(group_id, body)  # parts may have returned before there was a header
        return sent

    def _save_header(self, group_id: str, members: Sequence[Result]) -> None:
        group = self.app.GroupResult(checked_id(group_id, "group id"), members)  # type: ignore[operator]
        self.save_group(group_id, group)

    def on_chord_part_return(self, task: object, propagate: bool | None = None) -> None:
        """As `BaseBackend.on_chord_part_return`.

        On a store with `incr` but no `compare_and_set` the part is counted by `incr`, and the last
        one looks at the header's records.
        """
        if not self._counts_by_incr:
            super().on_chord_part_return(task, bool(propagate))
            return
        request = field(task, "request") or task
        group_id, body = text_field(request, "group"), field(request, "chord")
        if group_id is None or body is None:
            return
        self.incr(self.get_key_for_chord(group_id))
        self._unlock_counted(group_id, body)

    def _unlock_counted(self, group_id: str, body: object) -> None:
        key = self.get_key_for_chord(group_id)
        members, counted = self.header_of(group_id), self.get(key)
        if members is None or (0 if counted is None else int(counted)) < len(members):
            return
        if self.unlock(group_id, members, body):
            self.delete(key)
            self.delete_group(group_id)


def head_of(payload: bytes | str, decode: Callable[[bytes | str], object]) -> tuple[str | None, int]:
    """State and attempt that a stored record tells; (None, 0) of one that is damaged.

    One in a serializer that is not accepted here tells its status all the same.
    """
    try:
        meta = decode(payload)
    except DecodeError as exc:
        content = payload.encode() if isinstance(payload, str) else payload
        if isinstance(exc, ContentRefused) and content.startswith(compression.MARKER):
            content = compression.decompress(content)
        found = _STATUS.search(content)
        return (found.group(1).decode(), 0) if found else (None, 0)
    status = meta.get("status") if isinstance(meta, dict) else None
    attempt = cast("Meta", meta).get("attempt") if status else 0
    return (status if isinstance(status, str) else None), (attempt if isinstance(attempt, int) else 0)


def _text(key: Key) -> str:
    return key.decode() if isinstance(key, bytes) else key


def row_from(task_id: str, payload: bytes | str, read_meta: Callable[[str, bytes | str], Meta]) -> Row:
    """A listing's row from a stored record; one that cannot be read is listed as UNREADABLE."""
    try:
        meta = read_meta(task_id, payload)
    except DecodeError:
        meta = {"status": "UNREADABLE"}
    return row_of(task_id, meta, len(payload))


def row_of(task_id: str, meta: Mapping[str, object], size: int) -> Row:
    """A listing's row from a record alone: times are what the record says of them."""
    text = {name: None if meta.get(name) is None else str(meta[name]) for name in _COLUMNS}
    attempt, expires = meta.get("attempt"), meta.get("expires_at")
    done = _seconds(meta.get("date_done"))
    updated = meta.get("updated_at")
    return Row(
        task_id,
        str(meta["status"]),
        **text,
        attempt=attempt if isinstance(attempt, int) else 0,
        created=updated if isinstance(updated, float) else done or 0.0,
        started=None,
        done=done,
        expires=expires if isinstance(expires, float) else None,
        size=size,
    )


_COLUMNS = ("name", "worker", "queue", "group_id", "parent_id", "root_id")


def _seconds(iso: object) -> float | None:
    if not isinstance(iso, str):
        return None
    try:
        return datetime.fromisoformat(iso).timestamp()
    except ValueError:
        return None
