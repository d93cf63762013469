"""Late and repeated writes in every order, driven step by step and compared with the contract's own words."""

from __future__ import annotations

import itertools
import json
import zlib

import pytest
from celery.backends.redis import RedisBackend as CelerysBackend

from settled.backends.redis import RedisBackend
from settled.codec import compression
from settled.testing.app import Request
from settled.testing.model import gives_way
from settled.testing.threads import Running
from tests.servers import until

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Results are not stored in backend:RuntimeWarning"),
]

PATIENCE = 10.0
KEY = "celery-task-meta-t"

LATE = ["STARTED", "RETRY", "PROGRESS", "FAILURE", "REVOKED"]


class Replay:
    """One task as the model has it: what each write is to answer, and what is to be stored after it."""

    def __init__(self):
        self.state, self.attempt, self.value = None, 0, None

    def write(self, state, attempt, value):
        lands = gives_way(self.state, self.attempt, state, attempt)
        if lands:
            self.state, self.attempt, self.value = state, attempt, value
        return lands

    @property
    def held(self):
        return self.state, self.value


def held(backend, task_id="t"):
    """State and value as they are stored."""
    meta = backend.get_task_meta(task_id, cache=False)
    return (None if meta["status"] == "PENDING" and not meta["result"] else meta["status"]), meta["result"]


def request(attempt, task_id="t"):
    return Request(task_id, retries=attempt)


def stored(backend, state, attempt, value, task_id="t"):
    return backend.store_result(task_id, value, state, request=request(attempt, task_id))


def merged(*sequences):
    """Every order of the steps in which those of each sequence keep theirs."""
    owners = [number for number, sequence in enumerate(sequences) for _ in sequence]
    for order in sorted(set(itertools.permutations(owners))):
        steps = [iter(sequence) for sequence in sequences]
        yield [next(steps[owner]) for owner in order]


# -- writers of ours ---------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
@pytest.mark.parametrize("index", [False, True])
def test_success_among_late_writes_of_any_attempt_in_every_order(connect, serializer, index):
    """SUCCESS of the second attempt, with what the first and the second may still have under way."""
    accept = ["json", "msgpack", "pickle"]
    backends = [connect(serializer=serializer, accept=accept, index=index) for _ in range(2)]
    writes = [("STARTED", 0), ("RETRY", 0), ("FAILURE", 0), ("STARTED", 1), ("SUCCESS", 1)]
    for number, order in enumerate(itertools.permutations(writes)):
        model, task_id = Replay(), f"t{number}"
        for place, (state, attempt) in enumerate(order):
            value = f"{state} {attempt}"
            lands = model.write(state, attempt, value)
            settled = stored(backends[place % 2], state, attempt, value, task_id)
            assert (settled.landed, settled.state) == (lands, model.state), order[: place + 1]
        assert held(backends[0], task_id) == model.held == ("SUCCESS", "SUCCESS 1"), order


@pytest.mark.parametrize("late", LATE)
def test_two_late_writes_of_any_attempt_and_a_success_in_every_order(connect, late):
    backends = connect(), connect()
    for other, first, second in itertools.product(LATE, (0, 1, 2), (0, 1, 2)):
        writes = [(late, first), (other, second), ("SUCCESS", 1)]
        for order in itertools.permutations(writes):
            backends[0].forget("t")
            model = Replay()
            for number, (state, attempt) in enumerate(order):
                lands = model.write(state, attempt, f"of {number}")
                settled = stored(backends[number % 2], state, attempt, f"of {number}")
                assert (settled.landed, settled.state) == (lands, model.state), order
            assert held(backends[0]) == model.held


def test_every_write_made_twice_because_its_reply_was_lost(connect):
    """The same bytes again, at any later time: nothing moves down, and a SUCCESS that landed says so again."""
    backend = connect()
    for late, attempt in itertools.product(LATE, (0, 1)):
        success = backend._write("t", "kept", "SUCCESS", None, request(1), None)
        other = backend._write("t", "late", late, None, request(attempt), None)
        for order in merged([success, success], [other, other]):
            backend.forget("t")
            model = Replay()
            for write in order:
                again = write is success and model.state == "SUCCESS"
                lands = model.write(write.state, write.attempt, write is success)
                assert backend.do_settle(write).landed == (lands or again), (late, attempt)
            assert held(backend) == ("SUCCESS", "kept")


def test_another_success_is_refused_however_often(connect):
    one, other = connect(), connect()
    assert stored(one, "SUCCESS", 0, "first")
    for attempt in (0, 1, 9):
        assert not stored(other, "SUCCESS", attempt, "second")
    assert held(other) == ("SUCCESS", "first")


