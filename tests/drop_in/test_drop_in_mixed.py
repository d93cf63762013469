"""Workers and clients of both kinds, ours and Celery's own, on one Redis and one queue, in every stored form."""

from __future__ import annotations

import gc
import itertools
import uuid
from collections import Counter
from typing import NamedTuple

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import TimeoutError
from kombu import pools

from tests.drop_in.conftest import OURS, close
from tests.drop_in.fleet import Worker
from tests.drop_in.moving_tasks import body, errback, give, growing, listed, plus, unkept, wrong
from tests.drop_in.work import words
from tests.servers import Server, until

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

PATIENCE = 10.0

FORMS = [
    ("json", None, False),
    ("json", "zlib", True),
    ("msgpack", None, True),
    ("msgpack", "zlib", False),
    ("pickle", None, False),
    ("pickle", "zlib", True),
]
"""Serializer, compression, extended: each pair of them is there."""


class Sent(NamedTuple):
    """A canvas that was sent: what it is to come to, and how often its bodies are to run."""

    kind: str
    result: object
    value: object
    path: str
    ran: Counter


CANVASES = {
    "flat": lambda path: (chord([give.s(n) for n in range(4)], body.s(path)), 6, ["body"]),
    "in order": lambda path: (chord([give.s(n) for n in range(6)], listed.s(path)), [*range(6)], ["body"]),
    "nested": lambda path: (
        chord([chord([give.s(1), give.s(2)], body.s(path)), give.s(4)], body.s(path)), 7, ["body"] * 2,
    ),
    "nested twice": lambda path: (
        chord([chord([chord([give.s(1)] * 2, body.s(path)), give.s(4)], body.s(path)), give.s(8)], body.s(path)),
        14, ["body"] * 3,
    ),
    "chain in its header": lambda path: (
        chord([chain(give.s(1), plus.s(2)), give.s(4)], body.s(path)), 7, ["body"],
    ),
    "group in its header": lambda path: (
        chord([group(give.s(1), give.s(2)), give.s(4)], body.s(path)), 7, ["body"],
    ),
    "group for a body": lambda path: (
        chord([give.s(1), give.s(2)], group(listed.s(path), body.s(path))), [[1, 2], 3], ["body"] * 2,
    ),
    "chain for a body": lambda path: (
        chord([give.s(1), give.s(2)], chain(body.s(path), plus.s(4))), 7, ["body"],
    ),
    "in a chain": lambda path: (
        chain(give.s(1), chord([plus.s(1), plus.s(2)], body.s(path)), plus.s(10)), 15, ["body"],
    ),
    "ignored member": lambda path: (chord([unkept.s(1), give.s(2)], listed.s(path)), [1, 2], ["body"]),
    "generator": lambda path: (chord((give.s(n) for n in range(4)), body.s(path)), 6, ["body"]),
    "grown": lambda path: (chord([growing.s(1, give.s(2)), give.s(4)], body.s(path)), 7, ["body"]),
    "failing": lambda path: (
        chord([give.s(1), wrong.s(2)], body.s(path).on_error(errback.s(path))), "ChordError", ["errback"],
    ),
}  # fmt: skip
"""Kind -> the canvas, what it comes to, and what its tasks note in the file."""


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
            "result_chord_join_timeout": 3.0,
        }
        backends = {"ours": OURS + server.url, "celerys": server.url}
        options = ("--include", "tests.drop_in.moving_tasks")
        self.workers = {}
        self.apps = {}
        for kind, backend in backends.items():
            settings = {**conf, "result_backend": backend}
            self.workers[kind] = Worker(folder, settings, name=kind, options=options)
            self.apps[kind] = Celery(kind, set_as_current=False)
            self.apps[kind].conf.update(settings)

    def start(self):
        for worker in self.workers.values():
            worker.launch()
        for worker in self.workers.values():
            worker.ready()

    def send(self, client, kind):
        self.apps[client].set_current()
        path = self.folder / uuid.uuid4().hex
        canvas, value, ran = CANVASES[kind](str(path))
        return Sent(f"{kind}, sent by {client}", canvas.apply_async(), value, path, Counter(ran))

    def seen(self, sent):
        """What each client says that it came to; the first one waits for it."""
        for client, app in self.apps.items():
            yield client, self.value(app, sent.result)

    def value(self, app, result):
        if hasattr(result, "results"):
            return [self.value(app, each) for each in result.results]
        try:
            found = app.AsyncResult(result.id).get(timeout=PATIENCE, propagate=False)
        except TimeoutError:
            return "nothing"
        return type(found).__name__ if isinstance(found, BaseException) else found

    def close(self):
        for worker in self.workers.values():
            worker.stop()
        gc.collect()
        for app in self.apps.values():
            close(app)
        pools.reset()


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
    sent = [mixed.send(client, kind) for kind, client in itertools.product(CANVASES, mixed.apps)]
    for each in sent:
        for client, value in mixed.seen(each):
            assert value == each.value, f"{each.kind}, read by {client}"
    for each in sent:
        until(lambda each=each: Counter(words(each.path)) >= each.ran, PATIENCE, f"the body of {each.kind}")
    for worker in mixed.workers.values():
        worker.stop()
        assert "succeeded" in worker.said()
    for each in sent:
        assert Counter(words(each.path)) == each.ran, each.kind
