"""Celery's compressed payloads: `\\0celery-compressed\\0<content type>\\0` and the compressed body."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Final

from settled.errors import ConfigurationError, DecodeError

MARKER: Final = b"\0celery-compressed\0"

#: The most bytes that one stored payload may decompress to: 256 MiB.
MAX_DECOMPRESSED: Final = 256 * 1024 * 1024

_CONTENT_TYPES: Final = {
    "gzip": "application/x-gzip",  # kombu's name; what it holds is a zlib stream
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
}


def compress(payload: bytes, method: str) -> bytes:
    """`payload` compressed as Celery's `result_compression` does; readers need no setting.

    Raises:
        ConfigurationError: `method` is neither one of kombu's names (gzip, zlib, bzip2, bzip, lzma,
            xz) nor one of their content types.
    """
    content_type = _CONTENT_TYPES.get(method, method)
    if content_type == "application/x-gzip":
        body = zlib.compress(payload)
    elif content_type == "application/x-bz2":
        body = bz2.compress(payload)
    elif content_type == "application/x-lzma":
        body = lzma.compress(payload)
    else:
        known = ", ".join(_CONTENT_TYPES)
        raise ConfigurationError(f"unknown compression {method!r}; known are {known}")
    return MARKER + content_type.encode() + b"\0" + body


def decompress(payload: bytes, limit: int = MAX_DECOMPRESSED) -> bytes:
    """The payload inside `payload`, which begins with MARKER.

    Raises:
        DecodeError: the compression is not known here, the body is damaged, or holds more than
            `limit` bytes.
    """
    name, _, body = payload[len(MARKER) :].partition(b"\0")
    content_type = name.decode("ascii", "replace")
    try:
        content, whole = _expand(content_type, body, limit)
    except (zlib.error, OSError, EOFError, lzma.LZMAError) as exc:
        raise DecodeError(f"damaged {content_type} payload of {len(body):,} bytes: {exc}") from exc
    if len(content) > limit:
        raise DecodeError(f"{content_type} payload of {len(body):,} bytes holds more than {limit:,}")
    if not whole:
        raise DecodeError(f"damaged {content_type} payload of {len(body):,} bytes: cut short or overlong")
    return content


def _expand(content_type: str, body: bytes, limit: int) -> tuple[bytes, bool]:
    """At most `limit` + 1 bytes of the content, and whether body and stream end together."""
    if content_type == "application/x-gzip":
        stream = zlib.decompressobj()
        return stream.decompress(body, limit + 1), stream.eof and not stream.unused_data
    unpacker: bz2.BZ2Decompressor | lzma.LZMADecompressor
    if content_type == "application/x-bz2":
        unpacker = bz2.BZ2Decompressor()
    elif content_type == "application/x-lzma":
        unpacker = lzma.LZMADecompressor(memlimit=MAX_DECOMPRESSED)
    else:
        known = ", ".join(dict.fromkeys(_CONTENT_TYPES.values()))
        raise DecodeError(f"payload is compressed as {content_type[:80]!r}; what can be read here is {known}")
    return unpacker.decompress(body, limit + 1), unpacker.eof and not unpacker.unused_data
