"""Records expire when they were told to, and are cleaned up then."""

from __future__ import annotations

from settled.errors import ResultExpired
from settled.record import Chord, Gone
from settled.states import FAILURE, PENDING, RETRY, STARTED, SUCCESS
from settled.testing.checks.expecting import raised
from settled.testing.contract import check
from settled.testing.store import Store

DAY = 24 * 3600.0


@check("expiry")
def an_expired_record_is_not_read(store: Store) -> None:
    """A record is read until its time is over, not after."""
    store.settle("task", expires=60.0)
    store.advance(50.0)
    assert store.state("task") == SUCCESS
    store.advance(15.0)
    assert store.backend.do_read(("task",)).get("task", Gone.EXPIRED) is Gone.EXPIRED
    assert store.backend.get_state("task") == PENDING


@check("expiry")
def never_is_never(store: Store) -> None:
    """A record without an expiry is there after a hundred years, and after a cleanup."""
    store.settle("task", expires=None)
    store.advance(100 * 365 * DAY)
    if store.capabilities.expiry == "cleanup":
        store.backend.cleanup()
    assert store.state("task") == SUCCESS


@check("expiry")
def each_record_has_its_own_time(store: Store) -> None:
    """Records expire each at its own time, in every state."""
    for number, state in enumerate((SUCCESS, FAILURE, STARTED, RETRY, "PROGRESS")):
        store.settle(f"short-{number}", state, expires=10.0)
        store.settle(f"long-{number}", state, expires=1000.0)
    store.advance(100.0)
    assert [store.stored(f"short-{number}") for number in range(5)] == [None] * 5
    assert all(store.stored(f"long-{number}") is not None for number in range(5))


@check("expiry")
def an_expired_record_gives_way(store: Store) -> None:
    """A record that has expired gives way to any write, as if there were none."""
    store.settle("task", SUCCESS, "old", expires=10.0)
    store.advance(20.0)
    settled = store.settle("task", STARTED, "new", expires=1000.0)
    assert (settled.landed, settled.state) == (True, STARTED)
    assert (store.state("task"), store.value("task")) == (STARTED, "new")


@check("expiry")
def a_write_sets_the_time_anew(store: Store) -> None:
    """A write that lands sets the record's time anew; one that is refused leaves it."""
    store.settle("landed", STARTED, expires=60.0)
    store.settle("refused", SUCCESS, expires=60.0)
    store.advance(50.0)
    store.settle("landed", SUCCESS, expires=60.0)
    store.settle("refused", SUCCESS, expires=60.0)
    store.advance(20.0)
    assert store.state("landed") == SUCCESS
    assert store.stored("refused") is None


@check("expiry")
def an_expired_part_is_not_counted(store: Store) -> None:
    """A recount does not count a member whose record has expired."""
    store.settle("task", expires=10.0)
    store.advance(20.0)
    if store.capabilities.chords:
        store.backend.do_open_chord(Chord("group", ("task",), b"{}", "body"), None)
        state = store.backend.do_read_chord("group")
        assert state is not None
        assert state.parts == (None,)
    assert store.backend.read_many(("task",)) == {}


@check("expiry")
def the_setting_is_for_all(store: Store) -> None:
    """`result_expires` is for every record, `result_failure_expires` for failed and revoked ones."""
    backend = store.open(result_expires=1000.0, result_failure_expires=10.0)
    backend.mark_as_done("success", 1)
    backend.mark_as_started("started")
    backend.mark_as_failure("failure", ValueError())
    backend.mark_as_revoked("revoked")
    store.advance(100.0)
    states = [backend.get_state(task_id) for task_id in ("success", "started", "failure", "revoked")]
    assert states == [SUCCESS, STARTED, PENDING, PENDING]
    store.advance(1000.0)
    assert backend.get_state("success") == PENDING


@check("expiry")
def a_call_may_have_its_own(store: Store) -> None:
    """`store_result(expires=)` is for that record alone; 0 is never."""
    backend = store.open(result_expires=100.0)
    backend.store_result("short", 1, SUCCESS, expires=10.0)
    backend.store_result("usual", 1, SUCCESS)
    backend.store_result("never", 1, SUCCESS, expires=0)
    store.advance(50.0)
    assert [backend.get_state(task_id) for task_id in ("short", "usual", "never")] == [
        PENDING,
        SUCCESS,
        SUCCESS,
    ]
    store.advance(100 * DAY)
    assert [backend.get_state(task_id) for task_id in ("usual", "never")] == [PENDING, SUCCESS]


