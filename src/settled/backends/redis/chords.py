"""Barriers: what the scripts are given, and what is made of their answers."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, cast

from settled import chords
from settled.backends.redis.client import Client
from settled.backends.redis.keys import ChordKeys, Keys
from settled.backends.redis.parts import DROPPED, EXPIRED, Kept, Parts, awaited, state_of
from settled.backends.redis.records import Head, milliseconds
from settled.backends.redis.scripts import script
from settled.errors import CorruptRecord, StoreError, StoreUnavailable
from settled.record import Chord, ChordState, Claim, FailurePolicy, Settle
from settled.states import FAILURE, REVOKED, SUCCESS

log = logging.getLogger("settled.chords")

BATCH = 1000
"""Members that one script reads: so long do other clients wait for it."""

LOST = (
    "chord %r was open and its barrier is gone: it was deleted or evicted, or restored from an older copy. Its body "
    "is not sent; open it again if it is to be"
)

STAGED_LIFE = 3600.0
"""Seconds after which members are dropped that were laid ready for a chord that was never opened."""

MAX_SIZE = 10_000_000
"""Members that a chord may have had, to be believed."""

RECOUNTS = 10
"""Chords that one look at what is due recounts at most."""

FOREIGN = -1
"""What `count` returns where only a client can count these members."""

_STATES = {"S": SUCCESS, "F": FAILURE, "R": REVOKED, "E": "EXPIRED", "-": None}

Heads = Callable[[Sequence[str]], Mapping[str, Head]]
"""Reads what the script could not: state and milliseconds left to live, by task id."""


class Chords:
    """The chord hooks of one store.

    Args:
        heads: reads records for the scripts.
        apart: records are not where their chord is (in a cluster): they are always read first.
        shared: Celery's workers count parts of these chords too, and send their bodies, so their keys are kept
            as well.
        parts: those of foreign chords; None where Celery opens none.
    """

    def __init__(
        self, client: Client, keys: Keys, heads: Heads, *, apart: bool, shared: bool, parts: Parts | None
    ) -> None:
        self._client = client
        self._keys = keys
        self._heads = heads
        self._apart = apart
        self._shared = shared
        self._parts = parts

    def open(self, chord: Chord, claim: Claim | None) -> bool:
        keys = self._keys.chord(chord.group_id)
        places: dict[str, list[int]] = {}
        for place, task_id in enumerate(chord.members):
            places.setdefault(task_id, []).append(place)
        given: list[bytes | str] = [
            chord.group_id, chord.body, chord.body_id, chord.policy.value, str(len(chord.members)),
            self._told(chord.policy), milliseconds(chords.RECOUNT_INTERVAL), *_claim(claim), self._keys.task_prefix,
        ]  # fmt: skip
        if len(places) > BATCH:
            self._client.run(script("open"), [*keys, self._staged(keys, places)], [*given, "staged"])
            return self.count(chord.group_id, list(places), claim)
        heads = self._heads(list(places)) if self._apart else {}
        records = [] if self._apart else [*map(self._keys.task, places)]
        given.append("")
        for task_id, found in places.items():
            head = heads.get(task_id)
            given += (task_id, _member(found), head.state if head else "")
        claimed, unread = self._answer(self._client.run(script("open"), [*keys, *records], given))
        if not unread:
            return claimed
        return self._count_as(chord.group_id, self._heads(unread), unread, claim, False)

    def _staged(self, keys: ChordKeys, places: Mapping[str, Sequence[int]]) -> bytes:
        """The key of the members of a long header, laid ready in short steps: other clients get their turns."""
        staged = keys.members + f"~{os.urandom(8).hex()}".encode()
        members = iter(places.items())
        while batch := list(islice(members, BATCH)):
            pairs = (each for task_id, found in batch for each in (task_id, _member(found)))
            self._client.ask(b"HSET", staged, *pairs)
            self._client.ask(b"PEXPIRE", staged, milliseconds(STAGED_LIFE))
        return staged

    def _told(self, policy: FailurePolicy) -> str:
        """What Celery's workers do for a chord. For a failed part they would fail a body that wants outcomes."""
        return str(int(self._shared) + int(self._shared and policy is not FailurePolicy.OUTCOMES))

    def grow(self, group_id: str, members: Sequence[str]) -> int | None:
        given: list[bytes | str] = [group_id, self._keys.task_prefix, *dict.fromkeys(members)]
        size = cast("int | list[int]", self._client.run(script("grow"), self._keys.chord(group_id), given))
        if isinstance(size, list):
            return size[0]
        if size < 0:
            return None
        self.count(group_id, members, None)
        return size

    def read(self, group_id: str) -> ChordState | None:
        held = self._read(group_id)
        if held is None:
            return None
        if held.foreign:
            return self._parts.state(held.chord, held.counted, held.size, held.done) if self._parts else None
        placed = [(place, task_id, letter) for task_id, letter, places in held.members for place in places]
        named = held.size - held.unnamed
        if not held.done and len(placed) < named:
            lost = set(range(named)).difference(place for place, _, _ in placed)
            placed += [(place, f"member {place} of {group_id}, evicted", "E") for place in lost]
        placed.sort()
        to_come = [] if held.done else awaited(group_id, named, held.unnamed)
        members = [*((task_id, _STATES[letter]) for _, task_id, letter in placed), *to_come]
        return state_of(held.chord, members, held.done)

    def _read(self, group_id: str) -> Held | None:
        given = (group_id, self._keys.task_prefix)
        answer = self._client.run(script("read_chord"), self._keys.chord(group_id), given)
        if not answer:
            return None
        try:
            return _held(group_id, cast("list[object]", answer))
        except (ValueError, LookupError, AttributeError) as exc:
            raise CorruptRecord(f"the barrier of chord {group_id!r} is damaged: forget it ({exc!r})") from exc

    def count(
        self, group_id: str, task_ids: Sequence[str] | None, claim: Claim | None, sweeping: bool = False
    ) -> bool:
        """Count these members (None: all that are not counted for good) from their records.

        `sweeping` counts those as EXPIRED, too, whose records were seen unready and have expired since.
        """
        if task_ids is None:
            held = self._read(group_id)
            task_ids = [task_id for task_id, letter, _ in held.members if letter != "S"] if held else ()
        ids = iter(dict.fromkeys(task_ids))
        batch = list(islice(ids, BATCH))
        while True:
            following = list(islice(ids, BATCH))
            # The claim is taken when the last of them is counted.
            claimed = self._count(group_id, batch, None if following else claim, sweeping)
            if not following:
                return claimed
            batch = following

    def _count(self, group_id: str, task_ids: Sequence[str], claim: Claim | None, sweeping: bool) -> bool:
        if self._apart:
            return self._count_as(group_id, self._heads(task_ids), task_ids, claim, sweeping)
        keys = (*self._keys.chord(group_id), *map(self._keys.task, task_ids))
        given: list[bytes | str] = [group_id, *_claim(claim), self._keys.task_prefix, str(int(sweeping))]
        for task_id in task_ids:
            given += (task_id, "", "")
        answer = self._counted(group_id, keys, given)
        if answer[0] == FOREIGN and self._parts is not None:
            held = [self._parts.keep(group_id, task_id, None, claim) for task_id in task_ids]
            return any(held)
        claimed, unread = self._answer(answer[:2])
        return self._count_as(group_id, self._heads(unread), unread, claim, sweeping) if unread else claimed

    def _counted(self, group_id: str, keys: Sequence[bytes], given: Sequence[bytes | str]) -> list[object]:
        answer = cast("list[object]", self._client.run(script("count"), keys, given))
        for task_id in cast("list[bytes]", answer[2]):
            log.warning(
                "the record of task %r is gone before its time, forgotten or evicted: chord %r waits until it is "
                "settled anew",
                *(task_id.decode(), group_id),
            )
        match answer[3:]:
            case [b"lost"]:
                log.error(EXPIRED, group_id)
            case [b"dropped"]:
                log.warning(DROPPED, group_id)
        return answer

    def _count_as(
        self,
        group_id: str,
        heads: Mapping[str, Head],
        task_ids: Sequence[str],
        claim: Claim | None,
        sweeping: bool,
    ) -> bool:
        """Count members as what their records were found to be."""
        given: list[bytes | str] = [group_id, *_claim(claim), self._keys.task_prefix, str(int(sweeping))]
        for task_id in task_ids:
            head = heads.get(task_id)
            given += (task_id, head.state, str(head.left)) if head else (task_id, "", "-1")
        return self._counted(group_id, self._keys.chord(group_id), given)[0] == 1

    def settled(self, group_id: str, task_id: str, state: str, claim: Claim | None) -> bool:
        """Count one member whose record was just written elsewhere."""
        return self._count_as(group_id, {task_id: Head(state, 0, -1)}, (task_id,), claim, False)

    def claim(self, group_id: str, claim: Claim) -> bool:
        keys = self._keys.chord(group_id)
        given = (group_id, *_claim(claim), self._keys.task_prefix)
        try:
            answer = self._client.run(script("claim"), keys, given)
        except StoreUnavailable:
            raise
        except StoreError:
            # It is damaged: the others that are due come before it.
            later = milliseconds(chords.RECOUNT_INTERVAL)
            self._client.run(script("put_off"), (keys.due,), (group_id, later))
            raise
        if answer == -1:
            log.error(LOST, group_id)
        return answer == 1

    def finish(self, group_id: str) -> None:
        self._client.run(script("finish"), self._keys.chord(group_id), (group_id,))

    def delete(self, group_id: str) -> None:
        self._client.run(script("delete_chord"), self._keys.chord(group_id), (group_id,))

    def due(self, limit: int) -> list[str]:
        """Due chords, at most `limit`; open ones that nobody has looked at for a while are recounted."""
        found: list[str] = []
        for tag in self._keys.tags:
            due, stale = self._due(tag, limit)
            for group_id in stale:
                self._recount(group_id)
            found += self._due(tag, limit)[0] if stale else due
        return found[:limit]

    def _recount(self, group_id: str) -> None:
        """A damaged barrier is named in the log, and keeps no other from being recounted."""
        try:
            if self._read(group_id) is None:
                log.error(LOST, group_id)
            self.count(group_id, None, None, sweeping=True)
        except StoreUnavailable:
            raise
        except (StoreError, CorruptRecord) as exc:
            log.error("chord %r cannot be recounted: %s", group_id, exc)

    def _due(self, tag: str, limit: int) -> tuple[list[str], list[str]]:
        given = (str(limit), str(RECOUNTS), milliseconds(chords.RECOUNT_INTERVAL))
        answer = cast("list[list[bytes]]", self._client.run(script("due"), self._keys.due(tag), given))
        due, stale = map(self._names, self._keys.due(tag), answer)
        return due, stale

    def _names(self, key: bytes, listed: Sequence[bytes]) -> list[str]:
        """The chords that are listed under `key`; what cannot be a name is let go of."""
        names: list[str] = []
        for name in listed:
            try:
                names.append(name.decode())
            except UnicodeDecodeError:
                self._client.ask(b"ZREM", key, name)
        return names

    @staticmethod
    def _answer(answer: object) -> tuple[bool, list[str]]:
        claimed, unread = cast("tuple[int, list[bytes]]", answer)
        return claimed == 1, [task_id.decode() for task_id in unread]


