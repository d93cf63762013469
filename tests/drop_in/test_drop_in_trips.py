"""What the store is asked: how often, by the server's own count."""

from __future__ import annotations

import pickle
import uuid
import warnings

import pytest
from celery import Celery, group
from celery.app.task import Context
from celery.exceptions import TimeoutError
from kombu.exceptions import EncodeError

from settled.errors import ConfigurationError
from settled.integrations.celery import Backend, handle

HANDSHAKE = {
    "info",
    "hello",
    "client|setinfo",
    "client|setname",
    "select",
    "command",
    "config|resetstat",
    "ping",
}


@pytest.fixture
def asked(server, raw):
    """Call something once, so that what is opened and loaded once is, and count what a second call asks."""

    def asked(call):
        call()
        raw.execute_command("CONFIG", "RESETSTAT")
        call()
        stats = raw.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()}
        return {name: times for name, times in calls.items() if name not in HANDSHAKE}

    return asked


@pytest.fixture
def app(client, conf):
    """A client whose messages go nowhere near the store."""
    return client(broker_url="memory://")


def part(app, group_id, body, place):
    task_id = str(uuid.uuid4())
    request = {
        "id": task_id,
        "group": group_id,
        "group_index": place,
        "chord": dict(body),
        "task": "pkg.task",
    }
    return Context({**request, "delivery_info": {}, "children": []})


def opened(app, count):
    """A chord, opened as Celery's canvas opens it; the requests of its header tasks."""
    group_id, body = str(uuid.uuid4()), app.signature("pkg.total", options={"task_id": str(uuid.uuid4())})
    requests = [part(app, group_id, body, place) for place in range(count)]
    app.backend.apply_chord((group_id, [app.AsyncResult(each.id) for each in requests]), body)
    app.backend.set_chord_size(group_id, count)
    return [Context({**request.__dict__, "chord": dict(body)}) for request in requests]


def test_a_settled_task_is_one_script(app, asked):
    calls = asked(lambda: app.backend.mark_as_done(str(uuid.uuid4()), {"n": 1}, request=Context({"id": "x"})))
    assert calls["evalsha"] == 1
    assert "eval" not in calls


def test_a_part_of_a_chord_is_one_script(app, asked):
    requests = opened(app, 5)

    def settle():
        request = requests.pop()
        app.backend.mark_as_done(request.id, 1, request=request)

    calls = asked(settle)
    assert calls["evalsha"] == 1
    assert "eval" not in calls


@pytest.mark.parametrize("failed", [True, False])
def test_a_part_that_is_stored_otherwise_is_one_script_too(app, asked, failed):
    requests = opened(app, 5)

    def settle():
        request = requests.pop()
        if failed:
            app.backend.mark_as_failure(request.id, KeyError(1), request=request)
        else:  # its task ignores its result
            app.backend.mark_as_done(request.id, 1, request=request, store_result=False)

    assert asked(settle)["evalsha"] == 1


def test_sending_a_task_asks_nothing(app, asked):
    assert asked(lambda: app.signature("pkg.task", (1,)).delay()) == {}


def test_sending_a_group_asks_nothing(app, asked):
    assert asked(lambda: group(app.signature("pkg.task", (n,)) for n in range(5)).delay()) == {}


def test_a_ready_result_is_read_once_and_nothing_is_subscribed(app, asked):
    app.backend.store_result("ready", 1, "SUCCESS")
    assert asked(lambda: app.AsyncResult("ready").get(timeout=5)) == {"get": 1}


def test_who_waits_for_what_an_eager_app_does_not_store_is_warned(app):
    app.backend.store_result("stored", 1, "SUCCESS")
    app.conf.task_always_eager = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert app.AsyncResult("stored").get(timeout=5) == 1
    with pytest.warns(RuntimeWarning, match="not stored in backend"), pytest.raises(TimeoutError):
        app.AsyncResult("never").get(timeout=0.01)


def test_many_ready_results_are_read_at_once(app, asked):
    ids = [f"many-{n}" for n in range(500)]
    for task_id in ids:
        app.backend.store_result(task_id, task_id, "SUCCESS")

    def join():
        app.backend._cache.clear()
        assert app.GroupResult("g", [app.AsyncResult(each) for each in ids]).join_native(timeout=5) == ids

    assert asked(join) == {"mget": 1}


def test_a_handle_that_is_dropped_unread_asks_nothing(app, asked):
    assert asked(lambda: app.AsyncResult(str(uuid.uuid4()))) == {}


def test_a_client_that_waits_does_not_sweep(app, server, raw):
    app.backend.store_result("waited", 1, "SUCCESS")
    app.AsyncResult("waited").get(timeout=5)
    assert app.backend.engine._sweeper is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:1/2",
        "rediss://h:1/2",
        "unix:///run/redis.sock",
        "sentinel://a:1,b:2/0",
        "redis+cluster://a:1,b:2",
        "valkey://h/0",
        "sqlite:////tmp/never-opened.db",
        "memory://",
    ],
)
def test_every_engine_is_found_by_its_url_and_nothing_is_opened(url):
    app = Celery("urls", broker="memory://", backend=f"settled+{url}", set_as_current=False)
    assert type(app.backend) is Backend
    assert app.backend.as_uri().startswith("settled+")
    arrived = pickle.loads(pickle.dumps(app.backend))
    assert (type(arrived), arrived.url, arrived.engine.url) == (Backend, url, app.backend.engine.url)
    arrived.engine.close()
    app.backend.engine.close()


def test_a_url_that_no_engine_knows_says_what_there_is():
    app = Celery("urls", broker="memory://", backend="settled+mongo://h/db", set_as_current=False)
    with pytest.raises(ConfigurationError, match=r"no engine for mongo://; there are .*redis://"):
        app.backend  # noqa: B018


def test_a_handle_of_ours_travels_and_arrives_with_the_backend_of_its_app(app):
    app.backend.store_result("travels", {"n": 1}, "SUCCESS")
    arrived = pickle.loads(pickle.dumps(handle(app.AsyncResult("travels"))))
    assert arrived.backend is app.backend.engine
    assert arrived.get(timeout=5) == {"n": 1}


def test_an_empty_group_can_be_waited_for(app):
    assert handle(app.GroupResult("empty", [])).get(timeout=5) == []
    assert handle(app.GroupResult("empty", [])).backend is app.backend.engine


def test_a_part_that_cannot_be_stored_says_where_in_the_result(app):
    [request] = opened(app, 1)
    with pytest.raises(EncodeError, match=r"result\['rows'\]\[1\]"):
        app.backend.mark_as_done(request.id, {"rows": [1, object()]}, request=request)
    assert app.AsyncResult(request.id).state == "FAILURE"
