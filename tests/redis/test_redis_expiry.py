"""What has expired, or was deleted half-way: nobody waits for ever without being told or having it logged.

The docstrings say what happens; `docs/how-to/redis.md` says what to do about it.
"""

from __future__ import annotations

import logging
import zlib

import pytest

from settled import chords
from settled.chords import CLAIM_LEASE, DONE_LIFE
from settled.codec import compression
from settled.errors import ChordError
from settled.record import Presence, Query
from settled.testing.app import Request

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Results are not stored in backend:RuntimeWarning"),
]

BODY = {"task": "tests.body", "args": [], "kwargs": {}, "options": {"task_id": "body"}}
RECOUNT = chords.RECOUNT_INTERVAL + 1
LIFE = 1.5 * RECOUNT
"""Of a record that the first recount sees, and the second finds expired."""


def part(task_id, place, group="g"):
    return Request(task_id, group=group, group_index=place, chord=BODY)


def key(suffix, group="g"):
    return f"celery-taskset-meta-{group}{suffix}"


def settle(backend, *places):
    for place in places:
        backend.mark_as_done("abc"[place], place, request=part("abc"[place], place))


def bodies(backend):
    """(task id, args) of each body that was sent."""
    return [(sent.task_id, list(sent.args)) for sent in backend.app.sent]


def logged(caplog, *words):
    """Whether one message, of those that an operator sees, has all of these words."""
    seen = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return any(all(word in message for word in words) for message in seen)


# -- keys of the barrier, deleted after the first of three parts -----------------------------------


def half_way(backend):
    backend.open_chord("g", ["a", "b", "c"], BODY)
    settle(backend, 0)
    return backend


def test_without_its_barrier_a_chord_is_named_in_the_log(connect, raw, later, caplog):
    """`.o` holds the body: nobody can send it any more. The recount says so, once; later parts are stored."""
    backend = half_way(connect())
    raw.delete(key(".o"))
    settle(backend, 1, 2)
    assert [backend.get_result(task_id) for task_id in "abc"] == [0, 1, 2]
    later(backend, 3 * RECOUNT)
    assert bodies(backend) == []
    said = [record for record in caplog.records if "'g'" in record.getMessage()]
    assert len(said) == 1
    assert logged(caplog, "'g'", "barrier is gone", "Its body is not sent")
    assert raw.exists("settled-open", "settled-due") == 0


def test_a_chord_without_its_barrier_can_be_opened_again(connect, raw):
    """Opening counts what is settled: the body is sent."""
    backend = half_way(connect())
    raw.delete(key(".o"))
    settle(backend, 1, 2)
    backend.open_chord("g", ["a", "b", "c"], BODY)
    assert bodies(backend) == [("body", [[0, 1, 2]])]


def test_a_due_chord_without_its_barrier_is_named_in_the_log(connect, raw, server, caplog):
    """Its holder died before it sent the body, then the barrier went."""
    backend = half_way(connect())
    write = backend._write("b", 1, "SUCCESS", None, part("b", 1), None)
    backend.do_settle(write)
    write = backend._write("c", 2, "SUCCESS", None, part("c", 2), None)
    assert backend.do_settle(write).claimed
    raw.delete(key(".o"))
    server.clock.advance(CLAIM_LEASE + 1)
    backend.sweep()
    assert logged(caplog, "'g'", "barrier is gone")
    assert raw.exists("settled-open", "settled-due") == 0


def test_without_its_members_a_chord_fails_its_body(connect, raw):
    """`.m` says who is still to come: without it nobody knows, and the body fails with a ChordError."""
    backend = half_way(connect())
    raw.delete(key(".m"))
    settle(backend, 1)
    with pytest.raises(ChordError, match="of g"):
        backend.wait_for("body", timeout=0)
    settle(backend, 2)
    assert bodies(backend) == []


def test_without_its_members_a_chord_of_which_no_part_comes_is_failed_by_the_recount(connect, raw, later):
    backend = half_way(connect())
    raw.delete(key(".m"))
    later(backend, RECOUNT)
    with pytest.raises(ChordError, match="of g"):
        backend.wait_for("body", timeout=0)


def test_without_its_claim_a_chord_goes_on(connect, raw, later):
    """`.c` is held for seconds: without it whoever settles the last part, or sweeps, takes it anew."""
    backend = half_way(connect())
    settle(backend, 1)
    write = backend._write("c", 2, "SUCCESS", None, part("c", 2), None)
    assert backend.do_settle(write).claimed
    raw.delete(key(".c"))
    later(backend, RECOUNT)
    assert bodies(backend) == [("body", [[0, 1, 2]])]
    settle(backend, 2)
    later(backend, RECOUNT)
    assert len(bodies(backend)) == 1


