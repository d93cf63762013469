"""`settled map`, run as a command."""

from __future__ import annotations

import json
import os
import signal

import pytest


def test_values_go_to_standard_output_in_the_order_of_the_inputs(settled):
    ran = settled("map", "calls:double", "3", "1", "2")
    assert ran.stdout == "3\t6\n1\t2\n2\t4\n"
    assert (ran.returncode, ran.stderr) == (0, "")


def test_failures_go_to_standard_error_and_make_the_status_1(settled):
    ran = settled("map", "calls:even", "1", "2")
    assert ran.stdout == "2\t2\n"
    assert ran.returncode == 1
    assert "2 calls: 1 succeeded, 1 failed" in ran.stderr
    assert "ValueError: 1 is odd" in ran.stderr


def test_a_second_run_calls_nothing_again(settled, folder):
    first = settled("map", "calls:counted", "1", "2", "4")
    second = settled("map", "calls:counted", "1", "2", "4", "6")
    assert first.stdout == "2\t2\n4\t4\n"
    assert second.stdout == "2\t2\n4\t4\n6\t6\n"
    assert sorted((folder / "ran").read_text().split()) == ["1", "2", "4", "6"]
    assert "(1 run in " in second.stderr
    assert "3 done before)" in second.stderr


def test_retries_give_a_failed_call_more_attempts_and_leave_the_others(settled, folder):
    settled("map", "calls:counted", "1", "2")
    again = settled("map", "calls:counted", "1", "2", "--retries", "1")
    once_more = settled("map", "calls:counted", "1", "2", "--retries", "1")
    assert (again.returncode, once_more.returncode) == (1, 1)
    assert sorted((folder / "ran").read_text().split()) == ["1", "1", "2"]


def test_the_reducer_gets_every_outcome_in_order_and_runs_each_time(settled):
    for _ in range(2):
        ran = settled("map", "calls:even", "4", "1", "2", "--reduce", "calls:listing")
        assert ran.stdout == "[4, 'ValueError', 2]\n"
        assert ran.returncode == 1


def test_a_reducer_that_fails_is_said_so(settled):
    ran = settled("map", "calls:even", "2", "--reduce", "calls:broken")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "the reduce failed: RuntimeError: no table today" in ran.stderr


def test_json_is_one_object_a_line_and_the_reduce_the_last(settled):
    ran = settled("map", "calls:even", "1", "2", "--json", "--reduce", "calls:total")
    failed, succeeded, reduced = map(json.loads, ran.stdout.splitlines())
    assert (failed["input"], failed["state"], failed["reason"]) == ("1", "FAILURE", "ValueError: 1 is odd")
    assert (succeeded["input"], succeeded["state"], succeeded["value"]) == ("2", "SUCCESS", 2)
    assert (reduced["reduce"], reduced["value"]) == ("calls.total", 2)


def test_inputs_come_from_the_command_line_a_file_and_standard_input_each_once(settled, folder):
    (folder / "inputs").write_text("2\n\n3\r\n1\n")
    assert settled("map", "calls:double", "1", "--inputs-from", "inputs", "2").stdout == "1\t2\n2\t4\n3\t6\n"
    assert settled("map", "calls:double", "--inputs-from", "-", stdin="5\n6\n").stdout == "5\t10\n6\t12\n"


def test_options_may_stand_between_the_inputs_and_inputs_may_look_like_options(settled):
    assert settled("map", "calls:echo", "a", "--workers", "1", "b").stdout == "a\ta\nb\tb\n"
    assert settled("map", "calls:echo", "--", "--json", "-x").stdout == "--json\t--json\n-x\t-x\n"


def test_what_a_function_prints_stays_out_of_the_results(settled):
    ran = settled("map", "calls:echo", "a")
    assert ran.stdout == "a\ta\n"
    assert "said in a worker a" in ran.stderr


def test_a_text_that_is_no_single_cell_is_shown_as_json(settled, folder):
    ran = settled("map", "calls:echo", "a\tb\nc")
    assert ran.stdout == 'a b c\t"a\\tb\\nc"\n'


def test_text_that_the_output_cannot_hold_is_escaped(settled):
    ran = settled("map", "calls:same", "é", "a\udcffb", PYTHONIOENCODING="ascii")
    assert ran.stdout == '\\xe9\t\\xe9\na\\udcffb\t"a\\udcffb"\n'
    as_json = settled("map", "calls:same", "a\udcffb", "--json").stdout
    assert json.loads(as_json)["value"] == "a\udcffb"


