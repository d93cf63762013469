"""The demo for real: a first run, a second one, and SIGKILL in the middle. Judged by the raw database."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.append(str(EXAMPLES))

import stdlib_survey  # noqa: E402

FAIL_SAFE = 60
"""Seconds after which a test that waits for an event has failed."""

BEFORE_THE_KILL = 30
"""Calls that have begun when something is killed."""


class Stored(NamedTuple):
    """One row of the database, as sqlite3 sees it."""

    path: str
    state: str
    seq: int
    done: float
    attempt: int


def stored(database: Path) -> dict[str, Stored]:
    """The settled measurements by their file."""
    query = """SELECT json_extract(record, '$.args[0]'), state, seq, done, attempt FROM settled_task
               WHERE done IS NOT NULL AND name LIKE '%.measure'"""
    with closing(sqlite3.connect(database)) as db:
        rows = [Stored(*row) for row in db.execute(query)]
    assert len(rows) == len({row.path for row in rows})
    return {row.path: row for row in rows}


class Witness:
    """Reads what the calls say, as they say it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._file = os.open(path, os.O_RDWR)  # for writing too, so that it never ends
        self._rest = b""
        self.lines: list[tuple[int, str]] = []

    def read(self, count: int) -> list[tuple[int, str]]:
        """Wait until so many calls have begun: their process and file."""
        while len(self.lines) < count:
            ready, _, _ = select.select([self._file], [], [], FAIL_SAFE)
            assert ready, f"only {len(self.lines)} calls have begun"
            self._take()
        return self.lines

    def rest(self) -> list[tuple[int, str]]:
        """All calls that have begun, when there will be no more."""
        while select.select([self._file], [], [], 0)[0]:
            self._take()
        return self.lines

    def _take(self) -> None:
        *whole, self._rest = (self._rest + os.read(self._file, 65536)).split(b"\n")
        for line in whole:
            pid, _, path = line.decode().partition(" ")
            self.lines.append((int(pid), path))

    def close(self) -> None:
        os.close(self._file)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    made = Witness(tmp_path / "witness")
    yield made
    made.close()


@pytest.fixture
def files() -> list[str]:
    """Some 150 files of the standard library; a few do not parse."""
    chosen = [
        path
        for path in stdlib_survey.files()
        if path.split("/")[1] in ("lib2to3", "email", "json", "asyncio")
    ]
    assert len(chosen) > 120
    return chosen


class Survey:
    """`settled map` over these files, in a session of its own."""

    def __init__(self, folder: Path, files: list[str]) -> None:
        self.database = folder / "survey.db"
        self._folder = folder
        self._files = files
        self._running: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(EXAMPLES), str(Path(__file__).parent)])
        command = [sys.executable, "-m", "settled", "map", "witness:measure", "--inputs-from", "files"]
        command += ["--reduce", "witness:table", "--workers", "2", "--backend", "sqlite:///survey.db"]
        (self._folder / "files").write_text("\n".join(self._files))
        running = subprocess.Popen(
            command,
            cwd=self._folder,
            env={**os.environ, "WITNESS": str(self._folder / "witness"), "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._running.append(running)
        return running

    def finish(self, running: subprocess.Popen[str]) -> str:
        """Wait for its end; the table, of all files but those that do not parse."""
        output, said = running.communicate(timeout=FAIL_SAFE)
        unparsed = [each for each in stored(self.database).values() if each.state == "FAILURE"]
        assert running.returncode == 1, said
        assert 0 < len(unparsed) < 10
        assert f"Measured: {len(self._files) - len(unparsed)} of {len(self._files)} files" in output
        assert set(stored(self.database)) == set(self._files)
        return output

    def end(self) -> None:
        for running in self._running:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.communicate()


@pytest.fixture
def survey(tmp_path: Path, files: list[str]) -> Iterator[Survey]:
    made = Survey(tmp_path, files)
    yield made
    made.end()


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / "demo.py"), "--only", "lib2to3", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FAIL_SAFE, check=False)


def test_the_demo_prints_the_table_the_failures_and_how_to_go_on(tmp_path):
    ran = demo(tmp_path)
    assert ran.returncode == 0
    assert "Largest modules" in ran.stdout
    assert "Most complex modules" in ran.stdout
    assert "lib2to3/tests/data/bom.py" in ran.stderr
    assert "SyntaxError: Missing parentheses in call to 'print'" in ran.stderr
    assert "ls --state FAILURE --backend sqlite:///demo.db" in ran.stdout
    assert "show " in ran.stdout


def test_a_second_run_does_nothing_but_the_reduce(tmp_path):
    first = demo(tmp_path)
    before = stored(tmp_path / "demo.db")
    second = demo(tmp_path)
    assert stored(tmp_path / "demo.db") == before
    assert second.stdout == first.stdout
    assert "(0 run in " in second.stderr


def test_the_demo_takes_another_store(tmp_path):
    ran = demo(tmp_path, "--backend", "sqlite:///other.db")
    assert ran.returncode == 0
    assert stored(tmp_path / "other.db")
    assert not (tmp_path / "demo.db").exists()


@pytest.mark.parametrize("victim", ["parent", "parent and workers"])
def test_after_a_sigkill_the_next_run_does_only_what_is_left(survey, files, witness, victim):
    killed = survey.start()
    witness.read(BEFORE_THE_KILL)
    if victim == "parent":
        killed.kill()
    else:
        os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    begun = len(witness.rest())
    before = stored(survey.database)
    assert 0 < len(before) < len(set(files))
    survey.finish(survey.start())
    after = stored(survey.database)
    again = [path for _, path in witness.rest()[begun:]]
    assert not before.keys() & again
    assert {path: after[path] for path in before} == before
    assert len(again) == len(set(again))


def test_after_a_sigkill_of_a_worker_the_run_itself_completes(survey, witness):
    running = survey.start()
    victim, _ = witness.read(BEFORE_THE_KILL)[-1]
    before = stored(survey.database)
    os.kill(victim, signal.SIGKILL)
    survey.finish(running)
    after = stored(survey.database)
    assert {path: after[path] for path in before} == before
    begun = witness.rest()
    twice = {path for path, times in Counter(path for _, path in begun).items() if times > 1}
    assert not before.keys() & twice
    # The pool ends with the worker: at most what its two workers ran is begun again.
    assert len(twice) <= 2
    assert victim not in {pid for pid, _ in begun[-10:]}
