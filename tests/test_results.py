"""Handles on tasks, groups and sets, in threads and in asyncio, on three engines."""

from __future__ import annotations

import asyncio
import builtins
import copy
import math
import pickle
import queue
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from settled import states
from settled.app import App
from settled.errors import (
    ConfigurationError,
    DecodeError,
    InvalidTaskId,
    ResultExpired,
    ResultForgotten,
    StoreUnavailable,
    TaskRevokedError,
    TimeoutError,
)
from settled.groups import GroupResult, ResultSet, as_completed, gather
from settled.record import Presence, Settle
from settled.results import EagerResult, result_from_tuple
from tests.interface.stores import BareApp, Sent, SwappingStore

PATIENCE = 30.0


@pytest.fixture(params=["memory", "sqlite", "keyvalue"])
def app(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Any]:
    made: Any
    if request.param == "keyvalue":
        made = BareApp({}, Sent())
        made.backend = SwappingStore(made)
    else:
        made = App("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/r.db")
    yield made
    made.backend.close()


@pytest.fixture
def backend(app: Any) -> Any:
    return app.backend


@pytest.fixture
def memory() -> Iterator[Any]:
    made = App("memory://")
    yield made
    made.backend.close()


def later(*calls: Any) -> threading.Thread:
    """Run these in another thread, at once."""
    thread = threading.Thread(target=lambda: [call() for call in calls])
    thread.start()
    return thread


def done(backend: Any, *task_ids: str) -> None:
    for task_id in task_ids:
        backend.mark_as_done(task_id, f"value of {task_id}")


# -- one task --------------------------------------------------------------------------------------


def test_a_handle_of_a_task_that_succeeded(app, backend):
    handle = app.AsyncResult("a")
    assert (handle.ready(), handle.state, handle.result, handle.exists()) == (False, "PENDING", None, False)
    request = SimpleNamespace(task="add", hostname="w1", children=[app.AsyncResult("child")])
    backend.store_result("a", 1, "SUCCESS", request=request)
    assert (handle.state, handle.status, handle.ready()) == ("SUCCESS", "SUCCESS", True)
    assert (handle.successful(), handle.failed(), handle.exists()) == (True, False, True)
    assert (handle.result, handle.info, handle.get(), handle.wait(0)) == (1, 1, 1, 1)
    assert (handle.traceback, handle.id, handle.task_id) == (None, "a", "a")
    assert handle.children == [app.AsyncResult("child")]
    assert str(handle.date_done).endswith("+00:00")
    assert handle.presence() is Presence.STORED


def test_name_and_worker_are_there_where_the_record_has_them():
    app = App("memory://", result_extended=True)
    app.backend.mark_as_done("a", 1, SimpleNamespace(task="add", hostname="w1", args=[1], kwargs={}))
    assert (app.AsyncResult("a").name, app.AsyncResult("a").worker) == ("add", "w1")


def test_a_handle_of_a_task_that_failed(app, backend):
    handle = app.AsyncResult("a")
    backend.mark_as_failure("a", KeyError("x"), "the remote traceback")
    for get in (handle.get, handle.wait):
        with pytest.raises(KeyError) as caught:
            get(timeout=0)
        assert "the remote traceback" in "".join(caught.value.__notes__)
    assert isinstance(handle.get(0, False), KeyError)
    assert (handle.failed(), handle.successful(), handle.ready()) == (True, False, True)
    assert isinstance(handle.result, KeyError)
    assert handle.result.remote_traceback == handle.traceback == "the remote traceback"


def test_a_handle_of_a_task_that_was_revoked(app, backend):
    backend.mark_as_revoked("a", "why")
    handle = app.AsyncResult("a")
    assert (handle.ready(), handle.failed(), handle.successful()) == (True, False, False)
    with pytest.raises(TaskRevokedError, match="why"):
        handle.get(0)


def test_info_of_an_unready_task(app, backend):
    handle = app.AsyncResult("a")
    backend.store_result("a", {"done": 3}, "PROGRESS")
    assert (handle.state, handle.info, handle.result) == ("PROGRESS", {"done": 3}, {"done": 3})
    backend.mark_as_retry("a", ValueError("again"))
    assert (handle.state, type(handle.info)) == ("RETRY", ValueError)
    with pytest.raises(TimeoutError):
        handle.get(timeout=0)


