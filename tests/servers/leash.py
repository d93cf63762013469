"""A program that does not outlive the process which started it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# The program begins once its watcher runs, so that there is no moment without one.
GATE = 'read -r _ && exec "$@" </dev/null'

# The kernel closes the pipe when its owner ends, in whatever way: the read fails. A line says that all is well.
# (A death signal would come when the starting *thread* ends.)
WATCH = 'read -r _ || { kill -"$1" "$2"; [ -z "$3" ] || rm -rf -- "$3"; }'


class Leashed:
    """A running program, in a session of its own: a Ctrl-C for the suite does not reach it.

    What it prints goes to the file `output`. When this process dies it is killed by `last`, and `litter` deleted.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        output: Path,
        litter: Path | None = None,
        last: signal.Signals = signal.SIGKILL,
    ) -> None:
        with output.open("ab") as printed:
            self._program = subprocess.Popen(
                ["sh", "-c", GATE, "sh", *command],
                env=env,
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )
        self.pid = self._program.pid
        self._watcher = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", last.name.removeprefix("SIG"), str(self.pid), str(litter or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _tell(self._program)

    def ended(self) -> bool:
        """Whether the program has ended by now."""
        if self._program.poll() is None:
            return False
        self._unwatch()
        return True

    def send(self, number: signal.Signals) -> None:
        self._program.send_signal(number)

    def end(self, number: signal.Signals, timeout: float = 5.0) -> None:
        """Send a signal and wait for the end; SIGKILL if it does not come in `timeout` seconds."""
        self.send(number)
        self.send(signal.SIGCONT)  # a stopped program would not hear the first one
        try:
            self._program.wait(timeout)
        except subprocess.TimeoutExpired:
            self._program.kill()
            self._program.wait()
        self._unwatch()

    def _unwatch(self) -> None:
        if self._watcher.poll() is None:
            _tell(self._watcher)
            self._watcher.wait()


def _tell(process: subprocess.Popen[bytes]) -> None:
    """Send a line and close the pipe."""
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(b"\n")
