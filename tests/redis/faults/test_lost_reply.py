"""The server has done what it was asked, and the connection breaks before its reply is here."""

from __future__ import annotations

from importlib.resources import files

import pytest

from settled.backends.redis.scripts import script
from settled.chords import body_id_of
from settled.record import Chord, Claim, Part, Settle
from settled.testing.app import Request, Task
from settled.testing.threads import Running
from tests.redis.faults.load import BODY, PATIENCE, missing, settle_part, value_of
from tests.servers import until

GROUP = "group"
MEMBERS = ["group-0", "group-1"]
BODY_ID = body_id_of(BODY, GROUP)


@pytest.fixture(params=[{}, {"index": True}], ids=["plain", "indexed"])
def backend(request, server, proxy, connect):
    """On a server that knows all scripts: what is lost is never that it does not."""
    for path in files("settled.backends.redis").joinpath("lua").iterdir():
        server.ask("SCRIPT", "LOAD", script(path.name.removesuffix(".lua")).text)
    return connect(proxy, **request.param)


def lost(proxy, containing, call, *args):
    """What the call returns, of which the reply to the request with `containing` in it was lost."""
    loss = proxy.lose_next_reply(containing)
    answer = call(*args)
    assert loss.is_set()
    return answer


def sent(backend):
    """The ids of the bodies that were sent, when nothing more is to be done."""
    assert backend.sweep() == 0
    return [each.task_id for each in backend.app.sent]


def ask_for(name):
    """What a request to run this script holds."""
    return script(name).digest


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS", "RETRY", "FAILURE", "REVOKED", "SUCCESS"])
def test_a_write_is_made_again_and_reports_that_it_landed(server, proxy, backend, state):
    settled = lost(proxy, b"task", backend.store_result, "task", value_of("task"), state)
    assert (settled.landed, settled.state) == (True, state)
    assert missing(server, ["task"]) == []


def test_a_later_attempts_write_reports_that_it_landed(proxy, backend):
    backend.mark_as_failure("task", ValueError(), request=Request("task"))
    later = Request("task", retries=1)
    assert lost(proxy, b"task", backend.mark_as_failure, "task", KeyError(), None, later)
    assert isinstance(backend.get_result("task"), KeyError)


def test_a_write_that_comes_too_late_reports_that_it_did_not_land(proxy, backend):
    backend.mark_as_done("task", 1)
    settled = lost(proxy, b"task", backend.mark_as_done, "task", 2)
    assert (settled.landed, settled.state) == (False, "SUCCESS")
    assert backend.get_result("task") == 1


def test_reads_are_made_again(proxy, backend):
    for number in range(3):
        backend.mark_as_done(f"task-{number}", number)
    assert lost(proxy, b"task-1", backend.get_result, "task-1") == 1
    found = lost(proxy, b"MGET", lambda: dict(backend.get_many([f"task-{number}" for number in range(3)])))
    assert [found[f"task-{number}"]["result"] for number in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 5, 1000, 100_000])
def test_a_reply_that_breaks_off_anywhere_is_asked_for_again(proxy, backend, count):
    backend.mark_as_done("large", "x" * 200_000)
    proxy.cut_after_reply_bytes(count)
    assert backend.get_result("large") == "x" * 200_000


def test_a_task_is_forgotten_and_a_group_kept_all_the_same(proxy, backend):
    group = backend.app.GroupResult(GROUP, [backend.app.AsyncResult("task")])
    lost(proxy, GROUP.encode(), backend.save_group, GROUP, group)
    assert [each.id for each in backend.restore_group(GROUP).results] == ["task"]
    lost(proxy, GROUP.encode(), backend.delete_group, GROUP)
    assert backend.restore_group(GROUP) is None
    backend.mark_as_done("task", 1)
    lost(proxy, b"task", backend.forget, "task")
    assert backend.get_state("task") == "PENDING"


def test_whoever_waits_is_told_though_the_reply_to_subscribing_was_lost(server, proxy, backend, connect):
    loss = proxy.lose_next_reply(b"SUBSCRIBE")
    waiter = Running(lambda: backend.wait_for("task", timeout=PATIENCE))
    until(loss.is_set, PATIENCE, "the subscription")
    connect(server).mark_as_done("task", "value")
    assert waiter.result(PATIENCE) == "value"


# -- chords ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["settle_part", "read_chord", "claim", "finish"])
def test_the_last_part_of_a_chord_sends_the_body_once(proxy, backend, step):
    backend.open_chord(GROUP, MEMBERS, BODY)
    settle_part(backend, GROUP, 0)
    name = "settle_indexed" if step == "settle_part" and backend.options.get("index") else step
    assert lost(proxy, ask_for(name), settle_part, backend, GROUP, 1)
    assert sent(backend) == [BODY_ID]
    assert backend.chord_state(GROUP).done


