"""Barriers: counted, claimed and done within the transactions of the steps here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import apsw

from settled.backends.sqlite import records, statements
from settled.backends.sqlite.statements import fetch
from settled.record import Chord, ChordState, Claim, FailurePolicy, Settle, Settled, is_complete
from settled.states import READY_STATES, SUCCESS

SQL = statements.load("chords.sql")
_PART = SQL["part"]
_COUNT_PART = SQL["count_part"]
_UPDATE = SQL["update"]

EXPIRED = "EXPIRED"
"""What a part is counted as whose record expired before it was settled."""


class Barrier(NamedTuple):
    """The counters and the claim of an open chord, as its row holds them."""

    size: int
    counted: int
    failed: int
    policy: str
    token: str | None
    claim_expires: float

    @property
    def complete(self) -> bool:
        return is_complete(FailurePolicy(self.policy), self.size, self.counted, self.failed)

    def grants(self, claim: Claim | None, now: float) -> bool:
        """Whether `claim` may be had: of a complete barrier, if no live claim of another token is on it."""
        if claim is None or not self.complete:
            return False
        return self.token in (None, claim.token) or self.claim_expires <= now


def settle(db: apsw.Connection, write: Settle, now: float) -> Settled:
    """The atomic step of a task that is a part: its record, its place and the claim on the due body."""
    settled = records.settle_anew(db, write, now)
    if settled.state not in READY_STATES or write.part is None:
        return settled
    claimed = _count(db, write.part.group_id, write.task_id, settled.state, write.claim, now)
    return Settled(settled.landed, settled.state, claimed)


def _count(
    db: apsw.Connection, group_id: str, task_id: str, state: str, claim: Claim | None, now: float
) -> bool:
    """Count each place of a settled task once; whether `claim` is now held.

    The cost does not depend on the size of the header.
    """
    places = fetch(db, _PART, (group_id, task_id))
    if not places:
        return claim is not None and claim_chord(db, group_id, claim, now)
    barrier = Barrier(*places[0][:6])
    before = [row[6] for row in places]
    fresh = before.count(None)
    replaced = len(before) - fresh - before.count(SUCCESS)
    if fresh or replaced:
        db.execute(_COUNT_PART, (state, group_id, task_id))
        failed = barrier.failed + (-replaced if state == SUCCESS else fresh)
        barrier = barrier._replace(counted=barrier.counted + fresh, failed=failed)
    return _conclude(db, group_id, barrier, claim, now, changed=bool(fresh or replaced))


def _conclude(
    db: apsw.Connection, group_id: str, barrier: Barrier, claim: Claim | None, now: float, changed: bool
) -> bool:
    """Store the barrier's counters, with the claim on it if that is granted; whether it is."""
    granted = barrier.grants(claim, now)
    if granted and claim is not None:
        barrier = barrier._replace(token=claim.token, claim_expires=now + claim.lease)
    elif not barrier.complete and barrier.token is not None:
        # A later success reopened it: whoever was about to fail the body finds the claim gone.
        barrier = barrier._replace(token=None, claim_expires=0.0)
    if granted or changed:
        db.execute(_UPDATE, (barrier.counted, barrier.failed, barrier.token, barrier.claim_expires, group_id))
    return granted


def _standing(db: apsw.Connection, group_id: str) -> Barrier | None:
    """The barrier, if it is open."""
    rows = fetch(db, SQL["standing"], (group_id,))
    return Barrier(*rows[0]) if rows else None


def open_chord(db: apsw.Connection, chord: Chord, claim: Claim | None, now: float) -> bool:
    group_id = chord.group_id
    db.execute(SQL["open"], (group_id, now, len(chord.members), chord.policy.value, chord.body_id))
    if not db.changes():
        return claim is not None and claim_chord(db, group_id, claim, now)
    db.execute(SQL["add_body"], (group_id, chord.body))
    db.execute(SQL["add_parts"], (group_id, 0, records.as_json(chord.members)))
    return _count_all(db, group_id, claim, now)


def grow_chord(db: apsw.Connection, group_id: str, members: Sequence[str], now: float) -> int | None:
    barrier = _standing(db, group_id)
    if barrier is None or barrier.complete:
        return None
    present = {task_id for (task_id,) in fetch(db, SQL["present"], (group_id, records.as_json(members)))}
    fresh = [each for each in dict.fromkeys(members) if each not in present]
    size = barrier.size + len(fresh)
    db.execute(SQL["add_parts"], (group_id, barrier.size, records.as_json(fresh)))
    db.execute(SQL["enlarge"], (size, group_id))
    _count_some(db, group_id, members, None, now)
    return size


def count_parts(
    db: apsw.Connection, group_id: str, task_ids: Sequence[str] | None, claim: Claim | None, now: float
) -> bool:
    if task_ids is None:
        return _count_all(db, group_id, claim, now)
    return _count_some(db, group_id, task_ids, claim, now)


def _count_some(
    db: apsw.Connection, group_id: str, task_ids: Sequence[str], claim: Claim | None, now: float
) -> bool:
    settled = fetch(db, SQL["settled_members"], (records.as_json(task_ids), now))
    for task_id, state in settled:
        _count(db, group_id, task_id, state, None, now)
    return claim is not None and claim_chord(db, group_id, claim, now)


def _count_all(db: apsw.Connection, group_id: str, claim: Claim | None, now: float) -> bool:
    barrier = _standing(db, group_id)
    if barrier is None:
        return False
    db.execute(SQL["count_all"], (group_id, now))
    counted, failed = fetch(db, SQL["totals"], (group_id,))[0]
    changed = (counted, failed) != (barrier.counted, barrier.failed)
    return _conclude(db, group_id, barrier._replace(counted=counted, failed=failed), claim, now, changed)


def count_expired(db: apsw.Connection, task_ids: Sequence[str], now: float) -> None:
    """Count what open barriers still wait for among these tasks, whose records are about to go."""
    for group_id, task_id in fetch(db, SQL["waited_for"], (records.as_json(task_ids),)):
        _count(db, group_id, task_id, EXPIRED, None, now)


def claim_chord(db: apsw.Connection, group_id: str, claim: Claim, now: float) -> bool:
    barrier = _standing(db, group_id)
    return barrier is not None and _conclude(db, group_id, barrier, claim, now, changed=False)


def finish_chord(db: apsw.Connection, group_id: str, now: float) -> None:
    db.execute(SQL["finish"], (now, group_id))


def due_chords(db: apsw.Connection, limit: int, now: float) -> list[str]:
    return [group_id for (group_id,) in fetch(db, SQL["due"], (now, limit))]


def read_chord(db: apsw.Connection, group_id: str) -> ChordState | None:
    found: ChordState | None = None
    with db:  # one snapshot for both statements
        found = _barrier(db, group_id)
    return found  # noqa: RET504 - by its types, leaving the block might swallow an exception


def _barrier(db: apsw.Connection, group_id: str) -> ChordState | None:
    rows = fetch(db, SQL["read"], (group_id,))
    if not rows:
        return None
    parts = fetch(db, SQL["read_parts"], (group_id,))
    policy, body_id, done, body = rows[0]
    members = tuple(task_id for task_id, _ in parts)
    chord = Chord(group_id, members, body or b"", body_id, FailurePolicy(policy))
    return ChordState(chord, tuple(state for _, state in parts), bool(done))


def delete_chord(db: apsw.Connection, group_id: str) -> None:
    for name in ("delete_parts", "delete_body", "delete"):
        db.execute(SQL[name], (group_id,))