def test_a_ready_record_is_read_once(app, backend):
    done(backend, "a")
    handle = app.AsyncResult("a")
    assert handle.get(0) == "value of a"
    backend.forget("a")
    assert handle.get(0) == "value of a"
    handle.forget()
    assert handle.state == "PENDING"
    handle.forget()


def test_get_waits(app, backend):
    handle = app.AsyncResult("a")
    thread = later(lambda: done(backend, "a"))
    assert handle.get(timeout=PATIENCE, interval=0.01) == "value of a"
    thread.join()
    assert backend.watcher.waiting == 0


@pytest.mark.parametrize("bad", [-1, -0.001, "5", math.nan, True, [], object()])
def test_a_timeout_that_is_none_is_an_error_that_names_it(memory, bad):
    handle = memory.AsyncResult("a")
    group = memory.GroupResult("g", [handle])
    asked = [
        lambda: handle.get(bad), lambda: group.join(bad), lambda: group.join_native(bad),
        lambda: group.get(bad), lambda: as_completed([handle], bad),
        lambda: memory.backend.wait_for("a", bad),
        lambda: memory.backend.get_many(["a"], bad),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(ConfigurationError, match="timeout must be a number of seconds"):
            ask()


@pytest.mark.parametrize("timeout", [None, 1e300, math.inf, 2**70])
def test_a_timeout_may_be_as_long_as_you_like(memory, timeout):
    group = memory.GroupResult("g", [memory.AsyncResult("a"), memory.AsyncResult("b")])
    for wait in (group.join, group.join_native, group.get):
        thread = later(lambda: done(memory.backend, "a", "b"))
        assert wait(timeout) == ["value of a", "value of b"]
        thread.join()
        group.forget()
        group = memory.GroupResult("g", [memory.AsyncResult("a"), memory.AsyncResult("b")])

    async def main() -> list[str]:
        done(memory.backend, "a", "b")
        return sorted([each.id async for each in as_completed(group, timeout)])

    assert asyncio.run(main()) == ["a", "b"]


def test_a_timeout_names_the_task(app):
    with pytest.raises(TimeoutError, match=r"task 'a' was not ready within 0\.01 s"):
        app.AsyncResult("a").get(timeout=0.01)
    with pytest.raises(TimeoutError, match="task 'a' was not ready within 0 s"):
        app.AsyncResult("a").get(timeout=0)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (None, "NoneType"),
        ("", "is empty"),
        (5, "int"),
        ("\ud800", "valid Unicode"),
        ("😀" * 2560, "10240 bytes"),
    ],
)
def test_a_bad_task_id_is_an_error_that_says_why(memory, bad, said):
    asked = [
        lambda: memory.AsyncResult(bad), lambda: memory.GroupResult(bad),
        lambda: EagerResult(bad, 1, "SUCCESS"),
        lambda: memory.backend.mark_as_done(bad, 1), lambda: memory.backend.wait_for(bad),
        lambda: memory.backend.get_task_meta(bad), lambda: memory.backend.forget(bad),
        lambda: memory.backend.save_group(bad, memory.GroupResult("g")),
        lambda: memory.backend.get_many([bad]),
        lambda: memory.backend.restore_group(bad), lambda: memory.backend.open_chord(bad, [], {}),
        lambda: memory.backend.open_chord("g", [bad], {}), lambda: memory.backend.reload_task_result(bad),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(InvalidTaskId, match=said):
            ask()


STRANGE = ["a/b", "../../a", "a\nb", "a b", "a\0b", "a:b%2F", "😀" * 256, "x" * 1024, "é", "e\u0301"]


def test_strange_ids_are_ids(app, backend):
    for number, task_id in enumerate(STRANGE):
        backend.mark_as_done(task_id, number)
    assert [app.AsyncResult(task_id).get(0) for task_id in STRANGE] == list(range(len(STRANGE)))
    uuid = UUID(int=5)
    backend.mark_as_done(uuid, "by uuid")
    assert app.AsyncResult(uuid).get(0) == app.AsyncResult(str(uuid)).get(0) == "by uuid"
    assert app.AsyncResult(uuid) == app.AsyncResult(str(uuid))


# -- unknown, expired, forgotten, damaged ------------------------------------------------------------


def test_the_four_answers(memory):
    now = [1000.0]
    memory.backend.clock = lambda: now[0]
    handles = {name: memory.AsyncResult(name) for name in ("unknown", "pending", "expired", "forgotten")}
    memory.backend.store_result("pending", None, "PENDING")
    memory.backend.store_result("expired", 1, "SUCCESS", expires=5)
    memory.backend.mark_as_done("forgotten", 1)
    handles["forgotten"].forget()
    now[0] += 6
    assert {name: handle.presence() for name, handle in handles.items()} == {
        "unknown": Presence.UNKNOWN, "pending": Presence.PENDING,
        "expired": Presence.EXPIRED, "forgotten": Presence.FORGOTTEN,
    }  # fmt: skip
    assert [handle.exists() for handle in handles.values()] == [False, True, False, False]
    for name, error in (("expired", ResultExpired), ("forgotten", ResultForgotten)):
        with pytest.raises(error, match=name):
            handles[name].get()
        assert isinstance(memory.GroupResult("g", [handles["pending"]]), GroupResult)
        assert [each.id for each in as_completed([handles[name]])] == [name]

        async def main(handle: Any = handles[name]) -> Any:
            return await handle

        with pytest.raises(error, match=name):
            asyncio.run(main())
    assert memory.backend.watcher.waiting == 0


def test_a_damaged_record_fails_with_its_name_and_keeps_nobody_waiting(app, backend):
    backend.do_settle(Settle("broken", "SUCCESS", b'{"status": "SUCC'))
    backend.do_settle(Settle("odd", "SUCCESS", b"[1]"))
    backend.do_settle(Settle("stateless", "SUCCESS", b'{"result": 1}'))
    for task_id in ("broken", "odd", "stateless"):
        with pytest.raises(DecodeError, match=f"task '{task_id}'"):
            app.AsyncResult(task_id).get(timeout=PATIENCE)
        with pytest.raises(DecodeError, match=f"task '{task_id}'"):
            backend.get_task_meta(task_id)
    backend.forget("broken", children=True)
    assert backend.get_state("broken") == "PENDING"


# -- then --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("state", "value", "told"),
    [
        ("SUCCESS", 1, "callback"),
        ("FAILURE", ValueError("x"), "on_error"),
        ("REVOKED", ValueError("x"), "on_error"),
    ],
)
def test_then_calls_what_fits(app, backend, state, value, told, before):
    calls: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    handle = app.AsyncResult("a")
    if before:
        backend.store_result("a", value, state)
    handle.then(
        lambda result: calls.put(("callback", result)), lambda result: calls.put(("on_error", result))
    )
    if not before:
        backend.store_result("a", {}, "STARTED")
        backend.store_result("a", value, state)
    assert calls.get(timeout=PATIENCE) == (told, handle)
    handle.then(
        lambda result: calls.put(("callback", result)), lambda result: calls.put(("on_error", result))
    )
    assert calls.get(block=False) == (told, handle)  # the handle holds the result: at once
    assert backend.watcher.waiting == 0


