"""One server of each kind for a whole session, started when the first test wants it; clocks are the machine's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Server


@pytest.fixture(scope="session")
def redis7() -> Iterator[Server]:
    with Server.start("redis7") as server:
        yield server


@pytest.fixture(scope="session")
def redis_newest() -> Iterator[Server]:
    with Server.start("redis") as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    with Server.start("valkey") as server:
        yield server
