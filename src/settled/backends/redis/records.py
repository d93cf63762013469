"""Records: writing them by the rule, reading them, and what a client makes of one that no script can read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

MAX_TTL = 2**53
"""Milliseconds: what is to be kept for longer is kept for ever."""

NO_STRING = b"\0no string"
"""In place of a record whose key holds another type."""

Peek: TypeAlias = "Callable[[bytes], tuple[str | None, int]]"
"""State and attempt of a record, from its bytes; (None, 0) of a damaged one."""


class Head(NamedTuple):
    """What is seen of a record without reading it whole. `left` is milliseconds to live; -1 for ever."""

    state: str
    attempt: int
    left: int


def milliseconds(seconds: float) -> str:
    """A duration as the server takes it: at least 1, so that it never means something else."""
    return str(max(1, math.ceil(seconds * 1000)))


def lifetime(expires: float | None) -> str:
    """What a script is given for a record's `expires` in seconds."""
    if expires is None or expires * 1000 >= MAX_TTL:
        return ""
    return milliseconds(expires)


def seen(payload: bytes, peek: Peek) -> tuple[str, str, str]:
    """What a script is told of a record that it cannot read: digest, state and attempt."""
    state, attempt = peek(payload)
    return hashlib.sha1(payload, usedforsecurity=False).hexdigest(), state or "", str(attempt)
