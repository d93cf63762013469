"""Running things at once, and waiting for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Running:
    """A call in a thread of its own. `result` waits for it and returns, or raises, what it did."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._answer: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._call()
        except BaseException as exc:
            self._error = exc

    def result(self, timeout: float) -> object:
        """AssertionError if it does not end within `timeout` seconds."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"a call had not returned after {timeout} s"
        if self._error is not None:
            raise self._error
        return self._answer


def together(*calls: Callable[[], T], timeout: float = 60.0) -> list[T]:
    """Make the calls at the same moment, each in its thread; their answers in order."""
    start = threading.Barrier(len(calls))
    answers: dict[int, T] = {}

    def make(place: int) -> None:
        start.wait(timeout)
        answers[place] = calls[place]()

    running = [Running(lambda place=place: make(place)) for place in range(len(calls))]  # type: ignore[misc]
    for each in running:
        each.result(timeout)
    return [answers[place] for place in range(len(calls))]
