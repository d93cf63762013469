"""pickle as kombu writes it: protocol 4. Reading one runs whatever code it names."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Final

from settled.codec.lowering import encode_error, render, segment
from settled.errors import DecodeError

# What kombu writes, so that every reader of a mixed fleet can read it.
PROTOCOL: Final = 4


def dumps(data: object) -> bytes:
    """`data` pickled.

    Raises:
        EncodeError: see `settled.codec.encode`.
    """
    try:
        return pickle.dumps(data, protocol=PROTOCOL)
    except Exception as exc:
        path, value, cause = _culprit(data, exc)
        raise encode_error(render(path), value, "pickle", f"{cause!r:.500}") from exc


def loads(payload: bytes) -> object:
    """The value in `payload`. Call this only for payloads of writers you trust with everything.

    Raises:
        DecodeError: anything was raised on the way, SystemExit and its like included; the original
            is the cause. Only KeyboardInterrupt passes, which is the user's.
    """
    try:
        return pickle.loads(payload)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise DecodeError(f"pickle payload of {len(payload):,} bytes cannot be loaded: {exc!r:.500}") from exc


def _culprit(value: object, failure: Exception) -> tuple[list[str], object, Exception]:
    """The innermost part of a container that cannot be pickled by itself, and its path."""
    path: list[str] = []
    seen = {id(value)}
    while True:
        found = _first_failing(value)
        # A circle whose every member fails leads back to where it began.
        if found is None or id(found[1]) in seen:
            return path, value, failure
        key, value, failure = found
        seen.add(id(value))
        path.append(segment(key))


def _first_failing(value: object) -> tuple[object, object, Exception] | None:
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        try:
            pickle.dumps(item, protocol=PROTOCOL)
        except Exception as exc:
            return key, item, exc
    return None
