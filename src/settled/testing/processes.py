"""Other processes on the same store. A job is a function that a fresh process runs with its own backend.

One process, started at the first use, forks another for each job: it has no threads and no
connections, so a job costs milliseconds and may be killed at any moment. Needs `os.fork`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from settled.backends.base import BaseBackend
from settled.errors import SettledError
from settled.testing.app import RecordingApp


class Job(NamedTuple):
    """`run` names a function "module:name"; it is called with a backend and `args`, and returns plain data."""

    run: str
    args: Mapping[str, object] = {}


class Finished(NamedTuple):
    """What became of a job: its answer, or None if it was killed."""

    answer: object
    killed: bool


class JobFailed(SettledError):
    """A job raised; the message is its traceback."""


class Processes:
    """Runs jobs in processes of their own, for one engine and URL."""

    def __init__(self, engine: type[BaseBackend], url: str, journal: Path) -> None:
        self._setup = {
            "engine": f"{engine.__module__}:{engine.__qualname__}",
            "url": url,
            "journal": str(journal),
        }
        self._server: subprocess.Popen[str] | None = None

    def run(self, jobs: Sequence[Job], clock_offset: float) -> list[Finished]:
        """Run the jobs at once, each on a backend whose clock is `clock_offset` seconds off."""
        server = self._server or self._start()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps([clock_offset, *jobs]) + "\n")
        server.stdin.flush()
        finished = []
        for status, error, answer in json.loads(server.stdout.readline()):
            if error is not None:
                raise JobFailed(error)
            if status not in (0, -signal.SIGKILL):
                raise JobFailed(f"a job ended with status {status} and without an answer")
            finished.append(Finished(answer, status != 0))
        return finished

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "settled.testing.processes", json.dumps(self._setup)]
        path = os.pathsep.join(each or os.getcwd() for each in sys.path)
        self._server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        return self._server

    def close(self) -> None:
        server = self._server
        if server is not None:
            server.communicate()
            self._server = None


def named(path: str) -> object:
    """What "module:qualname" names."""
    module, _, name = path.partition(":")
    found: object = importlib.import_module(module)
    for each in name.split("."):
        found = getattr(found, each)
    return found


def die() -> None:
    """End this process as `kill -9` does: nothing is flushed, closed or told."""
    os.kill(os.getpid(), signal.SIGKILL)


def serve(setup: Mapping[str, str]) -> None:
    """Read requests from standard input until it ends."""
    engine = cast("type[BaseBackend]", named(setup["engine"]))
    for line in sys.stdin:
        offset, *jobs = json.loads(line)
        children = []
        gate_read, gate = os.pipe()
        for run, args in jobs:
            answer_read, answer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(gate)
                _run_job(engine, setup, offset, run, args, gate_read, answer)
            os.close(answer)
            children.append((pid, answer_read))
        os.close(gate)
        os.close(gate_read)
        sys.stdout.write(json.dumps([_outcome(pid, answer_read) for pid, answer_read in children]) + "\n")
        sys.stdout.flush()


def _run_job(
    engine: type[BaseBackend],
    setup: Mapping[str, str],
    offset: float,
    run: str,
    args: Mapping[str, object],
    gate: int,
    answer: int,
) -> None:
    """In the forked child: the job, then the end of the process."""
    error = None
    result = None
    try:
        app = RecordingApp(Path(setup["journal"]))
        backend = engine(app, url=setup["url"])
        if offset:
            from settled.testing.store import Clock

            backend.clock = Clock(offset)
        app.backend = backend
        os.read(gate, 1)  # ends when every job of the request has been forked
        result = named(run)(backend, **args)  # type: ignore[operator]
        backend.close()
    except BaseException:
        error = traceback.format_exc()
    with os.fdopen(answer, "w") as file:
        json.dump([error, result], file)
    os._exit(0)


def _outcome(pid: int, answer: int) -> tuple[int, str | None, object]:
    with os.fdopen(answer) as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    error, result = json.loads(text) if text else (None, None)
    return status, error, result


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
