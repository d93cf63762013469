"""The server is killed, and started again with what it had on disk."""

from __future__ import annotations

from tests.redis.faults.load import Chords, Load


def test_a_killed_server_has_all_it_acknowledged_and_every_waiter_is_told(durable, connect):
    load = Load(connect(durable), connect(durable), impatience=(0, 0.2))
    for _ in range(3):
        load.go_on(200)
        durable.kill()
        durable.restart()
    load.go_on(200)
    load.finish(durable)
    assert load.refused == []


def test_each_chord_sends_its_body_once_though_the_server_is_killed(durable, connect):
    chords = Chords(connect(durable))
    for _ in range(5):
        chords.go_on(20)
        durable.kill()
        durable.restart()
    chords.go_on(20)
    chords.finish()
    assert chords.repeated == []
