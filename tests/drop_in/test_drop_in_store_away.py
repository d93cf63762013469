"""The store goes away while chords are in flight: all complete, and what workers keep for it is not lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.drop_in.conftest import OURS
from tests.drop_in.faults import PATIENCE, Fleet, ran
from tests.servers import Proxy, Server, until

CHORDS, PARTS, CUTS = 12, 3, 6

TUNING = {
    "settled.backends.engine.Engine.retry_deadline": 1.0,  # in the workers: then writes are kept
    "settled.chords.CLAIM_LEASE": 5.0,  # no holder is taken for dead
}


@pytest.fixture(scope="module")
def store():
    """A store that has written what it has answered."""
    with Server.start("redis7", options={"appendonly": "yes", "appendfsync": "always"}) as store:
        yield store


@pytest.fixture(scope="module")
def proxy(store):
    with Proxy(store.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def broker():
    with Server.start("redis7") as broker:
        yield broker


@pytest.fixture(scope="module")
def fleet(broker, store, proxy, tmp_path_factory):
    backend = f"{OURS}{proxy.url}?socket_timeout=1"
    with Fleet(tmp_path_factory.mktemp("away"), broker, backend, store=store, tuning=TUNING) as fleet:
        fleet.start("one", concurrency=2, wait=False)
        fleet.start("two", concurrency=2)
        until(lambda: "one@test ready." in fleet.said(), PATIENCE, "the first worker")
        yield fleet


def send(fleet, count=CHORDS):
    """So many chords: their bodies' handles, and what their tasks note."""
    sent = []
    for _ in range(count):
        path = fleet.path("ran")
        parts = [fleet.sig("early", path, value) for value in range(PARTS)]
        sent.append((fleet.chord(parts, fleet.sig("body", path)), path))
    return sent


def all_have_run(fleet, sent):
    for body, path in sent:
        assert body.get(timeout=PATIENCE) == list(range(PARTS))
        fleet.ended(body)
        assert (ran(path, "part"), ran(path, "body")) == (PARTS, 1)


def test_the_store_is_killed_and_starts_again_from_its_file(fleet, store):
    sent = send(fleet)
    store.kill()
    until(lambda: "is kept until it is back" in fleet.said(), PATIENCE, "a write that is kept")
    store.restart()
    sent += send(fleet, 3)
    all_have_run(fleet, sent)


def test_the_store_stands_still_for_some_seconds(fleet, store):
    before = fleet.said().count("is kept until it is back")
    sent = send(fleet)
    store.pause()
    until(lambda: fleet.said().count("is kept until it is back") > before, PATIENCE, "a write that is kept")
    store.resume()
    sent += send(fleet, 3)
    all_have_run(fleet, sent)


def test_connections_are_cut_twice_a_second(fleet, proxy):
    over, cuts = threading.Event(), []

    def cut():
        while not over.wait(0.5):
            cuts.append(proxy.cut_all())

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        sent = []
        while len(cuts) < CUTS:
            sent += send(fleet, 3)
        all_have_run(fleet, sent)
    finally:
        over.set()
        cutting.join()


def test_a_settle_whose_answer_is_lost_is_made_again_and_counts_once(fleet, proxy):
    path, gate = fleet.path("ran"), fleet.path("gate")
    parts = [fleet.sig("early", path, 0), fleet.sig("early", path, 1, gate)]
    body = fleet.chord(parts, fleet.sig("body", path))
    until(lambda: fleet.states(parts) == ["SUCCESS", "STARTED"], PATIENCE, "the first part")
    lost = proxy.lose_next_reply(parts[1].options["task_id"].encode())
    Path(gate).touch()
    assert lost.wait(PATIENCE)
    assert body.get(timeout=PATIENCE) == [0, 1]
    fleet.ended(body)
    assert (ran(path, "part"), ran(path, "body")) == (2, 1)


@pytest.mark.parametrize("leaving", ["by itself", "by SIGTERM"])
def test_a_child_that_leaves_while_the_store_is_away_leaves_its_writes_to_the_doctor(fleet, store, leaving):
    name = leaving.replace(" ", "-")
    options = ("--max-tasks-per-child", "1") if leaving == "by itself" else ()
    worker = fleet.start(name, queues=name, options=options)
    path, gate = fleet.path("ran"), fleet.path("gate")
    parts = [fleet.sig("early", path, value, gate, queue=name) for value in range(2)]
    body = fleet.chord(parts, fleet.sig("body", path))
    until(
        lambda: all(f"accepted {part.options['task_id']}" in worker.said() for part in parts),
        PATIENCE,
        "the parts",
    )
    until(lambda: fleet.states(parts) == ["STARTED"] * 2, PATIENCE, "the parts")
    store.kill()
    Path(gate).touch()
    until(lambda: worker.said().count("is kept until it is back") == 2, PATIENCE, "two writes that are kept")
    if leaving == "by SIGTERM":
        worker.stop()
    until(lambda: worker.said().count("writes were not made before") == 2, PATIENCE, "the spools")
    store.restart()
    assert fleet.states(parts) == ["STARTED"] * 2
    assert fleet.barrier(body.parent.id) == (0, 2, False)
    drain(fleet)
    assert body.get(timeout=PATIENCE) == [0, 1]
    fleet.ended(body)
    assert (ran(path, "part"), ran(path, "body")) == (2, 1)


def drain(fleet):
    backend = fleet.conf["result_backend"].removeprefix(OURS)
    command = [sys.executable, "-m", "settled", "doctor", "--drain", "--backend", backend]
    run = subprocess.run(
        command,
        env={**os.environ, "SETTLED_SPOOL": str(fleet.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
