"""The command line: commands, options, and what each accepts."""

from __future__ import annotations

import argparse
import importlib
import math
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NoReturn

import settled

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

BACKEND = "the store: sqlite:///results.db, ... (default: SETTLED_BACKEND, or sqlite:///settled.db)"

MAP = """\
Run a function for every input, in several processes. Each result is stored the moment it exists, and
running the same command again does only what is left. A call is the same call while the function's
source and the input are the same.

The value of --reduce goes to standard output, or else a line `INPUT<tab>VALUE` for every success;
everything else goes to standard error. Exit status: 0 all succeeded, 1 some failed, 2 wrong usage or
set-up, 130 interrupted.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments; `run` is the function that carries it out. Exits after a wrong line."""
    top = Parser(prog="settled", description="Run calls whose results are kept, and look at what is kept.")
    top.add_argument("--version", action="version", version=f"settled {settled.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    parsers = {
        name: add(commands.add_parser(name, help=said, description=said, allow_abbrev=False))
        for name, said, add in (
            ("map", "run a function for every input, and keep every result", _map),
            ("ls", "list what is stored, the latest first", _ls),
            ("show", "show one task: its value or traceback, times, worker, relations", _show),
            ("wait", "wait until tasks are ready, whoever runs them", _wait),
            ("cleanup", "delete what has expired", _cleanup),
            ("copy", "copy what Celery's own backends have stored into a store of settled's", _copy),
            ("doctor", "say how the store is, and make what was kept while it was away", _doctor),
        )
    }
    if argv and argv[0] in parsers:
        # Apart from the others, so that inputs may stand before, between and behind options.
        return parsers[argv[0]].parse_intermixed_args(argv[1:])
    return top.parse_args(argv)


