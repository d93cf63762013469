"""A chord's cost per part: one header of 10,000 against a hundred of 100."""

from __future__ import annotations

import statistics
import time
import uuid

import settled
from benchmarks.pairs import folder
from benchmarks.table import Row
from settled.backends.base import BaseBackend

SMALL = 100


def run(once: bool) -> list[Row]:
    large, rounds = (1000, 1) if once else (10_000, 5)
    with folder() as path:
        return [
            row(url.partition(":")[0], url, large, rounds)
            for url in ("memory://", f"sqlite:///{path}/chord.db")
        ]


def row(engine: str, url: str, large: int, rounds: int) -> Row:
    """Both settle the same number of parts in turn; opening, counting and sending the body are in it."""
    sent: list[str] = []
    app = settled.App(url, send=lambda signature, args, task_id: sent.append(task_id))
    times: list[tuple[float, float]] = []
    with app.backend as backend:
        _chord(backend, SMALL)
        for _ in range(rounds):
            begun = time.perf_counter()
            _chord(backend, large)
            between = time.perf_counter()
            for _ in range(large // SMALL):
                _chord(backend, SMALL)
            times.append((between - begun, time.perf_counter() - between))
    assert len(set(sent)) == len(sent) == 1 + rounds * (1 + large // SMALL)
    ratio = statistics.median(many / few for many, few in times)
    parts = [statistics.median(column) / large * 1e6 for column in zip(*times, strict=True)]
    figure = f"{ratio:.2f} times ({parts[0]:.0f} us against {parts[1]:.0f} us)"
    name = f"{engine}: a chord's part, of {large:,} / of {SMALL}"
    return Row(name, figure, "<= 1.3 times", ratio <= 1.3)


def _chord(backend: BaseBackend, size: int) -> None:
    group_id = str(uuid.uuid4())
    task_ids = [str(uuid.uuid4()) for _ in range(size)]
    backend.open_chord(group_id, task_ids, {"task": "body", "options": {}})
    for place, task_id in enumerate(task_ids):
        request = {"id": task_id, "group": group_id, "group_index": place, "chord": {"task": "body"}}
        backend.mark_as_done(task_id, place, request=request)
