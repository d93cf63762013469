"""The engine: each hook is one exchange with the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, cast

import hiredis

from settled.backends.base import BaseBackend
from settled.backends.engine import Listener
from settled.backends.keyvalue import head_of
from settled.backends.protocols import Application, in_seconds, setting
from settled.backends.redis import faults, listing
from settled.backends.redis.chords import Chords, part_args
from settled.backends.redis.client import Client
from settled.backends.redis.keys import Keys
from settled.backends.redis.link import Link
from settled.backends.redis.listener import RedisListener
from settled.backends.redis.listing import Index
from settled.backends.redis.parts import Kept, Parts, life_of
from settled.backends.redis.places import OPTIONS, place_of
from settled.backends.redis.records import NO_STRING, Head, lifetime, milliseconds, seen
from settled.backends.redis.scripts import script
from settled.backends.writing import KEEPING_OPTIONS
from settled.errors import CorruptRecord, StoreError
from settled.record import Capabilities, Chord, ChordState, Claim, Gone, Meta, Query, Row, Settle, Settled
from settled.states import FAILURE, READY_STATES
from settled.url import switch

MAX_VALUE = 512 * 1024 * 1024
"""Bytes in one value: at more the server closes the connection without a word."""

NOTHING_SEEN = ("", "", "0")


def _kept(conf: object, expires: float | None) -> Kept:
    """How Celery's workers keep parts, by its settings: it can be told to keep no places."""
    options = setting(conf, "result_backend_transport_options", {})
    listed = isinstance(options, Mapping) and not options.get("result_chord_ordered", True)
    life = in_seconds(setting(conf, "result_chord_expires"), "result_chord_expires")
    return Kept(listed, life_of(expires if life is None else life))


