"""The bar and its words; and the bar on a real terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import sys

import pytest

from settled.cli import progress, text
from settled.cli.progress import Lines, NoBar, PlainBar, Tally, bar_for, spoken


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_words_are_counts_rate_and_time_left(clock):
    tally = Tally(100, 4, clock)
    assert tally.words() == ["0/100", "0 failed", "4 running"]
    for number in range(40):
        clock.now += 0.5
        tally.count(failed=number == 3, kept=False)
        tally.rate()
    assert tally.words() == ["40/100", "1 failed", "4 running", "2.0/s", "30s left"]


def test_what_was_done_before_does_not_count_for_the_rate(clock):
    tally = Tally(10, 2, clock)
    for _ in range(8):
        tally.count(failed=False, kept=True)
    clock.now = 4
    tally.count(failed=False, kept=False)
    assert tally.words() == ["9/10", "0 failed", "1 running", "15/min", "4s left"]


def test_the_rate_is_that_of_the_last_seconds(clock):
    tally = Tally(1000, 2, clock)
    for _ in range(100):
        clock.now += 1
        tally.count(failed=False, kept=False)
        tally.rate()
    clock.now += progress.RATE_SPAN
    assert tally.rate() < 0.1


@pytest.mark.parametrize(
    ("rate", "said"), [(1234.5, "1,234/s"), (3.21, "3.2/s"), (0.2, "12/min"), (0.001, "3.6/h"), (0.0, "0/h")]
)
def test_a_rate_is_said_in_a_handy_unit(rate, said):
    assert spoken(rate) == said


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_plain_bar_fits_its_line_and_leaves_nothing_behind(clock, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = io.StringIO()
    bar = PlainBar(Tally(100_000, 8, clock), stream)
    bar.show()
    bar.clear()
    shown, blank, rest = stream.getvalue()[1:].split("\r")
    assert len(shown) < columns
    assert blank == " " * len(shown)
    assert rest == ""
    assert ("[" in shown) == (columns > 40)


def test_a_pipe_has_no_bar_and_a_dumb_terminal_lines(clock, monkeypatch):
    tally = Tally(1, 1, clock)
    assert isinstance(bar_for(tally, io.StringIO()), NoBar)
    monkeypatch.setenv("TERM", "dumb")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    bar = bar_for(tally, terminal)
    assert isinstance(bar, Lines)
    bar.show()
    bar.clear()
    assert terminal.getvalue() == "0/1  0 failed  1 running\n"


def test_without_rich_the_bar_is_plain(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    assert isinstance(bar_for(Tally(1, 1, clock), terminal), PlainBar)


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_shows_the_bar_while_calls_run_and_the_summary_after(start, colour):
    os.mkfifo("events")
    os.mkfifo("go")
    ours, theirs = pty.openpty()
    plain = {} if colour else {"NO_COLOR": "1"}
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **plain}
    running = start("map", "calls:waits", "a", "--workers", "1", stderr=theirs, env=environment)
    os.close(theirs)
    with open("events") as events:
        assert events.read() == "a\n"
    seen = ""
    while "1 running" not in seen:
        seen += os.read(ours, 4096).decode()
    assert bool(re.search(r"\x1b\[[0-9;]*[39][0-9]m", seen)) == colour
    open("go", "w").close()
    while "1 call: 1 succeeded, 0 failed" not in seen:
        seen += os.read(ours, 4096).decode()
    assert running.wait(60) == 0
    os.close(ours)  # not before: a program that still writes would find its terminal gone


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.25, "0.25s"), (12.34, "12.3s"), (59.97, "1m00s"), (7380, "2h03m"), (259200, "3d00h")],
)
def test_durations(seconds, said):
    assert text.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.5, "now"), (12.9, "12s ago"), (3600, "1h ago"), (1e6, "11d ago")]
)
def test_ages(seconds, said):
    assert text.age(seconds) == said


def test_sizes():
    assert [text.size(count) for count in (0, 1023, 1536, 3 << 30)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"traceback": "Traceback:\n  x\nm.Bad: a\nOops"}, "Oops"),
        ({"traceback": "Traceback:\n  x\nm.Bad: a\na note", "result": {"exc_type": "Bad"}}, "m.Bad: a"),
        ({"traceback": "  + Exception Group Traceback\n  | ExceptionGroup: two\n  +-----\n",
          "result": {"exc_type": "ExceptionGroup", "exc_message": ["two", 2]}}, "ExceptionGroup: two, 2"),
        ({"result": {"exc_type": "Lost", "exc_message": []}}, "Lost"),
        ({"result": "just text"}, "just text"),
    ],
)  # fmt: skip
def test_a_reason_is_the_last_line_of_the_traceback_or_what_the_record_says(meta, said):
    assert text.reason(meta) == said
