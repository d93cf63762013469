"""What a check is, and which checks an engine has to pass.

A check is a function of a `Store` whose docstring is one sentence of the contract. It belongs to a
group; a group, and a check beyond its group, may need capabilities, and is run on exactly those
engines that declare them. There is no other way to leave a check out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from settled.record import Capabilities

if TYPE_CHECKING:
    from settled.testing.store import Store

Run: TypeAlias = "Callable[[Store], None]"

NEEDS: Mapping[str, Callable[[Capabilities], bool]] = {
    "guarded": lambda has: has.guarded,
    "atomic": lambda has: has.atomic,
    "chords": lambda has: has.chords,
    "polling": lambda has: not has.chords,
    "leases": lambda has: has.leases,
    "shared": lambda has: has.shared,
    "durable": lambda has: has.durable,
    "push": lambda has: has.push,
    "queries": lambda has: has.queries,
    "expiry": lambda has: has.expiry != "none",
    "cleanup": lambda has: has.expiry == "cleanup",
    "tombstones": lambda has: has.tombstones,
    "columns": lambda has: has.columns,
    "keeps": lambda has: has.keeps,
}
"""By name, what an engine must have declared (or, for `polling`, not declared)."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "records": (),
    "wire": (),
    "values": (),
    "failures": (),
    "ids": (),
    "damage": (),
    "rule": (),
    "groups": (),
    "forgetting": (),
    "waiting": (),
    "outages": (),
    "model": (),
    "guarded": ("guarded",),
    "atomic": ("atomic", "chords"),
    "barrier": ("chords",),
    "claims": ("chords",),
    "dispatch": ("chords",),
    "polling": ("polling",),
    "leases": ("leases",),
    "expiry": ("expiry",),
    "cleanup": ("cleanup",),
    "tombstones": ("tombstones",),
    "queries": ("queries",),
    "sharing": ("shared",),
    "push": ("shared", "push"),
    "durability": ("shared", "durable"),
    "crashes": ("shared", "durable", "chords"),
    "keeping": ("keeps",),
}
"""Every group of checks, in the order of the report, and what it needs."""


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence of the contract, and the function that raises where an engine does not keep it."""

    group: str
    name: str
    promise: str
    needs: tuple[str, ...]
    run: Run

    @property
    def id(self) -> str:
        return f"{self.group}.{self.name}"

    def applies(self, capabilities: Capabilities) -> bool:
        """Whether an engine that declares these has to pass the check."""
        return all(NEEDS[need](capabilities) for need in self.needs)


class Contract:
    """The checks, by id, in the order in which they were added."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def check(self, group: str, *needs: str) -> Callable[[Run], Run]:
        """Add the decorated function to `group`; `needs` are beyond what the group needs."""
        wanted = (*GROUPS[group], *needs)
        unknown = set(wanted) - set(NEEDS)
        if unknown:
            raise ValueError(f"no capability {', '.join(sorted(unknown))}")

        def add(run: Run) -> Run:
            if not run.__doc__:
                raise ValueError(f"{run.__name__} does not say what it checks: give it a docstring")
            promise = " ".join(run.__doc__.split())
            added = Check(group, run.__name__, promise, wanted, run)
            if added.id in self._checks:
                raise ValueError(f"there is a check {added.id} already")
            self._checks[added.id] = added
            return run

        return add

    def __iter__(self) -> Iterator[Check]:
        order = {group: place for place, group in enumerate(GROUPS)}
        return iter(sorted(self._checks.values(), key=lambda each: order[each.group]))

    def __getitem__(self, check_id: str) -> Check:
        return self._checks[check_id]

    def for_engine(self, capabilities: Capabilities) -> list[Check]:
        """What an engine that declares these has to pass."""
        return [each for each in self if each.applies(capabilities)]


CONTRACT = Contract()
"""Every check of the kit; filled by importing `settled.testing.checks`."""

check = CONTRACT.check
