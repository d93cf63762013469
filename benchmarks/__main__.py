"""Run the benchmarks: `python -m benchmarks [--once] [--only NAME] [--markdown]`.

A benchmark is a module `bench_NAME.py` in this folder with `run(once: bool) -> list[Row]`.
The exit status is 1 when a bound is missed, 2 when there is no such benchmark.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.table import Row, markdown, table


def main() -> int:
    options = _options()
    names = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    chosen = [name for name in names if options.only in (None, name)]
    if not chosen:
        print(f"no benchmark {options.only or ''}; there are: {', '.join(names) or 'none'}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in chosen:
        print(f"running {name}", file=sys.stderr, flush=True)
        rows += import_module(f"benchmarks.bench_{name}").run(options.once)
    print((markdown if options.markdown else table)(rows, judge=not options.once))
    missed = not options.once and any(row.passed is False for row in rows)
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("--once", action="store_true", help="one iteration of each, judging no bound")
    parser.add_argument("--only", metavar="NAME", help="run this benchmark alone")
    parser.add_argument(
        "--markdown", action="store_true", help="print the table as the documentation shows it"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
