"""Writes in order: in memory up to a limit, in a spool beyond it."""

from __future__ import annotations

import logging
import time
from collections import deque
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from settled.backends import spool
from settled.backends.spool import REFUSED, SPOOL, Kept, Spool
from settled.errors import StoreUnavailable
from settled.record import Settle

log = logging.getLogger("settled.backends")

OVERHEAD = 128
"""Bytes that count for each write in memory beyond its own."""


class Backlog:
    """The writes that one process keeps for one store, first in, first out. Not thread-safe.

    What comes once the memory is full goes to the spool, and so does all that comes after it, until
    that is empty again: memory always holds the older ones.

    Args:
        url: the store as its spools name it.
        folder: the folder of spools as it was given, or None; see `spool.folder`.
        limit: bytes that may be in memory.
    """

    def __init__(self, url: str, folder: object, limit: int) -> None:
        self.url = url
        self.limit = limit
        self.count = 0
        self._folder = folder
        self._memory: deque[bytes] = deque()
        self._bytes = 0
        self._spool: Spool | None = None
        self._refused: Spool | None = None

    @classmethod
    def of(cls, orphan: Spool) -> Self:
        """What is in a spool that this process has taken."""
        backlog = cls(orphan.head.url, orphan.path.parent, 0)
        backlog._spool = orphan
        return backlog

    def add(self, write: Settle) -> None:
        """Keep one more. StoreUnavailable, naming the task, the spool and the cause, if nothing can hold it."""
        kept = Kept(write, time.time())
        where: object = "the spool"
        try:
            where = spool.folder(self._folder) if self._spool is None else self._spool.path
            framed = spool.framed(kept)
            size = len(framed) + OVERHEAD
            if self._spool is None and self._bytes + size <= self.limit:
                self._memory.append(framed)
                self._bytes += size
            elif self._spool is None:
                self._spool = self._written(framed, kept.at)
                log.warning("%s is still away: what is written goes to %s", self.url, self._spool.path)
            else:
                self._spool.append(framed)
        except (OSError, ValueError) as exc:
            raise StoreUnavailable(
                f"{self.url} is away, and {where} cannot keep the write of task {write.task_id!r}: {exc}"
            ) from exc
        self.count += 1

    def oldest(self) -> Kept | None:
        """The one that is first to be made. An empty spool is deleted."""
        if self._memory:
            return spool.unframed(self._memory[0])
        if self._spool is not None:
            kept = self._spool.oldest()
            if kept is not None:
                return kept
            emptied, self._spool = self._spool, None
            emptied.remove()
        self.count = 0
        return None

    def made(self) -> None:
        """The oldest is the store's now."""
        self.count -= 1
        if self._memory:
            self._bytes -= len(self._memory.popleft()) + OVERHEAD
        elif self._spool is not None:
            self._spool.made()

    def refuse(self, kept: Kept, error: Exception) -> Path:
        """The store does not take the oldest: it goes to a spool of its own, where nobody waits for it.

        Returns that spool's path. OSError if it cannot be written: the write is still the oldest.
        """
        framed = spool.framed(replace(kept, refused=str(error)))
        if self._refused is None:
            self._refused = self._written(framed, kept.at, REFUSED)
        else:
            self._refused.append(framed)
        self.made()
        return self._refused.path

    def leave(self) -> list[Path]:
        """Have what is in memory in a file, and let go of all files; those with writes to be made.

        OSError if it cannot be written: it is in memory still.
        """
        files = []
        if self._memory:
            # Its head says that it is older than the spool.
            at = spool.unframed(self._memory[0]).at
            older = self._written(b"".join(self._memory), at)
            older.close()
            self.count -= len(self._memory)
            self._memory.clear()
            self._bytes = 0
            files.append(older.path)
        if self._spool is not None:
            if self._spool.oldest() is None:
                self._spool.remove()
            else:
                files.append(self._spool.path)
        self.let_go()
        return files

    def let_go(self) -> None:
        """Forget everything and close the files: nothing here is this process's."""
        self.count = self._bytes = 0
        self._memory.clear()
        for held in (self._spool, self._refused):
            if held is not None:
                held.close()
        self._spool = self._refused = None

    def _written(self, framed: bytes, at: float, suffix: str = SPOOL) -> Spool:
        """A new spool that holds these frames."""
        made = Spool.create(spool.folder(self._folder), self.url, at, suffix)
        try:
            made.append(framed)
        except BaseException:
            made.remove()
            raise
        return made
