"""A whole worker is killed around the settle of a chord's last part, and another takes over."""

from __future__ import annotations

import pytest

from tests.drop_in.doomed import Doomed
from tests.drop_in.dying import WORKER
from tests.drop_in.faults import PATIENCE, Fleet
from tests.servers import until

DEDUPLICATING = {"worker_deduplicate_successful_tasks": True}

PART, BODY = "part", "body"

DEATHS = [
    # when, about whom, acks, who takes over, how often the parts run
    ("before:settle", PART, "late", "other", 3),
    ("after:settle", PART, "early", "other", 2),
    ("after:ask", PART, "late", "other", 3),  # the answer of the store is not read
    ("after:settle", PART, "late", "sparing", 2),
    ("before:send", BODY, "late", "other", 3),
    ("before:publish", BODY, "late", "sparing", 2),
    ("after:send", BODY, "early", "other", 2),
]


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def fleet(request, tmp_path_factory):
    """Two workers that stay: one runs again what is delivered again, one does not if it has succeeded."""
    with Fleet.of(request.param, tmp_path_factory.mktemp(request.param)) as fleet:
        fleet.start("other", wait=False)
        fleet.start("sparing", settings=DEDUPLICATING, queues="spare")
        yield fleet


@pytest.fixture(scope="module")
def celerys(tmp_path_factory):
    """Such a fleet on Celery's own backend."""
    with Fleet.of("celery", tmp_path_factory.mktemp("celery")) as fleet:
        fleet.start("other", wait=False)
        fleet.start("sparing", settings=DEDUPLICATING, queues="spare")
        yield fleet


def die(fleet, deaths):
    """A chord and a worker for each of these, killed; what the worker had goes to the one that takes over."""
    names = [f"doomed-{number}" for number, _ in enumerate(deaths)]
    for name in names:
        fleet.start(name, queues=name, wait=False)
    chords = []
    for name, (step, about, acks, heir, _) in zip(names, deaths, strict=True):
        doomed = Doomed(fleet, acks, step, about, WORKER, queue=name).finish()
        until(lambda name=name: not fleet.worker(name).running, PATIENCE, f"the end of {name}")
        fleet.consume(name, heir)
        chords.append(doomed)
    fleet.redeliver()
    return chords


def test_whenever_a_worker_is_killed_another_takes_over_and_the_body_runs_once(fleet):
    deaths = DEATHS
    if fleet.is_sqlite:
        deaths = [death for death in DEATHS if death[0] in ("before:settle", "before:publish")]
    for doomed, death in zip(die(fleet, deaths), deaths, strict=True):
        doomed.has_run(parts=death[-1])


def test_a_worker_that_is_started_takes_over_when_the_message_is_visible_again(fleet):
    if fleet.is_sqlite:
        pytest.skip("the store has no part in it")
    fleet.start("alone", queues="alone", wait=False)
    doomed = Doomed(fleet, "late", "before:settle", what=WORKER, queue="alone").finish()
    until(lambda: not fleet.worker("alone").running, PATIENCE, "the end of the worker")
    fleet.start("heir", queues="alone", settings={"broker_transport_options": {"visibility_timeout": 1}})
    doomed.has_run(parts=3)


# -- the same on Celery's own backend ------------------------------------------------------------


def test_celerys_own_hangs_where_the_part_was_not_counted_or_the_body_is_claimed(celerys):
    deaths = [
        (
            "before:count",
            PART,
            "late",
            "sparing",
            1,
        ),  # what has succeeded does not run again, nor is it counted
        ("before:publish", BODY, "early", "other", 2),
        ("before:publish", BODY, "late", "other", 2),  # runs again, and finds the claim of the dead
    ]
    for doomed, death in zip(die(celerys, deaths), deaths, strict=True):
        doomed.hangs(counted=death[-1])
