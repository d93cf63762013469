"""The searching checks, for minutes rather than seconds."""

from __future__ import annotations

from functools import partial

import pytest

from settled.testing import history, machine
from settled.testing.stores import MemoryStore, SQLiteStore
from settled.testing.threads import together
from tests.conformance.test_examples import Files
from tests.redis.stores import ClusterStore, IndexedRedisStore, RedisStore

pytestmark = pytest.mark.soak

KINDS = [MemoryStore, SQLiteStore, Files, RedisStore, IndexedRedisStore, ClusterStore]


@pytest.fixture(params=KINDS, ids=[kind.__name__ for kind in KINDS])
def store(request, tmp_path):
    with request.param(tmp_path) as store:
        yield store


def test_any_sequence_does_as_the_model(store):
    store.examples, store.steps = 600, 60
    machine.run(store)


def test_every_history_is_linear(store):
    for seed in range(500):
        plans = [
            [(state, f"{seed}-{task}", attempt, value) for state, task, attempt, value in plan]
            for plan in history.plans(writers=4, tasks=3, length=36, seed=seed)
        ]
        told = together(*(partial(history.perform, store.backend, plan) for plan in plans))
        history.assert_linear([operation for each in told for operation in each])
