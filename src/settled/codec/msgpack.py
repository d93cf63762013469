"""msgpack as kombu writes and reads it, with the tags of kombu's JSON for what msgpack lacks.

So msgpack carries every type that JSON does, bytes natively and keys of type int, float, bool, None
and bytes as they are (the bytes kombu would write; its own reader takes keys of str and bytes only).
"""

from __future__ import annotations

from typing import Final, NoReturn

import msgspec

from settled.codec.json import is_plain
from settled.codec.lowering import Lowering
from settled.codec.tags import untag_all
from settled.errors import DecodeError

_TAG_MARK: Final = b"__type__"

_fast_encode = msgspec.msgpack.Encoder().encode


def _refuse_extension(code: int, _data: memoryview) -> NoReturn:
    raise ValueError(f"extension type {code} is not known")


_fast_decode = msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode


def dumps(data: object) -> bytes:
    """`data` as msgpack.

    Raises:
        EncodeError: see `settled.codec.encode`.
    """
    try:
        return _fast_encode(data if is_plain(data) else Lowering("msgpack").lower(data))
    except (RecursionError, ValueError, OverflowError) as exc:
        # Circular, a lone surrogate, more than 64 bits: lowering says which, and where.
        raise Lowering("msgpack").error_for(data, exc) from exc


def loads(payload: bytes) -> object:
    """The value in `payload`, tags resolved (see `tags.untag`).

    Raises:
        DecodeError: it is not msgpack, or uses an extension type other than the timestamp.
    """
    try:
        value: object = _fast_decode(payload)
        return untag_all(value) if _TAG_MARK in payload else value
    except (ValueError, RecursionError) as exc:  # msgspec.DecodeError is a ValueError
        raise DecodeError(f"damaged msgpack payload of {len(payload):,} bytes: {exc}") from exc
