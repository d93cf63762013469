"""Faults that take their time: a lease as it is by default, and deaths at any moment."""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import suppress

import pytest

from tests.drop_in.doomed import Doomed
from tests.drop_in.faults import Fleet, ran
from tests.servers import until

pytestmark = pytest.mark.soak

AS_IT_IS = {"settled.chords.CLAIM_LEASE": 10.0, "settled.chords.SWEEP_INTERVAL": 1.0}

CHORDS, PARTS = 200, 5
"""How many chords there are while children die."""

PAUSE = 0.2
"""Seconds between two deaths."""

MINUTES = 300.0


@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_a_body_is_taken_over_within_the_lease_of_default_settings(store, tmp_path):
    settings = {"broker_connection_timeout": 4, "task_publish_retry": True}
    with Fleet.of(store, tmp_path, tuning=AS_IT_IS, **settings) as fleet:
        fleet.start("one", concurrency=4)
        chords = [
            Doomed(fleet, "early", *step).finish()
            for step in (("after:settle", "part"), ("before:send", "body"))
        ]
        until(lambda: all(map(fleet.done, (each.body for each in chords))), 40.0, "two take-overs")
        for each in chords:
            each.has_run()


@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_all_chords_complete_though_children_die_at_any_moment(store, tmp_path):
    with Fleet.of(store, tmp_path) as fleet:
        fleet.start("one", "two", concurrency=4)
        dice, over = random.Random(store), threading.Event()
        killer = threading.Thread(target=kill_children, args=(fleet, dice, over))
        killer.start()
        try:
            sent = [send(fleet) for _ in range(CHORDS)]
            for body, path in sent:
                assert body.get(timeout=MINUTES) == list(range(PARTS))
                assert ran(path, "body") >= 1
        finally:
            over.set()
            killer.join()
        for body, _ in sent:
            fleet.ended(body)


def send(fleet):
    path = fleet.path("ran")
    parts = [fleet.sig("rejected", path, value) for value in range(PARTS)]
    return fleet.chord(parts, fleet.sig("rejected_body", path)), path


def kill_children(fleet, dice, over):
    while not over.wait(PAUSE):
        children = fleet.worker(dice.choice(["one", "two"])).children()
        if children:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(children), signal.SIGKILL)
