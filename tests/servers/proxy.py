"""A TCP proxy before a server that does to connections what networks do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

from tests.servers.link import Faults, Link, Loss, Traffic
from tests.servers.port import Port

T = TypeVar("T")


class Proxy:
    """Passes connections to its `port` on to `target_port`, both of 127.0.0.1, in a thread of its own.

    A fault holds from when its method returns. Close the proxy at the end.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self._port = Port.take()
        self._faults = Faults()
        self._traffic = Traffic()
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name=f"proxy of port {target_port}", daemon=True)
        self._thread.start()
        self._loop.result()

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    # -- what it has seen --------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many came, those refused too."""
        return self._traffic.connections

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return self._traffic.open

    @property
    def request_bytes(self) -> int:
        """What clients sent, swallowed or not."""
        return self._traffic.request_bytes

    @property
    def reply_bytes(self) -> int:
        """What the server sent, delivered or not."""
        return self._traffic.reply_bytes

    # -- the faults --------------------------------------------------------------------------

    def cut_all(self) -> int:
        """Reset every open connection; how many there were."""

        def cut() -> int:
            links = list(self._traffic.links)
            for link in links:
                link.reset()
            return len(links)

        return self._call(cut)

    def refuse(self, on: bool = True) -> None:
        """Reset new connections as they come."""
        self._set(refusing=on)

    def blackhole(self, on: bool = True) -> None:
        """Swallow the bytes of both directions; connections stay open, and new ones are accepted.

        What was swallowed never comes: a connection that lost bytes is of no use any more.
        """
        self._set(swallowing=on)

    def delay(self, seconds: float) -> None:
        """Hand every reply on `seconds` later, however many are on their way."""
        self._set(delay=seconds)

    def cut_after_reply_bytes(self, count: int) -> None:
        """Deliver `count` more bytes of replies, then reset the connection that was to get the next one."""
        self._set(reply_budget=count)

    def lose_next_reply(self, containing: bytes = b"") -> threading.Event:
        """Let the server answer the next request, and reset the client's connection when the reply is here.

        The request is the next one sent, on any connection, in one piece with `containing` in it. The event
        is set once its reply is lost: by then the server has done what it was asked.
        """
        loss = Loss(containing)
        self._set(loss=loss)
        return loss.done

    def heal(self) -> None:
        """No fault any more."""
        self._set(refusing=False, swallowing=False, delay=0.0, reply_budget=None, loss=None)

    # -- its end -----------------------------------------------------------------------------

    def close(self) -> None:
        """Reset what is open and end the thread."""
        if self._thread.is_alive():
            self._loop.result().call_soon_threadsafe(self._closing.set)
            self._thread.join()
        self._port.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        try:
            server = await loop.create_server(self._accept, "127.0.0.1", self.port, backlog=1000)
        except OSError as exc:
            self._loop.set_exception(exc)
            return
        self._loop.set_result(loop)
        await self._closing.wait()
        server.close()
        while self._traffic.links:
            for link in list(self._traffic.links):
                link.reset()
            await asyncio.sleep(0)

    def _accept(self) -> asyncio.Protocol:
        return Link(self.target_port, self._faults, self._traffic).client_end()

    def _set(self, **faults: object) -> None:
        def change() -> None:
            for name, value in faults.items():
                setattr(self._faults, name, value)

        self._call(change)

    def _call(self, function: Callable[[], T]) -> T:
        """Call it in the thread; what it closed is closed when this returns."""

        async def called() -> T:
            answer = function()
            await asyncio.sleep(0)
            return answer

        return asyncio.run_coroutine_threadsafe(called(), self._loop.result()).result()
