"""Chords that Celery's own backend has opened, continued by ours beside its workers: each body is sent once."""

from __future__ import annotations

import itertools
import logging
import threading

import pytest
from celery import chord as celerys_chord
from celery.app.task import Context
from celery.backends.redis import CHORD_PART_RETURN_LUA
from celery.result import denied_join_result

from settled import chords
from settled.errors import ChordError, SettledError, StoreError
from settled.testing.threads import Running

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Results are not stored in backend:RuntimeWarning"),
]

PATIENCE = 10.0
RECOUNT = chords.RECOUNT_INTERVAL + 1

CELERYS_CLAIM = 6
"""Seconds for which a worker of Celery claims a body: twice its result_chord_join_timeout."""

CELERYS_DONE = 300
"""Seconds for which Celery remembers that a body was sent."""

VALUES = ["first", "second", "third"]
ORDERS = list(itertools.permutations(range(3)))
SHARES = list(itertools.product([False, True], repeat=3))
FORMS = list(itertools.product(["json", "msgpack", "pickle"], [None, "zlib"], [True, False]))
BOTH = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "listed"])


def share_id(ours):
    return "".join("o" if each else "c" for each in ours)


def key(suffix, group="g"):
    return f"celery-taskset-meta-{group}{suffix}"


def in_order(ordered):
    return {"result_backend_transport_options": {"result_chord_ordered": ordered}}


def logged(caplog, *words):
    """Whether one message, of those that an operator sees, has all of these words."""
    seen = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return any(all(word in message for word in words) for message in seen)


class Fleet:
    """Workers of both kinds on chords of three that Celery has opened: their body is executed where it is sent.

    `number` tells one chord from another: its tasks are a0, b0, c0, its group is g0, its body body0. None: a, b, c.
    """

    def __init__(self, connect, celery, raw, ordered=True, index=False, ours=None, **conf):
        self.app = celery(task_always_eager=True, **in_order(ordered), **conf)
        self.raw = raw
        self.ordered = ordered
        self.theirs = self.app.backend
        options = {"index": True} if index else {}
        self.ours = connect(ours or self.app, serializer=conf.get("result_serializer"), **options)
        self.calls = []
        self.number = None
        self.adopts = True

        @self.app.task(name="tests.collect", bind=True, shared=False)
        def collect(task, results):
            self.calls.append((task.request.id, results))

        self.collect = collect

    def named(self, name):
        return name if self.number is None else f"{name}{self.number}"

    @property
    def group(self):
        return self.named("g")

    @property
    def body(self):
        return dict(self.collect.s().set(task_id=self.named("body")))

    def size(self, size=3, ours=False):
        if ours:
            self.ours.size_chord(self.group, size)
        else:
            self.theirs.set_chord_size(self.group, size)

    def adopt(self):
        self.ours.adopt_chord(self.group, self.body)

    def request(self, name, place):
        return Context(
            {"id": self.named(name), "group": self.group, "group_index": place, "chord": self.body}
        )

    def settle(self, place, ours, outcome=None, name=None):
        """One part, its header task called `name`: by ours, which has adopted the chord before, or by Celery's."""
        name = name or "abc"[place]
        value = VALUES[place] if outcome is None else outcome
        if ours and self.adopts:
            self.adopt()
        backend = self.ours if ours else self.theirs
        mark = backend.mark_as_failure if isinstance(value, Exception) else backend.mark_as_done
        mark(self.named(name), value, request=self.request(name, place))

    def write(self, place):
        """What ours writes for a part, not written yet."""
        request = self.request("abc"[place], place)
        return self.ours._write(self.named("abc"[place]), VALUES[place], "SUCCESS", None, request, None)

    def counted_by_a_worker_of_celerys_that_dies(self, place, claim=CELERYS_CLAIM):
        """What it does up to its script's answer; whether it was to send the body."""
        backend, task_id = self.theirs, self.named("abc"[place])
        backend.store_result(task_id, VALUES[place], "SUCCESS")
        keys = [
            backend.get_key_for_group(self.group, suffix) for suffix in (".j", ".t", ".s", ".d", "", ".c")
        ]
        value = backend.encode([1, task_id, "SUCCESS", VALUES[place]])
        args = [task_id, value, int(self.ordered), place, 86400, 86400, claim, "the dead one's token"]
        return backend.client.register_script(CHORD_PART_RETURN_LUA)(keys=keys, args=args)[3] == 1

    def expected(self, order=(0, 1, 2), ours=True):
        """The one call of the body: Celery keeps no places in a list, and sends parts as they came."""
        came = VALUES if ours or self.ordered else [VALUES[place] for place in order]
        return [(self.named("body"), came)]

    def repeat(self):
        """Every part again, late, by both; and a sweep."""
        for place in range(3):
            self.settle(place, True)
            self.settle(place, False)
        self.ours.sweep()


@pytest.fixture
def fleet(connect, celery, raw):
    return lambda **conf: Fleet(connect, celery, raw, **conf)


# -- who settles what, in every form and order -----------------------------------------------------


@pytest.mark.parametrize(("serializer", "packed", "ordered"), FORMS)
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_a_chord_that_celery_opened_is_dispatched_once(fleet, server, serializer, packed, ordered, ours):
    fleet = fleet(ordered=ordered, result_serializer=serializer, result_compression=packed)
    expected = []
    for fleet.number, (order, early) in enumerate(itertools.product(ORDERS, [False, True])):
        if early:
            fleet.size()
        for place in order[:2]:
            fleet.settle(place, ours[place])
            assert fleet.calls == expected
        if not early:
            fleet.size()
        fleet.settle(order[2], ours[order[2]])
        expected += fleet.expected(order, ours[order[2]])
        assert fleet.calls == expected
        fleet.repeat()
    server.clock.advance(RECOUNT)
    fleet.repeat()
    assert fleet.calls == expected


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_with_the_index_too(fleet, ours, order):
    fleet = fleet(index=True)
    fleet.size()
    for place in order:
        assert fleet.calls == []
        fleet.settle(place, ours[place])
    assert fleet.calls == fleet.expected()
    fleet.repeat()
    assert len(fleet.calls) == 1


