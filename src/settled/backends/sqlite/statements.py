"""Named SQL, kept in `.sql` files beside the code that runs it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import apsw

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load(filename: str) -> dict[str, str]:
    """The statements of `filename` by the name in their `-- name:` line, comments left out.

    Parameters are named for the reader and bound by position: in the order in which each name
    is first seen in its statement.
    """
    head, *parts = _NAME.split(_text(filename))
    if any(line and not line.startswith("--") for line in head.splitlines()):
        raise ValueError(f"{filename}: a statement stands before the first '-- name:' line")
    return {name: _bare(sql) for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def fetch(db: apsw.Connection, sql: str, given: Sequence[apsw.SQLiteValue] = ()) -> list[tuple[Any, ...]]:
    """What a statement answers, whole: its columns are of the types that the schema says."""
    return db.execute(sql, given).fetchall()


def migrations() -> list[str]:
    """The migrations' SQL: the first makes version 1 out of an empty file, and so on."""
    names = sorted(each.name for each in files("settled.backends.sqlite").joinpath("migrations").iterdir())
    return [_text("migrations", name) for name in names if name.endswith(".sql")]


def _text(*path: str) -> str:
    return files("settled.backends.sqlite").joinpath(*path).read_text(encoding="utf-8")


def _bare(sql: str) -> str:
    # One line: the statement cache reads the whole text each time, at a nanosecond a character.
    lines = (line.strip() for line in sql.splitlines())
    return " ".join(line for line in lines if line and not line.startswith("--")).removesuffix(";")
