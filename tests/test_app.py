"""The app of a program without a task queue: settings, engines, sending, and the poll for chords."""

from __future__ import annotations

import pickle
import queue
import threading
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import settled
from settled import app as app_module
from settled.app import DEFAULT_URL, App, Settings, connect, engine_class
from settled.backends.memory import MemoryBackend
from settled.errors import ChordError, ConfigurationError
from tests.interface.stores import DictStore, Sent

PATIENCE = 30.0
BODY = {"task": "total", "options": {"task_id": "body"}}


def test_the_url_is_given_set_in_the_environment_or_the_default(monkeypatch):
    monkeypatch.delenv("SETTLED_BACKEND", raising=False)
    assert App().url == DEFAULT_URL
    monkeypatch.setenv("SETTLED_BACKEND", "memory://")
    assert App().url == "memory://"
    assert App(result_backend="sqlite:///set.db").url == "sqlite:///set.db"
    assert (
        App("sqlite:///given.db", result_backend="sqlite:///set.db").conf["result_backend"]
        == "sqlite:///given.db"
    )


def test_settings_are_items_and_attributes():
    settings = Settings({"result_expires": 5})
    assert (settings["result_expires"], settings.result_expires, len(settings), list(settings)) == (
        5,
        5,
        1,
        ["result_expires"],
    )
    with pytest.raises(AttributeError, match="no setting 'other'"):
        _ = settings.other
    with pytest.raises(KeyError):
        _ = settings["other"]
    with pytest.raises(ConfigurationError, match=r"no setting result_expire; there are .*result_expires"):
        App("memory://", result_expire=5)


def test_a_backend_is_made_once_and_when_it_is_first_asked_for():
    app = App("memory://")
    assert app._backend is None
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threads = [threading.Thread(target=lambda: found.put(app.backend)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert {id(found.get(block=False)) for _ in range(20)} == {id(app.backend)}
    with connect("memory://", result_expires=7) as backend:
        assert (type(backend), backend.expires) == (MemoryBackend, 7.0)


def test_a_pickled_app_is_the_same_but_cannot_send(tmp_path):
    app = App(f"sqlite:///{tmp_path}/r.db", send=Sent(), result_expires=7)
    again = pickle.loads(pickle.dumps(app))
    assert (again.url, again.conf["result_expires"], again.can_send, app.can_send) == (
        app.url,
        7,
        False,
        True,
    )


def test_a_signature_is_sent_with_arguments_before_its_own():
    sent = Sent()
    app = App("memory://", send=sent)
    handle = app.signature(BODY).apply_async((5,), task_id="a")
    assert (handle, sent.bodies) == (app.AsyncResult("a"), [("total", [5], "a")])
    assert app.signature(BODY).apply_async(task_id="b").id == "b"
    with pytest.raises(ConfigurationError, match="cannot send tasks"):
        App("memory://").signature(BODY).apply_async(task_id="a")


def test_engines_of_other_distributions_are_found(monkeypatch):
    point = EntryPoint("own", "tests.interface.stores:DictStore", "settled.engines")
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group, name=None: [point] if name in (None, "own") else []
    )
    assert engine_class("own://") is DictStore
    with pytest.raises(ConfigurationError, match="there are memory://, own://"):
        engine_class("other://")


def test_an_engine_whose_client_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr(app_module, "ENGINES", {"own": "no_such_client.engine:Engine"})
    with pytest.raises(
        ConfigurationError, match=r"own:// needs no_such_client: pip install 'settled\[own\]'"
    ) as caught:
        connect("own://")
    assert isinstance(caught.value.__cause__, ImportError)


def test_what_people_import_is_loaded_when_it_is_used():
    for name in settled.__all__:
        assert getattr(settled, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = settled.nothing


# -- the poll for a store that cannot count -----------------------------------------------------------


def polled(**options: Any) -> tuple[Any, Any, Sent]:
    """An app over a store that cannot count; a chord of "a" and "b", polled as fast as can be."""
    sent = Sent()
    app = App("memory://", send=sent)
    backend = DictStore(app)
    app._backend = backend
    group = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")])
    backend.apply_chord(lambda task_id: group, (), "g", BODY, countdown=0.001, **options)
    return app, backend, sent


def test_a_chord_is_polled_until_its_header_is_settled(caplog):
    _app, backend, sent = polled()
    backend.mark_as_done("a", 1)
    sent.fault = RuntimeError("no broker")
    backend.mark_as_done("b", 2)
    assert sent.calls.acquire(timeout=PATIENCE)
    assert sent.calls.acquire(timeout=PATIENCE)
    assert "chord g could not be looked at" in caplog.text
    sent.fault = None
    while not sent.bodies:
        assert sent.calls.acquire(timeout=PATIENCE)
    assert sent.bodies == [("total", [[1, 2]], "body")]


def test_a_polled_chord_keeps_its_policy():
    _app, backend, sent = polled(on_failure="first", interval=0.002)
    backend.mark_as_failure("b", KeyError("x"))
    with pytest.raises(ChordError, match="Dependency b raised"):
        backend.wait_for("body", PATIENCE)
    assert sent.bodies == []


def test_a_polled_chord_whose_body_was_sent_by_another_is_left_alone():
    _app, backend, sent = polled()
    backend.mark_as_started("body")
    backend.mark_as_done("a", 1)
    backend.mark_as_done("b", 2)
    while polls := [each for each in threading.enumerate() if isinstance(each, threading.Timer)]:
        polls[0].join(PATIENCE)
    assert sent.bodies == []


def test_handles_that_arrive_one_by_one_share_an_app_and_its_watcher(tmp_path):
    app = App(f"sqlite:///{tmp_path}/results.db", result_expires=60)
    forms = [pickle.dumps(app.AsyncResult(str(number))) for number in range(3)]
    handles = [pickle.loads(form) for form in forms]
    assert len({id(handle.backend) for handle in handles}) == 1
    assert handles[0].backend is not app.backend
    other = pickle.loads(pickle.dumps(App(app.url).AsyncResult("0")))
    assert other.backend is not handles[0].backend


def test_a_process_that_only_waits_sweeps(tmp_path):
    sent = threading.Event()
    url = f"sqlite:///{tmp_path}/results.db"
    worker, client = App(url), App(url, send=lambda *_: sent.set())
    worker.backend.open_chord("group", ["member"], {"task": "body"})
    worker.backend.mark_as_done("member", 1, request={"group": "group", "chord": {"task": "body"}})
    with client.backend, worker.backend:
        with pytest.raises(settled.TimeoutError):
            client.AsyncResult("body").get(timeout=0)
        assert sent.wait(60)
