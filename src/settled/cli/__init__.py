"""The command `settled`: run calls whose results are kept, and look at what is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from settled.cli.parser import parse
from settled.cli.text import one_line
from settled.errors import SettledError

WRONG = 2
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line, default the process's own; the exit status.

    0 all is well, 1 a task failed, 2 wrong usage or set-up (one line on standard error says what),
    124 a timeout passed, 130 interrupted. Exits by itself for `--help`, `--version` and a wrong line.
    """
    arguments = parse(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a value must not end the listing of the others
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except SettledError as exc:
        return _wrong(arguments.prog, exc)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop_output()
        return PIPE_CLOSED
    except OSError as exc:
        _drop_output()
        return _wrong(arguments.prog, exc)
    return status


def _wrong(prog: str, error: Exception) -> int:
    print(f"{prog}: {one_line(error)}", file=sys.stderr)
    return WRONG


def _drop_output() -> None:
    """What is still buffered must not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