def test_a_callback_may_wait_for_another_task(app, backend):
    values: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting = threading.Event()

    def callback(result: Any) -> None:
        waiting.set()
        values.put(app.AsyncResult("b").get(PATIENCE))

    app.AsyncResult("a").then(callback)
    done(backend, "a")
    assert waiting.wait(PATIENCE)
    assert later(lambda: done(backend, "c")) is not None
    assert app.AsyncResult("c").get(PATIENCE) == "value of c"  # a callback that waits keeps nobody else
    done(backend, "b")
    assert values.get(timeout=PATIENCE) == "value of b"


@pytest.mark.parametrize("error", [ValueError("bug"), SystemExit(1)])
def test_what_a_callback_raises_is_logged(app, backend, error, caplog):
    called = threading.Event()

    def fail(result: Any) -> None:
        raise error

    app.AsyncResult("a").then(fail)
    app.AsyncResult("a").then(lambda result: called.set())
    done(backend, "a")
    assert called.wait(PATIENCE)
    assert "callback of task a failed" in caplog.text


def test_then_without_a_result_to_come(memory, caplog):
    memory.backend.mark_as_done("a", 1)
    memory.backend.forget("a")
    failed = queue.SimpleQueue()
    memory.AsyncResult("a").then(failed.put)
    memory.AsyncResult("a").then(failed.put, lambda result: failed.put("on_error"))
    assert failed.get(timeout=PATIENCE) == "on_error"
    assert "task a cannot be had" in caplog.text


