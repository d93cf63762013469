"""What the backend accepts from others: an app, a request, a signature. Celery's satisfy them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Protocol, TypeAlias, cast

from settled.errors import ConfigurationError

Seconds: TypeAlias = float | timedelta


class Result(Protocol):
    """A handle, as the backend sees one."""

    @property
    def id(self) -> str: ...

    def as_tuple(self) -> tuple[object, ...]: ...


class Application(Protocol):
    """What a backend needs of its app.

    `conf` holds settings by the field's names, as attributes or as items. `AsyncResult` and
    `GroupResult` make handles. An app that can send tasks also has `signature(mapping)`, which
    returns something with `apply_async(args, task_id=...)`; one that cannot says `can_send = False`.
    """

    @property
    def conf(self) -> object: ...

    @property
    def AsyncResult(self) -> object: ...  # noqa: N802 - the field's name

    @property
    def GroupResult(self) -> object: ...  # noqa: N802


def setting(conf: object, name: str, default: object = None) -> object:
    """One setting from `conf`, by attribute or by item; `default` where it is absent or None."""
    value = setting_or_none(conf, name)
    return default if value is None else value


def setting_or_none(conf: object, name: str, default: object = None) -> object:
    """As `setting`, for a setting of which None says something: `default` only where it is absent."""
    if isinstance(conf, Mapping) and name in conf:
        return conf[name]
    return getattr(conf, name, default)


def in_seconds(value: object, what: str) -> float | None:
    """A duration given as seconds or timedelta; None stays None. ConfigurationError otherwise."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value < 0:
        raise ConfigurationError(
            f"{what} must be a number of seconds, 0 or more, or a timedelta, not {value!r:.80}"
        )
    return float(value)


def checked_timeout(timeout: object) -> float | None:
    """A caller's timeout in seconds; None waits for ever. ConfigurationError (a ValueError) otherwise."""
    if timeout is None or (type(timeout) is float and timeout >= 0):
        return timeout
    return in_seconds(timeout, "timeout")


def field(request: object, name: str) -> object:
    """One field of a task request, which may be an object or a mapping; None where it is absent."""
    if _is_mapping(type(request)):  # type: ignore[arg-type] # mypy takes a type for unhashable
        return cast("Mapping[str, object]", request).get(name)
    return getattr(request, name, None)


@lru_cache(maxsize=64)  # asking the type itself costs more than the field
def _is_mapping(kind: type) -> bool:
    return issubclass(kind, Mapping)


def text_field(request: object, name: str) -> str | None:
    value = field(request, name)
    return None if value is None else str(value)
