"""The states of a task and the one rule for moving between them."""

from __future__ import annotations

PENDING = "PENDING"
RECEIVED = "RECEIVED"
STARTED = "STARTED"
RETRY = "RETRY"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"

READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, RETRY})
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
ALL_STATES = READY_STATES | UNREADY_STATES

_RANK = {PENDING: 0, RECEIVED: 1, SUCCESS: 3, FAILURE: 3, REVOKED: 3}
RUNNING_RANK = 2


def rank(state: str) -> int:
    """Place of `state` in the order PENDING < RECEIVED < STARTED = RETRY = custom < ready."""
    return _RANK.get(state, RUNNING_RANK)


def may_replace(old: str | None, old_attempt: int, new: str, new_attempt: int) -> bool:
    """Whether a record in state `old` gives way to a write of `new`.

    `old` is None where there is no record. A write never moves a record down; SUCCESS is
    final; FAILURE and REVOKED give way only to a ready state of the same or a later attempt.
    """
    if old is None:
        return True
    if old == SUCCESS:
        return False
    if old in READY_STATES:
        return new in READY_STATES and new_attempt >= old_attempt
    return rank(new) >= rank(old)
