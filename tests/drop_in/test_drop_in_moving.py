"""The guide `docs/how-to/move-celery.md`, followed to the letter with real workers while work goes on."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery

from tests.drop_in import both
from tests.drop_in.both import CANVASES, PATIENCE
from tests.drop_in.fleet import ROOT
from tests.servers import Server, until
from tests.servers.leash import Leashed

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

GUIDE = (ROOT / "docs" / "how-to" / "move-celery.md").read_text()

SHOP = """
from celery import Celery

app = Celery("shop")
app.config_from_object("settings")
"""

PACE = 0.05
"""Seconds between two canvases that are sent while the system is moved."""


def section(name):
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", GUIDE, re.DOTALL | re.MULTILINE)[1]


def commands(name):
    """The lines that are to be typed, in a section."""
    return re.findall(r"^    (\S.*)$", section(name), re.MULTILINE)


def settings(name):
    """The lines of settings that it shows."""
    return re.findall(r"^```python\n(.*?)\n```", section(name), re.DOTALL | re.MULTILINE)


class Shop:
    """A project in a folder, its broker and its store; what the guide says is done to it.

    Args:
        places: what stands in the guide -> what is here: `redis://cache:6379/0` -> the server's URL.
        setting: the line that says where results are.
    """

    def __init__(self, folder, broker, places, setting):
        self.folder = folder
        self.broker = broker
        self._places = places
        self._running = {}
        self.apps = []
        (folder / "shop.py").write_text(SHOP)
        self.configure(setting)

    def here(self, text):
        for there, here in self._places.items():
            text = text.replace(there, here)
        return text

    # -- what is deployed ------------------------------------------------------------------

    def configure(self, setting):
        """What is started from now on has this line among its settings."""
        self._settings = "\n".join(
            [
                f'broker_url = "{self.broker.url.removesuffix("/0")}/1"',
                'include = ["tests.drop_in.moving_tasks"]',
                # A prefork worker that is ended under load may wait 30 s for one of its children, whatever the store.
                'worker_pool = "threads"',
                "worker_concurrency = 2",
                self.here(setting),
            ]
        )
        (self.folder / "settings.py").write_text(self._settings)

    def client(self, name):
        """The app of a program that is started now."""
        values = {}
        exec(self._settings, values)
        app = Celery(name, set_as_current=False)
        app.conf.result_backend_thread_safe = (
            True  # else the thread that sends has a backend that nobody closes
        )
        app.conf.update({key: value for key, value in values.items() if not key.startswith("__")})
        self.apps.append(app)
        return app

    # -- what is typed ---------------------------------------------------------------------

    def _env(self, **more):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1", **more}

    def run(self, command, **env):
        """Type a command, as the guide has it; what it prints."""
        done = subprocess.run(
            ["sh", "-c", self.here(command)],
            cwd=self.folder, env=self._env(**env), capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, command):
        """Start a worker by this command, and wait until it is ready."""
        name = re.search(r"--hostname (\w+)@", command)[1]
        output = self.folder / f"{name}-{len(list(self.folder.glob('*.log')))}.log"
        typed = ["env", "-C", str(self.folder), "sh", "-c", f"exec {self.here(command)}"]
        worker = Leashed(typed, env=self._env(), output=output)
        self._running[name] = (worker, output)
        until(lambda: " ready." in output.read_text(), PATIENCE, f"worker {name}, see {output}")
        return output

    def end(self, name, command, variable):
        """Have a worker end by this command, and wait until it has."""
        worker, _ = self._running.pop(name)
        self.run(command, **{variable: str(worker.pid)})
        until(worker.ended, PATIENCE, f"the end of worker {name}")

    def close(self):
        for worker, _ in self._running.values():
            worker.end(15, PATIENCE)
        both.end(self.apps)


class Load:
    """Canvases of all kinds, sent one after the other by a thread, by the client's app as it is at the moment."""

    def __init__(self, app, folder):
        self.app = app
        self.folder = folder
        self.sent = []
        self._stop = threading.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            for kind in itertools.cycle(CANVASES):
                if self._stop.wait(PACE):
                    return
                self.sent.append(both.send(self.app, kind, self.folder))
        except BaseException as exc:
            self._error = exc

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


