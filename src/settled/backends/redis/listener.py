"""Push: subscribed connections, one for each server, for everyone who waits in this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

import hiredis

from settled.backends.redis import faults
from settled.backends.redis.keys import Keys
from settled.backends.redis.link import Command, Link, pack
from settled.errors import SettledError, StoreUnavailable
from settled.listening import Readable

BATCH = 1000
"""Channels in one command."""

HEARTBEAT = 10.0
"""Seconds of silence after which a server is asked whether it is still there."""

_MESSAGES = frozenset({b"message", b"smessage"})
_CONFIRMED = frozenset({b"subscribe", b"ssubscribe"})
_RELEASED = frozenset({b"unsubscribe", b"sunsubscribe"})

Share = Callable[[Sequence[bytes]], "dict[Link, list[bytes]]"]
"""Channels by the connection on which they are heard."""


class RedisListener:
    """Hears of the writes of awaited tasks, on the channels that are named as their records.

    Listening has begun when the server has confirmed it. A message says only which task to look at: what
    stands in it is never read.

    Args:
        links: connections of its own, one for each server.
        share: which channel is heard on which of them.
        sharded: channels are those of a cluster's slots, and move with them.
        timeout: seconds that a server may take to confirm.
    """

    def __init__(
        self, links: Sequence[Link], share: Share, keys: Keys, *, sharded: bool, timeout: float
    ) -> None:
        self._links = {link.fileno(): _Line(link) for link in links}
        self._share = share
        self._keys = keys
        self._sharded = sharded
        self._timeout = timeout
        self._watched: set[str] = set()
        self._heard: set[str] = set()
        self._waker, self._wakened = socket.socketpair()
        self._wakened.setblocking(False)
        self._waker.setblocking(False)
        self._readable = Readable((*self._links, self._wakened.fileno()))
        self._closing = threading.Lock()
        self.open = True

    # -- what the watcher calls ------------------------------------------------------------------

    def watch(self, task_ids: Iterable[str]) -> None:
        fresh = [task_id for task_id in task_ids if task_id not in self._watched]
        self._watched.update(fresh)
        for line, channels in self._lines(fresh).items():
            for start in range(0, len(channels), BATCH):
                self._subscribe(line, channels[start : start + BATCH])

    def _subscribe(self, line: _Line, channels: Sequence[bytes]) -> None:
        """So many at a time: a server closes a connection on which too many confirmations wait to be read."""
        self._send(line, self._commands(b"SUBSCRIBE", channels))
        line.unconfirmed += len(channels)
        deadline = time.monotonic() + self._timeout
        while line.unconfirmed > 0:
            self._receive(line, max(0.001, deadline - time.monotonic()))

    def unwatch(self, task_ids: Iterable[str]) -> None:
        gone = [task_id for task_id in task_ids if task_id in self._watched]
        self._watched.difference_update(gone)
        for line, channels in self._lines(gone).items():
            self._send(line, self._commands(b"UNSUBSCRIBE", channels))
            line.unreleased += len(channels)

    def wait(self, timeout: float) -> Collection[str]:
        deadline = time.monotonic() + timeout
        while True:
            if self._heard:
                heard, self._heard = self._heard, set()
                return heard
            left = deadline - time.monotonic()
            if left <= 0 or self._rest(left):
                return ()

    def wake(self) -> None:
        with self._closing:
            if self.open:
                with suppress(BlockingIOError):  # so many are under way already that one more changes nothing
                    self._waker.send(b"w")

    def close(self) -> None:
        with self._closing:
            if self.open:
                self.open = False
                for line in self._links.values():
                    line.link.close()
                self._waker.close()
                self._wakened.close()

    def abandon(self) -> None:
        """In a forked child: close the descriptors alone. The lock may be held by a thread that is not here."""
        for line in self._links.values():
            line.link.abandon()
        self._waker.close()
        self._wakened.close()

    # -- the connections -------------------------------------------------------------------------

    def _lines(self, task_ids: Iterable[str]) -> dict[_Line, list[bytes]]:
        shares = self._share([self._keys.task(task_id) for task_id in task_ids])
        return {self._links[link.fileno()]: channels for link, channels in shares.items()}

    def _commands(self, verb: bytes, channels: Sequence[bytes]) -> list[Command]:
        if self._sharded:  # those of several slots may not stand in one command
            return [(b"S" + verb, channel) for channel in channels]
        return [(verb, *channels[start : start + BATCH]) for start in range(0, len(channels), BATCH)]

    def _send(self, line: _Line, commands: Sequence[Command]) -> None:
        try:
            line.link.send(b"".join(map(pack, commands)), self._timeout)
        except OSError as exc:
            raise faults.lost(exc, line.link.server) from exc

    def _rest(self, left: float) -> bool:
        """Wait until something has come; whether `wake` was called."""
        pause = min([left, *(self._heartbeat(line) for line in self._links.values())])
        buffered = any(line.link.buffered for line in self._links.values())
        ready = self._readable.wait(0 if buffered else max(0.001, pause))
        for fileno, line in self._links.items():
            if fileno in ready or line.link.buffered:
                self._receive(line, self._timeout)
        if self._wakened.fileno() not in ready:
            return False
        self._wakened.recv(4096)
        return True

    def _heartbeat(self, line: _Line) -> float:
        """See that the server is still there; seconds until that is to be done again."""
        patience = HEARTBEAT + (self._timeout if line.asked else 0.0)
        left = line.last + patience - time.monotonic()
        if left > 0:
            return left
        if line.asked:
            raise faults.lost(TimeoutError(), line.link.server)
        line.asked = True
        self._send(line, [(b"PING",)])
        return self._timeout

    def _receive(self, line: _Line, timeout: float) -> None:
        """Read what comes next, and take it in."""
        link = line.link
        try:
            link.feed(timeout)
            line.last = time.monotonic()
            line.asked = False
            while not link.nothing(reply := link.take()):
                self._take(line, reply)
        except (OSError, hiredis.HiredisError) as exc:
            raise faults.lost(exc, link.server) from exc

    def _take(self, line: _Line, reply: object) -> None:
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused(line, reply) from reply
        if not isinstance(reply, list) or len(reply) < 2:
            return
        kind, channel = reply[0], reply[1]
        if kind in _MESSAGES and isinstance(channel, bytes):
            self._heard.add(self._keys.task_id(channel))
        elif kind in _CONFIRMED:
            line.unconfirmed -= 1
        elif kind in _RELEASED:
            line.unreleased -= 1
            if line.unreleased < 0:
                raise StoreUnavailable(f"{line.link.server}: a slot has moved: listening anew")

    @staticmethod
    def _refused(line: _Line, reply: hiredis.ReplyError) -> SettledError:
        if faults.word_of(reply) == "MOVED":
            return StoreUnavailable(f"{line.link.server}: a slot has moved: listening anew")
        return faults.reply_error(reply, line.link.server)


class _Line:
    """One connection, and what is still to come on it."""

    __slots__ = ("asked", "last", "link", "unconfirmed", "unreleased")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.unconfirmed = 0
        self.unreleased = 0
        self.last = time.monotonic()
        self.asked = False
