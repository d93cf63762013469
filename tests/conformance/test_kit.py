"""The kit itself: what it runs, what it prints, and what its history checker takes for right."""

from __future__ import annotations

import pytest

from settled.record import Capabilities
from settled.testing import history
from settled.testing.__main__ import main
from settled.testing.checks import CONTRACT
from settled.testing.contract import GROUPS, NEEDS, Contract
from settled.testing.history import Operation
from settled.testing.report import Verdict, failures, promises, table
from settled.testing.stores import MemoryStore, SQLiteStore


def run_nothing(store):
    """Every engine passes."""


def test_a_check_needs_a_sentence_a_group_and_capabilities_that_exist():
    contract = Contract()
    with pytest.raises(ValueError, match="docstring"):
        contract.check("records")(lambda store: None)
    with pytest.raises(ValueError, match="no capability nonsense"):
        contract.check("records", "nonsense")
    with pytest.raises(KeyError):
        contract.check("nonsense")
    contract.check("records")(run_nothing)
    with pytest.raises(ValueError, match="already"):
        contract.check("records")(run_nothing)


def test_a_declared_capability_is_checked_and_no_other():
    nothing = {check.id for check in CONTRACT.for_engine(Capabilities())}
    assert {check.id for check in CONTRACT if not set(check.needs) - {"polling"}} == nothing
    everything = Capabilities(True, True, True, True, True, True, True, True, "cleanup", True, True, True)
    assert {check.id for check in CONTRACT if check.group != "polling"} == {
        check.id for check in CONTRACT.for_engine(everything)
    }
    assert set(GROUPS) == {check.group for check in CONTRACT}
    assert set(NEEDS) == {need for check in CONTRACT for need in check.needs}


def test_the_table_counts_what_passed_and_names_what_failed():
    of_memory = [Verdict(check, None) for check in CONTRACT.for_engine(MemoryStore.engine.capabilities)]
    of_sqlite = [Verdict(check, None) for check in CONTRACT.for_engine(SQLiteStore.engine.capabilities)]
    of_sqlite[0] = Verdict(of_sqlite[0].check, AssertionError("bytes differ"))
    lines = table({"Memory": of_memory, "SQLite": of_sqlite})
    assert lines[0] == "| checks | Memory | SQLite |"
    assert "| records | 14 ✓ | 13 of 14 |" in lines
    assert any(line.startswith("| push | - | ") for line in lines)
    (failed,) = failures({"Memory": of_memory, "SQLite": of_sqlite})
    assert failed.startswith(f"- SQLite, {of_sqlite[0].check.id}: {of_sqlite[0].check.promise}")
    assert "bytes differ" in failed


def test_every_promise_is_printed(capsys):
    assert main(["promises"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines() == promises()
    assert all(check.promise in printed and check.promise.endswith(".") for check in CONTRACT)
    assert main(["nonsense"]) == 2


def written(called, returned, state, value, answer, attempt=0):
    return Operation("task", called, returned, (state, attempt, value), answer)


def read(called, returned, *answer):
    return Operation("task", called, returned, None, answer)


LINEAR = {
    "one after another": [
        written(0, 1, "STARTED", 1, (True, "STARTED")),
        written(2, 3, "SUCCESS", 2, (True, "SUCCESS")),
        read(4, 5, "SUCCESS", 0, 2),
    ],
    "a read beside a write sees either": [
        written(0, 9, "SUCCESS", 1, (True, "SUCCESS")),
        read(1, 2),
        read(3, 4, "SUCCESS", 0, 1),
    ],
    "the later call came first": [
        written(0, 9, "STARTED", 1, (False, "SUCCESS")),
        written(1, 8, "SUCCESS", 2, (True, "SUCCESS")),
    ],
}

NOT_LINEAR = {
    "two successes landed": [
        written(0, 9, "SUCCESS", 1, (True, "SUCCESS")),
        written(0, 9, "SUCCESS", 2, (True, "SUCCESS")),
    ],
    "a read went back": [
        written(0, 9, "SUCCESS", 1, (True, "SUCCESS")),
        read(1, 2, "SUCCESS", 0, 1),
        read(3, 4),
    ],
    "a write was lost": [
        written(0, 1, "STARTED", 1, (True, "STARTED")),
        written(2, 3, "SUCCESS", 2, (True, "SUCCESS")),
        read(4, 5, "STARTED", 0, 1),
    ],
    "refused for nothing": [written(0, 1, "STARTED", 1, (False, "SUCCESS"))],
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_history_that_has_an_order_is_linear(name):
    history.assert_linear(LINEAR[name])


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_a_history_that_has_none_is_not(name):
    with pytest.raises(history.NotLinear, match="task"):
        history.assert_linear(NOT_LINEAR[name])


def test_a_history_too_long_to_check_is_refused():
    with pytest.raises(ValueError, match="200"):
        history.assert_linear([read(0, 1)] * 201)
