"""Parts as Celery's workers count and hand them over: the chords that they have opened, and what ours adds to them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, cast

import hiredis
from msgspec.structs import replace

from settled import chords, failure
from settled.backends.redis import faults
from settled.backends.redis.client import Client
from settled.backends.redis.keys import Keys
from settled.backends.redis.link import Command, Link
from settled.backends.redis.records import lifetime, milliseconds
from settled.backends.redis.scripts import script
from settled.errors import DecodeError
from settled.record import Chord, ChordState, Claim, Gone, Meta, is_ready
from settled.states import FAILURE, SUCCESS

BATCH = 1000
"""Parts that are read at once."""

EXPIRED = (
    "the chord state of %r, which Celery has opened, has expired or was evicted before it was complete: its body is "
    "settled as failed"
)
DROPPED = (
    "chord %r, which Celery has opened, is not looked after any more: a worker of Celery has ended it, or its keys "
    "were deleted"
)


class Codec(Protocol):
    """A backend, as far as values and records are concerned."""

    def encode(self, data: object) -> bytes: ...

    def decode(self, payload: bytes | str) -> object: ...

    def do_read(self, task_ids: Sequence[str]) -> Mapping[str, bytes | str | Gone]: ...

    def read_meta(self, task_id: str, payload: bytes | str) -> Meta: ...


class Kept(NamedTuple):
    """How Celery keeps parts: in a list where it keeps no places, for `life` milliseconds ("": for ever)."""

    listed: bool
    life: str

    @property
    def args(self) -> tuple[str, str]:
        """As scripts take it."""
        return str(int(self.listed)), self.life


class Element(NamedTuple):
    """One part as it is kept, and what it says."""

    payload: bytes
    task_id: str
    status: str
    result: object


class Parts:
    """The parts of chords that Celery's workers count too.

    Args:
        codec: the backend.
    """

    def __init__(self, client: Client, keys: Keys, codec: Codec, kept: Kept) -> None:
        self._client = client
        self._keys = keys
        self._codec = codec
        self._kept = kept

    def adopt(self, chord: Chord) -> None:
        given = (
            chord.group_id, chord.body, chord.body_id, chord.policy.value,
            milliseconds(chords.RECOUNT_INTERVAL), self._kept.life,
        )  # fmt: skip
        self._client.run(script("adopt"), self._keys.chord(chord.group_id), given)

    def size(self, group_id: str, size: int) -> None:
        given = (group_id, str(size), self._kept.life, self._keys.task_prefix)
        self._client.run(script("size_chord"), self._keys.chord(group_id), given)

    def metas(self, group_id: str) -> dict[str, Meta]:
        """What each part says, by task id, as its record would."""
        return {
            part.task_id: {"status": part.status, "result": part.result, "task_id": part.task_id}
            for part in self._elements(group_id)
        }

    # -- counting by a record ------------------------------------------------------------------

    def keep(self, group_id: str, task_id: str, place: int | None, claim: Claim | None) -> bool:
        """Count a part whose record is stored; True if the caller now holds the claim.

        What is there of the task, unless that is a success, gives way to a success.
        """
        status, value = self._part(task_id)
        if status is None:
            return False
        at = "" if place is None else str(place)
        claimed, unkept = self._keep(group_id, (task_id, at, value, status), b"", claim)
        if unkept and status == SUCCESS:
            for old in self._elements(group_id):
                if old.task_id == task_id and old.status != SUCCESS:
                    claimed, _ = self._keep(group_id, (task_id, at, value, status), old.payload, claim)
        return claimed

    def _keep(
        self, group_id: str, part: tuple[bytes | str, ...], old: bytes, claim: Claim | None
    ) -> tuple[bool, bool]:
        held = ("", "0") if claim is None else (claim.token, milliseconds(claim.lease))
        given = (group_id, *part, old, *self._kept.args, *held, self._keys.task_prefix)
        answer = self._client.run(script("keep_part"), self._keys.chord(group_id), given)
        claimed, unkept = cast("tuple[int, int]", answer)
        return claimed == 1, unkept == 1

    def _part(self, task_id: str) -> tuple[str | None, bytes]:
        """State and part of a ready record. One that cannot be read counts as failed: nobody waits for it."""
        payload = self._codec.do_read((task_id,)).get(task_id)
        if payload is None:
            return None, b""
        try:
            meta = self._codec.read_meta(task_id, cast("bytes", payload))
        except DecodeError as exc:
            return FAILURE, self._codec.encode([1, task_id, FAILURE, failure.to_wire(exc)])
        if not is_ready(meta):
            return None, b""
        return str(meta["status"]), self._codec.encode([1, task_id, meta["status"], meta.get("result")])

    # -- reading -------------------------------------------------------------------------------

    def _elements(self, group_id: str) -> Iterator[Element]:
        """The parts that can be read."""
        for payload in self._payloads(self._keys.chord(group_id).parts):
            try:
                found = self._codec.decode(payload)
                _, task_id, status, result = cast("tuple[object, ...]", found)
            except (DecodeError, TypeError, ValueError):
                continue  # whoever it is of is missed by his name
            if isinstance(task_id, str) and isinstance(status, str):
                yield Element(payload, task_id, status, result)

    def _payloads(self, key: bytes) -> Iterator[bytes]:
        begin = 0
        while batch := self._batch(key, begin):
            yield from batch
            begin += len(batch)

    def _batch(self, key: bytes, begin: int) -> list[bytes]:
        asked: Command = (b"ZRANGEBYSCORE", key, b"-inf", b"+inf", b"LIMIT", str(begin), str(BATCH))
        reply = self._client.using(Link.ask, asked)
        if type(reply) is hiredis.ReplyError and faults.word_of(reply) == "WRONGTYPE":
            reply = self._client.using(Link.ask, (b"LRANGE", key, str(begin), str(begin + BATCH - 1)))
        return cast("list[bytes]", self._client.checked(reply, (key,)))

    # -- the state of a foreign chord --------------------------------------------------------------

    def state(self, chord: Chord, counted: Sequence[bytes], size: int, done: bool) -> ChordState:
        """A foreign chord as it stands, of these that are counted as Celery names them. See `read_chord` for `size`."""
        if size == LOST_SIZE:
            return state_of(chord, [(f"header of {chord.group_id} (chord state expired)", "EXPIRED")], done)
        states = {part.task_id: part.status for part in self._elements(chord.group_id)}
        members = [(task_id, states.get(task_id, FAILURE)) for _, task_id in sorted(map(_placed, counted))]
        missing = 1 if size == UNKNOWN_SIZE else max(0, size - len(members))
        return state_of(chord, [*members, *awaited(chord.group_id, len(members), missing)], done)


UNKNOWN_SIZE, LOST_SIZE = -1, -2
"""In place of the size of a foreign chord: Celery has not said it yet; what was known of it is lost."""


def awaited(group_id: str, begin: int, number: int) -> list[tuple[str, None]]:
    """Members whose ids are not known before their parts come."""
    return [(f"part {place} of {group_id}, not known yet", None) for place in range(begin, begin + number)]


def _placed(entry: bytes) -> tuple[float, str]:
    """Place and task id, from what Celery keeps of those that are counted."""
    task_id, _, place = entry.decode("utf-8", "backslashreplace").rpartition(":")
    digits = place.isascii() and place.isdigit()
    return (float(place) if digits else math.inf), task_id or place


def state_of(chord: Chord, members: Sequence[tuple[str, str | None]], done: bool) -> ChordState:
    """Of a chord with these members, and what each was counted as."""
    named = replace(chord, members=tuple(task_id for task_id, _ in members))
    return ChordState(named, tuple(state for _, state in members), done)


def life_of(expires: float | None) -> str:
    """Milliseconds for which Celery keeps a chord's keys, as scripts take them."""
    return lifetime(expires) if expires else ""