def test_an_output_that_is_full_is_one_line_and_loses_nothing(start, settled):
    with open("/dev/full", "w") as full:
        ran = start("map", "calls:counted", "2", stdout=full)
        said = ran.stderr.read()
    assert said == "settled map: [Errno 28] No space left on device\n"
    assert ran.wait(60) == 2
    assert settled("map", "calls:counted", "2").stdout == "2\t2\n"
    with open("ran") as log:
        assert log.read() == "2\n"


def test_many_failures_are_listed_in_part(settled):
    ran = settled("map", "calls:even", *map(str, range(1, 41, 2)))
    assert ran.stderr.count("is odd") == 10
    assert "... and 10 more: settled ls --state FAILURE" in ran.stderr


def test_the_backend_is_given_by_the_environment_or_the_option(settled, folder):
    settled("map", "calls:double", "1", SETTLED_BACKEND="sqlite:///env.db")
    settled(
        "map", "calls:double", "1", "--backend", "sqlite:///option.db", SETTLED_BACKEND="sqlite:///env.db"
    )
    settled("map", "calls:double", "1")
    assert {path.name for path in folder.glob("*.db")} == {"env.db", "option.db", "settled.db"}


def test_a_killed_worker_costs_nothing_but_its_own_attempt(settled):
    ran = settled("map", "calls:dies_once", "a", "b", "c", "--workers", "2")
    assert ran.stdout == "a\ta\nb\tb\nc\tc\n"
    assert ran.returncode == 0


def test_a_call_that_kills_its_workers_is_given_up_by_name(settled):
    ran = settled("map", "calls:dies", "a")
    assert ran.returncode == 1
    assert "WorkerLost: calls.dies was given up: 3 workers died" in ran.stderr


def test_a_value_that_cannot_be_stored_is_a_failure_that_says_so(settled):
    ran = settled("map", "calls:unstorable", "a")
    assert ran.returncode == 1
    assert "EncodeError" in ran.stderr


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_ctrl_c_leaves_what_is_done_and_says_how_to_go_on(start, again):
    os.mkfifo("events")
    os.mkfifo("go")
    running = start("map", "calls:waits", "a", "b", "c", "--workers", "1")
    with open("events") as events:
        assert events.read() == "a\n"
    running.send_signal(signal.SIGINT)
    assert running.stderr.readline().startswith("stopping when what runs is done")
    if again:
        running.send_signal(signal.SIGINT)
    else:
        open("go", "w").close()
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert f"interrupted: {0 if again else 1} of 3 calls stored; the same command goes on" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["calls:nothing", "1"], "'calls:nothing': the module has no 'nothing'"),
        (["calls:doubel", "1"], "did you mean 'double'?"),
        (["calls", "1"], "write package.module:function"),
        (["nowhere:double", "1"], "there is no module 'nowhere'"),
        (["calls:number", "1"], "'calls:number' is an int, not a function"),
        (["calls:nameless", "1"], "'calls:nameless' cannot be sent to a worker process"),
        (["__main__:double", "1"], "workers cannot import __main__"),
        (["calls:double", "1", "--reduce", "calls:number"], "'calls:number' is an int"),
        (["calls:double"], "there are no inputs"),
        (["calls:double", "--inputs-from", "missing"], "--inputs-from missing: No such file or directory"),
        (["calls:double", "--inputs-from", "-"], "there are no inputs in standard input"),
        (["calls:double", "--inputs-from", "calls.py/"], "Not a directory"),
        (["calls:double", "1", "--workers", "0"], "argument --workers: expected 1 or more, not '0'"),
        (["calls:double", "1", "--retries", "-1"], "argument --retries: expected a whole number"),
        (["calls:double", "1", "--backend", "nosuch://x"], "no engine for nosuch://"),
        (["calls:double", "1", "--backend", "results.db"], "is not a backend URL"),
        (["calls:double", "1", "--backend", "memory://"], "is seen by one process only"),
        (["calls:double", "1", "--backend", "sqlite:///x.db?durable=yes"], "did you mean 'durability'?"),
        (["calls:double", "1", "--backend", "sqlite:////no/such/x.db"], "there is no directory /no/such"),
        (["calls:double", "1", "--backend", "sqlite:///calls.py"], "calls.py"),
        ([], "the following arguments are required"),
        (["calls:double", "1", "--nosuch"], "unrecognized arguments: --nosuch"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(main, arguments, said):
    ran = main("map", *arguments)
    assert said in ran.stderr
    assert ran.stderr.startswith("settled map: ")
    assert ran.stderr.count("\n") == 1
    assert (ran.returncode, ran.stdout) == (2, "")
