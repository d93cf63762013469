"""A connection's socket, written to and read from within a time: by as few system calls as that takes.

A socket of Python's with a timeout asks `poll` before every send and every recv: a third of what an exchange costs.
"""

from __future__ import annotations

import math
import select
import signal
import socket
import struct
import time
from typing import Protocol


class Wire(Protocol):
    """TimeoutError where a step is not done within `timeout` seconds, OSError for what else goes wrong."""

    def send(self, data: bytes, timeout: float) -> None: ...
    def recv(self, size: int, timeout: float) -> bytes: ...


def wire_of(sock: socket.socket, usual: float) -> Wire:
    """The best there is for this socket. `usual` is the timeout in seconds that most steps have."""
    # TLS has its own way to wait, and so have sockets of greenlets.
    plain = type(sock).__module__ == "socket" and hasattr(socket, "MSG_DONTWAIT") and hasattr(select, "poll")
    return PlainWire(sock, usual) if plain else TimedWire(sock)


class TimedWire:
    """Any socket, by its own timeout."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout = sock.gettimeout()

    def send(self, data: bytes, timeout: float) -> None:
        self._allow(timeout)
        self._sock.sendall(data)

    def recv(self, size: int, timeout: float) -> bytes:
        self._allow(timeout)
        return self._sock.recv(size)

    def _allow(self, timeout: float) -> None:
        if timeout != self._timeout:
            self._sock.settimeout(timeout)
            self._timeout = timeout


class PlainWire:
    """A socket of the system's: what the kernel can do at once, or wait for by itself, is one call."""

    def __init__(self, sock: socket.socket, usual: float) -> None:
        self._sock = sock
        self._usual = usual
        sock.settimeout(None)
        whole = int(usual)
        limit = struct.pack("@ll", whole, max(0 if whole else 1, int((usual - whole) * 1e6)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def send(self, data: bytes, timeout: float) -> None:
        try:
            sent = self._sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            self._send_rest(memoryview(data)[sent:], time.monotonic() + timeout)

    def _send_rest(self, data: memoryview, deadline: float) -> None:
        while data:
            self._await(select.POLLOUT, deadline - time.monotonic())
            data = data[self._sock.send(data, socket.MSG_DONTWAIT) :]

    def recv(self, size: int, timeout: float) -> bytes:
        # The kernel begins anew after each signal: with a timer that goes on and on it would never end.
        if timeout == self._usual and not signal.getitimer(signal.ITIMER_REAL)[0]:
            try:
                return self._sock.recv(size)
            except BlockingIOError:
                raise TimeoutError("timed out") from None
        self._await(select.POLLIN, timeout)
        return self._sock.recv(size, socket.MSG_DONTWAIT)

    def _await(self, event: int, timeout: float) -> None:
        poll = select.poll()
        poll.register(self._sock, event)
        if not poll.poll(max(0, math.ceil(timeout * 1000))):
            raise TimeoutError("timed out")