# -- where the client is asked, between its two steps ---------------------------------------------


class Asked(RedisBackend):
    """Does something between having been asked what a record is and having answered."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.meanwhile = []

    def _peek(self, payload):
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return super()._peek(payload)


def packed(state, attempt=0, value="packed"):
    """A record that the server cannot read."""
    meta = {"status": state, "result": value, "attempt": attempt, "task_id": "t"}
    body = zlib.compress(json.dumps(meta).encode())
    return compression.MARKER + b"application/x-gzip\0" + body


@pytest.mark.parametrize("old", [*LATE, "SUCCESS"])
@pytest.mark.parametrize("new", [*LATE, "SUCCESS"])
def test_a_write_between_the_question_and_the_answer_is_seen(connect, raw, old, new):
    """However the record changed while the client looked at it: the rule holds for what is stored at the end."""
    asked, other = connect(kind=Asked), connect()
    for meanwhile, *attempts in itertools.product([None, *LATE, "SUCCESS"], (0, 1), (0, 1), (0, 1)):
        model = Replay()
        model.write(old, attempts[0], "packed")
        raw.set(KEY, packed(old, attempts[0]))

        def interfere(meanwhile=meanwhile, attempt=attempts[1], model=model):
            lands = model.write(meanwhile, attempt, "meanwhile")
            assert stored(other, meanwhile, attempt, "meanwhile").landed == lands

        asked.meanwhile = [interfere] if meanwhile else []
        settled = stored(asked, new, attempts[2], "late")
        lands = model.write(new, attempts[2], "late")
        assert (settled.landed, settled.state) == (lands, model.state), attempts
        assert asked.meanwhile == []
        assert held(other)[0] == model.state


def test_a_record_that_is_forgotten_while_the_client_looks_is_no_hindrance(connect, raw):
    asked = connect(kind=Asked)
    raw.set(KEY, packed("SUCCESS"))
    asked.meanwhile = [lambda: raw.delete(KEY)]
    assert stored(asked, "STARTED", 0, "anew")
    assert held(asked) == ("STARTED", "anew")


@pytest.mark.parametrize("last", [*LATE, "SUCCESS"])
def test_the_client_is_asked_again_as_often_as_the_record_changes(connect, raw, last):
    asked = connect(kind=Asked)
    raw.set(KEY, packed("STARTED"))
    records = [packed("RETRY"), packed("STARTED", value="again"), packed(last)]
    asked.meanwhile = [lambda record=record: raw.set(KEY, record) for record in records]
    settled = stored(asked, "FAILURE", 0, "late")
    lands = gives_way(last, 0, "FAILURE", 0)
    assert (settled.landed, settled.state) == (lands, "FAILURE" if lands else last)


# -- Celery's writer, which looks, then writes ------------------------------------------------------


class Stepwise(CelerysBackend):
    """Celery's own backend; what `between` does comes after its GET and before its SETEX and PUBLISH."""

    def between(self):
        pass

    def _get_task_meta_for(self, task_id):
        meta = super()._get_task_meta_for(task_id)
        self.between()
        return meta


@pytest.fixture
def stepwise(celery, server):
    backend = Stepwise(app=celery(), url=server.url)
    yield backend
    backend.client.close()
    backend.client.connection_pool.disconnect()


def value_of(state, value):
    return KeyError(value) if state in ("RETRY", "FAILURE", "REVOKED") else value


class Mixed(Replay):
    """The model with Celery's writers in it: what they see is SUCCESS, or they write whatever is there then."""

    def celery_looks(self):
        self.seen = self.state

    def celery_writes(self, state, value):
        if self.seen != "SUCCESS":
            self.state, self.attempt, self.value = state, 0, value