@BOTH
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_nothing_is_left_of_a_done_chord_but_its_marks(fleet, raw, later, ours, ordered):
    fleet = fleet(ordered=ordered)
    fleet.size()
    for place in range(3):
        fleet.settle(place, ours[place])
    later(fleet.ours, RECOUNT)
    left = {each.decode() for each in raw.keys("*") if b"task-meta" not in each}
    assert left - {key(".o")} == {key(".c")}
    assert raw.get(key(".c")) == b"done"
    assert raw.ttl(key(".c")) >= CELERYS_DONE - RECOUNT - 2
    if any(ours):
        assert 0 < raw.ttl(key(".o")) <= chords.DONE_LIFE
        assert fleet.ours.chord_state("g").done


@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_a_done_chord_stays_done_when_celery_has_forgotten_it(fleet, server, later, ours):
    fleet = fleet()
    fleet.size()
    fleet.adopt()
    for place in range(3):
        fleet.settle(place, ours[place])
    later(fleet.ours, 2 * RECOUNT)
    server.clock.advance(CELERYS_DONE)
    for _ in range(3):
        fleet.repeat()
        server.clock.advance(RECOUNT)
    assert fleet.calls == fleet.expected()


@BOTH
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_a_failed_part_fails_the_body_once(fleet, raw, later, ours, ordered):
    fleet = fleet(ordered=ordered)
    fleet.size()
    for place in range(3):
        fleet.settle(place, ours[place], KeyError("of b") if place == 1 else None)
    body = fleet.theirs.app.AsyncResult("body")
    assert body.state == "FAILURE"
    assert "b raised" in str(body.result)
    stored = raw.get("celery-task-meta-body")
    fleet.repeat()
    later(fleet.ours, 3 * RECOUNT)
    assert fleet.calls == []
    assert raw.get("celery-task-meta-body") == stored
    later(fleet.ours, 3 * 86400)
    assert fleet.ours.get_state("body") == "PENDING"
    assert raw.keys("*") == []


def test_parts_delivered_at_once_by_workers_of_both_kinds_are_dispatched_once(fleet):
    fleet = fleet()
    for fleet.number in range(5):
        fleet.size()
        start = threading.Barrier(6)

        def deliver(place, ours, start=start):
            start.wait(PATIENCE)
            fleet.settle(place, ours)

        pairs = itertools.product(range(3), (False, True))
        for each in [Running(lambda place=p, ours=o: deliver(place, ours)) for p, o in pairs]:
            each.result(PATIENCE)
        assert fleet.calls == [(f"body{number}", VALUES) for number in range(fleet.number + 1)]


def merged(*sequences):
    """Every order of the steps in which those of each sequence keep theirs."""
    owners = [number for number, sequence in enumerate(sequences) for _ in sequence]
    for order in sorted(set(itertools.permutations(owners))):
        steps = [iter(sequence) for sequence in sequences]
        yield [next(steps[owner]) for owner in order]


def test_celerys_two_steps_among_ours_in_every_order(fleet):
    """Each of two parts is delivered to both; Celery stores the record, then counts; it says the size meanwhile."""
    fleet = fleet()
    streams = [
        [(0, "store"), (0, "count")],
        [(0, "ours")],
        [(1, "store"), (1, "count")],
        [(1, "ours"), (1, "ours")],
    ]
    for fleet.number, order in enumerate(merged(*streams)):
        fleet.calls.clear()
        fleet.size(2)
        for place, what in order:
            name = fleet.named("abc"[place])
            if what == "ours":
                fleet.settle(place, True)
            elif what == "store":
                fleet.theirs.store_result(name, VALUES[place], "SUCCESS")
            else:
                fleet.theirs.on_chord_part_return(
                    fleet.request("abc"[place], place), "SUCCESS", VALUES[place]
                )
        assert fleet.calls == [(fleet.named("body"), VALUES[:2])], order
        fleet.ours.sweep()
        assert len(fleet.calls) == 1, order


def test_a_chord_that_celerys_canvas_sends_goes_by_way_of_both(connect, celery, queued):
    """Its client applies it, a worker of ours settles what is not the other's, and one message is the body."""
    app = celery()
    ours = connect(app)
    header = [app.signature("tests.number", args=(number,), app=app) for number in range(4)]
    with denied_join_result():  # as in a worker: nothing is subscribed
        sent = celerys_chord(header, app=app)(app.signature("tests.total", app=app))
    messages = queued(app)
    assert len(messages) == 4
    for number, (headers, (args, _, embed)) in enumerate(messages):
        request = Context({**headers, "chord": embed["chord"]})
        if number % 2:
            ours.adopt_chord(request.group, request.chord)
        (ours if number % 2 else app.backend).mark_as_done(request.id, args[0], request=request)
    [(headers, (args, _, _))] = queued(app)
    assert (headers["id"], args) == (sent.id, [[0, 1, 2, 3]])
    ours.sweep()
    assert queued(app) == []


# -- the size, said by either side, at any time ------------------------------------------------------


@BOTH
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_said_last_of_all_by_ours_the_size_makes_the_body_due_at_once(fleet, ours, ordered):
    fleet = fleet(ordered=ordered)
    fleet.adopt()
    for place in range(3):
        fleet.settle(place, ours[place])
    assert fleet.ours.sweep() == 0
    fleet.size(ours=True)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == fleet.expected()
    fleet.repeat()
    assert len(fleet.calls) == 1


@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_said_last_of_all_by_celery_the_size_is_seen_by_the_recount(fleet, server, ours):
    fleet = fleet()
    fleet.adopt()
    for place in range(3):
        fleet.settle(place, ours[place])
    fleet.size()
    server.clock.advance(RECOUNT)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == fleet.expected()


@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_a_size_that_ours_says_counts_for_celery_as_its_own(fleet, raw, ours):
    fleet = fleet(result_chord_expires=500)
    for place in range(2):
        fleet.settle(place, ours[place])
    fleet.size(ours=True)
    assert raw.get(key(".s")) == b"3"
    assert 490 < raw.ttl(key(".s")) <= 500
    fleet.settle(2, ours[2])
    assert fleet.calls == fleet.expected()


def test_without_an_expiry_the_size_has_none(fleet, raw):
    fleet = fleet(result_chord_expires=0)
    fleet.size(ours=True)
    assert raw.ttl(key(".s")) == -1


@pytest.mark.parametrize("by_ours", [False, True])
def test_the_size_of_a_chord_of_ours_is_that_of_its_members(fleet, by_ours):
    """What ours is told of it is nothing new; what Celery's client says is the same."""
    fleet = fleet()
    fleet.ours.open_chord("g", ["a", "b", "c"], fleet.body)
    fleet.settle(0, True)
    fleet.size(3, ours=by_ours)
    assert fleet.ours.chord_state("g").parts == ("SUCCESS", None, None)
    fleet.settle(1, False)
    fleet.settle(2, True)
    assert fleet.calls == fleet.expected()
    fleet.size(3, ours=True)
    fleet.repeat()
    assert len(fleet.calls) == 1


