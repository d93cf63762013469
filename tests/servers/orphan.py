"""A program that starts a server from a thread which then ends, says where it is, and waits to be killed."""

from __future__ import annotations

import json
import signal
import sys
import threading

from tests.servers import DATABASES, Database, Server


def main(kind: str) -> None:
    start = Database.start if kind in DATABASES else Server.start
    servers: list[Server | Database] = []
    thread = threading.Thread(target=lambda: servers.append(start(kind)))
    thread.start()
    thread.join()
    [server] = servers
    print(json.dumps([server.port, str(server.folder)]), flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
