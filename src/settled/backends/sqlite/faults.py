"""SQLite's errors as ours: each names the path, the cause and the way out."""

from __future__ import annotations

import os

import apsw

from settled.errors import ConfigurationError, SchemaError, SettledError, StoreError, StoreUnavailable

BUSY = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)
"""What may pass: another connection is in the way."""


def translated(exc: apsw.Error, path: str) -> SettledError:
    """Our error for SQLite's; to be raised from it."""
    match exc:
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            return StoreUnavailable(f"{path} is busy: other connections kept it locked all the time ({exc})")
        case apsw.FullError():
            return StoreError(
                f"{path} cannot grow: the disk is full ({exc}). Nothing of this write was stored and nothing "
                "else was lost; free some space or run `settled` cleanup, then write again"
            )
        case apsw.NotADBError():
            return SchemaError(f"{path} is not an SQLite database: give settled a file of its own")
        case apsw.CorruptError():
            return StoreError(
                f"{path} is damaged ({exc}): move it away and save what can be read with "
                "`sqlite3 FILE .recover`"
            )
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return StoreError(f"{path} cannot be written ({exc}): {_whose(path)}")
        case apsw.CantOpenError():
            return _cannot_open(exc, path)
        case apsw.IOError():
            return StoreError(f"{path}: the system could not read or write it ({exc}): check the disk")
        case apsw.TooBigError():
            return StoreError(f"{path}: SQLite stores at most 1 GB in one record: store the value elsewhere")
        case _:
            return StoreError(f"{path}: SQLite failed: {exc}")


def unusable(path: str) -> ConfigurationError | None:
    """Why there can be no database at `path`, or None."""
    parent = os.path.dirname(path)
    if os.path.isdir(path):
        return ConfigurationError(
            f"{path} is a directory: name a file in it, such as {path.rstrip('/')}/results.db"
        )
    if os.path.isdir(parent):
        return None
    if os.path.exists(parent):
        return ConfigurationError(f"{path} cannot be opened: {parent} is not a directory")
    return ConfigurationError(f"{path} cannot be opened: there is no directory {parent}; create it first")


def _cannot_open(exc: apsw.Error, path: str) -> SettledError:
    known = unusable(path)
    if known is not None:
        return known
    try:
        too_long = len(os.fsencode(os.path.basename(path))) > os.pathconf(
            os.path.dirname(path), "PC_NAME_MAX"
        )
    except OSError:
        too_long = False
    if too_long:
        return ConfigurationError(f"{path} cannot be opened: the file name is too long for its file system")
    return StoreError(f"{path} cannot be opened ({exc}): {_whose(path)}")


def _whose(path: str) -> str:
    return (
        f"this process (user id {os.geteuid()}) must be able to write the file, the -wal and -shm files "
        f"beside it, and the directory {os.path.dirname(path)}"
    )
