"""Running the command as a person does: in a process of its own, in a folder with a module to call."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "settled"]

CALLS = """
import os, signal, sys

def double(text):
    return int(text) * 2

def echo(text):
    print("said in a worker", text)
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
    with open("go") as go:
        go.read()
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
