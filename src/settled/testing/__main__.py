"""`python -m settled.testing report [module:Store ...]` and `python -m settled.testing promises`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from settled.testing.processes import named
from settled.testing.report import examine, failures, promises, table
from settled.testing.store import Store

OURS = ("settled.testing.stores:MemoryStore", "settled.testing.stores:SQLiteStore")


def main(arguments: Sequence[str]) -> int:
    """1 if a check failed, 2 if the arguments make no sense."""
    match arguments:
        case ["promises"]:
            sys.stdout.write("\n".join(promises()) + "\n")
            return 0
        case ["report", *paths]:
            classes = [cast("type[Store]", named(path)) for path in paths or OURS]
            verdicts = {each.engine.__name__: examine(each) for each in classes}
            failed = failures(verdicts)
            sys.stdout.write("\n".join([*table(verdicts), *failed]) + "\n")
            return 1 if failed else 0
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
