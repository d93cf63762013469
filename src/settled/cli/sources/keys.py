"""How Celery's key/value backends name what they store."""

from __future__ import annotations

from typing import NamedTuple

TASK = "celery-task-meta-"
GROUP = "celery-taskset-meta-"

CHORD_SIZE = ".s"
_CHORD_KEYS = (".j", CHORD_SIZE, ".t", ".d", ".c", ".o", ".m")
"""Ends of keys beside a group's own that belong to its chord: Celery's, and settled's on the same store."""


class Prefixes(NamedTuple):
    """How the keys of tasks and those of groups begin."""

    task: str
    group: str


def key_prefixes(given: str | None) -> Prefixes:
    """The beginnings for Celery's `global_keyprefix`: it adds a "_" to one that ends in none of ":_-."."""
    begin = given or ""
    if begin and begin[-1] not in ":_-.":
        begin += "_"
    return Prefixes(f"{begin}{TASK}", f"{begin}{GROUP}")


def is_chord_key(key: str) -> bool:
    """Whether this key may be one of a chord under way; a group's own id may end like that as well."""
    return key.endswith(_CHORD_KEYS)
