"""The serializers there are: Celery's four, and those that a program has registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from settled.codec import json, msgpack, pickle, yaml
from settled.codec.lowering import culprit, encode_error, render
from settled.errors import ConfigurationError, DecodeError

_content_types: Final = {
    "json": "application/json",
    "msgpack": "application/x-msgpack",
    "pickle": "application/x-python-serialize",
    "yaml": "application/x-yaml",
}
_BUILT_IN: Final = frozenset(_content_types)

#: Serializer -> content type, as kombu names them.
SERIALIZERS: Final[Mapping[str, str]] = MappingProxyType(_content_types)
#: Content type -> serializer.
NAMES: Final = {content_type: name for name, content_type in _content_types.items()}
ENCODERS: Final[dict[str, Callable[[object], bytes]]] = {
    "json": json.dumps,
    "msgpack": msgpack.dumps,
    "pickle": pickle.dumps,
    "yaml": yaml.dumps,
}
DECODERS: Final[dict[str, Callable[[bytes], object]]] = {
    "json": json.loads,
    "msgpack": msgpack.loads,
    "pickle": pickle.loads,
    "yaml": yaml.loads,
}
#: Those that a program has registered. By nature one table per process, as kombu's own.
REGISTERED: Final[set[str]] = set()


def register(
    name: str,
    content_type: str,
    encode: Callable[[object], bytes | str],
    decode: Callable[[bytes], object],
) -> None:
    """Add a serializer of the program's own, or put it in the place of one of that name.

    Its payloads are stored as they are and do not say what they are: a reader whose default is this
    serializer takes every payload without one of our headers for one of its own.

    Args:
        encode: makes bytes of a value; a str is stored as UTF-8.
        decode: makes a value of those bytes.

    Raises:
        ConfigurationError: `name` is one of the four that are built in, or `content_type` is another's.
    """
    if name in _BUILT_IN:
        raise ConfigurationError(f"serializer {name!r} is built in: register yours under another name")
    if NAMES.get(content_type, name) != name:
        raise ConfigurationError(
            f"content type {content_type!r} of serializer {name!r} is that of {NAMES[content_type]!r}"
        )
    NAMES.pop(_content_types.get(name, ""), None)
    _content_types[name] = content_type
    NAMES[content_type] = name
    ENCODERS[name] = _encoder(name, encode)
    DECODERS[name] = _decoder(name, decode)
    REGISTERED.add(name)


def name_of(serializer: object) -> str:
    """The name of a serializer given by name or content type.

    Raises:
        ConfigurationError: it is not known, or the library for it is not installed.
    """
    name = serializer.strip() if isinstance(serializer, str) else ""
    name = NAMES.get(name, name)
    if name not in SERIALIZERS:
        raise unknown(serializer)
    if (requirement := missing(name)) is not None:
        raise ConfigurationError(f"serializer {name!r} needs a library: pip install {requirement}")
    return name


def missing(name: str) -> str | None:
    """What is to be installed before this serializer can be used; None if it can."""
    return yaml.missing() if name == "yaml" else None


def unknown(serializer: object) -> ConfigurationError:
    return ConfigurationError(f"unknown serializer {serializer!r:.80}; known are {', '.join(SERIALIZERS)}")


def _encoder(name: str, encode: Callable[[object], bytes | str]) -> Callable[[object], bytes]:
    def dumps(data: object) -> bytes:
        try:
            payload: object = encode(data)
        except Exception as exc:
            path, value, cause = culprit(data, exc, encode)
            raise encode_error(render(path), value, name, f"{cause!r:.500}") from exc
        if isinstance(payload, str):
            return payload.encode("utf-8", "surrogatepass")
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise encode_error("value", data, name, f"it made no bytes of it but {type(payload).__name__}")
        return bytes(payload)

    return dumps


def _decoder(name: str, decode: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def loads(payload: bytes) -> object:
        try:
            return decode(payload)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # as pickle may, it may raise SystemExit
            raise DecodeError(f"damaged {name} payload of {len(payload):,} bytes: {exc!r:.500}") from exc

    return loads
