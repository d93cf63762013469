"""The one rule for moving between states, and the sets of states."""

from __future__ import annotations

from itertools import product

import pytest

from settled import states
from settled.states import may_replace, rank

ORDER = ["PENDING", "RECEIVED", "STARTED", "SUCCESS"]
RUNNING = ["STARTED", "RETRY", "PROGRESS", "pending", "x"]


def test_the_sets_hold_what_the_vocabulary_says():
    assert {"SUCCESS", "FAILURE", "REVOKED"} == states.READY_STATES
    assert {"PENDING", "RECEIVED", "STARTED", "RETRY"} == states.UNREADY_STATES
    assert {"RETRY", "FAILURE", "REVOKED"} == states.EXCEPTION_STATES
    assert {"FAILURE", "REVOKED"} == states.PROPAGATE_STATES
    assert states.ALL_STATES == states.READY_STATES | states.UNREADY_STATES


def test_the_order():
    assert [rank(state) for state in ORDER] == sorted({rank(state) for state in ORDER})
    assert {rank(state) for state in RUNNING} == {states.RUNNING_RANK}
    assert len({rank(state) for state in states.READY_STATES}) == 1


@pytest.mark.parametrize("new", [*ORDER, *RUNNING, "FAILURE", "REVOKED"])
def test_anything_may_be_the_first(new):
    assert may_replace(None, 9, new, 0)


@pytest.mark.parametrize(("old", "new"), list(product([*ORDER[:2], *RUNNING], [*ORDER, *RUNNING, "FAILURE"])))
@pytest.mark.parametrize("attempts", [(0, 0), (5, 0), (0, 5)])
def test_an_unready_state_gives_way_to_what_is_not_below_it(old, new, attempts):
    assert may_replace(old, attempts[0], new, attempts[1]) == (rank(new) >= rank(old))


@pytest.mark.parametrize("new", [*ORDER, *RUNNING, "FAILURE", "REVOKED"])
def test_success_is_final(new):
    assert not may_replace("SUCCESS", 0, new, 99)


@pytest.mark.parametrize("old", ["FAILURE", "REVOKED"])
@pytest.mark.parametrize(("before", "after", "allowed"), [(1, 0, False), (1, 1, True), (1, 2, True)])
def test_a_failure_gives_way_to_a_ready_state_of_no_earlier_attempt(old, before, after, allowed):
    for new in states.READY_STATES:
        assert may_replace(old, before, new, after) == allowed
    for new in (*ORDER[:2], *RUNNING):
        assert not may_replace(old, before, new, after)
