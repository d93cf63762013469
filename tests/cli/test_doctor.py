"""`settled doctor`: how the store is, and what waits for it in spools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import settled as library
from settled.backends import spool
from settled.backends.base import BaseBackend
from settled.backends.spool import Kept, Spool, framed
from settled.errors import StoreUnavailable
from settled.record import Part, Settle
from settled.states import STARTED, SUCCESS

ROOT = Path(__file__).parents[2]
URL = "sqlite:///settled.db"


@pytest.fixture
def spools(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SETTLED_SPOOL", str(folder / "spools"))
    return folder / "spools"


@pytest.fixture
def backend(folder: Path) -> Iterator[BaseBackend]:
    """The default store, with one record."""
    with library.App().backend as made:
        made.mark_as_done("there", 1)
        yield made


def write(task_id: str, value: int, state: str = SUCCESS, part: Part | None = None) -> Settle:
    record = {"status": state, "result": value, "task_id": task_id}
    return Settle(task_id, state, json.dumps(record).encode(), part=part)


def spooled(
    folder: Path, *writes: Settle, at: float | None = None, url: str = URL, suffix: str = spool.SPOOL
) -> Spool:
    at = time.time() - 200 if at is None else at
    held = Spool.create(folder, url, at, suffix)
    for each in writes:
        held.append(framed(Kept(each, at, "too large" if suffix == spool.REFUSED else None)))
    return held


def orphaned(*args: object, **kwargs: object) -> Path:
    held = spooled(*args, **kwargs)  # type: ignore[arg-type]
    held.close()
    return held.path


def test_it_says_how_the_store_is(settled, backend, spools):
    ran = settled("doctor")
    labels = [line.split()[0] for line in ran.stdout.splitlines()]
    assert labels == ["store", "reached", "engine", "chords", "spools"]
    assert f"store     {URL}" in ran.stdout
    assert "SQLiteBackend: guarded, atomic, chords, leases, shared, durable, push" in ran.stdout
    assert "expiry by cleanup" in ran.stdout
    assert "0 complete and not sent" in ran.stdout
    assert f"0 files in {spools}" in ran.stdout
    assert (ran.returncode, ran.stderr) == (0, "")
    assert not spools.exists()


def test_an_orphan_is_shown_then_drained(settled, backend, spools):
    path = orphaned(spools, write("a", 1), write("b", 2))
    ran = settled("doctor")
    assert ran.returncode == 1
    header, row = ran.stdout.splitlines()[-2:]
    assert header.split() == ["FILE", "WRITES", "OLDEST", "OF"]
    host = os.uname().nodename
    assert " ".join(row.split()) == f"{path.name} 2 3m ago process {os.getpid()} on {host}, which has ended"
    assert backend.get_state("a") == "PENDING"
    ran = settled("doctor", "--drain")
    assert f"drained   2 writes of {path.name}" in ran.stdout
    assert ran.returncode == 0
    assert [backend.get_result(each) for each in "ab"] == [1, 2]
    assert list(spools.iterdir()) == []


def test_spools_are_drained_in_the_order_of_their_writes(main, backend, spools):
    for at in (300.0, 100.0, 200.0):
        orphaned(spools, write("task", int(at), "PROGRESS"), at=at)
    assert main("doctor", "--drain").returncode == 0
    assert backend.get_task_meta("task")["result"] == 300


def test_the_spool_of_a_live_process_is_left_alone(settled, backend, spools):
    held = spooled(spools, write("a", 1))
    ran = settled("doctor", "--drain")
    assert f"process {os.getpid()} on {os.uname().nodename}, which lives" in ran.stdout
    assert "drained" not in ran.stdout
    assert ran.returncode == 0
    assert [kept.write.task_id for kept in spool.writes_in(held.path)] == ["a"]
    held.close()


def test_what_was_refused_is_shown_and_left(main, backend, spools):
    path = orphaned(spools, write("a", 1), write("b\x1b[31m", 2), suffix=spool.REFUSED)
    ran = main("doctor", "--drain")
    assert "what the store refused" in ran.stdout
    assert ran.stdout.splitlines()[-2:] == ["    a  too large", "    b [31m  too large"]
    assert ran.returncode == 1
    assert path.exists()


def test_many_refused_are_counted(main, backend, spools):
    orphaned(spools, *(write(f"task-{number}", 1) for number in range(25)), suffix=spool.REFUSED)
    lines = main("doctor").stdout.splitlines()
    assert lines[-2:] == ["    task-19  too large", "    ... and 5 more"]


def test_damage_is_named_and_put_aside(main, backend, spools):
    path = orphaned(spools, write("a", 1), write("b", 2), write("c", 3))
    content = bytearray(path.read_bytes())
    size = len(framed(Kept(write("b", 2), time.time())))
    offset = len(content) - 2 * size
    content[offset + 30] ^= 1
    path.write_bytes(content)
    said = f"    {size} bytes at offset {offset} are damaged"
    assert said in main("doctor").stdout
    ran = main("doctor", "--drain")
    aside = path.with_suffix(spool.DAMAGED)
    assert f"drained   2 writes of {path.name}" in ran.stdout
    assert aside.name in ran.stdout
    assert said in ran.stdout
    assert ran.returncode == 1
    assert [backend.get_state(each) for each in "abc"] == [SUCCESS, "PENDING", SUCCESS]
    assert list(spools.iterdir()) == [aside]


def test_a_file_that_is_no_spool_is_said_so(main, backend, spools):
    path = orphaned(spools, write("a", 1))
    path.write_text("nonsense")
    ran = main("doctor", "--drain")
    assert f"{path.name}  cannot be read: {path} is no spool of settled" in ran.stdout
    assert ran.returncode == 1


def test_spools_of_other_stores_are_counted(main, backend, spools):
    path = orphaned(spools, write("a", 1), url="redis://host/1")
    (spools / "notes.txt").write_text("not ours")
    ran = main("doctor", "--drain")
    assert "others    1 file of redis://host/1" in ran.stdout
    assert ran.returncode == 0
    assert path.exists()


def test_a_drained_part_makes_its_chord_due(main, backend, spools):
    backend.open_chord("group", ["a"], {"task": "calls.total", "options": {"task_id": "body"}})
    orphaned(spools, write("a", 1, part=Part("group", 0)))
    assert main("doctor", "--drain").returncode == 0
    assert "chords    1 complete and not sent" in main("doctor").stdout


def test_a_store_that_is_away_is_status_1_and_drains_nothing(main, backend, spools, monkeypatch):
    path = orphaned(spools, write("a", 1))

    def away(*args: object) -> object:
        raise StoreUnavailable("nobody answers")

    monkeypatch.setattr(type(backend), "do_read", away)
    ran = main("doctor", "--drain")
    assert "away      nobody answers" in ran.stdout
    assert "reached" not in ran.stdout
    assert ran.returncode == 1
    assert path.exists()


def test_a_store_that_goes_away_meanwhile_leaves_the_rest(main, backend, spools, monkeypatch):
    path = orphaned(spools, write("a", 1), write("b", 2))
    settle = type(backend).do_settle

    def away_for_b(backend: BaseBackend, each: Settle) -> object:
        if each.task_id == "b":
            raise StoreUnavailable("nobody answers any more")
        return settle(backend, each)

    monkeypatch.setattr(type(backend), "do_settle", away_for_b)
    monkeypatch.setattr(type(backend), "retry_deadline", 0.0)
    ran = main("doctor", "--drain")
    assert "away      nobody answers any more" in ran.stdout
    assert ran.returncode == 1
    assert [kept.write.task_id for kept in spool.writes_in(path)] == ["b"]


def test_json_says_it_all_in_one_object(main, backend, spools):
    orphan = orphaned(spools, write("a", 1))
    held = spooled(spools, write("b", 2, STARTED))
    orphaned(spools, write("c", 3), suffix=spool.REFUSED)
    orphaned(spools, write("d", 4), url="redis://host/1")
    (line,) = main("doctor", "--json", "--drain").stdout.splitlines()
    told = json.loads(line)
    assert (told["store"], told["reached"], told["error"], told["engine"]) == (
        URL,
        True,
        None,
        "SQLiteBackend",
    )
    assert told["seconds"] > 0
    assert told["capabilities"]["expiry"] == "cleanup"
    assert told["chords_due"] == 0
    assert told["drained"] == [{"file": str(orphan), "made": 1, "refused": 0}]
    live, refused = sorted(told["spools"], key=lambda each: str(each["kind"]), reverse=True)
    assert (live["file"], live["alive"], live["writes"]) == (str(held.path), True, 1)
    assert refused["refused"] == [{"task_id": "c", "reason": "too large"}]
    assert told["others"] == {"redis://host/1": 1}
    held.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["doctor", "now"], "unrecognized arguments: now"),
        (["doctor", "--backend", "sqlite:///missing.db"], "missing.db: give the one that was written"),
        (["doctor", "--backend", "memory://"], "is seen by one process only"),
    ],
)
def test_wrong_usage_is_status_2(main, backend, spools, arguments, said):
    ran = main(*arguments)
    assert said in ran.stderr
    assert (ran.returncode, ran.stdout) == (2, "")


KILLED = """
import os, signal
from settled.testing.app import RecordingApp
from settled.testing.faults import Faults
from tests.keeping import KeepingSQLite
backend = KeepingSQLite(RecordingApp(), url="sqlite:///settled.db?outbox=0")
backend.retry_deadline = 0.0
Faults().drop(backend, "do_settle", times=None)
for number in range(20):
    backend.mark_as_started("task", number=number)
    backend.mark_as_done(f"task-{number}", number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_spooled_is_drained(settled, backend, spools):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", KILLED], env=environment).returncode == -9
    (path,) = spools.iterdir()
    assert settled("doctor").returncode == 1
    ran = settled("doctor", "--drain")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"drained   40 writes of {path.name}" in ran.stdout
    assert [backend.get_result(f"task-{number}") for number in range(20)] == list(range(20))
    assert backend.get_task_meta("task")["result"] == {"number": 19}
    assert list(spools.iterdir()) == []


def test_it_takes_the_url_of_celerys_setting(backend, settled):
    ran = settled("doctor", "--backend", f"settled+{URL}")
    assert (ran.returncode, ran.stderr) == (0, "")
