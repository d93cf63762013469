"""Workers that die at a chosen step, once: `WHEN:WHAT`, before or after one of `STEPS`.

SETTLED_DIE is `WHEN:WHAT:MARK`: at the first time that a process comes there; it makes the file MARK.
SETTLED_ORDERS is a folder: a process dies where `order` says so, also while the worker runs.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ENVIRONMENT = "SETTLED_DIE"
ORDERS = "SETTLED_ORDERS"

CHILD, WORKER, PAUSE = "child", "worker", "pause"
"""What an order does: SIGKILL for the process, for its whole worker, or SIGSTOP for the process."""


class Order:
    """Die at this step, when it is about the task or chord body `about`; made by a test, carried out once."""

    def __init__(self, folder, step, about, what=CHILD):
        self.path = Path(folder) / f"{step}:{about}"
        fresh = self.path.with_suffix(".new")
        fresh.write_text(what)
        fresh.rename(self.path)

    @property
    def done(self):
        return not self.path.exists()


def arm(app):
    """Have this process die as the environment says."""
    order, folder = os.environ.get(ENVIRONMENT), os.environ.get(ORDERS)
    if order:
        when, what, mark = order.split(":", 2)
        _wrap(what, lambda moment, about: moment == when and about is not None and die_once(mark))
    for what in STEPS if folder else ():
        _wrap(what, functools.partial(_obey, folder, what))


def _wrap(what, look):
    for step in STEPS[what]():
        setattr(step.owner, step.name, _looking(getattr(step.owner, step.name), step.about, look))


def _looking(call, about, look):
    @functools.wraps(call)
    def called(*args, **kwargs):
        subject = about(*args, **kwargs)
        look("before", subject)
        answer = call(*args, **kwargs)
        look("after", subject)
        return answer

    return called


def die_once(mark):
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _obey(folder, what, moment, about):
    for each in about if isinstance(about, tuple) else (about,):
        path = Path(folder) / f"{moment}:{what}:{each}"
        try:
            order = path.read_text()
            path.unlink()
        except FileNotFoundError:
            continue
        _carry_out(order)


def _carry_out(order):
    if order == WORKER:
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGSTOP if order == PAUSE else signal.SIGKILL)


class Step(NamedTuple):
    """A call: a method of a class, and the id (or ids) of the task, body or group that it is about, or None."""

    owner: type
    name: str
    about: Callable[..., object]


def _settling():
    """The atomic step of a ready state."""
    from settled.backends.redis import RedisBackend
    from settled.backends.sqlite import SQLiteBackend

    for engine in (RedisBackend, SQLiteBackend):
        yield Step(engine, "do_settle", lambda _, write: write.task_id if _is_ready(write.state) else None)


_asked: list[str] = []


def _asking():
    """Sending the command of that step to the store: after it, the reply is not read."""
    from settled.backends.redis import RedisBackend
    from settled.backends.redis.link import Link

    settle = RedisBackend._settle_once

    def settling(self, write, told):
        _asked[:] = [write.task_id] if _is_ready(write.state) else []
        try:
            return settle(self, write, told)
        finally:
            _asked.clear()

    RedisBackend._settle_once = settling
    yield Step(Link, "send", lambda *_: _asked[0] if _asked else None)


def _claiming():
    """Extending the claim on a chord's body, just before it is sent; or taking it."""
    from settled.backends.redis import RedisBackend
    from settled.backends.sqlite import SQLiteBackend

    for engine in (RedisBackend, SQLiteBackend):
        yield Step(engine, "do_claim_chord", lambda _, group_id, __: group_id)


def _sending():
    """Sending a chord's body."""
    from settled.integrations.celery.bridge import CanvasBody

    yield Step(CanvasBody, "send", lambda body, _: tuple(body.task_ids))


def _failing():
    """Settling a chord's body as failed."""
    from settled.integrations.celery.bridge import CanvasBody

    yield Step(CanvasBody, "fail", lambda body, _: tuple(body.task_ids))


def _storing():
    """Celery's own: storing a ready state."""
    from celery.backends.redis import RedisBackend

    yield Step(
        RedisBackend,
        "store_result",
        lambda _, task_id, __, state, *___, **____: task_id if _is_ready(state) else None,
    )


def _counting():
    """Celery's own: counting the part of a result that is stored already."""
    from celery.backends.redis import RedisBackend

    yield Step(RedisBackend, "on_chord_part_return", lambda _, request, *__, **___: request.id)


def _publishing():
    """Celery's own, and ours: publishing a body, a callback or the next of a chain, of that id."""
    from celery.app.amqp import AMQP

    yield Step(AMQP, "_retry_publish", lambda _, call, *__, **___: call.__self__.id)


def _publishing_one():
    """Publishing one task, which may be one of a group."""
    from celery import Celery

    yield Step(Celery, "send_task", lambda *_, task_id=None, **__: task_id)


def _is_ready(state):
    return state in ("SUCCESS", "FAILURE", "REVOKED")


STEPS = {
    "settle": _settling,
    "ask": _asking,
    "claim": _claiming,
    "send": _sending,
    "fail": _failing,
    "store": _storing,
    "count": _counting,
    "publish": _publishing,
    "task": _publishing_one,
}
