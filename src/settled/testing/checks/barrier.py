"""The barrier of a chord: who is counted, and when it is complete."""

from __future__ import annotations

from settled.record import Chord, FailurePolicy, Part
from settled.states import FAILURE, RETRY, REVOKED, STARTED, SUCCESS
from settled.testing.checks.header import claim, completed, count, due, members, opened, standing
from settled.testing.contract import check
from settled.testing.store import Store


@check("barrier")
def it_opens_as_it_was_given(store: Store) -> None:
    """A barrier keeps its members in header order, its body, the body's id and its policy."""
    header = tuple(f"m{number}" for number in (3, 1, 2, 10, 0))
    for policy in FailurePolicy:
        chord = Chord(policy.value, header, b'{"task": "x"}', f"body-{policy.value}", policy)
        assert not store.backend.do_open_chord(chord, claim())
        state = standing(store, policy.value)
        assert (state.chord.members, state.chord.body_id, state.chord.policy) == (
            header,
            chord.body_id,
            policy,
        )
        assert state.chord.body == chord.body
        assert (state.parts, state.done, state.complete) == ((None,) * 5, False, False)


@check("barrier")
def an_unknown_chord_is_none(store: Store) -> None:
    """There is no barrier for an id that was never opened."""
    opened(store)
    assert store.backend.do_read_chord("other") is None
    assert not store.backend.do_count_parts("other", None, claim())
    assert not store.backend.do_claim_chord("other", claim())
    store.backend.do_finish_chord("other")
    store.backend.do_delete_chord("other")


@check("barrier")
def parts_are_counted_in_their_place(store: Store) -> None:
    """Each settled part is counted in its own place, in whatever order they come."""
    opened(store, 4)
    count(store, 2)
    assert standing(store).parts == (None, None, SUCCESS, None)
    count(store, 0, FAILURE)
    count(store, 3, REVOKED)
    assert standing(store).parts == (FAILURE, None, SUCCESS, REVOKED)
    assert not standing(store).complete
    count(store, 1)
    assert standing(store).complete


@check("barrier")
def a_duplicate_counts_once(store: Store) -> None:
    """A part that is delivered twice is counted once."""
    opened(store, 3)
    for _ in range(3):
        assert not count(store, 0, claim=claim()).claimed
    assert standing(store).counted == 1
    assert not standing(store).complete
    assert due(store) == []


@check("barrier")
def a_place_need_not_be_known(store: Store) -> None:
    """A part whose place its writer does not know is counted in the place of its task."""
    header = opened(store, 3)
    store.settle(header[1], part=Part("group", None))
    assert standing(store).parts == (None, SUCCESS, None)


@check("barrier")
def a_late_success_replaces_a_failure(store: Store) -> None:
    """While the chord is open a SUCCESS takes the place of a lost attempt's FAILURE."""
    opened(store, 2)
    count(store, 0, FAILURE)
    count(store, 0, SUCCESS, attempt=1)
    assert standing(store).parts == (SUCCESS, None)
    assert standing(store).counted == 1
    assert count(store, 1, claim=claim()).claimed


@check("barrier")
def a_late_failure_replaces_nothing(store: Store) -> None:
    """A FAILURE that comes after the SUCCESS of the same part changes nothing."""
    opened(store, 2)
    count(store, 0, SUCCESS)
    count(store, 0, FAILURE, attempt=3)
    assert standing(store).parts == (SUCCESS, None)


@check("barrier")
def a_refused_part_is_counted_still(store: Store) -> None:
    """A write that does not land, for the task is ready already, still counts the part by what is stored."""
    header = opened(store, 2)
    store.settle(header[0], SUCCESS)
    assert standing(store).parts == (None, None)
    assert not count(store, 0, FAILURE).landed
    assert standing(store).parts == (SUCCESS, None)
    store.settle(header[1], SUCCESS)
    settled = count(store, 1, STARTED, claim=claim())
    assert (settled.landed, settled.claimed) == (False, True)


@check("barrier")
def an_unready_part_is_not_counted(store: Store) -> None:
    """A write of an unready state counts no part."""
    opened(store, 1)
    for state in (STARTED, RETRY, "PROGRESS"):
        assert not count(store, 0, state, claim=claim()).claimed
    assert standing(store).parts == (None,)


@check("barrier")
def strangers_are_not_counted(store: Store) -> None:
    """A task that is no member, or of another chord, counts for nothing; its record is stored all the same."""
    opened(store, 1)
    opened(store, 2, group_id="second")
    assert store.settle("stranger", part=Part("group", 0), claim=claim()).landed
    count(store, 0, group_id="second")
    assert standing(store).parts == (None,)
    assert store.state("stranger") == SUCCESS


@check("barrier")
def a_part_of_no_chord_is_stored(store: Store) -> None:
    """The record of a part whose chord is unknown is stored; nothing is claimed."""
    settled = store.settle("task", part=Part("unknown", 0), claim=claim())
    assert (settled.landed, settled.claimed) == (True, False)
    assert store.state("task") == SUCCESS
    assert store.backend.do_read_chord("unknown") is None


