"""How far a run has come: the counts, the words for them, and the bar that shows them."""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

from settled.cli import text

if TYPE_CHECKING:
    from rich.progress import BarColumn, Progress

REDRAW = 0.1
"""Seconds between two pictures of the bar."""

LINE_INTERVAL = 10.0
"""Seconds between two lines where nothing can be drawn over."""

RATE_SPAN = 20.0
"""Seconds over which the rate is taken."""

LONGEST_BAR = 60
SHORTEST_BAR = 10


class Tally:
    """The counts of one run. `kept` are those among the done that an earlier run has stored."""

    def __init__(self, total: int, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.workers = workers
        self.done = 0
        self.failed = 0
        self.kept = 0
        self._clock = clock
        self._began = clock()
        self._samples: deque[tuple[float, int]] = deque([(self._began, 0)])

    def count(self, failed: bool, kept: bool) -> None:
        """One more call is done."""
        self.done += 1
        self.failed += failed
        self.kept += kept

    @property
    def running(self) -> int:
        return min(self.workers, self.total - self.done)

    @property
    def elapsed(self) -> float:
        return self._clock() - self._began

    def rate(self) -> float:
        """Calls a second that were run here, lately."""
        now, ran = self._clock(), self.done - self.kept
        while len(self._samples) > 1 and self._samples[1][0] <= now - RATE_SPAN:
            self._samples.popleft()
        if now - self._samples[-1][0] >= 1:
            self._samples.append((now, ran))
        since, before = self._samples[0]
        return (ran - before) / (now - since) if now > since else 0.0

    def words(self) -> list[str]:
        """done, failed, running, rate and time left, as they are shown beside a bar."""
        rate = self.rate()
        words = [
            f"{self.done:,}/{self.total:,}",
            f"{self.failed:,} failed",
            f"{self.running} running",
        ]
        if rate > 0:
            words.append(spoken(rate))
        if rate > 0 and self.done < self.total:
            words.append(f"{text.remaining((self.total - self.done) / rate)} left")
        return words


def spoken(rate: float) -> str:
    """A rate in the unit in which it is a handy number: 140/s, 3.2/s, 12/min, 5/h."""
    for factor, unit in ((1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if rate * factor >= 1 or unit == "h":
            amount = rate * factor
            return f"{amount:,.0f}/{unit}" if amount >= 10 or not amount else f"{amount:.1f}/{unit}"
    raise AssertionError("unreachable")


class Bar(Protocol):
    """Shows a tally."""

    @property
    def interval(self) -> float | None:
        """Seconds between two calls of `show`; None where nothing is shown."""

    def show(self) -> None:
        """Draw the tally as it is now."""

    def clear(self) -> None:
        """Take the bar away: what is written next begins on a clean line."""


class NoBar:
    """Standard error is no terminal: nothing is shown."""

    interval = None

    def show(self) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""


class Lines:
    """A terminal that cannot draw over what it has shown: a line every ten seconds."""

    interval = LINE_INTERVAL

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        self._tally = tally
        self._stream = stream

    def show(self) -> None:
        print("  ".join(self._tally.words()), file=self._stream, flush=True)

    def clear(self) -> None:
        """What was written stays."""


class PlainBar:
    """One line, drawn over with a carriage return: needs nothing but a terminal."""

    interval = REDRAW

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        self._tally = tally
        self._stream = stream
        self._shown = 0

    def show(self) -> None:
        words = "  ".join(self._tally.words())
        room = _room_beside(words)
        if room:
            filled = room * self._tally.done // max(self._tally.total, 1)
            words = f"[{'#' * filled}{'.' * (room - filled)}]  {words}"
        self._draw(text.clip(words, shutil.get_terminal_size().columns - 1))

    def clear(self) -> None:
        self._draw("")
        self._stream.write("\r")
        self._stream.flush()

    def _draw(self, line: str) -> None:
        self._stream.write(f"\r{line.ljust(self._shown)}")
        self._stream.flush()
        self._shown = len(line)


def _room_beside(words: str) -> int:
    """Columns for a bar beside these words; 0 if it would be too short.

    Some are left over for the `^C` that a terminal writes there: on a line of its own, it would have
    the bar cleared from the wrong one.
    """
    room = shutil.get_terminal_size().columns - len(words) - 8
    return min(room, LONGEST_BAR) if room >= SHORTEST_BAR else 0


class RichBar:
    """The same through rich: colours where the terminal has them."""

    interval = REDRAW

    def __init__(self, tally: Tally, progress: Progress, column: BarColumn) -> None:
        self._tally = tally
        self._progress = progress
        self._column = column
        self._task = progress.add_task("", total=tally.total)
        self._drawn = False

    def show(self) -> None:
        done, failed, *rest = words = self._tally.words()
        self._column.bar_width = _room_beside("  ".join(words)) or 1
        failures = f"[bold red]{failed}[/]" if self._tally.failed else failed
        said = "  ".join([f"[bold]{done}[/]", failures, *rest])
        self._progress.update(self._task, completed=self._tally.done, description=said)
        if not self._drawn:
            self._drawn = True
            self._progress.start()
        self._progress.refresh()

    def clear(self) -> None:
        if self._drawn:
            self._drawn = False
            self._progress.stop()


def bar_for(tally: Tally, stream: TextIO) -> Bar:
    """The best bar that `stream` can show."""
    if not stream.isatty():
        return NoBar()
    if os.environ.get("TERM", "") in ("dumb", "unknown", ""):
        return Lines(tally, stream)
    return _rich_bar(tally) or PlainBar(tally, stream)


def _rich_bar(tally: Tally) -> Bar | None:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column
    except ImportError:
        return None
    column = BarColumn()
    words = TextColumn("{task.description}", table_column=Column(no_wrap=True))
    console = Console(stderr=True, highlight=False)
    return RichBar(
        tally, Progress(column, words, console=console, auto_refresh=False, transient=True), column
    )
