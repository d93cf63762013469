"""Every member of the published interface: its signature, and what it is documented to do.

With four kinds of app: `settled.App`, a bare object whose settings are a mapping, one whose settings
are attributes, and a real Celery app.
"""

from __future__ import annotations

import builtins
import inspect
import threading
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from settled.backends import base
from settled.backends.memory import MemoryBackend
from settled.errors import ConfigurationError, RemoteError, TaskRevokedError
from tests.interface.members import ATTRIBUTES, PUBLISHED, exercises, members, members_tests
from tests.interface.stores import (
    KINDS,
    CountingStore,
    DictStore,
    ExpiringStore,
    ListingStore,
    Sent,
    SwappingStore,
    make_app,
)

PATIENCE = 30.0
BODY = {"task": "total", "args": [], "kwargs": {}, "options": {}}


@pytest.fixture
def sent() -> Iterator[Sent]:
    made = Sent()
    yield made
    getattr(made, "disconnect", lambda: None)()


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, sent: Sent) -> Any:
    return make_app(request.param, sent)


def opened(kind: type[Any], app: Any, *args: Any, **kwargs: Any) -> Any:
    backend = kind(app, *args, **kwargs)
    if hasattr(app, "sent"):
        app.backend = backend
    return backend


@pytest.fixture
def backend(app: Any) -> Iterator[Any]:
    with opened(MemoryBackend, app) as made:
        yield made


@pytest.fixture
def bare(sent: Sent) -> Any:
    return make_app("mapping", sent)


def part(task_id: str, body: object = BODY, **more: object) -> Any:
    return SimpleNamespace(id=task_id, group="g", chord=body, **more)


# -- signatures ----------------------------------------------------------------------------------


def published(text: str) -> list[tuple[str, object]]:
    names = {}
    exec(f"def f{text}: pass", names)  # the table above, no input
    return [
        (parameter.name if parameter.kind not in (2, 4) else str(parameter), parameter.default)
        for parameter in inspect.signature(names["f"]).parameters.values()
    ]


@pytest.mark.parametrize(("owner", "name"), [member.split(".") for member in members() if member])
def test_the_member_is_there_as_published(owner, name):
    kind = getattr(base, owner)
    if name in ATTRIBUTES.get(owner, {}):
        value, wanted = getattr(kind, name), ATTRIBUTES[owner][name]
        assert value == wanted or issubclass(value, wanted)
        return
    ours = list(inspect.signature(getattr(kind, name)).parameters.values())[1:]
    wanted = published(PUBLISHED[owner][name])
    ours_positional = [each for each in ours if each.kind is each.POSITIONAL_OR_KEYWORD]
    wanted_positional = [(name, default) for name, default in wanted if "*" not in name]
    for mine, (wanted_name, default) in zip(ours_positional, wanted_positional, strict=False):
        assert mine.name == wanted_name
        assert default in (..., mine.default)
    assert len(ours_positional) >= len(wanted_positional)
    assert all(each.default is not each.empty for each in ours_positional[len(wanted_positional) :])
    assert {each for each, _ in wanted if "*" in each} <= {str(each).split(":")[0] for each in ours}


def test_every_member_has_a_test():
    assert [member for member, tests in members_tests().items() if not tests] == []


@exercises(
    "BaseBackend.EXCEPTION_STATES", "BaseBackend.READY_STATES", "BaseBackend.UNREADY_STATES"
)  # fmt: skip
def test_states_tell_what_they_say(backend):
    for state in sorted(backend.UNREADY_STATES):
        backend.store_result(state, ValueError("x") if state in backend.EXCEPTION_STATES else "x", state)
        assert backend.get_state(state) == state
    for state in sorted(backend.READY_STATES):
        backend.store_result(state, ValueError("x") if state in backend.EXCEPTION_STATES else "x", state)
        value = backend.wait_for(state, timeout=0, propagate=False)
        assert isinstance(value, ValueError) == (state in backend.EXCEPTION_STATES)


