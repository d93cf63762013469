"""Which attempt a stored record asks for. Attempts count from 0, as Celery's `retries` do."""

from __future__ import annotations

import random
from collections.abc import Mapping

from settled.states import FAILURE, PENDING, READY_STATES, RECEIVED, SUCCESS

BACKOFF_FIRST = 0.1
BACKOFF_LONGEST = 60.0


def attempt_of(meta: Mapping[str, object]) -> int:
    attempt = meta.get("attempt")
    return attempt if isinstance(attempt, int) else 0


def is_finished(meta: Mapping[str, object], retries: int) -> bool:
    """Whether nothing is left to do: SUCCESS, or a FAILURE that no retry is left for.

    A revoked call is done again when it is submitted again, and so is one that never ran because
    it could not be sent to a worker.
    """
    status = meta["status"]
    if status == FAILURE:
        return attempt_of(meta) >= retries and not _never_ran(meta)
    return status == SUCCESS


def _never_ran(meta: Mapping[str, object]) -> bool:
    wire = meta.get("result")
    if not isinstance(wire, Mapping):
        return False
    return wire.get("exc_type") == "ConfigurationError" and wire.get("exc_module") == "settled.errors"


def floor_of(meta: Mapping[str, object] | None) -> int:
    """The attempt from which on a ready record is newer than `meta`."""
    return attempt_of(meta) + 1 if meta is not None and meta["status"] in READY_STATES else 0


def next_attempt(meta: Mapping[str, object] | None, retries: int, floor: int) -> int | None:
    """The attempt to make now; None if there is nothing to do.

    Args:
        meta: the record, read under the task's lease: who wrote it is done, or dead.
        floor: from `floor_of` when the call was submitted. What became ready since stands.
    """
    if meta is None or meta["status"] in (PENDING, RECEIVED):
        return floor
    attempt = attempt_of(meta)
    if meta["status"] in READY_STATES and (
        meta["status"] == SUCCESS
        or (attempt >= floor and (meta["status"] != FAILURE or is_finished(meta, retries)))
    ):
        return None
    return max(attempt + 1, floor)


def backoff(attempt: int) -> float:
    """Seconds to pause after this attempt: 0.1 doubled each time, at most 60, give or take half."""
    return float(min(BACKOFF_FIRST * 2.0 ** min(attempt, 30), BACKOFF_LONGEST) * random.uniform(0.5, 1.5))
