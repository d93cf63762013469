"""Bytes to values and back. Every payload says what it is, as far as Celery can still read it.

JSON is bare, as Celery writes it, and so are pickle and msgpack wherever the first byte tells them
from JSON, which it does for every record. The one exception (a small positive integer in msgpack
is an ASCII character) travels behind a header, `\\0settled\\0<content type>\\0`.

YAML is bare too, and so is what a program's own serializer writes. Such a payload is known by what
its reader takes for its default (the setting `result_serializer`); YAML also by its not being JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from settled.codec import compression, json
from settled.codec.serializers import (
    DECODERS,
    ENCODERS,
    NAMES,
    REGISTERED,
    SERIALIZERS,
    missing,
    name_of,
    register,
    unknown,
)
from settled.codec.tags import share_types
from settled.errors import ContentRefused, DecodeError

__all__ = [
    "MARKER",
    "SERIALIZERS",
    "accept_set",
    "decode",
    "encode",
    "missing",
    "register",
    "serializer_of",
    "share_types",
]

MARKER: Final = b"\0settled\0"

_JSON_STARTS: Final = frozenset(b'{["0123456789 \t\n\r')
_JSON_WORDS: Final = (
    b"true",
    b"false",
    b"null",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    *(f"-{digit}".encode() for digit in range(10)),
)
_EMPTY_YAML: Final = frozenset({b"{}\n", b"[]\n"})
_PICKLE_PROTOCOLS: Final = frozenset({2, 3, 4, 5})


def encode(data: object, serializer: str) -> bytes:
    """`data` as a payload that says which serializer wrote it.

    What `json`, `msgpack` and `yaml` store: None, bool, int, float, str, dict, list, tuple (read back as
    list), bytes, datetime, date, time, Decimal, UUID, what has a `__json__` method, and the types of
    `share_types`. Subclasses of str, int and float are stored as their plain value. Keys that are int,
    float, bool or None become str in JSON, as with Celery. A dict of the two keys `__type__` and
    `__value__` is indistinguishable from kombu's tagged form of such a value, and may be read as one.

    Raises:
        EncodeError: part of `data` cannot be stored; `path` and `type_name` say which
            ("result['rows'][3]") and what it is.
        ConfigurationError: `serializer` is none of SERIALIZERS, or its library is not installed.
    """
    if serializer == "json":
        return json.dumps(data)
    encoder = ENCODERS.get(serializer)
    if encoder is None:
        raise unknown(serializer)
    payload = encoder(data)
    if serializer == "msgpack" and payload[0] < 0x80:
        return MARKER + SERIALIZERS[serializer].encode() + b"\0" + payload
    return payload


def fragment(value: object, serializer: str) -> object:
    """`value` ready to be put into several payloads of `serializer`: what is costly is done once."""
    return json.fragment(value) if serializer == "json" else value


def decode(payload: bytes | str | memoryview, accept: frozenset[str], default: str = "json") -> object:
    """The value in `payload`, decompressed if it says so.

    Args:
        payload: what `encode` or Celery wrote; a str is taken as its UTF-8.
        accept: names of the serializers to read, from `accept_set`.
        default: the serializer of a payload that does not tell (YAML, one that a program registered,
            older pickle protocols). With `json`, which does tell, that is YAML if it is accepted.

    Raises:
        ContentRefused: its serializer is not in `accept`.
        DecodeError: it is damaged; for pickle, anything that loading it raised.
        ConfigurationError: `default` is none of SERIALIZERS, or its library is not installed.
    """
    # The usual record, told at once: a tenth off a read.
    if not REGISTERED or default not in REGISTERED:
        if type(payload) is bytes:
            if payload.startswith(b"{") and "json" in accept:
                return json.loads(payload)
        elif isinstance(payload, str) and payload.startswith("{") and "json" in accept:
            return json.loads_text(payload)  # what a store with text columns hands out
    untold = "yaml" if default == "json" and "yaml" in accept else default
    serializer, body = _identify(payload, default, untold)
    if serializer not in accept:
        raise _refusal(serializer, accept)
    return DECODERS[serializer](body)


def serializer_of(payload: bytes | str | memoryview, default: str) -> str:
    """The name of the serializer that wrote `payload`; `default` if it does not tell.

    Raises:
        DecodeError: it is empty, or its compression or header is damaged or unknown.
        ConfigurationError: `default` is none of SERIALIZERS.
    """
    return _identify(payload, default, default)[0]


def accept_set(accept: Iterable[str] | str | None) -> frozenset[str]:
    """Serializer names from names or content types; a str may hold several, separated by commas.

    None means `json` alone.

    Raises:
        ConfigurationError: one of them is not known, or its library is not installed.
    """
    if accept is None:
        return frozenset({"json"})
    names = accept.split(",") if isinstance(accept, str) else accept
    return frozenset(name_of(name) for name in names)


def _refusal(serializer: str, accept: frozenset[str]) -> ContentRefused:
    accepted = ", ".join(sorted(accept)) or "nothing"
    warning = "; loading it runs code of whoever can write to the store" if serializer == "pickle" else ""
    return ContentRefused(
        f"payload is {serializer} ({SERIALIZERS[serializer]}) and what is accepted is {accepted}: "
        f"add {serializer!r} to `accept` (result_accept_content) to read it{warning}"
    )


def _identify(payload: bytes | str | memoryview, default: str, untold: str) -> tuple[str, bytes]:
    """The serializer's name, `untold` if it does not tell, and what it wrote, without compression and header."""
    if isinstance(payload, str):
        payload = payload.encode("utf-8", "surrogatepass")
    elif not isinstance(payload, bytes):
        payload = bytes(payload)
    if payload[:1] == b"\0":
        if payload.startswith(compression.MARKER):
            payload = compression.decompress(payload)
        if payload.startswith(MARKER):
            return _marked(payload)
    if not payload:
        raise DecodeError("the payload is empty")
    told = None if default in REGISTERED else _by_first_bytes(payload, default)
    return told or name_of(untold), payload


def _marked(payload: bytes) -> tuple[str, bytes]:
    content_type, _, body = payload[len(MARKER) :].partition(b"\0")
    name = NAMES.get(content_type.decode("ascii", "replace"))
    if name is None:
        raise DecodeError(
            f"payload says it is {content_type[:80]!r}; what can be read here is {', '.join(NAMES)}"
        )
    return name, body


def _by_first_bytes(payload: bytes, default: str) -> str | None:
    first = payload[0]
    if first == 0x80 and len(payload) > 1 and payload[1] in _PICKLE_PROTOCOLS:
        return "pickle"
    # Neither JSON nor YAML, which are ASCII as kombu writes them, start above 0x7f; every msgpack map and
    # array does.
    if first >= 0x80:
        return "msgpack"
    if default == "yaml":
        # YAML's writers spell containers with one item or more without brackets, and its scalars are JSON's.
        return "json" if first in b"{[" and payload not in _EMPTY_YAML else None
    return "json" if first in _JSON_STARTS or payload.startswith(_JSON_WORDS) else None
