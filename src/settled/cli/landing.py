"""Records that are copied, on their way into the store: which land, which are there, which cannot be copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

import msgspec

from settled import codec
from settled.backends.base import BaseBackend
from settled.backends.keyvalue import head_of
from settled.backends.sqlite import SQLiteBackend
from settled.cli.sources import Batch
from settled.cli.sources.form import Stored, Unreadable, is_unicode, wired
from settled.errors import ContentRefused, DecodeError, SettledError, StoreError, StoreUnavailable
from settled.record import Gone, Meta, Settle
from settled.states import READY_STATES, may_replace, rank

NAMED = 1000
"""Records that could not be copied of which it is kept which they were."""

HOPELESS = 10
"""Records that the store may refuse one after the other before it is taken to refuse all."""

LARGEST_ATTEMPT = 2**31 - 1

_OWN = frozenset({"expires_at", "updated_at"})
"""Fields of a record that say something of its store, not of its task."""

There = bytes | str | Gone | None
"""What the store holds already."""


class Fate(Enum):
    """What becomes of a record that could be read."""

    COPIED = "copied"
    THERE = "there"  # the same is there already
    KEPT = "kept"  # what is there stays: it is as far, or further, or was forgotten there
    EXPIRED = "expired"  # its time was over


class Lost(NamedTuple):
    """A record that could not be copied, and why."""

    id: str
    group: bool
    reason: str


class Tally:
    """The counts of one run.

    Of what could not be copied, `refused` are in a serializer that is not accepted (pickle), `damaged` cannot
    be read at all, and `unfit` can be read, but not stored.
    """

    def __init__(self) -> None:
        self.tasks: Counter[Fate] = Counter()
        self.groups: Counter[Fate] = Counter()
        self.refused = 0
        self.damaged = 0
        self.unfit = 0
        self.lost: list[Lost] = []

    @property
    def not_copied(self) -> int:
        return self.refused + self.damaged + self.unfit

    @property
    def seen(self) -> int:
        return self.tasks.total() + self.groups.total() + self.not_copied

    def count(self, item: Stored, fate: Fate) -> None:
        (self.groups if item.group else self.tasks)[fate] += 1

    def both(self, fate: Fate) -> int:
        return self.tasks[fate] + self.groups[fate]

    def lose(self, item: Stored | Unreadable, error: SettledError) -> None:
        if isinstance(error, ContentRefused):
            self.refused += 1
        elif isinstance(error, DecodeError):
            self.damaged += 1
        else:
            self.unfit += 1
        if len(self.lost) < NAMED:
            self.lost.append(Lost(item.id, item.group, str(error)))


class Clock:
    """The time by which an engine dates a write: now, or of a record that is copied when it was done."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self.moment: float | None = None

    def __call__(self) -> float:
        return self.now() if self.moment is None else self.moment


