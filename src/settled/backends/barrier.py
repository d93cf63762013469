"""Chords and leases on a store that can only compare and set one key.

A chord is two documents: what never changes but by growing (members, body), and what every part
changes (one letter per place, claim, done). The second says how many places there are: a member that
was written down and has no place yet is none. A part is counted after its record is stored, in a step
of its own: a crash between the two is mended by the sweep, which recounts open chords from their
records. The ids of open chords are one more document.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from settled import chords
from settled.backends.engine import Engine
from settled.chords import DONE_LIFE
from settled.errors import CorruptRecord
from settled.record import Chord, ChordState, Claim, FailurePolicy, Gone, is_complete
from settled.states import FAILURE, READY_STATES, REVOKED, SUCCESS

if TYPE_CHECKING:
    from settled.backends.template import BaseBackend

S = TypeVar("S", bound=msgspec.Struct)

RECOUNT_INTERVAL = 10.0
"""Seconds between two recounts of one open chord by one process: they count what a crash left uncounted."""

_LETTER = {SUCCESS: "S", FAILURE: "F", REVOKED: "R", "EXPIRED": "E"}
_STATE = {letter: state for state, letter in _LETTER.items()}
_OPEN = "-"


class _Header(msgspec.Struct):
    members: list[str]
    body: bytes
    body_id: str
    policy: str


class _Count(msgspec.Struct):
    parts: str
    token: str | None = None
    claimed_until: float = 0.0
    done: bool = False
    done_at: float = 0.0


class _OpenChords(msgspec.Struct):
    group_ids: list[str]


class _Lease(msgspec.Struct):
    token: str
    until: float


class KeyValueBarrier(Engine):
    """The chord and lease hooks, written over `get`, `delete` and `compare_and_set`."""

    @abstractmethod
    def get(self, key: bytes | str) -> bytes | str | None: ...
    @abstractmethod
    def delete(self, key: bytes | str) -> object: ...
    @abstractmethod
    def compare_and_set(self, key: bytes | str, old: bytes | str | None, new: bytes) -> bool: ...
    @abstractmethod
    def values_of(self, keys: Sequence[bytes | str]) -> list[bytes | str | None]: ...
    @abstractmethod
    def state_of(self, payload: bytes | str) -> str: ...
    @abstractmethod
    def key_t(self, s: str | bytes) -> bytes | str: ...
    @abstractmethod
    def keys(self, prefix: bytes | str) -> Iterable[bytes | str]: ...
    @abstractmethod
    def expire_key(self, key: bytes | str, seconds: float | None) -> None: ...
    @abstractmethod
    def get_key_for_chord(self, group_id: str) -> bytes | str: ...

    # -- documents ---------------------------------------------------------------------------

    def _change(self, key: bytes | str, kind: type[S], change: Callable[[S | None], S | None]) -> S | None:
        """Compare-and-set loop: replace the document by what `change` makes of it (None: leave it)."""
        while True:
            old = self.get(key)
            new = change(None if old is None else _decoded(key, old, kind))
            if new is None or self.compare_and_set(key, old, msgspec.msgpack.encode(new)):
                return new

    def _header_key(self, group_id: str) -> bytes | str:
        return self.key_t(f"settled-chord-header-{group_id}")

    def _index_key(self) -> bytes | str:
        return self.key_t("settled-open-chords")

    def _read(self, group_id: str) -> tuple[_Header, _Count] | None:
        header_key, count_key = self._header_key(group_id), self.get_key_for_chord(group_id)
        header, count = self.values_of((header_key, count_key))
        if header is None or count is None:
            return None
        return _decoded(header_key, header, _Header), _decoded(count_key, count, _Count)

    # -- chords ------------------------------------------------------------------------------

    def do_open_chord(self, chord: Chord, claim: Claim | None) -> bool:
        group_id = chord.group_id
        header = _Header(list(chord.members), chord.body, chord.body_id, chord.policy.value)
        self._change(self._header_key(group_id), _Header, lambda old: None if old else header)
        empty = _Count(_OPEN * len(chord.members))
        self._change(self.get_key_for_chord(group_id), _Count, lambda old: None if old else empty)
        found = self._read(group_id)
        if found is not None and not found[1].done:  # also again: whoever opened it may have died here
            self._index(group_id, present=True)
        return self.do_count_parts(group_id, None, claim)

    def _index(self, group_id: str, present: bool) -> None:
        def change(old: _OpenChords | None) -> _OpenChords | None:
            held = dict.fromkeys(old.group_ids if old else ())
            if (group_id in held) == present:
                return None
            held.pop(group_id, None)
            return _OpenChords([*held, group_id] if present else [*held])

        self._change(self._index_key(), _OpenChords, change)

    def do_grow_chord(self, group_id: str, members: Sequence[str]) -> int | None:
        def add(old: _Header | None) -> _Header | None:
            fresh = [each for each in dict.fromkeys(members) if old and each not in old.members]
            return msgspec.structs.replace(old, members=[*old.members, *fresh]) if old and fresh else None

        self._change(self._header_key(group_id), _Header, add)
        found = self._read(group_id)
        if found is None:
            return None
        header = found[0]
        places = {each: place for place, each in enumerate(header.members, 1)}
        last = max((places[each] for each in members), default=0)
        size: int | None = None

        def enlarge(old: _Count | None) -> _Count | None:
            nonlocal size
            size = None
            if old is None or old.done or _is_complete(header, old):
                return None
            size = max(len(old.parts), last)
            new = msgspec.structs.replace(old, parts=old.parts.ljust(last, _OPEN))
            return None if new == old else new

        self._change(self.get_key_for_chord(group_id), _Count, enlarge)
        if size is not None:
            self.do_count_parts(group_id, members, None)
        return size

    def do_read_chord(self, group_id: str) -> ChordState | None:
        found = self._read(group_id)
        if found is None:
            return None
        header, count = found
        members = tuple(header.members[: len(count.parts)])
        chord = Chord(group_id, members, header.body, header.body_id, FailurePolicy(header.policy))
        return ChordState(chord, tuple(_STATE.get(letter) for letter in count.parts), count.done)

    def do_count_parts(self, group_id: str, task_ids: Sequence[str] | None, claim: Claim | None) -> bool:
        found = self._read(group_id)
        if found is None or found[1].done:
            return False
        wanted = tuple(dict.fromkeys(found[0].members if task_ids is None else task_ids))
        states = {
            task_id: self.state_of(payload)
            for task_id, payload in self.do_read(wanted).items()
            if not isinstance(payload, Gone)
        }
        ready = {task_id: state for task_id, state in states.items() if state in READY_STATES}
        return self.count_parts(group_id, ready, claim)

    def count_parts(self, group_id: str, states: Mapping[str, str], claim: Claim | None) -> bool:
        """Count these settled members, and take the claim if that is possible; whether it was taken."""
        found = self._read(group_id)
        if found is None:
            return False
        members = found[0].members
        places = {place: states[task_id] for place, task_id in enumerate(members) if task_id in states}
        complete = False

        def count(old: _Count | None) -> _Count | None:
            nonlocal complete
            if old is None or old.done:
                complete = False
                return None
            letters = list(old.parts)
            for place, state in places.items():
                if place >= len(letters):
                    continue
                if letters[place] == _OPEN or (letters[place] != "S" and state != "EXPIRED"):
                    letters[place] = _LETTER[state]
            new = msgspec.structs.replace(old, parts="".join(letters))
            complete = _is_complete(found[0], new) and _take(new, claim, self.clock())
            return None if new == old else new

        self._change(self.get_key_for_chord(group_id), _Count, count)
        return complete

    def do_claim_chord(self, group_id: str, claim: Claim) -> bool:
        return self.count_parts(group_id, {}, claim)

    def do_finish_chord(self, group_id: str) -> None:
        def finish(old: _Count | None) -> _Count | None:
            if old is None or old.done:
                return None
            return msgspec.structs.replace(old, done=True, done_at=self.clock())

        key = self.get_key_for_chord(group_id)
        if self._change(key, _Count, finish) is not None:
            self.expire_key(key, DONE_LIFE)
            self.expire_key(self._header_key(group_id), DONE_LIFE)
        self._index(group_id, present=False)

    def do_due_chords(self, limit: int) -> Sequence[str]:
        index = self.get(self._index_key())
        if index is None:
            return ()
        due: list[str] = []
        now = self.clock()
        for group_id in _decoded(self._index_key(), index, _OpenChords).group_ids:
            found = self._read(group_id)
            if found is None or found[1].done:
                self._index(group_id, present=False)
                self._recounted.pop(group_id, None)
            elif _is_complete(*found):
                if found[1].claimed_until <= now:
                    due.append(group_id)
            elif self._recount_is_due(group_id):
                self.do_count_parts(group_id, None, None)
        return due[:limit]

    def _recount_is_due(self, group_id: str) -> bool:
        now = time.monotonic()
        if now < self._recounted.get(group_id, 0.0):
            return False
        self._recounted[group_id] = now + RECOUNT_INTERVAL
        return True

    @cached_property
    def _recounted(self) -> dict[str, float]:
        """When each open chord may be recounted again, on this process's monotonic clock."""
        return {}

    def drop_done_chords(self) -> None:
        """Delete the barriers that were done long ago, where the store does not by itself."""
        if not self.capabilities.chords:
            return
        prefix = self.get_key_for_chord("x")[:-1]
        for key in list(self.keys(prefix)):
            payload = self.get(key)
            count = None if payload is None else _decoded(key, payload, _Count)
            if count is not None and count.done and count.done_at + DONE_LIFE <= self.clock():
                group_id = key[len(prefix) :]
                self.delete(key)
                self.delete(self._header_key(group_id.decode() if isinstance(group_id, bytes) else group_id))

    def do_delete_chord(self, group_id: str) -> None:
        self.delete(self.get_key_for_chord(group_id))
        self.delete(self._header_key(group_id))
        self._index(group_id, present=False)

    def count_expired(self, task_id: str) -> None:
        """Count an expiring record as EXPIRED in every open chord that it is a member of."""
        index = self.get(self._index_key()) if self.capabilities.chords else None
        for group_id in (
            _decoded(self._index_key(), index, _OpenChords).group_ids if index is not None else ()
        ):
            self.count_parts(group_id, {task_id: "EXPIRED"}, None)

    # -- chords without compare-and-set --------------------------------------------------------

    def header_of(self, group_id: str) -> list[str] | None:
        """The members of a chord whose header was saved as a group, if it was."""
        group = cast("BaseBackend", self).restore_group(group_id, cache=False)
        return None if group is None else [result.id for result in group.results]  # type: ignore[attr-defined]

    def unlock(self, group_id: str, members: Sequence[str], body: object) -> bool:
        """Dispatch the body if every member's record is ready; whether nothing is left to do."""
        backend = cast("BaseBackend", self)
        return chords.unlock(backend, group_id, members, chords.as_mapping(body), FailurePolicy.ALL)

    # -- leases ------------------------------------------------------------------------------

    def do_lease(self, names: Sequence[str], token: str, seconds: float) -> frozenset[str]:
        return frozenset(name for name in names if self._lease(name, token, seconds))

    def _lease(self, name: str, token: str, seconds: float) -> bool:
        now = self.clock()

        def take(old: _Lease | None) -> _Lease | None:
            free = old is None or old.token == token or old.until <= now
            if seconds > 0:
                return _Lease(token, now + seconds) if free else None
            return _Lease("", 0.0) if old is not None and old.token == token else None

        return self._change(self.key_t(f"settled-lease-{name}"), _Lease, take) is not None and seconds > 0


def _decoded(key: bytes | str, payload: bytes | str, kind: type[S]) -> S:
    try:
        return msgspec.msgpack.decode(
            payload.encode("latin-1") if isinstance(payload, str) else payload, type=kind
        )
    except msgspec.DecodeError as exc:
        raise CorruptRecord(f"the document under {key!r} is damaged: {exc}") from exc


def _is_complete(header: _Header, count: _Count) -> bool:
    size = len(count.parts)
    counted = size - count.parts.count(_OPEN)
    return is_complete(FailurePolicy(header.policy), size, counted, counted - count.parts.count("S"))


def _take(count: _Count, claim: Claim | None, now: float) -> bool:
    """Write the claim into `count` if it may be had."""
    if claim is None or (count.token not in (None, claim.token) and count.claimed_until > now):
        return False
    count.token, count.claimed_until = claim.token, now + claim.lease
    return True
