"""Chords as the checks open and fill them."""

from __future__ import annotations

from settled.errors import ChordError
from settled.record import Chord, ChordState, Claim, FailurePolicy, Part, Settled
from settled.states import FAILURE, SUCCESS
from settled.testing.app import Request
from settled.testing.checks.expecting import raised
from settled.testing.store import Store

BODY = {"task": "kit.body", "args": [], "kwargs": {"k": 1}, "options": {"task_id": "body"}}

LEASE = 60.0


def claim(token: str = "token") -> Claim:
    return Claim(token, LEASE)


def members(size: int, group_id: str = "group") -> tuple[str, ...]:
    return tuple(f"{group_id}-{place}" for place in range(size))


def opened(
    store: Store, size: int = 3, policy: FailurePolicy = FailurePolicy.ALL, group_id: str = "group"
) -> tuple[str, ...]:
    """Open a barrier by its hook, without a claim; its members."""
    header = members(size, group_id)
    chord = Chord(group_id, header, store.backend.encode(BODY), "body", policy)
    assert not store.backend.do_open_chord(chord, None)
    return header


def count(
    store: Store,
    place: int,
    state: str = SUCCESS,
    claim: Claim | None = None,
    *,
    group_id: str = "group",
    attempt: int = 0,
) -> Settled:
    """Settle the member at `place` by the hook, as a part."""
    task_id = members(place + 1, group_id)[place]
    return store.settle(task_id, state, place, attempt=attempt, part=Part(group_id, place), claim=claim)


def standing(store: Store, group_id: str = "group") -> ChordState:
    state = store.backend.do_read_chord(group_id)
    assert state is not None, f"there is no chord {group_id!r}"
    return state


def due(store: Store) -> list[str]:
    return sorted(store.backend.do_due_chords(100))


def completed(
    store: Store, size: int = 2, token: str | None = None, group_id: str = "group"
) -> tuple[str, ...]:
    """A barrier whose parts are all counted, claimed by `token` if given."""
    header = opened(store, size, group_id=group_id)
    for place in range(size):
        count(store, place, claim=None if token is None else claim(token), group_id=group_id)
    return header


def part_request(task_id: str, place: int, group_id: str = "group", attempt: int = 0) -> Request:
    return Request(task_id, group=group_id, group_index=place, chord=BODY, retries=attempt)


def settle_part(
    store: Store, task_id: str, place: int, value: object = None, group_id: str = "group"
) -> Settled:
    """Settle a header task by the published interface."""
    return store.backend.mark_as_done(
        task_id, place if value is None else value, request=part_request(task_id, place, group_id)
    )


def fail_part(store: Store, task_id: str, place: int, group_id: str = "group", attempt: int = 0) -> Settled:
    error = ValueError(f"{task_id} {FAILURE}")
    return store.backend.mark_as_failure(
        task_id, error, request=part_request(task_id, place, group_id, attempt)
    )


def begun(store: Store, *members: str, on_failure: str = "all") -> str:
    """Open a chord by the published interface; the body's id."""
    return store.backend.open_chord("group", members, BODY, on_failure)


def body_error(store: Store, task_id: str = "body") -> ChordError:
    """The ChordError with which the body failed; AssertionError if it did not."""
    error = raised(lambda: store.backend.wait_for(task_id, timeout=store.patience))
    assert isinstance(error, ChordError), repr(error)
    return error
