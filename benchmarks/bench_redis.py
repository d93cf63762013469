"""Redis 7, against redis-py's public client doing the same work on the same server."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import cast

import redis

import settled
from benchmarks import bench_chord, bench_wakeup
from benchmarks.bare import VALUES, fast_decode, record_of
from benchmarks.pairs import Pair, at_least, at_most, paired, timed
from benchmarks.table import Row
from settled.backends.base import BaseBackend
from tests.servers import Server, until

DAY = 24 * 3600
COUNT = 3000
MANY = 10_000
THREADS = 8


def run(once: bool) -> list[Row]:
    rounds, count, many = (1, 200, 500) if once else (21, COUNT, MANY)
    with Server.start("redis7") as server, settled.connect(server.url) as backend:
        bare = server.client()
        rows = [_store(kind, bare, backend, rounds, count) for kind in VALUES]
        rows += [
            _get(bare, backend, rounds, count),
            _many(bare, backend, rounds, many),
            _server_cpu(bare, backend, max(1, rounds // 3), count),
            _threads(server, max(1, rounds // 3), count),
            *_awaited(bare, backend, many, 1 if once else 7),
            _memory(bare, server, many),
        ]
        bare.close()
        rows.append(bench_chord.row("redis", server.url, 1000 if once else MANY, 1 if once else 5))
        for kind in ("thread", "asyncio"):
            name = f"redis: wake-up across processes, {kind}"
            rows.append(bench_wakeup.across(name, server.url, kind, 10 if once else 500, 600, 5000))
        rows.append(bench_wakeup.cost("redis: one hour's waiting", server.url, 0.5 if once else 30.0))
    return rows


def _ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def _times(pair: Pair) -> float:
    """How many times as long as the bare thing ours takes."""
    return 1 / pair.wall


def _store(kind: str, bare: redis.Redis, backend: BaseBackend, rounds: int, count: int) -> Row:
    """What is bare encodes nothing, guards nothing and tells nobody."""
    value, record = VALUES[kind], record_of(VALUES[kind])

    def ours(task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            backend.store_result(task_id, value, "SUCCESS")

    def set_each(task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            bare.set(f"celery-task-meta-{task_id}", record, ex=DAY)

    pair = paired(lambda: _ids(count), ours, set_each, rounds)
    return at_most(f"redis: store_result, {kind} of 500 bytes / SET EX", _times(pair), 1.3, pair.rates(count))


def _stored(bare: redis.Redis, count: int) -> list[str]:
    task_ids, record = _ids(count), record_of(VALUES["dict"])
    pipe = bare.pipeline(transaction=False)
    for task_id in task_ids:
        pipe.set(f"celery-task-meta-{task_id}", record, ex=DAY)
    pipe.execute()
    return task_ids


def _get(bare: redis.Redis, backend: BaseBackend, rounds: int, count: int) -> Row:
    task_ids = _stored(bare, count)

    def ours(_: None) -> None:
        for task_id in task_ids:
            backend.get_task_meta(task_id)

    def get_each(_: None) -> None:
        for task_id in task_ids:
            fast_decode(bare.get(f"celery-task-meta-{task_id}"))

    pair = paired(lambda: None, ours, get_each, rounds)
    return at_most("redis: get_task_meta / GET + msgspec", _times(pair), 1.2, pair.rates(count))


def _many(bare: redis.Redis, backend: BaseBackend, rounds: int, count: int) -> Row:
    task_ids = _stored(bare, count)

    def ours(_: None) -> None:
        assert len(dict(backend.get_many(task_ids))) == count

    def mget(_: None) -> None:
        values = bare.mget([f"celery-task-meta-{task_id}" for task_id in task_ids])
        assert (
            len({task_id: fast_decode(each) for task_id, each in zip(task_ids, values, strict=True)}) == count
        )

    pair = paired(lambda: None, ours, mget, rounds)
    name = f"redis: get_many of {count:,} / one MGET + msgspec"
    return at_most(name, _times(pair), 1.5, pair.rates(count))


def _server_cpu(bare: redis.Redis, backend: BaseBackend, rounds: int, count: int) -> Row:
    """Seconds of the server's processor for each settle and each SET EX."""
    record = record_of(VALUES["dict"])

    def spent(work: Callable[[str], object]) -> float:
        task_ids = _ids(count)
        begun = _cpu_of(bare)
        for task_id in task_ids:
            work(task_id)
        return (_cpu_of(bare) - begun) / count * 1e6

    settles, sets = [], []
    for _ in range(rounds):
        settles.append(spent(lambda task_id: backend.store_result(task_id, VALUES["dict"], "SUCCESS")))
        sets.append(spent(lambda task_id: bare.set(f"celery-task-meta-{task_id}", record, ex=DAY)))
    ours, plain = statistics.median(settles), statistics.median(sets)
    name = "redis: the server's CPU, a settle / SET EX"
    return at_most(name, ours / max(plain, 1e-9), 3, f"{ours:.0f} us to {plain:.0f} us")


