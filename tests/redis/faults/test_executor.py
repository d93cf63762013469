"""An executor whose store goes away while a call runs: its outcome is kept, and had when the store is back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import settled
from tests.redis.faults.load import PATIENCE
from tests.servers import Server, until


def test_a_call_that_ends_during_an_outage_has_its_result_after_it(tmp_path):
    """The worker keeps what the call returned; whoever holds the handle gets it."""
    began, go_on = threading.Event(), threading.Event()

    def work():
        began.set()
        assert go_on.wait(PATIENCE)
        return "done"

    with Server.start(options={"appendonly": "yes", "appendfsync": "always"}) as server:
        url = f"{server.url}?spool={tmp_path}"
        with settled.Executor(lambda: ThreadPoolExecutor(1), url) as executor:
            executor.backend.retry_deadline = 0.2
            handle = executor.submit(work, key="work")
            assert began.wait(PATIENCE)
            server.kill()
            go_on.set()
            until(lambda: executor.backend._outbox, PATIENCE, "a write that is kept")
            assert not handle.done()
            server.restart()
            assert handle.get(timeout=PATIENCE) == "done"
    assert list(tmp_path.glob("*.spool")) == []