def test_a_holder_whose_claim_was_deleted_and_taken_by_another_does_not_send(connect, raw, server):
    """Just before it sends it looks whether the claim is still its own."""
    one, other = half_way(connect()), connect()
    settle(one, 1)
    write = one._write("c", 2, "SUCCESS", None, part("c", 2), None)
    assert one.do_settle(write).claimed
    raw.set(key(".c"), "another's token", px=10_000)
    assert not chords.dispatch(one, "g", write.claim)
    assert bodies(one) == bodies(other) == []
    server.clock.advance(CLAIM_LEASE + 1)
    assert other.sweep() == 1
    assert bodies(other) == [("body", [[0, 1, 2]])]


def test_without_the_list_of_the_open_the_last_part_still_sends(connect, raw):
    """`settled-open` is for what a crash left uncounted: a chord of which every part is counted needs it not."""
    backend = half_way(connect())
    raw.delete("settled-open")
    settle(backend, 1, 2)
    assert bodies(backend) == [("body", [[0, 1, 2]])]


def test_without_the_list_of_the_due_the_recount_finds_what_is_due(connect, raw, later):
    """`settled-due` is written anew from the barriers that are open."""
    backend = half_way(connect())
    settle(backend, 1)
    backend.do_settle(backend._write("c", 2, "SUCCESS", None, part("c", 2), None))
    raw.delete("settled-due")
    later(backend, RECOUNT)
    later(backend, CLAIM_LEASE + 1)
    assert bodies(backend) == [("body", [[0, 1, 2]])]


def test_without_any_of_its_keys_a_chord_is_named_in_the_log(connect, raw, later, caplog):
    """The whole barrier removed: as without `.o`."""
    backend = half_way(connect())
    raw.delete(*(key(suffix) for suffix in (".o", ".m", ".c", ".s", ".j", ".d", ".t")))
    settle(backend, 1, 2)
    later(backend, RECOUNT)
    assert bodies(backend) == []
    assert logged(caplog, "'g'", "barrier is gone")


def test_a_chord_that_was_forgotten_is_not_in_the_log(connect, raw, later, caplog):
    backend = half_way(connect())
    backend.forget("g")
    settle(backend, 1, 2)
    later(backend, 2 * RECOUNT)
    assert bodies(backend) == []
    assert caplog.records == []


# -- Celery's keys of a chord that both count -------------------------------------------------------


@pytest.fixture
def shared(connect, celery):
    """A backend with a Celery app, half-way; the bodies it sent; and how Celery settles a part."""
    app = celery(task_always_eager=True)
    sent = []

    @app.task(name="tests.body", shared=False)
    def body(results):
        sent.append(results)

    def by_celery(place):
        from celery.app.task import Context

        request = Context({"id": "abc"[place], "group": "g", "group_index": place, "chord": BODY})
        app.backend.mark_as_done("abc"[place], place, request=request)

    backend = connect(app)
    backend.open_chord("g", ["a", "b", "c"], BODY)
    return backend, sent, by_celery


@pytest.mark.parametrize("lost", [(".s",), (".d",), (".j",), (".t",), (".s", ".d", ".j", ".t")], ids="".join)
@pytest.mark.parametrize("last_is_ours", [False, True])
@pytest.mark.parametrize("first_is_ours", [False, True])
def test_celerys_keys_can_be_lost_half_way(shared, raw, later, lost, last_is_ours, first_is_ours):
    """The last part of ours sends at once, or the recount does what is not known any more. Never twice."""
    backend, sent, by_celery = shared
    if first_is_ours:
        settle(backend, 0)
    else:
        by_celery(0)
    raw.delete(*map(key, lost))
    settle(backend, 1)
    if last_is_ours:
        settle(backend, 2)
        assert sent == ([[0, 1, 2]] if first_is_ours or ".d" not in lost else [])
    else:
        by_celery(2)
    later(backend, RECOUNT)
    assert sent == [[0, 1, 2]]
    for place in range(3):
        by_celery(place)
    settle(backend, 0, 1, 2)
    later(backend, 2 * RECOUNT)
    assert sent == [[0, 1, 2]]


@pytest.mark.parametrize("last_is_ours", [False, True])
def test_celerys_keys_expire_and_ours_go_on(connect, celery, server, later, last_is_ours):
    """Celery lets its keys expire result_chord_expires after its last part; the barrier is ours, and stays."""
    app = celery(task_always_eager=True, result_chord_expires=100, result_expires=10_000)
    sent = []

    @app.task(name="tests.body", shared=False)
    def body(results):
        sent.append(results)

    backend = connect(app)
    backend.open_chord("g", ["a", "b"], BODY)
    from celery.app.task import Context

    def by_celery(task_id, place):
        request = Context({"id": task_id, "group": "g", "group_index": place, "chord": BODY})
        app.backend.mark_as_done(task_id, task_id, request=request)

    by_celery("a", 0)
    later(backend, 150)
    if last_is_ours:
        backend.mark_as_done("b", "b", request=part("b", 1))
    else:
        by_celery("b", 1)
    later(backend, RECOUNT)
    assert sent == [["a", "b"]]


