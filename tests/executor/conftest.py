from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from settled import Executor


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/results.db"


@pytest.fixture(params=["memory", "sqlite"])
def threads(request, tmp_path):
    """An executor over two threads, on each engine."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/threads.db"
    with Executor(lambda: ThreadPoolExecutor(2), url) as executor:
        yield executor


def process_pool(method, workers=2):
    return lambda: ProcessPoolExecutor(workers, multiprocessing.get_context(method))


@pytest.fixture(params=["fork", "spawn"])
def processes(request, url):
    with Executor(process_pool(request.param), url) as executor:
        yield executor


@pytest.fixture
def gate(tmp_path):
    """A fifo: who reads it waits until it is opened to be written."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return str(path)


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")
