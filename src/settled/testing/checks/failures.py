"""Exceptions come back through the store whole, and never as anything worse."""

from __future__ import annotations

import json
import sys

from settled.errors import RemoteError, TaskRevokedError
from settled.states import FAILURE, RETRY
from settled.testing.checks.expecting import raised
from settled.testing.contract import check
from settled.testing.store import Store


class Refused(ValueError):
    """An exception that cannot be built from its args, and that has attributes."""

    def __init__(self, *, order: int, why: str) -> None:
        super().__init__(f"order {order} was refused: {why}")
        self.order = order
        self.why = why


def _back(store: Store, error: BaseException) -> Exception:
    store.backend.mark_as_failure("task", error)
    return raised(lambda: store.backend.wait_for("task", timeout=store.patience))


@check("failures")
def class_args_and_attributes_come_back(store: Store) -> None:
    """An exception comes back with its class, args and attributes, whatever its constructor takes."""
    back = _back(store, Refused(order=7, why="no stock"))
    assert isinstance(back, Refused)
    assert back.args == ("order 7 was refused: no stock",)
    assert (back.order, back.why) == (7, "no stock")


@check("failures")
def notes_cause_and_context_come_back(store: Store) -> None:
    """An exception comes back with its notes, its cause and its context."""
    error = ValueError("outer")
    error.add_note("first note")
    error.__cause__ = KeyError("cause")
    error.__cause__.__context__ = FileNotFoundError(2, "context")
    back = _back(store, error)
    assert back.__notes__[0] == "first note"
    assert isinstance(back.__cause__, KeyError)
    assert back.__cause__.args == ("cause",)
    assert isinstance(back.__cause__.__context__, FileNotFoundError)
    assert back.__cause__.__context__.errno == 2


@check("failures")
def groups_come_back(store: Store) -> None:
    """An exception group comes back with its members."""
    back = _back(store, ExceptionGroup("both", [ValueError(1), ExceptionGroup("inner", [KeyError("k")])]))
    assert isinstance(back, ExceptionGroup)
    assert [type(each) for each in back.exceptions] == [ValueError, ExceptionGroup]


@check("failures")
def the_remote_traceback_is_text(store: Store) -> None:
    """The traceback of the process that failed is kept as text."""
    try:
        raise Refused(order=1, why="here")
    except Refused as exc:
        store.backend.mark_as_failure("task", exc)
    text = store.backend.get_traceback("task")
    assert text is not None
    assert "the_remote_traceback_is_text" in text


@check("failures")
def a_given_traceback_is_kept(store: Store) -> None:
    """A traceback that is given as text is kept as it is."""
    store.backend.mark_as_failure("task", ValueError(), traceback="File nowhere, line 1")
    assert store.backend.get_traceback("task") == "File nowhere, line 1"


@check("failures")
def what_ends_processes_does_not_come_out(store: Store) -> None:
    """A task's SystemExit or KeyboardInterrupt comes back as an Exception that ends nothing."""
    for number, error in enumerate((SystemExit(3), KeyboardInterrupt(), GeneratorExit())):
        store.backend.mark_as_failure(f"task-{number}", error)
        read = store.backend.get_result(f"task-{number}")
        assert isinstance(read, Exception)
        assert type(error).__name__ in str(read)


@check("failures")
def nothing_is_imported_for_the_store(store: Store) -> None:
    """A class whose module is not imported comes back as RemoteError, and the module stays unimported."""
    sys.modules.pop("this", None)
    result = {"exc_type": "Zen", "exc_message": ["x"], "exc_module": "this"}
    record = {"status": FAILURE, "result": result, "traceback": None, "task_id": "task"}
    store.plant("task", json.dumps(record).encode())
    read = store.backend.get_result("task")
    assert isinstance(read, RemoteError)
    assert (read.exc_type, read.exc_module, read.exc_args) == ("Zen", "this", ("x",))
    assert "this" not in sys.modules


@check("failures")
def propagate_false_returns_the_exception(store: Store) -> None:
    """`wait_for(propagate=False)` returns the exception instead of raising it."""
    store.backend.mark_as_failure("task", KeyError("missing"))
    assert isinstance(store.backend.wait_for("task", timeout=store.patience, propagate=False), KeyError)


@check("failures")
def a_revoked_task_raises_why(store: Store) -> None:
    """Waiting for a revoked task raises TaskRevokedError with the reason."""
    store.backend.mark_as_revoked("task", "not wanted any more")
    error = raised(lambda: store.backend.wait_for("task", timeout=store.patience))
    assert isinstance(error, TaskRevokedError)
    assert "not wanted any more" in str(error)


@check("failures")
def a_retry_shows_its_cause(store: Store) -> None:
    """A task that is tried again shows the exception of the try before."""
    store.backend.mark_as_retry("task", OSError(111, "refused"))
    assert store.backend.get_state("task") == RETRY
    read = store.backend.get_result("task")
    assert isinstance(read, OSError)
    assert read.errno == 111


@check("failures")
def the_current_exception_is_stored(store: Store) -> None:
    """`fail_from_current_stack` stores the exception being handled, with its traceback."""
    try:
        raise Refused(order=2, why="stack")
    except Refused:
        store.backend.fail_from_current_stack("task")
    assert isinstance(store.backend.get_result("task"), Refused)
    assert "the_current_exception_is_stored" in str(store.backend.get_traceback("task"))


@check("failures")
def a_failure_is_never_a_value(store: Store) -> None:
    """A FAILURE or REVOKED record raises from `wait_for`, whatever stands where its exception should."""
    hostile: tuple[object, ...] = (
        None, "boom", 0, [], {}, {"exc_type": None}, {"exc_type": 5, "exc_message": 7}, {"exc_type": ["x"]},
        {"exc_type": "SystemExit", "exc_message": [1], "exc_module": "builtins"},
        {"exc_type": "system", "exc_message": ["true"], "exc_module": "os"},
        {"exc_type": "type", "exc_message": ["x", [], {}], "exc_module": "builtins"},
        {"exc_type": "ValueError", "exc_message": None, "exc_module": "builtins", "settled": "?"},
        {"exc_type": "ValueError", "exc_module": "builtins", "settled": {"cause": 5, "notes": 5, "attributes": []}},
    )  # fmt: skip
    for number, result in enumerate(hostile):
        for state in (FAILURE, "REVOKED"):
            task_id = f"{state}-{number}"
            store.plant(task_id, json.dumps({"status": state, "result": result, "task_id": task_id}).encode())
            raised(lambda task_id=task_id: store.backend.wait_for(task_id, timeout=store.patience))  # type: ignore[misc]
