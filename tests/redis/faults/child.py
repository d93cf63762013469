"""A forked child, and whose sockets are used."""

from __future__ import annotations

import json
import os
import signal
import traceback
from itertools import takewhile
from pathlib import Path


class Child:
    """Does `work` in a forked child, which then ends without any clearing up."""

    def __init__(self, work, patience=30):
        self._answer, write = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(patience)  # a child that hangs dies
            try:
                told = [True, work()]
            except BaseException:
                told = [False, traceback.format_exc()]
            os.write(write, json.dumps(told).encode())
            os._exit(0)
        os.close(write)

    def answer(self):
        """What `work` returned."""
        with os.fdopen(self._answer) as file:
            told = file.read()
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        assert status == 0, f"the child ended with {status}"
        done, answer = json.loads(told)
        assert done, answer
        return answer


def sockets():
    """The sockets that this process has open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # that of the listing itself
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def connected_to(port):
    """Those of our sockets that are connected to this port."""
    lines = (line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:])
    return sockets() & {f"socket:[{line[9]}]" for line in lines if line[2].endswith(f":{port:04X}")}


class Witness:
    """Who has asked the server what, by MONITOR, from `with` on."""

    def __init__(self, server):
        self._server = server

    def __enter__(self):
        self._client = self._server.client()
        self._monitor = self._client.monitor()
        self._monitor.__enter__()
        return self

    def __exit__(self, *exc):
        self._monitor.__exit__(*exc)
        self._client.close()

    def askers(self, word):
        """The addresses from which commands with `word` in them have come."""
        self._server.ask("ECHO", "that was all")
        commands = takewhile(lambda seen: seen["command"] != "ECHO that was all", self._monitor.listen())
        said = [seen for seen in commands if word in seen["command"] and seen["client_type"] != "lua"]
        return {f"{seen['client_address']}:{seen['client_port']}" for seen in said}
