"""Commands and scripts on one server: the pool, the deadline, and errors as ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import hiredis

from settled.backends.redis import faults
from settled.backends.redis.link import Command, Link
from settled.backends.redis.places import Place
from settled.backends.redis.pool import Pool
from settled.backends.redis.scripts import Script
from settled.errors import StoreUnavailable

T = TypeVar("T")
R = TypeVar("R")


class Client:
    """What this process asks of one server. Thread-safe; nothing is open until the first use.

    Args:
        timeout: seconds that one answer may take.
        patience: seconds that the calling thread may still take, or None: see `Engine.time_left`.

    Every call raises StoreUnavailable for what may pass and StoreError for what will not.
    """

    def __init__(
        self, place: Place, limit: int, timeout: float, patience: Callable[[], float | None]
    ) -> None:
        self._place = place
        self._limit = limit
        self._timeout = timeout
        self._patience = patience
        self._pool = Pool(place.connect, limit)

    def ask(self, *command: bytes | str) -> object:
        """The reply to one command."""
        return self.checked(self.using(Link.ask, command), cast("tuple[bytes, ...]", command[1:2]))

    def ask_all(self, commands: Sequence[Command]) -> list[object]:
        """The replies to commands that are sent together; raises for the first that is an error."""
        replies: list[object] = self.using(Link.ask_all, commands)
        return [self.checked(reply) for reply in replies]

    def run(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[bytes | str],
        named: Sequence[bytes] = (),
    ) -> object:
        """What the script returns. The server is given its text when it does not know it.

        `named` are the keys that an error is about, if not these.
        """
        reply = self.using(Link.ask, (b"EVALSHA", script.digest, str(len(keys)), *keys, *args))
        if type(reply) is hiredis.ReplyError and faults.word_of(reply) == "NOSCRIPT":
            reply = self.using(Link.ask, (b"EVAL", script.text, str(len(keys)), *keys, *args))
        return self.checked(reply, named or keys)

    def using(self, talk: Callable[[Link, T, float], R], what: T) -> R:
        """One exchange on a connection of the pool; error replies are returned."""
        patience = self._patience()
        deadline = None if patience is None else time.monotonic() + patience
        timeout = self._timeout if patience is None else min(self._timeout, max(patience, 0.001))
        pool = self._pool
        link = pool.take(timeout)
        try:
            link.deadline = deadline
            return talk(link, what, timeout)
        except (OSError, hiredis.HiredisError) as exc:
            if not isinstance(exc, TimeoutError) or timeout >= self._timeout:  # else it was the caller's own
                pool.drop()
            raise faults.lost(exc, link.server) from exc
        finally:
            pool.give(link)

    def checked(self, reply: object, keys: Sequence[bytes] = ()) -> object:
        """The reply, raised if it is an error: about these keys."""
        if type(reply) is hiredis.ReplyError:
            error = faults.reply_error(reply, self.server, keys)
            if isinstance(error, StoreUnavailable) and faults.word_of(reply) in faults.STALE:
                self._pool.drop()  # with Sentinel another server is the master by now
            raise error from reply
        return reply

    @property
    def server(self) -> str:
        return self._place.server

    def connect(self, timeout: float | None = None) -> Link:
        """A connection of the caller's own, beside the pool."""
        return self._place.connect(timeout or self._timeout)

    def close(self) -> None:
        """Close every idle connection, and those in use when they are given back."""
        self._pool.drop()

    def forked(self) -> None:
        """In a forked child: leave the parent's connections to it."""
        self._pool.abandon()
        self._pool = Pool(self._place.connect, self._limit)
