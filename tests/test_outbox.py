"""What is kept while the store is away: beyond the kit's checks, what a process may do to it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settled.backends import outbox as outboxes
from settled.backends import spool
from settled.backends.memory import MemoryBackend
from settled.backends.outbox import drain
from settled.backends.spool import REFUSED, SPOOL
from settled.chords import CLAIM_LEASE
from settled.errors import ConfigurationError, StoreUnavailable
from settled.states import FAILURE, STARTED, SUCCESS
from settled.testing import Conformance
from settled.testing.app import RecordingApp
from settled.testing.checks import CONTRACT
from settled.testing.checks.header import BODY, fail_part, settle_part, standing
from settled.testing.checks.keeping import Outage
from settled.testing.faults import Faults
from settled.testing.threads import Running
from tests.keeping import KeepingMemory, KeepingMemoryStore, KeepingSQLite, KeepingStore
from tests.servers import until

PATIENCE = 20.0
ROOT = Path(__file__).parents[1]


class Keeping(Conformance):
    """What keeping changes; the rest is checked with the engines that it was added to."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "check" in metafunc.fixturenames:
            checks = [
                each
                for each in CONTRACT.for_engine(self.store_class.engine.capabilities)
                if each.group in ("keeping", "outages")
            ]
            metafunc.parametrize("check", [pytest.param(each, id=each.id) for each in checks])


class TestKeepingMemory(Keeping):
    store_class = KeepingMemoryStore


