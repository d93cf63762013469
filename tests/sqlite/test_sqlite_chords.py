"""Barriers: counted once, claimed once, and in the same step as the record that completes them."""

from __future__ import annotations

import pytest

from settled.record import Chord, Claim, FailurePolicy, Part, Settle

ME, YOU = Claim("me", 10.0), Claim("you", 10.0)


def write(task_id: str, state: str = "SUCCESS", claim: Claim | None = None, **more: object) -> Settle:
    return Settle(task_id, state, b"{}", part=Part("g"), claim=claim, **more)


def chord(*members: str, policy: FailurePolicy = FailurePolicy.ALL) -> Chord:
    return Chord("g", members, b"the body", "body-id", policy)


@pytest.fixture
def clock(backend):
    now = [1_800_000_000.0]
    backend.clock = lambda: now[0]
    return now


@pytest.fixture
def counters(raw):
    """The barrier's counters, having made sure that they are what its parts say."""

    def read() -> tuple:
        [row] = raw("SELECT counted, failed, size FROM settled_chord")
        parts = "SELECT count(state), coalesce(sum(state <> 'SUCCESS'), 0), count(*) FROM settled_part"
        assert raw(parts) == [row]
        return row

    return read


def test_a_barrier_reads_back_as_it_was_opened(backend):
    opened = chord("c", "a", "b", "a", policy=FailurePolicy.OUTCOMES)
    assert backend.do_read_chord("g") is None
    assert backend.do_open_chord(opened, ME) is False
    state = backend.do_read_chord("g")
    assert (state.chord, state.parts, state.done) == (opened, (None,) * 4, False)


def test_the_last_part_claims_the_body_and_only_that(backend, counters):
    backend.do_open_chord(chord("a", "b"), None)
    assert backend.do_settle(write("a", claim=ME)).claimed is False
    assert backend.do_settle(write("b", claim=ME)).claimed is True
    assert counters() == (2, 0, 2)


def test_a_task_at_several_places_counts_each_of_them_once(backend, counters):
    backend.do_open_chord(chord("a", "b", "a"), None)
    assert backend.do_settle(write("a", claim=ME)).claimed is False
    backend.do_settle(write("a", claim=ME))
    assert counters() == (2, 0, 3)
    assert backend.do_settle(write("b", claim=ME)).claimed is True


def test_an_unready_state_and_a_stranger_count_nothing(backend, counters):
    backend.do_open_chord(chord("a"), None)
    for state in ("STARTED", "RETRY", "PROGRESS"):
        assert backend.do_settle(write("a", state, ME)).claimed is False
    assert backend.do_settle(write("stranger", claim=ME)).landed
    assert backend.do_settle(Settle("a2", "SUCCESS", b"{}", part=Part("no such group"), claim=ME)).landed
    assert counters() == (0, 0, 1)


def test_a_duplicate_that_does_not_land_still_counts_what_is_stored(backend, counters):
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    backend.do_open_chord(chord("a", "b"), None)
    backend._store.write(lambda db: db.execute("UPDATE settled_part SET state = NULL"))
    backend._store.write(lambda db: db.execute("UPDATE settled_chord SET counted = 0"))
    settled = backend.do_settle(write("a", "FAILURE", ME))
    assert (settled.landed, settled.state, settled.claimed) == (False, "SUCCESS", False)
    assert counters() == (1, 0, 2)


def test_a_later_success_takes_a_lost_attempts_failure_back(backend, counters):
    backend.do_open_chord(chord("a", "b"), None)
    backend.do_settle(write("a", "FAILURE"))
    assert counters() == (1, 1, 2)
    backend.do_settle(write("a", "SUCCESS"))
    assert counters() == (1, 0, 2)
    assert backend.do_read_chord("g").parts == ("SUCCESS", None)


def test_the_first_failure_is_enough_where_the_policy_says_so(backend, counters):
    backend.do_open_chord(chord("a", "b", "c", policy=FailurePolicy.FIRST), None)
    assert backend.do_settle(write("b", "REVOKED", ME)).claimed is True
    assert backend.do_settle(write("c", claim=YOU)).claimed is False
    assert counters() == (2, 1, 3)


