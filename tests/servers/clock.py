"""A wall clock that a test moves, for servers whose own clock decides what has expired."""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.servers.binaries import MissingServer, cache
from tests.servers.until import until

SOURCE = Path(__file__).with_name("skew.c")
MICROSECOND = 1_000_000
PATIENCE = 5.0


class Clock:
    """The machine's wall clock plus `offset` seconds, for every server started with it. It only goes forward.

    It lives in the file `path`, which the servers read whenever they look at the time. A jump ends the timeouts
    of blocking commands too: servers reckon those by this clock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)
        self._offset = memoryview(self._page).cast("q")
        self.followers: list[Callable[[], float]] = []
        """For each server, what asks it for the time."""

    @property
    def offset(self) -> float:
        return self._offset[0] / MICROSECOND

    def advance(self, seconds: float) -> None:
        """Move it; every server that follows it shows the new time when this returns."""
        if seconds < 0:
            raise ValueError(f"a server's clock only goes forward, not by {seconds} s")
        self._offset[0] += round(seconds * MICROSECOND)
        now = time.time() + self.offset
        for shown in self.followers:
            # Valkey looks at its clock about once in a millisecond, and answers from what it saw.
            until(partial(_reached, shown, now), PATIENCE, f"a server's advance by {seconds:g} s")

    def environment(self) -> dict[str, str]:
        """What a program is started with to follow this clock."""
        return {"LD_PRELOAD": str(library()), "SETTLED_CLOCK": str(self.path)}

    def close(self) -> None:
        self._offset.release()
        self._page.close()


def _reached(shown: Callable[[], float], time: float) -> bool:
    return shown() >= time


def library() -> Path:
    """What is preloaded into a server: skew.c, compiled at the first use of this version of it."""
    version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    path = cache() / f"skew-{version}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder) / "skew.so"
            _compile(built)
            os.replace(built, path)
    return path


def _compile(target: Path) -> None:
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(target), str(SOURCE)], check=True
        )
    except FileNotFoundError as exc:
        raise MissingServer("no C compiler for the servers' clock: apt-get install -y gcc libc6-dev") from exc
