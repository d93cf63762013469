"""The store is away, answers twice, or its answer is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

from settled.errors import StoreError, StoreUnavailable
from settled.record import Chord, Claim, Part
from settled.states import FAILURE, SUCCESS
from settled.testing.checks.expecting import raised
from settled.testing.checks.header import BODY, settle_part
from settled.testing.contract import check
from settled.testing.store import Store


@check("outages")
def a_short_outage_is_not_seen(store: Store) -> None:
    """A call that does not reach the store is made again, and its caller does not see it."""
    backend = store.backend
    for hook in ("do_settle", "do_read", "do_forget", "do_write_group"):
        store.faults.drop(backend, hook, times=2)
    assert backend.mark_as_done("task", 1)
    assert backend.get_result("task") == 1
    backend.forget("task")
    backend.save_group("group", store.app.GroupResult("group", []))
    assert backend.restore_group("group") is not None


@check("outages")
def a_long_outage_is_an_error(store: Store) -> None:
    """A call that does not reach the store until the deadline raises StoreUnavailable; or a write is kept."""
    store.backend.retry_deadline = 0.05
    for hook in ("do_settle", "do_read", "do_read_group"):
        store.faults.drop(store.backend, hook, times=None)
    for read in (store.backend.get_state, store.backend.restore_group):
        assert isinstance(raised(lambda read=read: read("task")), StoreUnavailable)  # type: ignore[misc]
    if store.capabilities.keeps:
        assert store.backend.mark_as_done("task", 1).kept
    else:
        assert isinstance(raised(lambda: store.backend.mark_as_done("task", 1)), StoreUnavailable)


@check("outages")
def a_refusal_is_not_repeated(store: Store) -> None:
    """A StoreError that is not StoreUnavailable comes out at once: the call is made once."""
    store.faults.fail(store.backend, "do_settle", StoreError("the disk is full"))
    calls = store.faults.count(store.backend, "do_settle")
    assert "the disk is full" in str(raised(lambda: store.backend.mark_as_done("task", 1)))
    assert calls.count == 1


@check("outages")
def a_lost_reply_still_tells_waiters(store: Store) -> None:
    """A write whose reply was lost is made again, and whoever waits in this process is told."""
    told = threading.Event()
    store.backend.watcher.add("task", lambda _: told.set())
    store.faults.fail_after(store.backend, "do_settle")
    store.backend.mark_as_done("task", "value")
    assert told.wait(store.patience)
    assert store.backend.get_result("task") == "value"


@check("outages")
def a_lost_reply_lands_once(store: Store) -> None:
    """A write whose reply was lost is made again and reports that it landed; another's write does not."""
    store.faults.fail_after(store.backend, "do_settle", times=2)
    assert store.backend.mark_as_done("task", "value").landed
    assert not store.backend.mark_as_done("task", "another").landed
    assert store.backend.get_result("task") == "value"


@check("outages", "chords")
def a_lost_reply_gets_its_claim_back(store: Store) -> None:
    """The last part whose reply was lost is given the same claim when it is written again."""
    store.backend.do_open_chord(Chord("group", ("a", "b"), b"{}", "body"), None)
    claim = Claim("token", 60.0)
    store.settle("a", part=Part("group", 0), claim=Claim("other", 60.0))
    store.faults.fail_after(store.backend, "do_settle", times=2)
    assert store.settle("b", part=Part("group", 1), claim=claim).claimed


@check("outages", "chords")
def a_lost_reply_sends_the_body_once(store: Store) -> None:
    """A chord whose last part lost its reply sends its body, once."""
    store.backend.open_chord("group", ["a", "b"], BODY)
    settle_part(store, "a", 0)
    for hook in ("do_settle", "do_claim_chord", "do_finish_chord", "do_read_chord"):
        store.faults.fail_after(store.backend, hook)
    settle_part(store, "b", 1)
    assert len(store.app.wait_sent(1, store.patience)) == 1
    assert store.backend.sweep() == 0
    assert len(store.app.sent) == 1


