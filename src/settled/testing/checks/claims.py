"""The claim on a complete chord: granted once, leased, taken over, ended by the done marker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from settled.record import Chord, Claim, Part
from settled.states import SUCCESS
from settled.testing.checks.header import LEASE, claim, completed, count, due, members, opened, standing
from settled.testing.contract import check
from settled.testing.store import Store
from settled.testing.threads import together


@check("claims")
def the_last_part_gets_the_claim(store: Store) -> None:
    """The part that completes the chord gets the claim, the parts before it do not."""
    opened(store, 3)
    assert [count(store, place, claim=claim(f"t{place}")).claimed for place in (1, 0, 2)] == [
        False,
        False,
        True,
    ]


@check("claims")
def a_late_part_gets_what_is_due(store: Store) -> None:
    """A part that finds its chord complete and unclaimed gets the claim, counted already or no member at all."""
    for number, task_id in enumerate(("group-0-1", "stranger")):
        completed(store, group_id=f"group-{number}")
        assert store.settle(task_id, part=Part(f"group-{number}"), claim=claim()).claimed
        assert due(store) == []


@check("claims")
def a_live_claim_keeps_others_away(store: Store) -> None:
    """While a claim lives no other token gets it: by a settle, a recount, an opening or a claim."""
    header = completed(store, token="first")
    assert not count(store, 1, claim=claim("second")).claimed
    assert not store.backend.do_count_parts("group", None, claim("second"))
    assert not store.backend.do_open_chord(Chord("group", header, b"{}", "body"), claim("second"))
    assert not store.backend.do_claim_chord("group", claim("second"))


@check("claims")
def the_same_token_gets_its_claim_back(store: Store) -> None:
    """The holder's own token is granted again, by whichever call."""
    header = completed(store, token="first")
    assert count(store, 1, claim=claim("first")).claimed
    assert store.backend.do_count_parts("group", (header[0],), claim("first"))
    assert store.backend.do_open_chord(Chord("group", header, b"{}", "body"), claim("first"))
    assert store.backend.do_claim_chord("group", claim("first"))


@check("claims")
def a_dead_claim_is_taken_over(store: Store) -> None:
    """A claim whose lease has ended is taken over by another token."""
    takes: tuple[Callable[[], bool], ...] = (
        lambda: store.backend.do_claim_chord("group-0", claim("second")),
        lambda: count(store, 1, claim=claim("second"), group_id="group-1").claimed,
        lambda: store.backend.do_count_parts("group-2", None, claim("second")),
    )
    for number, take in enumerate(takes):
        completed(store, token="first", group_id=f"group-{number}")
        store.advance(LEASE - 5.0)
        assert not take()
        store.advance(10.0)
        assert take()
        assert not store.backend.do_claim_chord(f"group-{number}", claim("first"))


@check("claims")
def a_claim_can_be_extended(store: Store) -> None:
    """Claiming again with the holder's token begins the lease anew."""
    completed(store, token="first")
    store.advance(LEASE - 5.0)
    assert store.backend.do_claim_chord("group", claim("first"))
    store.advance(LEASE - 5.0)
    assert not store.backend.do_claim_chord("group", claim("second"))
    assert due(store) == []


@check("claims")
def a_lease_is_as_long_as_asked(store: Store) -> None:
    """A claim lives for the seconds that it asked for."""
    completed(store)
    assert store.backend.do_claim_chord("group", Claim("short", 10.0))
    store.advance(12.0)
    assert store.backend.do_claim_chord("group", Claim("long", 1000.0))
    store.advance(900.0)
    assert not store.backend.do_claim_chord("group", Claim("short", 10.0))


@check("claims")
def what_is_incomplete_is_not_claimed(store: Store) -> None:
    """A chord that is not complete cannot be claimed."""
    opened(store, 2)
    count(store, 0)
    assert not store.backend.do_claim_chord("group", claim())
    assert not store.backend.do_count_parts("group", None, claim())
    assert count(store, 1, claim=claim("other")).claimed


@check("claims")
def what_is_done_is_not_claimed(store: Store) -> None:
    """A chord that is done is claimed by nobody again, not after its lease either."""
    completed(store, token="first")
    store.backend.do_finish_chord("group")
    for _ in range(2):
        for token in ("first", "second"):
            assert not store.backend.do_claim_chord("group", claim(token))
            assert not store.backend.do_count_parts("group", None, claim(token))
            assert not count(store, 0, claim=claim(token)).claimed
        store.advance(LEASE * 10)
    assert standing(store).done


@check("claims")
def the_done_marker_stays(store: Store) -> None:
    """Finishing sets the done marker; finishing again, and late parts, change nothing."""
    completed(store, token="first")
    for _ in range(2):
        store.backend.do_finish_chord("group")
        assert standing(store).done
    count(store, 0, SUCCESS, attempt=7)
    assert standing(store).done
    assert due(store) == []


@check("claims")
def without_a_claim_it_is_due_at_once(store: Store) -> None:
    """A chord that is completed without a claim is due at once, also when its opening completed it."""
    completed(store)
    assert due(store) == ["group"]
    for task_id in members(1, "second"):
        store.settle(task_id)
    assert not store.backend.do_open_chord(Chord("second", members(1, "second"), b"{}", "b"), None)
    assert due(store) == ["group", "second"]
    assert store.backend.do_claim_chord("group", claim())
    assert due(store) == ["second"]


@check("claims")
def what_is_claimed_is_not_due(store: Store) -> None:
    """A chord is due while it is complete, undone and not held by a live claim."""
    completed(store, token="first")
    opened(store, 2, group_id="open")
    assert due(store) == []
    store.advance(LEASE + 5.0)
    assert due(store) == ["group"]
    store.backend.do_finish_chord("group")
    assert due(store) == []


@check("claims")
def a_look_at_what_is_due_is_bounded(store: Store) -> None:
    """At most `limit` due chords are listed at once; all of them are found in the end."""
    for number in range(5):
        completed(store, 1, group_id=f"group-{number}")
    found: set[str] = set()
    for _ in range(3):
        listed = list(store.backend.do_due_chords(2))
        assert len(listed) <= 2
        found.update(listed)
        for group_id in listed:
            store.backend.do_claim_chord(group_id, claim())
    assert found == {f"group-{number}" for number in range(5)}


@check("claims", "guarded")
def racing_parts_get_one_claim(store: Store) -> None:
    """Parts that are settled at the same moment are all counted, and exactly one of them gets the claim."""
    for group in range(5):
        group_id = f"race-{group}"
        opened(store, 8, group_id=group_id)
        settled = together(
            *(
                partial(count, store, place, SUCCESS, claim(f"t{place}"), group_id=group_id)
                for place in range(8)
            )
        )
        assert [each.claimed for each in settled].count(True) == 1
        assert standing(store, group_id).counted == 8


@check("claims", "guarded")
def racing_claims_have_one_winner(store: Store) -> None:
    """Of several who claim a due chord at the same moment exactly one gets it."""
    for group in range(5):
        group_id = f"race-{group}"
        completed(store, 1, group_id=group_id)
        won = together(*(partial(_claimed, store, group_id, f"t{number}") for number in range(6)))
        assert won.count(True) == 1


def _claimed(store: Store, group_id: str, token: str) -> bool:
    return store.backend.call(store.backend.do_claim_chord, group_id, claim(token))