def _map(parser: Parser) -> Parser:
    parser.description, parser.formatter_class = MAP, argparse.RawDescriptionHelpFormatter
    parser.add_argument("function", metavar="pkg.module:function", help="called with each input, a str")
    parser.add_argument("inputs", metavar="INPUT", nargs="*", help="what to call it with")
    parser.add_argument(
        "--inputs-from", metavar="FILE", help="more inputs, one on each line; - is standard input"
    )
    parser.add_argument(
        "--reduce",
        metavar="pkg.module:function",
        help="called once with the outcomes of all calls in order (each has .value or .error)",
    )
    parser.add_argument("--workers", type=_count, metavar="N", help="processes (default: one for each CPU)")
    parser.add_argument(
        "--retries", type=_whole, default=0, metavar="N", help="more attempts for a call that fails"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on each line of the output")
    parser.add_argument("--backend", metavar="URL", help=BACKEND)
    return _runs(parser, "settled.cli.mapping")


def _ls(parser: Parser) -> Parser:
    parser.add_argument(
        "--state", action="append", type=str.upper, metavar="S", help="SUCCESS, FAILURE, ...; repeatable"
    )
    parser.add_argument("--name", metavar="NAME", help="calls of this function: package.module.function")
    parser.add_argument("--group", metavar="ID", help="members of this group")
    parser.add_argument(
        "--since", type=_ago, metavar="WHEN", help="written since: 90s, 10m, 2h, 3d, or 2026-01-31T12:00"
    )
    parser.add_argument(
        "--limit", type=_whole, default=50, metavar="N", help="at most N (default 50; 0: all)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on each line")
    parser.add_argument("--backend", metavar="URL", help=BACKEND)
    return _runs(parser, "settled.cli.listing")


def _show(parser: Parser) -> Parser:
    parser.add_argument("id", metavar="ID", help="a task id, or the beginning of one; or a group id")
    parser.add_argument("--json", action="store_true", help="the whole record as one JSON object")
    parser.add_argument("--backend", metavar="URL", help=BACKEND)
    return _runs(parser, "settled.cli.showing")


def _wait(parser: Parser) -> Parser:
    parser.description = (
        "Wait until tasks are ready, and say what became of each. Exit status: 0 all succeeded, "
        "1 some did not, 124 not ready within the timeout."
    )
    parser.add_argument(
        "ids", metavar="ID", nargs="+", help="a task id, or the beginning of one that is stored"
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="S", help="seconds for all together (default: for ever)"
    )
    parser.add_argument("--backend", metavar="URL", help=BACKEND)
    return _runs(parser, "settled.cli.awaiting")


def _cleanup(parser: Parser) -> Parser:
    parser.add_argument("--backend", metavar="URL", help=BACKEND)
    return _runs(parser, "settled.cli.cleaning")


def _copy(parser: Parser) -> Parser:
    parser.description = (
        "Copy what Celery's own backends have stored: results, and saved groups. SOURCE is only read. What the "
        "target has stays where it is as far, or further, so that the command can be run again. Exit status: 0 all is "
        "copied, 1 some records could not be, 2 wrong usage or set-up, 130 interrupted."
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="what result_backend was: redis://..., file:///folder, db+sqlite:///results.db; for the tables of "
        "django-celery-results django+sqlite:///db.sqlite3, django+postgresql://...",
    )
    parser.add_argument("target", metavar="TARGET", help="the store: sqlite:///results.db, redis://..., ...")
    parser.add_argument(
        "--accept", metavar="NAME", help="read this serializer too: pickle, from trusted writers"
    )
    parser.add_argument("--prefix", metavar="TEXT", help="Celery's global_keyprefix (redis, file)")
    parser.add_argument(
        "--serializer", metavar="NAME", help="Celery's result_serializer (db+...; default json)"
    )
    parser.add_argument("--task-table", metavar="NAME", help="of Celery's database_table_names (db+...)")
    parser.add_argument("--group-table", metavar="NAME", help="of Celery's database_table_names (db+...)")
    parser.add_argument(
        "--expires",
        type=_age,
        metavar="AGE",
        help="keep records that have no expiry of their own for so long after they were done: 12h, 30d (default: "
        "for ever)",
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing; say what would be copied")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return _runs(parser, "settled.cli.copying")


def _doctor(parser: Parser) -> Parser:
    parser.description = (
        "Say whether the store can be reached, and which writes wait for it in spools. Exit status: 0 there is "
        "nothing to do, 1 the store is away or something waits for it, 2 wrong usage."
    )
    parser.add_argument(
        "--drain", action="store_true", help="make the writes in the spools of processes that have ended"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--backend", metavar="URL", help=BACKEND)
    return _runs(parser, "settled.cli.doctoring")


def _runs(parser: Parser, module: str) -> Parser:
    """Have the command carried out by the module's `run`, imported when it is wanted."""

    def run(arguments: argparse.Namespace) -> int:
        carry_out: Callable[[argparse.Namespace], int] = importlib.import_module(module).run
        return carry_out(arguments)

    parser.set_defaults(run=run, prog=parser.prog)
    return parser


# -- what an option accepts ----------------------------------------------------------------------


def _count(typed: str) -> int:
    number = _whole(typed)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, not {typed!r}")
    return number


def _whole(typed: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", typed):
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, not {typed!r}")
    return int(typed)


def _seconds(typed: str) -> float:
    try:
        number = float(typed)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, 0 or more, not {typed!r}")
    return number


def _length(typed: str) -> float | None:
    """Seconds, from a number and its unit."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", typed)
    return float(found[1]) * UNITS[found[2]] if found else None


def _age(typed: str) -> float:
    length = _length(typed)
    if not length:
        raise argparse.ArgumentTypeError(f"expected 90s, 10m, 2h or 3d, not {typed!r}")
    return length


def _ago(typed: str) -> float:
    """Seconds before now."""
    length = _length(typed)
    if length is not None:
        return length
    try:
        return time.time() - datetime.fromisoformat(typed).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected 90s, 10m, 2h, 3d or a date, not {typed!r}") from None