def test_a_wrong_size_that_ours_is_told_of_a_chord_of_ours_is_nothing(fleet, raw):
    fleet = fleet()
    fleet.ours.open_chord("g", ["a", "b", "c"], fleet.body)
    fleet.size(1, ours=True)
    assert raw.get(key(".s")) == b"3"
    fleet.settle(0, True)
    fleet.settle(1, False)
    assert fleet.calls == []


@pytest.mark.parametrize("by_ours", [False, True])
@pytest.mark.parametrize("adopted_again", [False, True])
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_a_frozen_chord_that_is_applied_again_runs_again(fleet, later, ours, by_ours, adopted_again):
    """Saying its size begins a new run, also where ours knows the chord as done; it adopts each once a process."""
    fleet = fleet()
    fleet.adopt()
    for run in (1, 2, 3):
        fleet.adopts = adopted_again
        fleet.size(ours=by_ours)
        for place in range(3):
            fleet.settle(place, ours[place])
        assert fleet.calls == run * fleet.expected()
        fleet.repeat()
        later(fleet.ours, RECOUNT)
        assert fleet.calls == run * fleet.expected()


def test_a_chord_of_ours_that_celery_applies_again_is_celerys_from_then_on(fleet):
    fleet = fleet()
    fleet.ours.open_chord("g", ["a", "b", "c"], fleet.body)
    for place in range(3):
        fleet.settle(place, True)
    fleet.size()
    for place in range(3):
        fleet.settle(place, True)
    assert fleet.calls == 2 * fleet.expected()


def test_a_chord_of_celerys_that_ours_opens_is_ours_from_then_on(fleet):
    """A frozen one applied again, by a client that knows its members; what is settled counts."""
    fleet = fleet()
    fleet.settle(0, True)
    fleet.ours.open_chord("g", ["a", "b", "c"], fleet.body)
    assert fleet.ours.chord_state("g").parts == ("SUCCESS", None, None)
    fleet.settle(1, False)
    fleet.settle(2, True)
    assert fleet.calls == fleet.expected()
    fleet.repeat()
    assert len(fleet.calls) == 1


def test_saying_the_size_leaves_a_claim_alone(fleet, raw):
    """Somebody is just sending the body."""
    fleet = fleet()
    fleet.size()
    raw.set(key(".c"), "a token", px=10_000)
    fleet.size(ours=True)
    assert raw.get(key(".c")) == b"a token"


# -- growth ------------------------------------------------------------------------------------------


def grow(fleet, ours, name="x"):
    """A header task adds another to its chord."""
    if ours:
        return fleet.ours.grow_chord(fleet.group, [fleet.named(name)])
    fleet.theirs.add_to_chord(fleet.group, fleet.theirs.app.AsyncResult(fleet.named(name)))
    return None


@BOTH
@pytest.mark.parametrize("grown_by_ours", [False, True])
@pytest.mark.parametrize("ours", list(itertools.product([False, True], repeat=4)), ids=share_id)
@pytest.mark.parametrize("opened_by_ours", [False, True])
def test_a_header_that_grows_is_waited_for(fleet, server, ordered, grown_by_ours, ours, opened_by_ours):
    """As Celery sends it, the added task has the place of the one that adds it."""
    fleet = fleet(ordered=ordered)
    steps = [(0, "a"), (1, "b"), (2, "c"), (1, "x")]
    for fleet.number, order in enumerate(itertools.permutations(range(4))):
        if order.index(3) < order.index(1):
            continue  # it is added by b, before that is settled
        fleet.calls.clear()
        if opened_by_ours:
            fleet.ours.open_chord(fleet.group, [fleet.named(each) for each in "abc"], fleet.body)
        else:
            fleet.size()
        for step in order:
            assert fleet.calls == []
            place, name = steps[step]
            if name == "b":
                fleet.adopt()
                grow(fleet, grown_by_ours)
            fleet.settle(place, ours[step], name if name == "x" else None, name=name)
        [(task_id, results)] = fleet.calls
        assert (task_id, sorted(results)) == (fleet.named("body"), ["first", "second", "third", "x"]), order
        for step in order:
            place, name = steps[step]
            for by_ours in (False, True):
                fleet.settle(place, by_ours, name if name == "x" else None, name=name)
        assert len(fleet.calls) == 1, order
    server.clock.advance(RECOUNT)
    fleet.ours.sweep()
    assert len(fleet.calls) == 1


def test_growth_by_celery_shows_in_the_state_of_a_chord_of_ours(fleet):
    fleet = fleet()
    fleet.ours.open_chord("g", ["a", "b"], fleet.body)
    grow(fleet, False)
    grow(fleet, True, "y")
    state = fleet.ours.chord_state("g")
    assert (len(state.parts), state.chord.members[:3]) == (4, ("a", "b", "y"))
    assert not state.complete
    fleet.settle(0, True)
    fleet.settle(1, True)
    fleet.settle(0, True, "of x", name="x")
    assert fleet.ours.chord_state("g").parts == ("SUCCESS", "SUCCESS", None, "SUCCESS")
    fleet.settle(0, False, "of y", name="y")
    assert len(fleet.calls) == 1
    assert sorted(fleet.calls[0][1]) == ["first", "of x", "of y", "second"]


def test_growth_outlives_the_expiry_of_celerys_counter(fleet, raw, server):
    """Seen once, by a recount, it is ours to remember."""
    fleet = fleet()
    fleet.ours.open_chord("g", ["a", "b"], fleet.body)
    grow(fleet, False)
    server.clock.advance(RECOUNT)
    fleet.ours.sweep()
    raw.delete(key(".t"))
    server.clock.advance(RECOUNT)
    fleet.ours.sweep()
    fleet.settle(0, True)
    fleet.settle(1, True)
    assert fleet.calls == []
    grow(fleet, False, "y")
    fleet.settle(0, True, "of x", name="x")
    assert fleet.calls == []
    fleet.settle(0, True, "of y", name="y")
    assert fleet.calls == [("body", ["first", "second", "of x", "of y"])]


