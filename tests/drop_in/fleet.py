"""Real workers of Celery in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.servers import until
from tests.servers.leash import Leashed

ROOT = Path(__file__).parents[2]

START = 30.0
"""Seconds that a worker may take to be ready on a busy machine."""


class Worker:
    """One `celery worker`, ready when it has been started; its output in a file.

    Args:
        folder: of the output.
        conf: Celery settings in lower case; `broker_url` and `result_backend` among them.
        pool, concurrency: as the command's options.
        name: the part of its host name before the @, one per worker.
        env: more of the environment: SETTLED_DIE, for one.
    """

    def __init__(self, folder, conf, *, pool="prefork", concurrency=2, name="one", options=(), env=None):
        self.output = Path(folder) / f"{name}.log"
        self.name = name
        self._command = [
            *(
                "env",
                "-C",
                str(ROOT),
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "celery",
                "-A",
                "tests.drop_in.work",
                "worker",
            ),
            *("--pool", pool, "--concurrency", str(concurrency), "--loglevel", "INFO"),
            *("--hostname", f"{name}@test", "--without-gossip", "--without-mingle", *options),
        ]
        self._env = {**os.environ, "SETTLED_DROP_IN": json.dumps(conf), "C_FORCE_ROOT": "1", **(env or {})}
        self._process = None

    def start(self):
        self.launch()
        self.ready()
        return self

    def launch(self):
        """Run it, without waiting until it is ready."""
        self._process = Leashed(self._command, env=self._env, output=self.output)

    def ready(self):
        until(self._is_ready, START, f"worker {self.name}, see {self.output}:\n{self.said()[-3000:]}")

    def _is_ready(self):
        assert self.running, f"worker {self.name} ended:\n{self.said()[-3000:]}"
        return f"{self.name}@test ready." in self.said()

    def said(self):
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    @property
    def running(self):
        return self._process is not None and not self._process.ended()

    @property
    def pid(self):
        return self._process.pid

    def children(self):
        """The process ids of its pool."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    def kill(self):
        """The whole of it, by SIGKILL: nothing is told."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.end(signal.SIGKILL)

    def stop(self):
        """As an operator does; what does not end is killed."""
        if self.running:
            self._process.end(signal.SIGTERM, START)
        self.kill()