class RedisBackend(BaseBackend):
    """The result backend in Redis or Valkey, under the keys and by the rules of Celery's own.

    Options of the URL, or keywords:
        prefix: begins every key and channel; Celery's `global_keyprefix`.
        max_connections: in the pool of this process, default 10: more threads take turns. One more is
            used for waiting.
        socket_timeout, socket_connect_timeout: seconds that an answer, a connection may take. Default 5.
        db: the database's number, where the path of the URL cannot name it (unix://).
        outbox: bytes of results that this process keeps in memory while the store is away, default 16 MiB;
            what is beyond goes to files in the folder `spool`.
        index: keep an index, so that listing need not look at every key. It lists what was written with it.
        client_name: shown by CLIENT LIST.
        master_name: of the service that Sentinel watches, default "mymaster"; with sentinel_username and
            sentinel_password where the Sentinels themselves want them.
        ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs ("required", "optional", "none"),
            ssl_check_hostname: with rediss:// and its like.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        guarded=True,
        atomic=True,
        chords=True,
        leases=True,
        shared=True,
        durable=True,
        push=True,
        queries=True,
        expiry="store",
        keeps=True,
    )
    default_url = "redis://localhost:6379/0"
    url_options: ClassVar[Mapping[str, Callable[[object], object]]] = {
        **OPTIONS,
        **KEEPING_OPTIONS,
        "prefix": str,
        "index": switch,
    }

    def __init__(
        self,
        app: Application,
        serializer: str | None = None,
        max_cached_results: int | None = None,
        accept: Iterable[str] | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(app, serializer, max_cached_results, accept, **kwargs)
        self._keys = self._name_keys()
        self._timeout = cast("float", self.options.get("socket_timeout", 5.0))
        self._limit = cast("int", self.options.get("max_connections", 10))
        self._client = self._open_client()
        # The workers of an app with a message queue may be Celery's own, who count by Celery's keys.
        self._shares_chords = hasattr(app, "amqp")
        self._kept = _kept(app.conf, self.expires)
        self._parts = Parts(self._client, self._keys, self, self._kept)
        self._chords = self._open_chords()
        self._index = Index(self._client, self._keys, self.call) if self.options.get("index") else None
        self.stamps_writes = self._index is None
        self._listeners: list[RedisListener] = []

    # -- what is otherwise in a cluster ------------------------------------------------------------

    def _name_keys(self) -> Keys:
        return Keys(str(self.options.get("prefix", "")))

    def _open_client(self) -> Client:
        place = place_of(self.location, self.options)
        return Client(place, self._limit, self._timeout, self.time_left)

    def _open_chords(self) -> Chords:
        return Chords(
            self._client,
            self._keys,
            self._heads,
            apart=False,
            shared=self._shares_chords,
            parts=self._parts,
        )

    def _new_listener(self) -> RedisListener:
        link = self._client.connect()

        def share(channels: Sequence[bytes]) -> dict[Link, list[bytes]]:
            return {link: list(channels)} if channels else {}

        return RedisListener([link], share, self._keys, sharded=False, timeout=self._timeout)

    # -- records -----------------------------------------------------------------------------

    def do_settle(self, write: Settle) -> Settled:
        if len(write.payload) > MAX_VALUE:
            raise StoreError(
                f"the record of task {write.task_id!r} has {len(write.payload):,} bytes, and {self.url} takes at most "
                f"{MAX_VALUE:,}: store the value elsewhere and its address here"
            )
        told: tuple[str, str, str] = NOTHING_SEEN
        while True:
            answer = self._settle_once(write, told)
            if type(answer) is not list or len(answer) != 1:
                break
            told = seen(answer[0] or b"", self._peek)
        if answer == 1:
            return Settled(True, write.state)
        if type(answer) is bytes:
            return Settled(False, answer.decode())
        landed, state, claimed, *unkept = cast("list[int | bytes]", answer)
        if unkept and write.part is not None:
            part = write.part
            claimed = self._parts.keep(part.group_id, write.task_id, part.place, write.claim) or claimed
        return Settled(landed == 1, cast("bytes", state).decode(), claimed == 1)

    def _settle_once(self, write: Settle, told: tuple[str, str, str]) -> object:
        given = (write.payload, write.state, str(write.attempt), lifetime(write.expires), *told)
        return self._settle_by(write, given)

    def _settle_by(self, write: Settle, given: tuple[bytes | str, ...]) -> object:
        """The answer of the script that settles this write."""
        key = self._keys.task(write.task_id)
        if write.part is None and self._index is None:
            return self._client.run(script("settle"), (key,), given)
        keys, more = part_args(self._keys, write, self._kept)
        if self._index is None:
            return self._client.run(script("settle_part"), (key, *keys), given + more)
        given += more + self._index.args(write)
        named = (key, *keys[:1], self._keys.index_prefix)
        return self._client.run(script("settle_indexed"), (key, *keys), given, named)

    def _peek(self, payload: bytes) -> tuple[str | None, int]:
        return head_of(payload, self.decode)

    def _heads(self, task_ids: Sequence[str]) -> dict[str, Head]:
        """State and time to live of these records, read by this client."""
        found: dict[str, Head] = {}
        payloads = self._payloads(task_ids)
        for task_id in task_ids:
            if task_id not in payloads:  # perhaps its key holds another type: only a look at it alone tells
                payloads |= self._payloads((task_id,))
        for task_id, payload in payloads.items():
            state, attempt = self._peek(payload)
            state = state or FAILURE  # one that is damaged counts as failed, so that nobody waits for it
            left = -1 if state in READY_STATES else self._client.ask(b"PTTL", self._keys.task(task_id))
            found[task_id] = Head(state, attempt, cast("int", left))
        return found

    def do_read(self, task_ids: Sequence[str]) -> Mapping[str, bytes | str | Gone]:
        return self._payloads(task_ids)

    def _payloads(self, task_ids: Sequence[str]) -> dict[str, bytes]:
        if len(task_ids) == 1:
            payload = self._payload(self._keys.task(task_ids[0]))
            return {} if payload is None else {task_ids[0]: payload}
        if not task_ids:
            return {}
        values = cast("list[bytes | None]", self._client.ask(b"MGET", *map(self._keys.task, task_ids)))
        return {task_id: value for task_id, value in zip(task_ids, values, strict=True) if value is not None}

    def _payload(self, key: bytes) -> bytes | None:
        """One record: of many, MGET says of those that hold another type that there is none."""
        reply = self._client.using(Link.ask, (b"GET", key))
        if type(reply) is hiredis.ReplyError and faults.word_of(reply) == "WRONGTYPE":
            return NO_STRING
        return cast("bytes | None", self._client.checked(reply, (key,)))

    def read_meta(self, task_id: str, payload: bytes | str) -> Meta:
        if payload is NO_STRING:
            raise CorruptRecord(
                f"task {task_id!r}: its key holds something that is not ours, no string: forget it, or give "
                "settled a prefix or a database of its own"
            )
        return super().read_meta(task_id, payload)

    def do_forget(self, task_ids: Sequence[str]) -> None:
        if task_ids and self._index is not None:
            self._index.forget(task_ids)
        elif task_ids:
            self._client.ask(b"UNLINK", *map(self._keys.task, task_ids))

    def do_query(self, query: Query) -> Iterator[Row]:
        if self._index is not None:
            return self._index.rows(query)
        return listing.scanned((self._client,), self._keys, query, self.read_meta, self._payloads)

    # -- groups ------------------------------------------------------------------------------

    def do_write_group(self, group_id: str, payload: bytes, expires: float | None) -> None:
        life = lifetime(expires)
        options = (b"PX", life) if life else ()
        self._client.ask(b"SET", self._keys.group(group_id), payload, *options)

    def do_read_group(self, group_id: str) -> bytes | None:
        return cast("bytes | None", self._client.ask(b"GET", self._keys.group(group_id)))

    def do_delete_group(self, group_id: str) -> None:
        self._client.ask(b"DEL", self._keys.group(group_id))

    # -- chords ------------------------------------------------------------------------------

    def part_value(self, task_id: str, status: str, result: object) -> bytes | None:
        return self.encode([1, task_id, status, result]) if self._shares_chords else None

    def do_open_chord(self, chord: Chord, claim: Claim | None) -> bool:
        return self._chords.open(chord, claim)

    def do_grow_chord(self, group_id: str, members: Sequence[str]) -> int | None:
        return self._chords.grow(group_id, members)

    def do_adopt_chord(self, chord: Chord) -> None:
        self._parts.adopt(chord)

    def do_size_chord(self, group_id: str, size: int) -> None:
        self._parts.size(group_id, size)

    def do_read_parts(self, group_id: str) -> Mapping[str, Meta]:
        return self._parts.metas(group_id)

    def do_read_chord(self, group_id: str) -> ChordState | None:
        return self._chords.read(group_id)

    def do_count_parts(self, group_id: str, task_ids: Sequence[str] | None, claim: Claim | None) -> bool:
        return self._chords.count(group_id, task_ids, claim)

    def do_claim_chord(self, group_id: str, claim: Claim) -> bool:
        return self._chords.claim(group_id, claim)

    def do_finish_chord(self, group_id: str) -> None:
        self._chords.finish(group_id)

    def do_due_chords(self, limit: int) -> Sequence[str]:
        return self._chords.due(limit)

    def do_delete_chord(self, group_id: str) -> None:
        self._chords.delete(group_id)

    # -- leases, push, life --------------------------------------------------------------------

    def do_lease(self, names: Sequence[str], token: str, seconds: float) -> frozenset[str]:
        if not names:
            return frozenset()
        given = (token, milliseconds(seconds) if seconds > 0 else "0")
        held = cast("list[int]", self._client.run(script("lease"), [*map(self._keys.lease, names)], given))
        return frozenset(names[number - 1] for number in held)

    def do_listen(self) -> Listener:
        self.check_fork()  # what is opened here must not be taken for the parent's
        listener = self._new_listener()
        self._listeners = [each for each in self._listeners if each.open] + [listener]
        return listener

    def do_close(self) -> None:
        self._client.close()

    def do_forked(self) -> None:
        self._client.forked()
        for listener in self._listeners:
            listener.abandon()
        self._listeners = []
