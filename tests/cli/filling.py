"""Stores that Celery has filled, and whether a copy has all that they hold."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import settled
from settled.backends.base import BaseBackend
from settled.states import EXCEPTION_STATES, READY_STATES
from tests.servers import until

WRITER = Path(__file__).with_name("celery_stores.py")
ACCEPT = ["json", "msgpack", "pickle"]


class Filled(NamedTuple):
    """A store that Celery filled: its URL for the command, and what Celery reads."""

    url: str
    tasks: dict[str, dict[str, object]]
    groups: dict[str, object]


def fill(kind: str, folder: Path, url: str, **options: object) -> Filled:
    """Have Celery fill a store, in a process of its own."""
    out = folder / "seen.pickle"
    given = [f"{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, str(WRITER), kind, url, str(out), *given], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(WRITER.parent))
        seen = pickle.loads(out.read_bytes())
    return Filled(f"django+{url}" if kind == "django" else url, seen["tasks"], seen["groups"])


def fill_kind(kind: str, folder: Path, **options: object) -> Filled:
    """The same for a store of files in `folder`."""
    if kind == "file":
        (folder / "results").mkdir()
    where = {
        "file": f"file://{folder}/results",
        "db": f"db+sqlite:///{folder}/results.db",
        "django": f"sqlite:///{folder}/django.db",
    }
    return fill(kind, folder, where[kind], **options)


def opened(url: str) -> BaseBackend:
    return settled.connect(url, result_accept_content=ACCEPT, result_expires=0)


def said(backend: BaseBackend, meta: dict[str, object]) -> object:
    """A stored result, an exception by the name of its class and its arguments."""
    if meta["status"] not in EXCEPTION_STATES:
        return meta["result"]
    error = backend.exception_to_python(meta["result"])
    name = getattr(error, "exc_type", type(error).__name__)
    return name, [str(each) for each in getattr(error, "exc_args", error.args)]


def as_utc(value: object, zone: tzinfo = UTC) -> datetime | None:
    """A date as Celery or a record has it; `zone` is that of one without an offset."""
    if value is None:
        return None
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def assert_copied(
    filled: Filled, backend: BaseBackend, skip: frozenset[str] = frozenset(), zone: tzinfo = UTC
) -> None:
    """Every record and group of the source, value by value. `zone` is that of dates without an offset there."""
    for task_id, wanted in filled.tasks.items():
        if task_id in skip:
            continue
        got = backend.get_task_meta(task_id, cache=False)
        assert got["status"] == wanted["status"], task_id
        assert said(backend, got) == wanted["result"], task_id
        assert got["traceback"] == wanted["traceback"], task_id
        assert as_json(got["children"] or []) == as_json(wanted["children"] or []), task_id
        done = as_utc(wanted["date_done"], zone) if wanted["status"] in READY_STATES else None
        assert as_utc(got["date_done"]) == done, task_id
        for field in ("args", "kwargs", "worker", "retries", "queue", "group_id", "parent_id", "who"):
            if wanted.get(field) is not None:
                assert got[field] == wanted[field], (task_id, field)
        assert got.get("name") == (wanted.get("name") or wanted.get("task_name")), task_id
    for group_id, form in filled.groups.items():
        assert backend.restore_group(group_id).as_tuple() == form


def as_json(form: object) -> object:
    return [*map(as_json, form)] if isinstance(form, (list, tuple)) else form


def assert_interrupted_and_gone_on(
    start: Callable[..., Any], main: Callable[..., Any], url: str, count: int
) -> None:
    """Copy `url`, which has so many results, to copied.db; end that after the first ones, and copy again."""
    copying = start("copy", url, "sqlite:///copied.db")

    def has_begun() -> bool:
        if not Path("copied.db").exists():
            return False
        with opened("sqlite:///copied.db") as backend:
            return next(backend.query(), None) is not None

    until(has_begun, 30, "the first record")
    copying.send_signal(signal.SIGINT)
    assert copying.wait(60) == 130
    assert "interrupted; " in (said := copying.stderr.read())
    assert "Traceback" not in said
    ran = json.loads(main("copy", url, "sqlite:///copied.db", "--json").stdout)
    assert ran["copied"]["results"] + ran["there"]["results"] == count
    assert 0 < ran["there"]["results"] < count
