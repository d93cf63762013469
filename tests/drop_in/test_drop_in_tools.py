"""The tools around Celery, as commands: they find our backend, show what it holds, and show no secret of its URL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.request import urlopen

import apsw
import pytest
from celery import Celery
from celery.beat import PersistentScheduler

from settled.record import Presence
from tests.celerys import close
from tests.drop_in.canvas_tasks import add, echo, fail, gated, note_own_id
from tests.drop_in.conftest import OURS
from tests.drop_in.fleet import ROOT, Worker
from tests.drop_in.work import words
from tests.servers import Server, until
from tests.servers.leash import Leashed
from tests.servers.port import Port

PATIENCE = 30.0
"""Seconds that a tool may take on a busy machine."""

SECRET = "correct-horse"
"""The password of broker and store: no tool may print it."""

DJANGO = """
SECRET_KEY = "tests"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "schedule.db"}}
INSTALLED_APPS = ["django_celery_beat"]
USE_TZ = True
"""

SCHEDULE = """
import django, json, sys
django.setup()
from django.core.management import call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask
call_command("migrate", verbosity=0)
every, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
task, path = sys.argv[1:]
PeriodicTask.objects.create(interval=every, name="each second", task=task, args=json.dumps([path]))
"""


class Site:
    """A broker and store with a password, a worker, the app of a client, and Celery's commands."""

    def __init__(self, folder, server):
        self.folder = folder
        self.url = server.url
        self.conf = {
            "broker_url": server.url.removesuffix("/0") + "/1",
            "result_backend": OURS + server.url,
            "imports": ["tests.drop_in.canvas_tasks"],
        }
        self.app = self.client(**self.conf)
        options = ("--autoscale", "3,1", "--statedb", str(folder / "state"), "--task-events")
        self.worker = Worker(folder, self.conf, concurrency=1, options=options)

    @staticmethod
    def client(**conf):
        app = Celery("tools", set_as_current=False)
        app.conf.update(conf)
        return app

    def environment(self, **more):
        return {**os.environ, "SETTLED_DROP_IN": json.dumps(self.conf), "C_FORCE_ROOT": "1", **more}

    def command(self, *words, app="tests.drop_in.work"):
        return [sys.executable, "-W", "ignore", "-m", "celery", "-A", app, *words]

    def celery(self, *words, said=None):
        """What the command prints."""
        done = subprocess.run(
            self.command(*words),
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            input=said,
        )
        assert SECRET not in done.stdout + done.stderr
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def asked(self, *words):
        """What the worker answers to `celery inspect` or `celery control`."""
        kind, *rest = words
        told = json.loads(self.celery(kind, "--json", "--timeout", "5", "--destination", "one@test", *rest))
        [answers] = told if isinstance(told, list) else [told]
        return answers["one@test"]

    def get(self, result):
        return result.get(timeout=PATIENCE)


@pytest.fixture(scope="module")
def site_of_module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    with Server.start("redis7", options={"requirepass": SECRET}) as server:
        site = Site(folder, server)
        try:
            site.worker.start()
            yield site
            site.worker.stop()
            assert SECRET not in site.worker.said()
        finally:
            site.worker.stop()
            close(site.app)


@pytest.fixture
def site(site_of_module):
    site_of_module.app.set_default()
    return site_of_module


@pytest.fixture
def running(tmp_path):
    """Runs a command that does not end by itself; ends it after the test, and looks for secrets in what it said."""
    started = []

    def run(command, env):
        output = tmp_path / f"output-{len(started)}"
        started.append((Leashed(command, env=env, output=output), output))
        return output

    yield run
    for process, output in started:
        process.end(signal.SIGTERM, PATIENCE)
        assert SECRET not in output.read_text(errors="replace")


def test_a_worker_shows_its_backend_without_the_password(site):
    shown = site.url.replace(SECRET, "**")
    assert f"results:     {OURS}{shown}\n" in site.worker.said()


def test_report_names_the_backend(site):
    report = site.celery("report")
    assert f"results:{OURS}redis://" in report
    assert "result_backend" in report


def test_a_worker_is_inspected(site, tmp_path):
    gate = tmp_path / "gate"
    result = gated.delay(str(gate), 1)
    until(lambda: result.state == "STARTED", PATIENCE, "its start")
    assert [each["id"] for each in site.asked("inspect", "active")] == [result.id]
    assert list(site.asked("inspect", "query_task", result.id)) == [result.id]
    gate.touch()
    assert site.get(result) == 1
    assert site.asked("inspect", "ping") == {"ok": "pong"}
    assert gated.name in site.asked("inspect", "registered")
    assert site.asked("inspect", "stats")["total"][gated.name] >= 1
    assert site.asked("inspect", "conf")["imports"] == site.conf["imports"]
    assert "one@test: OK" in site.celery("status", "--timeout", "5", "--destination", "one@test")


def test_result_prints_value_and_traceback(site):
    value, failure = add.delay(1, 2), fail.delay(text="here")
    assert site.get(value) == 3
    assert isinstance(failure.get(timeout=PATIENCE, propagate=False), ValueError)
    assert site.celery("result", value.id) == "3\n"
    assert "ValueError: here" in site.celery("result", "--traceback", failure.id)


def test_call_sends_a_task_whose_result_is_there(site):
    task_id = site.celery("call", add.name, "--args", "[2, 3]").strip()
    assert site.get(site.app.AsyncResult(task_id)) == 5


def test_purge_leaves_results_alone(site):
    kept = echo.delay("kept")
    assert site.get(kept) == "kept"
    lost = echo.apply_async(("lost",), queue="nobody")
    assert "Purged 1 message" in site.celery("purge", "--force", "--queues", "nobody")
    assert (site.app.AsyncResult(kept.id).result, lost.state) == ("kept", "PENDING")


