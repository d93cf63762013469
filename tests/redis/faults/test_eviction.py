"""The server throws away what was not used for long (allkeys-lru).

Results that were evicted are unknown. What becomes of a chord is seen by which of its keys went:

- `.o`, the counters and the body: there is no such chord any more. Its tasks are settled as ever, its body
  is never sent, and who waits for that waits until his timeout. Only a server that does not evict it helps.
- `.m`, the members: nobody can say what is still to come, so the body fails, at the next part that is
  settled or when the chord is recounted.
- `.c`, the claim: whoever asks next has it. Two may then send the body, as the same task.
- the list of what is due: a complete chord is found again when it is recounted, in a minute.
- the list of what is open: nothing, unless a crash leaves something to be recounted.
- both lists: a complete chord whose sender died is found when one of its tasks is settled again.

Keys of chords have no expiry: under a `volatile-` policy none of this happens.
"""

from __future__ import annotations

import pytest

from settled.chords import sweep
from settled.errors import ChordError, TimeoutError
from settled.record import Chord, Claim, Presence
from settled.testing.checks.expecting import raised
from tests.redis.faults.load import BODY, PATIENCE, settle_part, value_of
from tests.servers import Server, until

MEMBERS = ("group-0", "group-1")
ROOM = 300_000
IDLE = 1000
"""Seconds: an evicted key was not used for so long."""

POLICY = {"maxmemory-policy": "allkeys-lru", "maxmemory-samples": "64"}


@pytest.fixture
def server():
    with Server.start(skewed=True, options=POLICY) as server:
        yield server


@pytest.fixture
def backend(server, connect):
    return connect(server)


def evict(server, *keys):
    """Have the server throw these keys away, which nobody has used for long."""
    with server.client() as client:
        server.clock.advance(IDLE)
        until(lambda: client.object("idletime", keys[0]) >= IDLE, PATIENCE, "the server's notice of the time")
        used = [key for key in client.scan_iter() if key.decode() not in keys]
        kept = {key: (client.dump(key), max(0, client.pttl(key))) for key in used}
        client.touch(*used, "and if there are none")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + ROOM)
        fillers = 0
        while client.exists(*keys):
            client.set(f"filler-{fillers}", "x" * 1000)
            fillers += 1
        client.config_set("maxmemory", 0)
        for key in used:  # it looks at samples only: what is in use may have had to go too
            client.restore(key, kept[key][1], kept[key][0], replace=True)


def record(task_id):
    return f"celery-task-meta-{task_id}"


def test_an_evicted_result_is_unknown_and_the_others_are_there(server, backend):
    for number in range(3):
        backend.mark_as_done(f"task-{number}", number)
    evict(server, record("task-1"))
    assert backend.get_state("task-1") == "PENDING"
    assert backend.presence("task-1") is Presence.UNKNOWN
    assert backend.get_result("task-1") is None
    with pytest.raises(TimeoutError):
        backend.wait_for("task-1", timeout=0.1)
    assert sorted(backend.read_ready([f"task-{number}" for number in range(3)])) == ["task-0", "task-2"]
    assert backend.mark_as_done("task-1", "again")
    assert backend.wait_for("task-1", timeout=0) == "again"


def test_a_chord_with_an_evicted_result_fails_its_body_with_its_name(server, backend):
    body_id = backend.open_chord("group", MEMBERS, BODY)
    settle_part(backend, "group", 0)
    evict(server, record("group-0"))
    settle_part(backend, "group", 1)
    error = raised(lambda: backend.wait_for(body_id, timeout=PATIENCE))
    assert isinstance(error, ChordError)
    assert "group-0" in str(error)
    assert backend.app.sent == []


def test_a_chord_whose_evicted_member_is_settled_after_all_sends_its_body(server, backend):
    backend.open_chord("group", MEMBERS, BODY)
    backend.mark_as_started("group-0")
    evict(server, record("group-0"))
    for place in range(2):
        settle_part(backend, "group", place)
    assert [sent.args for sent in backend.app.sent] == [([value_of(task_id) for task_id in MEMBERS],)]


