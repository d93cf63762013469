"""One step: the record, its part, the claim."""

from __future__ import annotations

import threading

from settled.record import Settled
from settled.states import FAILURE, SUCCESS
from settled.testing.checks.header import claim, count, due, members, opened, standing
from settled.testing.contract import check
from settled.testing.store import Store
from settled.testing.threads import together


@check("atomic")
def no_record_is_seen_uncounted(store: Store) -> None:
    """Whoever sees a part's ready record sees the part counted: there is no moment between the two."""
    size = 60
    header = opened(store, size)
    over = threading.Event()

    def write() -> list[str]:
        try:
            for place in range(size):
                count(store, place, FAILURE if place % 3 else SUCCESS)
        finally:
            over.set()
        return []

    def watch() -> list[str]:
        seen: set[str] = set()
        while True:
            last = over.is_set()
            ready = set(store.backend.do_read([each for each in header if each not in seen]))
            parts = dict(zip(header, standing(store).parts, strict=True))
            uncounted = [each for each in ready if parts[each] is None]
            if uncounted or last:
                return uncounted
            seen |= ready

    assert together(write, watch) == [[], []]


@check("atomic")
def a_settle_counts_and_claims_in_one(store: Store) -> None:
    """When a settle returns, its part is counted and the claim it reports is held."""
    opened(store, 2)
    count(store, 0)
    assert standing(store).counted == 1
    assert count(store, 1, claim=claim()) == Settled(True, SUCCESS, True)
    assert standing(store).complete
    assert due(store) == []
    assert not store.backend.do_claim_chord("group", claim("other"))


@check("atomic")
def a_settle_makes_due_in_one(store: Store) -> None:
    """When a settle without a claim returns, the chord that it completed is due."""
    opened(store, 1)
    count(store, 0)
    assert due(store) == ["group"]


@check("atomic", "guarded")
def racing_duplicates_count_once(store: Store) -> None:
    """The same parts settled by several at once are counted once, as the records say, and claimed once."""
    size = 12
    opened(store, size)

    def settle_all(number: int) -> int:
        return sum(
            count(store, place, SUCCESS if number % 2 else FAILURE, claim(f"t{number}")).claimed
            for place in range(size)
        )

    claims = together(*(lambda number=number: settle_all(number) for number in range(4)))
    assert len([each for each in claims if each]) == 1, "exactly one token may hold the claim"
    assert list(standing(store).parts) == [store.state(task_id) for task_id in members(size)]
