"""settled keeps the results of tasks: states, values, failures, and when a whole group is done.

`import settled` loads no engine's client; the names below are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from settled.app import App, connect
    from settled.completion import as_completed, gather
    from settled.errors import ChordError, RemoteError, SettledError, TaskRevokedError, TimeoutError
    from settled.executor import Executor, call
    from settled.groups import GroupResult, ResultSet
    from settled.results import AsyncResult, EagerResult, result_from_tuple

__version__ = "0.1.0"

_HOME = {
    "App": "app",
    "AsyncResult": "results",
    "ChordError": "errors",
    "EagerResult": "results",
    "Executor": "executor",
    "GroupResult": "groups",
    "RemoteError": "errors",
    "ResultSet": "groups",
    "SettledError": "errors",
    "TaskRevokedError": "errors",
    "TimeoutError": "errors",
    "as_completed": "completion",
    "call": "executor",
    "connect": "app",
    "gather": "completion",
    "result_from_tuple": "results",
}

__all__ = [  # noqa: RUF022 - by what people reach for
    "connect", "App", "AsyncResult", "GroupResult", "ResultSet", "EagerResult", "as_completed", "gather",
    "result_from_tuple", "Executor", "call",
    "SettledError", "TimeoutError", "RemoteError", "ChordError", "TaskRevokedError",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'settled' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"settled.{_HOME[name]}"), name)
    globals()[name] = value
    return value
