"""Install the servers that are missing, and say what is there: `python -m tests.servers`."""

from __future__ import annotations

import sys

from tests.servers.binaries import VERSIONS, MissingServer, find, version
from tests.servers.clock import library
from tests.servers.installing import STEPS, install


def main() -> int:
    try:
        for kind in VERSIONS:
            if find(kind) is None:
                print(STEPS[kind], file=sys.stderr, flush=True)
            path = install(kind)
            print(f"{kind:12}{version(path):9}{path}", flush=True)
        library()
    except MissingServer as exc:
        print(f"The test servers cannot be set up: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