def test_a_chord_whose_evicted_member_is_never_settled_fails_when_that_would_have_expired(server, backend):
    body_id = backend.open_chord("group", MEMBERS, BODY)
    settle_part(backend, "group", 0)
    backend.store_result("group-1", None, "STARTED", expires=5000.0)
    server.clock.advance(100.0)
    backend.sweep()
    evict(server, record("group-1"))
    server.clock.advance(5000.0)
    backend.sweep()
    error = raised(lambda: backend.wait_for(body_id, timeout=PATIENCE))
    assert isinstance(error, ChordError)
    assert "group-1" in str(error)


# -- the keys of a chord -----------------------------------------------------------------------------


def own_key(letter):
    return f"celery-taskset-meta-group.{letter}"


def test_who_settles_parts_of_an_evicted_barrier_is_not_disturbed(server, backend):
    backend.open_chord("group", MEMBERS, BODY)
    settle_part(backend, "group", 0)
    evict(server, own_key("o"))
    assert backend.chord_state("group") is None
    assert settle_part(backend, "group", 1)
    server.clock.advance(100.0)
    assert backend.sweep() == 0
    assert backend.app.sent == []
    with server.client() as client:
        assert client.zrange("settled-open", 0, -1) + client.zrange("settled-due", 0, -1) == []


def test_evicted_barriers_that_were_due_do_not_keep_the_sweep_from_others(server, backend):
    lost = [f"lost-{number}" for number in range(20)]
    for group_id in lost:
        complete(backend, group_id)
    evict(server, *[f"celery-taskset-meta-{group_id}.o" for group_id in lost])
    complete(backend, "group")
    assert sum(sweep(backend, limit=5) for _ in range(5)) == 1
    assert [sent.task_id for sent in backend.app.sent] == ["body of group"]


def complete(backend, group_id):
    """A chord whose parts are counted and whose body nobody has claimed."""
    members = tuple(f"{group_id}-{place}" for place in range(2))
    chord = Chord(group_id, members, backend.encode(BODY), f"body of {group_id}")
    for task_id in members:
        backend.mark_as_done(task_id, value_of(task_id))
    backend.do_open_chord(chord, None)


def test_a_complete_chord_whose_members_were_evicted_fails_its_body(server, backend):
    complete(backend, "group")
    evict(server, own_key("m"))
    backend.sweep()
    error = raised(lambda: backend.wait_for("body of group", timeout=PATIENCE))
    assert isinstance(error, ChordError)
    assert "member 0 of group, evicted" in str(error)
    assert backend.app.sent == []


def test_an_open_chord_whose_members_were_evicted_fails_its_body(server, backend):
    body_id = backend.open_chord("group", MEMBERS, BODY)
    settle_part(backend, "group", 0)
    evict(server, own_key("m"))
    settle_part(backend, "group", 1)
    error = raised(lambda: backend.wait_for(body_id, timeout=PATIENCE))
    assert isinstance(error, ChordError)
    assert backend.app.sent == []


def test_an_evicted_list_of_what_is_due_is_found_anew(server, backend):
    complete(backend, "group")
    evict(server, "settled-due")
    assert list(backend.do_due_chords(10)) == ["group"]
    assert backend.sweep() == 1


def test_an_evicted_list_of_what_is_open_keeps_no_chord_from_its_end(server, backend):
    body_id = backend.open_chord("group", MEMBERS, BODY)
    evict(server, "settled-open")
    for place in range(2):
        settle_part(backend, "group", place)
    assert [sent.task_id for sent in backend.app.sent] == [body_id]


def test_an_evicted_claim_is_had_back_by_its_holder(server, backend):
    complete(backend, "group")
    claim, other = Claim("one", 5000.0), Claim("other", 5000.0)
    assert backend.do_claim_chord("group", claim)
    evict(server, own_key("c"))
    assert backend.do_claim_chord("group", claim)
    assert not backend.do_claim_chord("group", other)


def test_no_call_fails_on_a_server_that_evicts_all_the_time(server, backend):
    server.ask("CONFIG", "SET", "maxmemory", int(server.ask("INFO", "memory")["used_memory"]) + 5 * ROOM)
    for number in range(300):
        group_id = f"group-{number}"
        backend.open_chord(group_id, [f"{group_id}-{place}" for place in range(3)], BODY)
        for place in range(3):
            assert settle_part(backend, group_id, place)
        backend.mark_as_done(f"task-{number}", "x" * 10_000)
        backend.chord_state(f"group-{number // 2}")
        backend.get_state(f"task-{number // 2}")
    backend.sweep()
    assert int(server.ask("INFO", "stats")["evicted_keys"]) > 100