def test_a_success_reopens_a_barrier_that_one_failure_had_completed(backend):
    backend.do_open_chord(chord("a", "b", policy=FailurePolicy.FIRST), None)
    assert backend.do_settle(write("a", "FAILURE", ME)).claimed
    backend.do_settle(write("a", "SUCCESS"))
    assert backend.do_claim_chord("g", ME) is False
    assert backend.do_due_chords(5) == []
    assert backend.do_settle(write("b", claim=YOU)).claimed


@pytest.mark.parametrize("policy", [FailurePolicy.ALL, FailurePolicy.OUTCOMES])
def test_the_other_policies_wait_for_all(backend, policy):
    backend.do_open_chord(chord("a", "b", policy=policy), None)
    assert backend.do_settle(write("a", "FAILURE", ME)).claimed is False
    assert backend.do_settle(write("b", claim=ME)).claimed is True


def test_members_that_are_settled_already_are_counted_when_it_opens(backend, counters, clock):
    for task_id, state, expires in (("a", "SUCCESS", None), ("b", "FAILURE", None), ("c", "STARTED", None)):
        backend.do_settle(Settle(task_id, state, b"{}", expires=expires))
    backend.do_settle(Settle("d", "SUCCESS", b"{}", expires=5))
    clock[0] += 5
    assert backend.do_open_chord(chord("a", "b", "c", "d", "a"), ME) is False
    assert backend.do_read_chord("g").parts == ("SUCCESS", "FAILURE", None, None, "SUCCESS")
    assert counters() == (3, 1, 5)


def test_one_that_is_complete_when_it_opens_is_claimed_at_once(backend):
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    assert backend.do_open_chord(chord("a"), ME) is True
    assert backend.do_open_chord(Chord("empty", (), b"", "other-body"), ME) is True


def test_opening_again_changes_nothing_but_gives_the_claim_back(backend):
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    assert backend.do_open_chord(chord("a"), ME) is True
    other = Chord("g", ("x", "y"), b"another", "another-id", FailurePolicy.FIRST)
    assert backend.do_open_chord(other, ME) is True
    assert backend.do_open_chord(other, YOU) is False
    assert backend.do_read_chord("g").chord == chord("a")
    backend.do_finish_chord("g")
    assert backend.do_open_chord(chord("a"), ME) is False


def test_a_claim_is_held_extended_and_taken_over_when_it_is_late(backend, clock):
    backend.do_open_chord(chord("a"), None)
    assert backend.do_claim_chord("g", ME) is False
    assert backend.do_settle(write("a", claim=ME)).claimed
    assert backend.do_settle(write("a", claim=ME)).claimed  # the same settle, tried again
    assert backend.do_settle(write("a", claim=YOU)).claimed is False
    clock[0] += 9
    assert backend.do_claim_chord("g", ME) is True
    clock[0] += 9
    assert backend.do_claim_chord("g", YOU) is False
    assert backend.do_due_chords(5) == []
    clock[0] += 1
    assert backend.do_due_chords(5) == ["g"]
    assert backend.do_claim_chord("g", YOU) is True
    assert backend.do_claim_chord("g", ME) is False
    assert backend.do_claim_chord("unknown", ME) is False


def test_without_a_claim_it_is_due_at_once_and_done_when_finished(backend, clock):
    backend.do_open_chord(chord("a"), None)
    backend.do_settle(write("a"))
    assert backend.do_due_chords(5) == ["g"]
    backend.do_finish_chord("g")
    backend.do_finish_chord("g")
    assert backend.do_due_chords(5) == []
    assert backend.do_read_chord("g").done is True
    assert backend.do_claim_chord("g", ME) is False
    assert backend.do_settle(write("a", claim=ME)).claimed is False


def test_no_more_due_chords_come_than_were_asked_for(backend):
    for number in range(5):
        backend.do_open_chord(Chord(f"g{number}", (), b"", f"body{number}"), None)
    assert len(backend.do_due_chords(3)) == 3


