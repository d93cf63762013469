"""The engine: each hook is one step on the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, cast

from settled.backends.base import BaseBackend
from settled.backends.engine import Listener
from settled.backends.protocols import Application
from settled.backends.sqlite import chords, cleanup, groups, leases, listener, listing, opening, records
from settled.backends.sqlite.store import Store
from settled.record import Capabilities, Chord, ChordState, Claim, Gone, Query, Row, Settle, Settled
from settled.url import count, one_of, seconds


class SQLiteBackend(BaseBackend):
    """The result backend in one SQLite file, shared by the processes of one machine.

    Options of the URL, or keywords:
        durability: "normal" (default): a result survives the process at once, and a power cut once
            the log was copied into the file; "full": a power cut too, at the price of an fsync a write.
        busy_timeout: seconds to wait for other writers before StoreUnavailable. Default 5.
        readers: connections that read, per process. Default 8; more threads take turns.
        push: "auto" (default): be told by the system where it can; "poll": look every 1 to 50 ms.
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
        expiry="cleanup",
        tombstones=True,
        columns=True,
    )
    default_url = "sqlite:///settled.db"
    url_options: ClassVar[Mapping[str, Callable[[object], object]]] = {
        "durability": one_of("normal", "full"),
        "busy_timeout": seconds,
        "readers": count,
        "push": one_of("auto", "poll"),
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
        self._store = Store(
            opening.path_of(self.location),
            durability=cast(str, self.options.get("durability", "normal")),
            busy_timeout=cast(float, self.options.get("busy_timeout", 5.0)),
            readers=cast(int, self.options.get("readers", 8)),
        )

    @property
    def path(self) -> str:
        """The absolute path of the file."""
        return self._store.path

    # -- records -----------------------------------------------------------------------------

    def do_settle(self, write: Settle) -> Settled:
        now = self.clock()
        if write.part is not None:
            return self._store.write(chords.settle, write, now)
        settled = self._store.write_alone(records.settle, write, now)
        return self._store.write(records.settle_anew, write, now) if settled is None else settled

    def do_read(self, task_ids: Sequence[str]) -> Mapping[str, bytes | str | Gone]:
        if len(task_ids) == 1:
            return self._store.read(records.read, task_ids[0], self.clock())
        return self._store.read(records.read_many, task_ids, self.clock())

    def do_forget(self, task_ids: Sequence[str]) -> None:
        self._store.write_alone(records.forget, task_ids, self.clock())

    def do_query(self, query: Query) -> Iterator[Row]:
        return listing.rows(self._store, query, self.clock())

    def do_cleanup(self, limit: int) -> int:
        return cleanup.cleanup(self._store, limit, self.clock())

    # -- groups ------------------------------------------------------------------------------

    def do_write_group(self, group_id: str, payload: bytes, expires: float | None) -> None:
        column = records.as_column(payload)
        self._store.write_alone(groups.write_group, group_id, column, expires, self.clock())

    def do_read_group(self, group_id: str) -> bytes | str | None:
        return self._store.read(groups.read_group, group_id, self.clock())

    def do_delete_group(self, group_id: str) -> None:
        self._store.write_alone(groups.delete_group, group_id)

    # -- chords ------------------------------------------------------------------------------

    def do_open_chord(self, chord: Chord, claim: Claim | None) -> bool:
        return self._store.write(chords.open_chord, chord, claim, self.clock())

    def do_grow_chord(self, group_id: str, members: Sequence[str]) -> int | None:
        return self._store.write(chords.grow_chord, group_id, members, self.clock())

    def do_read_chord(self, group_id: str) -> ChordState | None:
        return self._store.read(chords.read_chord, group_id)

    def do_count_parts(self, group_id: str, task_ids: Sequence[str] | None, claim: Claim | None) -> bool:
        return self._store.write(chords.count_parts, group_id, task_ids, claim, self.clock())

    def do_claim_chord(self, group_id: str, claim: Claim) -> bool:
        return self._store.write(chords.claim_chord, group_id, claim, self.clock())

    def do_finish_chord(self, group_id: str) -> None:
        self._store.write_alone(chords.finish_chord, group_id, self.clock())

    def do_due_chords(self, limit: int) -> Sequence[str]:
        return self._store.read(chords.due_chords, limit, self.clock())

    def do_delete_chord(self, group_id: str) -> None:
        self._store.write(chords.delete_chord, group_id)

    # -- leases, push, life --------------------------------------------------------------------

    def do_lease(self, names: Sequence[str], token: str, seconds: float) -> frozenset[str]:
        return self._store.write_alone(leases.lease, names, token, seconds, self.clock())

    def do_listen(self) -> Listener:
        return listener.listen(self._store, cast(str, self.options.get("push", "auto")))

    def do_close(self) -> None:
        self._store.close()

    def do_forked(self) -> None:
        self._store.forked()
