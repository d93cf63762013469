"""Running the command as a person does: in a process of its own, in a folder with a module to call."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from settled.cli import main as command

pytest.register_assert_rewrite("tests.cli.filling")

COMMAND = [sys.executable, "-m", "settled"]

CALLS = """
import os, signal, sys

def double(text):
    return int(text) * 2

def echo(text):
    print("said in a worker", text)
    return text

def same(text):
    return text

def even(text):
    if int(text) % 2:
        raise ValueError(f"{text} is odd")
    return int(text)

def counted(text):
    with open("ran", "a") as log:
        log.write(text + "\\n")
    return even(text)

def dies_once(text):
    if not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return text

def dies(text):
    os.kill(os.getpid(), signal.SIGKILL)

def waits(text):
    with open("events", "w") as events:
        events.write(text + "\\n")
    open("go").close()
    return text

def unstorable(text):
    return object()

def total(outcomes):
    return sum(each.value for each in outcomes if each.error is None)

def listing(outcomes):
    return [each.value if each.error is None else type(each.error).__name__ for each in outcomes]

def broken(outcomes):
    raise RuntimeError("no table today")

nameless = lambda text: text
number = 3
"""

Settled = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the module `calls`, as the current one."""
    (tmp_path / "calls.py").write_text(CALLS)
    monkeypatch.chdir(tmp_path)
    for name in ("SETTLED_BACKEND", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def settled(folder: Path) -> Settled:
    """Runs `settled` with these arguments and returns what it printed and its status."""

    def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=90,
        )

    return run


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `settled` with these arguments; what is left of it at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **options: object) -> subprocess.Popen[str]:
        piped: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running = subprocess.Popen([*COMMAND, *arguments], start_new_session=True, **{**piped, **options})
        started.append(running)
        return running

    yield begin
    for running in started:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()


@pytest.fixture
def main(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As `settled`, in this process: for lines that start no workers."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "calls", raising=False)

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            status = command(arguments)
        except SystemExit as exc:
            status = int(str(exc.code or 0))
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, printed.out, printed.err)

    return run
