"""URLs and places that cannot hold a store: each error names the path, the cause and the way out."""

from __future__ import annotations

import multiprocessing
import os
import types

import pytest

from settled.backends.sqlite import SQLiteBackend
from settled.errors import ConfigurationError, StoreError, StoreUnavailable
from settled.record import Query, Settle
from tests.sqlite.conftest import backend_at

NOBODY = 65534


def connect(url: str, **options: object) -> SQLiteBackend:
    return SQLiteBackend(types.SimpleNamespace(conf={}), url=url, **options)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "memory://"),
        ("sqlite:///", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://results.db", "sqlite:///results.db"),
        ("sqlite://me@/results.db", "three slashes"),
        ("sqlite:///a%00b", "NUL"),
        ("sqlite:///results.db?durability=some", "normal, full"),
        ("sqlite:///results.db?durabilty=full", "did you mean 'durability'"),
        ("sqlite:///results.db?busy_timeout=-1", "0 or more"),
        ("sqlite:///results.db?readers=0", "1 or more"),
    ],
)
def test_a_url_that_names_no_file_or_has_a_bad_option_is_refused_at_once(url, words):
    with pytest.raises(ConfigurationError, match=words):
        connect(url)


def test_three_slashes_are_a_relative_path_as_of_now_and_four_an_absolute_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative, absolute = connect("sqlite:///some%20results.db"), connect(f"sqlite:///{tmp_path}/other.db")
    monkeypatch.chdir("/")
    assert relative.path == f"{tmp_path}/some results.db"
    assert absolute.path == f"{tmp_path}/other.db"


def test_options_come_from_the_url_or_as_keywords(tmp_path, raw):
    for backend in (
        connect(f"sqlite:///{tmp_path}/results.db?durability=full"),
        connect(f"sqlite:///{tmp_path}/results.db", durability="full"),
    ):
        backend.do_settle(Settle("a", "SUCCESS", b"{}"))
        assert backend._store.write_alone(lambda db: db.pragma("synchronous")) == 2
        backend.close()


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=f"no directory {tmp_path}/missing; create it"):
        backend_at(tmp_path / "missing" / "results.db").do_read(["a"])


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(ConfigurationError, match=f"{tmp_path} is a directory: name a file in it"):
        backend_at(tmp_path).do_read(["a"])


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file is not a directory"):
        backend_at(tmp_path / "file" / "results.db").do_read(["a"])


def test_a_name_that_is_too_long_is_said_to_be(tmp_path):
    with pytest.raises(ConfigurationError, match="too long"):
        backend_at(tmp_path / ("x" * 300)).do_read(["a"])


def test_every_kind_of_call_says_so(tmp_path):
    backend = backend_at(tmp_path / "missing" / "results.db")
    for call in (
        lambda: backend.do_settle(Settle("a", "SUCCESS", b"{}")),
        lambda: list(backend.do_query(Query())),
        lambda: backend.do_cleanup(10),
        lambda: backend.do_lease(["a"], "t", 1),
        lambda: backend.do_listen(),
    ):
        with pytest.raises(ConfigurationError, match="create it first"):
            call()
    (tmp_path / "missing").mkdir()
    assert backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    backend.close()


def _settle_as_nobody(path, answer):
    """As a user who owns nothing, where we may become one; else as we are."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    backend = backend_at(path)
    try:
        backend.do_settle(Settle("b", "SUCCESS", b"{}"))
    except StoreError as exc:
        answer.send(f"{type(exc).__name__}: {exc}")


@pytest.fixture
def reachable(tmp_path):
    """`tmp_path`, which another user may get at."""
    parents = [each for each in (tmp_path, *tmp_path.parents) if each.stat().st_uid == os.geteuid()]
    before = {each: each.stat().st_mode for each in parents}
    for each, mode in before.items():
        each.chmod(mode | 0o055)
    yield tmp_path
    for each, mode in before.items():
        each.chmod(mode)


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o777), (0o666, 0o555), (0o000, 0o777)])
def test_a_place_that_cannot_be_written_is_named_and_loses_nothing(reachable, file_mode, folder_mode):
    path = reachable / "results.db"
    backend = backend_at(path)
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    backend.close()
    path.chmod(file_mode)
    reachable.chmod(folder_mode)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_settle_as_nobody, args=(path, theirs))
    process.start()
    assert ours.poll(30)
    said = ours.recv()
    process.join(30)
    reachable.chmod(0o777)
    path.chmod(0o666)
    assert said.startswith("StoreError: ")
    assert str(path) in said
    assert "user id" in said
    assert backend.do_read(["a", "b"]) == {"a": "{}"}
    backend.close()


def test_a_full_disk_is_named_and_loses_nothing(backend):
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    pages = backend._store.write_alone(lambda db: db.pragma("max_page_count", db.pragma("page_count")))
    big = b'{"x": "%s"}' % (b"x" * 1_000_000)
    with pytest.raises(
        StoreError, match=r"results\.db cannot grow: the disk is full.*free some space"
    ) as caught:
        backend.do_settle(Settle("b", "SUCCESS", big))
    assert type(caught.value.__cause__).__name__ == "FullError"
    assert backend.do_read(["a", "b"]) == {"a": "{}"}
    backend._store.write_alone(lambda db: db.pragma("max_page_count", pages + 1000))
    assert backend.do_settle(Settle("b", "SUCCESS", big))


def test_a_store_that_stays_locked_is_unavailable_and_then_available(backend, raw, opened):
    backend.do_settle(Settle("a", "SUCCESS", b"{}"))
    hasty = opened(busy_timeout=0.05)
    hasty.do_read(["a"])
    raw("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"results\.db is busy") as caught:
        hasty.do_settle(Settle("b", "SUCCESS", b"{}"))
    assert type(caught.value.__cause__).__name__ == "BusyError"
    assert hasty.do_read(["a"]) == {"a": "{}"}  # who reads does not wait
    raw("COMMIT")
    assert hasty.do_settle(Settle("b", "SUCCESS", b"{}"))


def test_a_damaged_file_is_named(path, backend):
    for number in range(200):
        backend.do_settle(Settle(f"t{number}", "SUCCESS", b'{"x": "%s"}' % (b"x" * 500)))
    backend.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"results\.db is damaged.*\.recover"):
        backend.do_read(["t1"])
