"""A server that is broker and store, workers on it, and the app as a client has it; emptied for each test."""

from __future__ import annotations

import pytest
from celery import Celery, current_app

from tests.celerys import close
from tests.drop_in.fleet import Worker
from tests.servers import Server

OURS = "settled+"


@pytest.fixture(scope="session")
def machine():
    """A server for all tests of this process."""
    with Server.start("redis7") as server:
        yield server


@pytest.fixture
def server(machine):
    machine.ask("FLUSHALL")
    return machine


@pytest.fixture
def raw(server):
    """A client of the test's own: what it reads, no backend has a part in."""
    with server.client() as client:
        yield client


@pytest.fixture
def conf(server):
    """The settings of a fleet of ours: to be changed by the test before it starts workers."""
    broker = server.url.removesuffix("/0") + "/1"
    return {"broker_url": broker, "result_backend": OURS + server.url}


@pytest.fixture
def workers(tmp_path, conf):
    """Starts workers; all are gone after the test."""
    started = []

    def start(name="one", settings=None, wait=True, **options):
        worker = Worker(tmp_path, {**conf, **(settings or {})}, name=name, **options)
        started.append(worker)
        return worker.start() if wait else worker

    yield start
    for worker in started:
        worker.stop()


@pytest.fixture
def client(conf):
    """Makes the app of a client, which knows the tasks by name alone; see `sig`."""
    made = []

    def make(**settings):
        app = Celery(f"client-{len(made)}", set_as_current=False)
        app.conf.update(accept_content=["json", "msgpack", "pickle"], **conf)
        app.conf.update(settings)
        app.set_default()
        made.append(app)
        return app

    yield make
    for app in made:
        close(app)


@pytest.fixture
def sig():
    """The signature of a task of `work`, for the app that was made last: `sig("add", 1, 2)`."""

    def sig(name, *args, **options):
        return current_app.signature(f"tests.drop_in.work.{name}", args, **options)

    return sig