HOOKS = ("do_settle", "do_read", "do_forget", "do_write_group", "do_read_group", "do_delete_group")
CHORD_HOOKS = (
    "do_open_chord", "do_grow_chord", "do_read_chord", "do_count_parts", "do_claim_chord", "do_finish_chord",
    "do_due_chords", "do_delete_chord",
)  # fmt: skip


@check("outages")
def every_hook_may_run_twice(store: Store) -> None:
    """A hook that runs twice with the same arguments leaves the store as one that ran once."""
    assert _twice(store, HOOKS, _records_story) == _once(store, _records_story)


@check("outages", "chords")
def every_chord_hook_may_run_twice(store: Store) -> None:
    """A chord hook that runs twice with the same arguments leaves the barrier as one that ran once."""
    assert _twice(store, (*HOOKS, *CHORD_HOOKS), _chord_story) == _once(store, _chord_story)


@check("outages", "leases")
def a_lease_may_be_taken_twice(store: Store) -> None:
    """Taking or giving up a lease twice with the same token leaves it as doing so once."""
    assert _twice(store, ("do_lease",), _lease_story) == _once(store, _lease_story)


Story = Callable[[Store, str], object]


def _once(store: Store, story: Story) -> object:
    return story(store, "once")


def _twice(store: Store, hooks: tuple[str, ...], story: Story) -> object:
    for hook in hooks:
        store.faults.duplicate(store.backend, hook, times=None)
    told = story(store, "twice")
    store.faults.lift()
    return told


def _records_story(store: Store, word: str) -> object:
    backend = store.backend
    store.settle(f"{word}-a", FAILURE, 1)
    store.settle(f"{word}-a", SUCCESS, 2, attempt=1)
    store.settle(f"{word}-b", SUCCESS, 3)
    backend.do_forget((f"{word}-b",))
    backend.do_write_group(f"{word}-g", b"1", None)
    backend.do_write_group(f"{word}-h", b"2", None)
    backend.do_delete_group(f"{word}-h")
    return [
        *(store.value(f"{word}-{each}") for each in "ab"),
        *(backend.do_read_group(f"{word}-{each}") for each in "gh"),
    ]


def _chord_story(store: Store, word: str) -> object:
    backend = store.backend
    group_id = f"{word}-group"
    claim = Claim(f"{word}-token", 60.0)
    told: list[object] = []

    def tell() -> None:
        state = backend.do_read_chord(group_id)
        told.append(state and (len(state.chord.members), state.parts, state.done))

    store.settle(f"{word}-a", FAILURE)
    told.append(backend.do_open_chord(Chord(group_id, (f"{word}-a", f"{word}-b"), b"{}", "body"), claim))
    tell()
    told.append(backend.do_grow_chord(group_id, (f"{word}-c",)))
    tell()
    store.settle(f"{word}-b", part=Part(group_id, 1))
    store.settle(f"{word}-a", SUCCESS, attempt=1, part=Part(group_id, 0))
    tell()
    told.append(store.settle(f"{word}-c", part=Part(group_id, 2), claim=claim).claimed)
    told.append(backend.do_count_parts(group_id, None, claim))
    told.append(backend.do_claim_chord(group_id, claim))
    backend.do_finish_chord(group_id)
    told.append(list(backend.do_due_chords(10)))
    state = backend.do_read_chord(group_id)
    told.append(state and state.done)
    backend.do_delete_chord(group_id)
    tell()
    return told


def _lease_story(store: Store, word: str) -> object:
    backend = store.backend
    names = (f"{word}-a", f"{word}-b")
    told: list[object] = [len(backend.do_lease(names, "one", 60.0)), backend.do_lease(names, "two", 60.0)]
    told.append(backend.do_lease(names, "one", 0))
    told.append(len(backend.do_lease(names, "two", 60.0)))
    return told