@exercises("BaseBackend.persistent", "BaseBackend.prepare_persistent")
def test_persistence_is_asked_of_the_caller_the_setting_the_engine(sent):
    plain = DictStore(make_app("mapping", sent))
    assert plain.prepare_persistent() is True
    assert (plain.prepare_persistent(False), plain.prepare_persistent(enabled=True)) == (False, True)
    assert MemoryBackend(make_app("mapping", sent)).prepare_persistent() is False
    for kind in KINDS:
        assert MemoryBackend(make_app(kind, sent, result_persistent=True)).prepare_persistent() is True


@exercises("BaseBackend.subpolling_interval", "BaseBackend.supports_native_join")
def test_what_callers_of_the_old_interface_look_at(backend):
    assert (backend.subpolling_interval, backend.supports_native_join) == (None, False)
    backend.mark_as_done("a", 1)
    assert [meta["result"] for _, meta in backend.get_many(["a"], timeout=0)] == [1]


# -- settings ------------------------------------------------------------------------------------


@exercises("BaseBackend.__init__")
@pytest.mark.parametrize("kind", KINDS)
def test_settings_come_from_the_app_unless_they_are_given(kind, sent):
    conf = {"result_serializer": "pickle", "result_expires": timedelta(minutes=1), "result_cache_max": 5}
    app = make_app(kind, sent, **conf, result_accept_content=["pickle", "json"])
    backend = MemoryBackend(app)
    assert (backend.serializer, backend.expires) == ("pickle", 60.0)
    backend.mark_as_done("a", {1, 2})
    assert backend.get_result("a") == {1, 2}
    assert backend.is_cached("a")
    given = MemoryBackend(app, "json", -1, ["json"])
    assert (given.serializer, given.accept) == ("json", frozenset({"json"}))
    given.mark_as_done("a", 1)
    given.get_result("a")
    assert not given.is_cached("a")
    assert (
        MemoryBackend(app, serializer="msgpack", max_cached_results=0, accept=["msgpack"]).serializer
        == "msgpack"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_without_settings_there_are_the_published_defaults(kind, sent):
    backend = MemoryBackend(make_app(kind, sent))
    assert (backend.serializer, backend.expires) == ("json", 24 * 3600.0)
    assert "pickle" not in backend.accept
    backend.mark_as_done("a", 1)
    backend.get_result("a")
    assert not backend.is_cached("a")


def test_an_unknown_option_is_an_error_that_names_it(bare):
    with pytest.raises(ConfigurationError, match="max_cachd"):
        MemoryBackend(bare, max_cachd=5)


# -- writing states ------------------------------------------------------------------------------


@exercises("BaseBackend.mark_as_started")
def test_started_stores_what_is_given_as_its_result(backend):
    assert backend.mark_as_started("a", pid=5, hostname="here")
    meta = backend.get_task_meta("a")
    assert (meta["status"], meta["result"]) == ("STARTED", {"pid": 5, "hostname": "here"})


@exercises("BaseBackend.mark_as_done")
def test_done_stores_the_value(backend):
    assert backend.mark_as_done("a", [1], None)
    assert backend.mark_as_done(task_id="b", result=2, request=None)
    assert (backend.get_state("a"), backend.get_result("a"), backend.get_result("b")) == ("SUCCESS", [1], 2)
    assert not backend.mark_as_failure("a", ValueError("too late"))


@exercises("BaseBackend.mark_as_failure", "BaseBackend.mark_as_retry")
@pytest.mark.parametrize(("mark", "state"), [("mark_as_failure", "FAILURE"), ("mark_as_retry", "RETRY")])
def test_failure_and_retry_store_the_exception(backend, mark, state):
    getattr(backend, mark)("a", KeyError("x"), "the traceback", None)
    getattr(backend, mark)("b", exc=KeyError("x"), traceback=None, request=None)
    assert backend.get_state("a") == state
    error = backend.get_result("a")
    assert (type(error), error.args) == (KeyError, ("x",))
    assert (backend.get_traceback("a"), backend.get_traceback("b")) == ("the traceback", None)


def test_a_traceback_object_is_stored_as_text(backend):
    def fail() -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here") as caught:
        fail()
    bare_error = ValueError("no frames of its own")
    backend.mark_as_failure("a", caught.value, caught.tb)
    backend.mark_as_failure("b", bare_error, caught.tb)
    backend.mark_as_failure("c", caught.value)
    backend.store_result("d", "a note", "PROGRESS", traceback=caught.tb)
    for task_id in "abcd":
        assert "in fail" in backend.get_traceback(task_id)


@exercises("BaseBackend.mark_as_revoked")
def test_revoked_stores_the_reason(backend):
    backend.mark_as_revoked("a", "not wanted")
    backend.mark_as_revoked("b")
    assert backend.get_state("a") == "REVOKED"
    with pytest.raises(TaskRevokedError, match="not wanted"):
        backend.wait_for("a")
    assert backend.get_result("b").args == ("",)


@exercises("BaseBackend.store_result")
def test_store_result_takes_every_documented_form(backend):
    assert backend.store_result("a", {"done": 3}, "PROGRESS")
    assert backend.get_task_meta("a")["result"] == {"done": 3}
    assert backend.store_result("a", 1, status="SUCCESS", traceback=None, request=None)
    assert backend.store_result(task_id="b", result=2, status="SUCCESS")
    assert backend.store_result("c", ValueError("x"), "FAILURE", "text", {"id": "c", "retries": 2})
    assert (backend.get_traceback("c"), backend.get_task_meta("c")["attempt"]) == ("text", 2)
    refused = backend.store_result("a", 3, "STARTED")
    assert (refused.landed, refused.state, bool(refused)) == (False, "SUCCESS", False)
    for bad in ("", None, 5):
        with pytest.raises(ConfigurationError, match="status of task 'd'"):
            backend.store_result("d", 1, bad)
    with pytest.raises(ConfigurationError, match="takes no state"):
        backend.store_result("d", 1, "SUCCESS", state="SUCCESS")


@exercises("BaseBackend.fail_from_current_stack")
def test_fail_from_current_stack_stores_what_is_being_handled(backend):
    error = KeyError("missing")
    try:
        raise error
    except KeyError:
        info = backend.fail_from_current_stack("a")
        backend.fail_from_current_stack("b", exc=ValueError("instead"))
    assert (info.type, info.exception) == (KeyError, error)
    assert "test_fail_from_current_stack" in backend.get_traceback("a") == info.traceback
    assert isinstance(backend.get_result("b"), ValueError)
    assert "KeyError" in backend.get_traceback("b")
    with pytest.raises(ConfigurationError, match="while one is handled"):
        backend.fail_from_current_stack("c")


# -- reading -------------------------------------------------------------------------------------


@exercises(
    "BaseBackend.get_status", "BaseBackend.get_state", "BaseBackend.get_result", "BaseBackend.get_traceback",
    "BaseBackend.get_children", "BaseBackend.get_task_meta",
)  # fmt: skip
def test_reading_a_task(backend):
    child = backend.app.AsyncResult("child")
    backend.store_result("a", 1, "SUCCESS", request=SimpleNamespace(children=[child]))
    assert (backend.get_status("a"), backend.get_state(task_id="a"), backend.get_result("a")) == (
        "SUCCESS",
        "SUCCESS",
        1,
    )
    assert backend.get_traceback("a") is None
    assert backend.get_children("a") == [[["child", None], None]]
    assert backend.get_task_meta("a", cache=False)["task_id"] == "a"
    unknown = backend.get_task_meta("never")
    assert (unknown["status"], unknown["result"]) == ("PENDING", None)
    assert backend.get_result("never") is None


@exercises("BaseBackend.is_cached", "BaseBackend.reload_task_result")
def test_the_cache_holds_what_is_final_and_can_be_reloaded(app):
    backend = MemoryBackend(app, max_cached_results=2)
    backend.mark_as_failure("a", ValueError("first"))
    backend.get_task_meta("a")
    backend.reload_task_result("a")
    assert not backend.is_cached("a")  # a later attempt may still succeed
    backend.mark_as_done("a", 1, {"retries": 1})
    assert backend.get_result("a") == 1
    assert backend.is_cached("a")
    backend.do_forget(("a",))  # behind the backend's back
    assert backend.get_result("a") == 1
    assert backend.get_task_meta("a", cache=False)["status"] == "PENDING"
    backend.reload_task_result("a")
    assert (backend.get_state("a"), backend.is_cached("a")) == ("PENDING", False)
    for task_id in "xyz":
        backend.mark_as_done(task_id, 1)
        backend.get_task_meta(task_id)
    assert [backend.is_cached(task_id) for task_id in "xyz"] == [False, True, True]


@exercises("BaseBackend.wait_for", "BaseBackend.TimeoutError")
def test_wait_for_returns_raises_and_times_out(backend):
    backend.mark_as_done("done", 1)
    backend.mark_as_failure("failed", KeyError("x"), "its traceback")
    assert backend.wait_for("done", timeout=None, propagate=True, interval=0.01) == 1
    with pytest.raises(KeyError) as caught:
        backend.wait_for("failed", 0)
    assert "its traceback" in str(caught.value.__notes__)
    assert isinstance(backend.wait_for("failed", 0, False), KeyError)
    with pytest.raises(backend.TimeoutError, match="'never' was not ready"):
        backend.wait_for("never", timeout=0)
    assert issubclass(backend.TimeoutError, builtins.TimeoutError)
    threading.Thread(target=backend.mark_as_done, args=("later", 2)).start()
    assert backend.wait_for("later", PATIENCE) == 2


def test_a_value_that_is_an_exception_is_no_failure(bare):
    backend = MemoryBackend(bare, serializer="pickle", accept=["pickle"])
    backend.mark_as_done("a", ValueError("the value"))
    assert isinstance(backend.wait_for("a", 0), ValueError)


def test_a_failure_without_an_exception_is_still_raised(backend):
    backend.store_result("none", None, "FAILURE")
    backend.store_result("text", "it broke", "FAILURE")
    with pytest.raises(Exception, match="'none' is FAILURE"):
        backend.wait_for("none", 0)
    with pytest.raises(RemoteError, match="it broke"):
        backend.wait_for("text", 0)


@exercises("BaseBackend.forget")
def test_forget_takes_the_record_its_group_and_the_cached_ones(app):
    backend = opened(MemoryBackend, app, max_cached_results=0)
    backend.mark_as_done("a", 1)
    backend.save_group("a", app.GroupResult("a", [app.AsyncResult("m")]))
    assert (backend.get_result("a"), backend.restore_group("a").id) == (1, "a")
    backend.forget("a")
    backend.forget(task_id="a")
    assert (backend.get_state("a"), backend.restore_group("a"), backend.is_cached("a")) == (
        "PENDING",
        None,
        False,
    )


# -- groups --------------------------------------------------------------------------------------


@exercises(
    "BaseBackend.save_group", "BaseBackend.restore_group", "BaseBackend.delete_group",
    "BaseBackend.get_group_meta", "BaseBackend.reload_group_result",
)  # fmt: skip
def test_groups_are_saved_restored_reloaded_and_deleted(app):
    backend = opened(MemoryBackend, app, max_cached_results=0)
    assert (backend.restore_group("g"), backend.get_group_meta("g")) == (None, None)
    backend.save_group("g", app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")]))
    group = backend.restore_group("g", cache=True)
    assert [result.id for result in group.results] == ["a", "b"]
    assert backend.get_group_meta("g")["result"] is group  # from the cache
    assert backend.get_group_meta("g", cache=False)["result"] is not group
    backend.save_group("g", app.GroupResult("g", [app.AsyncResult("c")]))
    assert [result.id for result in backend.restore_group("g").results] == ["c"]
    backend.do_delete_group("g")  # behind the backend's back
    assert backend.restore_group("g") is not None
    backend.reload_group_result("g")
    assert backend.restore_group("g") is None
    backend.save_group("g", app.GroupResult("g", []))
    backend.reload_group_result("g")
    backend.delete_group("g")
    backend.delete_group("g")
    assert backend.restore_group("g") is None


def test_a_group_and_a_task_with_the_same_or_a_similar_id_are_two(app):
    backend = opened(MemoryBackend, app, max_cached_results=0)
    backend.save_group("g", app.GroupResult("g", []))
    backend.mark_as_done("g", 1)
    backend.mark_as_done("group g", 2)
    assert backend.restore_group("g").id == "g"
    assert (backend.get_result("g"), backend.get_result("group g")) == (1, 2)


# -- chords --------------------------------------------------------------------------------------


@exercises("BaseBackend.apply_chord", "BaseBackend.on_chord_part_return")
def test_apply_chord_calls_the_header_and_the_last_part_sends_the_body(backend, app, sent):
    called: list[tuple[object, ...]] = []

    def header(*args: object, task_id: str) -> Any:
        called.append((*args, task_id))
        return app.GroupResult(task_id, [app.AsyncResult("a"), app.AsyncResult("b")])

    group = backend.apply_chord(header, (1, 2), "g", BODY)
    assert (group.id, called) == ("g", [(1, 2, "g")])
    backend.mark_as_done("b", 20)
    backend.on_chord_part_return(SimpleNamespace(request=part("b")))
    backend.on_chord_part_return(task=SimpleNamespace(request=part("b")), propagate=True)
    assert sent.bodies == []
    backend.mark_as_done("a", 10)
    backend.on_chord_part_return(SimpleNamespace(request=part("a")))
    assert [(name, args) for name, args, _ in sent.bodies] == [("total", [[10, 20]])]
    backend.on_chord_part_return(SimpleNamespace(request=part("a")))
    assert len(sent.bodies) == 1


def test_marking_with_the_request_counts_by_itself(backend, app, sent):
    members = [app.AsyncResult("a"), app.AsyncResult("b")]
    backend.apply_chord(lambda task_id: app.GroupResult(task_id, members), (), "g", BODY, result=members)
    backend.mark_as_done("a", 10, part("a"))
    backend.mark_as_done("b", 20, {"id": "b", "group": "g", "chord": BODY, "group_index": 1})
    assert [args for _, args, _ in sent.bodies] == [[[10, 20]]]


def test_a_task_of_no_chord_counts_nowhere(backend, sent):
    backend.on_chord_part_return(SimpleNamespace(request=SimpleNamespace(id="a", group=None, chord=None)))
    backend.on_chord_part_return(SimpleNamespace(request=part("a")))
    assert sent.bodies == []


@exercises("BaseBackend.fallback_chord_unlock")
def test_fallback_chord_unlock_sends_the_polling_task(backend, app, sent):
    backend.fallback_chord_unlock("g", BODY, result=[app.AsyncResult("a")], countdown=5, interval=2)
    ((args, kwargs, countdown),) = sent.polls
    assert countdown == 5
    assert (args[0], dict(args[1])["task"]) == ("g", "total")
    assert [tuple(map(tuple, form[:1])) for form in kwargs["result"]] == [(("a", None),)]
    assert kwargs["interval"] == 2


# -- values --------------------------------------------------------------------------------------


@exercises("BaseBackend.encode", "BaseBackend.decode")
@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_encode_and_decode_are_each_others_inverse(app, serializer):
    backend = MemoryBackend(app, serializer=serializer, accept=[serializer])
    data = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    assert backend.decode(payload=backend.encode(data=data)) == data


@exercises("BaseBackend.encode_result", "BaseBackend.prepare_value", "BaseBackend.prepare_exception")
def test_what_is_stored_for_a_value(backend, app):
    assert backend.encode_result([1], "SUCCESS") == [1]
    error = ValueError("x")
    assert backend.encode_result(error, "FAILURE") == backend.prepare_exception(error)
    assert backend.encode_result(error, "SUCCESS") is error
    assert backend.prepare_value(3) == 3
    assert backend.prepare_value(app.AsyncResult("a")) == (("a", None), None)
    group = app.GroupResult("g", [])
    assert backend.prepare_value(group) == (("g", None), [])
    assert backend.mark_as_done("b", group).state == "SUCCESS"
    wire = backend.prepare_exception(error)
    assert (wire["exc_type"], wire["exc_message"], wire["exc_module"]) == ("ValueError", ["x"], "builtins")


def test_a_value_with_a_method_of_that_name_is_no_handle(backend):
    class Row:
        id, backend = 1, None

        def as_tuple(self) -> tuple[int, ...]:
            raise AssertionError

        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    row = Row()
    assert backend.prepare_value(row) is row
    assert backend.mark_as_done("a", row).state == "FAILURE"


@exercises("BaseBackend.exception_to_python")
def test_a_stored_exception_becomes_an_object(backend):
    error = backend.exception_to_python(
        {"exc_type": "KeyError", "exc_message": ["x"], "exc_module": "builtins"}
    )
    assert (type(error), error.args) == (KeyError, ("x",))
    assert backend.exception_to_python(exc=error) is error
    assert backend.exception_to_python(None) is None
    assert isinstance(backend.exception_to_python(SystemExit(1)), RemoteError)
    unknown = {"exc_type": "Nowhere", "exc_message": ["x"], "exc_module": "no.such.module"}
    assert isinstance(backend.exception_to_python(unknown), RemoteError)


@exercises("BaseBackend.prepare_expires")
def test_expires_are_seconds(sent):
    for kind in KINDS:
        backend = MemoryBackend(make_app(kind, sent, result_expires=timedelta(hours=1)))
        assert backend.prepare_expires(None) == 3600.0
        assert backend.prepare_expires(None, type=int) == 3600
        assert type(backend.prepare_expires(timedelta(seconds=90), int)) is int
        assert backend.prepare_expires(value=30) == 30
        never = MemoryBackend(make_app(kind, sent, result_expires=None))
        assert (never.expires, never.prepare_expires(None), never.prepare_expires(None, int)) == (
            None,
            None,
            None,
        )
        for bad in (-1, float("nan"), "60", True):
            with pytest.raises(ConfigurationError, match="expires must be a number of seconds"):
                backend.prepare_expires(bad)


@exercises("BaseBackend.current_task_children")
def test_children_are_stored_as_tuples(backend, app):
    child = app.AsyncResult("child")
    assert backend.current_task_children() == []
    assert backend.current_task_children(SimpleNamespace(children=[child])) == [(("child", None), None)]
    assert backend.current_task_children(request={"children": [child]}) == [(("child", None), None)]
    assert backend.current_task_children(SimpleNamespace()) == []


@exercises("BaseBackend.on_task_call", "BaseBackend.process_cleanup")
def test_calls_that_ask_for_nothing(backend):
    assert backend.on_task_call(producer=None, task_id="a") == {}
    assert backend.process_cleanup() is None
    backend.mark_as_done("a", 1)
    backend.process_cleanup()
    assert backend.get_result("a") == 1


@exercises("BaseBackend.cleanup")
def test_cleanup_deletes_what_has_expired(backend):
    now = [1000.0]
    backend.clock = lambda: now[0]
    backend.store_result("short", 1, "SUCCESS", expires=10)
    backend.store_result("unready", 1, "STARTED", expires=10)
    backend.store_result("never", 1, "SUCCESS", expires=0)
    assert backend.cleanup() == 0
    now[0] += 11
    assert backend.cleanup() == 2
    assert backend.cleanup() == 0
    assert backend.get_result("never") == 1


# -- key/value stores ------------------------------------------------------------------------------


@exercises("KeyValueStoreBackend.get", "KeyValueStoreBackend.set", "KeyValueStoreBackend.delete")
@pytest.mark.parametrize("kind", KINDS)
def test_get_set_and_delete_are_enough(kind, sent):
    app = make_app(kind, sent)
    with opened(DictStore, app) as backend:
        backend.mark_as_started("a")
        backend.mark_as_done("a", 1)
        assert not backend.mark_as_started("a")
        assert list(backend.data) == [b"celery-task-meta-a"]
        assert backend.wait_for("a", 0) == 1
        backend.save_group("g", app.GroupResult("g", [app.AsyncResult("a")]))
        assert [each.id for each in backend.restore_group("g").results] == ["a"]
        backend.delete_group("g")
        backend.forget("a")
        assert backend.data == {}
        threading.Timer(0.01, backend.mark_as_done, ("later", 2)).start()
        assert backend.wait_for("later", PATIENCE) == 2


@pytest.mark.parametrize("name", ["get", "set", "delete"])
def test_what_an_author_forgot_is_named(name, bare):
    class Forgetful(base.KeyValueStoreBackend):
        pass

    backend = Forgetful(bare)
    with pytest.raises(NotImplementedError, match=f"Forgetful must implement {name}"):
        getattr(backend, name)(*["k", b"v"][: 2 if name == "set" else 1])


@exercises(
    "KeyValueStoreBackend.task_keyprefix", "KeyValueStoreBackend.group_keyprefix",
    "KeyValueStoreBackend.chord_keyprefix", "KeyValueStoreBackend.get_key_for_task",
    "KeyValueStoreBackend.get_key_for_group", "KeyValueStoreBackend.get_key_for_chord",
)  # fmt: skip
def test_keys_are_the_published_ones_and_prefixes_can_be_changed(bare):
    class Own(DictStore):
        task_keyprefix = "t:"
        group_keyprefix = b"g:"
        chord_keyprefix = "c:"

    plain, own = DictStore(bare), Own(bare)
    assert plain.get_key_for_task("x") == b"celery-task-meta-x"
    assert plain.get_key_for_group(group_id="x") == b"celery-taskset-meta-x"
    assert plain.get_key_for_chord("x") == b"chord-unlock-x"
    assert [own.get_key_for_task("x"), own.get_key_for_group("x"), own.get_key_for_chord("x")] == [
        b"t:x",
        b"g:x",
        b"c:x",
    ]


def _as_text(s: Any) -> str:
    return s.decode() if isinstance(s, bytes) else s


class TypeKeys(DictStore):
    key_t = str  # type: ignore[assignment]


class FunctionKeys(DictStore):
    key_t = _as_text  # type: ignore[assignment]


class MethodKeys(DictStore):
    def key_t(self, s: Any) -> str:
        return _as_text(s)


@exercises("KeyValueStoreBackend.key_t")
@pytest.mark.parametrize("kind", [TypeKeys, FunctionKeys, MethodKeys])
def test_key_t_may_be_a_type_a_function_or_a_method(kind, bare):
    backend = kind(bare)
    backend.mark_as_done("a", 1)
    assert list(backend.data) == ["celery-task-meta-a"]
    assert backend.get_result("a") == 1


@exercises("KeyValueStoreBackend.mget", "KeyValueStoreBackend.get_many")
def test_many_are_read_with_mget_in_either_form(bare):
    class Listed(DictStore):
        def mget(self, keys: Any) -> Any:
            return [self.data.get(key) for key in keys]

    class Mapped(DictStore):
        def mget(self, keys: Any) -> Any:
            return {key: self.data[key] for key in keys if key in self.data}

    for kind in (DictStore, Listed, Mapped):
        with opened(kind, bare) as backend:
            for n in range(3):
                backend.mark_as_done(f"t{n}", n)
            backend.mark_as_started("running")
            many = backend.get_many(["t0", "t1", "t2"], timeout=PATIENCE, interval=0.01)
            assert {task_id: meta["result"] for task_id, meta in many} == {"t0": 0, "t1": 1, "t2": 2}
            with pytest.raises(backend.TimeoutError):
                list(backend.get_many(["t0", "running"], timeout=0))
            states = frozenset({"STARTED"})
            assert [task_id for task_id, _ in backend.get_many(["running"], 0, READY_STATES=states)] == [
                "running"
            ]
            with pytest.raises(backend.TimeoutError):
                list(backend.get_many(["t0"], 0.01, 1000.0, READY_STATES=states))


@exercises(
    "KeyValueStoreBackend.incr",
    "KeyValueStoreBackend.implements_incr",
    "KeyValueStoreBackend.on_chord_part_return",
)
@pytest.mark.parametrize("known", [True, False])
def test_a_store_that_counts_dispatches_with_the_last_part(bare, sent, known):
    with opened(CountingStore, bare) as backend:
        members = [bare.AsyncResult("a"), bare.AsyncResult("b")]
        options = {"result": members} if known else {}
        backend.apply_chord(lambda task_id: bare.GroupResult(task_id, members), (), "g", BODY, **options)
        for n, task_id in enumerate("ab"):
            assert sent.bodies == []
            backend.mark_as_done(task_id, n, part(task_id))
            backend.on_chord_part_return(SimpleNamespace(request=part(task_id)))
        assert [args for _, args, _ in sent.bodies] == [[[0, 1]]]
        assert sent.polls == []
        assert b"chord-unlock-g" not in backend.data


def test_parts_that_return_before_there_is_a_header_are_not_lost(bare, sent):
    with opened(CountingStore, bare) as backend:

        def header(task_id: str) -> Any:
            backend.mark_as_done("a", 1)
            backend.on_chord_part_return(SimpleNamespace(request=part("a")))
            return bare.GroupResult(task_id, [bare.AsyncResult("a")])

        backend.apply_chord(header, (), "g", BODY)
        assert len(sent.bodies) == 1
        with pytest.raises(ConfigurationError, match="on_failure can only be 'all'"):
            backend.apply_chord(header, (), "g2", BODY, on_failure="first")


def test_on_a_store_that_cannot_count_the_app_polls(bare, sent):
    with opened(DictStore, bare) as backend:
        nested = bare.GroupResult("n", [bare.AsyncResult("b"), bare.AsyncResult("c")])
        group = bare.GroupResult("g", [bare.AsyncResult("a"), nested])
        assert backend.apply_chord(lambda task_id: group, (), "g", BODY, interval=3) is group
        backend.on_chord_part_return(SimpleNamespace(request=part("a")))
        ((args, kwargs, countdown),) = sent.polls
        assert (args, countdown, kwargs["interval"]) == (("g", BODY), 1, 3)
        assert [form[0][0] for form in kwargs["result"]] == ["a", "b", "c"]
        bare.tasks.clear()
        with pytest.raises(ConfigurationError, match=r"celery\.chord_unlock"):
            backend.fallback_chord_unlock("g", BODY)


@exercises("KeyValueStoreBackend.expire")
def test_a_store_that_expires_is_told_when(bare):
    now = [1000.0]
    backend = opened(ExpiringStore, bare)
    backend.clock = lambda: now[0]
    backend.store_result("a", 1, "SUCCESS", expires=60)
    backend.store_result("b", 1, "SUCCESS", expires=0)
    backend.save_group("g", bare.GroupResult("g", []))
    assert backend.until == {b"celery-task-meta-a": 1060.0, b"celery-taskset-meta-g": 1000.0 + 24 * 3600}
    now[0] += 61
    assert (backend.get_state("a"), backend.get_result("b")) == ("PENDING", 1)
    assert (backend.capabilities.expiry, backend.cleanup()) == ("store", 0)


@pytest.mark.parametrize("name", ["incr", "expire", "compare_and_set", "keys"])
def test_what_a_store_does_not_have_says_so(name, bare):
    arguments = {"incr": ["k"], "expire": ["k", 1.0], "compare_and_set": ["k", None, b"v"], "keys": ["p"]}[
        name
    ]
    with pytest.raises(NotImplementedError, match=rf"DictStore .*{name}\("):
        getattr(DictStore(bare), name)(*arguments)


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        (DictStore, {"guarded": False, "chords": False, "queries": False, "expiry": "none"}),
        (ListingStore, {"guarded": False, "chords": False, "queries": True, "expiry": "cleanup"}),
        (SwappingStore, {"guarded": True, "chords": True, "leases": True, "expiry": "cleanup"}),
        (ExpiringStore, {"guarded": True, "chords": True, "queries": True, "expiry": "store"}),
    ],
)
def test_what_is_defined_is_declared(kind, declared):
    assert {name: getattr(kind.capabilities, name) for name in declared} == declared


# -- no backend ----------------------------------------------------------------------------------


@exercises(
    "DisabledBackend.store_result", "DisabledBackend.get_result", "DisabledBackend.get_status",
    "DisabledBackend.get_traceback", "DisabledBackend.wait_for",
)  # fmt: skip
def test_the_disabled_backend_stores_nothing_and_says_so(app):
    backend = base.DisabledBackend(app)
    assert not backend.store_result("a", 1, "SUCCESS")
    assert not backend.mark_as_done("a", 1)
    assert not backend.mark_as_failure("a", ValueError("x"), request=part("a"))
    asked = [
        lambda: backend.get_result("a"), lambda: backend.get_status("a"), lambda: backend.get_state("a"),
        lambda: backend.get_traceback("a"), lambda: backend.wait_for("a", timeout=1), lambda: backend.watcher,
        lambda: backend.get_many(["a"]), lambda: backend.restore_group("g"),
        lambda: backend.get_children("a"),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(NotImplementedError, match="No result backend is configured"):
            ask()
    assert backend.cleanup() == 0
    backend.on_chord_part_return(SimpleNamespace(request=part("a")))
    backend.process_cleanup()
    backend.close()
