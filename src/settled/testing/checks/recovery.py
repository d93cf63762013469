"""Chords whose dispatch went wrong: who takes over, and when nothing is sent."""

from __future__ import annotations

from settled import chords
from settled.chords import CLAIM_LEASE, RECOUNT_INTERVAL
from settled.errors import ChordError
from settled.record import Claim, Part, Settle
from settled.states import SUCCESS
from settled.testing.app import Request, Sent
from settled.testing.checks.expecting import raised
from settled.testing.checks.header import begun, body_error, part_request, settle_part
from settled.testing.contract import check
from settled.testing.store import Store


@check("dispatch")
def the_sweep_sends_what_was_left(store: Store) -> None:
    """A complete chord that nobody dispatched is sent by the sweep, once."""
    begun(store, "a")
    store.app.can_send = False
    settle_part(store, "a", 0, "left")
    assert store.app.sent == []
    store.app.can_send = True
    store.backend.sweep()
    assert [sent.args for sent in store.app.wait_sent(1, store.patience)] == [(["left"],)]
    store.advance(CLAIM_LEASE * 10)
    store.backend.sweep()
    assert len(store.app.sent) == 1


@check("dispatch")
def the_sweep_takes_over_from_the_dead(store: Store) -> None:
    """A chord whose holder died after its claim is sent by a sweep when the lease has ended, under the same id."""
    begun(store, "a")
    store.settle("a", value=0)
    assert store.backend.do_count_parts("group", None, Claim("dead", CLAIM_LEASE))
    store.backend.sweep()
    assert store.app.sent == []
    store.advance(CLAIM_LEASE + 1.0)
    store.backend.sweep()
    assert [(sent.task_id, sent.args) for sent in store.app.wait_sent(1, store.patience)] == [
        ("body", ([0],))
    ]


@check("dispatch")
def a_body_that_ran_is_not_sent_again(store: Store) -> None:
    """If the body's own record exists, whoever takes over a chord only sets its done marker."""
    begun(store, "a")
    store.settle("a", value=0)
    store.backend.do_count_parts("group", None, Claim("dead", CLAIM_LEASE))
    store.backend.mark_as_started("body")
    store.advance(CLAIM_LEASE + 1.0)
    store.backend.sweep()
    state = store.backend.chord_state("group")
    assert state is not None
    assert state.done
    assert store.app.sent == []


@check("dispatch")
def sending_is_tried_again(store: Store) -> None:
    """A body that could not be sent is sent, under the same id, when the claim has run out."""
    failures = [ConnectionError("no broker")]

    def before_send(sent: Sent) -> None:
        if failures:
            raise failures.pop()

    store.app.before_send = before_send
    begun(store, "a")
    settle_part(store, "a", 0)
    assert store.app.sent == []
    store.advance(CLAIM_LEASE + 1.0)
    store.backend.sweep()
    assert [sent.task_id for sent in store.app.wait_sent(1, store.patience)] == ["body"]


@check("dispatch")
def who_lost_the_claim_does_not_send(store: Store) -> None:
    """A holder whose claim was taken over, or whose chord is done, does not send."""
    begun(store, "a")
    store.settle("a", value=0)
    late = Claim("late", CLAIM_LEASE)
    assert store.backend.do_count_parts("group", None, late)
    store.advance(CLAIM_LEASE + 1.0)
    assert store.backend.do_claim_chord("group", Claim("quick", CLAIM_LEASE))
    assert not chords.dispatch(store.backend, "group", late)
    store.backend.do_finish_chord("group")
    assert not chords.dispatch(store.backend, "group", late)
    assert store.app.sent == []


@check("dispatch", "expiry")
def an_expired_member_is_named(store: Store) -> None:
    """If a member's result has expired by the time all are counted, the body fails with an error that names it."""
    begun(store, "early", "late")
    store.backend.store_result("early", 1, SUCCESS, request=part_request("early", 0), expires=10.0)
    store.advance(20.0)
    settle_part(store, "late", 1)
    assert "early" in str(body_error(store))
    assert store.app.sent == []


@check("dispatch", "expiry")
def a_member_that_never_settles_is_named(store: Store) -> None:
    """If a member expires before it was ever ready, it is counted as expired, and the body fails with its name.

    By the cleanup; by a recount that has seen it before, where the store deletes what has expired.
    """
    begun(store, "lost", "fine")
    life = 10 * RECOUNT_INTERVAL
    store.backend.store_result("lost", None, "STARTED", request=Request("lost"), expires=life)
    settle_part(store, "fine", 1)
    for seconds in (RECOUNT_INTERVAL + 1.0, life):
        assert store.app.sent == []
        store.advance(seconds)
        store.backend.sweep()
    store.backend.cleanup()
    store.backend.sweep()
    assert "lost" in str(body_error(store))


@check("dispatch")
def a_damaged_member_is_named(store: Store) -> None:
    """If a member's record is damaged, the body fails with an error that names it, and is not tried for ever."""
    begun(store, "good", "bad")
    settle_part(store, "good", 0)
    damaged = Settle("bad", SUCCESS, b'{"status": "SUCCESS", "result": [1, 2', part=Part("group", 1))
    store.backend.do_settle(damaged)
    store.backend.sweep()
    error = raised(lambda: store.backend.wait_for("body", timeout=store.patience))
    assert isinstance(error, ChordError), repr(error)
    assert "bad" in str(error)
