"""The server forgets the scripts, at any moment: SCRIPT FLUSH, or a server that is new."""

from __future__ import annotations

import threading

import pytest

from settled.record import Chord, Claim, Part, Query, Settle
from settled.testing.faults import Faults
from settled.testing.threads import Running
from tests.redis.faults.load import BODY, PATIENCE, Chords, Load, settle_part, value_of

MEMBERS = ("group-0", "group-1")

HOOKS = (
    "do_settle", "do_read", "do_open_chord", "do_grow_chord", "do_read_chord", "do_count_parts", "do_claim_chord",
    "do_finish_chord", "do_due_chords", "do_delete_chord", "do_lease", "do_forget", "do_query",
)  # fmt: skip


@pytest.fixture(params=[{}, {"index": True}], ids=["plain", "indexed"])
def backend(request, server, connect):
    """Each of its hooks finds a server that knows no script."""
    backend = connect(server, **request.param)
    faults = Faults()

    def flushed(call, args):
        server.ask("SCRIPT", "FLUSH")
        return call(*args)

    for hook in HOOKS:
        faults.wrap(backend, hook, flushed, None)
    yield backend
    faults.lift()


def test_every_hook_is_served_by_a_server_that_knows_no_script(backend):
    chord = Chord("group", MEMBERS, backend.encode(BODY), "body")
    claim = Claim("token", 60.0)
    assert not backend.do_open_chord(chord, claim)
    assert backend.do_grow_chord("group", ("group-2",)) == 3
    assert [backend.do_settle(part(place, claim)).claimed for place in range(3)] == [False, False, True]
    assert backend.do_read_chord("group").complete
    assert backend.do_count_parts("group", None, claim)
    assert backend.do_claim_chord("group", claim)
    assert backend.do_due_chords(10) == []
    backend.do_finish_chord("group")
    assert backend.do_read_chord("group").done
    backend.do_delete_chord("group")
    assert backend.do_read_chord("group") is None
    assert backend.do_lease(["name"], "token", 60.0) == {"name"}
    assert len(list(backend.do_query(Query()))) == 3
    backend.do_forget([*MEMBERS, "group-2"])
    assert list(backend.do_query(Query())) == []


def part(place, claim):
    payload = b'{"status": "SUCCESS", "result": %d}' % place
    return Settle(f"group-{place}", "SUCCESS", payload, part=Part("group", place), claim=claim)


def test_a_chord_whose_every_step_finds_no_script_sends_its_body_once(backend):
    body_id = backend.open_chord("group", MEMBERS, BODY)
    for place in range(2):
        settle_part(backend, "group", place)
    assert backend.sweep() == 0
    [sent] = backend.app.sent
    assert (sent.task_id, sent.args) == (body_id, ([value_of("group-0"), value_of("group-1")],))


def test_scripts_flushed_at_any_moment_cost_nobody_a_result_or_a_body(server, connect):
    load = Load(connect(server), connect(server), waiters=10, writers=4)
    chords = Chords(connect(server))
    enough = threading.Event()

    def flush():
        with server.client() as client:
            while not enough.is_set():
                client.script_flush()

    flushing = Running(flush)
    load.go_on(1000)
    chords.go_on(20)
    enough.set()
    flushing.result(PATIENCE)
    load.finish(server)
    chords.finish()
    assert load.refused == load.kept == []
    assert chords.repeated == []


def test_a_lost_reply_to_a_script_sent_anew_repeats_nothing(server, proxy, connect):
    backend = connect(proxy)
    backend.open_chord("group", MEMBERS, BODY)
    settle_part(backend, "group", 0)
    server.ask("SCRIPT", "FLUSH")
    loss = proxy.lose_next_reply(b"$4\r\nEVAL\r\n")
    assert settle_part(backend, "group", 1)
    assert loss.is_set()
    assert backend.sweep() == 0
    assert len(backend.app.sent) == 1
