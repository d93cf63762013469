"""`settled map`: a function over many inputs, in several processes, each result kept."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable

from settled.app import App
from settled.backends.base import BaseBackend
from settled.cli import report, store, text, workers
from settled.cli.feeding import Feed
from settled.cli.functions import load, make_importable
from settled.cli.inputs import gather
from settled.cli.progress import Bar, Tally, bar_for

INTERRUPTED = 130

LEASE = 10.0
"""Seconds after which work is taken over whose process died without a word."""


def run(arguments: Namespace) -> int:
    """Call the function with every input that is left, reduce, and report. Status 0, 1, 2 or 130."""
    make_importable(os.getcwd())
    function = load(arguments.function)
    reducer = None if arguments.reduce is None else load(arguments.reduce)
    inputs = gather(arguments.inputs, arguments.inputs_from)
    app = store.shared_app(arguments.backend)
    with app.backend:
        return Run(arguments, app, inputs).carry_out(function, reducer)


class Run:
    """One run of `settled map`."""

    def __init__(self, arguments: Namespace, app: App, inputs: list[str]) -> None:
        self._arguments = arguments
        self._app = app
        self._backend: BaseBackend = app.backend
        self._inputs = inputs
        self._tally = Tally(len(inputs), min(arguments.workers or workers.usable_cpus(), len(inputs)))
        self._bar: Bar = bar_for(self._tally, sys.stderr)

    def carry_out(self, function: Callable[..., object], reducer: Callable[..., object] | None) -> int:
        """The exit status."""
        from settled.executor import Executor

        pool = workers.pool_maker(self._tally.workers)
        executor = Executor(pool, self._app, retries=self._arguments.retries, lease=LEASE)
        feed = Feed(executor, function, self._inputs, self._tally, self._bar)
        try:
            feed.run()
            self._bar.clear()
            self._report(feed)
            reduced = None if reducer is None else self._reduce(executor, function, reducer)
        except KeyboardInterrupt:
            self._bar.clear()
            return self._stop(executor, feed)
        finally:
            self._bar.clear()
        executor.shutdown()
        self._print_results(feed, reduced)
        return 1 if feed.failed or (reduced is not None and not self._succeeded(reduced)) else 0

    # -- the reduce --------------------------------------------------------------------------

    def _reduce(self, executor: Executor, function: Callable[..., object], reducer: Callable[..., object]) -> str:
        """Have the reducer called with all outcomes, as the body of a chord; its task id."""
        import settled

        calls = [settled.call(function, value) for value in self._inputs]
        body = executor.chord(calls, settled.call(reducer, key=None), on_failure="outcomes")
        body.exception()
        return body.id
