"""From `store_result` returned to the waiter running, within a process and across; what waiting costs."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection

import settled
from benchmarks.pairs import folder, quantile
from benchmarks.table import Row
from settled.backends.base import BaseBackend

WAITED = 30.0
"""Seconds over which the cost of waiting is measured."""

Take = Callable[[], None]
"""What a waiter calls when it is about to wait."""


def run(once: bool) -> list[Row]:
    count = 10 if once else 500
    rows: list[Row] = []
    with folder() as path:
        for url in ("memory://", f"sqlite:///{path}/inside.db"):
            for kind, wait in (("thread", _in_thread), ("asyncio", _in_loop)):
                with settled.connect(url) as backend:
                    rows.append(
                        _inside(f"{url.partition(':')[0]}: in-process wake-up, {kind}", backend, wait, count)
                    )
        for push in ("auto", "poll"):
            url = f"sqlite:///{path}/across.db?push={push}"
            told = {"auto": "notified", "poll": "polling"}[push]
            bounds = (1000, 10_000) if push == "auto" else (None, None)
            for kind in ("thread", "asyncio"):
                rows.append(
                    across(f"sqlite: wake-up across processes, {told}, {kind}", url, kind, count, *bounds)
                )
            idle = f"sqlite:///{path}/idle.db?push={push}"
            rows.append(cost(f"sqlite: one hour's waiting, {told}", idle, 0.5 if once else WAITED))
    return rows


# -- one process ---------------------------------------------------------------------------------


def _inside(name: str, backend: BaseBackend, wait: Callable[..., None], count: int) -> Row:
    task_ids = [str(uuid.uuid4()) for _ in range(count)]
    woken: list[int] = []
    begun: queue.SimpleQueue[None] = queue.SimpleQueue()
    waiter = threading.Thread(target=wait, args=(backend, task_ids, woken, partial(begun.put, None)))
    waiter.start()
    returned = _store_each(backend, task_ids, begun.get)
    waiter.join()
    return _latency(name, returned, woken, 100, None)


def _store_each(backend: BaseBackend, task_ids: Sequence[str], begun: Callable[[], object]) -> list[int]:
    """When each `store_result` returned. Each is made while somebody sleeps on it."""
    returned = []
    for task_id in task_ids:
        begun()
        time.sleep(0.003)  # until the waiter is asleep and the watcher listens
        backend.store_result(task_id, {"n": 1}, "SUCCESS")
        returned.append(time.monotonic_ns())
    return returned


def _in_thread(backend: BaseBackend, task_ids: Sequence[str], woken: list[int], begin: Take) -> None:
    for task_id in task_ids:
        begin()
        backend.wait_for(task_id, timeout=60)
        woken.append(time.monotonic_ns())


def _in_loop(backend: BaseBackend, task_ids: Sequence[str], woken: list[int], begin: Take) -> None:
    async def wait() -> None:
        for task_id in task_ids:
            begin()
            await settled.AsyncResult[object](task_id, backend)
            woken.append(time.monotonic_ns())

    asyncio.run(wait())


# -- two processes -------------------------------------------------------------------------------


def across(
    name: str, url: str, kind: str, count: int, median: int | None = None, late: int | None = None
) -> Row:
    """Between two processes; `kind` is "thread" or "asyncio", bounds are in microseconds."""
    task_ids = [str(uuid.uuid4()) for _ in range(count)]
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    other = spawn.Process(target=_wait_there, args=(url, kind, task_ids, there))
    with settled.connect(url) as backend:
        backend.get_state(task_ids[0])
        other.start()
        returned = _store_each(backend, task_ids, here.recv)
        woken = here.recv()
        other.join()
    return _latency(name, returned, woken, median, late)


def _wait_there(url: str, kind: str, task_ids: Sequence[str], pipe: Connection) -> None:
    woken: list[int] = []
    wait = {"thread": _in_thread, "asyncio": _in_loop}[kind]
    with settled.connect(url) as backend:
        wait(backend, task_ids, woken, lambda: pipe.send(None))
    pipe.send(woken)


def _latency(
    name: str, returned: Sequence[int], woken: Sequence[int], median: int | None, late: int | None
) -> Row:
    """Bounds are in microseconds. Below 0: the waiter ran before `store_result` had returned."""
    waits = [(up - down) / 1000 for up, down in zip(woken, returned, strict=True)]
    middle, last = statistics.median(waits), quantile(waits, 0.99)
    bound = "" if median is None else f"median <= {median:,} us" + (f", 99th <= {late:,} us" if late else "")
    passed = None if median is None else middle <= median and (late is None or last <= late)
    return Row(name, f"median {middle:,.0f} us, 99th {last:,.0f} us", bound, passed)


# -- the cost of waiting -------------------------------------------------------------------------


def cost(name: str, url: str, seconds: float) -> Row:
    """CPU of a process in which one thread waits for what never comes."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    waiter = spawn.Process(target=_wait_in_vain, args=(url, seconds, there))
    waiter.start()
    share = here.recv() / seconds
    waiter.join()
    figure = f"{share:.3%} of a core ({share * 3600:.2f} s an hour)"
    return Row(name, figure, "<= 1% of a core", share <= 0.01)


def _wait_in_vain(url: str, seconds: float, pipe: Connection) -> None:
    with settled.connect(url) as backend:
        waiter = threading.Thread(target=_never, args=(backend, seconds + 1.5))
        waiter.start()
        time.sleep(0.5)  # opening is not waiting
        spent = time.process_time()
        time.sleep(seconds)
        pipe.send(time.process_time() - spent)
        waiter.join()


def _never(backend: BaseBackend, seconds: float) -> None:
    try:
        backend.wait_for("never", timeout=seconds)
    except settled.TimeoutError:
        return
    raise AssertionError("nobody stores this")
