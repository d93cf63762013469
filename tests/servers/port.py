"""Ports of 127.0.0.1, each taken by one suite at a time."""

from __future__ import annotations

import socket
from random import SystemRandom

# Below the ports that the kernel gives to outgoing connections (32768 and up): a client that keeps
# connecting to a dead server's port there may be given that very port, and be connected to itself.
FIRST, LAST = 11_000, 20_999
BUS = 10_000
"""How far above its port a cluster's node has its bus."""

TRIES = 200


class Port:
    """A port, `number`, with the one of a cluster's bus above it. No other `Port` has it until `release`.

    It stays taken while its server is down: what holds it is a name of its own, not the port.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._name.bind(f"\0settled-test-port-{number}")
        except OSError:
            self._name.close()
            raise

    @classmethod
    def take(cls) -> Port:
        """A port that is free now. Any program that is not ours may still take it before it is used."""
        random = SystemRandom()  # not the one that a test may have seeded
        for _ in range(TRIES):
            try:
                port = cls(random.randint(FIRST, LAST))
            except OSError:
                continue
            if _free(port.number) and _free(port.number + BUS):
                return port
            port.release()
        raise OSError(f"no free port of 127.0.0.1 found between {FIRST} and {LAST}")

    def release(self) -> None:
        self._name.close()


def _free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
        return True
