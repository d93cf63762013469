"""The broker is away when a chord's body is to be sent, or the body cannot be sent at all."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
from celery.exceptions import ChordError

from tests.drop_in.conftest import OURS
from tests.drop_in.faults import PATIENCE, Fleet, ran
from tests.servers import Server, until


@contextmanager
def fleet_on(kind, folder):
    """A fleet whose messages and results are on two servers."""
    with Server.start("redis7") as broker, Server.start("redis7") as store:
        backend = {
            "redis": OURS + store.url,
            "sqlite": f"{OURS}sqlite:///{folder}/results.db",
            "celery": store.url,
        }
        with Fleet(folder, broker, backend[kind], store=store) as fleet:
            fleet.start("one", concurrency=3)
            yield fleet


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def fleet(request, tmp_path_factory):
    with fleet_on(request.param, tmp_path_factory.mktemp(request.param)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def celerys(tmp_path_factory):
    """Such a fleet on Celery's own backend."""
    with fleet_on("celery", tmp_path_factory.mktemp("celery")) as fleet:
        yield fleet


def about_to_end(fleet):
    """A chord whose parts run and end when the gate opens: its body's handle, what it notes, and the gate."""
    path, gate = fleet.path("ran"), fleet.path("gate")
    parts = [fleet.sig("early", path, value, gate) for value in (1, 2)]
    body = fleet.chord(parts, fleet.sig("body", path))
    for part in parts:
        accepted = f"accepted {part.options['task_id']}"
        until(lambda accepted=accepted: accepted in fleet.said(), PATIENCE, accepted)
    until(lambda: ran(path, "part") == 2, PATIENCE, "the parts")
    return body, path, Path(gate)


def test_a_body_that_finds_no_broker_is_sent_when_it_is_back(fleet):
    body, path, gate = about_to_end(fleet)
    fleet.broker.kill()
    gate.touch()
    unsent = f"the body of chord {body.parent.id} could not be sent"
    until(lambda: unsent in fleet.said(), PATIENCE, "the first try")
    assert fleet.barrier(body.parent.id) == (2, 2, False)
    fleet.broker.restart()
    assert body.get(timeout=PATIENCE) == [1, 2]
    fleet.ended(body)
    assert ran(path, "body") == 1


def test_a_body_is_sent_by_a_broker_that_pauses_for_less_than_a_lease(fleet):
    body, path, gate = about_to_end(fleet)
    fleet.broker.pause()
    gate.touch()
    until(lambda: fleet.barrier(body.parent.id) == (2, 2, False), PATIENCE, "the last part")
    fleet.broker.resume()
    assert body.get(timeout=PATIENCE) == [1, 2]
    fleet.ended(body)
    assert ran(path, "body") == 1


def unsendable(fleet):
    path = fleet.path("ran")
    then = fleet.sig("body", path, serializer="unheard-of", link_error=[fleet.sig("errback", path)])
    body = fleet.chord([fleet.sig("early", path, value) for value in (1, 2)], then)
    error = body.get(timeout=PATIENCE, propagate=False)
    until(lambda: not fleet.messages(), PATIENCE, "the end of all messages")
    assert isinstance(error, ChordError)
    assert str(error).startswith("Callback error: SerializerNotInstalled(")
    assert (ran(path, "errback"), ran(path, "body"), ran(path, "part")) == (1, 0, 2)
    return body


def test_a_body_that_cannot_be_encoded_fails_and_its_errbacks_run(fleet):
    fleet.ended(unsendable(fleet))


# -- the same on Celery's own backend ------------------------------------------------------------


def test_celerys_own_has_a_body_fail_that_cannot_be_encoded(celerys):
    unsendable(celerys)


def test_celerys_own_has_a_body_fail_that_finds_no_broker(celerys):
    body, path, gate = about_to_end(celerys)
    celerys.broker.kill()
    gate.touch()
    until(lambda: body.state == "FAILURE", PATIENCE, "the end of the body")
    assert "Callback error: OperationalError(" in str(body.result)
    assert ran(path, "body") == 0
