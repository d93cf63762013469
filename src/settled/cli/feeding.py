"""One call for each input, a few under way at a time, each counted when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from settled.cli import text
from settled.cli.progress import Bar, Tally

if TYPE_CHECKING:
    from settled.executor import Executor
    from settled.executor.handles import Handle

BATCH = 500
"""Inputs whose records are looked up at once, and so calls that may be under way together."""

SPARE = 32
"""Calls kept under way, beyond those that the workers hold, until the next batch is looked up."""


class Feed:
    """Submits a call for each input and counts what becomes of it.

    Only a few calls are under way at a time, so that a hundred thousand inputs cost little memory
    and Ctrl-C leaves little to take back. Values stay in the store.
    """

    def __init__(
        self,
        executor: Executor,
        function: Callable[..., object],
        inputs: Sequence[str],
        tally: Tally,
        bar: Bar,
    ) -> None:
        self._executor = executor
        self._function = function
        self._inputs = inputs
        self._tally = tally
        self._bar = bar
        self._window = tally.workers * 8 + SPARE
        self._began = datetime.now(UTC).isoformat()
        self._done: SimpleQueue[tuple[int, Handle[object]]] = SimpleQueue()
        self._drawn = 0.0
        self.task_ids: list[str] = []
        """The calls' task ids, in the order of the inputs."""
        self.failed: list[int] = []
        """The places of the inputs whose call did not succeed."""
        self.unstored: dict[int, str] = {}
        """Why nothing is stored for some of those."""

    def run(self) -> None:
        """Have every call done. KeyboardInterrupt may come at any point: then see `drain`."""
        under_way = 0
        for start in range(0, len(self._inputs), BATCH):
            while under_way > self._window:
                under_way -= self._take()
            handles = self._executor.map(self._function, self._inputs[start : start + BATCH]).handles
            for place, handle in enumerate(handles, start):
                self.task_ids.append(handle.id)
                if handle.done():
                    self._count(place, handle)
                else:
                    under_way += 1
                    handle.add_done_callback(partial(self._put, place))
            self._draw()
        while under_way:
            under_way -= self._take()

    def drain(self) -> None:
        """Count what was stored and not looked at yet."""
        while not self._done.empty():
            place, handle = self._done.get()
            if handle.ready():
                self._count(place, handle)

    def _put(self, place: int, handle: object) -> None:
        self._done.put((place, handle))  # type: ignore[arg-type]

    def _take(self) -> int:
        """Wait for the next call that is done, and count it; how many that were."""
        try:
            place, handle = self._done.get(timeout=self._bar.interval)
        except Empty:
            self._draw()
            return 0
        self._count(place, handle)
        self._draw()
        return 1

    def _count(self, place: int, handle: Handle[object]) -> None:
        error = None if handle.cancelled() else handle.exception(0)
        failed = handle.cancelled() or error is not None
        stored = handle.ready()
        if failed:
            self.failed.append(place)
            if not stored:
                self.unstored[place] = text.one_line(error or "cancelled")
        # Both are ISO 8601 in UTC: what was done before we began sorts first.
        kept = stored and str(handle.date_done) < self._began
        self._tally.count(failed, kept)

    def _draw(self) -> None:
        now = time.monotonic()
        if self._bar.interval is not None and now - self._drawn >= self._bar.interval:
            self._drawn = now
            self._bar.show()
