"""Chords and leases on a store that can only compare and set one key.

A chord is two documents: what never changes but by growing (members, body), and what every part
changes (one letter per place, claim, done). A part is counted after its record is stored, in a
step of its own: a crash between the two is mended by the sweep, which recounts open chords from
their records. The ids of open chords are one more document.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from settled import chords
from settled.backends.engine import Engine
from settled.errors import ConfigurationError, CorruptRecord
from settled.record import Chord, ChordState, Claim, FailurePolicy, is_complete
from settled.states import FAILURE, READY_STATES, REVOKED, SUCCESS

if TYPE_CHECKING:
    from settled.backends.template import BaseBackend

S = TypeVar("S", bound=msgspec.Struct)

RECOUNT_INTERVAL = 10.0
"""Seconds between two recounts of one open chord by one process."""

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
    def key_t(self, s: str | bytes) -> bytes | str: ...
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
        if self._change(self.get_key_for_chord(group_id), _Count, lambda old: None if old else empty):
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
        found = self._read(group_id)
        if found is None or found[1].done or _is_complete(*found):
            return None

        def grow(old: _Header | None) -> _Header | None:
            return old and msgspec.structs.replace(old, members=[*old.members, *members])

        header = self._change(self._header_key(group_id), _Header, grow)
        self.do_count_parts(group_id, members, None)
        return None if header is None else len(header.members)

    def do_read_chord(self, group_id: str) -> ChordState | None:
        found = self._read(group_id)
        if found is None:
            return None
        header, count = found
        chord = Chord(
            group_id, tuple(header.members), header.body, header.body_id, FailurePolicy(header.policy)
        )
        parts = count.parts.ljust(len(header.members), _OPEN)
        return ChordState(chord, tuple(_STATE.get(letter) for letter in parts), count.done)

    def do_count_parts(self, group_id: str, task_ids: Sequence[str] | None, claim: Claim | None) -> bool:
        found = self._read(group_id)
        if found is None or found[1].done:
            return False
        wanted = tuple(dict.fromkeys(found[0].members if task_ids is None else task_ids))
        states = {task_id: meta["status"] for task_id, meta in self._metas(wanted).items()}
        return self.count_parts(
            group_id,
            {task_id: str(state) for task_id, state in states.items() if state in READY_STATES},
            claim,
        )

    def _metas(self, task_ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        return cast("BaseBackend", self).read_many(task_ids)

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
            letters = list(old.parts.ljust(len(members), _OPEN))
            for place, state in places.items():
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
            return None if old is None or old.done else msgspec.structs.replace(old, done=True)

        self._change(self.get_key_for_chord(group_id), _Count, finish)
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
            elif _is_complete(*found):
                if found[1].claimed_until <= now:
                    due.append(group_id)
            elif self._recount_is_due(group_id):
                self.do_count_parts(group_id, None, None)
        return due[:limit]

    def _recount_is_due(self, group_id: str) -> bool:
        recounted: dict[str, float] = self.__dict__.setdefault("_recounted", {})
        now = time.monotonic()
        if now - recounted.get(group_id, 0.0) < RECOUNT_INTERVAL:
            return False
        recounted[group_id] = now
        return True

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

    def header_of(self, group_id: str) -> list[str]:
        """The members of a chord whose header was saved as a group."""
        group = cast("BaseBackend", self).restore_group(group_id)
        if group is None:
            raise ConfigurationError(
                f"chord {group_id!r} cannot be counted: its group was never saved, or has expired"
            )
        return [result.id for result in group.results]  # type: ignore[attr-defined]

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
    size = len(header.members)
    counted = len(count.parts) - count.parts.count(_OPEN)
    return is_complete(FailurePolicy(header.policy), size, counted, counted - count.parts.count("S"))


def _take(count: _Count, claim: Claim | None, now: float) -> bool:
    """Write the claim into `count` if it may be had."""
    if claim is None or (count.token not in (None, claim.token) and count.claimed_until > now):
        return False
    count.token, count.claimed_until = claim.token, now + claim.lease
    return True
