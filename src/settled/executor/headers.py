"""A chord's header, followed from the process that submitted it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from settled import chords
from settled.backends.base import BaseBackend
from settled.errors import ChordError, SettledError
from settled.executor.bodies import Body
from settled.executor.handles import Handle
from settled.record import Chord, ChordState, FailurePolicy, is_ready

log = logging.getLogger("settled.executor")


class Header:
    """Sees to it that the body runs when the members are done, whoever ran them.

    Parts are counted as the members are settled. What that misses (a worker process cannot send a
    body; a call that was under way before knows nothing of its chord) is made good from here, when
    the last member is done: the barrier is recomputed, and a body that nobody has begun is begun.
    Its lease sees to it that it runs once.

    `late`: the barrier is opened only then. It would count failures that are about to be tried again.
    """

    def __init__(
        self, backend: BaseBackend, chord: Chord, signature: Mapping[str, object], body: Body, late: bool
    ) -> None:
        self._backend = backend
        self._chord = chord
        self._signature = signature
        self._body = body
        self._late = late
        self._lock = threading.Lock()
        self._left = len(chord.members)
        self._untold: set[str] = set()

    def open(self) -> None:
        """Open the barrier, unless that has to wait. Before the first member is submitted."""
        if self._backend.capabilities.chords and not self._late:
            self._open()

    def _open(self) -> None:
        chord = self._chord
        self._backend.open_chord(chord.group_id, chord.members, self._signature, chord.policy)

    def follow(self, handles: Sequence[Handle[object]]) -> None:
        """Watch the members' handles."""
        for handle in handles:
            handle.add_done_callback(self._done)
        if not handles:
            self._complete()

    def _done(self, handle: object) -> None:
        assert isinstance(handle, Handle)
        with self._lock:
            self._left -= 1
            last = not self._left
            if not handle.told:
                self._untold.add(handle.id)
        try:
            if last:
                self._complete()
            elif self._chord.policy is FailurePolicy.FIRST:
                self._look_at(handle)
        except SettledError as exc:
            log.exception("chord %s could not be completed", self._chord.group_id)
            self._body.give_up(exc)

    def _look_at(self, handle: Handle[object]) -> None:
        """The first failure is enough for the body to fail."""
        if self._backend.capabilities.chords and not self._late and not handle.succeeded:
            self._count((handle.id,))

    def _count(self, members: Sequence[str] | None) -> None:
        backend, group_id = self._backend, self._chord.group_id
        claim = backend.new_claim()
        claimed = backend.call(backend.do_count_parts, group_id, members, claim)
        backend.part_counted(group_id, claim if claimed else None)

    def _complete(self) -> None:
        if self._backend.capabilities.chords:
            if self._late:
                self._open()
            else:
                self._count(None)
        if self._body.waiting:
            self._begin()

    def _begin(self) -> None:
        """The barrier has not led to the body: it was done before, or its claim's holder is slow, or dead."""
        backend, chord = self._backend, self._chord
        metas = backend.read_many(tuple(dict.fromkeys(chord.members)))
        states = [str(metas[each]["status"]) if each in metas else "EXPIRED" for each in chord.members]
        unsettled = {each for each, meta in metas.items() if not is_ready(meta)} | (
            self._untold - metas.keys()
        )
        if unsettled:
            shown = ", ".join(sorted(unsettled)[:3])
            self._body.give_up(ChordError(f"{len(unsettled)} header tasks were not settled here: {shown}"))
            return
        try:
            results = chords.header_results(backend, ChordState(chord, tuple(states), False))
        except ChordError as exc:
            request = {"task": self._signature.get("task")}
            backend.mark_as_failure(chord.body_id, exc, request=request)  # of which the body is told
        else:
            self._body.begin(results)
