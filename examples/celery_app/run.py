"""A Celery app whose results settled keeps: a broker, a worker and a client, started and stopped.

    python examples/celery_app/run.py [--backend URL]

The broker is a Redis server of its own, which keeps the results as well unless another URL is given:
`settled+sqlite:///results.db`, say. Every line of the report is checked; status 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"

PATIENCE = 30.0
"""Seconds that a server or a worker may take to be there."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--backend",
        metavar="URL",
        help="where results are kept: settled+ and a store's URL (default: the broker)",
    )
    backend_url = parser.parse_args().backend
    if backend_url and not backend_url.startswith("settled+"):
        parser.error(
            f"{backend_url!r} is not settled's: write settled+redis://host/0 or settled+sqlite:///file.db"
        )
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        parser.error(
            "the broker of this demo is a redis-server, and there is none on the PATH: install it "
            "(apt install redis-server; brew install redis)"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what stops the broker and the worker
    with tempfile.TemporaryDirectory(prefix="celery-app-") as name, ExitStack() as running:
        folder = Path(name)
        broker = running.enter_context(redis_server(program, folder))
        os.environ["CELERY_BROKER_URL"] = f"{broker}/1"
        os.environ["CELERY_RESULT_BACKEND"] = backend_url or f"settled+{broker}/0"
        running.enter_context(worker(folder))
        return int(not tour(folder))


@contextmanager
def redis_server(program: str, folder: Path) -> Iterator[str]:
    """A server on a free port of this machine; its URL, without a database. It keeps nothing on disk."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = f"--port {port} --bind 127.0.0.1 --dir {folder} --appendonly no".split()
    with process("redis", [program, *words, "--save", ""], folder) as server:
        wait(lambda: answers(port), server, folder / "redis.log")
        yield f"redis://127.0.0.1:{port}"


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
    except OSError:
        return False


@contextmanager
def worker(folder: Path) -> Iterator[None]:
    """A worker with two processes, as `celery -A tasks worker` is started anywhere."""
    words = (
        "-A tasks worker --pool prefork --concurrency 2 --loglevel WARNING --without-gossip --without-mingle"
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    with process("worker", [sys.executable, "-m", "celery", *words.split()], folder) as started:
        from tasks import app

        wait(lambda: bool(app.control.ping(timeout=0.5, limit=1)), started, folder / "worker.log")
        yield


@contextmanager
def process(name: str, command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program whose output goes to NAME.log; ended as an operator ends it."""
    with (folder / f"{name}.log").open("wb") as output:
        started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def wait(look: Callable[[], bool], started: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        if started.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{log.stem} did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.02)


def tour(folder: Path) -> bool:
    """The client's part; whether all was right."""
    import client
    from tasks import app

    scratch = folder / "pages"
    scratch.mkdir()
    folders: dict[str, list[str]] = {}
    for path in sorted(DOCS.rglob("*.md")):
        folders.setdefault(path.parent.name, []).append(str(path))
    print(f"broker   {app.conf.broker_url}")
    print(f"results  {app.backend.as_uri()}")
    print(
        f"input    {sum(map(len, folders.values()))} pages in {len(folders)} folders of {DOCS}\n", flush=True
    )
    began = time.monotonic()
    right = client.report(client.Pages(folders, scratch))
    print(
        f"\n{'all is as it should be' if right else 'something is WRONG'}, {time.monotonic() - began:.1f} s"
    )
    if not right:
        print((folder / "worker.log").read_text(errors="replace")[-3000:], file=sys.stderr)
    return right


if __name__ == "__main__":
    sys.exit(main())