def part_args(keys: Keys, write: Settle, kept: Kept) -> tuple[tuple[bytes, ...], tuple[bytes | str, ...]]:
    """What `settle_part` is given beyond `settle`: the chord's keys, and arguments; none where it is no part."""
    part = write.part
    if part is None:
        return (), ("", b"", "", "0", keys.task_prefix, write.task_id, "", *kept.args)
    place = "" if part.place is None else str(part.place)
    more = (part.value or b"", *_claim(write.claim), keys.task_prefix, write.task_id, place, *kept.args)
    return keys.chord(part.group_id), (part.group_id, *more)


def _member(places: Sequence[int]) -> str:
    """A member that is not counted yet, as the hash holds it."""
    return "-" + ",".join(map(str, places))


def _claim(claim: Claim | None) -> tuple[str, str]:
    return ("", "0") if claim is None else (claim.token, milliseconds(claim.lease))


class Held(NamedTuple):
    """A barrier as the store has it. Of a foreign one `counted` has what Celery names, and `members` nothing."""

    chord: Chord
    done: bool
    size: int
    members: list[tuple[str, str, list[int]]]
    unnamed: int
    counted: list[bytes]
    foreign: bool


def _held(group_id: str, answer: Sequence[object]) -> Held:
    """From what `read_chord` returns; ValueError, LookupError or AttributeError where that is damaged."""
    done, body, body_id, policy, flat, size, *unnamed = cast(
        "tuple[int, bytes, bytes, bytes, list[bytes], bytes, int]", answer
    )
    chord = Chord(group_id, (), body, body_id.decode(), FailurePolicy(policy.decode()))
    if not unnamed:
        known = int(size) if int(size) < 0 else _size(size)
        return Held(chord, bool(done), known, [], 0, flat, True)
    if not 0 <= unnamed[0] <= _size(size):
        raise ValueError(f"{unnamed[0]} of its {int(size)} members have no name")
    return Held(chord, bool(done), _size(size), list(_members(flat)), unnamed[0], [], False)


def _members(flat: Sequence[bytes]) -> Iterator[tuple[str, str, list[int]]]:
    """(task id, letter, places) from the fields of the hash."""
    for task_id, held in zip(flat[::2], flat[1::2], strict=True):
        text = held.decode()
        if text[0] not in _STATES:
            raise ValueError(f"member {task_id!r:.80} is counted as {text[0]!r}")
        yield task_id.decode(), text[0], [int(place) for place in text[1:].split(",")]


def _size(held: bytes) -> int:
    size = int(held)
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"it has {size} members")
    return size
