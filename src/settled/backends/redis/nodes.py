"""Which server of a cluster holds which key, followed as slots move and servers fail."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import hiredis
from redis.crc import key_slot

from settled.backends.redis import faults
from settled.backends.redis.client import Client
from settled.backends.redis.link import Command, Link
from settled.backends.redis.places import server_at
from settled.backends.redis.records import NO_STRING
from settled.backends.redis.scripts import Script
from settled.errors import StoreError, StoreUnavailable

Address = tuple[str, int]

REDIRECTS = 5
"""How often one command is sent on before its cluster counts as unsettled."""

_MOVED = frozenset({"MOVED", "ASK"})


class _Slots(NamedTuple):
    """Ranges of slots, by the first of each: `owners[n]` has those from `firsts[n]` to `lasts[n]`."""

    firsts: list[int]
    lasts: list[int]
    owners: list[Address]

    def owner(self, slot: int) -> Address | None:
        at = bisect_right(self.firsts, slot) - 1
        return self.owners[at] if at >= 0 and slot <= self.lasts[at] else None


class Nodes:
    """The servers of one cluster, with the calls of `Client`: the first key decides where a call goes.

    Args:
        seeds: servers to ask about the others at first.
        settings: what connections are made with, but for the address.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        settings: Mapping[str, object],
        limit: int,
        timeout: float,
        patience: Callable[[], float | None],
    ) -> None:
        self._seeds = list(seeds)
        self._asking = self._seeds
        self._settings = settings
        self._limit = limit
        self._timeout = timeout
        self._patience = patience
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[Address, Client] = {}
        self._slots: _Slots | None = None

    # -- calls -----------------------------------------------------------------------------------

    def ask(self, *command: bytes | str) -> object:
        """The reply to one command whose second word is its key."""
        return self._routed(cast("bytes", command[1]), command)

    def ask_each(self, commands: Sequence[Command]) -> list[object]:
        """The replies to commands that each have a key as their second word: one exchange with each server.

        `NO_STRING` where that key holds another type.
        """
        replies: list[object] = [None] * len(commands)
        for client, numbers in self._by_client(cast("bytes", command[1]) for command in commands).items():
            try:
                found = client.using(Link.ask_all, [commands[number] for number in numbers])
            except StoreUnavailable:
                self.forget()
                raise
            for number, reply in zip(numbers, found, strict=True):
                if type(reply) is hiredis.ReplyError and faults.word_of(reply) == "WRONGTYPE":
                    reply = NO_STRING
                elif type(reply) is hiredis.ReplyError:
                    reply = self._routed(cast("bytes", commands[number][1]), commands[number])
                replies[number] = reply
        return replies

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | str]) -> object:
        """What the script returns, run where its keys are."""
        command = (b"EVALSHA", script.digest, str(len(keys)), *keys, *args)
        try:
            return self._routed(keys[0], command)
        except StoreError as exc:
            if (
                not isinstance(exc.__cause__, hiredis.ReplyError)
                or faults.word_of(exc.__cause__) != "NOSCRIPT"
            ):
                raise
        return self._routed(keys[0], (b"EVAL", script.text, *command[2:]))

    def _routed(self, key: bytes, command: Command) -> object:
        try:
            return self._followed(self._client_of(key), key, command)
        except StoreUnavailable:
            self.forget()  # another server may have the slot by now
            raise

    def _followed(self, client: Client, key: bytes, command: Command) -> object:
        asking = False
        for _ in range(REDIRECTS):
            if asking:
                reply = client.using(Link.ask_all, [(b"ASKING",), command])[1]
            else:
                reply = client.using(Link.ask, command)
            if type(reply) is not hiredis.ReplyError or faults.word_of(reply) not in _MOVED:
                return client.checked(reply, (key,))
            word, _, address = str(reply).split(" ")[:3]
            asking = word == "ASK"
            if not asking:
                self.forget()
            client = self._client_at(_address(address, client))
        raise StoreUnavailable(f"the slot of {key!r:.80} was sent from server to server {REDIRECTS} times")

    # -- where things are --------------------------------------------------------------------------

    def masters(self) -> list[Client]:
        """A client of each server that has slots."""
        return [self._client_at(address) for address in dict.fromkeys(self._known().owners)]

    def by_master(self, keys: Iterable[bytes]) -> dict[Client, list[bytes]]:
        """The keys by the server that holds them."""
        listed = list(keys)
        return {
            client: [listed[number] for number in numbers]
            for client, numbers in self._by_client(listed).items()
        }

    def forget(self) -> None:
        """Ask anew where the slots are, at the next use."""
        self._slots = None

    def _by_client(self, keys: Iterable[bytes]) -> dict[Client, list[int]]:
        found: dict[Client, list[int]] = {}
        for number, key in enumerate(keys):
            found.setdefault(self._client_of(key), []).append(number)
        return found

    def _client_of(self, key: bytes) -> Client:
        slot = key_slot(key)
        owner = self._known().owner(slot)
        if owner is None:
            self.forget()
            raise StoreUnavailable(f"no server of the cluster has slot {slot}")
        return self._client_at(owner)

    def _client_at(self, address: Address) -> Client:
        with self._lock:
            client = self._clients.get(address)
            if client is None:
                place = server_at(self._settings, *address)
                client = self._clients[address] = Client(place, self._limit, self._timeout, self._patience)
            return client

    def _known(self) -> _Slots:
        slots = self._slots
        if slots is None:
            slots = self._slots = self._asked()
            self._let_go(frozenset(slots.owners))
        return slots

    def _let_go(self, owners: Collection[Address]) -> None:
        """Close the connections to servers that have no slots any more."""
        with self._lock:
            gone = [self._clients.pop(address) for address in [*self._clients] if address not in owners]
        for client in gone:
            client.close()

    def _asked(self) -> _Slots:
        """Where the slots are, from the first server that tells: it is the first to be asked again."""
        error: StoreError | None = None
        known = dict.fromkeys([*self._asking, *self._clients])
        for address in known:
            client = self._client_at(address)
            try:
                slots = _slots_of(client.ask(b"CLUSTER", b"SLOTS"), client)
            except StoreUnavailable as exc:
                error = exc
            else:
                self._asking = [address, *(each for each in known if each != address)]
                return slots
        shown = ", ".join(f"{host}:{port}" for host, port in self._seeds)
        raise StoreUnavailable(f"no server of the cluster at {shown} can be reached: {error}") from error

    # -- life ----------------------------------------------------------------------------------

    def close(self) -> None:
        for client in list(self._clients.values()):
            client.close()

    def forked(self) -> None:
        """In a forked child: leave the parent's connections to it."""
        for client in list(self._clients.values()):
            client.forked()
        self._reset()


def _slots_of(answer: object, client: Client) -> _Slots:
    ranges = sorted(cast("list[list[object]]", answer))
    firsts, lasts, owners = [], [], []
    for first, last, owner, *_ in ranges:
        host, port = cast("list[object]", owner)[:2]
        firsts.append(cast("int", first))
        lasts.append(cast("int", last))
        # A server that does not know its own name is the one that was asked.
        name = cast("bytes", host or b"").decode() or client.server.rpartition(":")[0]
        owners.append((name, cast("int", port)))
    if not firsts:
        raise StoreUnavailable(f"{client.server} knows of no slots: the cluster is not formed yet")
    return _Slots(firsts, lasts, owners)


def _address(text: str, client: Client) -> Address:
    host, _, port = text.rpartition(":")
    return host or client.server.rpartition(":")[0], int(port)
