"""`settled map`: a function over many inputs, in several processes, each result kept."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable

import settled
from settled.app import App
from settled.backends.base import BaseBackend
from settled.cli import report, store, text, workers
from settled.cli.feeding import Feed
from settled.cli.functions import load, make_importable
from settled.cli.inputs import gather
from settled.cli.progress import Bar, Tally, bar_for
from settled.executor import Executor
from settled.states import SUCCESS

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
        """Run, reduce and report; the exit status."""
        pool = workers.pool_maker(self._tally.workers)
        executor = Executor(pool, self._app, retries=self._arguments.retries, lease=LEASE)
        feed = Feed(executor, function, self._inputs, self._tally, self._bar)
        reduced: str | None = None
        try:
            try:
                feed.run()
            finally:
                self._bar.clear()
            if reducer is not None and not feed.unstored:
                reduced = self._reduce(executor, function, reducer)
            executor.shutdown()
        except KeyboardInterrupt:
            return self._stop(executor, feed)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        self._print(feed, reduced)
        self._report(feed)
        reduce_failed = reduced is not None and self._reduce_failed(reduced)
        return 1 if feed.failed or reduce_failed else 0

    def _report(self, feed: Feed) -> None:
        """Say how it went: always on a terminal, else where something failed."""
        sys.stdout.flush()
        if not sys.stderr.isatty() and not feed.failed:
            return
        print(report.summary(self._tally), file=sys.stderr)
        for line in report.failures(self._backend, feed, self._inputs, self._arguments.backend):
            print(line, file=sys.stderr)
        if feed.unstored:
            print(
                f"nothing is stored for {len(feed.unstored):,} of them: run the command again",
                file=sys.stderr,
            )

    # -- results -----------------------------------------------------------------------------

    def _reduce(
        self, executor: Executor, function: Callable[..., object], reducer: Callable[..., object]
    ) -> str:
        """Have the reducer called with all outcomes, as the body of a chord; its task id."""
        calls = [settled.call(function, value) for value in self._inputs]
        body = executor.chord(calls, settled.call(reducer), on_failure="outcomes", rerun_body=True)
        body.exception()
        return body.id

    def _print(self, feed: Feed, reduced: str | None) -> None:
        """Print what was asked for."""
        as_json = self._arguments.json
        if as_json or self._arguments.reduce is None:
            for line in report.results(self._backend, feed, self._inputs, as_json):
                print(line)
        if reduced is not None:
            meta = self._backend.get_task_meta(reduced)
            if as_json or meta["status"] == SUCCESS:
                print(report.reduced(reduced, meta, as_json))

    def _reduce_failed(self, reduced: str) -> bool:
        """Say so if the reduce has failed."""
        meta = self._backend.get_task_meta(reduced)
        if meta["status"] == SUCCESS:
            return False
        shown = f"settled show {text.short_id(reduced)}{store.shown_option(self._arguments.backend)}"
        print(f"the reduce failed: {text.reason(meta)} ({shown})", file=sys.stderr)
        return True

    # -- Ctrl-C ------------------------------------------------------------------------------

    def _stop(self, executor: Executor, feed: Feed) -> int:
        """Let running calls finish, unless Ctrl-C comes again; say how to go on."""
        try:
            said = "stopping when what runs is done; Ctrl-C again stops at once"
            print(said, file=sys.stderr, flush=True)
            workers.let_leave()
            executor.shutdown(wait=True, cancel_futures=True)
            feed.drain()
        except KeyboardInterrupt:
            print(file=sys.stderr)
            self._say_how_to_go_on()
            workers.end_at_once(INTERRUPTED)
        self._say_how_to_go_on()
        return INTERRUPTED

    def _say_how_to_go_on(self) -> None:
        tally = self._tally
        print(
            f"interrupted: {tally.done:,} of {text.plural(tally.total, 'call')} stored; "
            "the same command goes on from there",
            file=sys.stderr,
            flush=True,
        )
