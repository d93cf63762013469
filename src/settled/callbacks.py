"""The thread that runs users' callbacks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Callbacks:
    """Runs users' callbacks, one at a time, in a thread that lives while there are any.

    In the watcher's own thread a callback that waits would wait for itself, and a slow one would
    keep every waiter of the process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._todo: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None

    def run(self, callback: Callable[[], object]) -> None:
        with self._lock:
            self._todo.append(callback)
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="settled-callbacks", daemon=True)
                thread.start()
                self._thread = thread

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._todo:
                    self._thread = None
                    return
                callback = self._todo.popleft()
            callback()