def test_the_last_part_has_its_claim_back(proxy, backend):
    backend.open_chord(GROUP, MEMBERS, BODY)
    settle_part(backend, GROUP, 0)
    payload = backend.encode({"status": "SUCCESS", "result": 1})
    write = Settle("group-1", "SUCCESS", payload, part=Part(GROUP, 1), claim=Claim("token", 60.0))
    settled = lost(proxy, b"group-1", backend.call, backend.do_settle, write)
    assert (settled.landed, settled.claimed) == (True, True)


def part_request(place):
    return Request(MEMBERS[place], group=GROUP, group_index=place, chord=BODY)


def test_a_part_counts_once(proxy, backend):
    backend.open_chord(GROUP, MEMBERS, BODY)
    assert lost(proxy, b"group-0", settle_part, backend, GROUP, 0)
    assert backend.chord_state(GROUP).parts == ("SUCCESS", None)
    assert sent(backend) == []


def test_a_part_that_failed_counts_once(proxy, backend):
    body_id = backend.open_chord(GROUP, MEMBERS, BODY)
    assert lost(proxy, b"group-0", backend.mark_as_failure, MEMBERS[0], ValueError(), None, part_request(0))
    assert backend.chord_state(GROUP).parts == ("FAILURE", None)
    assert backend.get_state(body_id) == "PENDING"
    settle_part(backend, GROUP, 1)
    assert backend.get_state(body_id) == "FAILURE"


def test_a_chord_that_opens_complete_sends_its_body_once(proxy, backend):
    for task_id in MEMBERS:
        backend.mark_as_done(task_id, value_of(task_id))
    assert lost(proxy, ask_for("open"), backend.open_chord, GROUP, MEMBERS, BODY) == BODY_ID
    assert sent(backend) == [BODY_ID]


def test_an_opened_chord_is_opened_once(proxy, backend):
    lost(proxy, ask_for("open"), backend.open_chord, GROUP, MEMBERS, BODY)
    assert backend.chord_state(GROUP).parts == (None, None)
    for place in range(2):
        settle_part(backend, GROUP, place)
    assert sent(backend) == [BODY_ID]


def test_a_member_is_added_once(proxy, backend):
    backend.open_chord(GROUP, MEMBERS, BODY)
    backend.mark_as_done("group-2", value_of("group-2"))
    for step in ("grow", "count"):
        assert lost(proxy, ask_for(step), backend.grow_chord, GROUP, ["group-2"]) == 3
    assert backend.chord_state(GROUP).chord.members == ("group-0", "group-1", "group-2")
    settle_part(backend, GROUP, 0)
    assert sent(backend) == []
    settle_part(backend, GROUP, 1)
    assert sent(backend) == [BODY_ID]


def test_a_part_that_was_settled_by_other_ways_is_counted_once(proxy, backend):
    backend.open_chord(GROUP, MEMBERS, BODY)
    for place, task_id in enumerate(MEMBERS):
        backend.mark_as_done(task_id, value_of(task_id))
        lost(proxy, ask_for("count"), backend.on_chord_part_return, Task(part_request(place)))
    assert sent(backend) == [BODY_ID]


def test_a_chord_that_is_finished_or_deleted_twice_is_so_once(proxy, backend):
    chord = Chord(GROUP, tuple(MEMBERS), backend.encode(BODY), BODY_ID)
    backend.do_open_chord(chord, None)
    lost(proxy, ask_for("finish"), backend.call, backend.do_finish_chord, GROUP)
    assert backend.chord_state(GROUP).done
    lost(proxy, ask_for("delete_chord"), backend.call, backend.do_delete_chord, GROUP)
    assert backend.chord_state(GROUP) is None
    assert sent(backend) == []


def test_the_sweep_sends_what_is_due_once(proxy, backend):
    backend.do_open_chord(Chord(GROUP, tuple(MEMBERS), backend.encode(BODY), BODY_ID), None)
    for task_id in MEMBERS:
        backend.mark_as_done(task_id, value_of(task_id))
    backend.do_count_parts(GROUP, None, None)
    assert lost(proxy, ask_for("due"), backend.sweep) == 1
    assert sent(backend) == [BODY_ID]


# -- leases ----------------------------------------------------------------------------------------


def test_a_lease_is_held_by_who_took_it(proxy, backend):
    assert lost(proxy, b"lease", backend.call, backend.do_lease, ["name"], "one", 60.0) == {"name"}
    assert backend.do_lease(["name"], "two", 60.0) == frozenset()
    assert lost(proxy, b"lease", backend.call, backend.do_lease, ["name"], "one", 0) == frozenset()
    assert backend.do_lease(["name"], "two", 60.0) == {"name"}
