"""`sqlite:///path`: records in one SQLite file, shared by every process of the machine.

The tables are meant to be queried; see `migrations/`. The file is for this library's connections
and for `apsw`'s: a second copy of SQLite in the same process (Python's `sqlite3`) that opens and
closes it, and any plain `open()` and `close()` of it, makes the system drop this process's locks.
"""

from settled.backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
