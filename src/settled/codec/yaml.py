"""YAML as kombu writes and reads it, by PyYAML's safe functions, imported when they are first used.

bytes, datetime, date and set are YAML's own; what it lacks goes in the tags of kombu's JSON, so that it
carries every type that JSON does. (kombu's own reader hands such a tag out as the dict it is.)
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Final, cast

from settled.codec.json import is_plain
from settled.codec.lowering import Lowering
from settled.codec.tags import untag_all
from settled.errors import ConfigurationError, DecodeError

_TAG_MARK: Final = b"__type__"


def missing() -> str | None:
    """What is to be installed before YAML can be used; None if it can."""
    return None if find_spec("yaml") else "pyyaml"


@cache
def _yaml() -> ModuleType:
    try:
        import yaml
    except ImportError as exc:
        raise ConfigurationError("serializer 'yaml' needs PyYAML: pip install pyyaml") from exc
    return cast("ModuleType", yaml)


def dumps(data: object) -> bytes:
    """`data` as a YAML document.

    Raises:
        EncodeError: see `settled.codec.encode`.
        ConfigurationError: PyYAML is not installed.
    """
    dump = _yaml().safe_dump
    try:
        plain = is_plain(data)
    except RecursionError:
        plain = False  # lowering says where
    lowered = data if plain else Lowering("yaml").lower(data)
    try:
        return dump(lowered).encode("utf-8")  # type: ignore[no-any-return]
    except Exception as exc:  # its own limits: nesting, digits
        raise Lowering("yaml").error_for(data, exc) from exc


def loads(payload: bytes) -> object:
    """The value in `payload`, tags resolved (see `tags.untag`).

    Raises:
        DecodeError: it is not YAML, or makes more than plain values of it.
        ConfigurationError: PyYAML is not installed.
    """
    load = _yaml().safe_load
    try:
        value: object = load(payload)
        return untag_all(value, {}) if _TAG_MARK in payload else value
    except Exception as exc:  # PyYAML's own, and what the values in it raise: a date that is none
        raise DecodeError(f"damaged yaml payload of {len(payload):,} bytes: {exc!s:.300}") from exc
