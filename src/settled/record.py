"""What is stored for one task, one group and one chord, and what an engine is asked to do.

A task's record is a plain dict in Celery's form (`status`, `result`, `traceback`, `children`,
`date_done`, `task_id`, ...), encoded once; the types here are what crosses the engine boundary.
All times are seconds: durations from now, points in time as UTC seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from settled.errors import CorruptRecord, InvalidTaskId
from settled.states import EXCEPTION_STATES, READY_STATES, SUCCESS

MAX_ID_BYTES = 1024

Meta: TypeAlias = dict[str, object]


def checked_id(task_id: object, what: str = "task id") -> str:
    """`task_id` as a str, or InvalidTaskId: a non-empty str or UUID of at most 1,024 UTF-8 bytes."""
    if type(task_id) is str and task_id.isascii() and 0 < len(task_id) <= MAX_ID_BYTES:
        return task_id
    if isinstance(task_id, UUID):
        return str(task_id)
    if not isinstance(task_id, str):
        raise InvalidTaskId(f"{what} must be a str or a UUID, not {type(task_id).__name__}: {task_id!r:.80}")
    if not task_id:
        raise InvalidTaskId(f"{what} is empty: give the id that the task was sent with")
    try:
        size = len(task_id.encode())
    except UnicodeEncodeError as exc:
        raise InvalidTaskId(f"{what} {task_id!r:.80} is not valid Unicode: {exc.reason}") from exc
    if size > MAX_ID_BYTES:
        raise InvalidTaskId(
            f"{what} {task_id[:20]!r}... is {size} bytes long; the limit is {MAX_ID_BYTES}: "
            "use a UUID or a digest as the id and keep the long text in the arguments"
        )
    return str(task_id)


class Presence(Enum):
    """The four answers to "is there anything for this id", and the fifth: yes."""

    UNKNOWN = "unknown"  # nothing was ever stored, or the engine can no longer tell
    PENDING = "pending"  # the id is known, nothing has happened yet
    STORED = "stored"
    EXPIRED = "expired"
    FORGOTTEN = "forgotten"


class Gone(Enum):
    """Why a record that was once there is not: what `do_read` answers in its place."""

    EXPIRED = "expired"
    FORGOTTEN = "forgotten"


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The right to dispatch a chord's body, held for `lease` seconds of the store's clock.

    One token lives through all retries of one call, so that a lost reply gets its claim back.
    """

    token: str
    lease: float


class Part(msgspec.Struct, frozen=True, gc=False):
    """A task's place in a chord's header; `place` is None where the caller does not know it.

    `value` is the part as other programs on the same store hand it to the body (for Celery the encoded
    `[1, task id, state, result]`); None where no others count parts.
    """

    group_id: str
    place: int | None = None
    value: bytes | None = None


class Settle(msgspec.Struct, frozen=True, gc=False):
    """One write of one task's record: the argument of the atomic step.

    `payload` is the whole encoded record; the fields after it repeat what a store with columns
    or indexes wants to see. `expires` is in seconds from now, None for never.
    """

    task_id: str
    state: str
    payload: bytes
    attempt: int = 0
    expires: float | None = None
    part: Part | None = None
    claim: Claim | None = None
    name: str | None = None
    worker: str | None = None
    queue: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    root_id: str | None = None


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What became of a write. True when it landed.

    `state` is the state stored now; `claimed` says that this write completed its chord and that
    the caller now holds the claim to dispatch the body. `kept` says that the store is away: the write
    has not landed yet, this process keeps it and makes it when the store is back.
    """

    landed: bool
    state: str
    claimed: bool = False
    kept: bool = False

    def __bool__(self) -> bool:
        return self.landed


class FailurePolicy(StrEnum):
    """What a chord does about header tasks that fail or are revoked."""

    FIRST = "first"  # the body fails as soon as the first part has failed
    ALL = "all"  # every part is waited for, then the body fails if any part failed
    OUTCOMES = "outcomes"  # the body runs and is handed every outcome


class Chord(msgspec.Struct, frozen=True, gc=False):
    """A barrier as it is opened: who must settle, and what is then due.

    `members` are task ids in header order. `body` is the encoded signature, stored once;
    `body_id` is fixed here, so that a second dispatch after a crash is the same task.
    """

    group_id: str
    members: tuple[str, ...]
    body: bytes
    body_id: str
    policy: FailurePolicy = FailurePolicy.ALL


class ChordState(msgspec.Struct, frozen=True, gc=False):
    """A barrier as it stands. `parts` holds, by place, each member's counted state or None."""

    chord: Chord
    parts: tuple[str | None, ...]
    done: bool

    @property
    def counted(self) -> int:
        return sum(state is not None for state in self.parts)

    @property
    def complete(self) -> bool:
        failed = sum(state is not None and state != SUCCESS for state in self.parts)
        return is_complete(self.chord.policy, len(self.parts), self.counted, failed)


