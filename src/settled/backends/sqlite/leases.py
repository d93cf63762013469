"""Named leases."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from settled.backends.sqlite import records, statements
from settled.backends.sqlite.statements import fetch

SQL = statements.load("leases.sql")


def lease(
    db: apsw.Connection, names: Sequence[str], token: str, seconds: float, now: float
) -> frozenset[str]:
    """All of `names` in one statement; those that `token` now holds."""
    if seconds <= 0:
        db.execute(SQL["release"], (token, records.as_json(names)))
        return frozenset()
    rows = fetch(db, SQL["take"], (token, now + seconds, records.as_json(names), now))
    return frozenset(name for (name,) in rows)
