"""When the write-ahead log is copied into the file."""

from __future__ import annotations

import logging

import apsw

log = logging.getLogger("settled.sqlite")

LOG_PAGES = 4000
"""Pages (of 4 KiB) in the write-ahead log at which it is copied into the file."""

AGAIN_PAGES = 500
"""Pages more after which a checkpoint that found others in the way is tried again."""

READERS_TIMEOUT = 20
"""Milliseconds for which a checkpoint holds up writers to wait for readers."""


class Checkpoints:
    """Copies the log into the file when it is long, such that the next writer begins it anew.

    SQLite's own way copies beside the other writers. With several of them there is always a page
    more than was copied, so the log never begins anew, grows, and every commit then copies and syncs.
    """

    def __init__(self, writer: apsw.Connection) -> None:
        self._db = writer
        self._due = LOG_PAGES
        writer.wal_autocheckpoint(0)

    def keep(self) -> None:
        """Make a checkpoint if one is due. What was written stands whether that succeeds or not."""
        pages, _ = self._db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)  # only asks
        if pages < LOG_PAGES:
            self._due = LOG_PAGES
        elif pages >= self._due:
            self._due = pages + AGAIN_PAGES
            self._copy()

    def _copy(self) -> None:
        try:
            self._db.set_busy_timeout(READERS_TIMEOUT)
            self._db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            pass  # another process makes one, or a reader is in its way: later, then
        except apsw.Error:
            log.exception("the write-ahead log could not be copied into the file; what it holds is not lost")
        finally:
            self._db.set_busy_timeout(0)
