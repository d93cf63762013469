"""`settled ls`, `show`, `wait` and `cleanup`: looking at what is stored."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

import settled as library
from settled.backends.base import BaseBackend
from settled.record import FailurePolicy

DONE = "0c5d1f0e9f5a4b7c8d9e0f1a2b3c4d5e"
FAILED = "f00dfeed9f5a4b7c8d9e0f1a2b3c4d5e"


def request(task_id: str, name: str, *args: object, **fields: object) -> dict[str, object]:
    return {"id": task_id, "task": name, "args": list(args), "kwargs": {}, "hostname": "host:1", **fields}


@pytest.fixture
def backend(folder) -> Iterator[BaseBackend]:
    """The default store, with a success and a failure."""
    with library.App(result_extended=True).backend as made:
        made.mark_as_started(DONE, pid=1, request=request(DONE, "calls.double", "21"))
        made.mark_as_done(DONE, {"answer": 42}, request=request(DONE, "calls.double", "21"))
        try:
            try:
                raise KeyError("inner")
            except KeyError as exc:
                raise ValueError("it is odd") from exc
        except ValueError as exc:
            made.mark_as_failure(FAILED, exc, request=request(FAILED, "calls.even", "1", group="g"))
        yield made


def test_ls_shows_the_latest_first_with_call_and_reason(main, backend):
    ran = main("ls")
    header, failed, reason, done = ran.stdout.splitlines()
    assert header.split() == ["ID", "STATE", "WHEN", "TOOK", "CALL"]
    assert failed.startswith("f00dfeed9f5a  FAILURE")
    assert failed.endswith("calls.even('1')")
    assert reason == "    ValueError: it is odd"
    assert done.startswith("0c5d1f0e9f5a  SUCCESS")
    assert done.endswith("calls.double('21')")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--state", "failure"], [FAILED]),
        (["--state", "FAILURE", "--state", "SUCCESS"], [FAILED, DONE]),
        (["--name", "calls.double"], [DONE]),
        (["--group", "g"], [FAILED]),
        (["--since", "1h"], [FAILED, DONE]),
        (["--since", "2999-01-01"], []),
        (["--limit", "1"], [FAILED]),
        (["--limit", "0"], [FAILED, DONE]),
    ],
)
def test_ls_filters(main, backend, arguments, found):
    lines = main("ls", "--json", *arguments).stdout.splitlines()
    assert [json.loads(line)["task_id"] for line in lines] == found


def test_ls_says_when_there_is_more_and_when_there_is_nothing(main, backend):
    assert "the first 1 are shown; --limit 0 lists all" in main("ls", "--limit", "1").stderr
    assert "nothing matches" in main("ls", "--name", "nobody").stderr
    assert main("ls", "--limit", "2").stderr == ""


def test_ls_lists_many_pages(main, backend):
    for number in range(1200):
        backend.store_result(f"task-{number}", None, "SUCCESS")
    assert len(main("ls", "--limit", "0").stdout.splitlines()) == 1 + 1200 + 3
    assert len(main("ls", "--limit", "1201", "--json").stdout.splitlines()) == 1201


def test_ls_shows_a_damaged_record_for_what_it_is(main, backend):
    import sqlite3

    with sqlite3.connect("settled.db") as db:
        db.execute("UPDATE settled_task SET record = '{' WHERE task_id = ?", (FAILED,))
    db.close()
    ran = main("ls")
    assert f"cannot be read: task '{FAILED}'" in ran.stdout
    assert "calls.double('21')" in ran.stdout
    assert main("show", FAILED).returncode == 2


def test_ls_keeps_control_characters_from_the_terminal(main, backend):
    backend.mark_as_done("bad\x1b[31m\nid", None, request=request("x", "na\x07me"))
    shown = main("ls", "--limit", "1").stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert len(shown.splitlines()) == 2


def test_ls_stops_in_silence_when_its_reader_has_seen_enough(start, backend):
    for number in range(3000):
        backend.store_result(f"task-{number}", None, "SUCCESS")
    running = start("ls", "--limit", "0", "--json")
    assert running.stdout.readline().startswith("{")
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait(60) == 128 + signal.SIGPIPE


def test_show_prints_a_value_with_times_and_worker(main, backend):
    ran = main("show", DONE)
    fields, _, value = ran.stdout.partition("\n\n")
    labels = [line.split()[0] for line in fields.splitlines()]
    assert labels == ["task", "state", "call", "created", "started", "done", "worker", "size", "expires"]
    assert "calls.double('21')" in fields
    assert value == "{'answer': 42}\n"


def test_show_prints_the_whole_remote_traceback(main, backend):
    ran = main("show", FAILED)
    assert ran.returncode == 0
    assert "KeyError: 'inner'" in ran.stdout
    assert "The above exception was the direct cause" in ran.stdout
    assert ran.stdout.endswith("ValueError: it is odd\n")
    assert "group     g" in ran.stdout


def test_show_takes_the_beginning_of_an_id(main, backend):
    assert DONE in main("show", "0c5d").stdout
    backend.store_result("0c5dff", 1, "SUCCESS")
    ran = main("show", "0c5d")
    assert ran.returncode == 2
    assert "several tasks begin with '0c5d'" in ran.stderr


def test_show_json_is_the_whole_record(main, backend):
    shown = json.loads(main("show", "--json", FAILED).stdout)
    assert shown["state"] == "FAILURE"
    assert shown["traceback"].endswith("ValueError: it is odd\n")


def test_show_prints_children_and_theirs(main, backend):
    grandchild = library.AsyncResult("grandchild", backend)
    child = library.AsyncResult("child", backend)
    backend.mark_as_done("grandchild", 1, request=request("grandchild", "calls.third"))
    backend.mark_as_done("child", 1, request=request("child", "calls.second", children=[grandchild]))
    backend.mark_as_done("top", 1, request=request("top", "calls.first", children=[child]))
    lines = main("show", "top").stdout.splitlines()
    first, second = (
        next(line for line in lines if line.strip().startswith(name)) for name in ("child ", "grandch")
    )
    assert "calls.second" in first
    assert "calls.third" in second
    assert second.index("grandchild") > first.index("child")


def test_show_tells_of_a_chord(main, backend):
    body = {"task": "calls.total", "options": {"task_id": "the-body"}}
    backend.open_chord("the-chord", [DONE, FAILED, "to-come"], body, FailurePolicy.OUTCOMES)
    shown = main("show", "the-chord").stdout
    assert "2 of 3 counted, 1 failed, policy outcomes, open" in shown
    assert "the-body  PENDING" in shown
    assert "members   3" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nothing"], "nothing is known of 'nothing': `settled ls` lists what is stored"),
        (["show", ""], "task id is empty"),
        (["show", "x" * 2000], "the limit is 1024"),
        (["show"], "the following arguments are required: ID"),
        (["show", DONE, "--backend", "sqlite:///missing.db"], "missing.db: give the one that was written"),
        (["ls", "--since", "yesterday"], "argument --since: expected 90s, 10m, 2h, 3d or a date"),
        (["ls", "--limit", "x"], "argument --limit: expected a whole number"),
        (["ls", "--backend", "memory://"], "is seen by one process only"),
        (
            ["wait", DONE, "--timeout", "-1"],
            "argument --timeout: expected a number of seconds, 0 or more, not '-1'",
        ),
        (["wait", DONE, "--timeout", "soon"], "argument --timeout: expected a number of seconds"),
        (["wait", DONE, "--timeout", "nan"], "argument --timeout: expected a number of seconds"),
        (["nosuch"], "invalid choice: 'nosuch'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(main, backend, arguments, said):
    ran = main(*arguments)
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert (ran.returncode, ran.stdout) == (2, "")


def test_a_record_that_is_gone_is_told_from_one_that_never_was(main, backend):
    backend.forget(DONE)
    ran = main("show", DONE)
    assert f"the record of '{DONE}' was there and is forgotten" in ran.stderr


def test_looking_makes_no_store(main, folder):
    assert main("ls").returncode == 2
    assert not list(folder.glob("*.db*"))


def test_wait_says_what_became_of_each_and_is_1_if_one_failed(main, backend):
    assert main("wait", DONE).returncode == 0
    ran = main("wait", DONE, FAILED[:8])
    assert set(ran.stdout.splitlines()) == {f"{DONE}  SUCCESS", f"{FAILED}  FAILURE  ValueError: it is odd"}
    assert ran.returncode == 1


def test_wait_is_124_after_its_timeout(main, backend):
    ran = main("wait", DONE, "to-come", "--timeout", "0")
    assert ran.returncode == 124
    assert "not ready within 0 s: to-come" in ran.stderr


def test_wait_is_told_by_another_process(start, backend):
    waiting = start("wait", DONE, "to-come")
    assert waiting.stdout.readline() == f"{DONE}  SUCCESS\n"
    backend.store_result("to-come", 1, "SUCCESS")
    assert waiting.stdout.readline() == "to-come  SUCCESS\n"
    assert waiting.wait(60) == 0


def test_ctrl_c_ends_a_wait_without_a_traceback(start, backend):
    waiting = start("wait", DONE, "to-come")
    assert waiting.stdout.readline() == f"{DONE}  SUCCESS\n"
    waiting.send_signal(signal.SIGINT)
    assert waiting.stderr.read() == ""
    assert waiting.wait(60) == 130


def test_cleanup_deletes_what_has_expired(main, backend):
    late = type(backend).clock
    backend.clock = lambda: late() - 1000  # type: ignore[method-assign]
    backend.store_result("old", 1, "SUCCESS", expires=10)
    assert main("cleanup").stdout == "1 expired record deleted\n"
    assert main("cleanup").stdout == "0 expired records deleted\n"


def test_version(main):
    assert main("--version").stdout == f"settled {library.__version__}\n"
