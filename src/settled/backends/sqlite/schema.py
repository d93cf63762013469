"""Which schema a file holds, and bringing it up to date."""

from __future__ import annotations

import apsw

from settled.backends.sqlite import statements
from settled.backends.sqlite.statements import fetch
from settled.errors import SchemaError, StoreError

APPLICATION_ID = 0x53544C44  # "STLD"
"""What SQLite's `PRAGMA application_id` says of a file that is ours."""


def prepare(db: apsw.Connection, path: str) -> None:
    """Make the file's schema this release's: created, migrated or found right.

    Safe when many processes do so at once: what is found is looked at again under the write lock.
    Raises SchemaError, having changed nothing, if the file is not ours or is of a newer release.
    """
    wanted = statements.migrations()
    found = _version(db, path, len(wanted))
    if db.pragma("journal_mode") != "wal" and db.pragma("journal_mode", "wal") != "wal":
        raise StoreError(
            f"{path}: SQLite cannot keep a write-ahead log there (a network file system?): "
            "use a path on a local disk"
        )
    if found == len(wanted):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for number, sql in enumerate(wanted, 1):
            if number > _version(db, path, len(wanted)):
                db.execute(sql)
                db.pragma("application_id", APPLICATION_ID)
                db.pragma("user_version", number)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: apsw.Connection, path: str, latest: int) -> int:
    """The schema's version, 0 for an empty file."""
    application, version, entries = fetch(
        db,
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)"
        " FROM pragma_application_id, pragma_user_version",
    )[0]
    if application == APPLICATION_ID:
        if version > latest:
            raise SchemaError(
                f"{path} has schema version {version}; this release of settled knows versions up to "
                f"{latest}: upgrade settled here, or use another file"
            )
        return int(version)
    if application or version or entries:
        raise SchemaError(
            f"{path} is an SQLite database of another program (application_id {application}, user_version "
            f"{version}, {entries} tables and indexes): give settled a file of its own"
        )
    return 0
