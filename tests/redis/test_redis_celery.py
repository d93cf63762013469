"""One store for Celery's own RedisBackend and ours: records, groups, waiting, and chords that both count."""

from __future__ import annotations

import itertools
import json
import threading

import pytest
from celery import _state
from celery.app.task import Context
from celery.backends.redis import CHORD_PART_RETURN_LUA
from celery.contrib.testing.worker import start_worker
from celery.exceptions import ChordError as CelerysChordError
from celery.signals import setup_logging

from settled import chords
from settled.errors import ChordError, TaskRevokedError
from settled.testing.app import Request
from settled.testing.threads import Running
from tests.servers import until

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Results are not stored in backend:RuntimeWarning"),
]

PATIENCE = 10.0
PUSHED = 3.0
"""Less than the safety poll: who is told within this time was pushed."""

CELERYS_CLAIM = 6
"""Seconds for which a worker of Celery claims a body: twice its result_chord_join_timeout."""

CELERYS_DONE = 300
"""Seconds for which Celery remembers that a body was sent."""

STATES = ("STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED")
FORMS = [
    *((name, packed) for name in ("json", "msgpack", "pickle") for packed in (None, "zlib")),
    *(("json", "bzip2"), ("msgpack", "lzma")),
]

VALUE = {"rows": [1, 2.5, "ü", None, True], "nested": {"deep": [[]]}}


def result_in(state):
    """What a task in this state has for a result."""
    if state in ("RETRY", "FAILURE"):
        return KeyError("missing", 3)
    return TaskRevokedError("terminated") if state == "REVOKED" else VALUE


def context(task_id, place=None, body=None, group="g"):
    """The request of a task as Celery's worker has it."""
    known = {
        "id": task_id,
        "task": "pkg.add",
        "args": [1],
        "kwargs": {"b": 2},
        "hostname": "w@h",
        "retries": 2,
    }
    sent = {"delivery_info": {"routing_key": "q"}, "parent_id": "parent"}
    chord = {} if place is None else {"group": group, "group_index": place, "chord": body}
    return Context({**known, **sent, **chord})


@pytest.fixture
def both(connect, celery):
    """Ours and Celery's backend, each with a serializer, Celery's with more settings."""

    def both(serializer="json", **conf):
        app = celery(result_serializer=serializer, **conf)
        accept = ["json", "msgpack", "pickle"]
        return connect(serializer=serializer, accept=accept), app.backend

    return both


# -- records -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("serializer", "packed"), FORMS)
@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_ours_reads_what_celery_wrote(both, serializer, packed, extended, state):
    ours, theirs = both(serializer, result_compression=packed, result_extended=extended)
    theirs.store_result("t", result_in(state), state, traceback="the trace", request=context("t"))
    assert ours.get_state("t") == state
    assert ours.get_traceback("t") == "the trace"
    meta = ours.get_task_meta("t")
    assert meta["parent_id"] == "parent"
    if extended:
        shown = [meta[name] for name in ("name", "args", "kwargs", "worker", "retries", "queue")]
        assert shown == ["pkg.add", [1], {"b": 2}, "w@h", 2, "q"]
    found = ours.get_result("t")
    if state in ("SUCCESS", "STARTED"):
        assert found == VALUE
    else:
        assert (type(found).__name__, found.args) == (type(result_in(state)).__name__, result_in(state).args)


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_celery_reads_what_ours_wrote(connect, celery, serializer, extended, state):
    ours = connect(serializer=serializer, conf={"result_extended": extended})
    theirs = celery(result_serializer=serializer, result_extended=extended).backend
    ours.store_result("t", result_in(state), state, traceback="the trace", request=context("t"))
    assert theirs.get_state("t") == state
    assert theirs.get_traceback("t") == "the trace"
    meta = theirs.get_task_meta("t")
    assert meta["parent_id"] == "parent"
    if extended:
        shown = [meta[name] for name in ("name", "args", "kwargs", "worker", "retries", "queue")]
        assert shown == ["pkg.add", [1], {"b": 2}, "w@h", 2, "q"]
    found = theirs.get_result("t")
    if state in ("SUCCESS", "STARTED"):
        assert found == VALUE
    else:
        assert (type(found).__name__, found.args) == (type(result_in(state)).__name__, result_in(state).args)


