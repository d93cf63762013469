"""Chords on a store that cannot count: the app's task `celery.chord_unlock` polls."""

from __future__ import annotations

from settled import chords
from settled.errors import ChordError, ConfigurationError
from settled.groups import GroupResult
from settled.record import FailurePolicy
from settled.states import FAILURE
from settled.testing.app import RecordingTask
from settled.testing.checks.expecting import raised
from settled.testing.checks.header import BODY
from settled.testing.contract import check
from settled.testing.store import Store


def _header(store: Store, size: int) -> GroupResult:
    return store.app.GroupResult("group", [store.app.AsyncResult(f"group-{place}") for place in range(size)])


@check("polling")
def the_poll_is_sent(store: Store) -> None:
    """`apply_chord` sends the header, then `celery.chord_unlock` with the body and the header's results."""
    task = store.app.tasks["celery.chord_unlock"]
    assert isinstance(task, RecordingTask)
    store.backend.apply_chord(lambda task_id: _header(store, 2), (), "group", BODY, countdown=3)
    ((args, kwargs, countdown),) = task.calls
    assert (args, countdown) == (("group", BODY), 3)
    assert kwargs["result"] == [(("group-0", None), None), (("group-1", None), None)]


@check("polling")
def without_the_task_it_says_so(store: Store) -> None:
    """An app without `celery.chord_unlock` gets a ConfigurationError, not a chord that never ends."""
    store.app.tasks.clear()
    error = raised(lambda: store.backend.apply_chord(lambda task_id: _header(store, 1), (), "group", BODY))
    assert isinstance(error, ConfigurationError)
    assert "celery.chord_unlock" in str(error)


@check("polling")
def a_poll_sends_when_all_are_ready(store: Store) -> None:
    """A poll sends the body with the results in header order when every member is ready, not before."""
    header = ["group-0", "group-1"]
    store.settle("group-1", value="one")
    assert not chords.unlock(store.backend, "group", header, BODY, FailurePolicy.ALL)
    store.settle("group-0", value="zero")
    assert chords.unlock(store.backend, "group", header, BODY, FailurePolicy.ALL)
    assert [(sent.task_id, sent.args) for sent in store.app.sent] == [("body", (["zero", "one"],))]


@check("polling")
def a_poll_fails_the_body(store: Store) -> None:
    """A poll fails the body with a ChordError that names the member which failed."""
    store.backend.mark_as_failure("group-0", ValueError("why"))
    assert store.state("group-0") == FAILURE
    assert chords.unlock(store.backend, "group", ["group-0"], BODY, FailurePolicy.ALL)
    error = raised(lambda: store.backend.wait_for("body", timeout=store.patience))
    assert isinstance(error, ChordError)
    assert "group-0" in str(error)


@check("polling")
def a_poll_does_not_send_again(store: Store) -> None:
    """A poll that finds the body's own record sends nothing more."""
    store.settle("group-0")
    store.backend.mark_as_started("body")
    assert chords.unlock(store.backend, "group", ["group-0"], BODY, FailurePolicy.ALL)
    assert store.app.sent == []
