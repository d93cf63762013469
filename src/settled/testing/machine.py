"""Any sequence of operations, on an engine and on the model: the answers must be the same.

One store serves every example; ids carry the example's number. Times in the model are whole multiples
of ten seconds and lifetimes end between them, so that the few seconds an example takes decide nothing.
"""

from __future__ import annotations

import itertools
import json

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from settled import chords
from settled.record import Chord, Claim, FailurePolicy, Gone, Part
from settled.testing.model import Model
from settled.testing.store import Store

TASKS = st.sampled_from(["a", "b", "c", "d", "e"])
GROUPS = st.sampled_from(["g", "h"])
LATE = st.sampled_from(["b", "x", "y"])
STATES = st.sampled_from(
    ["PENDING", "RECEIVED", "STARTED", "RETRY", "PROGRESS", "SUCCESS", "SUCCESS", "FAILURE", "REVOKED"]
)
READY_STATES = st.sampled_from(["SUCCESS", "SUCCESS", "FAILURE", "REVOKED"])
ATTEMPTS = st.integers(0, 2)
LIVES = st.sampled_from([None, None, 15.0, 35.0])
TOKENS = st.sampled_from([None, "t1", "t2"])
LEASES = st.sampled_from([15.0, 35.0])
HEADERS = st.sampled_from([["a", "b"], ["a", "b", "c"], ["c", "a", "c"], [], ["d"]])
STEP = 10.0

_numbers = itertools.count()


