"""Every connection is reset, again and again."""

from __future__ import annotations

import threading

from tests.redis.faults.child import connected_to
from tests.redis.faults.load import Chords, Load
from tests.servers import until

LIMIT = 10


def test_cuts_twice_a_second_cost_nobody_a_result_or_a_body(server, proxy, connect):
    waiting, writing, chording = (connect(proxy, client_name=name) for name in ("wait", "write", "chord"))
    load, chords = Load(waiting, writing, impatience=(0, 0.3)), Chords(chording)
    for _ in range(20):
        threading.Event().wait(0.5)  # twice a second is the matter here
        assert proxy.cut_all()
    load.go_on(100)
    until(lambda: most_connections(server) <= LIMIT + 1, 10.0, "no more connections than the pools may have")
    load.finish(server)
    chords.finish()
    assert len(connected_to(proxy.port)) <= 3 * (LIMIT + 1)
    assert load.refused == load.kept == []
    assert chords.repeated == []


def most_connections(server):
    """Of the backend that has the most."""
    with server.client() as client:
        names = [each["name"] for each in client.client_list()]
    return max(names.count(name) for name in ("wait", "write", "chord"))
