"""The server is stopped by SIGSTOP: connections stay open, new ones are accepted, and nothing answers."""

from __future__ import annotations

import threading

import pytest

from tests.redis.faults.load import Chords, Load


def paused(server, seconds):
    server.pause()
    threading.Event().wait(seconds)  # the length of the outage is the matter here
    server.resume()


def test_a_stop_of_five_seconds_costs_nobody_a_result_or_a_body(server, connect):
    load = Load(connect(server), connect(server), impatience=(0, 0.5, 2.0))
    chords = Chords(connect(server))
    load.go_on(200)
    paused(server, 5.0)
    load.go_on(200)
    chords.finish()
    load.finish(server)
    assert load.refused == load.kept == []
    assert chords.repeated == []


def test_a_stop_far_beyond_what_an_answer_may_take_costs_nobody_a_result_or_a_body(
    server, connect, monkeypatch
):
    monkeypatch.setattr("settled.chords.CLAIM_LEASE", 2.0)
    waiting, writing, chording = (connect(server, socket_timeout=0.3) for _ in range(3))
    writing.retry_deadline = chording.retry_deadline = 1.0
    load = Load(waiting, writing, impatience=(0, 0.5, 2.0))
    chords = Chords(chording)
    load.go_on(200)
    paused(server, 4.0)
    load.go_on(200)
    chords.finish()
    load.finish(server)
    assert load.kept


@pytest.mark.soak
def test_a_stop_of_twenty_five_seconds_costs_nobody_a_result_or_a_body(server, connect):
    load = Load(connect(server), connect(server), impatience=(0, 0.5, 5.0, 20.0))
    chords = Chords(connect(server))
    load.go_on(200)
    paused(server, 25.0)
    load.go_on(200)
    chords.finish()
    load.finish(server)