@pytest.mark.parametrize("first_is_ours", [False, True])
def test_a_part_of_the_added_task_is_the_same_to_both(fleet, raw, first_is_ours):
    """Celery gives it the place of the one that adds it: delivered to both it counts once for either."""
    fleet = fleet()
    fleet.ours.open_chord("g", ["a", "b"], fleet.body)
    grow(fleet, True)
    for ours in (first_is_ours, not first_is_ours):
        fleet.settle(0, ours, "of x", name="x")
    assert raw.smembers(key(".d")) == {b"x:0"}
    fleet.settle(0, False)
    assert fleet.calls == []
    fleet.settle(1, False)
    assert [(task_id, sorted(results)) for task_id, results in fleet.calls] == [
        ("body", ["first", "of x", "second"])
    ]


def test_growth_by_a_counter_that_has_begun_anew_is_growth(fleet, raw, server):
    fleet = fleet()
    fleet.ours.open_chord("g", ["a"], fleet.body)
    grow(fleet, False)
    grow(fleet, False, "y")
    server.clock.advance(RECOUNT)
    fleet.ours.sweep()
    raw.delete(key(".t"))
    grow(fleet, False, "z")
    assert len(fleet.ours.chord_state("g").parts) == 4


def test_a_part_of_a_stranger_is_none_where_nothing_has_grown(fleet):
    fleet = fleet()
    fleet.ours.open_chord("g", ["a", "b"], fleet.body)
    fleet.settle(0, True, "stranger", name="x")
    fleet.settle(1, True)
    assert fleet.ours.chord_state("g").parts == (None, "SUCCESS")


def test_growing_again_with_the_same_tasks_changes_nothing(fleet, raw):
    fleet = fleet()
    fleet.adopt()
    assert [grow(fleet, True), grow(fleet, True)] == [1, 1]
    fleet.size()
    assert grow(fleet, True, "y") == 5
    assert raw.get(key(".t")) == b"2"


def test_a_complete_chord_of_celerys_cannot_grow(fleet):
    fleet = fleet()
    fleet.size()
    for place in range(3):
        fleet.settle(place, True)
    with pytest.raises(ChordError, match="cannot grow"):
        grow(fleet, True)


# -- deliveries and attempts ----------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("last_is_ours", [False, True])
def test_a_part_that_is_delivered_again_and_again_counts_once(fleet, raw, ordered, last_is_ours):
    fleet = fleet(ordered=ordered)
    for _ in range(3):
        for place in (0, 1):
            fleet.settle(place, True)
            fleet.settle(place, False)
    fleet.size()
    assert raw.scard(key(".d")) == (raw.zcard if ordered else raw.llen)(key(".j")) == 2
    assert fleet.calls == []
    fleet.settle(2, last_is_ours)
    assert fleet.calls == fleet.expected()


@BOTH
@pytest.mark.parametrize("packed", [None, "zlib"])
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
@pytest.mark.parametrize("opened_by_ours", [False, True])
def test_a_success_takes_the_place_of_a_failure(fleet, raw, ordered, packed, ours, opened_by_ours):
    """Of the first attempt, counted by either side, while the chord is open: ours sees to it."""
    fleet = fleet(ordered=ordered, result_compression=packed)
    if opened_by_ours:
        fleet.ours.open_chord("g", ["a", "b", "c"], fleet.body)
    fleet.size()
    fleet.settle(0, ours[0])
    fleet.settle(1, ours[1], KeyError("of the first attempt"))
    fleet.settle(1, True)
    elements = raw.zrange(key(".j"), 0, -1) if ordered else raw.lrange(key(".j"), 0, -1)
    assert sorted(fleet.theirs.decode(each)[1:3] for each in elements) == [["a", "SUCCESS"], ["b", "SUCCESS"]]
    fleet.settle(2, ours[2])
    assert fleet.calls == fleet.expected()
    fleet.repeat()
    assert len(fleet.calls) == 1


@BOTH
def test_of_two_that_replace_one_part_one_does(fleet, raw, ordered):
    """Both have read the failure before either took its place."""
    fleet = fleet(ordered=ordered)
    fleet.size()
    fleet.settle(0, False, KeyError("of the first attempt"))
    [old] = raw.zrange(key(".j"), 0, -1) if ordered else raw.lrange(key(".j"), 0, -1)
    fleet.adopt()
    for value in ("one", "other"):
        part = ("a", "0", fleet.ours.encode([1, "a", "SUCCESS", value]), "SUCCESS")
        fleet.ours._parts._keep("g", part, old, None)
    assert fleet.ours.do_read_parts("g")["a"]["result"] == "one"
    assert (raw.zcard if ordered else raw.llen)(key(".j")) == 1


def test_a_success_among_parts_of_one_place_replaces_its_own_failure(fleet, raw):
    """Celery gives an added task the place of the one that adds it."""
    fleet = fleet()
    fleet.adopt()
    grow(fleet, False)
    fleet.size(1)
    fleet.settle(0, False, KeyError("of a"))
    fleet.settle(0, True, "of a", name="a")
    fleet.settle(0, False, KeyError("of x"), name="x")
    assert fleet.theirs.get_state("body") == "FAILURE"
    fleet.number = 1
    fleet.adopt()
    grow(fleet, False)
    grow(fleet, False, "y")
    fleet.size(1)
    for name in "axy":
        outcome = KeyError(f"of {name}") if name == "x" else name
        if name == "y":
            fleet.settle(0, True, "x", name="x")
        fleet.settle(0, False, outcome, name=name)
    [(task_id, results)] = fleet.calls
    assert (task_id, sorted(results)) == ("body1", ["a", "x", "y"])


@pytest.mark.parametrize("late", [KeyError("late"), "late"], ids=["failure", "success"])
@pytest.mark.parametrize("first_is_ours", [False, True])
def test_a_success_stays_what_the_body_gets(fleet, first_is_ours, late):
    fleet = fleet()
    fleet.size()
    fleet.settle(0, first_is_ours)
    fleet.settle(0, True, late)
    fleet.settle(1, True)
    fleet.settle(2, False)
    assert fleet.calls == fleet.expected()


@BOTH
def test_a_repeated_write_whose_answer_was_lost_counts_once(fleet, raw, ordered):
    fleet = fleet(ordered=ordered)
    fleet.size()
    fleet.adopt()
    write = fleet.write(0)
    for _ in range(3):
        assert fleet.ours.do_settle(write).landed
    assert raw.scard(key(".d")) == (raw.zcard if ordered else raw.llen)(key(".j")) == 1
    last = fleet.write(2)
    fleet.settle(1, False)
    assert fleet.ours.do_settle(last).claimed
    assert fleet.ours.do_settle(last).claimed


