"""The engine boundary: what a store must be able to do, as a handful of hooks.

An engine subclasses `BaseBackend` and writes the hooks (`do_...`), or subclasses
`KeyValueStoreBackend` and writes get, set and delete. Hooks are synchronous and thread-safe.
They raise `StoreUnavailable` for what may pass (the caller's one retry layer tries again, so
every hook must be safe to repeat with the same arguments) and `StoreError` for what will not,
the client library's error always as `__cause__`. A hook that its capability does not declare is
never called.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, ParamSpec, Protocol, TypeVar

from settled.errors import StoreUnavailable
from settled.record import Capabilities, Chord, ChordState, Claim, Gone, Meta, Query, Row, Settle, Settled

P = ParamSpec("P")
T = TypeVar("T")


class Listener(Protocol):
    """One engine's push: what the watcher's thread blocks on. Made by `do_listen`, in that thread.

    From the moment `do_listen` returns (and `watch` returns, for ids added later) no settle of
    a watched id may be missed. May raise StoreUnavailable: the watcher then closes it, backs
    off, listens anew and reads again everything that is awaited.
    """

    def wait(self, timeout: float) -> Collection[str] | None:
        """Block until something may have been settled, `wake` was called or `timeout` seconds passed.

        Returns the ids that may have been settled (others may be among them), or None for
        "anything may have": everything awaited is then read.
        """

    def wake(self) -> None:
        """Make a `wait` in another thread return at once. Callable from any thread."""

    def watch(self, task_ids: Iterable[str]) -> None:
        """These ids are now awaited. Called in the watcher's thread."""

    def unwatch(self, task_ids: Iterable[str]) -> None:
        """These ids are no longer awaited. Called in the watcher's thread."""

    def close(self) -> None:
        """Let go of everything the listener holds."""