# -- records of members -------------------------------------------------------------------------------


def test_a_member_that_was_seen_started_and_has_expired_fails_the_body_by_its_name(connect, later):
    """The recount saw it STARTED, and sees that its time is over: it is counted as EXPIRED."""
    backend = connect()
    backend.open_chord("g", ["a", "b"], BODY)
    backend.store_result("b", None, "STARTED", request=part("b", 1), expires=LIFE)
    backend.store_result("a", 1, "SUCCESS", request=part("a", 0), expires=0)
    later(backend, RECOUNT)
    assert backend.chord_state("g").parts == ("SUCCESS", None)
    later(backend, RECOUNT)
    with pytest.raises(ChordError, match="Dependency b"):
        backend.wait_for("body", timeout=0)
    assert bodies(backend) == []


def test_a_member_seen_in_a_form_that_no_script_reads_expires_too(connect, raw, later):
    """Celery's result_compression: the client says what it is, and how long it lives."""
    backend = connect()
    backend.open_chord("g", ["b"], BODY)
    record = compression.MARKER + b"application/x-gzip\0" + zlib.compress(b'{"status": "STARTED"}')
    raw.set("celery-task-meta-b", record, px=int(1000 * LIFE))
    later(backend, RECOUNT)
    assert backend.chord_state("g").parts == (None,)
    later(backend, RECOUNT)
    with pytest.raises(ChordError, match="Dependency b"):
        backend.wait_for("body", timeout=0)


def test_a_member_that_is_started_again_in_time_has_not_expired(connect, server, later):
    backend = connect()
    backend.open_chord("g", ["b"], BODY)
    for _ in range(4):
        backend.store_result("b", None, "STARTED", request=part("b", 0), expires=LIFE)
        later(backend, RECOUNT)
    assert backend.chord_state("g").parts == (None,)
    backend.mark_as_done("b", "in time", request=part("b", 0))
    assert bodies(backend) == [("body", [["in time"]])]


def test_an_expired_member_that_settles_late_takes_its_place(connect, later):
    """While the chord is open a SUCCESS replaces what was counted, EXPIRED too."""
    backend = connect()
    backend.open_chord("g", ["a", "b"], BODY)
    backend.store_result("b", None, "STARTED", request=part("b", 1), expires=LIFE)
    later(backend, 2 * RECOUNT)
    assert backend.chord_state("g").parts == (None, "EXPIRED")
    backend.mark_as_done("b", "late", request=part("b", 1))
    backend.mark_as_done("a", "last", request=part("a", 0))
    assert bodies(backend) == [("body", [["last", "late"]])]


def test_with_outcomes_wanted_the_expired_member_is_one_of_them(connect, later):
    backend = connect()
    backend.open_chord("g", ["a", "b"], BODY, on_failure="outcomes")
    backend.store_result("b", None, "STARTED", request=part("b", 1), expires=LIFE)
    backend.mark_as_done("a", 1, request=part("a", 0))
    later(backend, 2 * RECOUNT)
    [(task_id, [[first, second]])] = bodies(backend)
    assert (task_id, first.state, second.state) == ("body", "SUCCESS", "EXPIRED")


def test_of_a_chord_of_the_first_failure_an_expired_member_is_one(connect, later):
    backend = connect()
    backend.open_chord("g", ["a", "b"], BODY, on_failure="first")
    backend.store_result("b", None, "STARTED", request=part("b", 1), expires=LIFE)
    later(backend, 2 * RECOUNT)
    with pytest.raises(ChordError, match="Dependency b"):
        backend.wait_for("body", timeout=0)


def test_a_member_that_was_forgotten_has_not_expired(connect, server, later, caplog):
    """It went before its time: that is logged with both names, and the chord waits until it settles."""
    backend = connect()
    backend.open_chord("g", ["b"], BODY)
    backend.store_result("b", None, "STARTED", request=part("b", 0), expires=1000)
    later(backend, RECOUNT)
    backend.forget("b")
    later(backend, RECOUNT)
    assert logged(caplog, "'b'", "'g'", "gone before its time")
    later(backend, 2000)
    assert backend.chord_state("g").parts == (None,)
    assert backend.get_state("body") == "PENDING"
    backend.mark_as_done("b", "anew", request=part("b", 0))
    assert bodies(backend) == [("body", [["anew"]])]


