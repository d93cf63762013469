"""Fills a store through Celery's own backend, and writes down what Celery reads from it.

    python celery_stores.py KIND URL OUT [serializer=NAME] [compression=NAME] [extended=1] [prefix=TEXT]
                            [tables=TASK,GROUP] [schema=NAME] [expires=S] [count=N] [timezone=NAME] [use_tz=]

KIND is redis, file, db or django, and URL then that of Django's database. OUT is a pickle of
`{"tasks": {id: record}, "groups": {id: members}}`.
"""

from __future__ import annotations

import os
import pickle
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from time import tzset
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import UUID

from celery import Celery
from celery.result import AsyncResult, GroupResult


class Odd(Exception):
    """A class that a reader does not know, with arguments that are not its message."""

    def __init__(self, code, *, hint=None):
        super().__init__(code)
        self.hint = hint


PLAIN = {
    "none": None,
    "number": 49,
    "float": 1.5,
    "big": 2**40,
    "text": "ünïcode ✓",
    "list": [1, [2, {"three": None}]],
    "empty": {},
    "tagged": {
        "at": datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC),
        "day": date(2026, 1, 31),
        "time": time(12, 30),
        "sum": Decimal("0.10"),
        "id": UUID(int=7),
        "raw": b"plain",
        "bytes": b"\x80\x04\xff",
    },
    "large": "x" * 200_000,
}


def request(app, number, **fields):
    return SimpleNamespace(
        **{
            "task": "shop.orders.ship",
            "args": [number, "two"],
            "kwargs": {"fast": True},
            "argsrepr": f"({number}, 'two')",
            "kwargsrepr": "{'fast': True}",
            "hostname": "celery@host",
            "retries": number % 3,
            "delivery_info": {"routing_key": "orders"},
            "group": None,
            "parent_id": None,
            "children": [],
            "stamps": {},
            "stamped_headers": None,
            "chord": None,
            **fields,
        }
    )


def fill(app):
    """Every state and kind of value; the ids of the tasks."""
    store = app.backend.store_result
    ids = []

    def put(task_id, *given, **options):
        store(task_id, *given, **options)
        ids.append(task_id)

    for number, (name, value) in enumerate(PLAIN.items()):
        if name == "tagged" and app.conf.result_serializer == "msgpack":
            continue  # it has no form for these
        if name == "large" and "mysql" in app.conf.result_backend:
            value = value[:50_000]  # Celery's columns hold 64 KB there
        put(f"value-{name}", value, "SUCCESS", request=request(app, number))
    put("bare", {"no": "request"}, "SUCCESS")
    put("started", {"pid": 7, "hostname": "host"}, "STARTED", request=request(app, 1))
    put("progress", {"done": 3}, "PROGRESS")
    for name, error, state in (
        ("failed", ValueError("it is odd", 3), "FAILURE"),
        ("odd", Odd(7, hint="none"), "FAILURE"),
        ("retried", KeyError("again"), "RETRY"),
    ):
        put(name, error, state, traceback=f"Traceback ...\n{error!r}\n", request=request(app, 2))
    children = [
        AsyncResult("child", app=app),
        GroupResult("family", [AsyncResult("member", app=app)], app=app),
    ]
    put(
        "parent",
        1,
        "SUCCESS",
        request=request(app, 3, children=children, group="the-group", parent_id="above"),
    )
    app.backend.mark_as_revoked("revoked", "terminated", request=request(app, 4), store_result=True)
    ids.append("revoked")
    if app.conf.find_value_for_key("extended", "result"):
        put("stamped", 1, "SUCCESS", request=request(app, 5, stamps={"who": ["me"]}, stamped_headers=["who"]))
    for group_id in ("the-group", "other"):
        members = [AsyncResult(f"{group_id}-{each}", app=app) for each in range(3)]
        app.backend.save_group(group_id, GroupResult(group_id, members, app=app))
    return ids


def many(app, count):
    ids = [f"task-{number}" for number in range(count)]
    for number, task_id in enumerate(ids):
        app.backend.store_result(task_id, {"number": number}, "SUCCESS")
    return ids


def described(error):
    """An exception so that two of them can be compared."""
    return (
        (type(error).__name__, [str(each) for each in error.args])
        if isinstance(error, BaseException)
        else error
    )


def seen(app, task_id):
    """A record as Celery reads it."""
    meta = dict(app.backend.get_task_meta(task_id, cache=False))
    meta["result"] = described(meta["result"])
    return meta


def django_database(url):
    """A database's URL as Django's settings have it."""
    parts = urlsplit(url)
    engine = parts.scheme.partition("+")[0]
    return {
        "ENGINE": f"django.db.backends.{'sqlite3' if engine == 'sqlite' else engine}",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": parts.password,
        "HOST": parts.hostname,
        "PORT": parts.port,
    }


def django_app(url, timezone, use_tz):
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=["django_celery_results"],
        DATABASES={"default": django_database(url)},
        TIME_ZONE=timezone,
        USE_TZ=use_tz,
    )
    os.environ["TZ"] = timezone  # as Django does with settings that are a module
    tzset()
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    return "django-db"


def main(kind, url, out, *options):
    given = dict(option.split("=", 1) for option in options)
    timezone = given.get("timezone", "UTC")
    if kind == "django":
        url = django_app(url, timezone, bool(given.get("use_tz", "yes")))
    app = Celery("stores", broker="memory://", backend=url)
    app.conf.update(
        result_serializer=given.get("serializer", "json"),
        accept_content=["json", "msgpack", "pickle"],
        result_extended=bool(given.get("extended")),
        result_compression=given.get("compression"),
        result_expires=int(given.get("expires", 3600)),
        task_track_started=True,
        timezone=timezone,
    )
    if "prefix" in given:
        app.conf.result_backend_transport_options = {"global_keyprefix": given["prefix"]}
    if "tables" in given:
        task, group = given["tables"].split(",")
        app.conf.database_table_names = {"task": task, "group": group}
    if "schema" in given:
        app.conf.database_table_schemas = {"task": given["schema"], "group": given["schema"]}
    ids = many(app, int(given["count"])) if "count" in given else fill(app)
    groups = (
        {}
        if "count" in given
        else {each: app.backend.restore_group(each).as_tuple() for each in ("the-group", "other")}
    )
    with open(out, "wb") as file:
        pickle.dump({"tasks": {each: seen(app, each) for each in ids}, "groups": groups}, file)


if __name__ == "__main__":
    import celery_stores  # where a pickled class is found again

    celery_stores.main(*sys.argv[1:])