# -- relations ---------------------------------------------------------------------------------------


def test_parent_children_and_collect(app, backend):
    root, group = (
        app.AsyncResult("root"),
        app.GroupResult("g", [app.AsyncResult("g1"), app.AsyncResult("g2")]),
    )
    child = app.AsyncResult("child", parent=root)
    backend.mark_as_done("root", 0, SimpleNamespace(children=[child, group]))
    backend.mark_as_done("child", 1)
    backend.mark_as_done("g1", 2)
    thread = later(lambda: backend.mark_as_done("g2", 3))
    collected = [(str(node), value) for node, value in root.collect(timeout=PATIENCE)]
    thread.join()
    assert collected == [("root", 0), ("child", 1), ("g", [2, 3]), ("g1", 2), ("g2", 3)]
    assert root.children[0].parent == root
    assert child.parent is root
    assert app.AsyncResult("unready").children == []
    root.forget(children=True)
    assert [backend.get_state(each) for each in ("root", "child", "g1", "g2")] == ["PENDING"] * 4


def test_a_handle_can_be_stored_and_made_again(app):
    parent = app.AsyncResult("p")
    forms = [
        app.AsyncResult("a"),
        app.AsyncResult("a", parent=parent),
        app.GroupResult(
            "g", [app.AsyncResult("b", parent=parent), app.GroupResult("h", [app.AsyncResult("c")])]
        ),
        app.GroupResult("empty", []),
        app.GroupResult("g", [app.AsyncResult("a")], parent=parent),
    ]
    for handle in forms:
        again = result_from_tuple(handle.as_tuple(), app)
        assert (again, again.as_tuple(), again.parent) == (handle, handle.as_tuple(), handle.parent)
    assert result_from_tuple(["a", None], app) == app.AsyncResult("a")
    assert result_from_tuple([["g", None], [["a", None]]], app).results == [app.AsyncResult("a")]


@pytest.mark.parametrize(
    "bad", [None, 5, "ab", [], ["a"], ["a", 5], [["a", None, 1], None], ["g", ["xyz"]], ["a", "b"]]
)
def test_what_is_no_stored_handle_is_an_error(memory, bad):
    with pytest.raises(DecodeError):
        result_from_tuple(bad, memory)


# -- being an object ---------------------------------------------------------------------------------


def test_equality_hash_text(app):
    handle = app.AsyncResult("a")
    assert handle == app.AsyncResult("a") == "a"
    assert handle != app.AsyncResult("b")
    assert handle != "b"
    assert handle != 5
    assert hash(handle) == hash(app.AsyncResult("a")) == hash("a")
    assert (str(handle), repr(handle)) == ("a", "<AsyncResult a>")
    group = app.GroupResult("g", [handle])
    assert group == app.GroupResult("g", [app.AsyncResult("a")])
    assert group != app.GroupResult("g", [])
    assert group != app.GroupResult("h", [handle])
    assert (hash(group), str(group), bool(app.GroupResult("g", []))) == (hash("g"), "g", True)
    assert repr(group) == "<GroupResult [a]>"
    assert repr(ResultSet([app.AsyncResult(str(n)) for n in range(6)])) == "<ResultSet [0, 1, 2, 3, 4, ...]>"


def test_copies_share_the_backend(app, backend):
    handle = app.AsyncResult("a", parent=app.AsyncResult("p"))
    group = app.GroupResult("g", [handle])
    for made in (copy.copy(handle), copy.deepcopy(handle), copy.deepcopy(group).results[0]):
        assert (made, made.parent, made.backend is backend) == (handle, app.AsyncResult("p"), True)
    eager = copy.copy(EagerResult("e", 1, "SUCCESS"))
    assert (eager.get(), type(eager)) == (1, EagerResult)
    if isinstance(app, App):
        assert copy.deepcopy(app) is app