def test_children_are_the_same_to_both(both, celery):
    ours, theirs = both()
    request = context("theirs")
    request.children.append(theirs.app.AsyncResult("child"))
    theirs.store_result("theirs", 1, "SUCCESS", request=request)
    assert ours.get_children("theirs") == [[["child", None], None]]
    children = [ours.app.AsyncResult("child")]
    ours.store_result("ours", 1, "SUCCESS", request=Request("ours", children=children))
    assert [child.id for child in theirs.app.AsyncResult("ours").children] == ["child"]


def test_forgetting_by_either_is_forgetting(both):
    ours, theirs = both()
    theirs.store_result("t", 1, "SUCCESS")
    ours.forget("t")
    assert theirs.get_state("t") == "PENDING"
    ours.mark_as_done("t", 2)
    theirs.forget("t")
    assert ours.get_state("t") == "PENDING"


# -- groups ------------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_a_group_that_celery_saved_is_restored(both, serializer):
    ours, theirs = both(serializer)
    app = theirs.app
    app.GroupResult("g", [app.AsyncResult("a"), app.GroupResult("h", [app.AsyncResult("b")])]).save()
    group = ours.restore_group("g")
    assert group.id == "g"
    assert group.results[0].id == "a"
    assert [each.id for each in group.results[1].results] == ["b"]


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_a_group_that_ours_saved_is_restored_by_celery(both, serializer):
    ours, theirs = both(serializer)
    app = ours.app
    app.GroupResult("g", [app.AsyncResult("a"), app.GroupResult("h", [app.AsyncResult("b")])]).save()
    theirs.store_result("a", 1, "SUCCESS")
    ours.mark_as_done("b", 2)
    group = theirs.app.GroupResult.restore("g")
    assert group.results[0].id == "a"
    assert [each.id for each in group.results[1].results] == ["b"]
    assert group.get(timeout=PATIENCE, interval=0.01) == [1, [2]]


def test_a_group_that_either_deletes_is_gone(both):
    ours, theirs = both()
    ours.save_group("g", ours.app.GroupResult("g", [ours.app.AsyncResult("a")]))
    theirs.delete_group("g")
    assert ours.restore_group("g") is None
    theirs.app.GroupResult("h", [theirs.app.AsyncResult("a")]).save()
    ours.delete_group("h")
    assert theirs.restore_group("h") is None


# -- waiting -------------------------------------------------------------------------------------


def subscribed(raw, task_id="t"):
    channel = f"celery-task-meta-{task_id}".encode()
    until(lambda: channel in raw.pubsub_channels(), PATIENCE, f"the subscription of {task_id}")


@pytest.mark.parametrize(("serializer", "packed"), FORMS)
def test_a_waiter_of_ours_is_woken_by_celerys_write(both, raw, serializer, packed):
    ours, theirs = both(serializer, result_compression=packed)
    waiting = Running(lambda: ours.wait_for("t", timeout=PATIENCE))
    subscribed(raw)
    theirs.store_result("t", VALUE, "SUCCESS")
    assert waiting.result(PUSHED) == VALUE


def test_a_waiter_of_ours_sleeps_on_when_celery_writes_an_unready_state(both, raw):
    ours, theirs = both()
    waiting = Running(lambda: ours.wait_for("t", timeout=PATIENCE))
    subscribed(raw)
    for state in ("STARTED", "RETRY", "PROGRESS"):
        theirs.store_result("t", result_in(state), state)
    theirs.store_result("t", 42, "SUCCESS")
    assert waiting.result(PUSHED) == 42


