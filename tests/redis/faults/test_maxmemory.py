"""The server is full: it refuses writes (noeviction)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from settled.errors import StoreUnavailable, TimeoutError
from settled.record import Chord, Part, Settle
from settled.testing.threads import Running
from tests.redis.faults.load import BODY, PATIENCE, missing, settle_part, value_of
from tests.servers import until

ROOM = 300_000
MEMBERS = ("group-0", "group-1")


@pytest.fixture
def backend(server, connect):
    backend = connect(server)
    backend.retry_deadline = 0.2
    return backend


def fill(server, backend):
    """Store until the server is full: what it has stored, and the error with which it refuses more."""
    used = int(server.ask("INFO", "memory")["used_memory"])
    server.ask("CONFIG", "SET", "maxmemory", used + ROOM)
    stored = []
    while True:
        task_id = f"filler-{len(stored)}"
        try:
            backend.call(backend.do_settle, written(task_id))
        except StoreUnavailable as exc:
            # What was refused took room too, while it was looked at: nor may anything small fit in there.
            server.ask("CONFIG", "SET", "maxmemory", used)
            return stored, exc
        stored.append(task_id)


def written(task_id):
    payload = f'{{"status": "SUCCESS", "result": "{value_of(task_id)}", "padding": "{"x" * 10_000}"}}'
    return Settle(task_id, "SUCCESS", payload.encode(), expires=3600.0)


def enlarge(server):
    server.ask("CONFIG", "SET", "maxmemory", 0)


def test_a_refused_write_names_the_cause_and_the_way_out(server, backend):
    _, error = fill(server, backend)
    assert f"127.0.0.1:{server.port}" in str(error)
    assert "maxmemory" in str(error)
    assert "raise maxmemory" in str(error)
    assert "OOM" in str(error.__cause__)


def test_what_is_stored_stays_readable(server, backend, connect):
    stored, _ = fill(server, backend)
    other = connect(server)
    assert other.wait_for(stored[0], timeout=0) == value_of(stored[0])
    found = {task_id: meta["result"] for task_id, meta in other.get_many(stored, timeout=PATIENCE)}
    assert found == {task_id: value_of(task_id) for task_id in stored}
    with pytest.raises(TimeoutError):
        other.wait_for("unknown", timeout=0.1)
    assert missing(server, stored) == []


def test_all_goes_on_when_there_is_room_again(server, connect):
    backend, other = connect(server), connect(server)
    backend.retry_deadline = 0.2
    fill(server, backend)
    waiter = Running(lambda: other.wait_for("task", timeout=PATIENCE))
    writer = Running(lambda: other.mark_as_done("task", "x" * 10_000))
    until(lambda: refusals(server) > 3, PATIENCE, "a write that is tried again")
    enlarge(server)
    assert writer.result(PATIENCE)
    assert waiter.result(PATIENCE) == "x" * 10_000


def test_a_write_that_finds_no_room_is_kept_and_made_when_there_is_some(server, backend, caplog):
    fill(server, backend)
    assert backend.mark_as_done("task", value_of("task")).kept
    assert "raise maxmemory" in caplog.text
    enlarge(server)
    assert backend.outbox.drained(PATIENCE)
    assert missing(server, ["task"]) == []


def refusals(server):
    """How many commands the server has refused because it was full."""
    return server.ask("INFO", "errorstats").get("errorstat_OOM", {}).get("count", 0)


# -- chords ----------------------------------------------------------------------------------------


def test_a_refused_part_is_neither_stored_nor_counted(server, backend):
    backend.open_chord("group", MEMBERS, BODY)
    settle_part(backend, "group", 0)
    fill(server, backend)
    with pytest.raises(StoreUnavailable):
        backend.call(backend.do_settle, part(backend))
    assert backend.get_state("group-1") == "PENDING"
    assert backend.chord_state("group").parts == ("SUCCESS", None)
    enlarge(server)
    settle_part(backend, "group", 1)
    assert [sent.args for sent in backend.app.sent] == [([value_of(task_id) for task_id in MEMBERS],)]


def part(backend):
    """The write of the chord's last part."""
    return replace(written("group-1"), part=Part("group", 1), claim=backend.new_claim())


def test_a_chord_that_cannot_be_opened_is_not_half_open(server, backend):
    fill(server, backend)
    with pytest.raises(StoreUnavailable, match="maxmemory"):
        backend.open_chord("group", MEMBERS, BODY)
    assert backend.chord_state("group") is None
    enlarge(server)
    backend.open_chord("group", MEMBERS, BODY)
    for place in range(2):
        settle_part(backend, "group", place)
    assert len(backend.app.sent) == 1


def test_a_complete_chord_can_be_looked_at_and_is_dispatched_later(server, backend):
    backend.do_open_chord(Chord("group", MEMBERS, backend.encode(BODY), "body"), None)
    for task_id in MEMBERS:
        backend.mark_as_done(task_id, value_of(task_id))
    fill(server, backend)
    assert not backend.chord_state("group").done
    enlarge(server)
    backend.do_count_parts("group", None, None)
    fill(server, backend)
    assert backend.chord_state("group").complete
    assert list(backend.do_due_chords(10)) == ["group"]
    with pytest.raises(StoreUnavailable, match="maxmemory"):
        backend.sweep()
    enlarge(server)
    assert backend.sweep() == 1
    assert [sent.task_id for sent in backend.app.sent] == ["body"]


def test_a_dispatched_chord_can_be_finished_and_deleted(server, backend):
    backend.do_open_chord(Chord("group", MEMBERS, backend.encode(BODY), "body"), None)
    fill(server, backend)
    backend.do_finish_chord("group")
    assert backend.chord_state("group").done
    backend.do_delete_chord("group")
    assert backend.chord_state("group") is None