def test_handles_survive_pickling(tmp_path):
    app = App(f"sqlite:///{tmp_path}/r.db")
    done(app.backend, "a", "b")
    group = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b", parent=app.AsyncResult("p"))])
    again = pickle.loads(pickle.dumps(group))
    assert (again, again.join(PATIENCE)) == (group, ["value of a", "value of b"])
    assert again.results[1].parent.id == "p"
    assert again.results[0].backend is again.results[1].backend
    again.backend.close()
    app.backend.close()
    eager = pickle.loads(pickle.dumps(EagerResult("e", ValueError("x"), "FAILURE", "tb")))
    assert (eager.state, eager.traceback, type(eager.result)) == ("FAILURE", "tb", ValueError)


def test_what_lives_in_one_process_says_that_it_cannot_be_pickled(memory):
    with pytest.raises(ConfigurationError, match="lives in one process"):
        pickle.dumps(memory.AsyncResult("a"))


# -- eager -------------------------------------------------------------------------------------------


def test_an_eager_result_needs_no_store():
    calls: list[Any] = []
    eager = EagerResult("e", 5, "SUCCESS")
    assert (eager.get(), eager.wait(), eager.result, eager.info, eager.state) == (5, 5, 5, 5, "SUCCESS")
    assert (eager.ready(), eager.successful(), eager.children, eager.traceback) == (True, True, [], None)
    assert (eager.exists(), eager.presence(), eager.as_tuple()) == (
        True,
        Presence.STORED,
        (("e", None), None),
    )
    eager.then(calls.append)
    eager.forget()
    failed = EagerResult("f", KeyError("x"), "FAILURE", "tb")
    failed.then(calls.append, lambda result: calls.append("failed"))
    assert calls == [eager, "failed"]
    with pytest.raises(KeyError):
        failed.get()
    assert isinstance(failed.get(propagate=False), KeyError)
    assert EagerResult("p", None, "PENDING").presence() is Presence.PENDING
    assert [each.id for each in as_completed([eager, failed])] == ["e", "f"]

    async def main() -> Any:
        return (
            await eager,
            await gather(eager, failed, return_exceptions=True),
            [each.id async for each in as_completed([eager], 5)],
        )

    value, both, arrived = asyncio.run(main())
    assert (value, both[0], type(both[1]), arrived) == (5, 5, KeyError, ["e"])


# -- sets and groups ---------------------------------------------------------------------------------


def test_a_set_is_a_collection(app):
    a, b, c = (app.AsyncResult(name) for name in "abc")
    made = ResultSet([a, b, a], app)
    assert (made.results, len(made), list(made), made[1], a in made) == ([a, b], 2, [a, b], b, True)
    made.add(b)
    made.add(c)
    made.update([a, c])
    assert made.results == [a, b, c]
    made.remove(b)
    with pytest.raises(KeyError):
        made.remove(b)
    made.remove("a")
    made.discard(b)
    made.discard(c)
    assert (made, made.backend is app.backend) == (ResultSet([]), True)
    made.clear()
    with pytest.raises(ConfigurationError, match="give it app="):
        _ = ResultSet([]).backend
    for refused, error in ((lambda: hash(made), TypeError), (lambda: made.id, AttributeError)):
        with pytest.raises(error, match="GroupResult"):
            refused()
    with pytest.raises(TypeError, match="a GroupResult can"):
        made.as_tuple()
    assert app.backend.mark_as_done("holder", made).state == "FAILURE"


def test_what_a_group_tells(app, backend):
    group = app.GroupResult(
        "g", [app.AsyncResult("a"), app.GroupResult("n", [app.AsyncResult("b"), app.AsyncResult("c")])]
    )
    assert (group.ready(), group.waiting(), group.completed_count(), group.failed()) == (
        False,
        True,
        0,
        False,
    )
    done(backend, "a", "b")
    assert (group.completed_count(), group.successful(), group.children) == (2, False, group.results)
    group.maybe_throw()
    backend.mark_as_failure("c", KeyError("c"))
    assert (group.ready(), group.successful(), group.failed(), group.waiting()) == (True, False, True, False)
    group.maybe_throw(propagate=False)
    with pytest.raises(KeyError):
        group.maybe_throw()


def test_an_empty_group_is_ready(app):
    group = app.GroupResult("g", [])
    assert (group.ready(), group.successful(), group.failed(), group.completed_count()) == (
        True,
        True,
        False,
        0,
    )
    assert (group.join(), group.join_native(), group.get(0), list(as_completed(group))) == ([], [], [], [])

    async def main() -> Any:
        return await group, await gather(), [each async for each in as_completed(group, 0)]

    assert asyncio.run(main()) == ([], [], [])