class Landing:
    """Puts records into a store by its own atomic step, so that its rule decides against other writers.

    Args:
        expires: seconds after a task was done (else from now) for which a record is kept that has no expiry of
            its own; None for ever.
        dry: write nothing, and count what would land.
        empty: the store is not there yet; with `dry` it is not made.
    """

    def __init__(
        self, backend: BaseBackend, tally: Tally, expires: float | None, dry: bool, empty: bool
    ) -> None:
        self._backend = backend
        self._tally = tally
        self._expires = expires
        self._dry = dry
        self._unread = dry and empty
        self._refusals = 0
        self._clock = Clock(backend.clock)
        # A listing is to say when a task was done, not when it was copied. Other engines date by other clocks,
        # or by what the record says.
        self._dates = isinstance(backend, SQLiteBackend)
        if self._dates:
            backend.clock = self._clock

    def land(self, batch: Batch) -> None:
        """Copy these, and count each. StoreError where the store refuses whatever it is given."""
        there = self._there([item.id for item in batch if isinstance(item, Stored) and not item.group])
        for item in batch:
            if isinstance(item, Unreadable):
                self._tally.lose(item, item.error)
                continue
            try:
                fate = self._group(item) if item.group else self._task(item, there.get(item.id))
            except StoreUnavailable:
                raise
            except SettledError as exc:
                self._refusals += isinstance(exc, StoreError)
                if self._refusals == HOPELESS:
                    raise
                self._tally.lose(item, exc)
            else:
                self._refusals = 0
                self._tally.count(item, fate)

    def _there(self, task_ids: list[str]) -> Mapping[str, bytes | str | Gone]:
        return self._backend.call(self._backend.do_read, task_ids) if task_ids and not self._unread else {}

    # -- tasks -----------------------------------------------------------------------------------

    def _task(self, item: Stored, there: There) -> Fate:
        done = _done(item.meta, self._clock())
        expires = self._left(item, done)
        if expires is not None and expires <= 0:
            return Fate.EXPIRED
        write = _write(item, self._payload(item, expires), expires)
        fate = self._fate(write, item.meta, there)
        if fate is not Fate.COPIED or self._dry:
            return fate
        # What has expired there is past only by the clock of today.
        return self._settle(write, None if there is Gone.EXPIRED or not self._dates else done)

    def _settle(self, write: Settle, done: float | None) -> Fate:
        if done is not None and write.expires is not None:
            write = msgspec.structs.replace(write, expires=write.expires + self._clock() - done)
        self._clock.moment = done
        try:
            settled = self._backend.call(self._backend.do_settle, write)
        finally:
            self._clock.moment = None
        return Fate.COPIED if settled else Fate.KEPT

    def _left(self, item: Stored, done: float | None) -> float | None:
        """Seconds for which the record is still to be kept; None for ever."""
        if item.expires is not None or self._expires is None:
            return item.expires
        return self._expires if done is None else self._expires - (self._clock() - done)

    def _payload(self, item: Stored, expires: float | None) -> bytes:
        """The record's bytes: the source's own, where they are whole and have nothing to be added."""
        stamped = expires is not None and self._backend.stamps_expiry
        if item.payload is not None and not stamped:
            return item.payload
        meta = wired(item.meta) if "status" in item.meta else item.meta
        return codec.encode(
            {**meta, "expires_at": self._clock() + expires} if stamped and expires is not None else meta,
            item.serializer,
        )

    def _fate(self, write: Settle, meta: Meta, there: There) -> Fate:
        """What the transition rule says of this write; and of two that are as far, the later is kept."""
        if there is Gone.FORGOTTEN:
            return Fate.KEPT
        if there is None or isinstance(there, Gone):
            return Fate.COPIED
        if self._same(write.payload, there):
            return Fate.THERE
        state, attempt = head_of(there, self._backend.decode)
        if state is None:  # damaged
            return Fate.COPIED
        if not may_replace(state, attempt, write.state, write.attempt):
            return Fate.KEPT
        if rank(state) == rank(write.state) and not (
            state in READY_STATES and self._is_older(write.task_id, there, meta)
        ):
            return Fate.KEPT
        return Fate.COPIED

    def _same(self, payload: bytes, there: bytes | str) -> bool:
        if payload == (there.encode("utf-8", "surrogatepass") if isinstance(there, str) else bytes(there)):
            return True
        return self._backend.stamps_expiry and _without_own(self._backend, payload) == _without_own(
            self._backend, there
        )

    def _is_older(self, task_id: str, there: bytes | str, meta: Meta) -> bool:
        """Whether what is there was done before this."""
        try:
            held = self._backend.read_meta(task_id, there)
        except DecodeError:
            return False
        now = self._clock()
        before, after = _done(held, now), _done(meta, now)
        return before is not None and after is not None and before < after

    # -- groups ----------------------------------------------------------------------------------

    def _group(self, item: Stored) -> Fate:
        expires = self._left(item, None)
        if expires is not None and expires <= 0:
            return Fate.EXPIRED
        payload = self._payload(item, expires)
        there = None if self._unread else self._backend.call(self._backend.do_read_group, item.id)
        if there is not None:
            return Fate.THERE if self._same(payload, there) else Fate.KEPT
        if not self._dry:
            self._backend.call(self._backend.do_write_group, item.id, payload, expires)
        return Fate.COPIED


def _write(item: Stored, payload: bytes, expires: float | None) -> Settle:
    meta = item.meta
    return Settle(
        item.id,
        str(meta["status"]),
        payload,
        _attempt(meta),
        expires,
        name=_text(meta, "name"),
        worker=_text(meta, "worker"),
        queue=_text(meta, "queue"),
        group_id=_text(meta, "group_id"),
        parent_id=_text(meta, "parent_id"),
        root_id=_text(meta, "root_id"),
    )


def _attempt(meta: Meta) -> int:
    number = meta.get("attempt", meta.get("retries"))
    return number if type(number) is int and 0 <= number <= LARGEST_ATTEMPT else 0


def _text(meta: Meta, name: str) -> str | None:
    """A field that is text which every store can hold; the record itself keeps it in any case."""
    value = meta.get(name)
    return value if isinstance(value, str) and is_unicode(value) else None


def _done(meta: Meta, now: float) -> float | None:
    """When the task was done, in seconds since the epoch; None where that is not known, or to come."""
    try:
        found = datetime.fromisoformat(str(meta.get("date_done")))
        seconds = found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= now else None


def _without_own(backend: BaseBackend, payload: bytes | str) -> object:
    try:
        decoded = backend.decode(payload)
    except DecodeError:
        return payload
    return {k: v for k, v in decoded.items() if k not in _OWN} if isinstance(decoded, dict) else decoded
