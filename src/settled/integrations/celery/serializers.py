"""kombu's serializers and types, as far as the program has added to them, made known to the codec."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, cast

import kombu.utils.json as kombu_json
from kombu.serialization import registry as _registry

from settled import codec
from settled.errors import ConfigurationError

log = logging.getLogger("settled.celery")


class _Encoder(Protocol):
    content_type: str
    encoder: Callable[[object], bytes | str]


class _Registry(Protocol):
    """What is read of kombu's registry, in which `register` leaves what it is given."""

    type_to_name: Mapping[str, str]
    name_to_type: Mapping[str, str]
    _encoders: Mapping[str, _Encoder]
    _decoders: Mapping[str, Callable[[object], object]]


registry = cast("_Registry", _registry)

_BUILT_IN = ("json", "msgpack", "pickle", "yaml")
_OF_KOMBU = ("kombu.", "yaml")
"""Modules of the functions that kombu itself registers."""


def share_types() -> None:
    """Types of `kombu.utils.json.register_type`, earlier or later ones, are stored and read as Celery does."""
    codec.share_types(kombu_json._encoders, kombu_json._decoders)


def serializer_named(name: str) -> str:
    """The codec's name for kombu's serializer `name`, for writing; one of the program's own is registered.

    Raises:
        ConfigurationError: neither knows it, or its library is missing.
    """
    found = _adopted(registry.type_to_name.get(name, name))
    if found is None:
        needs = codec.missing(name)
        way_out = (
            f"pip install {needs}"
            if needs
            else f"there are {', '.join(codec.SERIALIZERS)}, and those registered with kombu, encoder and decoder"
        )
        raise ConfigurationError(f"result_serializer: {name!r} cannot be used here: {way_out}")
    return found


def accepted(given: object, serializer: str, setting: str) -> tuple[str, ...]:
    """The codec's names for what kombu would accept of `given`, names or content types.

    `serializer` is kombu's name of the one that is written. Names that neither knows are ignored, with one
    warning, if any is left; else ConfigurationError names `setting`.
    """
    names = (
        [name.strip() for name in given.split(",")]
        if isinstance(given, str)
        else list(_names(given, setting))
    )
    types = {registry.name_to_type.get(name, name) for name in names}
    # Content types decide, as with kombu: two serializers may share one, and then both are accepted.
    candidates = dict.fromkeys(
        [*(registry.type_to_name.get(each, "") for each in types), *_BUILT_IN, serializer]
    )
    known = {name: found for name in candidates if _type_of(name) in types and (found := _adopted(name))}
    ignored = sorted(types - {_type_of(name) for name in known})
    if not known:
        raise ConfigurationError(
            f"{setting} names nothing that can be read here ({', '.join(names) or 'it is empty'}): "
            f"add {serializer!r}, which result_serializer writes"
        )
    if ignored:
        log.warning("%s: %s cannot be read here and is ignored", setting, ", ".join(ignored))
    return tuple(dict.fromkeys(known.values()))


def _names(given: object, setting: str) -> Iterable[str]:
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"{setting} must be a list of serializers, not {given!r:.80}")
    return map(str, given)


def _type_of(name: str) -> str | None:
    return registry.name_to_type.get(name)


def _adopted(name: str) -> str | None:
    """The codec's name for the serializer that kombu knows as `name`; None if it cannot be used here."""
    encoder = registry._encoders.get(name)
    content_type = registry.name_to_type.get(name, "")
    decoder = registry._decoders.get(content_type)
    if name in _BUILT_IN and (encoder is None or _is_kombus(encoder.encoder)) and _is_kombus(decoder):
        return None if codec.missing(name) else name
    if encoder is None or decoder is None:
        return None
    # A program may have put its own in the place of kombu's json: then that is what it wants.
    registered = f"{name} (registered)" if name in _BUILT_IN else name
    taken = content_type in map(codec.SERIALIZERS.get, _BUILT_IN)
    codec.register(
        registered, f"{content_type}; name={name}" if taken else content_type, encoder.encoder, decoder
    )
    return registered


def _is_kombus(function: object) -> bool:
    return str(getattr(function, "__module__", "")).startswith(_OF_KOMBU)
