"""Handles that nobody asks anything: they cost the server nothing, and say nothing at the end of the program."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = 20_000

DROPPED = """
import settled
app = settled.App({url!r})
for number in range({count}):
    app.AsyncResult(f"task-{{number}}")
"""

KEPT = """
import settled
app = settled.App({url!r})
handles = [app.AsyncResult(f"task-{{number}}") for number in range({count})]
group = app.GroupResult("group", handles)
"""

AFTER_USE = """
import settled
app = settled.App({url!r})
app.backend.mark_as_done("task", 1)
assert app.AsyncResult("task").get(timeout=30) == 1
handles = [app.AsyncResult(f"task-{{number}}") for number in range({count})]
"""

AFTER_WAITING = """
import settled
app = settled.App({url!r})
handles = [app.AsyncResult(f"task-{{number}}") for number in range({count})]
for handle in handles[:50]:
    try:
        handle.get(timeout=0.001)
    except settled.TimeoutError:
        pass
"""


def run(program, server):
    """Run it, which prints nothing; what the server was asked meanwhile, by command, and by how many connections."""
    with server.client() as client:
        client.config_resetstat()
        source = program.format(url=server.url, count=COUNT)
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=100)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        calls = {
            name.removeprefix("cmdstat_"): each["calls"] for name, each in client.info("commandstats").items()
        }
        return calls, client.info("stats")["total_connections_received"]


@pytest.mark.parametrize("program", [DROPPED, KEPT], ids=["dropped", "kept"])
def test_handles_that_are_asked_nothing_open_no_connection(server, program):
    calls, connections = run(program, server)
    assert set(calls) <= {"config|resetstat", "info"}
    assert connections == 0


def test_handles_beside_a_backend_in_use_subscribe_to_nothing(server):
    calls, connections = run(AFTER_USE, server)
    assert "subscribe" not in calls
    assert connections <= 2
    assert calls["evalsha"] == 1
    assert calls["get"] <= 2


def test_waits_that_were_given_up_leave_nothing_to_be_said(server):
    calls, connections = run(AFTER_WAITING, server)
    assert connections <= 4
    assert calls.get("subscribe", 0) <= 50
