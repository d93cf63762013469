"""What `settled.Executor.submit` adds to the submit of the pool under it, on memory://."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import settled
from benchmarks.table import Row

WORKERS = 4


def run(once: bool) -> list[Row]:
    count, rounds = (100, 1) if once else (1000, 15)
    return [
        _row("one at a time", _paced, count, rounds, 150),
        _row("one at a time, key=None", _paced, count, rounds, None, key=None),
        _row("all at once, CPU of the submitter", _burst_cpu, count, rounds, 150),
        _row("all at once, by the clock", _burst, count, rounds, None),
        _row("all at once, each from submit to done", _whole, count, rounds, None),
    ]


def _row(
    kind: str,
    seconds: Callable[[Callable[..., Future[int]], int, dict[str, object]], float],
    count: int,
    rounds: int,
    bound: int | None,
    **options: object,
) -> Row:
    added, bare = [], []
    for _ in range(rounds + 1):
        with ThreadPoolExecutor(WORKERS) as pool:
            bare.append(seconds(pool.submit, count, {}))
        with settled.Executor(lambda: ThreadPoolExecutor(WORKERS), "memory://") as executor:
            added.append(seconds(executor.submit, count, options) - bare[-1])
    extra = statistics.median(added[1:]) * 1e6
    figure = f"{extra:.0f} us added to {statistics.median(bare[1:]) * 1e6:.0f} us"
    within = "" if bound is None else f"<= {bound} us added"
    return Row(f"memory: submit, {kind}", figure, within, None if bound is None else extra <= bound)


def _double(number: int) -> int:
    return 2 * number


def _paced(submit: Callable[..., Future[int]], count: int, options: dict[str, object]) -> float:
    """Median seconds of one submit, each made when the call before it is done."""
    taken = []
    for number in range(count):
        begun = time.perf_counter()
        future = submit(_double, number, **options)
        taken.append(time.perf_counter() - begun)
        assert future.result() == 2 * number
    return statistics.median(taken)


def _burst_cpu(submit: Callable[..., Future[int]], count: int, options: dict[str, object]) -> float:
    """The submitting thread's CPU seconds for each of many in a row: the workers share its interpreter."""
    begun = time.thread_time()
    futures = [submit(_double, number, **options) for number in range(count)]
    taken = time.thread_time() - begun
    assert [future.result() for future in futures] == [2 * number for number in range(count)]
    return taken / count


def _burst(submit: Callable[..., Future[int]], count: int, options: dict[str, object]) -> float:
    """Seconds for each of many in a row, the workers' turns at the interpreter included."""
    begun = time.perf_counter()
    futures = [submit(_double, number, **options) for number in range(count)]
    taken = time.perf_counter() - begun
    assert [future.result() for future in futures] == [2 * number for number in range(count)]
    return taken / count


def _whole(submit: Callable[..., Future[int]], count: int, options: dict[str, object]) -> float:
    """Seconds for each of many calls, from the first submit to the last value."""
    begun = time.perf_counter()
    futures = [submit(_double, number, **options) for number in range(count)]
    assert [future.result() for future in futures] == [2 * number for number in range(count)]
    return (time.perf_counter() - begun) / count
