"""Measuring two things that do the same work, turn by turn, so that both see the same machine."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.table import Row

Work = Callable[[], object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that one turn took, by the clock and of the processor."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Medians over all rounds. A ratio above 1 says that ours is the faster one."""

    wall: float
    cpu: float
    ours: float
    bare: float

    def rates(self, count: int) -> str:
        """Both in operations a second, for `count` operations a turn, and the ratio in CPU time."""
        return f"{count / self.ours:,.0f}/s to {count / self.bare:,.0f}/s, CPU {self.cpu:.0%}"


def timed(work: Work) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def paired(
    prepare: Callable[[], T], ours: Callable[[T], object], bare: Callable[[T], object], rounds: int
) -> Pair:
    """Run both `rounds` times on what `prepare` makes for each round, each going first in turn.

    A first round that is not counted opens what has to be opened.
    """
    timings: list[tuple[Timing, Timing]] = []
    for number in range(rounds + 1):
        given = prepare()
        if number % 2:
            second, first = timed(lambda: bare(given)), timed(lambda: ours(given))  # noqa: B023 - called here
        else:
            first, second = timed(lambda: ours(given)), timed(lambda: bare(given))  # noqa: B023
        timings.append((first, second))
    return summary(timings[1:])


def summary(timings: Sequence[tuple[Timing, Timing]]) -> Pair:
    """The medians of rounds, each (ours, bare)."""
    return Pair(
        statistics.median(bare.wall / ours.wall for ours, bare in timings),
        statistics.median(bare.cpu / max(ours.cpu, 1e-9) for ours, bare in timings),
        statistics.median(ours.wall for ours, _ in timings),
        statistics.median(bare.wall for _, bare in timings),
    )


def at_least(name: str, ratio: float, bound: float, note: str) -> Row:
    """A row for a share of the bare thing's rate."""
    return Row(name, f"{ratio:.0%} ({note})", f">= {bound:.0%}", ratio >= bound)


def at_most(name: str, times: float, bound: float, note: str) -> Row:
    """A row for a multiple of the bare thing's time."""
    return Row(name, f"{times:.2f} times ({note})", f"<= {bound:g} times", times <= bound)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for databases, on the disk that BENCH_DIR names or where temporary files go."""
    with tempfile.TemporaryDirectory(prefix="settled-bench-", dir=os.environ.get("BENCH_DIR")) as path:
        yield Path(path)


def quantile(values: Sequence[float], share: float) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]
