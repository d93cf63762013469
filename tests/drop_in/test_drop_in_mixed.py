"""Workers and clients of both kinds, ours and Celery's own, on one Redis and one queue, in every stored form."""

from __future__ import annotations

import itertools

import pytest
from celery import Celery

from tests.drop_in import both
from tests.drop_in.both import CANVASES, PATIENCE
from tests.drop_in.conftest import OURS
from tests.drop_in.fleet import Worker
from tests.servers import Server, until

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

FORMS = [
    ("json", None, False),
    ("json", "zlib", True),
    ("msgpack", None, True),
    ("msgpack", "zlib", False),
    ("pickle", None, False),
    ("pickle", "zlib", True),
]
"""Serializer, compression, extended: each pair of them is there."""


class Mixed:
    """A worker of each kind, and a client of each kind."""

    def __init__(self, folder, server, serializer, packed, extended):
        self.folder = folder
        conf = {
            "broker_url": server.url.removesuffix("/0") + "/1",
            "result_serializer": serializer,
            "result_compression": packed,
            "result_extended": extended,
            "result_accept_content": ["json", "msgpack", "pickle"],
        }
        self.workers = {}
        self.apps = {}
        for kind, backend in {"ours": OURS + server.url, "celerys": server.url}.items():
            settings = {**conf, "result_backend": backend}
            options = ("--include", "tests.drop_in.moving_tasks")
            self.workers[kind] = Worker(folder, settings, name=kind, options=options)
            self.apps[kind] = Celery(kind, set_as_current=False)
            self.apps[kind].conf.update(settings)

    def start(self):
        for worker in self.workers.values():
            worker.launch()
        for worker in self.workers.values():
            worker.ready()

    def close(self):
        for worker in self.workers.values():
            worker.kill()
        both.end(self.apps.values())


@pytest.fixture(scope="module")
def machines():
    with Server.start("redis7") as server:
        yield server


@pytest.fixture(params=FORMS, ids=lambda form: "-".join(map(str, form)))
def mixed(request, tmp_path, machines):
    machines.ask("FLUSHALL")
    mixed = Mixed(tmp_path, machines, *request.param)
    try:
        mixed.start()
        yield mixed
    finally:
        mixed.close()


def test_what_either_has_sent_both_complete_and_both_read(mixed, machines):
    sent = [
        both.send(app, kind, mixed.folder) for kind, app in itertools.product(CANVASES, mixed.apps.values())
    ]
    for each, (client, app) in itertools.product(sent, mixed.apps.items()):
        assert each.settled(app) == each.value, f"{each.kind}, read by {client}"
    for each in sent:
        until(lambda each=each: not each.is_noting(), PATIENCE, f"the end of {each.kind}")
    until(lambda: is_idle(machines), PATIENCE, "the end of all messages")
    assert [each.kind for each in sent if not each.has_noted()] == []
    for worker in mixed.workers.values():
        assert "succeeded" in worker.said()


def is_idle(server):
    """No message is left that may have a task run."""
    with server.client(db=1) as broker:
        return not broker.llen("celery") and not broker.hlen("unacked")
