"""kill -9 at each step of a chord's last part: nothing is lost, and the body is one task."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import cast

from settled.backends.base import BaseBackend
from settled.chords import CLAIM_LEASE, RECOUNT_INTERVAL
from settled.testing.app import RecordingApp
from settled.testing.checks.header import BODY, part_request, standing
from settled.testing.contract import check
from settled.testing.faults import Faults, Hook
from settled.testing.processes import Job, die
from settled.testing.store import Store

HERE = __name__

SIZE = 3
HEADER = [f"group-{place}" for place in range(SIZE)]
SENT = ("body", [list(range(SIZE))])


def _settle_all(backend: BaseBackend, hook: str, when: str, event: int = 0) -> int:
    """Settle every header task; die at the last one's `hook`, where `when` says, or never.

    Returns how many events there were in the hook, for `when` "inside".
    """
    for place, task_id in enumerate(HEADER[:-1]):
        backend.mark_as_done(task_id, place, request=part_request(task_id, place))
    counted = _Countdown(event)
    if hook == "send":
        cast("RecordingApp", backend.app).before_send = lambda _: die()
    elif when != "never":
        Faults().wrap(backend, hook, _deadly(when, counted), 1)
    backend.mark_as_done(HEADER[-1], SIZE - 1, request=part_request(HEADER[-1], SIZE - 1))
    return counted.seen


class _Countdown:
    """A profiler that dies at the event number `at`, of calls and returns of Python and of C; 0 for never."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen = 0

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        self.seen += 1
        if self.seen == self.at:
            die()


def _deadly(when: str, countdown: _Countdown) -> Callable[[Hook, tuple[object, ...]], object]:
    def fault(call: Hook, args: tuple[object, ...]) -> object:
        if when == "before":
            die()
        sys.setprofile(countdown if when == "inside" else None)
        try:
            return call(*args)
        finally:
            sys.setprofile(None)
            if when == "after":
                die()

    return fault


def _crash(store: Store, hook: str, when: str, event: int = 0) -> bool:
    """Open the chord and have another process settle its header, and die; whether it did."""
    store.backend.open_chord("group", HEADER, BODY)
    (told,) = store.elsewhere(Job(f"{HERE}:_settle_all", {"hook": hook, "when": when, "event": event}))
    return told.killed


def _recovered(store: Store) -> list[tuple[str, object]]:
    """What live processes do after the crash: a redelivery of what was never settled, and a sweep elsewhere."""
    for place, task_id in enumerate(HEADER):
        if store.stored(task_id) is None:
            store.backend.mark_as_done(task_id, place, request=part_request(task_id, place))
    # An engine that counts after it stores needs one sweep to count, one to dispatch.
    for _ in range(3):
        store.advance(max(CLAIM_LEASE, RECOUNT_INTERVAL) + 1.0)
        store.elsewhere(Job("settled.testing.checks.sharing:_swept"))
    assert [store.value(task_id) for task_id in HEADER] == list(range(SIZE))
    assert standing(store).done, "the chord was never dispatched"
    assert list(store.backend.do_due_chords(10)) == []
    return store.app.journalled()


@check("crashes")
def before_the_settle(store: Store) -> None:
    """Killed before the last part is settled: its redelivery completes the chord."""
    assert _crash(store, "do_settle", "before")
    assert store.stored(HEADER[-1]) is None
    assert _recovered(store) == [SENT]


@check("crashes")
def inside_the_settle(store: Store) -> None:
    """Killed at any step within the settle: the record is there with its part, or neither is."""
    store.backend.open_chord("group", HEADER, BODY)
    job = Job(f"{HERE}:_settle_all", {"hook": "do_settle", "when": "inside", "event": 0})
    (told,) = store.elsewhere(job)
    events = cast("int", told.answer)
    assert events > 2
    _start_over(store)
    for event in sorted({1 + (events - 1) * step // 11 for step in range(12)}):
        assert _crash(store, "do_settle", "inside", event), f"event {event} of {events} was never reached"
        settled = store.stored(HEADER[-1]) is not None
        if store.capabilities.atomic:
            assert (standing(store).parts[-1] is not None) == settled, f"killed at event {event} of {events}"
        sent = _recovered(store)
        assert sent == [SENT], f"killed at event {event} of {events}: {sent}"
        _start_over(store)


def _start_over(store: Store) -> None:
    for task_id in (*HEADER, "body", "group"):
        store.backend.forget(task_id)
    store.journal.unlink(missing_ok=True)


@check("crashes")
def after_the_settle(store: Store) -> None:
    """Killed after the last part is settled and before its dispatch: a sweep sends the body."""
    assert _crash(store, "do_settle", "after")
    assert store.stored(HEADER[-1]) is not None
    assert store.app.journalled() == []
    assert _recovered(store) == [SENT]


@check("crashes")
def before_the_sending(store: Store) -> None:
    """Killed with the claim extended and the body unsent: a sweep sends the body when the lease is over."""
    assert _crash(store, "send", "before")
    store.backend.sweep()
    assert store.app.journalled() == [], "the claim of the dead is still alive"
    assert _recovered(store) == [SENT]


@check("crashes")
def after_the_claim(store: Store) -> None:
    """Killed as the claim is extended: a sweep sends the body when the lease is over."""
    assert _crash(store, "do_claim_chord", "after")
    assert _recovered(store) == [SENT]


@check("crashes")
def after_the_sending(store: Store) -> None:
    """Killed with the body sent and the marker not set: what is sent again is the same task."""
    assert _crash(store, "do_finish_chord", "before")
    assert store.app.journalled() == [SENT]
    sent = _recovered(store)
    assert sent
    assert all(each == SENT for each in sent)


@check("crashes")
def after_the_sending_of_a_body_that_ran(store: Store) -> None:
    """Killed with the body sent and already running: it is not sent again."""
    assert _crash(store, "do_finish_chord", "before")
    store.backend.mark_as_started("body")
    assert _recovered(store) == [SENT]


@check("crashes")
def after_the_end(store: Store) -> None:
    """Killed when the chord was done: nothing more is sent."""
    assert _crash(store, "do_finish_chord", "after")
    assert _recovered(store) == [SENT]


def _open_and_settle(backend: BaseBackend) -> None:
    for place, task_id in enumerate(HEADER):
        backend.mark_as_done(task_id, place, request=part_request(task_id, place))
    Faults().wrap(backend, "do_open_chord", _deadly("after", _Countdown(0)), 1)
    backend.open_chord("group", HEADER, BODY)


@check("crashes")
def after_the_opening(store: Store) -> None:
    """Killed after the opening of a chord that was complete already: a sweep sends the body."""
    (told,) = store.elsewhere(Job(f"{HERE}:_open_and_settle"))
    assert told.killed
    assert _recovered(store) == [SENT]