@BOTH
def test_a_part_that_celery_stored_and_did_not_count_is_counted_as_it_was_stored(fleet, ordered):
    """Its worker died between the two; the redelivery to ours does not land, and counts all the same."""
    fleet = fleet(ordered=ordered)
    fleet.size()
    fleet.theirs.store_result("a", VALUES[0], "SUCCESS")
    fleet.settle(0, True, "of the second run")
    fleet.settle(1, True)
    assert fleet.ours.chord_state("g").parts == ("SUCCESS", "SUCCESS", None)
    fleet.settle(2, False)
    assert fleet.calls == fleet.expected()


def test_a_late_failure_does_not_count_what_was_stored_as_one(fleet):
    fleet = fleet()
    fleet.size()
    fleet.theirs.store_result("a", VALUES[0], "SUCCESS")
    fleet.settle(0, True, KeyError("late"))
    fleet.settle(1, False)
    fleet.settle(2, False)
    assert fleet.calls == fleet.expected()


@BOTH
@pytest.mark.parametrize("ours", SHARES, ids=share_id)
def test_counting_by_the_record_alone_counts_once(fleet, ordered, ours):
    """`on_chord_part_return` knows no places: what Celery has counted it finds."""
    fleet = fleet(ordered=ordered)
    fleet.size()
    fleet.adopt()
    for place, name in enumerate("abc"):
        assert fleet.calls == []
        if ours[place]:
            fleet.ours.mark_as_done(name, VALUES[place])
        else:
            fleet.settle(place, False)
        fleet.ours.on_chord_part_return(Context({"task": "t"}))
        fleet.ours.on_chord_part_return({"id": name, "group": "g"})
    assert [(task_id, sorted(results)) for task_id, results in fleet.calls] == fleet.expected()


def test_counting_by_a_record_that_is_not_ready_counts_nothing(fleet, raw):
    fleet = fleet()
    fleet.size(2)
    fleet.adopt()
    fleet.ours.mark_as_started("a")
    for task_id in ("a", "unknown"):
        fleet.ours.on_chord_part_return({"id": task_id, "group": "g"})
    assert raw.exists(key(".d"), key(".j")) == 0


def test_a_record_that_cannot_be_read_counts_as_failed(fleet, raw):
    fleet = fleet()
    fleet.size(1)
    fleet.adopt()
    raw.set("celery-task-meta-a", b'{"status": "SUCCESS", "result": ')
    fleet.settle(0, True)
    assert fleet.calls == []
    assert "a raised" in str(fleet.ours.get_result("body"))


# -- values that no record holds ----------------------------------------------------------------------


@pytest.mark.parametrize(("serializer", "packed", "ordered"), FORMS)
@pytest.mark.parametrize("opened_by_ours", [False, True])
@pytest.mark.parametrize("first_is_ours", [False, True])
def test_a_value_whose_record_is_gone_reaches_the_body(
    fleet, serializer, packed, ordered, opened_by_ours, first_is_ours
):
    """It has expired, or its task's results are ignored: Celery hands over what the part says, and so does ours."""
    fleet = fleet(ordered=ordered, result_serializer=serializer, result_compression=packed)
    if opened_by_ours:
        fleet.ours.open_chord("g", ["a", "b", "c"], fleet.body)
    fleet.size()
    fleet.settle(0, first_is_ours)
    request = fleet.request("b", 1)
    fleet.theirs.mark_as_done("b", VALUES[1], request=request, store_result=False)
    fleet.raw.delete("celery-task-meta-a")
    assert fleet.ours.do_read_parts("g")["a"] == {"status": "SUCCESS", "result": VALUES[0], "task_id": "a"}
    fleet.settle(2, True)
    assert fleet.calls == fleet.expected()


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
@pytest.mark.parametrize("by_ours", [False, True])
def test_a_failure_whose_record_is_gone_fails_the_body_with_its_error(fleet, serializer, by_ours):
    fleet = fleet(result_serializer=serializer)
    fleet.size(2)
    fleet.settle(0, by_ours, KeyError("of a"))
    fleet.raw.delete("celery-task-meta-a")
    fleet.settle(1, True)
    error = fleet.ours.get_result("body")
    assert "a raised KeyError('of a')" in str(error)


def test_a_chord_that_keeps_no_parts_has_none_to_read(connect):
    backend = connect()
    assert backend.do_read_parts("unknown") == {}


# -- the state of it ----------------------------------------------------------------------------------


@BOTH
def test_the_state_shows_what_is_counted_and_what_is_to_come(fleet, ordered):
    fleet = fleet(ordered=ordered)
    assert fleet.ours.chord_state("g") is None
    fleet.settle(2, True)
    fleet.settle(0, False, KeyError("of a"))
    state = fleet.ours.chord_state("g")
    assert (state.chord.members[:2], state.parts) == (("a", "c"), ("FAILURE", "SUCCESS", None))
    assert not state.complete
    assert (state.chord.body_id, state.done) == ("body", False)
    assert fleet.ours.decode(state.chord.body)["task"] == "tests.collect"
    fleet.size(4)
    assert fleet.ours.chord_state("g").parts == ("FAILURE", "SUCCESS", None, None)


def test_adopting_changes_nothing_of_what_is_known(fleet, raw):
    fleet = fleet()
    fleet.ours.open_chord("g", ["a", "b", "c"], fleet.body)
    fleet.adopt()
    assert raw.hget(key(".o"), "foreign") is None
    fleet.number = 1
    fleet.adopt()
    kept = raw.hgetall(key(".o", "g1"))
    fleet.ours.adopt_chord("g1", {**fleet.body, "task": "another"})
    assert raw.hgetall(key(".o", "g1")) == kept
    fleet.number = 2
    raw.set(key(".c", "g2"), "done", ex=CELERYS_DONE)
    fleet.adopt()
    assert raw.exists(key(".o", "g2")) == 0


def test_a_chord_that_is_forgotten_leaves_nothing(fleet, raw, later, caplog):
    fleet = fleet()
    fleet.size()
    fleet.settle(0, True)
    fleet.ours.forget("g")
    assert raw.keys("*taskset*") == []
    assert raw.exists("settled-open", "settled-due") == 0
    later(fleet.ours, 2 * RECOUNT)
    assert [each for each in caplog.records if each.name.startswith("settled")] == []


