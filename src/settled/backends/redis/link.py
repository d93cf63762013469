"""One connection to one server: redis-py makes it (TLS, AUTH, SELECT), commands go over its socket.

redis-py's client costs 50 µs of CPU for a command, its connection 20, this 10.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import hiredis
from redis.connection import AbstractConnection

from settled.backends.redis.wire import wire_of

Command: TypeAlias = "tuple[bytes | str, ...]"
"""Text alone: a signal that is handled while hiredis packs a number ends the process."""

pack = cast("Callable[[Command], bytes]", hiredis.pack_command)
"""The bytes of a command."""

_BUFFER = 65536
_LARGE_BUFFER = 1 << 20
_INCOMPLETE = object()


class Link:
    """Used by one thread at a time. After any error it is closed: a reply may still be under way.

    Raises OSError (TimeoutError among it) where the server cannot be reached or does not answer, and
    hiredis.ProtocolError where what it answers is not Redis's protocol. Error replies are returned.
    `timeout` is that of most steps, in seconds.
    """

    __slots__ = (
        "__weakref__", "_connection", "_reader", "_sock", "_wire", "deadline", "generation", "open", "server",
    )  # fmt: skip

    def __init__(self, connection: AbstractConnection, server: str, timeout: float) -> None:
        self._connection = connection
        self._sock = cast(socket.socket, connection._sock)
        self._wire = wire_of(self._sock, timeout)
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self.deadline: float | None = None
        """When all steps are to be over, by the monotonic clock."""
        self.server = server
        self.generation = 0
        self.open = True

    def ask(self, command: Command, timeout: float) -> object:
        """The reply to one command, each step within `timeout` seconds."""
        try:
            self.send(pack(command), timeout)
            return self._receive(timeout)
        except BaseException:  # an interrupt too: the reply to come is not the next command's
            self.close()
            raise

    def ask_all(self, commands: Sequence[Command], timeout: float) -> list[object]:
        """The replies to commands that are sent together."""
        try:
            self.send(b"".join(map(pack, commands)), timeout)
            return [self._receive(timeout) for _ in commands]
        except BaseException:
            self.close()
            raise

    def send(self, packed: bytes, timeout: float) -> None:
        self._wire.send(packed, self._within(timeout))

    def _within(self, timeout: float) -> float:
        """Seconds that a step may take: `timeout`, and not beyond the deadline."""
        if self.deadline is None:
            return timeout
        left = min(timeout, self.deadline - time.monotonic())
        if left <= 0:
            raise TimeoutError("the caller's time is over")
        return left

    def _receive(self, timeout: float) -> object:
        gets = self._reader.gets
        size = _BUFFER
        while (reply := gets()) is _INCOMPLETE:
            # Each call lets go of the interpreter, and may have to wait for it: few calls for a long reply.
            if self.feed(timeout, size) == size:
                size = _LARGE_BUFFER
        return reply

    def feed(self, timeout: float, size: int = _BUFFER) -> int:
        """Read what has come, waiting for it; how many bytes."""
        data = self._wire.recv(size, self._within(timeout))
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(data)
        return len(data)

    def take(self) -> object:
        """The next reply that is there already; `nothing` says if there is none."""
        return self._reader.gets()

    @staticmethod
    def nothing(reply: object) -> bool:
        return reply is _INCOMPLETE

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def buffered(self) -> bool:
        """Whether TLS holds bytes that the system's poll does not see."""
        pending = getattr(self._sock, "pending", None)
        return pending is not None and pending() > 0

    def close(self) -> None:
        if self.open:
            self.open = False
            self._connection.disconnect()  # type: ignore[no-untyped-call]

    def abandon(self) -> None:
        """Close the descriptor alone: in a forked child the conversation is the parent's."""
        if self.open:
            self.open = False
            self._sock.close()