def test_a_waiter_of_ours_is_told_of_celerys_failure(both, raw):
    ours, theirs = both()
    waiting = Running(lambda: ours.wait_for("t", timeout=PATIENCE, propagate=False))
    subscribed(raw)
    theirs.mark_as_failure("t", KeyError("missing"), traceback="the trace")
    assert repr(waiting.result(PUSHED)) == repr(KeyError("missing"))


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_celerys_get_is_woken_by_our_write(both, raw, serializer):
    ours, theirs = both(serializer)
    waiting = Running(lambda: theirs.app.AsyncResult("t").get(timeout=PATIENCE))
    subscribed(raw)
    ours.mark_as_done("t", VALUE)
    assert waiting.result(PUSHED) == VALUE


def test_celerys_get_raises_what_ours_stored(both, raw):
    ours, theirs = both()
    waiting = Running(lambda: theirs.app.AsyncResult("t").get(timeout=PATIENCE))
    subscribed(raw)
    ours.mark_as_failure("t", KeyError("missing", 3))
    with pytest.raises(KeyError) as raised:
        waiting.result(PUSHED)
    assert raised.value.args == ("missing", 3)


def test_a_group_of_both_is_waited_for_by_either(both):
    ours, theirs = both()
    ours.mark_as_done("a", 1)
    theirs.store_result("b", 2, "SUCCESS")
    for app in (ours.app, theirs.app):
        handle = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")])
        assert handle.get(timeout=PATIENCE) == [1, 2]


# -- the guard -------------------------------------------------------------------------------------


LATE = ("PENDING", "RECEIVED", "STARTED", "RETRY", "PROGRESS", "FAILURE", "REVOKED", "SUCCESS")


@pytest.mark.parametrize(("serializer", "packed"), FORMS)
@pytest.mark.parametrize("extended", [False, True])
def test_celerys_success_is_final_to_ours_in_any_form(both, raw, serializer, packed, extended):
    ours, theirs = both(serializer, result_compression=packed, result_extended=extended)
    theirs.store_result("t", VALUE, "SUCCESS", request=context("t"))
    stored = raw.get("celery-task-meta-t")
    for state in LATE:
        settled = ours.store_result("t", result_in(state), state, request=Request("t", retries=9))
        assert (settled.landed, settled.state) == (False, "SUCCESS"), state
        assert raw.get("celery-task-meta-t") == stored, state


@pytest.mark.parametrize(("serializer", "packed"), FORMS)
@pytest.mark.parametrize("ready", ["FAILURE", "REVOKED"])
def test_celerys_failure_gives_way_to_a_ready_state_alone(both, serializer, packed, ready):
    ours, theirs = both(serializer, result_compression=packed)
    for late in LATE:
        theirs.store_result(late, result_in(ready), ready)
        settled = ours.store_result(late, result_in(late), late)
        lands = late in ("FAILURE", "REVOKED", "SUCCESS")
        assert (settled.landed, settled.state) == (lands, late if lands else ready), late


@pytest.mark.parametrize(("serializer", "packed"), FORMS)
def test_celerys_unready_states_give_way_by_the_rule(both, serializer, packed):
    ours, theirs = both(serializer, result_compression=packed)
    theirs.store_result("t", VALUE, "STARTED")
    assert not ours.store_result("t", None, "RECEIVED")
    assert ours.mark_as_retry("t", KeyError("x"))
    theirs.store_result("t", VALUE, "PROGRESS")
    assert ours.mark_as_done("t", 1)


@pytest.mark.parametrize(("serializer", "packed"), FORMS)
def test_the_guard_holds_for_a_serializer_that_ours_does_not_accept(connect, celery, raw, serializer, packed):
    theirs = celery(result_serializer=serializer, result_compression=packed).backend
    theirs.store_result("t", VALUE, "SUCCESS")
    stored = raw.get("celery-task-meta-t")
    ours = connect(serializer="json", accept=["json"])
    for state in LATE:
        assert ours.store_result("t", result_in(state), state).state == "SUCCESS"
    assert raw.get("celery-task-meta-t") == stored


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_our_success_is_final_to_celery(both, raw, serializer):
    ours, theirs = both(serializer)
    ours.mark_as_done("t", VALUE)
    stored = raw.get("celery-task-meta-t")
    for state in LATE:
        theirs.store_result("t", result_in(state), state)
        assert raw.get("celery-task-meta-t") == stored, state


