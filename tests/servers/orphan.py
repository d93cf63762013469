"""A program that starts a server from a thread which then ends, says where it is, and waits to be killed."""

from __future__ import annotations

import json
import signal
import threading

from tests.servers import Server


def main() -> None:
    servers: list[Server] = []
    thread = threading.Thread(target=lambda: servers.append(Server.start()))
    thread.start()
    thread.join()
    [server] = servers
    print(json.dumps([server.port, str(server.folder)]), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
