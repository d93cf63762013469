"""Histories of concurrent writers and readers, and whether they fit one operation after another.

Each operation is recorded with the moment before it was called and the moment after it returned.
A history is linearizable if its operations can be put in an order that keeps to those moments and in
which each answer is what the transition rule says: the search is Wing and Gong's, with Lowe's memory
of what was tried. Each task is checked by itself.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias, cast

from settled.backends.base import BaseBackend
from settled.record import Settle
from settled.testing.model import gives_way

LIMIT = 200
"""Operations in one task's history: the search may take exponential time."""

Step: TypeAlias = "tuple[str, str, int, int]"
"""("read" or a state to write, the task, the attempt, the value)."""

Write: TypeAlias = "tuple[str, int, int]"
"""(state, attempt, value)."""

Stored: TypeAlias = "Write | None"
"""The write that made the record."""


class Operation(NamedTuple):
    """One call and its answer. Times are nanoseconds of the machine's monotonic clock."""

    task_id: str
    called: int
    returned: int
    write: Write | None
    answer: tuple[object, ...]
    """(landed, the state then stored) of a write, (state, attempt, value) or () of a read."""


class NotLinear(AssertionError):
    """A history that no order of its operations explains."""


def plans(writers: int, tasks: int, length: int, seed: int = 7) -> list[list[Step]]:
    """What each writer does, in order. Values tell the writes apart."""
    chance = random.Random(seed)
    states = ("read", "read", "STARTED", "PROGRESS", "RETRY", "FAILURE", "FAILURE", "REVOKED", "SUCCESS")
    drawn = []
    for writer in range(writers):
        plan: list[Step] = []
        for number in range(length):
            # SUCCESS ends a task's story, so it comes late.
            state = chance.choice(states if number > length // 2 else states[:-1])
            plan.append(
                (state, f"task-{number * tasks // length}", chance.randrange(3), writer * 1000 + number)
            )
        drawn.append(plan)
    return drawn


def perform(backend: BaseBackend, plan: Iterable[Sequence[object]]) -> list[Operation]:
    """Do as planned, and record it."""
    return [_performed(backend, *cast("Step", step)) for step in plan]


def _performed(backend: BaseBackend, state: str, task_id: str, attempt: int, value: int) -> Operation:
    if state == "read":
        called = time.monotonic_ns()
        payload = backend.call(backend.do_read, (task_id,)).get(task_id)
        returned = time.monotonic_ns()
        found = json.loads(cast("str", payload)) if payload is not None else None
        answer = () if found is None else (found["status"], found["attempt"], found["result"])
        return Operation(task_id, called, returned, None, answer)
    record = {"status": state, "result": value, "attempt": attempt, "task_id": task_id}
    write = Settle(task_id, state, json.dumps(record).encode(), attempt)
    called = time.monotonic_ns()
    settled = backend.call(backend.do_settle, write)
    returned = time.monotonic_ns()
    return Operation(task_id, called, returned, (state, attempt, value), (settled.landed, settled.state))


def performed(backend: BaseBackend, plan: Iterable[Sequence[object]]) -> list[Operation]:
    """`perform` as a job: its answer travels as JSON, see `operations_in`."""
    return perform(backend, plan)


def operations_in(answer: object) -> list[Operation]:
    """The operations in the answer of a job."""
    told = cast("list[tuple[str, int, int, list[object] | None, list[object]]]", answer)
    return [
        Operation(task_id, called, returned, cast("Write | None", write and tuple(write)), tuple(said))
        for task_id, called, returned, write, said in told
    ]


def assert_linear(operations: Iterable[Operation]) -> None:
    """Raise NotLinear, with the task's history, where no order of its operations explains the answers."""
    by_task: dict[str, list[Operation]] = {}
    for operation in operations:
        by_task.setdefault(operation.task_id, []).append(operation)
    for task_id, history in by_task.items():
        if len(history) > LIMIT:
            raise ValueError(
                f"{task_id} has {len(history)} operations; more than {LIMIT} take too long to check"
            )
        if not is_linear(history):
            shown = "\n".join(map(str, sorted(history, key=lambda each: each.called)))
            raise NotLinear(f"no order of these operations on {task_id} explains their answers:\n{shown}")


def is_linear(history: Sequence[Operation]) -> bool:
    """Whether some order of these operations on one task explains every answer."""
    history = sorted(history, key=lambda each: each.called)
    everything = (1 << len(history)) - 1
    tried: set[tuple[int, Stored]] = set()
    todo: list[tuple[int, Stored]] = [(0, None)]
    while todo:
        done, stored = todo.pop()
        if done == everything:
            return True
        # What may come next was called before everything that is left had returned.
        left = [place for place in range(len(history)) if not done >> place & 1]
        first_return = min(history[place].returned for place in left)
        for place in left:
            if history[place].called > first_return:
                break
            explained, after = _apply(history[place], stored)
            reached = (done | 1 << place, after)
            if explained and reached not in tried:
                tried.add(reached)
                todo.append(reached)
    return False


def _apply(operation: Operation, stored: Stored) -> tuple[bool, Stored]:
    """Whether the answer is right where `stored` is the record, and the record afterwards."""
    write = operation.write
    if write is None:
        return operation.answer == (stored or ()), stored
    old, old_attempt = (None, 0) if stored is None else stored[:2]
    after = write if gives_way(old, old_attempt, write[0], write[1]) else stored
    assert after is not None
    return operation.answer == (after is write, after[0]), after