@pytest.mark.parametrize("how", ["join", "join_native", "get"])
def test_joining(app, backend, how):
    nested = app.GroupResult("n", [app.AsyncResult("b"), app.AsyncResult("c")])
    group = app.GroupResult("g", [app.AsyncResult("a"), nested, app.AsyncResult("a")])
    thread = later(lambda: done(backend, "c", "b", "a"))
    assert getattr(group, how)(PATIENCE) == ["value of a", ["value of b", "value of c"], "value of a"]
    thread.join()
    told: list[Any] = []
    assert getattr(app.GroupResult("g", group.results), how)(callback=lambda *each: told.append(each)) == []
    assert sorted(told, key=str) == sorted(
        [("a", "value of a"), ("n", ["value of b", "value of c"]), ("a", "value of a")], key=str
    )
    assert backend.watcher.waiting == 0


@pytest.mark.parametrize("how", ["join", "join_native", "get"])
def test_joining_what_fails_or_takes_too_long(app, backend, how):
    done(backend, "a")
    backend.mark_as_failure("b", KeyError("b"))
    group = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b"), app.AsyncResult("never")])
    with pytest.raises((KeyError, TimeoutError)):
        getattr(group, how)(0)
    two = app.GroupResult("g", group.results[:2])
    with pytest.raises(KeyError):
        getattr(two, how)(PATIENCE)
    assert [type(each) for each in getattr(two, how)(0, propagate=False)] == [str, KeyError]
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            getattr(app.GroupResult("h", [app.AsyncResult("never")]), how)(timeout)
    assert backend.watcher.waiting == 0


def test_join_native_raises_the_first_failure_to_arrive(app, backend):
    group = app.GroupResult("g", [app.AsyncResult("never"), app.AsyncResult("b")])
    backend.mark_as_failure("b", KeyError("b"))
    with pytest.raises(KeyError):
        group.join_native(PATIENCE)
    assert backend.watcher.waiting == 0


def test_an_outage_does_not_lengthen_the_timeout_of_a_join(memory, monkeypatch):
    def away(task_ids: Any) -> Any:
        raise StoreUnavailable("away")

    monkeypatch.setattr(memory.backend, "do_read", away)
    monkeypatch.setattr(memory.backend, "retry_deadline", 1000.0)
    group = memory.GroupResult("g", [memory.AsyncResult("a")])
    for wait in (group.join, group.join_native):
        with pytest.raises(TimeoutError):
            wait(0.01)


def test_a_group_is_saved_restored_and_deleted(app, backend):
    group = app.GroupResult("g", [app.AsyncResult("a"), app.GroupResult("n", [app.AsyncResult("b")])])
    assert GroupResult.restore("g", backend) is None
    group.save()
    again = GroupResult.restore("g", app=app)
    assert again == group == GroupResult.restore("g", backend)
    done(backend, "a", "b")
    again.delete()
    assert GroupResult.restore("g", backend) is None
    assert again.join(0) == ["value of a", ["value of b"]]
    group.save(backend)
    group.forget()
    assert (GroupResult.restore("g", backend), backend.get_state("a"), backend.get_state("b")) == (
        None,
        "PENDING",
        "PENDING",
    )
    with pytest.raises(ConfigurationError, match="needs backend= or app="):
        GroupResult.restore("g")


def test_a_damaged_group_is_an_error_that_names_it(app, backend):
    for payload in (b"{", b"[1]", b'{"result": 5}', b'{"result": [["g", null], "xy"]}'):
        backend.do_write_group("g", payload, None)
        with pytest.raises(DecodeError, match="group 'g'"):
            backend.restore_group("g")


# -- as_completed ------------------------------------------------------------------------------------


def test_as_completed_yields_handles_as_they_become_ready(app, backend):
    handles = [app.AsyncResult(name) for name in "abc"]
    done(backend, "b")
    arriving = iter(as_completed([*handles, handles[1]], PATIENCE))
    assert [next(arriving), next(arriving)] == [handles[1], handles[1]]
    done(backend, "c")
    assert next(arriving) == handles[2]
    done(backend, "a")
    assert [each.get(0) for each in arriving] == ["value of a"]
    assert backend.watcher.waiting == 0


