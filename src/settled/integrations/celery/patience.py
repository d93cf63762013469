"""How long an engine tries again, from what Celery's settings say of retries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from settled.errors import ConfigurationError
from settled.integrations.celery.servers import checked

PATIENCE = 10.0
"""Seconds for which every engine tries an operation again, see `Engine.retry_deadline`."""


class Conf(Protocol):
    """Celery's `app.conf`, or a mapping of settings in lower case."""

    def get(self, name: str, default: object = None, /) -> object: ...


def deadline_of(conf: Conf, transport: Mapping[str, object], keeps: bool, is_redis: bool) -> float | None:
    """Seconds, or None for the engine's own.

    An engine that `keeps` writes for a store that is away needs no `result_backend_always_retry`: it goes on
    trying for as long as its process lives, without holding up the worker.
    """
    if is_redis and transport.get("retry_policy"):
        patience = _policy_patience(transport["retry_policy"])
        return None if keeps and patience == float("inf") else patience
    if keeps or not conf.get("result_backend_always_retry"):
        return None
    base, longest, retries = (
        checked(name, conf.get(name, default), float)
        for name, default in (
            ("result_backend_base_sleep_between_retries_ms", 10),
            ("result_backend_max_sleep_between_retries_ms", 10000),
            ("result_backend_max_retries", float("inf")),
        )
    )
    pause = _pauses(lambda number: min(longest, base * 2.0 ** min(number + 1, 64)) / 1000, retries)
    return max(PATIENCE, pause)


_POLICY: Mapping[str, float] = {"max_retries": 20, "interval_start": 0, "interval_step": 1, "interval_max": 1}
"""Celery's own, to which `retry_policy` adds."""


def _policy_patience(given: object) -> float:
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"retry_policy must be a dict, not {given!r:.80}")
    policy = {**_POLICY, **given}
    retries = (
        float("inf")
        if policy["max_retries"] is None
        else checked("max_retries", policy["max_retries"], float)
    )
    start, step, longest = (
        checked(name, policy[name], float) for name in ("interval_start", "interval_step", "interval_max")
    )
    patience = _pauses(lambda number: min(longest, start + step * number), retries)
    limit = policy.get("timeout")
    return min(patience, checked("timeout", limit, float)) if limit else patience


def _pauses(pause: Callable[[int], float], count: float) -> float:
    """The seconds that `count` pauses take together, of which none is shorter than the one before."""
    if count == float("inf"):
        return count
    total = 0.0
    for number in range(int(count)):
        if pause(number) == pause(number + 1):
            return total + (int(count) - number) * pause(number)
        total += pause(number)
    return total
