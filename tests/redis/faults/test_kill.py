"""The server is killed, and started again with what it had on disk."""

from __future__ import annotations

from redis import exceptions

from tests.redis.faults.load import DURABLE, PATIENCE, Chords, Load
from tests.servers import Server, until

SLOW = {"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}
"""Loading takes half a millisecond for each key, and the server says meanwhile that it is loading."""


def test_a_killed_server_has_all_it_acknowledged_and_every_waiter_is_told(durable, connect):
    load = Load(connect(durable), connect(durable), impatience=(0, 0.2))
    for _ in range(3):
        load.go_on(200)
        durable.kill()
        durable.restart()
    load.go_on(200)
    load.finish(durable)
    assert load.refused == load.kept == []


def test_each_chord_sends_its_body_once_though_the_server_is_killed(durable, connect):
    chords = Chords(connect(durable))
    for _ in range(5):
        chords.go_on(20)
        durable.kill()
        durable.restart()
    chords.go_on(20)
    chords.finish()
    assert chords.repeated == []


def test_a_server_that_is_loading_its_data_is_waited_for(connect):
    with Server.start(options={**DURABLE, **SLOW}) as server:
        load, chords = Load(connect(server), connect(server), impatience=(0, 0.2)), Chords(connect(server))
        load.go_on(500)
        server.ask("BGREWRITEAOF")
        until(lambda: rewritten(server), PATIENCE, "a base file, which is loaded key by key")
        server.kill()
        server.launch()
        until(lambda: loading(server), PATIENCE, "the loading", despite=(exceptions.ConnectionError,))
        load.go_on(100)
        load.finish(server)
        chords.finish()
    assert load.refused == load.kept == []
    assert chords.repeated == []


def rewritten(server):
    found = server.ask("INFO", "persistence")
    return not found["aof_rewrite_in_progress"] and not found["aof_rewrite_scheduled"]


def loading(server):
    try:
        server.ask("GET", "key")
    except exceptions.BusyLoadingError:
        return True
    return False
