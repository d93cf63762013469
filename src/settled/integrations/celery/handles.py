"""Settled's handles for Celery's: what can be awaited."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from celery.result import AsyncResult as CelerysAsyncResult
from celery.result import EagerResult as CelerysEagerResult
from celery.result import GroupResult as CelerysGroupResult
from celery.result import ResultSet as CelerysResultSet

from settled.backends.base import BaseBackend
from settled.errors import ConfigurationError
from settled.groups import GroupResult, ResultSet
from settled.integrations.celery.backend import Backend
from settled.results import AnyResult, AsyncResult, EagerResult


def handle(result: object) -> AnyResult:
    """Settled's handle on what a handle of Celery's stands for: `await handle(add.delay(2, 2))`.

    It can be awaited, and given to `settled.gather` and `settled.as_completed`, with no thread per waiter;
    groups become groups. Making it asks nothing of the store.

    Args:
        result: Celery's AsyncResult, GroupResult, ResultSet or EagerResult.

    Raises:
        ConfigurationError: it is none of these, or its backend is not settled's.
    """
    if isinstance(result, CelerysResultSet):
        members = [handle(each) for each in cast("Iterable[object]", result.results)]
        app = _engine(result).app
        if isinstance(result, CelerysGroupResult):
            return GroupResult(str(result.id), members, app=app)
        return ResultSet(members, app=app)
    if isinstance(result, CelerysEagerResult):
        return EagerResult(str(result.id), result.result, result.state, result.traceback)
    if isinstance(result, CelerysAsyncResult):
        return AsyncResult(str(result.id), _engine(result))
    raise ConfigurationError(f"no handle of Celery's: {type(result).__name__}")


def _engine(result: CelerysAsyncResult | CelerysResultSet) -> BaseBackend:
    backend = result.backend
    if not isinstance(backend, Backend):
        raise ConfigurationError(
            f"its results are in {type(backend).__name__}: only those of a backend of settled's can be awaited; "
            "set result_backend = 'settled+...'"
        )
    return backend.engine
