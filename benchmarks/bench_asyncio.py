"""10,000 asyncio tasks that await 10,000 results: memory, threads, and the time until all have run."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
import uuid
from collections.abc import Awaitable, Callable, Sequence

import settled
from benchmarks.pairs import folder
from benchmarks.table import Row
from settled.backends.base import BaseBackend


def run(once: bool) -> list[Row]:
    count = 500 if once else 10_000
    rows = []
    with folder() as path:
        for url in ("memory://", f"sqlite:///{path}/asyncio.db"):
            with settled.connect(url) as backend:
                rows += _rows(url.partition(":")[0], backend, [str(uuid.uuid4()) for _ in range(count)])
    return rows


def _rows(engine: str, backend: BaseBackend, task_ids: Sequence[str]) -> list[Row]:
    name = f"{engine}: {len(task_ids):,} awaiting asyncio tasks"
    bare, _ = asyncio.run(_held(lambda _: asyncio.get_running_loop().create_future(), task_ids))
    ours, threads = asyncio.run(
        _held(lambda task_id: settled.AsyncResult[object](task_id, backend), task_ids)
    )
    whole, seconds = asyncio.run(_resolved(backend, task_ids))
    more = ours - bare
    return [
        Row(
            f"{name}: memory of each", f"{more:,.0f} bytes over a bare future", "<= 2,048 bytes", more <= 2048
        ),
        Row(f"{name}: memory of each with its task", f"{ours:,.0f} bytes", "", None),
        Row(f"{name}: threads", f"{threads} more", "<= 1 more", threads <= 1),
        Row(f"{name}: stored and all run", f"{whole:.2f} s, stores alone {seconds:.2f} s", "", None),
    ]


async def _held(awaited: Callable[[str], Awaitable[object]], task_ids: Sequence[str]) -> tuple[float, int]:
    """Bytes that tracemalloc counts for each task that awaits, and how many threads were added."""

    async def wait(task_id: str) -> None:
        await awaited(task_id)

    threads = threading.active_count()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.create_task(wait(task_id)) for task_id in task_ids]
        await asyncio.sleep(0.5)  # everyone waits, the watcher has read everything once
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        added = threading.active_count() - threads
    finally:
        tracemalloc.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return held / len(task_ids), added


async def _resolved(backend: BaseBackend, task_ids: Sequence[str]) -> tuple[float, float]:
    """Seconds from the first store until the last task has run, and those of the stores."""
    tasks = [asyncio.create_task(_value(backend, task_id)) for task_id in task_ids]
    await asyncio.sleep(0.5)
    begun = time.perf_counter()
    seconds = await asyncio.to_thread(_store_all, backend, task_ids)
    assert await asyncio.gather(*tasks) == [*range(len(task_ids))]
    return time.perf_counter() - begun, seconds


async def _value(backend: BaseBackend, task_id: str) -> object:
    return await settled.AsyncResult[object](task_id, backend)


def _store_all(backend: BaseBackend, task_ids: Sequence[str]) -> float:
    begun = time.perf_counter()
    for number, task_id in enumerate(task_ids):
        backend.store_result(task_id, number, "SUCCESS")
    return time.perf_counter() - begun