class Move:
    """A shop that is moved, with work that goes on, and chords whose last part waits until a step is done."""

    def __init__(self, shop, load):
        self.shop = shop
        self.load = load
        self.late = []

    def step(self, take):
        """Take a step of the guide while chords are in flight; then let their last parts run."""
        queue = f"late-{len(self.late)}"
        sent = list(both.send_late(self.load.app, queue, self.shop.folder))
        self.late.append(sent)
        take()
        self.load.app.control.add_consumer(queue, reply=True, timeout=PATIENCE, limit=1)
        self.load.sent += sent

    def workers(self, start, end, old, variable):
        self.shop.start(start)
        self.shop.end(old, end, variable)

    def clients(self, name):
        self.load.app = self.shop.client(name)


def over(move, order):
    """The section `Over`, with its steps 4 and 5 in this order."""
    install, look, start, end, check, failures = commands("Over")
    _, after = settings("Over")
    assert install == "pip install 'settled[celery,redis]'"
    assert "reached" in move.shop.run(look)
    move.shop.configure(after)
    steps = {
        "workers": lambda: move.workers(start, end, "old", "OLD_WORKER"),
        "clients": lambda: move.clients("new-client"),
    }
    for each in order:
        move.step(steps[each])
    assert "0 complete and not sent" in move.shop.run(check)
    listed = move.shop.run(failures)
    reasons = [line for line in listed.splitlines() if line.startswith(" ")]
    assert reasons  # the failures that are sent on purpose, and no others
    assert [reason for reason in reasons if "2 is wrong" not in reason] == []


def back(move, order):
    """The section `Back`."""
    start, end, drain = commands("Back")
    (setting,) = settings("Back")
    move.shop.configure(setting)
    steps = {
        "workers": lambda: move.workers(start, end, "new", "NEW_WORKER"),
        "clients": lambda: move.clients("old-client-again"),
    }
    for each in order:
        move.step(steps[each])
    assert "0 complete and not sent" in move.shop.run(drain)


@pytest.fixture
def server():
    with Server.start("redis7") as server:
        yield server


@pytest.mark.parametrize("order", [("workers", "clients"), ("clients", "workers")], ids=" first, ".join)
def test_on_one_redis_nothing_is_lost_or_done_twice(tmp_path, server, order):
    before, after = settings("Over")
    places = {"redis://cache:6379/0": server.url}
    with closing(Shop(tmp_path, server, places, before)) as shop:
        shop.start(commands("Back")[0])
        first = shop.client("old-client")
        with Load(first, tmp_path) as load:
            move = Move(shop, load)
            over(move, order)
            back(move, order)
        shop.configure(after)
        readers = {"Celery's": load.app, "ours": shop.client("reader")}
        for each, (kind, app) in itertools.product(load.sent, readers.items()):
            assert each.settled(app) == each.value, f"{each.kind}, read by {kind}"
        for each in load.sent:
            until(lambda each=each: not each.is_noting(), PATIENCE, f"the end of {each.kind}")
        until(lambda: is_idle(server), PATIENCE, "the end of all messages")
        assert [each.kind for each in load.sent if not each.has_noted()] == []
        assert len({each.kind for each in load.sent}) >= 2 * len(CANVASES)


def test_from_a_database_all_results_are_copied(tmp_path, server):
    copy, again = commands("From a database or files")
    (after,) = settings("From a database or files")
    source = copy.split()[2]
    places = {"/var/lib/shop": str(tmp_path)}
    with closing(Shop(tmp_path, server, places, f'result_backend = "{source}"')) as shop:
        shop.start(commands("Back")[0])
        old = shop.client("old-client")
        sent = settled_by(old, tmp_path)
        assert f"copied {len(sent)} results" in shop.run(copy)
        sent += settled_by(old, tmp_path)
        shop.end("old", commands("Over")[3], "OLD_WORKER")
        shop.configure(after)
        shop.start(commands("Over")[2])
        new = shop.client("new-client")
        sent += settled_by(new, tmp_path)
        assert f"copied {len(sent) // 3} results" in shop.run(again)
        assert [each.settled(new) for each in sent] == [each.value for each in sent]


def settled_by(app, folder):
    """Three tasks that have succeeded."""
    sent = [both.send(app, "task", folder) for _ in range(3)]
    for each in sent:
        assert each.settled(app) == each.value, each.kind
    return sent


def is_idle(server):
    """No message is left that may have a task run."""
    with server.client(db=1) as broker:
        return not broker.llen("celery") and not broker.hlen("unacked")