def test_a_chord_whose_body_is_lost_is_named_in_the_log(fleet, raw, later, caplog):
    fleet = fleet()
    fleet.size()
    fleet.settle(0, True)
    raw.delete(key(".o"))
    later(fleet.ours, RECOUNT)
    assert logged(caplog, "'g'", "barrier is gone")
    fleet.settle(1, True)
    fleet.settle(2, True)
    assert fleet.calls == fleet.expected()


# -- workers that die -----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("before", list(itertools.product([False, True], repeat=2)), ids=share_id)
def test_the_sweep_sends_what_a_worker_of_celerys_claimed_and_left(fleet, server, ordered, before):
    """Within the recount interval, and not before Celery's claim has expired."""
    fleet = fleet(ordered=ordered)
    fleet.size()
    fleet.adopt()
    for place in (0, 1):
        fleet.settle(place, before[place])
    assert fleet.counted_by_a_worker_of_celerys_that_dies(2)
    assert fleet.ours.sweep() == 0
    assert fleet.calls == []
    server.clock.advance(RECOUNT)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == fleet.expected()
    fleet.repeat()
    assert len(fleet.calls) == 1


def test_the_sweep_respects_a_claim_of_celerys_that_is_alive(fleet, server):
    fleet = fleet()
    fleet.size()
    fleet.settle(0, True)
    fleet.settle(1, False)
    server.clock.advance(chords.RECOUNT_INTERVAL - 1)
    assert fleet.counted_by_a_worker_of_celerys_that_dies(2)
    server.clock.advance(CELERYS_CLAIM - 2)
    assert fleet.ours.sweep() == 0
    server.clock.advance(3)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == fleet.expected()


@pytest.mark.parametrize("place", range(3))
def test_a_part_delivered_again_lists_what_a_worker_of_celerys_is_to_send(fleet, server, raw, place):
    """At the end of its claim: it may have died."""
    fleet = fleet()
    fleet.size()
    fleet.settle(0, True)
    fleet.settle(1, False)
    assert fleet.counted_by_a_worker_of_celerys_that_dies(2)
    fleet.settle(place, True)
    left = raw.zscore("settled-due", "g") - float(raw.time()[0] * 1000)
    assert 0 < left <= (CELERYS_CLAIM + 1) * 1000
    assert fleet.ours.sweep() == 0
    server.clock.advance(CELERYS_CLAIM + 1)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == fleet.expected()


def test_the_first_part_that_ours_sees_of_a_chord_that_celery_left_sends_its_body(fleet, server):
    """Nobody of ours had a part of it before."""
    fleet = fleet()
    fleet.size()
    fleet.settle(0, False)
    fleet.settle(1, False)
    assert fleet.counted_by_a_worker_of_celerys_that_dies(2)
    server.clock.advance(CELERYS_CLAIM + 1)
    fleet.settle(1, True)
    assert fleet.calls == fleet.expected()


@BOTH
@pytest.mark.parametrize("place", range(3))
def test_celery_sends_what_one_of_ours_claimed_and_left(fleet, server, ordered, place):
    fleet = fleet(ordered=ordered)
    fleet.size()
    fleet.settle(0, True)
    fleet.settle(1, False)
    assert fleet.ours.do_settle(fleet.write(2)).claimed
    fleet.settle(place, False)
    assert fleet.calls == []
    server.clock.advance(chords.CLAIM_LEASE + 1)
    fleet.settle(place, False)
    assert fleet.calls == fleet.expected()
    fleet.repeat()
    server.clock.advance(RECOUNT)
    fleet.repeat()
    assert len(fleet.calls) == 1


def test_the_sweep_sends_what_one_of_ours_claimed_and_left(fleet, server):
    fleet = fleet()
    fleet.size()
    fleet.settle(0, True)
    fleet.settle(1, False)
    assert fleet.ours.do_settle(fleet.write(2)).claimed
    assert fleet.ours.sweep() == 0
    server.clock.advance(chords.CLAIM_LEASE + 0.1)
    assert fleet.ours.sweep() == 1
    assert fleet.calls == fleet.expected()


def test_of_two_sweeps_one_takes_over(fleet, connect, server):
    fleet = fleet()
    fleet.size()
    fleet.settle(0, True)
    fleet.settle(1, False)
    assert fleet.counted_by_a_worker_of_celerys_that_dies(2)
    server.clock.advance(RECOUNT)
    other = connect(fleet.app)
    pair = [Running(backend.sweep) for backend in (fleet.ours, other)]
    assert sum(each.result(PATIENCE) for each in pair) == 1
    assert fleet.calls == fleet.expected()


def test_what_celery_takes_the_size_from_again_is_not_due_any_more(fleet, server, raw, later):
    """Its worker failed the body: the size is gone, the parts stay until they expire."""
    fleet = fleet()
    fleet.size()
    fleet.settle(0, True)
    fleet.settle(1, False)
    assert fleet.counted_by_a_worker_of_celerys_that_dies(2)
    fleet.settle(0, True)
    raw.delete(key(".s"))
    server.clock.advance(CELERYS_CLAIM + 1)
    assert fleet.ours.sweep() == 0
    assert raw.exists("settled-due") == 0
    fleet.theirs.store_result("body", KeyError("failed by Celery"), "FAILURE")
    later(fleet.ours, 2 * RECOUNT)
    assert fleet.ours.get_state("body") == "FAILURE"
    assert fleet.calls == []


@pytest.mark.parametrize("recorded", [False, True])
def test_a_body_that_celery_failed_is_not_failed_again_when_the_parts_expire(fleet, raw, later, recorded):
    """That of a group has no record of its own: that the size is gone, and no more, says enough."""
    fleet = fleet(result_chord_expires=100)
    fleet.size()
    fleet.settle(0, True)
    fleet.settle(1, False)
    assert fleet.counted_by_a_worker_of_celerys_that_dies(2, claim=CELERYS_CLAIM)
    raw.delete(key(".s"))
    if recorded:
        fleet.theirs.store_result("body", KeyError("failed by Celery"), "FAILURE")
    later(fleet.ours, 2 * RECOUNT)
    raw.delete("celery-task-meta-body")
    later(fleet.ours, 1.5 * 86400)
    assert raw.exists(key(".d")) == 0
    assert fleet.ours.get_state("body") == "PENDING"
    assert raw.exists("settled-open", "settled-due") == 0
    assert fleet.calls == []