class Engine:
    """The hooks of one store. All of them may block; none is called in a constructor."""

    capabilities: ClassVar[Capabilities] = Capabilities()

    clock: Callable[[], float] = staticmethod(time.time)
    """UTC seconds since the epoch. Engines with a clock of their own use that instead."""

    owned: bool = False
    """This is `app.backend`: sent to another process it is the backend of the app that arrives there."""

    retry_deadline: float = 10.0
    """Seconds during which an operation is tried again while the store is unavailable."""

    # -- records ---------------------------------------------------------------------------

    def do_settle(self, write: Settle) -> Settled:
        """The atomic step: guard, record, chord part, claim on the due body, notice to waiters.

        Writes the record if `states.may_replace` allows it; what is stored already, byte for byte, has
        landed too: it is repeated since its answer was lost. What an earlier write knew of name,
        worker, queue, group, parent and root stays where this one does not know it (but for a store
        that keeps nothing beside the payload). If the state
        then stored is ready and `write.part` names an open chord, the task's places in its header
        are counted, once (a SUCCESS replaces an earlier failure); if the chord then is complete, and
        neither done nor claimed by a live claim of another token, `write.claim` is recorded and
        `claimed` is True. Without a claim a complete chord is left due at once.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement do_settle")

    def do_read(self, task_ids: Sequence[str]) -> Mapping[str, bytes | str | Gone]:
        """Payloads by task id. Ids of which nothing is known are absent; see `Gone` for the rest."""
        raise NotImplementedError(f"{type(self).__name__} does not implement do_read")

    def do_forget(self, task_ids: Sequence[str]) -> None:
        """Delete the records, as often as you like. Not an error if there is none."""
        raise NotImplementedError(f"{type(self).__name__} does not implement do_forget")

    def do_query(self, query: Query) -> Iterator[Row]:
        """Rows that match, the latest write first, from one look at the store. Capability `queries`."""
        raise NotImplementedError(f"{type(self).__name__} cannot list records")

    def do_cleanup(self, limit: int) -> int:
        """Delete at most `limit` expired records; how many. Expired groups, chords and leases go with them.

        A member of an open chord whose record expires, in whatever state, is first counted as
        EXPIRED, so that the body fails with its name rather than wait for ever.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot clean up expired records")

    # -- groups ----------------------------------------------------------------------------

    def do_write_group(self, group_id: str, payload: bytes, expires: float | None) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not implement do_write_group")

    def do_read_group(self, group_id: str) -> bytes | str | None:
        raise NotImplementedError(f"{type(self).__name__} does not implement do_read_group")

    def do_delete_group(self, group_id: str) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not implement do_delete_group")

    # -- chords: capability `chords` ---------------------------------------------------------

    def do_open_chord(self, chord: Chord, claim: Claim | None) -> bool:
        """Open the barrier and count the members that are already settled, in one step.

        Opening an open or done barrier again changes nothing. True when it is complete and
        the caller now holds the claim.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot count chord parts")

    def do_grow_chord(self, group_id: str, members: Sequence[str]) -> int | None:
        """Add members behind the others; the new size, or None if complete, done or never opened.

        Members that are already settled are counted. Members that are already in the header are not
        added again, so that a repeated call is harmless.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot count chord parts")

    def do_adopt_chord(self, chord: Chord) -> None:
        """Keep the body of a chord that another program has opened on this store by its own rules.

        `chord` has no members: that program counts parts by a number. From here on parts settled here are
        counted as that program counts its own, and the body is sent from here if nobody else sends it.
        Adopting a chord that is known, open or done changes nothing. Nothing to do where no other
        program opens chords.
        """

    def do_size_chord(self, group_id: str, size: int) -> None:
        """How many parts a chord has that is counted by a number; nothing for one whose members are known."""

    def do_read_parts(self, group_id: str) -> Mapping[str, Meta]:
        """Outcomes that the barrier itself keeps beside the records, by task id: status and result in stored form.

        For members whose records are gone, or were never written. Empty where a barrier keeps none.
        """
        return {}

    def do_read_chord(self, group_id: str) -> ChordState | None:
        """The barrier as it stands; None if there is none."""
        raise NotImplementedError(f"{type(self).__name__} cannot count chord parts")

    def do_count_parts(self, group_id: str, task_ids: Sequence[str] | None, claim: Claim | None) -> bool:
        """Count the settled ones of these members (None: all) from their records, and claim as `do_settle`.

        This is how a barrier is recomputed from what is stored.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot count chord parts")

    def do_claim_chord(self, group_id: str, claim: Claim) -> bool:
        """Take, or extend, the claim on a complete, undone chord. False if another holds it."""
        raise NotImplementedError(f"{type(self).__name__} cannot count chord parts")

    def do_finish_chord(self, group_id: str) -> None:
        """Set the done marker. The barrier's members and body may be dropped; the marker stays a while."""
        raise NotImplementedError(f"{type(self).__name__} cannot count chord parts")

    def do_due_chords(self, limit: int) -> Sequence[str]:
        """Complete, undone chords that no live claim holds: one cheap look, never a scan."""
        raise NotImplementedError(f"{type(self).__name__} cannot count chord parts")

    def do_delete_chord(self, group_id: str) -> None:
        raise NotImplementedError(f"{type(self).__name__} cannot count chord parts")

    # -- leases: capability `leases` ---------------------------------------------------------

    def do_lease(self, names: Sequence[str], token: str, seconds: float) -> frozenset[str]:
        """Take or extend each lease that is free, expired or held by `token`; those now held.

        `seconds` <= 0 lets go of the ones that `token` holds and returns an empty set.
        """
        raise NotImplementedError(f"{type(self).__name__} has no leases")

    # -- push: capability `push` ---------------------------------------------------------------

    def do_listen(self) -> Listener:
        """A listener for the calling thread. See `Listener`."""
        raise NotImplementedError(f"{type(self).__name__} has no push")

    # -- life ------------------------------------------------------------------------------

    def do_close(self) -> None:
        """Close what this process holds open. The next hook call opens it again."""

    def do_forked(self) -> None:
        """First call in a forked child: drop inherited connections without talking on them."""

    # -- the one retry layer -----------------------------------------------------------------

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._fork_lock = threading.Lock()
        self._patience = threading.local()

    @contextmanager
    def within(self, deadline: float | None) -> Iterator[None]:
        """Hooks that this thread calls meanwhile give up at `deadline`, by the monotonic clock."""
        before = getattr(self._patience, "deadline", None)
        self._patience.deadline = deadline
        try:
            yield
        finally:
            self._patience.deadline = before

    def time_left(self) -> float | None:
        """Seconds that the hook which this thread is in may still take; None: as the engine sees fit.

        An engine whose store may not answer waits for no longer, and raises StoreUnavailable.
        """
        deadline: float | None = getattr(self._patience, "deadline", None)
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def call(self, hook: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one hook, again with jittered back-off while the store is unavailable.

        Raises StoreUnavailable when `retry_deadline` has passed.
        """
        self.check_fork()
        try:
            return hook(*args, **kwargs)
        except StoreUnavailable as exc:
            return self._retry(exc, hook, *args, **kwargs)

    def _retry(self, error: StoreUnavailable, hook: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        deadline = time.monotonic() + self.retry_deadline
        pause = 0.01
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise error
            time.sleep(min(left, pause * random.uniform(0.5, 1.5)))
            pause = min(pause * 2, 1.0)
            try:
                return hook(*args, **kwargs)
            except StoreUnavailable as again:
                error = again

    def check_fork(self) -> None:
        """Let go of what a parent process had open, once, if this is a forked child."""
        if self._pid != os.getpid():
            with self._fork_lock:
                if self._pid != os.getpid():
                    self.begin_anew()
                    self._pid = os.getpid()

    def begin_anew(self) -> None:
        """In a forked child, once: what was shared with threads that stayed behind is replaced."""
        self.do_forked()
