"""Backends on real files, and a look at the files behind their backs."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from settled.backends.sqlite import SQLiteBackend

Open = Callable[..., SQLiteBackend]
Raw = Callable[..., list[tuple]]


def backend_at(path: Path | str, **options: object) -> SQLiteBackend:
    return SQLiteBackend(types.SimpleNamespace(conf={}), url=f"sqlite:///{path}", **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Opens backends on one file, with the options given; they are closed at the end."""
    backends = []

    def open_backend(**options: object) -> SQLiteBackend:
        backends.append(backend_at(path, **options))
        return backends[-1]

    yield open_backend
    for backend in backends:
        backend.close()


@pytest.fixture
def backend(opened: Open) -> SQLiteBackend:
    return opened()


@pytest.fixture
def raw(path: Path) -> Iterator[Raw]:
    """SQL on a connection of the test's own."""
    connections = []

    def execute(sql: str, *values: object) -> list[tuple]:
        if not connections:
            connections.append(apsw.Connection(str(path)))
            connections[0].set_busy_timeout(10_000)
        return connections[0].execute(sql, values).fetchall()

    yield execute
    for connection in connections:
        connection.close()
