"""What Celery has stored, byte for byte, is to ours what it is to Celery; what ours stores is the same to Celery."""

from __future__ import annotations

import gc
from datetime import datetime

import pytest
from celery.result import result_from_tuple

from settled.integrations.celery import Backend
from tests.celerys import close
from tests.drop_in.conftest import OURS
from tests.golden.celery import make
from tests.golden.celery.make import GROUP, RESULTS, SERIALIZERS, TASK_ID, TRACE, app_of, group_of, request_of
from tests.golden.values import DONE

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

FORMS = make.read()
RECORD, SAVED = f"celery-task-meta-{TASK_ID}", f"celery-taskset-meta-{GROUP}"
RECORDS = [name for name in FORMS if name.split()[0] in RESULTS]
GROUPS = [name for name in FORMS if name.startswith("group ")]
PARTS = [name for name in FORMS if name.startswith("part-")]


class Form:
    """What a form's name says."""

    def __init__(self, name):
        self.kind, self.serializer, *more = name.split()
        self.extended = "extended" in more
        packed = [word.removeprefix("packed-") for word in more if word.startswith("packed-")]
        self.packed = packed[0] if packed else None


@pytest.fixture(scope="module")
def apps(machine):
    """Makes apps on the server, once for each setting: of ours or with Celery's own backend."""
    made = {}

    def app(url, *settings):
        if (url, *settings) not in made:
            app = made[(url, *settings)] = app_of(*settings)
            app.conf.result_backend = url
        return made[(url, *settings)]

    yield app
    # Celery's handles ask the server when they are deleted, and its backend holds on to those of groups: they
    # are let go of now, while the server is there.
    for each in made.values():
        if pending := getattr(each.backend, "_pending_results", None):
            pending.concrete.clear()
    gc.collect()
    for each in made.values():
        close(each)


@pytest.fixture
def ours(apps, server):
    return lambda form: apps(OURS + server.url, form.serializer, form.packed, form.extended)


@pytest.fixture
def theirs(apps, server):
    return lambda form: apps(server.url, form.serializer, form.packed, form.extended)


def plain(value):
    """A value that can be compared."""
    return (type(value), value.args) if isinstance(value, BaseException) else value


def as_tuple(child, app):
    """A child's stored form. Those of a task that is not ready are not made handles of."""
    return (result_from_tuple(child, app) if isinstance(child, list | tuple) else child).as_tuple()


def seen(app):
    """The task as a program of this app sees it."""
    result = app.AsyncResult(TASK_ID)
    names = "state traceback date_done name args kwargs worker retries queue ignored".split()
    found = {name: getattr(result, name) for name in names}
    meta = result.backend.get_task_meta(TASK_ID)
    for name in ("group_id", "parent_id", "stamped_headers", "customer"):
        found[name] = meta.get(name)
    children = [as_tuple(child, app) for child in result.children]
    return {**found, "result": plain(result.result), "children": children}


def test_the_forms_are_all_there():
    assert {Form(name).kind for name in RECORDS} == set(RESULTS)
    for names in (RECORDS, GROUPS, PARTS):
        assert {Form(name).serializer for name in names} == set(SERIALIZERS)
        assert {Form(name).packed for name in names} >= {None, "zlib"}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_celerys_is_to_ours_what_it_is_to_celery(raw, ours, theirs, name):
    form = Form(name)
    raw.set(RECORD, FORMS[name])
    found = seen(ours(form))
    assert isinstance(ours(form).backend, Backend)
    assert found == seen(theirs(form))
    # And it is what was stored.
    assert (found["state"], found["result"]) == (form.kind, plain(RESULTS[form.kind]))
    assert found["traceback"] == (TRACE if form.kind in ("RETRY", "FAILURE") else None)
    done = form.kind in ("SUCCESS", "FAILURE", "REVOKED")
    assert found["date_done"] == (datetime.fromisoformat(DONE) if done else None)
    assert (found["name"], found["customer"]) == (
        ("shop.tasks.count", ["acme"]) if form.extended else (None, None)
    )


@pytest.mark.parametrize("name", [name for name in RECORDS if "yaml" not in name.split()])
def test_a_record_is_read_whatever_the_serializer_of_the_reader(raw, ours, name):
    form = Form(name)
    raw.set(RECORD, FORMS[name])
    other = Form(f"any {'msgpack' if form.serializer == 'json' else 'json'}")
    assert seen(ours(other)) == seen(ours(form))


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_ours_is_to_celery_what_its_own_is(raw, ours, theirs, name):
    form = Form(name)
    raw.set(RECORD, FORMS[name])
    expected = seen(theirs(form))
    raw.delete(RECORD)
    app = ours(form)
    trace = TRACE if form.kind in ("RETRY", "FAILURE") else None
    app.backend.store_result(TASK_ID, RESULTS[form.kind], form.kind, traceback=trace, request=request_of(app))
    found = seen(theirs(form))
    assert type(found.pop("date_done")) is type(expected.pop("date_done"))
    assert found == expected


@pytest.mark.parametrize("name", GROUPS)
def test_a_saved_group_is_the_same_to_both(raw, ours, theirs, name):
    form = Form(name)
    raw.set(SAVED, FORMS[name])
    expected = group_of(theirs(form)).as_tuple()
    for app in (ours(form), theirs(form)):
        assert app.GroupResult.restore(GROUP).as_tuple() == expected
    raw.delete(SAVED)
    group_of(ours(form)).save(backend=ours(form).backend)
    assert theirs(form).GroupResult.restore(GROUP).as_tuple() == expected


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_the_same_to_both(server, ours, theirs, name):
    """As it lies among the parts, where a worker of either kind takes it from."""
    form = Form(name)
    state = form.kind.removeprefix("part-")

    def read(app, payload):
        _, task_id, status, result = app.backend.decode(payload)
        return (
            task_id,
            status,
            plain(app.backend.exception_to_python(result) if status != "SUCCESS" else result),
        )

    expected = (TASK_ID, state, plain(RESULTS[state]))
    assert read(ours(form), FORMS[name]) == read(theirs(form), FORMS[name]) == expected
    app = ours(form)
    result = app.backend.prepare_exception(RESULTS[state]) if state == "FAILURE" else RESULTS[state]
    assert read(theirs(form), app.backend.encode([1, TASK_ID, state, result])) == expected
