"""A fleet for a module of faults: workers that die as ordered, redelivery at will, and what the store then holds."""

from __future__ import annotations

import json
import uuid
from contextlib import closing, contextmanager
from typing import NamedTuple
from urllib.parse import unquote

import apsw
from celery import Celery, chord
from kombu import Connection

from tests.celerys import close
from tests.drop_in import dying
from tests.drop_in.conftest import OURS
from tests.drop_in.fleet import Worker
from tests.drop_in.work import words
from tests.servers import Server, until

PATIENCE = 20.0

LEASE = 3.0
"""Seconds of a claim in these workers: a take-over comes after that."""

TUNING = {"settled.chords.CLAIM_LEASE": LEASE, "settled.chords.SWEEP_INTERVAL": 0.1}

QUICK = {
    "broker_connection_timeout": 0.5,  # with the next: so long may Celery try to publish, and so long is the lease
    "task_publish_retry": False,
}


class Barrier(NamedTuple):
    """What the store holds of a chord, read behind the backend's back."""

    counted: int | None
    size: int
    done: bool


class Fleet:
    """Workers, and the app of a client that names tasks of `fault_tasks`.

    Args:
        folder: of what is noted, of gates, orders and output.
        broker: the server of the messages, in its database 1.
        backend: the setting `result_backend`.
        store: the server of the results, if it is another.
        tuning: values for module attributes in the workers, by dotted name.
        settings: more Celery settings.
    """

    def __init__(self, folder, broker, backend, *, store=None, tuning=None, **settings):
        self.folder = folder
        self.broker = broker
        self.store = store or broker
        self.conf = {
            "broker_url": broker.url.removesuffix("/0") + "/1",
            "result_backend": backend,
            **QUICK,
            **settings,
        }
        self._tuning = {**TUNING, **(tuning or {})}
        self._orders = folder / "orders"
        self._orders.mkdir()
        self._workers = []
        self.app = Celery("faults", set_as_current=False)
        self.app.conf.update(self.conf)

    @classmethod
    @contextmanager
    def of(cls, store, folder, **more):
        """A fleet with a server of its own, which is the broker; results are in `store`: redis, sqlite, or celery
        for the server by Celery's own backend."""
        with Server.start("redis7") as server:
            backend = {
                "redis": OURS + server.url,
                "sqlite": f"{OURS}sqlite:///{folder}/results.db",
                "celery": server.url,
            }
            with cls(folder, server, backend[store], **more) as fleet:
                yield fleet

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self._workers:
            worker.kill()
        if self.is_celerys:
            # A handle on a result of Celery's own unsubscribes when it is collected, be the server gone by then.
            self.app.backend.remove_pending_result = lambda result: result
        close(self.app)

    # -- workers -----------------------------------------------------------------------------

    def start(self, *names, queues="celery", settings=None, env=None, options=(), wait=True, **more):
        """Workers of these names, started together; the last of them."""
        started = []
        for name in names:
            worker = Worker(
                self.folder,
                {**self.conf, **(settings or {})},
                name=name,
                options=("--include", "tests.drop_in.fault_tasks", "--queues", queues, *options),
                env={
                    dying.ORDERS: str(self._orders),
                    "SETTLED_SPOOL": str(self.folder),
                    "SETTLED_TUNING": json.dumps(self._tuning),
                    **(env or {}),
                },
                **more,
            )
            worker.launch()
            started.append(worker)
        self._workers += started
        for worker in started if wait else ():
            worker.ready()
        return started[-1]

    def worker(self, name):
        (found,) = [worker for worker in self._workers if worker.name == name]
        return found

    def consume(self, queue, name):
        """Have a worker take from one more queue."""
        answer = self.app.control.add_consumer(
            queue, destination=[f"{name}@test"], reply=True, timeout=PATIENCE, limit=1
        )
        assert answer, f"worker {name} does not answer"

    def order(self, step, about, what=dying.CHILD):
        """Have a process die there; see `dying`."""
        return dying.Order(self._orders, step, about, what)

    def said(self):
        """All that its workers have logged."""
        return "".join(worker.said() for worker in self._workers)

    # -- tasks -------------------------------------------------------------------------------

    def sig(self, name, *args, **options):
        """A signature with an id of its own, for an order to name."""
        options.setdefault("task_id", f"{name}-{uuid.uuid4().hex[:8]}")
        return self.app.signature(f"tests.drop_in.fault_tasks.{name}", args, options=options)

    def chord(self, header, body):
        """Send a chord; the handle of its body, whose parent is the header's group."""
        return chord(header, body, app=self.app).apply_async()

    def path(self, name):
        """Of a file in which tasks note, or of a gate: a fresh one for each call."""
        return str(self.folder / f"{name}-{uuid.uuid4().hex[:8]}")

    def state(self, task_id):
        return self.app.AsyncResult(task_id).state

    def states(self, signatures):
        return [self.state(signature.options["task_id"]) for signature in signatures]

    # -- the broker --------------------------------------------------------------------------

    def redeliver(self):
        """Give every message that is not acknowledged out again, as a worker does after `visibility_timeout`."""
        with Connection(self.conf["broker_url"], transport_options={"visibility_timeout": 0}) as connection:
            connection.default_channel.qos.restore_visible(num=1000)

    def messages(self):
        """How many there are that may still have a task run: queued, or delivered and not acknowledged."""
        with self.broker.client(db=1) as broker:
            queues = list(broker.scan_iter(_type="list"))
            return sum(map(broker.llen, queues)) + broker.hlen("unacked")

    # -- the store ---------------------------------------------------------------------------

    @property
    def is_sqlite(self):
        return self.conf["result_backend"].startswith(f"{OURS}sqlite:")

    @property
    def is_celerys(self):
        return not self.conf["result_backend"].startswith(OURS)

    def barrier(self, group_id):
        """The barrier of a chord, or None if there is none."""
        if self.is_sqlite:
            return self._barrier_in_tables(group_id)
        key = f"celery-taskset-meta-{group_id}"
        with self.store.client() as store:
            if self.is_celerys:
                counted, (size, claim) = store.zcard(f"{key}.j"), store.mget(f"{key}.s", f"{key}.c")
                return None if size is None else Barrier(counted, int(size), claim == b"done")
            counted, size, done = store.hmget(f"{key}.o", "counted", "size", "done")
        return (
            None
            if size is None
            else Barrier(None if counted is None else int(counted), int(size), done is not None)
        )

    def _barrier_in_tables(self, group_id):
        path = unquote(self.conf["result_backend"].removeprefix(f"{OURS}sqlite:///"))
        # By the library that this process has the file open with: the locks of two do not mix.
        with closing(apsw.Connection(path)) as store:
            found = store.execute(
                "SELECT counted, size, done FROM settled_chord WHERE group_id = ?", (group_id,)
            ).get
        return None if found is None else Barrier(*found[:2], found[2] is not None)

    def done(self, body):
        """Whether the chord of this body is over in the store: nothing will send the body again."""
        barrier = self.barrier(body.parent.id)
        return barrier is not None and barrier.done

    def ended(self, body):
        """Wait until the chord of this body is over and all its tasks are acknowledged."""
        until(lambda: self.done(body), PATIENCE, f"the done marker of {body.parent.id}")
        until(lambda: not self.messages(), PATIENCE, "the end of all messages")


def ran(path, word):
    """How often a task has noted that word there."""
    return words(path).count(word)
