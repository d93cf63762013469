"""A program that the tests start, kill and start again: `program URL METHOD LEASE LOG [STARTED GATE]`."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from settled import Executor, call
from settled.executor import end_with_parent
from tests.executor import work


def main(url, method, lease, log, started=None, gate=None):
    calls = [call(work.logged, log, x, key=f"call {x}") for x in range(30)]
    if started is not None:
        calls[10] = call(work.meet, log, started, gate, 10, key="call 10")
    context = multiprocessing.get_context(method)
    make = partial(ProcessPoolExecutor, 2, context, initializer=end_with_parent)
    with Executor(make, url, lease=float(lease)) as executor:
        body = executor.chord(calls, call(work.states), on_failure="outcomes")
        sys.stdout.write(f"{len(body.result(100))} {' '.join(sorted(set(body.result())))}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