class Machine(RuleBasedStateMachine):
    """Subclassed by `run` with the store that is put to it."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.word = f"example-{next(_numbers)}-"
        self.backend = self.store.backend
        self.has = self.store.capabilities
        self.values = itertools.count()

    def _id(self, name: str) -> str:
        return self.word + name

    def _claim(self, token: str | None, lease: float) -> Claim | None:
        return None if token is None else Claim(self.word + token, lease)

    # -- records -----------------------------------------------------------------------------

    @rule(task=TASKS, state=STATES, attempt=ATTEMPTS, life=LIVES)
    def settle(self, task: str, state: str, attempt: int, life: float | None) -> None:
        if self.has.expiry == "none":
            life = None
        value = next(self.values)
        write = self.store.write(self._id(task), state, value, attempt=attempt, expires=life)
        self._same(write, self.model.settle(task, state, value, attempt, life))

    def _same(self, write: object, expected: tuple[bool, str, bool]) -> None:
        settled = self.backend.do_settle(write)  # type: ignore[arg-type]
        assert (settled.landed, settled.state, settled.claimed) == expected

    @rule(tasks=st.lists(TASKS, max_size=3))
    def forget(self, tasks: list[str]) -> None:
        self.backend.do_forget([self._id(task) for task in tasks])
        for task in tasks:
            self.model.forget(task)

    @precondition(lambda self: self.has.expiry != "none" or self.has.chords or self.has.leases)
    @rule(steps=st.integers(1, 4))
    def time_passes(self, steps: int) -> None:
        self.store.advance(steps * STEP)
        self.model.now += steps * STEP

    @precondition(lambda self: self.has.expiry == "cleanup")
    @rule()
    def cleanup(self) -> None:
        while self.backend.do_cleanup(3):
            pass
        self.model.cleanup()

    # -- chords ------------------------------------------------------------------------------

    @precondition(lambda self: self.has.chords)
    @rule(group=GROUPS, header=HEADERS, policy=st.sampled_from(FailurePolicy), token=TOKENS, lease=LEASES)
    def open_chord(
        self, group: str, header: list[str], policy: FailurePolicy, token: str | None, lease: float
    ) -> None:
        members = tuple(map(self._id, header))
        chord = Chord(self._id(group), members, b"{}", self._id(f"body-{group}"), policy)
        if group in self.model.chords:
            # Whether opening again recounts is not said.
            self.count_parts(group, None, None, 0.0)
        opened = self.backend.do_open_chord(chord, self._claim(token, lease))
        assert opened == self.model.open(group, header, policy.value, token, lease)

    @precondition(lambda self: self.has.chords and self.model.chords)
    @rule(
        group=GROUPS, task=TASKS, state=READY_STATES, attempt=ATTEMPTS, life=LIVES, token=TOKENS, lease=LEASES,
        place=st.booleans(),
    )  # fmt: skip
    def settle_part(
        self,
        group: str,
        task: str,
        state: str,
        attempt: int,
        life: float | None,
        token: str | None,
        lease: float,
        place: bool,
    ) -> None:
        life = None if self.has.expiry == "none" else life
        value = next(self.values)
        members = self.model.chords[group].members if group in self.model.chords else []
        part = Part(self._id(group), members.index(task) if place and task in members else None)
        write = self.store.write(
            self._id(task),
            state,
            value,
            attempt=attempt,
            expires=life,
            part=part,
            claim=self._claim(token, lease),
        )
        self._same(write, self.model.settle(task, state, value, attempt, life, group, token, lease))

    @precondition(lambda self: self.model.chords)
    @rule(group=GROUPS, members=st.lists(LATE, min_size=1, max_size=2))
    def grow_chord(self, group: str, members: list[str]) -> None:
        grown = self.backend.do_grow_chord(self._id(group), [self._id(each) for each in members])
        assert grown == self.model.grow(group, members)

    @precondition(lambda self: self.model.chords)
    @rule(group=GROUPS, tasks=st.none() | st.lists(TASKS, max_size=3), token=TOKENS, lease=LEASES)
    def count_parts(self, group: str, tasks: list[str] | None, token: str | None, lease: float) -> None:
        ids = None if tasks is None else [self._id(task) for task in tasks]
        counted = self.backend.do_count_parts(self._id(group), ids, self._claim(token, lease))
        assert counted == self.model.count(group, tasks, token, lease)

    @precondition(lambda self: self.model.chords)
    @rule(group=GROUPS, token=st.sampled_from(["t1", "t2"]), lease=LEASES)
    def claim_chord(self, group: str, token: str, lease: float) -> None:
        claimed = self.backend.do_claim_chord(self._id(group), Claim(self.word + token, lease))
        assert claimed == self.model.claim(group, token, lease)

    @precondition(lambda self: any(each.complete for each in self.model.chords.values()))
    @rule(group=GROUPS)
    def finish_chord(self, group: str) -> None:
        chord = self.model.chords.get(group)
        if chord is not None and chord.complete:
            self.backend.do_finish_chord(self._id(group))
            self.model.finish(group)

    @precondition(lambda self: self.model.chords)
    @rule(group=GROUPS)
    def delete_chord(self, group: str) -> None:
        self.backend.do_delete_chord(self._id(group))
        self.model.chords.pop(group, None)

    # -- leases ------------------------------------------------------------------------------

    @precondition(lambda self: self.has.leases)
    @rule(
        names=st.lists(st.sampled_from(["l", "m"]), min_size=1, max_size=2, unique=True),
        token=st.sampled_from(["t1", "t2"]),
        seconds=st.sampled_from([0, 15.0, 35.0]),
    )
    def lease(self, names: list[str], token: str, seconds: float) -> None:
        held = self.backend.do_lease([self._id(name) for name in names], token, seconds)
        assert held == set(map(self._id, self.model.lease(names, token, seconds)))

    # -- what must hold after each step --------------------------------------------------------

    @invariant()
    def records_are_the_same(self) -> None:
        tasks = ("a", "b", "c", "d", "e")
        found = self.backend.do_read([self._id(task) for task in tasks])
        for task in tasks:
            record = self.model.live(task)
            payload = found.get(self._id(task))
            if record is not None:
                assert isinstance(payload, bytes | str)
                meta = json.loads(payload)
                assert (meta["status"], meta["result"]) == (record.state, record.value)
            elif self.has.tombstones:
                gone = "unknown" if payload is None else payload.value  # type: ignore[union-attr]
                assert gone == self.model.presence(task)
            else:
                assert payload is None or isinstance(payload, Gone)

    @invariant()
    def chords_are_the_same(self) -> None:
        if not self.has.chords:
            return
        for group in ("g", "h"):
            state = self.backend.do_read_chord(self._id(group))
            chord = self.model.chords.get(group)
            assert (state is None) == (chord is None)
            if state is None or chord is None:
                continue
            assert state.done == chord.done
            if not chord.done:  # what was done may have been dropped
                assert state.chord.members == tuple(map(self._id, chord.members))
                assert state.parts == tuple(chord.parts)
                assert state.complete == chord.complete
        due = [each for each in self.backend.do_due_chords(1000) if each.startswith(self.word)]
        assert sorted(due) == list(map(self._id, self.model.due()))

    def teardown(self) -> None:
        self.backend.do_forget([self._id(each) for each in "abcdexy"])
        if self.has.chords:
            for group in ("g", "h"):
                self.backend.do_delete_chord(self._id(group))


def run(store: Store) -> None:
    """Put `store` to `store.examples` sequences of operations; raises at the first that answers otherwise."""
    recount = chords.RECOUNT_INTERVAL
    chords.RECOUNT_INTERVAL = 1e9  # when an engine notices what has expired by itself is not said
    try:
        _run(store)
    finally:
        chords.RECOUNT_INTERVAL = recount


def _run(store: Store) -> None:
    bound = type("BoundMachine", (Machine,), {"store": store})
    limits = settings(
        max_examples=store.examples,
        stateful_step_count=store.steps,
        phases=list(Phase) if store.shrinks else [Phase.generate],
        deadline=None,
        database=None,
        derandomize=True,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(bound, settings=limits)
