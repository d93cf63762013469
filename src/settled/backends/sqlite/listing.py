"""Listings of the records' columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw

from settled.backends.sqlite import records, statements
from settled.backends.sqlite.store import Store
from settled.record import Query, Row
from settled.states import SUCCESS

SQL = statements.load("listing.sql")

PAGE = 500
"""Rows read at a time: between two pages nothing is held, however long the caller takes."""

FIRST = 2**63 - 1


def rows(store: Store, query: Query, now: float) -> Iterator[Row]:
    """What matches, the latest write first. A row written meanwhile moves ahead of what is left to come."""
    sql, given = _statement(query)
    before, left = FIRST, query.limit
    while left > 0:
        wanted = min(left, PAGE)
        page = store.read(_page, sql, (now, before, *given, wanted))
        for _, *columns in page:
            yield Row(*columns)
        left -= wanted
        before = page[-1][0] if page else before
        if len(page) < wanted:
            return


def _statement(query: Query) -> tuple[str, tuple[str | float, ...]]:
    conditions = [SQL["page"]]
    given: list[str | float] = []
    order = "seq"
    if query.states:
        conditions.append(SQL["states"])
        given.append(records.as_json(query.states))
        if SUCCESS not in query.states:
            conditions.append(SQL["unsuccessful"])
            order = "+seq"
    for field in ("name", "worker", "group_id", "parent_id", "since", "until"):
        value = getattr(query, field)
        if value is not None:
            conditions.append(SQL[field])
            given.append(value)
            order = "+seq" if field in ("group_id", "parent_id") else order
    return f"{' AND '.join(conditions)} ORDER BY {order} DESC LIMIT ?", tuple(given)


def _page(db: apsw.Connection, sql: str, given: tuple[str | float, ...]) -> list[tuple[Any, ...]]:
    return statements.fetch(db, sql, given)
