"""Eight processes that write to one SQLite file at once, against one that writes alone."""

from __future__ import annotations

import multiprocessing
import statistics
import time
import uuid
from multiprocessing.connection import Connection

import settled
from benchmarks.bare import VALUES
from benchmarks.pairs import folder
from benchmarks.table import Row

WRITERS = 8


def run(once: bool) -> list[Row]:
    total, rounds = (160, 1) if once else (16_000, 5)
    ratios, alone, together, errors = [], [], [], 0
    with folder() as path:
        for number in range(rounds):
            one, failed = _rate(f"sqlite:///{path}/one-{number}.db", 1, total)
            eight, more = _rate(f"sqlite:///{path}/eight-{number}.db", WRITERS, total)
            ratios.append(eight / one)
            alone.append(one)
            together.append(eight)
            errors += failed + more
    ratio = statistics.median(ratios)
    rates = f"{statistics.median(together):,.0f}/s, alone {statistics.median(alone):,.0f}/s"
    return [
        Row(f"sqlite: {WRITERS} processes writing / one", f"{ratio:.0%} ({rates})", ">= 100%", ratio >= 1),
        Row(f"sqlite: {WRITERS} processes writing, failed stores", str(errors), "none", errors == 0),
    ]


def _rate(url: str, writers: int, total: int) -> tuple[float, int]:
    """Stores a second of all writers together, from the common start to the last one's end; errors."""
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(writers)
    pipes, processes = [], []
    for _ in range(writers):
        here, there = spawn.Pipe()
        process = spawn.Process(target=_write, args=(url, total // writers, start, there))
        process.start()
        pipes.append(here)
        processes.append(process)
    ended = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    begun, until = min(each[0] for each in ended), max(each[1] for each in ended)
    return total / (until - begun), sum(each[2] for each in ended)


def _write(url: str, count: int, start: object, pipe: Connection) -> None:
    task_ids = [str(uuid.uuid4()) for _ in range(count)]
    failed = 0
    with settled.connect(url) as backend:
        backend.store_result(str(uuid.uuid4()), 0, "SUCCESS")
        start.wait()  # type: ignore[attr-defined]
        begun = time.monotonic()
        for task_id in task_ids:
            try:
                backend.store_result(task_id, VALUES["dict"], "SUCCESS")
            except settled.SettledError:
                failed += 1
        pipe.send((begun, time.monotonic(), failed))
