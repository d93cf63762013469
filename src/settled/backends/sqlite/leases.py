"""Named leases."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from settled.backends.sqlite import records, statements

SQL = statements.load("leases.sql")


def lease(
    db: apsw.Connection, names: Sequence[str], token: str, seconds: float, now: float
) -> frozenset[str]:
    """All of `names` in one statement; those that `token` now holds."""
    if seconds <= 0:
        db.execute(SQL["release"], (token, records.as_json(names)))
        return frozenset()
    rows = db.execute(SQL["take"], (token, now + seconds, records.as_json(names), now)).fetchall()
    return frozenset(name for (name,) in rows)
