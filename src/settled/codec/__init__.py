"""Bytes to values and back. Every payload says what it is.

JSON is bare, as Celery writes it, and so are pickle and msgpack wherever the first byte tells them
from JSON, which it does for every record. The one exception (a small positive integer in msgpack
is an ASCII character) travels behind a header, `\\0settled\\0<content type>\\0`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from settled.codec import compression, json, msgpack, pickle
from settled.errors import ConfigurationError, ContentRefused, DecodeError

#: Serializer -> content type, as kombu names them.
SERIALIZERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "json": "application/json",
        "msgpack": "application/x-msgpack",
        "pickle": "application/x-python-serialize",
    }
)
MARKER: Final = b"\0settled\0"

_NAMES: Final = {content_type: name for name, content_type in SERIALIZERS.items()}
_ENCODERS: Final[dict[str, Callable[[object], bytes]]] = {
    "json": json.dumps,
    "msgpack": msgpack.dumps,
    "pickle": pickle.dumps,
}
_DECODERS: Final[dict[str, Callable[[bytes], object]]] = {
    "json": json.loads,
    "msgpack": msgpack.loads,
    "pickle": pickle.loads,
}
_JSON_STARTS: Final = frozenset(b'{["-0123456789tfnNI \t\n\r')
_PICKLE_PROTOCOLS: Final = frozenset({2, 3, 4, 5})


def encode(data: object, serializer: str) -> bytes:
    """`data` as a payload that says which serializer wrote it.

    What `json` and `msgpack` store: None, bool, int, float, str, dict, list, tuple (read back as
    list), bytes, datetime, date, time, Decimal, UUID, and what has a `__json__` method. Subclasses
    of str, int and float are stored as their plain value. Keys that are int, float, bool or None
    become str in JSON, as with Celery. A dict of the two keys `__type__` and `__value__` is
    indistinguishable from kombu's tagged form of such a value, and may be read as one.

    Raises:
        EncodeError: part of `data` cannot be stored; `path` and `type_name` say which
            ("result['rows'][3]") and what it is.
        ConfigurationError: `serializer` is none of SERIALIZERS.
    """
    encoder = _ENCODERS.get(serializer)
    if encoder is None:
        raise _unknown(serializer)
    payload = encoder(data)
    if serializer == "msgpack" and payload[0] < 0x80:
        return MARKER + SERIALIZERS[serializer].encode() + b"\0" + payload
    return payload


def decode(payload: bytes | str | memoryview, accept: frozenset[str], default: str = "json") -> object:
    """The value in `payload`, decompressed if it says so.

    Args:
        payload: what `encode` or Celery wrote; a str is taken as its UTF-8.
        accept: names of the serializers to read, from `accept_set`.
        default: the serializer of a payload that does not tell (older pickle protocols).

    Raises:
        ContentRefused: its serializer is not in `accept`.
        DecodeError: it is damaged; for pickle, anything that loading it raised.
        ConfigurationError: `default` is none of SERIALIZERS.
    """
    # The usual record, told at once: a tenth off a read.
    if type(payload) is bytes:
        if payload.startswith(b"{") and "json" in accept:
            return json.loads(payload)
    elif isinstance(payload, str) and payload.startswith("{") and "json" in accept:
        return json.loads_text(payload)  # what a store with text columns hands out
    serializer, body = _identify(payload, default)
    if serializer not in accept:
        raise _refusal(serializer, accept)
    return _DECODERS[serializer](body)


def serializer_of(payload: bytes | str | memoryview, default: str) -> str:
    """The name of the serializer that wrote `payload`; `default` if it does not tell.

    Raises:
        DecodeError: it is empty, or its compression or header is damaged or unknown.
        ConfigurationError: `default` is none of SERIALIZERS.
    """
    return _identify(payload, default)[0]


def accept_set(accept: Iterable[str] | str | None) -> frozenset[str]:
    """Serializer names from names or content types; a str may hold several, separated by commas.

    None means `json` alone.

    Raises:
        ConfigurationError: one of them is not known.
    """
    if accept is None:
        return frozenset({"json"})
    names = accept.split(",") if isinstance(accept, str) else accept
    return frozenset(_name_of(name) for name in names)


def _name_of(serializer: object) -> str:
    name = serializer.strip() if isinstance(serializer, str) else ""
    name = _NAMES.get(name, name)
    if name not in SERIALIZERS:
        raise _unknown(serializer)
    return name


def _unknown(serializer: object) -> ConfigurationError:
    return ConfigurationError(f"unknown serializer {serializer!r:.80}; known are {', '.join(SERIALIZERS)}")


def _refusal(serializer: str, accept: frozenset[str]) -> ContentRefused:
    accepted = ", ".join(sorted(accept)) or "nothing"
    warning = "; loading it runs code of whoever can write to the store" if serializer == "pickle" else ""
    return ContentRefused(
        f"payload is {serializer} ({SERIALIZERS[serializer]}) and what is accepted is {accepted}: "
        f"add {serializer!r} to `accept` (result_accept_content) to read it{warning}"
    )


def _identify(payload: bytes | str | memoryview, default: str) -> tuple[str, bytes]:
    """The serializer's name and what it wrote, without compression and header."""
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
    return _by_first_bytes(payload) or _name_of(default), payload


def _marked(payload: bytes) -> tuple[str, bytes]:
    content_type, _, body = payload[len(MARKER) :].partition(b"\0")
    name = _NAMES.get(content_type.decode("ascii", "replace"))
    if name is None:
        raise DecodeError(
            f"payload says it is {content_type[:80]!r}; what can be read here is {', '.join(_NAMES)}"
        )
    return name, body


def _by_first_bytes(payload: bytes) -> str | None:
    first = payload[0]
    if first in _JSON_STARTS:
        return "json"
    if first == 0x80 and len(payload) > 1 and payload[1] in _PICKLE_PROTOCOLS:
        return "pickle"
    # No JSON, which is ASCII or UTF-8 in quotes, starts above 0x7f; every msgpack map and array does.
    return "msgpack" if first >= 0x80 else None
