"""Results that expire while their chord is in flight."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery.exceptions import ChordError

from settled import chords
from tests.drop_in.doomed import Doomed
from tests.drop_in.dying import WORKER
from tests.drop_in.faults import PATIENCE, Fleet, ran
from tests.servers import until

RECOUNT = 0.5


@pytest.fixture(scope="module")
def celerys(tmp_path_factory):
    """A fleet on Celery's own backend."""
    with Fleet.of("celery", tmp_path_factory.mktemp("celery"), result_expires=1) as fleet:
        fleet.start("one")
        yield fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with Fleet.of("redis", tmp_path_factory.mktemp("redis"), result_expires=1) as fleet:
        fleet.start("one")
        yield fleet


def half_expired(fleet):
    """A chord whose first part has ended, and its result expired; then the second one ends."""
    path, gate = fleet.path("ran"), fleet.path("gate")
    parts = [fleet.sig("early", path, 1), fleet.sig("early", path, 2, gate)]
    body = fleet.chord(parts, fleet.sig("body", path))
    until(lambda: fleet.states(parts) == ["SUCCESS", "STARTED"], PATIENCE, "the first part")
    until(lambda: fleet.states(parts) == ["PENDING", "PENDING"], PATIENCE, "the end of its result")
    if fleet.is_celerys:
        until(lambda: fleet.barrier(body.parent.id) is None, PATIENCE, "the end of the chord's keys")
    Path(gate).touch()
    until(lambda: not fleet.messages(), PATIENCE, "the end of all messages")
    return body, path


def test_the_body_still_gets_the_value_of_a_part_that_has_expired(fleet):
    body, path = half_expired(fleet)
    assert body.get(timeout=PATIENCE) == [1, 2]
    fleet.ended(body)
    assert ran(path, "body") == 1


def test_celerys_own_forgets_the_chord(celerys):
    body, path = half_expired(celerys)
    assert celerys.barrier(body.parent.id) is None
    assert body.state == "PENDING"
    assert ran(path, "body") == 0


def test_a_part_that_was_lost_with_its_worker_fails_the_body_when_its_record_expires(tmp_path):
    """Its message was acknowledged before it ran: nobody will run it again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chords, "RECOUNT_INTERVAL", RECOUNT)
        tuning = {"settled.chords.RECOUNT_INTERVAL": RECOUNT}
        with Fleet.of("redis", tmp_path, tuning=tuning, result_expires=2) as fleet:
            fleet.start("doomed", queues="doomed", wait=False)
            fleet.start("one")
            doomed = Doomed(fleet, "early", "before:settle", what=WORKER, queue="doomed").finish()
            error = doomed.body.get(timeout=PATIENCE, propagate=False)
            assert isinstance(error, ChordError)
            assert doomed.ids[1] in str(error)
            fleet.ended(doomed.body)
            assert ran(doomed.path, "body") == 0