@check("expiry")
def a_group_expires_too(store: Store) -> None:
    """A saved group expires as results do."""
    backend = store.open(result_expires=100.0)
    group = store.app.GroupResult("group", [store.app.AsyncResult("task")])
    backend.save_group("group", group)
    store.advance(50.0)
    assert backend.restore_group("group", cache=False) is not None
    store.advance(100.0)
    assert backend.restore_group("group", cache=False) is None


@check("expiry", "tombstones")
def waiting_for_the_expired_says_so(store: Store) -> None:
    """Waiting for a task whose record has expired raises ResultExpired, naming it."""
    store.settle("task", expires=10.0)
    store.advance(20.0)
    error = raised(lambda: store.backend.wait_for("task", timeout=store.patience))
    assert isinstance(error, ResultExpired), repr(error)
    assert "task" in str(error)


@check("cleanup")
def a_cleanup_deletes_the_expired(store: Store) -> None:
    """The cleanup deletes expired records of every state from the store, and says how many."""
    for number, state in enumerate((SUCCESS, FAILURE, STARTED, RETRY, "PROGRESS")):
        store.settle(f"task-{number}", state, expires=10.0)
    store.advance(20.0)
    assert store.backend.cleanup() == 5
    assert [store.raw(f"task-{number}") for number in range(5)] == [None] * 5
    assert store.backend.cleanup() == 0


@check("cleanup")
def a_cleanup_leaves_the_rest(store: Store) -> None:
    """The cleanup leaves what has not expired: records, groups, chords and leases."""
    store.settle("old", expires=10.0)
    store.settle("young", expires=1000.0)
    store.settle("never")
    store.backend.do_write_group("group", b"{}", 1000.0)
    if store.capabilities.chords:
        store.backend.do_open_chord(Chord("chord", ("a",), b"{}", "body"), None)
    if store.capabilities.leases:
        store.backend.do_lease(("lease",), "one", 1000.0)
    store.advance(20.0)
    store.backend.cleanup()
    assert [store.state(task_id) for task_id in ("young", "never")] == [SUCCESS, SUCCESS]
    assert store.backend.do_read_group("group") is not None
    if store.capabilities.chords:
        assert store.backend.do_read_chord("chord") is not None
    if store.capabilities.leases:
        assert store.backend.do_lease(("lease",), "two", 10.0) == frozenset()


@check("cleanup")
def a_cleanup_works_in_batches(store: Store) -> None:
    """One step of the cleanup deletes at most as many as it was told, and says how many; in the end all are gone."""
    for number in range(7):
        store.settle(f"task-{number}", expires=10.0)
    store.advance(20.0)
    deleted = [store.backend.do_cleanup(3) for _ in range(4)]
    assert deleted == [3, 3, 1, 0]
    assert [store.raw(f"task-{number}") for number in range(7)] == [None] * 7


@check("cleanup")
def a_cleanup_deletes_groups(store: Store) -> None:
    """The cleanup deletes expired groups from the store, and no others."""
    backend = store.open(result_expires=10.0)
    members = [store.app.AsyncResult("task")]
    backend.save_group("old", store.app.GroupResult("old", members))
    backend.expires = 1000.0
    backend.save_group("young", store.app.GroupResult("young", members))
    store.advance(20.0)
    backend.cleanup()
    store.advance(-20.0)  # what was only hidden would be seen again
    assert backend.do_read_group("old") is None
    assert backend.do_read_group("young") is not None


@check("cleanup", "chords")
def a_cleanup_counts_members_as_expired(store: Store) -> None:
    """A member of an open chord that expires unready is counted as EXPIRED; what was counted before stays."""
    store.backend.do_open_chord(Chord("group", ("lost", "fine", "open"), b"{}", "body"), None)
    store.settle("lost", STARTED, expires=10.0)
    store.settle("fine", SUCCESS, expires=10.0)
    store.backend.do_count_parts("group", None, None)
    store.advance(20.0)
    store.backend.cleanup()
    state = store.backend.do_read_chord("group")
    assert state is not None
    assert state.parts == ("EXPIRED", SUCCESS, None)
    assert list(store.backend.do_due_chords(10)) == []
    store.settle("open")
    store.backend.do_count_parts("group", None, None)
    assert list(store.backend.do_due_chords(10)) == ["group"]


@check("cleanup", "chords")
def a_cleanup_makes_due(store: Store) -> None:
    """A chord that is completed by the expiry of its last member is due."""
    store.backend.do_open_chord(Chord("group", ("lost",), b"{}", "body"), None)
    store.settle("lost", STARTED, expires=10.0)
    store.advance(20.0)
    store.backend.cleanup()
    assert list(store.backend.do_due_chords(10)) == ["group"]
