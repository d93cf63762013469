"""`memory://`: everything in this process, for tests and for programs whose results need not outlive it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import ClassVar

import msgspec

from settled.backends.base import BaseBackend
from settled.backends.protocols import Application
from settled.errors import ConfigurationError
from settled.record import (
    Capabilities,
    Chord,
    ChordState,
    Claim,
    Gone,
    Query,
    Row,
    Settle,
    Settled,
    is_complete,
)
from settled.states import READY_STATES, STARTED, SUCCESS, may_replace

TOMBSTONE_LIFE = 24 * 3600.0
"""Seconds for which expired and forgotten are told from unknown."""


_KNOWN = ("name", "worker", "queue", "group_id", "parent_id", "root_id")


class _Record(msgspec.Struct):
    write: Settle
    created: float
    updated: float
    started: float | None
    done: float | None
    expires: float | None


class _Barrier(msgspec.Struct):
    chord: Chord
    members: list[str]
    parts: list[str | None]
    places: dict[str, list[int]]
    counted: int = 0
    failed: int = 0
    token: str | None = None
    claimed_until: float = 0.0
    done: float | None = None

    def complete(self) -> bool:
        return is_complete(self.chord.policy, len(self.parts), self.counted, self.failed)


class MemoryBackend(BaseBackend):
    """The result backend in this process's memory. It cannot be shared with other processes."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        guarded=True,
        atomic=True,
        chords=True,
        leases=True,
        queries=True,
        expiry="cleanup",
        tombstones=True,
        columns=True,
    )
    persistent = False
    default_url = "memory://"

    def __init__(self, app: Application, *args: object, **kwargs: object) -> None:
        super().__init__(app, *args, **kwargs)  # type: ignore[arg-type]
        if self.location.host or self.location.path:
            raise ConfigurationError(
                f"memory:// takes no path: for a file write 'sqlite:///...', not {self.url}"
            )
        self._store = threading.RLock()
        self._records: dict[str, _Record] = {}
        self._tombstones: dict[str, tuple[Gone, float]] = {}
        self._groups: dict[str, tuple[bytes, float | None]] = {}
        self._chords: dict[str, _Barrier] = {}
        self._due: dict[str, None] = {}
        self._leases: dict[str, tuple[str, float]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        raise ConfigurationError(
            "memory:// lives in one process and cannot be sent to another: use 'sqlite:///results.db'"
        )

    def do_forked(self) -> None:
        self._store = threading.RLock()  # another thread of the parent may have held it

    # -- records -----------------------------------------------------------------------------

    def do_settle(self, write: Settle) -> Settled:
        with self._store:
            now = self.clock()
            old = self._live(write.task_id, now)
            landed = True
            if old is not None:
                landed = may_replace(old.write.state, old.write.attempt, write.state, write.attempt)
            if landed:
                self._put(write, old, now)
            elif old is not None and (old.write.state, old.write.payload) == (write.state, write.payload):
                landed = True  # before: this is a repetition, its first answer lost
            state = write.state if landed or old is None else old.write.state
            claimed = False
            if write.part is not None and state in READY_STATES:
                claimed = self._count(write.part.group_id, (write.task_id,), write.claim, now)
            return Settled(landed, state, claimed)

    def _put(self, write: Settle, old: _Record | None, now: float) -> None:
        started = None
        if old is not None:
            started = old.started
            known = {name: getattr(old.write, name) for name in _KNOWN if getattr(write, name) is None}
            write = msgspec.structs.replace(write, **known)
        if started is None and write.state == STARTED:
            started = now
        self._records.pop(write.task_id, None)  # so that the latest write is last
        self._tombstones.pop(write.task_id, None)
        self._records[write.task_id] = _Record(
            write,
            old.created if old is not None else now,
            now,
            started,
            now if write.state in READY_STATES else None,
            None if write.expires is None else now + write.expires,
        )

    def _live(self, task_id: str, now: float) -> _Record | None:
        record = self._records.get(task_id)
        if record is None or record.expires is None or record.expires > now:
            return record
        return None

    def do_read(self, task_ids: Sequence[str]) -> Mapping[str, bytes | str | Gone]:
        found: dict[str, bytes | str | Gone] = {}
        with self._store:
            now = self.clock()
            for task_id in task_ids:
                if task_id in self._records:
                    record = self._live(task_id, now)
                    found[task_id] = Gone.EXPIRED if record is None else record.write.payload
                elif task_id in self._tombstones:
                    found[task_id] = self._tombstones[task_id][0]
        return found

    def do_forget(self, task_ids: Sequence[str]) -> None:
        with self._store:
            for task_id in task_ids:
                if self._records.pop(task_id, None) is not None:
                    self._tombstones[task_id] = (Gone.FORGOTTEN, self.clock() + TOMBSTONE_LIFE)

    def do_query(self, query: Query) -> Iterator[Row]:
        with self._store:
            now = self.clock()
            matching = [
                _row(record)
                for task_id, record in self._records.items()
                if self._live(task_id, now) is not None and query.matches(record.write, record.updated)
            ]
        return iter(matching[::-1][: query.limit])

    def do_cleanup(self, limit: int) -> int:
        with self._store:
            now = self.clock()
            expired = [task_id for task_id in self._records if self._live(task_id, now) is None]
            for task_id in expired[:limit]:
                self._count_expired(task_id, now)
                del self._records[task_id]
                self._tombstones[task_id] = (Gone.EXPIRED, now + TOMBSTONE_LIFE)
            self._drop_stale(now)
            return len(expired[:limit])

    def _count_expired(self, task_id: str, now: float) -> None:
        for group_id, barrier in self._chords.items():
            if task_id in barrier.places and barrier.done is None:
                self._count_as(group_id, barrier, task_id, "EXPIRED")

    def _drop_stale(self, now: float) -> None:
        self._tombstones = {key: held for key, held in self._tombstones.items() if held[1] > now}
        self._groups = {key: held for key, held in self._groups.items() if held[1] is None or held[1] > now}
        self._leases = {key: held for key, held in self._leases.items() if held[1] > now}
        old = [
            key
            for key, held in self._chords.items()
            if held.done is not None and held.done + TOMBSTONE_LIFE < now
        ]
        for key in old:
            del self._chords[key]

    # -- groups ------------------------------------------------------------------------------

    def do_write_group(self, group_id: str, payload: bytes, expires: float | None) -> None:
        with self._store:
            self._groups[group_id] = (payload, None if expires is None else self.clock() + expires)

    def do_read_group(self, group_id: str) -> bytes | None:
        with self._store:
            payload, expires = self._groups.get(group_id, (None, None))
            return None if expires is not None and expires <= self.clock() else payload

    def do_delete_group(self, group_id: str) -> None:
        with self._store:
            self._groups.pop(group_id, None)

    # -- chords ------------------------------------------------------------------------------

    def do_open_chord(self, chord: Chord, claim: Claim | None) -> bool:
        with self._store:
            if chord.group_id not in self._chords:
                self._chords[chord.group_id] = _Barrier(chord, [], [], {})
                self._add(chord.group_id, chord.members)
            return self._count(chord.group_id, None, claim, self.clock())

    def do_grow_chord(self, group_id: str, members: Sequence[str]) -> int | None:
        with self._store:
            barrier = self._chords.get(group_id)
            if barrier is None or barrier.done is not None or barrier.complete():
                return None
            self._add(group_id, [each for each in dict.fromkeys(members) if each not in barrier.places])
            self._count(group_id, tuple(members), None, self.clock())
            return len(barrier.parts)

    def _add(self, group_id: str, members: Sequence[str]) -> None:
        barrier = self._chords[group_id]
        for task_id in members:
            barrier.places.setdefault(task_id, []).append(len(barrier.parts))
            barrier.members.append(task_id)
            barrier.parts.append(None)

    def do_read_chord(self, group_id: str) -> ChordState | None:
        with self._store:
            barrier = self._chords.get(group_id)
            if barrier is None:
                return None
            chord = msgspec.structs.replace(barrier.chord, members=tuple(barrier.members))
            return ChordState(chord, tuple(barrier.parts), barrier.done is not None)

    def do_count_parts(self, group_id: str, task_ids: Sequence[str] | None, claim: Claim | None) -> bool:
        with self._store:
            return self._count(group_id, task_ids, claim, self.clock())

    def _count(self, group_id: str, task_ids: Sequence[str] | None, claim: Claim | None, now: float) -> bool:
        barrier = self._chords.get(group_id)
        if barrier is None or barrier.done is not None:
            return False
        for task_id in barrier.places if task_ids is None else task_ids:
            record = self._live(task_id, now)
            if record is not None and record.write.state in READY_STATES:
                self._count_as(group_id, barrier, task_id, record.write.state)
        if not barrier.complete():
            return False
        self._due[group_id] = None
        return claim is not None and self._claim(barrier, claim, now)

    def _count_as(self, group_id: str, barrier: _Barrier, task_id: str, state: str) -> None:
        for place in barrier.places.get(task_id, ()):
            before = barrier.parts[place]
            if before is None:
                barrier.counted += 1
                barrier.failed += state != SUCCESS
                barrier.parts[place] = state
            elif before != SUCCESS and state in READY_STATES:
                barrier.failed -= state == SUCCESS
                barrier.parts[place] = state
        if barrier.complete():
            self._due[group_id] = None
        else:  # a later success took the place of the failure that had made it due
            self._due.pop(group_id, None)

    def _claim(self, barrier: _Barrier, claim: Claim, now: float) -> bool:
        if barrier.token not in (None, claim.token) and barrier.claimed_until > now:
            return False
        barrier.token, barrier.claimed_until = claim.token, now + claim.lease
        return True

    def do_claim_chord(self, group_id: str, claim: Claim) -> bool:
        with self._store:
            barrier = self._chords.get(group_id)
            if barrier is None or barrier.done is not None or not barrier.complete():
                return False
            return self._claim(barrier, claim, self.clock())

    def do_finish_chord(self, group_id: str) -> None:
        with self._store:
            barrier = self._chords.get(group_id)
            if barrier is not None and barrier.done is None:
                barrier.done = self.clock()
            self._due.pop(group_id, None)

    def do_due_chords(self, limit: int) -> Sequence[str]:
        with self._store:
            now = self.clock()
            due = (
                group_id
                for group_id in self._due
                if self._chords[group_id].token is None or self._chords[group_id].claimed_until <= now
            )
            return list(islice(due, limit))

    def do_delete_chord(self, group_id: str) -> None:
        with self._store:
            self._chords.pop(group_id, None)
            self._due.pop(group_id, None)

    # -- leases ------------------------------------------------------------------------------

    def do_lease(self, names: Sequence[str], token: str, seconds: float) -> frozenset[str]:
        with self._store:
            now = self.clock()
            ours = {name for name in names if self._leases.get(name, (token, 0.0))[0] == token}
            if seconds <= 0:
                for name in ours:
                    self._leases.pop(name, None)
                return frozenset()
            free = {name for name in names if self._leases.get(name, (token, 0.0))[1] <= now}
            self._leases.update(dict.fromkeys(ours | free, (token, now + seconds)))
            return frozenset(ours | free)


def _row(record: _Record) -> Row:
    write = record.write
    return Row(
        write.task_id,
        write.state,
        write.name,
        write.worker,
        write.queue,
        write.group_id,
        write.parent_id,
        write.root_id,
        write.attempt,
        record.created,
        record.started,
        record.done,
        record.expires,
        len(write.payload),
    )