def test_a_member_that_nobody_has_begun_is_waited_for(connect, later):
    """It may lie in a queue for days: an open barrier does not expire."""
    backend = connect(conf={"result_expires": 100})
    backend.open_chord("g", ["a"], BODY)
    later(backend, 3 * DONE_LIFE)
    backend.mark_as_done("a", "at last", request=part("a", 0))
    assert bodies(backend) == [("body", [["at last"]])]


def test_a_counted_member_whose_result_has_expired_fails_the_body_by_its_name(connect, later):
    """The barrier counts it, but its value is gone when the last part comes."""
    backend = connect()
    backend.open_chord("g", ["a", "b"], BODY)
    backend.store_result("a", 1, "SUCCESS", request=part("a", 0), expires=LIFE)
    later(backend, 2 * RECOUNT)
    assert backend.chord_state("g").parts == ("SUCCESS", None)
    backend.mark_as_done("b", 2, request=part("b", 1))
    with pytest.raises(ChordError, match="Dependency a"):
        backend.wait_for("body", timeout=0)
    assert bodies(backend) == []


def test_a_member_of_many_chords_expires_in_each(connect, later):
    backend = connect()
    for group in ("g", "h"):
        body = {**BODY, "options": {"task_id": f"body of {group}"}}
        backend.open_chord(group, ["b"], body)
    backend.store_result("b", None, "STARTED", expires=LIFE)
    later(backend, 2 * RECOUNT)
    for group in ("g", "h"):
        with pytest.raises(ChordError, match="Dependency b"):
            backend.wait_for(f"body of {group}", timeout=0)


# -- what is left of a chord that was sent ----------------------------------------------------------


def test_a_late_delivery_long_after_the_done_marker_has_expired_sends_nothing(connect, raw, later):
    backend = half_way(connect())
    settle(backend, 1, 2)
    later(backend, RECOUNT)
    assert len(bodies(backend)) == 1
    later(backend, 2 * DONE_LIFE)
    assert raw.keys("*taskset*") == []
    settle(backend, 0, 1, 2)
    later(backend, 2 * RECOUNT)
    assert len(bodies(backend)) == 1


def test_a_holder_that_died_is_followed_when_its_claim_has_expired(connect, server):
    backend = half_way(connect())
    settle(backend, 1)
    backend.do_settle(backend._write("c", 2, "SUCCESS", None, part("c", 2), None))
    assert backend.sweep() == 0
    server.clock.advance(CLAIM_LEASE + 0.1)
    assert backend.sweep() == 1
    assert bodies(backend) == [("body", [[0, 1, 2]])]


def test_a_body_whose_result_has_expired_is_not_sent_again(connect, raw, later):
    backend = half_way(connect(conf={"result_expires": 100}))
    settle(backend, 1, 2)
    backend.mark_as_done("body", 3)
    later(backend, 200)
    assert backend.get_state("body") == "PENDING"
    settle(backend, 0, 1, 2)
    assert len(bodies(backend)) == 1


# -- other things that expire -------------------------------------------------------------------------


def test_an_expired_record_is_unknown(connect, server):
    backend = connect()
    backend.store_result("t", 1, "SUCCESS", expires=10)
    server.clock.advance(9)
    assert backend.get_state("t") == "SUCCESS"
    server.clock.advance(2)
    assert backend.get_state("t") == "PENDING"
    assert backend.presence("t") is Presence.UNKNOWN
    assert backend.mark_as_started("t")


def test_an_expired_group_is_not_restored(connect, server):
    backend = connect(conf={"result_expires": 10})
    backend.save_group("g", backend.app.GroupResult("g", []))
    server.clock.advance(11)
    assert backend.restore_group("g", cache=False) is None


def test_an_expired_lease_is_free(connect, server):
    one, other = connect(), connect()
    assert one.do_lease(["n"], "one", 10.0)
    server.clock.advance(9)
    assert not other.do_lease(["n"], "other", 10.0)
    server.clock.advance(2)
    assert other.do_lease(["n"], "other", 10.0)
    assert not one.do_lease(["n"], "one", 10.0)


def test_the_index_lets_go_of_what_has_expired(connect, raw, server):
    """Each write lets go of two rows: a listing shows none of them before, either."""
    backend = connect(index=True)
    for number in range(6):
        backend.store_result(f"old-{number}", 1, "SUCCESS", expires=10)
    server.clock.advance(11)
    assert list(backend.query(Query())) == []
    for number in range(6):
        backend.store_result(f"older-{number}", 1, "SUCCESS", expires=10)
    server.clock.advance(11)
    for number in range(3):
        backend.mark_as_done(f"new-{number}", 1)
    assert sorted(raw.hkeys("settled-index")) == [b"new-0", b"new-1", b"new-2"]
    assert {row.task_id for row in backend.query()} == {"new-0", "new-1", "new-2"}


def test_a_cleanup_has_nothing_to_do(connect):
    assert connect().cleanup() == 0
