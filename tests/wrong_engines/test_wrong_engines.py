"""Each check finds the engine that is wrong in what it is about, and each check has such an engine."""

from __future__ import annotations

import pytest

from settled.backends.memory import MemoryBackend
from settled.backends.sqlite import SQLiteBackend
from settled.testing.checks import CONTRACT
from settled.testing.store import Store
from settled.testing.stores import MemoryStore, SQLiteStore
from tests.wrong_engines import (  # noqa: F401 - fill WRONG
    chords,
    keeping,
    records,
    rule,
    shared,
    times,
    waiting,
)
from tests.wrong_engines.proofs import WRONG

OUR_MISTAKES = (NameError, AttributeError, ImportError, TypeError, NotImplementedError, SyntaxError)
"""What a mistake in a wrong engine would raise, rather than the check that finds its defect."""


def store_of(engine: type) -> type[Store]:
    kinds = {MemoryBackend: MemoryStore, SQLiteBackend: SQLiteStore}
    kind = next((store for backend, store in kinds.items() if issubclass(engine, backend)), Store)
    return type("WrongStore", (kind,), {"engine": engine, "patience": 0.3, "shrinks": False})


def test_every_check_has_a_wrong_engine():
    assert {check.id for check in CONTRACT} == set(WRONG)


@pytest.mark.parametrize("check_id", sorted(WRONG))
def test_the_check_finds_the_defect(check_id, tmp_path):
    check, engine = CONTRACT[check_id], WRONG[check_id]
    assert check.applies(engine.capabilities), (
        f"{engine.__name__} does not even declare what {check_id} needs"
    )
    with store_of(engine)(tmp_path) as store, pytest.raises(Exception, match=None) as found:
        check.run(store)
    assert not isinstance(found.value, OUR_MISTAKES), repr(found.value)
