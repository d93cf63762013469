"""What `Executor.map` returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

from settled.executor.handles import Handle

T = TypeVar("T")


class Mapped(Generic[T]):
    """The values in order, as an iterator; `handles` holds the handle of each, in order."""

    def __init__(
        self, handles: list[Handle[T]], timeout: float | None, abandon: Callable[[Handle[T]], None]
    ) -> None:
        self.handles = handles
        deadline = None if timeout is None else time.monotonic() + timeout
        self._values = _values(list(reversed(handles)), deadline, abandon)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return next(self._values)

    def close(self) -> None:
        """Leave undone what has not started."""
        self._values.close()


def _values(
    left: list[Handle[T]], deadline: float | None, abandon: Callable[[Handle[T]], None]
) -> Generator[T, None, None]:
    try:
        while left:
            yield left[-1].result(None if deadline is None else deadline - time.monotonic())
            left.pop()
    finally:
        for handle in left:
            if not handle.done():
                abandon(handle)
