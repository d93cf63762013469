"""A call of a function as a value: what to run, under which key, and with which limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Generic, TypeAlias, TypeVar

import msgspec

from settled.backends.protocols import in_seconds
from settled.errors import ConfigurationError
from settled.executor.digest import digest_of, name_of
from settled.record import checked_id

T = TypeVar("T")


class DefaultKey(Enum):
    """The key of a call that was given none: its digest, or a fresh id where nothing is idempotent."""

    DIGEST = "digest"


DIGEST = DefaultKey.DIGEST

Key: TypeAlias = "str | DefaultKey | None"


class Call(msgspec.Struct, Generic[T], frozen=True, eq=False):
    """`fn(*args, **kwargs)`, to be run by an Executor. Made by `settled.call`."""

    fn: Callable[..., T]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    key: Key = DIGEST
    retries: int | None = None
    expires: float | None = None
    timeout: float | None = None

    @property
    def name(self) -> str:
        """ "module.qualname" of the function."""
        return name_of(self.fn)

    def is_fresh(self, idempotent: bool) -> bool:
        """Whether its id is a new one each time it is asked."""
        return self.key is None or (self.key is DIGEST and not idempotent)

    def task_id(self, idempotent: bool = True) -> str:
        """The key, the digest, or a fresh id; see `Executor.submit`."""
        if self.is_fresh(idempotent):
            return os.urandom(16).hex()
        if self.key is DIGEST:
            return digest_of(self.fn, self.args, self.kwargs)
        return checked_id(self.key, "key")


def call(
    fn: Callable[..., T],
    /,
    *args: object,
    key: Key = DIGEST,
    retries: int | None = None,
    expires: float | None = None,
    timeout: float | None = None,
    **kwargs: object,
) -> Call[T]:
    """A call for `Executor.group` and `Executor.chord`; the arguments are those of `Executor.submit`.

    For a function that itself takes one of these keywords, wrap it: `functools.partial(fn, key=...)`.
    Raises ConfigurationError for what cannot be called, and for limits that are none.
    """
    if not callable(fn):
        raise ConfigurationError(f"there is nothing to call: {fn!r:.80} is no function")
    if retries is not None:
        checked_retries(retries)
    if expires is not None:
        expires = in_seconds(expires, "expires")
    if timeout is not None:
        timeout = in_seconds(timeout, "timeout")
        if not timeout:
            raise ConfigurationError("timeout is the seconds that the call may run: more than 0, or None")
    return Call(fn, args, kwargs, key, retries, expires, timeout)


def checked_retries(retries: object) -> int:
    """`retries` as it is, or ConfigurationError: a whole number, 0 or more."""
    if type(retries) is not int or retries < 0:
        raise ConfigurationError(f"retries must be a whole number, 0 or more, not {retries!r:.80}")
    return retries