# -- chords that both count --------------------------------------------------------------------------

VALUES = ["first", "second", "third"]


class Fleet:
    """Workers of both kinds on one chord of three: its body is a real task, executed where it is sent."""

    def __init__(self, connect, celery, raw, **conf):
        self.app = celery(task_always_eager=True, **conf)
        self.raw = raw
        self.theirs = self.app.backend
        self.ours = connect(self.app, serializer=conf.get("result_serializer"))
        self.calls = []

        @self.app.task(name="tests.collect", bind=True, shared=False)
        def collect(task, results):
            self.calls.append((task.request.id, results))

        self.body = dict(collect.s().set(task_id="body"))

    def open(self, members=("a", "b", "c"), body=None, **how):
        self.ours.open_chord("g", members, body or self.body, **how)

    def by_ours(self, place, outcome=None):
        request = self.request(place)
        if isinstance(outcome, Exception):
            self.ours.mark_as_failure("abc"[place], outcome, request=request)
        else:
            self.ours.mark_as_done("abc"[place], VALUES[place], request=request)

    def by_theirs(self, place, outcome=None):
        request = self.request(place)
        if isinstance(outcome, Exception):
            self.theirs.mark_as_failure("abc"[place], outcome, request=request)
        else:
            self.theirs.mark_as_done("abc"[place], VALUES[place], request=request)

    def request(self, place):
        return context("abc"[place], place, self.body)

    def settle(self, place, by_ours, outcome=None):
        (self.by_ours if by_ours else self.by_theirs)(place, outcome)

    def repeat(self):
        """Every part again, late, by both; and a sweep."""
        for place in range(3):
            self.by_ours(place)
            self.by_theirs(place)
        self.ours.sweep()


@pytest.fixture
def fleet(connect, celery, raw):
    return lambda **conf: Fleet(connect, celery, raw, **conf)


ORDERS = list(itertools.permutations(range(3)))
SHARES = list(itertools.product([False, True], repeat=3))


def share_id(ours):
    return "".join("o" if each else "c" for each in ours)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_a_chord_that_both_count_is_dispatched_once(fleet, server, order, ours):
    fleet = fleet()
    fleet.open()
    for place in order:
        assert fleet.calls == []
        fleet.settle(place, ours[place])
    assert fleet.calls == [("body", VALUES)]
    fleet.repeat()
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    fleet.repeat()
    assert fleet.calls == [("body", VALUES)]


@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_a_done_chord_stays_done_when_celery_has_forgotten_it(fleet, server, ours):
    fleet = fleet()
    fleet.open()
    for place in range(3):
        fleet.settle(place, ours[place])
    for _ in range(2):
        server.clock.advance(chords.RECOUNT_INTERVAL + 1)
        fleet.ours.sweep()
    server.clock.advance(CELERYS_DONE)
    for _ in range(3):
        fleet.repeat()
        server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    assert fleet.calls == [("body", VALUES)]