def test_a_group_comes_when_its_last_task_does_and_not_at_the_end(app, backend):
    group = app.GroupResult("g", [app.AsyncResult("a"), app.GroupResult("n", [app.AsyncResult("b")])])
    empty = app.GroupResult("e", [])
    never = app.AsyncResult("never")
    done(backend, "b")
    arriving = iter(as_completed([never, group, empty], PATIENCE))
    assert next(arriving) is empty
    later(lambda: done(backend, "a")).join()
    assert next(arriving) is group
    assert group.join(0) == ["value of a", ["value of b"]]
    arriving.close()
    assert backend.watcher.waiting == 0


def test_as_completed_times_out_and_lets_go(app, backend):
    done(backend, "a")
    for timeout in (0, 0.01):
        arriving = iter(as_completed([app.AsyncResult("a"), app.AsyncResult("b")], timeout))
        assert next(arriving).id == "a"
        with pytest.raises(TimeoutError, match="1 results were not ready"):
            next(arriving)
        assert backend.watcher.waiting == 0


# -- asyncio -----------------------------------------------------------------------------------------


async def settle_soon(backend: Any, *task_ids: str) -> None:
    await asyncio.to_thread(done, backend, *task_ids)


def test_await(app, backend):
    async def main() -> Any:
        handle, group = (
            app.AsyncResult("a"),
            app.GroupResult("g", [app.AsyncResult("b"), app.AsyncResult("c")]),
        )
        waiting = asyncio.ensure_future(gather(handle, group))
        await asyncio.sleep(0)
        await settle_soon(backend, "b", "a", "c")
        first = await asyncio.wait_for(waiting, PATIENCE)
        return first, await handle, await group

    expected = ["value of b", "value of c"]
    assert asyncio.run(main()) == (["value of a", expected], "value of a", expected)
    assert backend.watcher.waiting == 0


def test_await_raises(app, backend):
    async def main() -> Any:
        backend.mark_as_failure("a", KeyError("x"))
        handle = app.AsyncResult("a")
        with pytest.raises(KeyError):
            await asyncio.wait_for(handle.future(), PATIENCE) and await handle
        with pytest.raises(KeyError):
            await app.AsyncResult("a")
        with pytest.raises(KeyError):
            await gather(app.AsyncResult("a"), app.AsyncResult("never"))
        for _ in range(3):  # what gather lets go of is dropped by the loop
            await asyncio.sleep(0)
        return backend.watcher.waiting

    assert asyncio.run(main()) == 0


def test_a_cancelled_await_lets_go(app, backend):
    async def main() -> int:
        handles = [app.AsyncResult(str(n)) for n in range(5)]
        group = app.GroupResult("g", handles)
        waits = [asyncio.ensure_future(gather(*handles)), asyncio.ensure_future(gather(group))]
        with pytest.raises(builtins.TimeoutError):
            await asyncio.wait_for(gather(*handles), 0.01)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)
        return backend.watcher.waiting

    assert asyncio.run(main()) == 0


def test_async_as_completed(app, backend):
    async def main() -> list[str]:
        group = app.GroupResult("g", [app.AsyncResult("b"), app.AsyncResult("c")])
        arriving = aiter(as_completed([app.AsyncResult("a"), group, app.AsyncResult("a")], PATIENCE))
        first = asyncio.ensure_future(anext(arriving))
        await asyncio.sleep(0)
        await settle_soon(backend, "b", "c")
        order = [(await first).id]
        await settle_soon(backend, "a")
        return order + [each.id async for each in arriving]

    assert asyncio.run(main()) == ["g", "a", "a"]
    assert backend.watcher.waiting == 0


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_async_as_completed_times_out_after_a_last_look(app, backend, timeout):
    done(backend, "a")

    async def main() -> tuple[str, int]:
        arriving = aiter(as_completed([app.AsyncResult("a"), app.AsyncResult("b")], timeout))
        first = await anext(arriving)
        with pytest.raises(TimeoutError, match="1 results were not ready"):
            await anext(arriving)
        for _ in range(3):
            await asyncio.sleep(0)
        return first.id, backend.watcher.waiting

    assert asyncio.run(main()) == ("a", 0)


