"""A program that the tests start, kill and start again: `program URL METHOD LEASE LOG [STARTED GATE]`."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from settled import Executor, call
from tests.executor import work


def main(url, method, lease, log, started=None, gate=None):
    calls = [call(work.logged, log, x, key=f"call {x}") for x in range(30)]
    if started is not None:
        calls[10] = call(work.meet, log, started, gate, 10, key="call 10")
    context = multiprocessing.get_context(method)
    with Executor(lambda: ProcessPoolExecutor(2, context), url, lease=float(lease)) as executor:
        body = executor.chord(calls, call(work.states), on_failure="outcomes")
        print(len(body.result(100)), *sorted(set(body.result())))


if __name__ == "__main__":
    main(*sys.argv[1:])
