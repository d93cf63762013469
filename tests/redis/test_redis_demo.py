"""The main job on Redis, as `make demo BACKEND=redis://...` runs it: judged by what the server holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.servers import Server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server():
    with Server.start() as server:
        yield server


def ran(server):
    command = [sys.executable, "examples/demo.py", "--backend", server.url, "--only", "lib2to3/"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout + done.stderr


def records(server):
    """Path -> (state, the record's bytes) of every measurement."""
    found = {}
    with server.client() as client:
        for key in client.scan_iter("celery-task-meta-*"):
            payload = client.get(key)
            meta = json.loads(payload)
            if str(meta.get("name")).endswith(".measure"):
                found[meta["args"][0]] = (meta["status"], payload)
    return found


def test_the_main_job_runs_once_and_is_not_done_again(server):
    """The first run stores every file's result, the second one none: what is stored stays byte for byte."""
    first = ran(server)
    stored = records(server)
    assert len(stored) > 20
    counted = Counter(state for state, _ in stored.values())
    assert counted["FAILURE"] > 0, "some of these files do not parse"
    assert f"{counted['SUCCESS']} succeeded, {counted['FAILURE']} failed" in first
    second = ran(server)
    assert "(0 run" in second
    assert records(server) == stored


def test_what_is_stored_can_be_listed_shown_and_waited_for(server):
    """The other commands work on the same URL, and on a failure name it."""
    ran(server)

    def settled(*words):
        command = [sys.executable, "-m", "settled", *words, "--backend", server.url]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    listed = settled("ls", "--state", "FAILURE", "--json")
    failed = json.loads(listed.stdout.splitlines()[0])
    shown = settled("show", failed["task_id"][:12])
    assert "SyntaxError" in shown.stdout
    assert settled("wait", failed["task_id"], "--timeout", "5").returncode == 1
    assert settled("doctor").returncode == 0
    assert settled("cleanup").returncode == 0
    server.kill()
    away = settled("show", failed["task_id"])
    assert away.returncode == 2
    assert f"127.0.0.1:{server.port}" in away.stderr
