"""The inputs of `settled map`: from the command line, a file, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from settled.errors import ConfigurationError

STDIN = "-"


def gather(given: Sequence[str], inputs_from: str | None) -> list[str]:
    """What was given, then the lines of the file; each once, in that order. Empty lines are none.

    Raises ConfigurationError if there are none, or the file cannot be read as UTF-8 text.
    """
    lines = _lines(inputs_from) if inputs_from is not None else []
    found = list(dict.fromkeys([*given, *(line for line in lines if line)]))
    if found:
        return found
    if inputs_from is not None:
        raise ConfigurationError(f"there are no inputs in {_name(inputs_from)}: put one on each line")
    raise ConfigurationError("there are no inputs: give some, or --inputs-from FILE (- is standard input)")


def _lines(inputs_from: str) -> list[str]:
    try:
        if inputs_from == STDIN:
            return [line.rstrip("\r\n") for line in sys.stdin]
        with open(inputs_from, encoding="utf-8-sig") as file:
            return [line.rstrip("\r\n") for line in file]
    except OSError as exc:
        raise ConfigurationError(f"--inputs-from {inputs_from}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(
            f"{_name(inputs_from)} is not UTF-8 text: {exc.reason} at byte {exc.start}"
        ) from exc


def _name(inputs_from: str) -> str:
    return "standard input" if inputs_from == STDIN else inputs_from
