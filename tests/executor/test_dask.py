"""Over Dask's `distributed`: how a program outgrows one machine."""

from __future__ import annotations

import distributed
import pytest

from settled import Executor, call
from settled.errors import ConfigurationError, TimeLimitExceeded
from tests.executor import work

pytestmark = [
    pytest.mark.dask,
    # Of Dask's own, at the end of a cluster in one process.
    pytest.mark.filterwarnings("default::ResourceWarning"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", params=[True, False], ids=["processes", "threads"])
def client(request):
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=request.param, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def executor(client, url):
    with Executor(client.get_executor(), url, lease=5.0) as executor:
        yield executor


def test_calls_run_on_the_cluster_once(executor, log):
    for _ in range(2):
        values = executor.map(work.logged, [log] * 20, range(20), timeout=60)
        assert list(values) == list(range(0, 40, 2))
    assert sorted(map(int, work.runs(log))) == list(range(20))


def test_a_chord_runs_on_the_cluster(executor):
    calls = [call(work.double, x) for x in range(10)] + [call(work.fail, "no")]
    body = executor.chord(calls, call(work.states), on_failure="outcomes")
    assert body.result(60) == ["SUCCESS"] * 10 + ["FAILURE"]


def test_functions_that_only_the_cluster_can_pickle_are_left_to_it(executor):
    factor = 3
    assert executor.submit(lambda x: factor * x, 2).result(60) == 6


def test_what_cannot_be_sent_fails_by_name(executor):
    import threading

    handle = executor.submit(work.add, threading.Lock(), key="call")
    with pytest.raises((ConfigurationError, TypeError)):
        handle.result(60)
    assert executor.submit(work.double, 1).result(60) == 2


def test_a_time_limit_is_told_while_the_call_runs_on(executor, gate):
    handle = executor.submit(work.pass_gate, gate, timeout=0.1)
    with pytest.raises(TimeLimitExceeded):
        handle.result(60)
    work.open_gate(gate)


@pytest.mark.parametrize("client", [True], ids=["processes"], indirect=True)
def test_memory_says_that_the_cluster_cannot_reach_it(client):
    executor = Executor(client.get_executor(), "memory://")
    with pytest.raises(ConfigurationError, match="sqlite:///"):
        executor.submit(work.double, 1).result(60)