@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_nothing_is_left_to_be_swept_of_a_done_chord(fleet, server, raw, ours):
    fleet = fleet()
    fleet.open()
    for place in range(3):
        fleet.settle(place, ours[place])
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    fleet.ours.sweep()
    left = {key.decode() for key in raw.keys("*") if b"task-meta" not in key}
    assert left == {"celery-taskset-meta-g.o", "celery-taskset-meta-g.c"}
    assert fleet.ours.chord_state("g").done


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_a_chord_with_a_failed_part_fails_once(fleet, server, order, ours):
    fleet = fleet()
    fleet.open()
    for place in order:
        fleet.settle(place, ours[place], KeyError("of b") if place == 1 else None)
    body = fleet.theirs.app.AsyncResult("body")
    assert body.state == "FAILURE"
    assert "b raised" in str(body.result)
    assert type(body.result) in (ChordError, CelerysChordError)
    stored = fleet.raw.get("celery-task-meta-body")
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    fleet.repeat()
    assert fleet.calls == []
    assert fleet.raw.get("celery-task-meta-body") == stored


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
@pytest.mark.parametrize("packed", [None, "zlib"])
@pytest.mark.parametrize("last_is_ours", [False, True])
def test_parts_in_any_form_are_counted_by_both(fleet, serializer, packed, last_is_ours):
    fleet = fleet(result_serializer=serializer, result_compression=packed)
    fleet.open()
    fleet.by_ours(0)
    fleet.by_theirs(1)
    fleet.settle(2, last_is_ours)
    assert fleet.calls == [("body", VALUES)]
    fleet.repeat()
    assert len(fleet.calls) == 1


@pytest.mark.parametrize("last_is_ours", [False, True])
def test_a_part_that_celery_counted_before_is_no_second_one(fleet, last_is_ours):
    fleet = fleet()
    fleet.open()
    for _ in range(3):
        fleet.by_theirs(0)
        fleet.by_ours(0)
    fleet.by_theirs(1)
    assert fleet.calls == []
    fleet.settle(2, last_is_ours)
    assert fleet.calls == [("body", VALUES)]


def test_members_that_were_settled_before_the_chord_was_opened_count(fleet, server):
    """Celery's last worker cannot see them: the recount sends the body."""
    fleet = fleet()
    fleet.ours.mark_as_done("a", VALUES[0])
    fleet.theirs.store_result("b", VALUES[1], "SUCCESS")
    fleet.open()
    fleet.by_theirs(2)
    assert fleet.calls == []
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == [("body", VALUES)]


def test_with_outcomes_wanted_the_last_one_of_ours_hands_them_over(fleet):
    fleet = fleet(task_serializer="pickle")
    fleet.open(on_failure="outcomes")
    fleet.by_theirs(0)
    fleet.by_theirs(1, KeyError("of b"))
    fleet.by_ours(2)
    [(task_id, outcomes)] = fleet.calls
    assert (task_id, [each.state for each in outcomes]) == ("body", ["SUCCESS", "FAILURE", "SUCCESS"])
    assert repr(outcomes[1].error) == repr(KeyError("of b"))


def test_outcomes_are_handed_over_when_celery_counted_the_last_part_too(fleet, server):
    """Celery would fail the body for the failed part: it is not told the size, and the recount sends."""
    fleet = fleet(task_serializer="pickle")
    fleet.open(on_failure="outcomes")
    fleet.by_ours(0)
    fleet.by_theirs(1, KeyError("of b"))
    fleet.by_theirs(2)
    assert fleet.theirs.get_state("body") == "PENDING"
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    assert fleet.ours.sweep() == 1
    [(task_id, outcomes)] = fleet.calls
    assert (task_id, [each.state for each in outcomes]) == ("body", ["SUCCESS", "FAILURE", "SUCCESS"])
    fleet.repeat()
    assert len(fleet.calls) == 1


def test_a_failed_part_that_celery_counted_fails_a_chord_of_the_first_failure(fleet, server):
    fleet = fleet()
    fleet.open(on_failure="first")
    fleet.by_theirs(1, KeyError("of b"))
    fleet.by_ours(0)
    assert fleet.ours.get_state("body") == "FAILURE"
    assert "b raised" in str(fleet.ours.get_result("body"))
    fleet.repeat()
    assert fleet.calls == []


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_parts_that_celery_keeps_in_a_list_are_counted_too(fleet, server, order, ours):
    """With result_chord_ordered=False Celery keeps no places, and sends parts as they came; ours in order."""
    fleet = fleet(result_backend_transport_options={"result_chord_ordered": False})
    fleet.open()
    for place in order:
        assert fleet.calls == []
        fleet.settle(place, ours[place])
    came = VALUES if ours[order[-1]] else [VALUES[place] for place in order]
    assert fleet.calls == [("body", came)]
    fleet.repeat()
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    fleet.repeat()
    assert len(fleet.calls) == 1


