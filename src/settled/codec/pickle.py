"""pickle as kombu writes it: protocol 4. Reading one runs whatever code it names."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Final

from settled.codec.lowering import culprit, encode_error, render
from settled.errors import DecodeError

# What kombu writes, so that every reader of a mixed fleet can read it.
PROTOCOL: Final = 4

_dumps = partial(pickle.dumps, protocol=PROTOCOL)


def dumps(data: object) -> bytes:
    """`data` pickled.

    Raises:
        EncodeError: see `settled.codec.encode`.
    """
    try:
        return _dumps(data)
    except Exception as exc:
        path, value, cause = culprit(data, exc, _dumps)
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
