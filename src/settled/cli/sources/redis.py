"""The store of Celery's redis backend: keys `celery-task-meta-ID`, and `celery-taskset-meta-ID` for groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import hiredis

from settled.backends.redis import faults
from settled.backends.redis.client import Client
from settled.backends.redis.link import Link
from settled.backends.redis.places import OPTIONS, place_of
from settled.cli.sources import Batch, Options
from settled.cli.sources.form import CHUNK, Stored, Unreadable, from_payload
from settled.cli.sources.keys import CHORD_SIZE, is_chord_key, key_prefixes
from settled.errors import CorruptRecord
from settled.url import parse, read_options

STEP = 500
"""Keys that the server looks at in one go."""

TIMEOUT = 30.0
"""Seconds for an answer: a busy server may take its time."""

GONE = -2
FOR_EVER = -1

OF_THE_CLIENT = frozenset(
    "retry_on_timeout socket_keepalive health_check_interval protocol encoding decode_responses".split()
)
"""Options of Celery's URLs that say nothing of where the store is."""


class RedisSource:
    """Looks at every key once, in bounded steps between which other clients get their turns."""

    path = None

    def __init__(self, url: str, options: Options) -> None:
        location = parse(_as_ours(url))
        known = {name: value for name, value in location.options.items() if name not in OF_THE_CLIENT}
        given = read_options(known, OPTIONS, f"{location.scheme}://")
        timeout = cast("float", given.get("socket_timeout", TIMEOUT))
        self._client = Client(place_of(location, given), 1, timeout, lambda: None)
        self._prefixes = key_prefixes(options.prefix)
        self._accept = options.accept
        self.chords = 0

    def batches(self) -> Iterator[Batch]:
        for prefix, group in ((self._prefixes.task, False), (self._prefixes.group, True)):
            for keys in self._keys(prefix.encode()):
                yield from self._read(keys, len(prefix.encode()), group)

    def close(self) -> None:
        self._client.close()

    def _keys(self, prefix: bytes) -> Iterator[list[bytes]]:
        """All keys that begin so, each once: SCAN may name one twice."""
        pattern = b"".join(_literal(byte) for byte in prefix) + b"*"
        seen: set[bytes] = set()
        cursor = b"0"
        while True:
            answer = self._client.ask(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", str(STEP))
            cursor, found = cast("tuple[bytes, list[bytes]]", answer)
            fresh = [key for key in dict.fromkeys(found) if key not in seen]
            seen.update(fresh)
            if fresh:
                yield fresh
            if cursor == b"0":
                return

    def _read(self, keys: Sequence[bytes], skip: int, group: bool) -> Iterator[Batch]:
        """What these keys hold, no more than a few megabytes at a time."""
        asked = [command for key in keys for command in ((b"STRLEN", key), (b"PTTL", key))]
        replies = self._client.using(Link.ask_all, asked)
        wrong: list[Unreadable] = []
        chunk: list[tuple[bytes, int]] = []
        held = 0
        for key, size, left in zip(keys, replies[::2], replies[1::2], strict=True):
            if isinstance(size, hiredis.ReplyError) and faults.word_of(size) == "WRONGTYPE":
                wrong += self._no_string(key, skip, group)
                continue
            length = cast("int", self._client.checked(size, (key,)))
            if chunk and held + length > CHUNK:
                yield self._values(chunk, skip, group)
                chunk, held = [], 0
            chunk.append((key, cast("int", self._client.checked(left, (key,)))))
            held += length
        if chunk:
            yield self._values(chunk, skip, group)
        yield wrong

    def _values(self, keys: Sequence[tuple[bytes, int]], skip: int, group: bool) -> Batch:
        values = cast("list[bytes | None]", self._client.ask(b"MGET", *(key for key, _ in keys)))
        found: list[Stored | Unreadable] = []
        for (key, left), payload in zip(keys, values, strict=True):
            if payload is None or left in (0, GONE):
                continue  # it has expired, or was forgotten, meanwhile
            name = _text(key[skip:])
            item = from_payload(name, group, payload, None if left == FOR_EVER else left / 1000, self._accept)
            if group and is_chord_key(name) and isinstance(item, Unreadable):
                self.chords += name.endswith(CHORD_SIZE)
            else:
                found.append(item)
        return found

    def _no_string(self, key: bytes, skip: int, group: bool) -> list[Unreadable]:
        name = _text(key[skip:])
        if group and is_chord_key(name):
            return []
        return [Unreadable(name, group, CorruptRecord("its key holds something that is no string"))]


def _as_ours(url: str) -> str:
    """Celery's way to write the path of a socket in ours."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() in ("socket", "redis+socket"):
        return f"unix://{rest.replace('virtual_host=', 'db=')}"
    return url


def _literal(byte: int) -> bytes:
    """A byte as a pattern that it alone matches."""
    return b"\\" + bytes([byte]) if byte in b"*?[]^\\" else bytes([byte])


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
