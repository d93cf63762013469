"""Exceptions as storable data and back, whole and without pickle.

The stored form is Celery's, `exc_type`, `exc_message` (the args) and `exc_module`, with one more key
that Celery ignores:

    "settled": {
        "bases": ["module.qualname", ...],      nearest first, up to Exception
        "attributes": {...}, "notes": [...],
        "cause": {...}, "context": {...}, "suppress_context": true,
        "exceptions": [{...}, ...], "omitted": 12,      members of a group, and how many were left out
        "traceback": "...",
        "stand_ins": ["args.0", "attributes.request"],  what is only text in place of a value
        "cut": ["cause"],                               links beyond the limits, or back to the start
    }

Every key under "settled" but `bases` is left out when there is nothing to say.
"""

from __future__ import annotations

from settled.failure.limits import Limits, RemoteTraceback, StandIn, describe
from settled.failure.reading import from_wire, show_remote
from settled.failure.text import text_of
from settled.failure.writing import portable, storable_in, to_wire

__all__ = [
    "Limits",
    "RemoteTraceback",
    "StandIn",
    "describe",
    "from_wire",
    "portable",
    "show_remote",
    "storable_in",
    "text_of",
    "to_wire",
]
