"""What a store should do, in plain Python and in the words of the contract: the measure of every engine.

Written apart from the engines and from `settled.states` on purpose, so that a mistake there is not repeated here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

READY = ("SUCCESS", "FAILURE", "REVOKED")


def _height(state: str) -> int:
    if state in READY:
        return 3
    return {"PENDING": 0, "RECEIVED": 1}.get(state, 2)


def gives_way(old: str | None, old_attempt: int, new: str, new_attempt: int) -> bool:
    """Whether a record in `old` gives way to `new`."""
    if old is None:
        return True
    if old == "SUCCESS":
        return False
    if old in ("FAILURE", "REVOKED"):
        return new in READY and new_attempt >= old_attempt
    return _height(new) >= _height(old)


@dataclass
class ModelRecord:
    state: str
    value: object
    attempt: int
    expires: float | None


@dataclass
class ModelChord:
    members: list[str]
    policy: str
    parts: list[str | None]
    token: str | None = None
    until: float = 0.0
    done: bool = False

    @property
    def complete(self) -> bool:
        if self.policy == "first" and any(each not in (None, "SUCCESS") for each in self.parts):
            return True
        return None not in self.parts


@dataclass
class Model:
    """Records, chords and leases as they should be. `now` is seconds since the model began."""

    now: float = 0.0
    records: dict[str, ModelRecord] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    chords: dict[str, ModelChord] = field(default_factory=dict)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)

    # -- records -----------------------------------------------------------------------------

    def live(self, task_id: str) -> ModelRecord | None:
        record = self.records.get(task_id)
        if record is None or (record.expires is not None and record.expires <= self.now):
            return None
        return record

    def settle(
        self,
        task_id: str,
        state: str,
        value: object,
        attempt: int,
        expires: float | None,
        group_id: str | None = None,
        token: str | None = None,
        lease: float = 0.0,
    ) -> tuple[bool, str, bool]:
        """(landed, the state now stored, whether the chord is now claimed by `token`)."""
        old = self.live(task_id)
        landed = old is None or gives_way(old.state, old.attempt, state, attempt)
        if landed:
            until = None if expires is None else self.now + expires
            self.records[task_id] = ModelRecord(state, value, attempt, until)
            self.gone.pop(task_id, None)
        stored = self.records[task_id].state
        claimed = False
        if group_id is not None and stored in READY:
            claimed = self.count(group_id, [task_id], token, lease)
        return landed, stored, claimed

    def forget(self, task_id: str) -> None:
        if self.records.pop(task_id, None) is not None:
            self.gone[task_id] = "forgotten"

    def cleanup(self) -> int:
        """Drop what has expired; how many records that were."""
        expired = [task_id for task_id in self.records if self.live(task_id) is None]
        for task_id in expired:
            for chord in self.chords.values():
                self._fill(chord, task_id, "EXPIRED")
            del self.records[task_id]
            self.gone[task_id] = "expired"
        return len(expired)

    def presence(self, task_id: str) -> str:
        record = self.live(task_id)
        if record is not None:
            return "pending" if record.state == "PENDING" else "stored"
        return "expired" if task_id in self.records else self.gone.get(task_id, "unknown")

    # -- chords ------------------------------------------------------------------------------

    def open(self, group_id: str, members: list[str], policy: str, token: str | None, lease: float) -> bool:
        if group_id not in self.chords:
            self.chords[group_id] = ModelChord(list(members), policy, [None] * len(members))
        return self.count(group_id, None, token, lease)

    def grow(self, group_id: str, members: list[str]) -> int | None:
        chord = self.chords.get(group_id)
        if chord is None or chord.done or chord.complete:
            return None
        new = [each for each in dict.fromkeys(members) if each not in chord.members]
        chord.members += new
        chord.parts += [None] * len(new)
        self.count(group_id, members, None, 0.0)
        return len(chord.members)

    def count(self, group_id: str, task_ids: list[str] | None, token: str | None, lease: float) -> bool:
        chord = self.chords.get(group_id)
        if chord is None or chord.done:
            return False
        for task_id in chord.members if task_ids is None else task_ids:
            record = self.live(task_id)
            if record is not None and record.state in READY:
                self._fill(chord, task_id, record.state)
        return token is not None and self.claim(group_id, token, lease)

    def _fill(self, chord: ModelChord, task_id: str, state: str) -> None:
        for place, member in enumerate(chord.members):
            counted = chord.parts[place]
            if (
                member == task_id
                and not chord.done
                and (counted is None or (counted != "SUCCESS" and state != "EXPIRED"))
            ):
                chord.parts[place] = state

    def claim(self, group_id: str, token: str, lease: float) -> bool:
        chord = self.chords.get(group_id)
        if chord is None or chord.done or not chord.complete:
            return False
        if chord.token not in (None, token) and chord.until > self.now:
            return False
        chord.token, chord.until = token, self.now + lease
        return True

    def finish(self, group_id: str) -> None:
        if group_id in self.chords:
            self.chords[group_id].done = True

    def due(self) -> list[str]:
        return sorted(
            group_id
            for group_id, chord in self.chords.items()
            if chord.complete and not chord.done and (chord.token is None or chord.until <= self.now)
        )

    # -- leases ------------------------------------------------------------------------------

    def lease(self, names: list[str], token: str, seconds: float) -> set[str]:
        if seconds <= 0:
            for name in names:
                if self.leases.get(name, ("", 0.0))[0] == token:
                    del self.leases[name]
            return set()
        taken = set()
        for name in names:
            holder, until = self.leases.get(name, (token, 0.0))
            if holder == token or until <= self.now:
                self.leases[name] = (token, self.now + seconds)
                taken.add(name)
        return taken
