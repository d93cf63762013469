"""Headers that grow while they run, and headers that are long."""

from __future__ import annotations

from settled.record import Part
from settled.states import FAILURE, SUCCESS
from settled.testing.checks.header import claim, completed, count, members, opened, standing
from settled.testing.contract import check
from settled.testing.store import Store


@check("barrier")
def a_header_grows(store: Store) -> None:
    """A header that grows is longer by its new members, behind the others, and waits for them."""
    opened(store, 2)
    count(store, 0)
    assert store.backend.do_grow_chord("group", ("late-1", "late-2")) == 4
    assert standing(store).chord.members == ("group-0", "group-1", "late-1", "late-2")
    assert standing(store).parts == (SUCCESS, None, None, None)
    assert not count(store, 1, claim=claim()).claimed
    store.settle("late-2", part=Part("group", 3))
    assert store.settle("late-1", part=Part("group", 2), claim=claim()).claimed


@check("barrier")
def growing_counts_who_was_first(store: Store) -> None:
    """A member that is settled already is counted as the header grows by it."""
    opened(store, 1)
    store.settle("early", FAILURE)
    assert store.backend.do_grow_chord("group", ("early", "late")) == 3
    assert standing(store).parts == (None, FAILURE, None)


@check("barrier")
def growing_twice_grows_once(store: Store) -> None:
    """Growing by members that are in the header already adds none: a repeated call is harmless."""
    opened(store, 1)
    assert store.backend.do_grow_chord("group", ("late",)) == 2
    assert store.backend.do_grow_chord("group", ("late", "later")) == 3
    assert standing(store).chord.members == ("group-0", "late", "later")


@check("barrier")
def what_is_complete_does_not_grow(store: Store) -> None:
    """A chord that is complete, done or was never opened does not grow."""
    completed(store)
    assert store.backend.do_grow_chord("group", ("late",)) is None
    assert standing(store).chord.members == members(2)
    store.backend.do_finish_chord("group")
    assert store.backend.do_grow_chord("group", ("late",)) is None
    assert store.backend.do_grow_chord("unknown", ("late",)) is None
    assert store.backend.do_read_chord("unknown") is None


@check("barrier")
def a_long_header_is_kept(store: Store) -> None:
    """A header of 500 is kept in order, and claimed once, by its last part."""
    opened(store, 500)
    claims = [count(store, place, claim=claim(f"token-{place}")).claimed for place in range(499, -1, -1)]
    assert claims == [False] * 499 + [True]
    assert standing(store).chord.members == members(500)
    assert standing(store).parts == (SUCCESS,) * 500
