"""Under gevent, monkey-patched: each test is a program of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "what",
    """
    store_and_wait wait_for_others time_out_in_commands kill_waiters time_out_in_waits go_on_meanwhile
    """.split(),
)
def test_greenlets_wait_and_are_interrupted_like_threads(server, what):
    program = subprocess.run(
        [sys.executable, "-m", "tests.redis.faults.greenlets", what, server.url, str(server.pid)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (program.stdout, program.stderr, program.returncode) == ("well\n", "", 0)
