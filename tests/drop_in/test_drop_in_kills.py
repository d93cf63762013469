"""A child of a worker is killed around the settle of a chord's part: nothing is lost, repeated or left hanging."""

from __future__ import annotations

import pytest

from tests.drop_in.doomed import Doomed
from tests.drop_in.faults import Fleet

ACKS = ["early", "late", "rejected"]
"""Tasks, by when their message is acknowledged."""

SENDING = ["before:send", "before:publish", "after:publish", "after:send"]


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def fleet(request, tmp_path_factory):
    with Fleet.of(request.param, tmp_path_factory.mktemp(request.param)) as fleet:
        fleet.start("one", concurrency=6)
        yield fleet


@pytest.fixture(scope="module")
def celerys(tmp_path_factory):
    """A fleet on Celery's own backend."""
    with Fleet.of("celery", tmp_path_factory.mktemp("celery")) as fleet:
        fleet.start("one", concurrency=6)
        yield fleet


def test_killed_once_the_last_part_is_settled_the_body_is_sent_by_another_and_runs_once(fleet):
    steps = [("after:settle", "part"), *((step, "body") for step in SENDING)]
    if not fleet.is_sqlite:
        steps.insert(0, ("after:ask", "part"))  # the reply of the store is not read
    # One at a time: a body that waits in the queue for longer than a lease may be sent a second time.
    chords = [Doomed(fleet, acks, *step).finish() for step in steps for acks in ACKS]
    for each in chords:
        each.has_run()


def test_killed_before_the_settle_the_part_is_lost_or_runs_again(fleet):
    early, late, rejected = [Doomed(fleet, acks, "before:settle").finish() for acks in ACKS]
    rejected.has_run(parts=3)
    early.has_failed()
    late.has_failed()


def test_killed_once_a_part_that_is_not_the_last_is_settled_nothing_is_missing(fleet):
    chords = [Doomed(fleet, acks, "after:settle") for acks in ACKS]
    for each in chords:
        each.end_last()
        assert fleet.barrier(each.body.parent.id) == (1, 2, False)
    for each in chords:
        each.end_first()
        each.has_run()


# -- the same on Celery's own backend ------------------------------------------------------------


def test_celerys_own_loses_the_chord_of_a_part_stored_and_not_counted(celerys):
    chords = [
        Doomed(celerys, acks, step).finish() for step in ("after:store", "before:count") for acks in ACKS
    ]
    for each in chords:
        each.seen_dead().hangs(counted=1)


def test_celerys_own_loses_the_chord_whose_last_part_is_counted_and_its_body_unsent(celerys):
    chords = [Doomed(celerys, acks, "before:publish", "body").finish() for acks in ACKS]
    for each in chords:
        each.seen_dead().hangs(counted=2)
