"""A spool: what it holds after a kill or damage, and who may have it."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settled.backends import spool
from settled.backends.spool import DAMAGED, Kept, Spool, framed, look, unframed, writes_in
from settled.errors import SchemaError
from settled.record import Claim, Part, Settle
from settled.url import parse

URL = "redis://user:**@host/0"

WHOLE = Settle(
    "täsk",
    "SUCCESS",
    b"\x00\xff",
    2,
    3.5,
    Part("group", 4, b"part"),
    Claim("token", 10.0),
    *("name", "worker", "queue", "group", "parent", "root"),
)


def write(number: int, size: int = 20) -> Settle:
    return Settle(f"task-{number}", "SUCCESS", b"x" * size)


def filled(folder: Path, count: int) -> Spool:
    held = Spool.create(folder, URL, 0.0)
    for number in range(count):
        held.append(framed(Kept(write(number), float(number))))
    return held


def numbers(path: Path) -> list[int]:
    return [int(kept.write.task_id.removeprefix("task-")) for kept in writes_in(path)]


def taken(path: Path) -> Spool:
    held = Spool.take(path)
    assert held is not None
    return held


def drained(held: Spool) -> Iterator[int]:
    while (kept := held.oldest()) is not None:
        yield int(kept.write.task_id.removeprefix("task-"))
        held.made()


def test_a_write_comes_back_whole():
    kept = Kept(WHOLE, 1.5, "refused")
    assert unframed(framed(kept)) == kept


def test_what_msgpack_cannot_hold_is_a_value_error():
    with pytest.raises(ValueError):
        framed(Kept(Settle("task", "SUCCESS", b"", name="\ud800"), 0.0))


def test_a_spool_is_seen_by_its_user_alone_and_shows_no_secret(tmp_path):
    location = parse("redis://user:hidden@host/0?password=hidden&timeout=3")
    url = spool.store_of(location)
    held = Spool.create(tmp_path / "a" / "b", url, 1.0)
    held.append(framed(Kept(write(1), 1.0)))
    held.close()
    assert url == URL
    assert stat.S_IMODE(held.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(held.path.stat().st_mode) == 0o600
    assert b"hidden" not in held.path.read_bytes()
    assert f"-{os.getpid()}-" in held.path.name
    assert spool.is_of(held.path, url)
    assert not spool.is_of(held.path, "redis://user:**@host/1")
    assert (held.head.url, held.head.pid, held.head.host) == (URL, os.getpid(), os.uname().nodename)
    assert [path.name for path in tmp_path.rglob("*.new")] == []


def test_where_spools_are(monkeypatch, tmp_path):
    for name in ("SETTLED_SPOOL", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert spool.folder() == Path("/home/me/.local/state/settled/spool")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert spool.folder() == Path("/state/settled/spool")
    monkeypatch.setenv("SETTLED_SPOOL", "~/spool")
    assert spool.folder() == Path("/home/me/spool")
    monkeypatch.chdir(tmp_path)
    assert spool.folder("here") == tmp_path / "here"


def test_without_a_home_it_says_what_to_set(monkeypatch):
    for name in ("SETTLED_SPOOL", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(FileNotFoundError, match="SETTLED_SPOOL"):
        spool.folder()


def test_what_was_made_does_not_come_again(tmp_path):
    held = filled(tmp_path, 5)
    assert [number for number, _ in zip(drained(held), range(2), strict=False)] == [0, 1]
    held.oldest()
    held.close()
    assert numbers(held.path) == [2, 3, 4]
    again = taken(held.path)
    assert list(drained(again)) == [2, 3, 4]
    assert again.oldest() is None
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_is_added_while_it_is_drained_comes_last(tmp_path):
    held = filled(tmp_path, 2)
    order = []
    for number in drained(held):
        order.append(number)
        if number < 4:
            held.append(framed(Kept(write(number + 2), 0.0)))
    held.remove()
    assert order == [0, 1, 2, 3, 4, 5]


def test_a_spool_has_one_holder_and_is_an_orphan_without(tmp_path):
    held = filled(tmp_path, 1)
    assert Spool.take(held.path) is None
    found = look(held.path)
    assert found is not None
    assert (found.alive, found.writes, found.oldest, found.damage) == (True, 1, 0.0, [])
    held.close()
    found = look(held.path)
    assert found is not None
    assert not found.alive
    other = taken(held.path)
    assert Spool.take(held.path) is None
    other.remove()
    assert Spool.take(held.path) is None
    assert look(held.path) is None
    other.close()


def test_a_forked_child_does_not_hold_its_parents_spool(tmp_path):
    held = filled(tmp_path, 1)
    ready, gate = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        held.close()
        os.write(ready[1], b"x")
        os.read(gate[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    assert Spool.take(held.path) is None, "the child has let go of what is the parent's"
    held.close()
    orphan = taken(held.path)
    os.write(gate[1], b"x")
    os.waitpid(pid, 0)
    orphan.close()
    for end in (*ready, *gate):
        os.close(end)


def test_a_write_that_was_cut_off_loses_only_itself(tmp_path, caplog):
    held = filled(tmp_path, 3)
    held.close()
    whole = held.path.read_bytes()
    last = len(framed(Kept(write(2), 2.0)))
    for cut in range(1, last):
        held.path.write_bytes(whole[:-cut])
        found = look(held.path)
        assert found is not None
        assert numbers(held.path) == [0, 1]
        assert found.damage == [(len(whole) - last, len(whole) - cut, True)]
    orphan = taken(held.path)
    assert list(drained(orphan)) == [0, 1]
    orphan.remove()
    assert f"{held.path}: the last 1 bytes, from offset {len(whole) - last}" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0, 4, 8, 12, 40])
def test_damage_within_is_named_and_the_rest_is_made(tmp_path, caplog, place):
    held = filled(tmp_path, 4)
    held.close()
    whole = bytearray(held.path.read_bytes())
    size = len(framed(Kept(write(0), 0.0)))
    offset = len(whole) - 3 * size
    whole[offset + place] ^= 0xFF
    held.path.write_bytes(whole)
    orphan = taken(held.path)
    assert list(drained(orphan)) == [0, 2, 3]
    assert f"{held.path}: {size} bytes at offset {offset} are damaged" in caplog.text
    orphan.remove()
    (aside,) = tmp_path.iterdir()
    assert aside == held.path.with_suffix(DAMAGED)
    assert numbers(aside) == []
    found = look(aside)
    assert found is not None
    assert [each.last for each in found.damage] == [False]


def test_a_frame_that_holds_no_write_is_damage(tmp_path):
    held = filled(tmp_path, 1)
    held.append(spool.frames.framed(b"\xc1"))
    held.append(framed(Kept(write(1), 0.0)))
    assert list(drained(held)) == [0, 1]
    assert [each.last for each in held.damage] == [False]
    held.remove()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no spool of settled"),
        (b"SQLite format 3\x00" * 9, "no spool of settled"),
        (b"settled-spool 2\n" * 9, "a format that this release does not know"),
        (spool.MAGIC, "damaged at offset 16"),
        (spool.MAGIC + b"x" * 90, "damaged at offset 16"),
    ],
)
def test_what_is_no_spool_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "0-1-2.spool"
    path.write_bytes(content)
    for reads in (look, Spool.take, lambda path: list(writes_in(path))):
        with pytest.raises(SchemaError, match=f"{path.name}.*{said}"):
            reads(path)


def test_a_write_for_which_there_is_no_room_leaves_the_rest_whole(tmp_path):
    held = filled(tmp_path, 3)
    size = held.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            held.append(framed(Kept(write(9, 1000), 0.0)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert held.path.stat().st_size == size
    held.append(framed(Kept(write(3), 0.0)))
    assert numbers(held.path) == [0, 1, 2, 3]
    held.remove()


KILLED = """
import os, signal, sys
from pathlib import Path
from settled.backends.spool import Kept, Spool, framed
from settled.record import Settle
held = Spool.create(Path(sys.argv[1]), "redis://host", 0.0)
for number in range(50):
    held.append(framed(Kept(Settle(f"task-{number}", "SUCCESS", b"x"), 0.0)))
    if 10 <= number < 20:
        held.oldest(), held.made()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_spooled_is_there(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)]).returncode == -9
    (path,) = spool.found(tmp_path)
    orphan = taken(path)
    assert list(drained(orphan)) == list(range(10, 50))
    orphan.remove()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=8)), max_size=5),
    st.none() | st.integers(0, 5000),
)
def test_no_damage_makes_it_fail_or_invent(tmp_path_factory, changes, cut):
    folder = tmp_path_factory.mktemp("spool")
    held = filled(folder, 20)
    held.close()
    content = bytearray(held.path.read_bytes())
    for place, other in changes:
        start = place % len(content)
        content[start : start + len(other)] = other
    held.path.write_bytes(content[:cut])
    try:
        orphan = taken(held.path)
    except SchemaError:
        return
    order = list(drained(orphan))
    orphan.remove()
    assert order == sorted(set(order))
    assert set(order) <= set(range(20))