def is_complete(policy: FailurePolicy, size: int, counted: int, failed: int) -> bool:
    """Whether a chord's body is due: all parts counted, or the first failure where that is enough."""
    return counted >= size or (failed > 0 and policy is FailurePolicy.FIRST)


class Row(msgspec.Struct, frozen=True, gc=False):
    """One task as a listing shows it: the record's columns without its result."""

    task_id: str
    state: str
    name: str | None
    worker: str | None
    queue: str | None
    group_id: str | None
    parent_id: str | None
    root_id: str | None
    attempt: int
    created: float
    started: float | None
    done: float | None
    expires: float | None
    size: int


class Query(msgspec.Struct, frozen=True, gc=False):
    """Which rows to list: every field given must match. The latest write comes first.

    `since` (inclusive) and `until` are points in time of the latest write.
    """

    states: tuple[str, ...] = ()
    name: str | None = None
    worker: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 100

    def matches(self, listed: Row | Settle, updated: float) -> bool:
        """Whether a task, last written at `updated`, belongs to the answer; for stores without a filter."""
        wanted = (
            (self.name, listed.name),
            (self.worker, listed.worker),
            (self.group_id, listed.group_id),
            (self.parent_id, listed.parent_id),
        )
        return (
            (not self.states or listed.state in self.states)
            and all(value is None or value == held for value, held in wanted)
            and (self.since is None or updated >= self.since)
            and (self.until is None or updated < self.until)
        )


class Capabilities(msgspec.Struct, frozen=True, gc=False):
    """What an engine can do. Declared once per engine, asked, never guessed.

    An engine that declares a capability runs, and must pass, the checks of that capability.
    """

    guarded: bool = False
    """The transition rule is enforced inside the store, against concurrent writers too."""
    atomic: bool = False
    """Record, chord part, due body and notice are one operation of the store."""
    chords: bool = False
    """The store counts parts, grants claims and lists what is due; else chords are polled."""
    leases: bool = False
    """Named leases, for heartbeats and claims on running work."""
    shared: bool = False
    """Other processes see the same records."""
    durable: bool = False
    """Records survive the process."""
    push: bool = False
    """Waiters in other processes are told; else the watcher polls."""
    queries: bool = False
    """Records can be listed and filtered."""
    expiry: Literal["store", "cleanup", "none"] = "none"
    """Who deletes expired records: the store by itself, `cleanup()`, or nobody."""
    tombstones: bool = False
    """Expired and forgotten are told from unknown."""
    columns: bool = False
    """Name, worker, group, parent and root are kept beside the record: a later write need not know them."""
    keeps: bool = False
    """Writes that cannot reach the store are kept, and made in order when it is back."""


def meta_of(decoded: object, task_id: str) -> Meta:
    """The record in `decoded`, or CorruptRecord naming the task."""
    if not isinstance(decoded, dict):
        raise CorruptRecord(f"the record of task {task_id!r} is a {type(decoded).__name__}, not a mapping")
    status = decoded.get("status")
    if not isinstance(status, str) or not status:
        raise CorruptRecord(f"the record of task {task_id!r} has no usable status: {status!r:.80}")
    return decoded


def pending_meta(task_id: str) -> Meta:
    """The record shown for a task that has none: state PENDING, as Celery answers."""
    return {
        "status": "PENDING",
        "result": None,
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": task_id,
    }


def is_ready(meta: Mapping[str, object]) -> bool:
    return meta["status"] in READY_STATES


def holds_exception(meta: Mapping[str, object]) -> bool:
    """Whether `meta["result"]` is a stored exception rather than a value."""
    return meta["status"] in EXCEPTION_STATES