def test_leaving_async_as_completed_lets_go(app, backend):
    async def main() -> int:
        arriving = aiter(as_completed([app.AsyncResult("a"), app.GroupResult("g", [app.AsyncResult("b")])]))
        waiting = asyncio.ensure_future(anext(arriving))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await arriving.aclose()
        for _ in range(3):
            await asyncio.sleep(0)
        return backend.watcher.waiting

    assert asyncio.run(main()) == 0


def test_5000_awaits_have_one_thread(app, backend):
    handles = [app.AsyncResult(str(n)) for n in range(5000)]

    async def main() -> Any:
        waiting = asyncio.ensure_future(gather(*handles))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before = backend.watcher.waiting
        await settle_soon(backend, *map(str, range(5000)))
        values = await asyncio.wait_for(waiting, PATIENCE)
        threads = [thread for thread in threading.enumerate() if thread.name == "settled-watcher"]
        return before, len(threads) <= 1, values

    assert asyncio.run(main()) == (5000, True, [f"value of {n}" for n in range(5000)])
    assert backend.watcher.waiting == 0


def test_200_threads_wait_for_20_tasks(app, backend):
    values: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=lambda n=n: values.put(app.AsyncResult(str(n % 20)).get(PATIENCE)))
        for n in range(200)
    ]
    for thread in threads:
        thread.start()
    done(backend, *map(str, range(20)))
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(values.get(block=False) for _ in range(200)) == sorted(
        [f"value of {n}" for n in range(20)] * 10
    )
    assert backend.watcher.waiting == 0


# -- expiry, and what is stored beside the result ---------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "given", "kept"),
    [
        ({}, None, {"SUCCESS": 86400.0, "FAILURE": 86400.0, "STARTED": 86400.0}),
        ({"result_expires": 0}, None, {"SUCCESS": None, "FAILURE": None, "STARTED": None}),
        ({"result_expires": None}, None, {"SUCCESS": None, "FAILURE": None, "STARTED": None}),
        ({"result_failure_expires": 60}, None, {"SUCCESS": 86400.0, "FAILURE": 60.0, "REVOKED": 60.0}),
        ({"result_failure_expires": 0}, None, {"SUCCESS": 86400.0, "FAILURE": None}),
        ({"result_failure_expires": 60}, 5, {"SUCCESS": 5.0, "FAILURE": 5.0, "STARTED": 5.0}),
        ({"result_expires": 60}, 0, {"SUCCESS": None, "FAILURE": None}),
    ],
)
def test_expiry_per_backend_per_state_per_call(conf, given, kept):
    backend = App("memory://", **conf).backend
    backend.clock = lambda: 1000.0
    for state in kept:
        backend.store_result(state, {}, state, expires=given)
    rows = {row.state: row.expires and row.expires - 1000.0 for row in backend.query()}
    assert rows == kept
    for bad in (-1, "x", math.nan):
        with pytest.raises(ConfigurationError, match="expires must be"):
            backend.store_result("a", 1, "SUCCESS", expires=bad)


def test_notes_that_cannot_be_stored_do_not_cost_the_result():
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    app = App("memory://", result_extended=True)
    request = {
        "args": (Broken(),), "kwargs": {"x": object()}, "children": [app.AsyncResult("c"), object()],
        "retries": object(), "task": "add", "delivery_info": {"routing_key": "q"}, "parent_id": UUID(int=1),
    }  # fmt: skip
    assert app.backend.mark_as_done("a", 42, request).state == states.SUCCESS
    handle = app.AsyncResult("a")
    assert (handle.get(0), handle.children, handle.name) == (42, [app.AsyncResult("c")], "add")
    assert app.backend.mark_as_done("b", object(), request).state == states.FAILURE
    assert "object" in str(app.AsyncResult("b").result)


def test_a_failure_that_gives_way_to_a_success_is_seen_by_new_handles(app, backend):
    backend.mark_as_failure("a", ValueError("first"), request={"retries": 0})
    handle = app.AsyncResult("a")
    assert handle.failed()
    backend.mark_as_done("a", 2, {"retries": 1})
    assert (handle.failed(), app.AsyncResult("a").get(0)) == (True, 2)
    assert not backend.mark_as_failure("a", ValueError("late"), request={"retries": 5})