@check("barrier")
def opening_counts_who_was_first(store: Store) -> None:
    """Opening counts the members that are settled already, by their records."""
    header = members(4)
    for place, state in ((0, SUCCESS), (2, FAILURE), (3, STARTED)):
        store.settle(header[place], state)
    assert not store.backend.do_open_chord(Chord("group", header, b"{}", "body"), claim())
    assert standing(store).parts == (SUCCESS, None, FAILURE, None)


@check("barrier")
def opening_a_complete_chord_claims_it(store: Store) -> None:
    """Opening a chord whose members are all settled, or that has none, gives the claim to who opened it."""
    header = members(2)
    for task_id in header:
        store.settle(task_id)
    assert store.backend.do_open_chord(Chord("group", header, b"{}", "body"), claim())
    assert store.backend.do_open_chord(Chord("empty", (), b"{}", "body-2"), claim())
    assert due(store) == []


@check("barrier")
def opening_again_changes_nothing(store: Store) -> None:
    """Opening an open barrier again changes neither its members, its body nor what was counted."""
    header = opened(store, 2)
    count(store, 0, FAILURE)
    before = standing(store)
    other = Chord("group", ("x", "y", "z"), b"other", "other", FailurePolicy.FIRST)
    assert not store.backend.do_open_chord(other, claim())
    assert standing(store) == before
    assert before.chord.members == header


@check("barrier")
def opening_a_done_chord_changes_nothing(store: Store) -> None:
    """Opening a barrier that is done leaves it done, and claims nothing."""
    header = completed(store)
    store.backend.do_claim_chord("group", claim())
    store.backend.do_finish_chord("group")
    assert not store.backend.do_open_chord(Chord("group", header, b"{}", "body"), claim("second"))
    assert standing(store).done
    assert due(store) == []


@check("barrier")
def a_task_may_stand_twice(store: Store) -> None:
    """A task that stands at several places of the header is counted in each of them."""
    store.backend.do_open_chord(Chord("group", ("a", "b", "a"), b"{}", "body"), None)
    store.settle("a", part=Part("group", 0))
    assert standing(store).parts == (SUCCESS, None, SUCCESS)
    assert store.settle("b", part=Part("group", 1), claim=claim()).claimed


@check("barrier")
def the_policy_first_ends_at_a_failure(store: Store) -> None:
    """With the policy "first" a chord is complete at its first failure, with the others when all are counted."""
    for policy in FailurePolicy:
        opened(store, 3, policy, policy.value)
        count(store, 1, SUCCESS, claim(), group_id=policy.value)
        claimed = count(store, 2, FAILURE, claim(), group_id=policy.value).claimed
        assert claimed == (policy is FailurePolicy.FIRST)
        assert standing(store, policy.value).complete == (policy is FailurePolicy.FIRST)
        if policy is not FailurePolicy.FIRST:
            assert count(store, 0, REVOKED, claim(), group_id=policy.value).claimed


@check("barrier")
def a_recount_reads_the_records(store: Store) -> None:
    """Parts that were never counted are counted from the stored records: those named, or all."""
    header = opened(store, 4)
    for place, state in enumerate((SUCCESS, FAILURE, STARTED, SUCCESS)):
        store.settle(header[place], state)
    assert not store.backend.do_count_parts("group", (header[1], header[2], "stranger"), claim())
    assert standing(store).parts == (None, FAILURE, None, None)
    assert not store.backend.do_count_parts("group", None, claim())
    assert standing(store).parts == (SUCCESS, FAILURE, None, SUCCESS)
    store.settle(header[2])
    assert store.backend.do_count_parts("group", (header[2],), claim())


@check("barrier")
def a_deleted_chord_is_gone(store: Store) -> None:
    """A deleted barrier is gone and never due; deleting again is harmless; its records stay."""
    header = completed(store)
    opened(store, 1, group_id="second")
    for _ in range(2):
        store.backend.do_delete_chord("group")
        assert store.backend.do_read_chord("group") is None
        assert due(store) == []
    assert not count(store, 0, claim=claim()).claimed
    assert store.state(header[1]) == SUCCESS
    assert standing(store, "second").parts == (None,)


@check("barrier")
def chords_do_not_mix(store: Store) -> None:
    """Two chords of the same size do not touch each other."""
    opened(store, 2, group_id="one")
    opened(store, 2, FailurePolicy.FIRST, "two")
    count(store, 0, FAILURE, group_id="one")
    count(store, 1, SUCCESS, group_id="two")
    assert standing(store, "one").parts == (FAILURE, None)
    assert standing(store, "two").parts == (None, SUCCESS)
    assert count(store, 1, claim=claim(), group_id="one").claimed
    assert not standing(store, "two").complete


@check("barrier", "expiry")
def a_barrier_outlives_its_results(store: Store) -> None:
    """An open barrier does not expire with the results of its members."""
    header = opened(store, 2)
    store.settle(header[0], expires=30.0, part=Part("group", 0))
    store.advance(40.0 * 24 * 3600)
    if store.capabilities.expiry == "cleanup":
        store.backend.cleanup()
    assert standing(store).parts == (SUCCESS, None)
    assert count(store, 1, claim=claim()).claimed
