"""Apps of four kinds and key/value stores of four kinds, for the tests of the interface."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import celery
from celery import signals

from settled.app import App
from settled.backends.base import KeyValueStoreBackend
from settled.groups import GroupResult
from settled.results import AsyncResult

KINDS = ("settled", "mapping", "attributes", "celery")


class Sent:
    """What was sent: (body, arguments, task id)."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, object, str]] = []
        self.polls: list[tuple[object, Any, float]] = []
        self.fault: Exception | None = None
        self.calls = threading.Semaphore(0)
        """Released for every body that is to be sent, even if that fails."""

    def __call__(self, signature: Mapping[str, object], args: Sequence[object], task_id: str) -> None:
        if self.fault is None:
            self.bodies.append((str(signature["task"]), list(args), task_id))
        self.calls.release()
        if self.fault is not None:
            raise self.fault

    def poll(self, args: object, kwargs: object, countdown: float) -> None:
        self.polls.append((args, kwargs, countdown))


class BareApp:
    """What satisfies the protocol, and nothing else."""

    def __init__(self, conf: object, sent: Sent) -> None:
        self.conf = conf
        self.sent = sent
        self.tasks = {"celery.chord_unlock": SimpleNamespace(apply_async=sent.poll)}
        self.backend: Any = None

    def AsyncResult(self, id: str, parent: Any = None) -> Any:  # noqa: N802
        return AsyncResult(id, self.backend, parent)

    def GroupResult(self, id: str, results: Any = (), parent: Any = None) -> Any:  # noqa: N802
        return GroupResult(id, results, parent, self)

    def signature(self, body: Mapping[str, object]) -> Any:
        return SimpleNamespace(apply_async=lambda args, *, task_id: self.sent(body, args, task_id))


def make_app(kind: str, sent: Sent, **conf: object) -> Any:
    if kind == "settled":
        app = App("memory://", send=sent, **conf)
        app.tasks["celery.chord_unlock"] = SimpleNamespace(apply_async=sent.poll)
        return app
    if kind == "mapping":
        return BareApp(conf, sent)
    if kind == "attributes":
        return BareApp(SimpleNamespace(**conf), sent)
    app = celery.Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(conf)

    @app.task(name="total", shared=False)
    def total(numbers: Any) -> Any:
        return sum(numbers)

    def publish(sender: object = None, headers: Any = None, body: Any = None, **_: object) -> None:
        if sender == "celery.chord_unlock":
            sent.poll(body[0], body[1], 5 if headers["eta"] else 0)
        else:
            sent({"task": sender}, body[0], headers["id"])

    signals.before_task_publish.connect(publish, weak=False)
    sent.disconnect = lambda: signals.before_task_publish.disconnect(publish)  # type: ignore[attr-defined]
    return app


class DictStore(KeyValueStoreBackend):
    """Nothing but get, set and delete, over a dict that instances may share."""

    def __init__(self, app: Any, *args: Any, data: dict[Any, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(app, *args, **kwargs)
        self.data: dict[Any, Any] = {} if data is None else data
        self.guard = threading.RLock()

    def get(self, key: Any) -> Any:
        return self.data.get(key)

    def set(self, key: Any, value: Any) -> None:
        self.data[key] = value

    def delete(self, key: Any) -> None:
        self.data.pop(key, None)


class ListingStore(DictStore):
    """One that can also list its keys."""

    def keys(self, prefix: Any) -> Iterator[Any]:
        return (key for key in list(self.data) if key.startswith(prefix))


class CountingStore(DictStore):
    """One that can also count."""

    implements_incr = True

    def incr(self, key: Any) -> int:
        with self.guard:
            self.data[key] = b"%d" % (int(self.data.get(key, 0)) + 1)
            return int(self.data[key])


class SwappingStore(ListingStore):
    """One that can also compare and set."""

    def compare_and_set(self, key: Any, old: Any, new: bytes) -> bool:
        with self.guard:
            if self.data.get(key) != old:
                return False
            self.data[key] = new
            return True


class ExpiringStore(SwappingStore):
    """One that also drops keys by itself, as its `clock` says."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.until: dict[Any, float] = {}

    def get(self, key: Any) -> Any:
        if self.until.get(key, float("inf")) <= self.clock():
            return None
        return super().get(key)

    def set(self, key: Any, value: Any) -> None:
        self.until.pop(key, None)
        super().set(key, value)

    def expire(self, key: Any, value: float) -> None:
        self.until[key] = self.clock() + value