def _cpu_of(bare: redis.Redis) -> float:
    found = bare.info("cpu")
    return float(found["used_cpu_sys_main_thread"]) + float(found["used_cpu_user_main_thread"])


def _threads(server: Server, rounds: int, count: int) -> Row:
    """Eight threads through four connections, against one thread."""
    ratios, rates = [], []
    with settled.connect(f"{server.url}?max_connections=4") as backend:

        def store(task_ids: Sequence[str]) -> None:
            for task_id in task_ids:
                backend.store_result(task_id, VALUES["dict"], "SUCCESS")

        for _ in range(rounds + 1):
            alone = _ids(count)
            one = count / timed(lambda: store(alone)).wall  # noqa: B023 - called here
            threads = [threading.Thread(target=store, args=(_ids(count // 2),)) for _ in range(THREADS)]
            begun = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            eight = THREADS * (count // 2) / (time.perf_counter() - begun)
            ratios.append(eight / one)
            rates.append((eight, one))
    eight, one = rates[-1]
    name = f"redis: {THREADS} threads through 4 connections / one thread"
    return at_least(name, statistics.median(ratios[1:]), 1.5, f"{eight:,.0f}/s to {one:,.0f}/s")


def _awaited(bare: redis.Redis, backend: BaseBackend, count: int, rounds: int) -> list[Row]:
    """Seconds until everyone who awaits has run: results that are there, and results that arrive meanwhile."""
    there = statistics.median(asyncio.run(_gathered(backend, _stored(bare, count))) for _ in range(rounds))
    arriving = statistics.median(asyncio.run(_arriving(bare, backend, count)) for _ in range(rounds))
    name = f"redis: {count:,} results awaited from asyncio"
    return [
        Row(f"{name}, stored before", f"{count / there:,.0f}/s", ">= 20,000/s", count / there >= 20_000),
        Row(f"{name}, stored meanwhile in one pipeline", f"{count / arriving:,.0f}/s", "", None),
    ]


async def _value(backend: BaseBackend, task_id: str) -> object:
    return await settled.AsyncResult[object](task_id, backend)


async def _gathered(backend: BaseBackend, task_ids: Sequence[str]) -> float:
    begun = time.perf_counter()
    values = await asyncio.gather(*(_value(backend, task_id) for task_id in task_ids))
    taken = time.perf_counter() - begun
    assert values == [VALUES["dict"]] * len(task_ids)
    return taken


async def _arriving(bare: redis.Redis, backend: BaseBackend, count: int) -> float:
    task_ids, record = _ids(count), record_of(VALUES["dict"])
    tasks = [asyncio.create_task(_value(backend, task_id)) for task_id in task_ids]
    await asyncio.to_thread(until, lambda: _is_heard(bare, task_ids[-1]), 30.0, "the last subscription")
    pipe = bare.pipeline(transaction=False)
    for task_id in task_ids:
        pipe.set(f"celery-task-meta-{task_id}", record, ex=DAY)
        pipe.publish(f"celery-task-meta-{task_id}", record)
    begun = time.perf_counter()
    await asyncio.get_running_loop().run_in_executor(None, pipe.execute)
    await asyncio.gather(*tasks)
    return time.perf_counter() - begun


def _is_heard(bare: redis.Redis, task_id: str) -> bool:
    counted = cast("list[int]", bare.execute_command("PUBSUB", "NUMSUB", f"celery-task-meta-{task_id}"))
    return counted[1] > 0


def _memory(bare: redis.Redis, server: Server, count: int) -> Row:
    """Bytes that the server holds for the barrier of an open chord, beside its results."""
    task_ids = _ids(count)
    with settled.connect(server.url) as backend:
        backend.open_chord("memory-group", task_ids, {"task": "body"})
        keys = bare.keys("celery-taskset-meta-memory-group*")
        held = sum(bare.memory_usage(key, samples=0) for key in keys)
        backend.forget("memory-group")
    return Row(
        f"redis: memory of a barrier of {count:,}", f"{held:,} bytes, {held / count:.0f} a part", "", None
    )