@pytest.mark.parametrize("theirs", ["STARTED", "RETRY", "FAILURE", "REVOKED", "SUCCESS"])
def test_celerys_two_steps_among_two_writes_of_ours_in_every_order(connect, stepwise, theirs):
    """What Celery writes after it has looked, nobody can refuse: it is ours alone that keep to the rule.

    A SUCCESS of ours that Celery saw stays. One that came between its look and its write gives way to
    what it writes, and stands again when it is delivered again.
    """
    backend = connect()
    every = itertools.product(
        itertools.product([*LATE, "SUCCESS"], repeat=2), merged(["look", "write"], [0, 1])
    )
    for ours, order in every:
        backend.forget("t")
        model = Mixed()

        def step(each, model=model, ours=ours):
            lands = model.write(ours[each], 0, each)
            assert stored(backend, ours[each], 0, value_of(ours[each], each)).landed == lands

        def look(model=model, order=order, step=step):
            model.celery_looks()
            for each in order[order.index("look") + 1 : order.index("write")]:
                step(each)

        stepwise.between = look
        for each in order[: order.index("look")]:
            step(each)
        stepwise.store_result("t", value_of(theirs, "celery's"), theirs)
        model.celery_writes(theirs, "celery's")
        assert backend.get_state("t") == model.state, order
        for each in order[order.index("write") + 1 :]:
            step(each)
        assert backend.get_state("t") == model.state, order
        again = stored(backend, "SUCCESS", 0, "again")
        assert again.state == "SUCCESS"
        assert again.landed == (model.state != "SUCCESS")


def test_a_success_that_celery_overwrites_was_told_to_who_waited(connect, stepwise, raw):
    waiting, writing = connect(), connect()
    waiter = Running(lambda: waiting.wait_for("t", timeout=PATIENCE))
    until(lambda: raw.pubsub_channels() == [KEY.encode()], PATIENCE, "the subscription")
    told = []

    def write():
        writing.mark_as_done("t", "ours")
        told.append(waiter.result(PATIENCE))

    stepwise.between = write
    stepwise.store_result("t", KeyError("late"), "RETRY")
    assert told == ["ours"]
    assert writing.get_state("t") == "RETRY"
    assert writing.mark_as_done("t", "ours")


def test_a_ready_record_between_celerys_look_and_its_own_is_told_as_it_is_at_last(connect, stepwise, raw):
    """Two notices for one task: a waiter is told a ready state that was stored, and none waits on."""
    for state in ("SUCCESS", "FAILURE"):
        waiting, writing = connect(), connect()
        waiting.forget("t")
        waiter = Running(lambda waiting=waiting: waiting.wait_for("t", timeout=PATIENCE, propagate=False))
        until(lambda: raw.pubsub_channels() == [KEY.encode()], PATIENCE, "the subscription")
        stepwise.between = lambda writing=writing: writing.mark_as_failure("t", KeyError("ours"))
        stepwise.store_result("t", "theirs" if state == "SUCCESS" else KeyError("theirs"), state)
        assert repr(waiter.result(PATIENCE)) in ("'theirs'", "KeyError('theirs')", "KeyError('ours')")
        waiting.close()
        until(lambda: raw.pubsub_channels() == [], PATIENCE, "the end of the subscription")


# -- chords: Celery stores and then counts ----------------------------------------------------------


STEPS = {
    "theirs": [("theirs", "store"), ("theirs", "count")],
    "ours": [("ours", "settle")],
    "both": [("theirs", "store"), ("theirs", "count"), ("ours", "settle")],
}


@pytest.mark.parametrize("first", ["theirs", "ours", "both"])
@pytest.mark.parametrize("second", ["theirs", "ours", "both"])
def test_a_chord_is_dispatched_once_in_every_order_of_the_steps_of_both(connect, celery, first, second):
    """Each part is settled by a worker of ours, by one of Celery's, or delivered to both."""
    app = celery(task_always_eager=True)
    calls = []

    @app.task(name="tests.collect", shared=False)
    def collect(results):
        calls.append(results)

    body = dict(collect.s().set(task_id="body"))
    backend = connect(app)
    streams = [
        [(task_id, who, what) for who, what in steps]
        for task_id, side in (("a", first), ("b", second))
        for steps in ([STEPS["theirs"], STEPS["ours"]] if side == "both" else [STEPS[side]])
    ]
    for number, order in enumerate(merged(*streams)):
        calls.clear()
        group = f"g{number}"
        members = [f"{each}{number}" for each in "ab"]
        backend.open_chord(group, members, body)
        for name, who, what in order:
            task_id = f"{name}{number}"
            of = Request(task_id, group=group, group_index="ab".index(name), chord=body)
            if who == "ours":
                backend.mark_as_done(task_id, name, request=of)
            elif what == "store":
                app.backend.store_result(task_id, name, "SUCCESS")
            else:
                app.backend.on_chord_part_return(as_context(of), "SUCCESS", name)
        assert calls == [["a", "b"]], order
        backend.sweep()
        assert calls == [["a", "b"]], order


def as_context(of):
    from celery.app.task import Context

    return Context({"id": of.id, "group": of.group, "group_index": of.group_index, "chord": of.chord})