# -- expiry ----------------------------------------------------------------------------------------------

KEYS = (".j", ".d", ".s", ".t")


def lives(raw):
    return {suffix: raw.ttl(key(suffix)) for suffix in KEYS}


def test_the_keys_live_on_from_each_part_as_by_celery(fleet, raw, server):
    fleet = fleet(result_chord_expires=1000, result_expires=2000)
    fleet.size()
    fleet.theirs.add_to_chord("g", None)
    fleet.settle(0, False)
    by_celery = lives(raw)
    raw.set(key(""), "a saved group", ex=1000)
    server.clock.advance(900)
    fleet.settle(1, True)
    by_ours = lives(raw)
    assert all(abs(by_ours[each] - by_celery[each]) <= 2 for each in KEYS), (by_celery, by_ours)
    assert raw.ttl(key("")) > 900


@pytest.mark.parametrize("given", [50, 5000])
def test_ours_makes_no_key_of_celerys_expire_sooner(connect, celery, raw, given):
    """Whatever its own settings say."""
    one = Fleet(connect, celery, raw, ours=celery(result_chord_expires=given), result_chord_expires=1000)
    one.size()
    one.theirs.add_to_chord("g", None)
    one.settle(0, False)
    before = lives(raw)
    one.settle(1, True)
    after = lives(raw)
    assert all(after[each] >= before[each] - 1 for each in KEYS), (before, after)


@pytest.mark.parametrize("first_is_ours", [False, True])
def test_keys_that_celery_keeps_for_ever_stay_for_ever(connect, celery, raw, first_is_ours):
    one = Fleet(connect, celery, raw, ours=celery(result_chord_expires=50), result_chord_expires=0)
    one.size()
    one.settle(0, first_is_ours)
    one.settle(1, not first_is_ours)
    assert {raw.ttl(key(suffix)) for suffix in (".j", ".d", ".s")} == {-1}


def test_keys_that_ours_begins_expire_as_by_celery(fleet, raw):
    fleet = fleet(result_chord_expires=100)
    fleet.settle(0, True)
    assert 90 < raw.ttl(key(".j")) <= 100
    assert 90 < raw.ttl(key(".d")) <= 100


@BOTH
@pytest.mark.parametrize("ours", list(itertools.product([False, True], repeat=2)), ids=share_id)
def test_a_chord_whose_keys_have_expired_fails_its_body(fleet, raw, later, caplog, ordered, ours):
    """Celery leaves the body PENDING for ever. A part that comes too late changes nothing."""
    fleet = fleet(ordered=ordered, result_chord_expires=100)
    fleet.adopt()
    fleet.size()
    for place in (0, 1):
        fleet.settle(place, ours[place])
    later(fleet.ours, 80)
    assert fleet.ours.get_state("body") == "PENDING"
    later(fleet.ours, 80)
    with pytest.raises(ChordError, match="chord state expired"):
        fleet.ours.wait_for("body", timeout=0)
    assert logged(caplog, "'g'", "has expired")
    assert raw.exists("settled-open", "settled-due") == 0
    assert fleet.ours.chord_state("g").done
    stored = raw.get("celery-task-meta-body")
    fleet.repeat()
    later(fleet.ours, 5 * RECOUNT)
    assert fleet.calls == []
    assert raw.get("celery-task-meta-body") == stored


def test_a_chord_whose_keys_have_expired_while_nobody_looked_fails_its_body(fleet, server, later):
    fleet = fleet(result_chord_expires=100)
    fleet.size()
    fleet.settle(0, True)
    server.clock.advance(5000)
    later(fleet.ours, RECOUNT)
    with pytest.raises(ChordError, match="chord state expired"):
        fleet.ours.wait_for("body", timeout=0)


def test_a_chord_of_which_no_part_ever_came_is_not_looked_after_for_ever(fleet, raw, later):
    """Its client died, say, or its task lies in a queue that nobody serves any more."""
    fleet = fleet(result_chord_expires=100)
    fleet.adopt()
    later(fleet.ours, 80)
    assert raw.exists(key(".o")) == 1
    assert fleet.ours.get_state("body") == "PENDING"
    later(fleet.ours, 80)
    assert fleet.ours.get_state("body") == "FAILURE"
    assert raw.exists("settled-open", "settled-due") == 0


def test_a_chord_that_was_kept_alive_by_its_parts_has_not_expired(fleet, later):
    fleet = fleet(result_chord_expires=100)
    fleet.size()
    for place, ours in enumerate((True, False, True)):
        fleet.settle(place, ours)
        later(fleet.ours, 80)
    assert fleet.calls == fleet.expected()


@pytest.mark.parametrize("lost", [(".j", ".d", ".s"), (".j", ".d", ".s", ".t")], ids="".join)
def test_a_chord_whose_keys_were_evicted_fails_its_body(fleet, raw, later, caplog, lost):
    """They went while it was looked after: what Celery clears away it marks as done."""
    fleet = fleet()
    fleet.size()
    fleet.settle(0, True)
    later(fleet.ours, RECOUNT)
    raw.delete(*map(key, lost))
    later(fleet.ours, RECOUNT)
    with pytest.raises(ChordError, match="chord state expired"):
        fleet.ours.wait_for("body", timeout=0)
    assert logged(caplog, "'g'", "evicted")


def test_a_body_that_celery_sent_while_nobody_looked_is_not_failed(fleet, raw, server, later):
    """Its mark has expired, the keys are gone before their time, the body has not begun: it was sent."""
    fleet = fleet()
    fleet.size()
    fleet.settle(0, True)
    later(fleet.ours, RECOUNT)
    fleet.settle(1, False)
    fleet.settle(2, False)
    assert fleet.calls == fleet.expected()
    server.clock.advance(2 * CELERYS_DONE)
    assert raw.exists(*map(key, (".j", ".d", ".s", ".c"))) == 0
    later(fleet.ours, 2 * RECOUNT)
    assert fleet.ours.get_state("body") == "PENDING"
    assert fleet.ours.chord_state("g").done
    assert raw.exists("settled-open", "settled-due") == 0


def test_a_body_that_has_begun_is_not_failed_for_its_chords_expiry(fleet, raw, later, caplog):
    fleet = fleet(result_chord_expires=100)
    fleet.size()
    fleet.settle(0, True)
    fleet.theirs.store_result("body", None, "STARTED")
    later(fleet.ours, 200)
    assert fleet.ours.get_state("body") == "STARTED"
    assert not logged(caplog, "expired")
    assert raw.exists("settled-open", "settled-due") == 0


