"""One connection through the proxy: the client's, and the one to the server that belongs to it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

AT_ONCE = struct.pack("ii", 1, 0)
"""As SO_LINGER: to close is to reset."""

INSTANT = 1e-6
"""Seconds between replies that are due at the same time, which keeps their order."""


class Loss:
    """A reply that is to be lost: that to the first request with `containing` in it."""

    def __init__(self, containing: bytes) -> None:
        self.containing = containing
        self.link: Link | None = None
        self.done = threading.Event()


@dataclass(slots=True)
class Faults:
    """What is wrong now."""

    refusing: bool = False
    swallowing: bool = False
    delay: float = 0.0
    reply_budget: int | None = None
    loss: Loss | None = None


@dataclass(slots=True)
class Traffic:
    """What the proxy has seen, and what is open."""

    connections: int = 0
    open: int = 0
    request_bytes: int = 0
    reply_bytes: int = 0
    links: set[Link] = field(default_factory=set)


class Link:
    """Lives in the proxy's loop, in `traffic.links` while one of its ends is open."""

    def __init__(self, target_port: int, faults: Faults, traffic: Traffic) -> None:
        self._target_port = target_port
        self._faults = faults
        self._traffic = traffic
        self._loop = asyncio.get_running_loop()
        self._client: asyncio.Transport | None = None
        self._client_open = True
        self._server: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._due = 0.0

    def client_end(self) -> asyncio.Protocol:
        """What serves the client's connection."""
        return _End(self._accepted, self._asked, self._client_left)

    def reset(self) -> None:
        """Reset the client's connection and end the server's."""
        for transport in (self._client, self._server):
            if transport is not None and not transport.is_closing():
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                transport.abort()

    # -- the client's side -------------------------------------------------------------------

    def _accepted(self, transport: asyncio.Transport) -> None:
        self._client = transport
        self._traffic.connections += 1
        self._traffic.open += 1
        self._traffic.links.add(self)
        if self._faults.refusing:
            self.reset()
            return
        transport.pause_reading()
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        assert self._client is not None
        try:
            await self._loop.create_connection(
                lambda: _End(self._connected, self._replied, self._server_left),
                "127.0.0.1",
                self._target_port,
            )
        except OSError:
            self.reset()

    def _connected(self, transport: asyncio.Transport) -> None:
        assert self._client is not None
        self._server = transport
        self._traffic.links.add(self)
        if self._client.is_closing():
            transport.abort()
        else:
            self._client.resume_reading()

    def _asked(self, data: bytes) -> None:
        self._traffic.request_bytes += len(data)
        if self._faults.swallowing or self._server is None:
            return
        loss = self._faults.loss
        if loss is not None and loss.link is None and loss.containing in data:
            loss.link = self
        self._server.write(data)

    def _client_left(self) -> None:
        self._client_open = False
        self._traffic.open -= 1
        loss = self._faults.loss
        if loss is not None and loss.link is self:
            loss.link = None
        if self._server is None:
            self._traffic.links.discard(self)
        else:
            self._server.close()

    # -- the server's side -------------------------------------------------------------------

    def _replied(self, data: bytes) -> None:
        assert self._client is not None
        self._traffic.reply_bytes += len(data)
        faults = self._faults
        if faults.swallowing:
            return
        if faults.loss is not None and faults.loss.link is self:
            faults.loss.done.set()
            faults.loss = None
            self.reset()
        elif faults.reply_budget is None:
            self._deliver(data)
        elif len(data) <= faults.reply_budget:
            faults.reply_budget -= len(data)
            self._deliver(data)
        else:
            self._client.write(data[: faults.reply_budget])
            faults.reply_budget = None
            self.reset()

    def _deliver(self, data: bytes) -> None:
        client = cast("asyncio.Transport", self._client)
        self._later(lambda: client.write(data))

    def _server_left(self) -> None:
        client = cast("asyncio.Transport", self._client)
        self._server = None
        if not self._client_open:
            self._traffic.links.discard(self)
        elif not self._faults.swallowing:
            self._later(client.close)

    def _later(self, action: Callable[[], None]) -> None:
        """Do it after the delay, and after all that was to be done before."""
        now = self._loop.time()
        if not self._faults.delay and self._due < now:
            action()
            return
        self._due = max(now + self._faults.delay, self._due + INSTANT)
        self._loop.call_at(self._due, action)


class _End(asyncio.Protocol):
    """One end of a link: tells of its connection, its bytes and its end."""

    def __init__(
        self,
        made: Callable[[asyncio.Transport], None],
        received: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self._made = made
        self._received = received
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