class TestKeepingSQLite(Keeping):
    store_class = KeepingStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KeepingStore]:
    with KeepingStore(tmp_path) as store:
        yield store


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program that may import `tests`; its arguments are the store's URL and the folder of spools."""

    def run(program: str, outbox: int = 1 << 20, before: str = "") -> subprocess.CompletedProcess[str]:
        url = f"sqlite:///{tmp_path}/results.db?spool={tmp_path}/spools&outbox={outbox}"
        return subprocess.run(
            [sys.executable, "-c", before + AWAY + program, url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    return run


AWAY = """
import logging, os, signal, sys
from settled.testing.app import RecordingApp
from settled.testing.faults import Faults
from settled.testing.threads import Running
from tests.keeping import KeepingSQLite
backend = KeepingSQLite(RecordingApp(), url=sys.argv[1])
backend.retry_deadline = 0.0
faults = Faults()
faults.drop(backend, "do_settle", times=None)
"""


def spools(store: KeepingStore) -> list[Path]:
    return spool.found(store.spools)


def kept_in(*paths: Path) -> list[str]:
    return [kept.write.task_id for path in paths for kept in spool.writes_in(path)]


def orphans(folder: Path) -> list[Path]:
    """In the order in which they are to be made."""
    looks = [look for path in spool.found(folder) if (look := spool.look(path)) is not None]
    return [look.path for look in sorted(looks, key=lambda look: look.head.at)]


# -- what the caller and the operator see ----------------------------------------------------------


def test_an_engine_that_does_not_keep_raises_and_has_no_outbox(tmp_path):
    backend = MemoryBackend(RecordingApp())
    backend.retry_deadline = 0.0
    Faults().drop(backend, "do_settle")
    with pytest.raises(StoreUnavailable):
        backend.mark_as_done("task", 1)
    assert backend._outbox is None


def test_only_writes_of_tasks_are_kept(store):
    backend = store.backend
    backend.retry_deadline = 0.0
    for hook in ("do_settle", "do_read", "do_forget", "do_write_group", "do_open_chord"):
        store.faults.drop(backend, hook, times=None)
    assert backend.mark_as_started("task").kept
    for call in (
        lambda: backend.get_state("task"),
        lambda: backend.forget("task"),
        lambda: backend.save_group("group", store.app.GroupResult("group", [])),
        lambda: backend.open_chord("group", ["task"], BODY),
    ):
        with pytest.raises(StoreUnavailable):
            call()


def test_an_outage_is_told_once_and_so_is_its_end(store, caplog):
    caplog.set_level("INFO", "settled.backends")
    for _ in range(2):
        outage = Outage(store, store.backend)
        for number in range(5):
            store.backend.mark_as_done(f"task-{number}", number)
        outage.end()
        assert store.backend.outbox.drained(PATIENCE)
        store.faults.lift()
    url = f"sqlite:///{store.file}"
    assert [record.getMessage() for record in caplog.records] == [
        f"{url} is away (the store is away): what is written is kept until it is back",
        f"{url} is back, and has what was kept for it",
    ] * 2


def test_without_memory_everything_is_spooled_at_once(store):
    backend = store.keeping(outbox=0)
    outage = Outage(store, backend)
    for number in range(3):
        backend.mark_as_done(f"task-{number}", number)
        assert kept_in(*spools(store)) == [f"task-{each}" for each in range(number + 1)]
    outage.end()
    assert backend.outbox.drained(PATIENCE)
    assert spools(store) == []


def test_what_comes_after_the_spool_goes_behind_it_though_there_is_room(store):
    backend = store.keeping(outbox=2000)
    outage = Outage(store, backend)
    backend.mark_as_done("first", "small")
    backend.mark_as_done("large", "x" * 5000)
    backend.mark_as_done("last", "small")
    assert kept_in(*spools(store)) == ["large", "last"]
    outage.end()
    assert backend.outbox.drained(PATIENCE)
    assert [task_id for task_id, _ in outage.made] == ["first", "large", "last"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outbox": -1}, "option outbox=-1 is not usable: expected a number of bytes, 0 or more"),
        ({"outbox": "much"}, "option outbox='much' is not usable"),
        ({"spool": ""}, "option spool='' is not usable: expected the path of a folder"),
    ],
)
def test_options_are_checked_when_the_backend_is_made(options, said):
    with pytest.raises(ConfigurationError) as raised:
        KeepingMemory(RecordingApp(), **options)
    assert said in str(raised.value)


def test_the_options_are_read_from_the_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = KeepingMemory(RecordingApp(), url="memory://?outbox=77&spool=spool")
    assert backend.options == {"outbox": 77, "spool": str(tmp_path / "spool")}


def test_a_thread_that_cannot_be_started_is_an_error(store, monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    backend = store.backend
    Outage(store, backend)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(StoreUnavailable, match="task 'task' cannot be kept: can't start new thread"):
            backend.mark_as_done("task", 1)
    assert backend.mark_as_done("task", 1).kept


# -- refused, and full -----------------------------------------------------------------------------


def test_what_was_refused_may_be_tried_again(store, caplog):
    outage = Outage(store, store.backend, refused="large")
    store.backend.mark_as_done("large", "value")
    outage.end()
    assert store.backend.outbox.drained(PATIENCE)
    (path,) = spools(store)
    assert f"refuses what was kept of task large: too large for this store. It is in {path}" in caplog.text
    store.backend.close()
    again = path.rename(path.with_suffix(SPOOL))
    assert drain(store.open(), again) == (1, 0)
    assert store.value("large") == "value"


def test_what_cannot_be_put_aside_stays_the_first(store, caplog):
    backend = store.backend
    outage = Outage(store, backend, refused="large")
    store.spools.write_text("not a folder")
    backend.mark_as_done("large", 1)
    backend.mark_as_done("task", 2)
    refusals = store.faults.count(backend.outbox._backlog, "refuse")
    outage.end()
    assert refusals.reach(2, PATIENCE)
    assert "a spool for sqlite" in caplog.text
    assert store.stored("task") is None
    store.spools.unlink()
    assert backend.outbox.drained(PATIENCE)
    assert store.value("task") == 2
    assert kept_in(*spools(store)) == ["large"]


def test_an_orphans_refused_write_is_put_aside_and_the_rest_made(store):
    backend = store.backend
    Outage(store, backend)
    for task_id in ("a", "large", "b"):
        backend.mark_as_done(task_id, task_id)
    backend.close()
    (path,) = spools(store)
    other = store.open()
    outage = Outage(store, other, refused="large")
    outage.end()
    assert drain(other, path) == (2, 1)
    assert [task_id for task_id, _ in outage.made] == ["a", "b"]
    (aside,) = spools(store)
    assert (aside.suffix, kept_in(aside)) == (REFUSED, ["large"])


def test_an_outage_while_an_orphan_is_drained_leaves_the_rest(store):
    backend = store.backend
    Outage(store, backend)
    for number in range(4):
        backend.mark_as_done(f"task-{number}", number)
    backend.close()
    (path,) = spools(store)
    other = store.open()
    other.retry_deadline = 0.0
    store.faults.wrap(other, "do_settle", lambda call, args: call(*args), 2)
    made = store.faults.count(other, "do_settle")
    store.faults.wrap(other, "do_settle", _away_after(2), None)
    with pytest.raises(StoreUnavailable):
        drain(other, path)
    assert made.count == 2
    assert kept_in(path) == ["task-2", "task-3"]
    store.faults.lift()
    assert drain(other, path) == (2, 0)
    assert spools(store) == []


def _away_after(count: int) -> Callable[..., object]:
    calls = iter(range(count))

    def fault(call: Callable[..., object], args: tuple[object, ...]) -> object:
        if next(calls, None) is None:
            raise StoreUnavailable("away again")
        return call(*args)

    return fault


def test_a_full_disk_is_the_callers_error_and_loses_nothing_else(run):
    done = run(
        """
import resource
from settled.backends import spool
from settled.errors import StoreUnavailable
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
kept, raised = [], []
for number in range(40):
    try:
        assert backend.mark_as_done(f"task-{number}", number).kept
        kept.append(f"task-{number}")
    except StoreUnavailable as exc:
        raised.append(str(exc))
assert ".spool cannot keep the write of task" in raised[0] and "File too large" in raised[0]
(path,) = spool.found(spool.folder(backend.options["spool"]))
assert [each.write.task_id for each in spool.writes_in(path)] == kept
print(len(kept), len(raised))
os._exit(0)
""",
        outbox=0,
    )
    assert done.returncode == 0, done.stderr
    kept, raised = map(int, done.stdout.split())
    assert kept > 5
    assert raised > 5


# -- what follows from a kept write ----------------------------------------------------------------


def test_a_failed_body_that_is_kept_leaves_its_chord_due(store):
    backend = store.backend
    backend.open_chord("group", ["a", "b"], BODY)
    settle_part(store, "a", 0)
    outage = Outage(store, backend)
    bodies = store.faults.count(backend, "follow_up")

    def body_later(call: Callable[..., object], args: tuple[object, ...]) -> object:
        if args[0].task_id == "body":
            raise StoreUnavailable("away again")
        return call(*args)

    store.faults.wrap(backend, "do_settle", body_later, None)
    fail_part(store, "b", 1)
    outage.end()
    assert bodies.reach(1, PATIENCE)
    assert not standing(store).done, "the body's failure is in this process's memory only"
    store.faults.lift()
    assert backend.outbox.drained(PATIENCE)
    assert backend.get_state("body") == FAILURE
    store.advance(CLAIM_LEASE + 1)
    backend.sweep()
    assert standing(store).done


def test_what_fails_after_a_write_was_made_does_not_make_it_again(store, caplog):
    backend = store.backend
    outage = Outage(store, backend)
    backend.mark_as_done("a", 1)
    backend.mark_as_done("b", 2)
    store.faults.fail(backend, "follow_up", ValueError("a waiter's mistake"))
    outage.end()
    assert backend.outbox.drained(PATIENCE)
    assert outage.made == [("a", SUCCESS), ("b", SUCCESS)]
    assert "task a is stored; what follows from that failed" in caplog.text


def test_an_error_of_the_client_is_a_refusal(store):
    backend = store.backend
    Outage(store, backend)
    backend.mark_as_done("a", 1)
    store.faults.fail(backend, "do_settle", ZeroDivisionError("a mistake in the engine"))
    assert backend.outbox.drained(PATIENCE)
    (path,) = spools(store)
    (kept,) = spool.writes_in(path)
    assert (kept.write.task_id, kept.refused) == ("a", "a mistake in the engine")


# -- the process ------------------------------------------------------------------------------------


def test_closing_makes_what_can_be_made(store):
    outage = Outage(store, store.backend)
    for number in range(50):
        store.backend.mark_as_done(f"task-{number}", number)
    outage.end()
    store.backend.close()
    assert spools(store) == []
    assert [store.value(f"task-{number}") for number in range(50)] == list(range(50))


def test_closing_waits_for_no_store_that_hangs(store, monkeypatch, caplog):
    monkeypatch.setattr(outboxes, "CLOSE_TIMEOUT", 0.1)
    backend = store.backend
    outage = Outage(store, backend)
    for number in range(3):
        backend.mark_as_done(f"task-{number}", number)
    with store.faults.hold_before(backend, "do_settle") as held:
        outage.end()
        assert held.entered.wait(PATIENCE)
        backend.close()
        (path,) = spools(store)
        assert kept_in(path) == ["task-0", "task-1", "task-2"]
        assert "3 writes were not made before the backend was closed. `settled doctor --drain`" in caplog.text
        assert str(path) in caplog.text
        made = store.faults.count(backend, "do_settle")
    thread = next((each for each in threading.enumerate() if each.name == "settled-outbox"), None)
    if thread is not None:
        thread.join(PATIENCE)
    assert made.count == 0
    assert kept_in(path) == ["task-0", "task-1", "task-2"]


def test_a_closed_backend_keeps_again(store):
    for number in range(2):
        outage = Outage(store, store.backend)
        store.backend.mark_as_done(f"task-{number}", number)
        store.backend.close()
        store.faults.lift()
        del outage
    assert kept_in(*orphans(store.spools)) == ["task-0", "task-1"]


def test_what_cannot_be_spooled_at_the_close_is_an_error_and_still_kept(store):
    backend = store.backend
    outage = Outage(store, backend)
    backend.mark_as_done("task", 1)
    store.spools.write_text("not a folder")
    with pytest.raises(StoreUnavailable, match=r"what is kept for it \(1 writes\) cannot be spooled"):
        backend.close()
    outage.end()
    backend.mark_as_done("next", 2)
    assert backend.outbox.drained(PATIENCE)
    assert [task_id for task_id, _ in outage.made] == ["task", "next"]


class Weathered(KeepingSQLite):
    away = threading.Event()

    def do_settle(self, write):
        if self.away.is_set():
            raise StoreUnavailable("away")
        return super().do_settle(write)


def test_a_backend_that_nobody_holds_lives_until_its_writes_are_made(store):
    backend = Weathered(RecordingApp(), url=store.address)
    backend.retry_deadline = 0.0
    backend.away.set()
    backend.mark_as_done("task", 1)
    outbox, held = weakref.ref(backend.outbox), weakref.ref(backend)
    thread = backend.outbox._thread
    assert thread is not None
    del backend
    gc.collect()
    assert held() is not None
    Weathered.away.clear()
    thread.join(PATIENCE)
    assert store.value("task") == 1
    gc.collect()
    assert held() is None
    del thread
    gc.collect()
    assert outbox() is None


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise ValueError('a mistake')"])
def test_the_end_of_the_process_leaves_a_spool(run, tmp_path, end):
    done = run(f"backend.mark_as_done('a', 1); backend.mark_as_done('b', 2)\n{end}")
    (path,) = spool.found(tmp_path / "spools")
    assert kept_in(path) == ["a", "b"]
    assert "2 writes were not made before the backend was closed. `settled doctor --drain`" in done.stderr
    assert str(path) in done.stderr


def test_the_end_of_the_process_makes_what_can_be_made(run, tmp_path, store):
    done = run("backend.mark_as_done('a', 1)\nfaults.lift()")
    assert (done.returncode, spool.found(tmp_path / "spools")) == (0, [])
    assert store.backend.get_result("a") == 1


def test_the_end_of_a_child_of_multiprocessing_leaves_a_spool(run, tmp_path):
    done = run(
        """
import multiprocessing
def work():
    backend.mark_as_done("child", 1)
backend.mark_as_done("parent", 1)
child = multiprocessing.get_context("fork").Process(target=work)
child.start(); child.join()
print(child.exitcode)
"""
    )
    assert done.stdout == "0\n", done.stderr
    paths = spool.found(tmp_path / "spools")
    assert sorted(map(kept_in, paths)) == [["child"], ["parent"]]


@pytest.mark.parametrize("outbox", [0, 1 << 20])
def test_a_forked_child_has_nothing_of_its_parent(run, tmp_path, outbox):
    done = run(
        """
backend.mark_as_done("parent", 1)
pid = os.fork()
if pid == 0:
    assert backend.outbox.drained(0)
    backend.mark_as_done("child", 2)
    faults.lift()
    backend.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert backend.get_result("child") == 2 and backend.get_state("parent") == "PENDING"
faults.lift()
assert backend.outbox.drained(20)
assert backend.get_result("parent") == 1
""",
        outbox,
    )
    assert done.returncode == 0, done.stderr
    assert spool.found(tmp_path / "spools") == []


def test_a_kill_loses_what_is_in_memory_alone(run, tmp_path, store):
    done = run(
        """
for number in range(20):
    backend.mark_as_done(f"task-{number}", number)
os.kill(os.getpid(), signal.SIGKILL)
""",
        outbox=2000,
    )
    assert done.returncode == -9
    (path,) = spool.found(tmp_path / "spools")
    assert drain(store.backend, path)
    there = [store.value(f"task-{number}") for number in range(20)]
    lost = there.index(next(value for value in there if value is not None))
    assert 0 < lost < 10
    assert there[lost:] == list(range(lost, 20))


def test_under_gevent_nobody_waits_for_a_store_at_work(run):
    done = run(
        """
import gevent
writers = [gevent.spawn(backend.mark_as_done, f"task-{n}", n) for n in range(20)]
gevent.joinall(writers, timeout=20, raise_error=True)
assert all(each.value.kept for each in writers)
faults.lift()
with faults.hold_before(backend, "do_settle") as held:
    assert held.entered.wait(20)
    late = gevent.spawn(backend.mark_as_done, "late", 20)
    assert late.get(timeout=20).kept
assert backend.outbox.drained(20)
assert [backend.get_result(f"task-{n}") for n in range(20)] == list(range(20))
assert backend.get_result("late") == 20
backend.close()
print("fine")
""",
        outbox=2000,
        before="from gevent import monkey; monkey.patch_all()\n",
    )
    assert done.stdout == "fine\n", done.stderr


# -- whatever happens ------------------------------------------------------------------------------

Step = tuple[str, str, int]

STEPS = st.lists(
    st.one_of(
        st.just("away"),
        st.just("back"),
        st.just("wait"),
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from([STARTED, "PROGRESS", FAILURE, SUCCESS]),
            st.integers(0, 2),
        ),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([0, 1000, 1 << 20]))
def test_any_sequence_ends_as_without_an_outage(tmp_path_factory, steps, limit):
    app = RecordingApp()
    plain = MemoryBackend(app)
    keeping = KeepingMemory(app, outbox=limit, spool=tmp_path_factory.mktemp("spools"))
    keeping.retry_deadline = 0.0
    faults = Faults()
    for number, step in enumerate(steps):
        if step == "away":
            faults.drop(keeping, "do_settle", times=None)
        elif step == "back":
            faults.lift()
        elif step == "wait":
            keeping.outbox.drained(0.02)
        else:
            task_id, status, attempt = step
            value = ValueError(number) if status == FAILURE else {"number": number}
            for backend in (plain, keeping):
                backend.store_result(task_id, value, status, request={"retries": attempt})
    faults.lift()
    assert keeping.outbox.drained(PATIENCE)
    assert _records(keeping) == _records(plain)
    plain.close()
    keeping.close()


def _records(backend: MemoryBackend) -> list[object]:
    metas = backend.read_many(("a", "b", "c"))
    for meta in metas.values():
        meta.pop("date_done")
    return sorted(metas.items())


def test_many_threads_in_many_outages_lose_nothing(store):
    backend = store.keeping(outbox=3000)
    backend.retry_deadline = 0.0
    away = threading.Event()
    over = threading.Event()

    def fault(call: Callable[..., object], args: tuple[object, ...]) -> object:
        if away.is_set():
            raise StoreUnavailable("away")
        return call(*args)

    store.faults.wrap(backend, "do_settle", fault, None)

    def work(number: int) -> None:
        for step in range(30):
            backend.store_result(f"task-{number}", step, "PROGRESS")
        backend.mark_as_done(f"task-{number}", number)

    def weather() -> None:
        while not over.wait(0.02):
            away.clear() if away.is_set() else away.set()
        away.clear()

    sky = threading.Thread(target=weather)
    sky.start()
    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    over.set()
    sky.join()
    assert backend.outbox.drained(PATIENCE)
    assert [store.value(f"task-{number}") for number in range(8)] == list(range(8))
    assert spools(store) == []


def test_who_writes_while_the_outbox_is_drained_waits_for_it(store):
    """The store is back: busy writers must not add to what one thread makes faster than it can."""
    backend = store.backend
    backend.retry_deadline = 0.0
    away, half_way, go_on = threading.Event(), threading.Event(), threading.Event()
    made = []

    def fault(call, args):
        if not away.is_set():
            raise StoreUnavailable("the store is away")
        if args[0].task_id == "second":
            half_way.set()
            assert go_on.wait(PATIENCE)
        made.append(args[0].task_id)
        return call(*args)

    store.faults.wrap(backend, "do_settle", fault, None)
    assert [backend.mark_as_done(task_id, 1).kept for task_id in ("first", "second")] == [True, True]
    away.set()
    assert half_way.wait(PATIENCE)
    backend.retry_deadline = PATIENCE
    late = Running(lambda: backend.mark_as_done("late", 2))
    until(lambda: backend.outbox._ended._waiters, PATIENCE, "the late writer")
    go_on.set()
    assert late.result(PATIENCE).landed
    assert made == ["first", "second", "late"]