def test_a_look_for_due_chords_reads_the_index_of_those_alone(backend, raw):
    backend.do_read(["any"])
    due = "done IS NULL AND (counted >= size OR (failed > 0 AND policy = 'first')) AND claim_expires <= 1"
    [(*_, plan)] = raw(
        f"EXPLAIN QUERY PLAN SELECT group_id FROM settled_chord WHERE {due} ORDER BY claim_expires"
    )
    assert plan == "SEARCH settled_chord USING INDEX settled_chord_due (claim_expires<?)"


def test_a_header_grows_until_it_is_complete(backend, counters):
    backend.do_settle(Settle("d", "FAILURE", b"{}"))
    assert backend.do_grow_chord("g", ["x"]) is None
    backend.do_open_chord(chord("a", "b"), None)
    backend.do_settle(write("a"))
    for _ in range(2):  # a repeated call adds nothing
        assert backend.do_grow_chord("g", ["c", "d", "a", "c"]) == 4
        assert counters() == (2, 1, 4)
    state = backend.do_read_chord("g")
    assert state.chord.members == ("a", "b", "c", "d")
    assert state.parts == ("SUCCESS", None, None, "FAILURE")
    backend.do_settle(write("c"))
    assert backend.do_settle(write("b", claim=ME)).claimed
    assert backend.do_grow_chord("g", ["e"]) is None
    backend.do_finish_chord("g")
    assert backend.do_grow_chord("g", ["e"]) is None


@pytest.mark.parametrize("task_ids", [None, ["a", "b", "c", "stranger"]])
def test_a_barrier_is_recomputed_from_the_records(backend, counters, task_ids):
    backend.do_open_chord(chord("a", "b", "c", "b"), None)
    for task_id, state in (("a", "FAILURE"), ("b", "SUCCESS"), ("c", "STARTED")):
        backend.do_settle(Settle(task_id, state, b"{}"))
    assert backend.do_count_parts("g", task_ids, ME) is False
    assert counters() == (3, 1, 4)
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    backend.do_settle(Settle("c", "REVOKED", b"{}"))
    assert backend.do_count_parts("g", task_ids, ME) is True
    assert backend.do_count_parts("g", task_ids, YOU) is False
    assert counters() == (4, 1, 4)
    assert backend.do_count_parts("unknown", task_ids, ME) is False


def test_a_member_that_expires_unsettled_is_counted_and_named(backend, counters, clock):
    backend.do_open_chord(chord("a", "b", "c"), None)
    backend.do_settle(write("a", "STARTED", expires=5))
    backend.do_settle(write("b", "SUCCESS", expires=5))
    clock[0] += 5
    assert backend.do_cleanup(10) == 2
    assert backend.do_read_chord("g").parts == ("EXPIRED", "SUCCESS", None)
    assert counters() == (2, 1, 3)
    assert backend.do_settle(write("c", claim=ME)).claimed


def test_one_that_was_counted_as_expired_may_still_succeed(backend, counters, clock):
    backend.do_open_chord(chord("a", "b"), None)
    backend.do_settle(write("a", "STARTED", expires=5))
    clock[0] += 5
    backend.do_cleanup(10)
    backend.do_settle(write("a"))
    assert backend.do_read_chord("g").parts == ("SUCCESS", None)
    assert counters() == (1, 0, 2)


def test_deleting_leaves_nothing_and_finishing_leaves_nothing_after_a_day(backend, clock, raw):
    def left() -> list[tuple]:
        tables = ("settled_chord", "settled_part", "settled_body")
        return [raw(f"SELECT count(*) FROM {table}")[0][0] for table in tables]

    backend.do_open_chord(chord("a", "b"), None)
    backend.do_delete_chord("g")
    backend.do_delete_chord("g")
    assert left() == [0, 0, 0]
    backend.do_open_chord(chord(*(f"t{number}" for number in range(95))), None)
    backend.do_finish_chord("g")
    backend.do_open_chord(Chord("open", ("x",), b"", "other"), None)
    assert backend.do_cleanup(10) == 0
    assert left() == [2, 96, 2]
    clock[0] += 24 * 3600 + 1
    backend.do_cleanup(10)
    assert left() == [1, 1, 1]
    assert backend.do_read_chord("open").chord.members == ("x",)
