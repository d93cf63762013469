"""The example of a Celery app, as `make celery-demo` runs it: judged by what the store holds, read without settled."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers import Server, until

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "celery_app"
COMMAND = [sys.executable, str(EXAMPLE / "run.py")]
STEPS = 9

PAGES = list((ROOT / "docs").rglob("*.md"))
FOLDERS = {page.parent for page in PAGES}

STATES = {
    # group, chord, nested chords, twice awaited; bodies, a chain, a retry, an await, parts of the failed chord
    "SUCCESS": 5 * len(PAGES) + len(FOLDERS) + 2 + 2 + 1 + 1 + 3,
    # the bad page alone, and in a chord, whose body fails
    "FAILURE": 3,
    "REVOKED": 1,
}

PATIENCE = 60.0


def ran(*options):
    return subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=PATIENCE)


def is_right(done, url):
    """It says so, of each step."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall("^ok ", done.stdout, re.MULTILINE)) == STEPS
    assert "all is as it should be" in done.stdout
    assert f"results  {url}\n" in done.stdout


def test_it_runs_on_redis():
    with Server.start("redis7") as server:
        url = f"settled+{server.url}"
        is_right(ran("--backend", url), url)
        with server.client() as store:
            keys = list(store.scan_iter("celery-task-meta-*"))
            records = [json.loads(record) for record in store.mget(keys)]
            assert Counter(record["status"] for record in records) == STATES
            failures = [record["result"] for record in records if record["status"] == "FAILURE"]
            assert Counter(each["exc_type"] for each in failures) == {"BadPage": 2, "ChordError": 1}
            assert [store.zcard(key) for key in ("settled-open", "settled-due")] == [0, 0]
            # Nothing but results: the messages were in the private server.
            assert not store.keys("*kombu*")


def test_it_runs_on_sqlite(tmp_path):
    url = f"settled+sqlite:///{tmp_path}/results.db"
    is_right(ran("--backend", url), url)
    with closing(sqlite3.connect(tmp_path / "results.db")) as store:
        assert dict(store.execute("SELECT state, count(*) FROM settled_task GROUP BY state")) == STATES
        kinds = store.execute(
            "SELECT json_extract(record, '$.result.exc_type') FROM settled_task WHERE state = 'FAILURE'"
        )
        assert Counter(kind for (kind,) in kinds) == {"BadPage": 2, "ChordError": 1}
        chords = store.execute("SELECT count(*), count(done) FROM settled_chord").fetchone()
        assert chords == (len(FOLDERS) + 3, len(FOLDERS) + 3)


def test_it_takes_what_it_started_along_when_it_is_ended():
    """Without a URL the broker keeps the results as well."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as running:
        said = [running.stdout.readline() for _ in range(5)]
        broker = said[0].split()[1]
        assert said[1].split()[1] == f"settled+{broker.removesuffix('/1')}/0"
        assert said[4].startswith("ok ")
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        assert len(children) == 2
        running.terminate()
        running.wait(PATIENCE)
    until(lambda: not any(Path("/proc", pid).exists() for pid in children), PATIENCE, "their end")
    with closing(socket.socket()) as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", int(re.search(r":(\d+)/", broker)[1])))


def test_it_ends_with_1_where_something_is_wrong():
    program = """
import sys, client
steps = {"true": lambda pages: "is", "false": lambda pages: client.expect(1, 2), "raises": lambda pages: 1 / 0}
sys.exit(not client.report(None, steps))
"""
    env = {**os.environ, "PYTHONPATH": str(EXAMPLE)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines == [
        "ok true is",
        "WRONG false Wrong: 1 came back, not 2",
        "WRONG raises ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize(
    ("path", "options", "way_out"),
    [("", (), "install it"), (os.environ["PATH"], ("--backend", "redis://host/0"), "settled+redis://host/0")],
    ids=["no server", "a URL of another backend"],
)
def test_it_says_what_is_missing(path, options, way_out):
    done = subprocess.run(
        [*COMMAND, *options],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert way_out in done.stderr