# -- workers that die ---------------------------------------------------------------------------


def counted_by_a_worker_that_dies(fleet, place, claim=CELERYS_CLAIM):
    """What Celery's worker does up to its script's answer; whether it was to send the body."""
    backend, task_id = fleet.theirs, "abc"[place]
    backend.store_result(task_id, VALUES[place], "SUCCESS")
    keys = [backend.get_key_for_group("g", suffix) for suffix in (".j", ".t", ".s", ".d", "", ".c")]
    value = backend.encode([1, task_id, "SUCCESS", VALUES[place]])
    args = [task_id, value, 1, place, 86400, 86400, claim, "the dead one's token"]
    return backend.client.register_script(CHORD_PART_RETURN_LUA)(keys=keys, args=args)[3] == 1


@pytest.mark.parametrize("before", list(itertools.product([False, True], repeat=2)), ids=share_id)
def test_the_sweep_sends_what_a_worker_of_celery_claimed_and_left(fleet, server, before):
    """Within the recount interval, and not before Celery's claim has expired."""
    fleet = fleet()
    fleet.open()
    for place in (0, 1):
        fleet.settle(place, before[place])
    assert counted_by_a_worker_that_dies(fleet, 2)
    fleet.ours.sweep()
    assert fleet.calls == []
    server.clock.advance(max(CELERYS_CLAIM, chords.RECOUNT_INTERVAL) + 1)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == [("body", VALUES)]
    fleet.repeat()
    assert len(fleet.calls) == 1


def test_the_sweep_respects_a_claim_of_celerys_that_is_alive(fleet, server):
    fleet = fleet()
    fleet.open()
    fleet.by_ours(0)
    fleet.by_theirs(1)
    server.clock.advance(chords.RECOUNT_INTERVAL - 1)
    assert counted_by_a_worker_that_dies(fleet, 2)
    server.clock.advance(CELERYS_CLAIM - 2)
    assert fleet.ours.sweep() == 0
    assert fleet.calls == []
    server.clock.advance(3)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == [("body", VALUES)]


def test_whoever_settles_late_finds_the_claim_of_a_dead_worker(fleet, server):
    """A part of ours, delivered again, sees at once what Celery's worker left."""
    fleet = fleet()
    fleet.open()
    fleet.by_ours(0)
    fleet.by_theirs(1)
    assert counted_by_a_worker_that_dies(fleet, 2)
    fleet.by_ours(0)
    assert fleet.calls == []
    server.clock.advance(CELERYS_CLAIM + 1)
    fleet.by_ours(0)
    assert fleet.calls == [("body", VALUES)]


def test_a_worker_of_celery_that_died_before_it_counted_is_recounted(fleet, server):
    fleet = fleet()
    fleet.open()
    fleet.by_ours(0)
    fleet.by_theirs(1)
    fleet.theirs.store_result("c", VALUES[2], "SUCCESS")
    assert fleet.ours.sweep() == 0
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == [("body", VALUES)]
    fleet.repeat()
    assert len(fleet.calls) == 1


def test_celery_sends_what_one_of_ours_claimed_and_left(fleet, server):
    """The part of a dead worker of ours is in Celery's keys: its redelivery to a worker of Celery sends."""
    fleet = fleet()
    fleet.open()
    fleet.by_theirs(0)
    fleet.by_theirs(1)
    write = fleet.ours._write("c", VALUES[2], "SUCCESS", None, fleet.request(2), None)
    assert fleet.ours.do_settle(write).claimed
    fleet.by_theirs(2)
    assert fleet.calls == []
    server.clock.advance(chords.CLAIM_LEASE + 1)
    fleet.by_theirs(2)
    assert fleet.calls == [("body", VALUES)]
    fleet.repeat()
    assert len(fleet.calls) == 1