def test_control_revokes_a_task(site):
    result = echo.apply_async(countdown=60)
    until(lambda: site.asked("inspect", "scheduled"), PATIENCE, "the task in the worker")
    assert "ok" in site.asked("control", "revoke", result.id)
    until(lambda: result.state == "REVOKED", PATIENCE, "its end")


def test_shell_has_the_backend(site):
    said = "print(app.backend.as_uri(), type(app.backend).__module__)\n"
    assert f"{OURS}redis://" in site.celery("shell", "--python", said=said)


def test_events_are_dumped(site, running):
    output = running(["env", "-C", str(ROOT), *site.command("events", "--dump")], site.environment())
    until(lambda: "watching" in output.read_text() or "heartbeat" in output.read_text(), PATIENCE, "the dump")
    until(lambda: _dumped(output), PATIENCE, "an event")


def _dumped(output):
    echo.delay().get(timeout=PATIENCE)
    return "succeeded" in output.read_text()


def test_a_worker_scales_with_its_load(site, tmp_path):
    gate = tmp_path / "gate"
    results = [gated.delay(str(gate), n) for n in range(3)]
    until(lambda: len(site.worker.children()) == 3, PATIENCE, "three processes")
    gate.touch()
    assert [site.get(each) for each in results] == [0, 1, 2]
    assert site.get(echo.delay("after")) == "after"


def test_a_worker_remembers_what_was_revoked(site):
    task_id = str(uuid.uuid4())
    site.asked("control", "revoke", task_id)
    site.worker.stop()
    site.worker.output.unlink()
    site.worker.start()
    assert task_id in site.asked("inspect", "revoked")
    result = echo.apply_async(task_id=task_id)
    until(lambda: result.state == "REVOKED", PATIENCE, "its end")


def test_flower_shows_workers_and_results(site, running, tmp_path):
    result = add.delay(20, 22)
    assert site.get(result) == 42
    port = Port.take()
    port.release()
    (tmp_path / "current.py").write_text("from tests.drop_in.work import app\napp.set_default()\n")
    flower = site.command("flower", "--address=127.0.0.1", f"--port={port.number}", app="current")
    env = site.environment(FLOWER_UNAUTHENTICATED_API="1", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    running(["env", "-C", str(tmp_path), *flower], env)

    def read(path):
        with urlopen(f"http://127.0.0.1:{port.number}/api/{path}", timeout=5.0) as answer:
            text = answer.read().decode()
            assert SECRET not in text
            return json.loads(text)

    assert "one@test" in until(lambda: read("workers?refresh=1"), PATIENCE, "flower", despite=(OSError,))
    assert read(f"task/result/{result.id}") == {"task-id": result.id, "state": "SUCCESS", "result": 42}


def test_django_celery_beat_sends_a_task_whose_result_arrives(site, running, tmp_path):
    (tmp_path / "conf.py").write_text(DJANGO)
    (tmp_path / "schedule.py").write_text(SCHEDULE)
    path = tmp_path / "log"
    env = site.environment(DJANGO_SETTINGS_MODULE="conf", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    made = [sys.executable, "schedule.py", note_own_id.name, str(path)]
    subprocess.run(made, cwd=tmp_path, env=env, check=True, timeout=PATIENCE)
    scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
    beat = site.command("beat", "--scheduler", scheduler, "--max-interval", "1", "--pidfile=")
    running(["env", "-C", str(tmp_path), *beat], env)
    task_id = until(lambda: words(path), PATIENCE, "a periodic task")[0]
    assert site.get(site.app.AsyncResult(task_id)) == task_id


def test_beat_cleans_up_where_the_store_does_not(site, tmp_path):
    in_file = site.client(result_backend=f"{OURS}sqlite:///{tmp_path}/results.db")
    schedules = []
    try:
        for number, app in enumerate((site.app, in_file)):
            beat = PersistentScheduler(app=app, schedule_filename=str(tmp_path / f"beat-{number}"))
            schedules.append(list(beat.schedule))
            beat.close()
    finally:
        close(in_file)
    assert schedules == [[], ["celery.backend_cleanup"]]


def test_backend_cleanup_deletes_expired_records_from_a_file(site, tmp_path):
    conf = {**site.conf, "result_backend": f"{OURS}sqlite:///{tmp_path}/results.db"}
    short, long = site.client(**conf, result_expires=0.05), site.client(**conf, result_expires=3600)
    worker = Worker(
        tmp_path, {**conf, "task_default_queue": "cleaning"}, pool="solo", concurrency=1, name="two"
    )
    try:
        for number in range(3):
            short.backend.store_result(f"old-{number}", number, "SUCCESS")
        short.backend.store_result("old-started", None, "STARTED")
        long.backend.store_result("fresh", 1, "SUCCESS")
        until(lambda: short.backend.engine.presence("old-started") is not Presence.STORED, PATIENCE, "expiry")
        assert _stored(tmp_path) >= {"old-0", "old-1", "old-2", "old-started", "fresh"}
        worker.start()
        cleanup = long.send_task("celery.backend_cleanup", queue="cleaning")
        assert cleanup.get(timeout=PATIENCE) is None
        assert _stored(tmp_path) == {"fresh", cleanup.id}
    finally:
        worker.stop()
        close(short)
        close(long)


def _stored(folder):
    """The ids of the records in the file. Not by Python's own SQLite, whose `close` would drop apsw's locks."""
    db = apsw.Connection(str(Path(folder) / "results.db"))
    try:
        return {
            task_id for (task_id,) in db.execute("SELECT task_id FROM settled_task WHERE record IS NOT NULL")
        }
    finally:
        db.close()
