"""Every error `settled` raises, rooted in `SettledError`.

An error raised for a client library's error carries the original as `__cause__`.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence


class SettledError(Exception):
    """The root of every error that `settled` raises."""


class TimeoutError(SettledError, builtins.TimeoutError):
    """The caller's timeout passed before the task was settled. The task itself goes on."""


class ConfigurationError(SettledError, ValueError):
    """A URL, option or setting that cannot be used; the message names it and the way out."""


class InvalidTaskId(SettledError, ValueError):
    """A task, group or chord id that is not a non-empty str (or UUID) of at most 1,024 bytes."""


class StoreError(SettledError):
    """The store refused or failed an operation, for good: trying again would not help."""


class StoreUnavailable(StoreError):
    """The store could not be reached or was busy for the whole of the retry deadline."""


class SchemaError(StoreError):
    """The store holds something that is not ours, or a schema newer than this release knows."""


class EncodeError(SettledError, TypeError):
    """A value that the serializer cannot store; names the path in the value and the type."""

    path: str = ""
    type_name: str = ""


class DecodeError(SettledError, ValueError):
    """A stored payload that cannot be read; says whether it is damaged or not accepted."""


class CorruptRecord(DecodeError):
    """The stored record of a task is damaged; the message names the task."""


class ContentRefused(DecodeError):
    """A payload in a serializer that this reader does not accept; names both."""


class ResultExpired(SettledError, LookupError):
    """The record was there and has expired."""


class ResultForgotten(SettledError, LookupError):
    """The record was there and was forgotten."""


class ChordError(SettledError):
    """A chord's body could not be given its results; names the member and what became of it."""


class TaskRevokedError(SettledError):
    """The task was revoked: it will not run, or its outcome no longer counts."""


class WorkerLost(SettledError):
    """The process that ran the task died before it settled it."""


class TimeLimitExceeded(SettledError):
    """The task ran for longer than its own time limit."""


class RemoteError(SettledError):
    """The exception of a task whose class is not available, or not trusted, here.

    A class is rebuilt when it is already imported and is an `Exception`; everything else
    arrives as this type, so that `except RemoteError` always works.

    Args:
        exc_type: qualified name of the original class.
        exc_module: the module that defined it, or None if the store does not say.
        exc_args: the original's `args`, as far as they could be stored.
        bases: "module.qualname" of the original's base classes, nearest first.
        attributes: the original's instance attributes that could be stored.
    """

    exceptions: Sequence[Exception] = ()  # the members, if the original was an exception group
    remote_traceback: str | None = None  # the original's, where it was stored

    def __init__(
        self,
        exc_type: str,
        exc_module: str | None = None,
        exc_args: Sequence[object] = (),
        bases: Sequence[str] = (),
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(exc_type, exc_module, tuple(exc_args), tuple(bases), dict(attributes or {}))
        self.exc_type = exc_type
        self.exc_module = exc_module
        self.exc_args = tuple(exc_args)
        self.bases = tuple(bases)
        self.attributes = dict(attributes or {})

    def __str__(self) -> str:
        shown = ", ".join(str(arg) for arg in self.exc_args)
        return f"{self.exc_type}: {shown}" if shown else self.exc_type
