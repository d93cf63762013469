"""Celery's compressed payloads: `\\0celery-compressed\\0<content type>\\0` and the compressed body."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final

from settled.errors import ConfigurationError, DecodeError, SettledError

MARKER: Final = b"\0celery-compressed\0"

#: The most bytes that one stored payload may decompress to: 256 MiB.
MAX_DECOMPRESSED: Final = 256 * 1024 * 1024

#: kombu's names -> content type.
METHODS: Final = {
    "gzip": "application/x-gzip",  # kombu's name; what it holds is a zlib stream
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
    "brotli": "application/x-brotli",
    "zstd": "application/zstd",
    "zstandard": "application/zstd",
}
_TYPES: Final = dict.fromkeys(METHODS.values())

_STANDARD: Final[dict[str, Callable[[bytes], bytes]]] = {
    "application/x-gzip": zlib.compress,
    "application/x-bz2": bz2.compress,
    "application/x-lzma": lzma.compress,
}
# Content type -> the modules that can do it, the first that is there, and what to install for one.
_LIBRARIES: Final = {
    "application/x-brotli": (("brotli", "brotlicffi"), "brotli>=1.2"),
    "application/zstd": (("compression.zstd", "backports.zstd"), "backports.zstd"),
}


def method_of(name: str) -> str:
    """The content type of a compression given by one of kombu's names, see METHODS, or by content type.

    Raises:
        ConfigurationError: it is not known, or the library for it is not installed.
    """
    content_type = METHODS.get(name, name)
    if content_type not in _TYPES:
        raise ConfigurationError(f"unknown compression {name!r:.80}; known are {', '.join(METHODS)}")
    if content_type in _LIBRARIES:
        _library(content_type)
    return content_type


def compress(payload: bytes, method: str) -> bytes:
    """`payload` compressed as Celery's `result_compression` does; readers need no setting.

    Raises:
        ConfigurationError: see `method_of`.
    """
    content_type = method_of(method)
    pack = _STANDARD.get(content_type)
    body: bytes = pack(payload) if pack else _library(content_type).compress(payload)
    return MARKER + content_type.encode() + b"\0" + body


def decompress(payload: bytes, limit: int = MAX_DECOMPRESSED) -> bytes:
    """The payload inside `payload`, which begins with MARKER.

    Raises:
        DecodeError: the compression is not known here, its library is not installed, the body is
            damaged, or holds more than `limit` bytes.
    """
    name, _, body = payload[len(MARKER) :].partition(b"\0")
    content_type = name.decode("ascii", "replace")
    if content_type not in _TYPES:
        raise DecodeError(
            f"payload is compressed as {content_type[:80]!r}; what can be read here is {', '.join(_TYPES)}"
        )
    try:
        content, whole = _expand(content_type, body, limit)
    except SettledError as exc:
        raise DecodeError(f"payload is compressed: {exc}") from exc
    except Exception as exc:  # zlib's, lzma's, brotli's and zstd's own, which share no class
        raise DecodeError(f"damaged {content_type} payload of {len(body):,} bytes: {exc}") from exc
    if len(content) > limit:
        raise DecodeError(f"{content_type} payload of {len(body):,} bytes holds more than {limit:,}")
    if not whole:
        raise DecodeError(f"damaged {content_type} payload of {len(body):,} bytes: cut short or overlong")
    return content


def _expand(content_type: str, body: bytes, limit: int) -> tuple[bytes, bool]:
    """Little more than `limit` bytes of the content, and whether body and stream end together."""
    if content_type == "application/x-gzip":
        stream = zlib.decompressobj()
        return stream.decompress(body, limit + 1), stream.eof and not stream.unused_data
    if content_type == "application/x-brotli":
        brotli = _library(content_type).Decompressor()
        return brotli.process(body, output_buffer_limit=limit + 1), brotli.is_finished()
    unpacker: bz2.BZ2Decompressor | lzma.LZMADecompressor
    if content_type == "application/x-bz2":
        unpacker = bz2.BZ2Decompressor()
    elif content_type == "application/x-lzma":
        unpacker = lzma.LZMADecompressor(memlimit=MAX_DECOMPRESSED)
    else:
        unpacker = _library(content_type).ZstdDecompressor()
    return unpacker.decompress(body, limit + 1), unpacker.eof and not unpacker.unused_data


@cache
def _library(content_type: str) -> ModuleType:
    """The module that can do this compression. ConfigurationError names what is to be installed."""
    names, requirement = _LIBRARIES[content_type]
    for name in names:
        package = name.partition(".")[0]
        if find_spec(package) is not None and find_spec(name) is not None:
            module = import_module(name)
            # Before 1.2 brotli cannot stop at a limit, and a bomb of a kilobyte takes all memory.
            if "brotli" not in name or hasattr(module.Decompressor, "can_accept_more_data"):
                return module
    raise ConfigurationError(f"compression {content_type!r} needs a library: pip install '{requirement}'")
