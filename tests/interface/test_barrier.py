"""Chords: every way a body may be sent, fail, be swept or be left alone, on three engines."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from settled import chords
from settled.app import App
from settled.backends.memory import MemoryBackend
from settled.backends.sqlite import SQLiteBackend
from settled.chords import Outcome
from settled.errors import ChordError, ConfigurationError, ResultExpired, StoreUnavailable
from settled.record import Claim, FailurePolicy, Settle
from tests.interface.stores import BareApp, Sent, SwappingStore

PATIENCE = 30.0
BODY = {"task": "total", "args": [], "kwargs": {}, "options": {"task_id": "body"}}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def no_sweeper_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chords, "SWEEP_INTERVAL", 1000.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture(params=["memory", "sqlite", "keyvalue"])
def backend(request: pytest.FixtureRequest, tmp_path: Any, sent: Sent, clock: Clock) -> Iterator[Any]:
    app = BareApp({}, sent)
    made: Any
    if request.param == "memory":
        made = MemoryBackend(app)
    elif request.param == "sqlite":
        made = SQLiteBackend(app, url=f"sqlite:///{tmp_path}/r.db")
    else:
        made = SwappingStore(app)
    made.clock = clock
    app.backend = made
    yield made
    made.close()


def part(task_id: str, group_id: str = "g", attempt: int = 0) -> dict[str, object]:
    return {"id": task_id, "group": group_id, "chord": BODY, "retries": attempt}


def open_chord(
    backend: Any, *members: str, group_id: str = "g", body: Any = BODY, policy: str = "all"
) -> str:
    made: str = backend.open_chord(group_id, members, body, policy)
    return made


def settle(backend: Any, *task_ids: str) -> None:
    for task_id in task_ids:
        backend.mark_as_done(task_id, f"value of {task_id}", part(task_id))


def values(*task_ids: str) -> list[list[str]]:
    return [[f"value of {task_id}" for task_id in task_ids]]


# -- firing --------------------------------------------------------------------------------------


def test_the_body_gets_the_values_in_header_order_once(backend, sent):
    assert open_chord(backend, "a", "b", "c") == "body"
    settle(backend, "c", "a", "c", "a")
    assert (sent.bodies, backend.chord_state("g").counted) == ([], 2)
    settle(backend, "b", "b")
    assert sent.bodies == [("total", values("a", "b", "c"), "body")]
    assert (backend.chord_state("g").done, backend.sweep()) == (True, 0)
    open_chord(backend, "a", "b", "c")
    assert len(sent.bodies) == 1


def test_an_empty_header_is_complete(backend, sent):
    open_chord(backend)
    assert sent.bodies == [("total", [[]], "body")]


def test_members_that_were_settled_before_are_counted(backend, sent):
    settle(backend, "a", "b")
    open_chord(backend, "a", "b")
    assert sent.bodies == [("total", values("a", "b"), "body")]


def test_a_member_at_two_places_counts_for_both(backend, sent):
    open_chord(backend, "a", "b", "a")
    settle(backend, "a")
    assert backend.chord_state("g").counted == 2
    settle(backend, "b")
    assert [args for _, args, _ in sent.bodies] == [values("a", "b", "a")]


def test_a_stranger_and_a_task_of_another_group_count_nowhere(backend, sent):
    open_chord(backend, "a")
    settle(backend, "stranger")
    backend.mark_as_done("a2", 1, part("a2", "other"))
    assert (sent.bodies, backend.chord_state("g").counted) == ([], 0)


def test_the_bodys_id_is_the_same_each_time(backend):
    body = {"task": "total", "options": {}}
    assert open_chord(backend, "a", body=body) == open_chord(backend, "a", body=copy.deepcopy(body))
    assert open_chord(backend, "a", group_id="h", body=body) != open_chord(backend, "a", body=body)


def test_a_body_that_is_no_signature_is_an_error(backend):
    with pytest.raises(ConfigurationError, match="body must be a signature"):
        open_chord(backend, "a", body="total")
    with pytest.raises(ConfigurationError, match="on_failure must be one of 'first', 'all', 'outcomes'"):
        open_chord(backend, "a", policy="never")


def test_nested_groups_in_a_header_are_their_tasks(backend, sent):
    app = backend.app
    header = app.GroupResult("g", [app.AsyncResult("a"), app.GroupResult("n", [app.AsyncResult("b")])])
    backend.apply_chord(lambda task_id: header, (), "g", BODY)
    settle(backend, "b", "a")
    assert [args for _, args, _ in sent.bodies] == [values("a", "b")]


# -- failing -------------------------------------------------------------------------------------


def test_policy_all_waits_for_all_and_names_the_first_that_failed(backend, sent):
    open_chord(backend, "a", "b", "c")
    backend.mark_as_failure("b", KeyError("x"), request=part("b"))
    settle(backend, "a")
    assert backend.get_state("body") == "PENDING"
    settle(backend, "c")
    with pytest.raises(ChordError, match=r"Dependency b raised KeyError\('x'\)") as caught:
        backend.wait_for("body", 0)
    assert isinstance(caught.value.__cause__, KeyError)
    assert sent.bodies == []


def test_policy_first_fails_at_the_first_failure(backend, sent):
    open_chord(backend, "a", "b", policy="first")
    backend.mark_as_revoked("b", "stop", request=part("b"))
    with pytest.raises(ChordError, match="Dependency b raised"):
        backend.wait_for("body", 0)
    settle(backend, "a")
    assert (sent.bodies, backend.sweep()) == ([], 0)


def test_policy_outcomes_hands_over_what_became_of_each(backend, sent):
    open_chord(backend, "a", "b", policy="outcomes")
    backend.mark_as_failure("a", KeyError("x"), request=part("a"))
    settle(backend, "b")
    (((failed, succeeded),),) = [args for _, args, _ in sent.bodies]
    assert (failed.state, failed.task_id, type(failed.error)) == ("FAILURE", "a", KeyError)
    assert (succeeded.state, succeeded.get(), succeeded.error) == ("SUCCESS", "value of b", None)
    with pytest.raises(KeyError):
        failed.get()


def test_a_later_success_takes_the_place_of_a_failure(backend, sent):
    open_chord(backend, "a", "b")
    backend.mark_as_failure("a", KeyError("lost"), request=part("a"))
    backend.mark_as_done("a", "second try", part("a", attempt=1))
    settle(backend, "b")
    assert [args for _, args, _ in sent.bodies] == [[["second try", "value of b"]]]


def test_a_failure_that_gave_way_before_the_body_failed_does_not_fail_it(backend, sent):
    """The claim for the first failure is taken; the success lands before its holder looks."""
    open_chord(backend, "a", "b", policy="first")
    request = part("a", attempt=0)
    backend.do_settle(backend._write("a", KeyError("lost"), "FAILURE", None, request, None))
    backend.mark_as_done("a", "second try", part("a", attempt=1))
    assert chords.header_results(backend, backend.chord_state("g")) is None
    assert not chords.dispatch(backend, "g", Claim("a token", 10.0))
    assert (sent.bodies, backend.get_state("body")) == ([], "PENDING")
    settle(backend, "b")
    backend.clock.now += 11
    backend.sweep()
    assert [args for _, args, _ in sent.bodies] == [[["second try", "value of b"]]]


def test_a_member_that_expired_is_named(backend, sent, clock):
    open_chord(backend, "a", "b")
    backend.store_result("a", 1, "SUCCESS", request=part("a"), expires=60)
    clock.now += 61
    settle(backend, "b")
    with pytest.raises(ChordError, match="Dependency a raised") as caught:
        backend.wait_for("body", 0)
    assert isinstance(caught.value.__cause__, ResultExpired)


def test_a_member_that_expires_unready_is_counted_by_cleanup(backend, sent, clock):
    open_chord(backend, "a", "b")
    backend.store_result("a", {}, "STARTED", request=part("a"), expires=60)
    settle(backend, "b")
    clock.now += 61
    assert backend.cleanup() == 1
    assert backend.chord_state("g").parts == ("EXPIRED", "SUCCESS")
    backend.sweep()
    with pytest.raises(ChordError, match="Dependency a raised"):
        backend.wait_for("body", 0)


def test_a_member_whose_record_is_damaged_is_named(backend, sent):
    open_chord(backend, "a", "b")
    backend.do_settle(Settle("a", "SUCCESS", b'{"status": "SUCC'))
    settle(backend, "b")
    assert not backend.do_count_parts("g", ("a",), None)
    assert backend.sweep() == 1
    with pytest.raises(ChordError, match="Dependency a raised CorruptRecord"):
        backend.wait_for("body", 0)


def test_a_body_that_fails_counts_in_its_own_chord(backend, sent):
    outer = {"task": "outer", "options": {"task_id": "outer body"}}
    inner = {"task": "inner", "options": {"task_id": "inner body", "group_id": "outer", "chord": outer}}
    open_chord(backend, "inner body", group_id="outer", body=outer)
    open_chord(backend, "a", group_id="inner", body=inner)
    backend.mark_as_failure("a", KeyError("x"), request=part("a", "inner"))
    with pytest.raises(ChordError, match="Dependency inner body raised ChordError"):
        backend.wait_for("outer body", 0)
    assert sent.bodies == []


def test_a_body_may_be_a_member_of_another_chord(backend, sent):
    open_chord(backend, "body", "z", group_id="outer", body={"task": "outer", "options": {"task_id": "last"}})
    open_chord(backend, "a")
    settle(backend, "a")
    backend.mark_as_done("body", 5, {"id": "body", "group": "outer", "chord": BODY})
    backend.mark_as_done("z", 6, {"id": "z", "group": "outer", "chord": BODY})
    assert [(name, args) for name, args, _ in sent.bodies] == [("total", values("a")), ("outer", [[5, 6]])]


# -- being left, and being swept -------------------------------------------------------------------


def test_a_send_that_fails_is_made_again_with_the_same_id(backend, sent, clock, caplog):
    open_chord(backend, "a")
    sent.fault = RuntimeError("no broker")
    settle(backend, "a")  # raises nothing: the result is stored
    assert backend.get_state("a") == "SUCCESS"
    assert "the body of chord g could not be sent" in caplog.text
    sent.fault = None
    assert backend.sweep() == 0  # the claim is still held
    clock.now += chords.CLAIM_LEASE + 1
    assert (backend.sweep(), backend.sweep()) == (1, 0)
    assert sent.bodies == [("total", values("a"), "body")]


def test_a_body_that_has_a_record_is_not_sent_again(backend, sent, clock):
    open_chord(backend, "a")
    claim = Claim("of one that died", 10.0)
    backend.do_settle(backend._write("a", 1, "SUCCESS", None, part("a"), None))
    backend.do_claim_chord("g", claim)
    backend.mark_as_started("body")  # it sent the body, and died before it could say so
    clock.now += 11
    assert backend.sweep() == 1
    assert (sent.bodies, backend.chord_state("g").done) == ([], True)


def test_a_store_that_goes_away_after_the_settle_costs_the_settle_nothing(backend, sent, clock, monkeypatch):
    open_chord(backend, "a")
    backend.retry_deadline = 0.0

    def away(group_id: str) -> Any:
        raise StoreUnavailable("away")

    for hook in ("do_read_chord", "do_finish_chord"):
        with monkeypatch.context() as patched:
            patched.setattr(backend, hook, away)
            assert backend.mark_as_done("a", "value of a", part("a")) is not None
            clock.now += 11
            backend.sweep() if hook == "do_finish_chord" else None
    clock.now += 11
    backend.sweep()
    assert {body_id for _, _, body_id in sent.bodies} == {"body"}
    assert backend.chord_state("g").done


def test_one_of_many_sweepers_gets_the_claim(backend, sent, clock):
    open_chord(backend, *"abc")
    for task_id in "abc":
        backend.do_settle(
            backend._write(task_id, f"value of {task_id}", "SUCCESS", None, part(task_id), None)
        )
    clock.now += chords.CLAIM_LEASE + 1
    assert list(backend.do_due_chords(10)) == ["g"]
    threads = [threading.Thread(target=backend.sweep) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sent.bodies == [("total", values(*"abc"), "body")]


def test_a_process_that_cannot_send_leaves_the_chord_to_those_that_can(backend, sent):
    backend.app.can_send = False
    open_chord(backend, "a")
    settle(backend, "a")
    assert (backend.sweep(), sent.bodies, backend._sweeper) == (0, [], None)
    backend.app.can_send = True
    assert backend.sweep() == 1
    assert len(sent.bodies) == 1


def test_the_sweeper_runs_from_the_first_part_to_the_end_of_the_backend(backend, sent, monkeypatch, caplog):
    monkeypatch.setattr(chords, "SWEEP_INTERVAL", 0.01)
    assert backend._sweeper is None
    faults = iter((StoreUnavailable("away"), ValueError("bug")))
    looked, due = threading.Event(), backend.do_due_chords
    backend.retry_deadline = 0.0

    def failing(limit: int) -> Any:
        for fault in faults:
            raise fault
        looked.set()
        return due(limit)

    monkeypatch.setattr(backend, "do_due_chords", failing)
    open_chord(backend, "a")
    sweeper = backend._sweeper
    assert looked.wait(PATIENCE)  # neither an outage nor a bug ends it
    assert sweeper.alive
    assert caplog.text.count("the sweep for undispatched chords failed") == 1  # the bug: an outage is none
    backend.close()
    assert not sweeper.alive
    settle(backend, "a")
    assert backend._sweeper is not sweeper


def test_the_sweeper_ends_with_its_backend(monkeypatch):
    monkeypatch.setattr(chords, "SWEEP_INTERVAL", 0.01)
    app = App("memory://", send=Sent())
    app.backend.open_chord("g", ["a"], BODY)
    thread = app.backend._sweeper._thread
    app.backend._sweeper._backend = lambda: None
    thread.join(PATIENCE)
    assert not thread.is_alive()


# -- opening -----------------------------------------------------------------------------------------


def test_a_header_that_fails_midway_leaves_no_barrier(backend, sent):
    members = [backend.app.AsyncResult("a"), backend.app.AsyncResult("b")]

    def header(task_id: str) -> Any:
        settle(backend, "a")
        raise RuntimeError("no broker")

    with pytest.raises(RuntimeError, match="no broker"):
        backend.apply_chord(header, (), "g", BODY, result=members)
    assert backend.chord_state("g") is None
    settle(backend, "b")
    assert (sent.bodies, backend.sweep()) == ([], 0)
    backend.apply_chord(
        lambda task_id: backend.app.GroupResult(task_id, members), (), "g", BODY, result=members
    )
    assert [args for _, args, _ in sent.bodies] == [values("a", "b")]


def test_a_header_that_returns_no_group_is_an_error(backend):
    with pytest.raises(ConfigurationError, match="must return a GroupResult, not NoneType"):
        backend.apply_chord(lambda task_id: None, (), "g", BODY)


def test_forgetting_a_group_takes_its_barrier(backend, sent):
    open_chord(backend, "a")
    backend.app.GroupResult("g", [backend.app.AsyncResult("a")]).forget()
    settle(backend, "a")
    assert (backend.chord_state("g"), sent.bodies) == (None, [])


# -- growing -----------------------------------------------------------------------------------------


def test_a_header_grows_while_it_runs(backend, sent):
    open_chord(backend, "a")
    settle(backend, "c")
    assert backend.grow_chord("g", ["b", "c"]) == 3
    assert backend.grow_chord("g", ["b", "c"]) == 3  # made again after a lost reply
    settle(backend, "a")
    assert sent.bodies == []
    settle(backend, "b")
    assert [args for _, args, _ in sent.bodies] == [values("a", "b", "c")]
    for group_id in ("g", "unknown"):
        with pytest.raises(ChordError, match=f"'{group_id}' cannot grow"):
            backend.grow_chord(group_id, ["d"])


def test_members_that_complete_a_grown_chord_by_themselves_leave_it_due(backend, sent):
    open_chord(backend, "a")
    settle(backend, "b")
    backend.grow_chord("g", ["b"])
    backend.do_settle(backend._write("a", "value of a", "SUCCESS", None, part("a"), None))
    backend.clock.now += 11
    backend.sweep()
    assert [args for _, args, _ in sent.bodies] == [values("a", "b")]


def test_many_grow_at_once(backend, sent):
    open_chord(backend, "root")
    threads = [threading.Thread(target=backend.grow_chord, args=("g", [f"t{n}"])) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(backend.chord_state("g").parts) == 21
    settle(backend, *(f"t{n}" for n in range(20)))
    assert sent.bodies == []
    settle(backend, "root")
    assert len(sent.bodies) == 1


# -- what the body is handed --------------------------------------------------------------------------


class Twisted(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code


@pytest.mark.parametrize("error", [None, ValueError("x"), Twisted(code=5)])
def test_an_outcome_survives_pickling(error):
    outcome = Outcome("a", "SUCCESS" if error is None else "FAILURE", 1 if error is None else None, error)
    again = pickle.loads(pickle.dumps(outcome))
    assert (again.task_id, again.state, again.value) == (outcome.task_id, outcome.state, outcome.value)
    assert type(again.error) is type(error)
    assert repr(again).startswith(f"<Outcome a {outcome.state} ")


def test_policies_have_the_values_that_are_written():
    assert [FailurePolicy(value) for value in ("first", "all", "outcomes")] == list(FailurePolicy)


# -- a crash between the two steps of a key/value store ------------------------------------------------


class Crash(BaseException):
    pass


class Crashing(SwappingStore):
    """Dies where it is told to: at the first change of this key."""

    at: bytes | None = None

    def compare_and_set(self, key: Any, old: Any, new: bytes) -> bool:
        if self.at is not None and key.startswith(self.at):
            self.at = None
            raise Crash
        return super().compare_and_set(key, old, new)


def two_processes(sent: Sent, clock: Clock) -> tuple[Any, Any]:
    data: dict[Any, Any] = {}
    made: list[Any] = []
    for kind in (Crashing, SwappingStore):
        app = BareApp({}, sent)
        app.backend = kind(app, data=data)
        app.backend.clock = clock
        made.append(app.backend)
    return made[0], made[1]


def test_a_crash_between_record_and_part_is_mended_by_a_sweep(sent, clock):
    dying, other = two_processes(sent, clock)
    open_chord(dying, "a")
    dying.at = b"chord-unlock-"
    with pytest.raises(Crash):
        settle(dying, "a")
    assert (other.get_state("a"), other.chord_state("g").counted) == ("SUCCESS", 0)
    other.sweep()  # recounts it
    assert other.chord_state("g").counted == 1
    other.sweep()
    assert sent.bodies == [("total", values("a"), "body")]
    for backend in (dying, other):
        backend.close()


@pytest.mark.parametrize("at", [b"settled-chord-header-", b"chord-unlock-", b"settled-open-chords"])
def test_a_crash_while_opening_is_mended_by_opening_again(sent, clock, at):
    dying, other = two_processes(sent, clock)
    dying.at = at
    with pytest.raises(Crash):
        open_chord(dying, "a")
    open_chord(other, "a")
    other.do_settle(other._write("a", "value of a", "SUCCESS", None, part("a"), None))
    clock.now += chords.CLAIM_LEASE + 1
    assert other.sweep() == 1  # it is in the list of open chords
    assert sent.bodies == [("total", values("a"), "body")]
    for backend in (dying, other):
        backend.close()


@pytest.mark.parametrize("at", [b"settled-chord-header-", b"chord-unlock-"])
def test_a_crash_while_growing_never_sends_a_body_without_a_member(sent, clock, at):
    dying, other = two_processes(sent, clock)
    open_chord(dying, "a")
    dying.at = at
    with pytest.raises(Crash):
        dying.grow_chord("g", ["b"])
    assert len(other.chord_state("g").parts) == 1  # nothing was promised
    assert other.grow_chord("g", ["b"]) == 2
    settle(other, "a")
    assert sent.bodies == []
    settle(other, "b")
    assert [args for _, args, _ in sent.bodies] == [values("a", "b")]
    for backend in (dying, other):
        backend.close()


def test_a_done_chord_is_forgotten_after_a_day(sent, clock):
    dying, other = two_processes(sent, clock)
    open_chord(other, "a")
    settle(other, "a")
    open_chord(other, "b", group_id="open")
    other.cleanup()
    assert other.chord_state("g").done
    clock.now += 25 * 3600
    other.cleanup()
    assert (other.chord_state("g"), other.chord_state("open") is None) == (None, False)
    for backend in (dying, other):
        backend.close()