def test_a_body_that_is_known_keeps_no_chord_from_a_new_run(fleet, later):
    """Celery says the size late: meanwhile the record of the run before is there, and nothing is to be lost."""
    fleet = fleet()
    fleet.theirs.store_result("body", "of the run before", "SUCCESS")
    fleet.settle(0, True)
    later(fleet.ours, 2 * RECOUNT)
    fleet.settle(1, True)
    later(fleet.ours, 2 * RECOUNT)
    fleet.size()
    fleet.settle(2, False)
    assert fleet.calls == fleet.expected()


# -- damage -------------------------------------------------------------------------------------------------


def foreign(suffix, kind):
    def put(raw):
        raw.delete(key(suffix))
        {
            "string": lambda: raw.set(key(suffix), "garbage"),
            "list": lambda: raw.rpush(key(suffix), "x"),
            "set": lambda: raw.sadd(key(suffix), "x"),
            "zset": lambda: raw.zadd(key(suffix), {"x": 1}),
            "hash": lambda: raw.hset(key(suffix), "x", "y"),
        }[kind]()

    return put


def garbage(place, payload):
    return lambda raw: raw.zadd(key(".j"), {payload: place})


DAMAGE = {
    "garbage among the parts": garbage(0, "garbage"),
    "garbage at no place": garbage("+inf", b"\xff\xfe\x00"),
    "a part that is no list": garbage(0, b'{"a": 1}'),
    "a part that is too short": garbage(1, b'[1, "a"]'),
    "a part of no name": garbage(1, b"[1, {}, [], {}]"),
    "a part that is a bomb": garbage(0, b"cos\nsystem\n(S'exit 1'\ntR."),
    "a part that is compressed garbage": garbage(0, b"\0celery-compressed\0application/x-gzip\0garbage"),
    "a string for the parts": foreign(".j", "string"),
    "a list for the parts": foreign(".j", "list"),
    "a hash for the parts": foreign(".j", "hash"),
    "a string for the counted": foreign(".d", "string"),
    "a zset for the counted": foreign(".d", "zset"),
    "garbage among the counted": lambda raw: raw.sadd(key(".d"), b"\xff:nan"),
    "nonsense among the counted": lambda raw: raw.sadd(key(".d"), "nonsense"),
    "a size of garbage": lambda raw: raw.set(key(".s"), "garbage"),
    "a size below nothing": lambda raw: raw.set(key(".s"), "-7"),
    "a size that is no number": lambda raw: raw.set(key(".s"), "nan"),
    "a size beyond all bounds": lambda raw: raw.set(key(".s"), 10**15),
    "a hash for the size": foreign(".s", "hash"),
    "a growth of garbage": lambda raw: raw.set(key(".t"), "garbage"),
    "a list for the growth": foreign(".t", "list"),
    "a list for the claim": foreign(".c", "list"),
    "a string for the barrier": foreign(".o", "string"),
    "an unknown policy": lambda raw: raw.hset(key(".o"), "policy", "whatever"),
    "no body": lambda raw: raw.hdel(key(".o"), "body"),
    "no body id": lambda raw: raw.hdel(key(".o"), "body_id"),
    "a body that is none": lambda raw: raw.hset(key(".o"), "body", "[]"),
    "a time of garbage": lambda raw: raw.hset(key(".o"), "until", "soon"),
}

HARMLESS = {name for name in DAMAGE if "part" in name and " for the parts" not in name}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_other_chords_go_on(fleet, raw, server, caplog, name):
    """The parts are stored whatever becomes of their chord; what is said of it names the group."""
    fleet = fleet(result_expires=None)
    for fleet.number in ("", 1):
        fleet.adopt()
        fleet.size()
        fleet.settle(0, True)
    fleet.number = ""
    DAMAGE[name](raw)
    said = []
    for call in (
        lambda: fleet.settle(1, True),
        lambda: fleet.settle(2, True),
        lambda: fleet.ours.chord_state("g"),
        lambda: fleet.ours.size_chord("g", 3) if name == "a growth of garbage" else None,
    ):
        try:
            call()
        except SettledError as exc:
            said.append(str(exc))
    assert all("'g'" in message or "taskset-meta-g" in message for message in said), said
    assert [fleet.ours.get_state(each) for each in "abc"] == ["SUCCESS"] * 3 or "barrier" in name
    fleet.number = 1
    assert fleet.counted_by_a_worker_of_celerys_that_dies(1) is False
    assert fleet.counted_by_a_worker_of_celerys_that_dies(2)
    for _ in range(3):
        server.clock.advance(RECOUNT)
        fleet.ours.sweep()
    assert fleet.calls.count(("body1", VALUES)) == 1
    bodies = [call for call in fleet.calls if call[0] == "body"]
    if name in HARMLESS:
        assert bodies == [("body", VALUES)]
    if "size" in name:
        assert bodies == []
    named = [each for each in caplog.records if each.levelno >= logging.WARNING and "g" in each.getMessage()]
    assert len(bodies) <= 1
    assert said or named or bodies or fleet.ours.get_state("body") != "PENDING", "nothing was said of it"


def test_a_hundred_damaged_chords_do_not_keep_one_from_being_swept(fleet, raw, server):
    """They are due before it, and due for ever."""
    fleet = fleet()
    for fleet.number in range(chords.SWEEP_LIMIT + 5):
        fleet.adopt()
        raw.set(key(".s", fleet.group), "garbage")
        raw.zadd("settled-due", {fleet.group: 1})
    fleet.number = None
    fleet.size()
    fleet.adopt()
    for place in range(2):
        fleet.settle(place, False)
    fleet.counted_by_a_worker_of_celerys_that_dies(2)
    for _ in range(30):
        server.clock.advance(RECOUNT)
        fleet.ours.sweep()
        if fleet.calls:
            break
    assert fleet.calls == fleet.expected()


def test_an_error_of_the_store_names_the_chord(fleet, raw):
    fleet = fleet()
    fleet.size()
    foreign(".j", "hash")(raw)
    with pytest.raises(StoreError, match="taskset-meta-g"):
        fleet.settle(0, True)
    assert fleet.ours.get_state("a") == "SUCCESS"
    assert raw.exists(key(".d")) == 0
