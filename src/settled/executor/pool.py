"""The executor underneath: one that was given, or one that is made, and made anew when it breaks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor

from settled.errors import ConfigurationError


class Pool:
    """See the module. `inner` is an executor, or a callable without arguments that makes one."""

    def __init__(self, inner: Executor | Callable[[], Executor], shared: bool) -> None:
        self._lock = threading.Lock()
        self._shared = shared
        self._factory: Callable[[], Executor] | None = None
        self._executor: Executor | None = None
        if not isinstance(inner, type) and callable(getattr(inner, "submit", None)):
            self._executor = self._checked(inner)
        elif callable(inner):
            self._factory = inner
            if isinstance(inner, type) and issubclass(inner, ProcessPoolExecutor):
                self._check_reach(inner.__name__)
        else:
            raise ConfigurationError(
                "Executor needs another executor or what makes one, such as "
                f"concurrent.futures.ProcessPoolExecutor, not {inner!r:.80}"
            )

    @property
    def owned(self) -> bool:
        """Whether the executor underneath is made here, and so is ours to shut down."""
        return self._factory is not None

    def current(self) -> Executor:
        """The executor to submit to."""
        with self._lock:
            if self._executor is None:
                assert self._factory is not None
                self._executor = self._checked(self._factory())
            return self._executor

    def retire(self, broken: Executor) -> bool:
        """Have the next `current` make a new one, if `broken` still is the current one; whether it was."""
        with self._lock:
            if self._factory is None or self._executor is not broken:
                return False
            self._executor = None
            return True

    def shutdown(self, wait: bool) -> None:
        with self._lock:
            executor = self._executor
        if executor is not None and self._factory is not None:
            executor.shutdown(wait=wait)

    def _checked(self, executor: object) -> Executor:
        if not callable(getattr(executor, "submit", None)):
            raise ConfigurationError(
                f"what was to make an executor made {executor!r:.80}, which has no submit()"
            )
        if isinstance(executor, ProcessPoolExecutor):
            self._check_reach("a ProcessPoolExecutor")
        return executor  # type: ignore[return-value]

    def _check_reach(self, what: str) -> None:
        if not self._shared:
            raise ConfigurationError(
                f"the workers of {what} are other processes, which this backend cannot reach: use a backend "
                "that processes share, such as 'sqlite:///results.db'"
            )
