"""Measure every file of the standard library, and keep each result the moment it exists.

    python examples/demo.py [--backend URL] [--only PACKAGE]

Run it, interrupt it, kill it: run again it does only what is left, and in the end nothing but the
reduce. Some of the files are there because they do not parse: they are failures, and stay so.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import stdlib_survey

import settled
from settled.cli import main as settled_command
from settled.record import Query

SOME_FAILED = 1


def main() -> int:
    """Run `settled map`, then say how to look further; status 0 also where files did not parse."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", metavar="URL", default="sqlite:///demo.db", help="default: %(default)s")
    parser.add_argument("--only", metavar="PREFIX", default="", help="measure the files that begin so")
    arguments = parser.parse_args()
    files = [path for path in stdlib_survey.files() if path.partition("/")[2].startswith(arguments.only)]
    if not files:
        parser.error(f"no file of the standard library begins with {arguments.only!r}")
    command = ["map", "stdlib_survey:measure", "--reduce", "stdlib_survey:table"]
    command += ["--backend", arguments.backend]
    shown = shlex.join([program(), *command])
    print(f"$ PYTHONPATH=examples {shown} {files[0]} ...  ({len(files):,} files)\n", flush=True)
    status = settled_command([*command, "--", *files])
    return look_further(arguments.backend) if status <= SOME_FAILED else status


def look_further(backend_url: str) -> int:
    """Say what to run next; 1 if it was the reduce that failed."""
    with settled.connect(backend_url) as backend:
        failed = list(backend.query(Query(states=("FAILURE",))))
    print("\nTo look further:")
    print(f"  {program()} ls --backend {backend_url}")
    print(f"  {program()} ls --state FAILURE --backend {backend_url}")
    for row in failed[:1]:
        print(f"  {program()} show {row.task_id[:12]} --backend {backend_url}")
    return int(any(row.name == "stdlib_survey.table" for row in failed))


def program() -> str:
    """The command `settled` of the Python that runs this."""
    path = Path(sys.executable).with_name("settled")
    if not path.exists():
        return "settled"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    sys.exit(main())