# -- by way of a broker ------------------------------------------------------------------------------


@pytest.mark.parametrize("last_is_ours", [False, True])
def test_one_message_is_sent_to_the_broker(connect, celery, queued, last_is_ours):
    app = celery()
    ours = connect(app)
    body = dict(app.signature("tests.collect").set(task_id="body"))
    ours.open_chord("g", ["a", "b"], body)
    backends = [ours, app.backend]
    backends[last_is_ours].mark_as_done("a", 1, request=context("a", 0, body))
    backends[not last_is_ours].mark_as_done("b", 2, request=context("b", 1, body))
    assert [(headers["id"], payload[0]) for headers, payload in queued(app)] == [("body", [[1, 2]])]
    for backend, (place, task_id) in itertools.product(backends, enumerate("ab")):
        backend.mark_as_done(task_id, place + 1, request=context(task_id, place, body))
    ours.sweep()
    assert queued(app) == []


def twice(number):
    return 2 * number


def total(results):
    return sum(results)


@pytest.fixture
def process_untouched():
    """Else a worker of Celery sets up the logging of the whole process, and its app is the current one for good."""

    def leave_it(**_):
        pass

    default, current = _state.default_app, _state._tls.current_app
    setup_logging.connect(leave_it)
    yield
    setup_logging.disconnect(leave_it)
    _state.set_default_app(default)
    _state._set_current_app(current)


@pytest.mark.usefixtures("process_untouched")
def test_a_worker_of_celery_runs_headers_and_bodies_of_chords_of_ours(connect, celery):
    app = celery(broker_transport_options={"polling_interval": 0.01})
    double = app.task(twice, name="tests.twice", shared=False)
    collect = app.task(total, name="tests.total", shared=False)
    ours = connect(app)
    bodies = {}
    with start_worker(app, perform_ping_check=False, shutdown_timeout=PATIENCE):
        for by_ours in ((), (0,), (2,), (0, 1)):
            group = f"g{by_ours}"
            body = dict(collect.s().set(task_id=f"body of {group}"))
            members = [f"{each} of {group}" for each in "abc"]
            bodies[group] = ours.open_chord(group, members, body)
            for place, task_id in enumerate(members):
                if place in by_ours:
                    ours.mark_as_done(task_id, 2 * place, request=context(task_id, place, body, group))
                else:
                    double.apply_async(
                        (place,), task_id=task_id, group_id=group, group_index=place, chord=body
                    )
        assert [ours.wait_for(each, timeout=PATIENCE) for each in bodies.values()] == [6, 6, 6, 6]


def test_what_celery_published_is_what_is_stored(both, raw):
    ours, theirs = both()
    with raw.pubsub() as heard:
        heard.subscribe("celery-task-meta-a", "celery-task-meta-b")
        for _ in range(2):
            assert heard.get_message(timeout=PATIENCE)["type"] == "subscribe"
        theirs.store_result("a", 1, "SUCCESS")
        ours.mark_as_done("b", 1)
        messages = [json.loads(heard.get_message(timeout=PATIENCE)["data"]) for _ in range(2)]
    # Without a request Celery has no children to speak of.
    celerys, mine = (
        {name: each[name] for name in each if name not in ("date_done", "task_id", "children")}
        for each in messages
    )
    assert mine == celerys


def test_parts_delivered_at_once_by_workers_of_both_kinds_are_dispatched_once(fleet):
    for _ in range(5):
        one = fleet()
        one.raw.flushall()
        one.open()
        start = threading.Barrier(6)

        def deliver(place, by_ours, one=one, start=start):
            start.wait(PATIENCE)
            one.settle(place, by_ours)

        running = [
            Running(lambda place=place, by_ours=by_ours: deliver(place, by_ours))
            for place, by_ours in itertools.product(range(3), (False, True))
        ]
        for each in running:
            each.result(PATIENCE)
        assert one.calls == [("body", VALUES)]
