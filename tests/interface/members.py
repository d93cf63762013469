"""The published interface as a table. `python -m tests.interface.members` prints which test is for what."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

# Signatures as published, without self. A default that is a class attribute is written "...".
PUBLISHED: dict[str, dict[str, str]] = {
    "BaseBackend": {
        "__init__": "(app, serializer=None, max_cached_results=None, accept=None, **kwargs)",
        "mark_as_started": "(task_id, **meta)",
        "mark_as_done": "(task_id, result, request=None)",
        "mark_as_failure": "(task_id, exc, traceback=None, request=None)",
        "mark_as_retry": "(task_id, exc, traceback=None, request=None)",
        "mark_as_revoked": "(task_id, reason='', request=None)",
        "store_result": "(task_id, result, status, traceback=None, request=None, **kwargs)",
        "fail_from_current_stack": "(task_id, exc=None)",
        "get_status": "(task_id)",
        "get_state": "(task_id)",
        "get_result": "(task_id)",
        "get_traceback": "(task_id)",
        "get_children": "(task_id)",
        "get_task_meta": "(task_id, cache=True)",
        "reload_task_result": "(task_id)",
        "is_cached": "(task_id)",
        "wait_for": "(task_id, timeout=None, propagate=True, interval=0.5)",
        "forget": "(task_id)",
        "save_group": "(group_id, result)",
        "restore_group": "(group_id, cache=True)",
        "delete_group": "(group_id)",
        "get_group_meta": "(group_id, cache=True)",
        "reload_group_result": "(group_id)",
        "apply_chord": "(header, partial_args, group_id, body, **options)",
        "on_chord_part_return": "(task, propagate=False)",
        "fallback_chord_unlock": "(group_id, body, result=None, countdown=1, **kwargs)",
        "encode": "(data)",
        "decode": "(payload)",
        "encode_result": "(result, status)",
        "prepare_value": "(result)",
        "prepare_exception": "(exc)",
        "exception_to_python": "(exc)",
        "prepare_expires": "(value, type=None)",
        "prepare_persistent": "(enabled=None)",
        "current_task_children": "(request=None)",
        "on_task_call": "(producer, task_id)",
        "cleanup": "()",
        "process_cleanup": "()",
    },
    "KeyValueStoreBackend": {
        "key_t": "(s)",
        "get": "(key)",
        "mget": "(keys)",
        "set": "(key, value)",
        "delete": "(key)",
        "incr": "(key)",
        "expire": "(key, value)",
        "get_key_for_task": "(task_id)",
        "get_key_for_group": "(group_id)",
        "get_key_for_chord": "(group_id)",
        "get_many": "(task_ids, timeout=None, interval=0.5, READY_STATES=...)",
        "on_chord_part_return": "(task, propagate=None)",
    },
    "DisabledBackend": {
        "store_result": "(task_id, result, status, *args, **kwargs)",
        "get_result": "(*args, **kwargs)",
        "get_status": "(*args, **kwargs)",
        "get_traceback": "(*args, **kwargs)",
        "wait_for": "(*args, **kwargs)",
    },
}

ATTRIBUTES: dict[str, dict[str, object]] = {
    "BaseBackend": {
        "EXCEPTION_STATES": frozenset({"RETRY", "FAILURE", "REVOKED"}),
        "READY_STATES": frozenset({"SUCCESS", "FAILURE", "REVOKED"}),
        "UNREADY_STATES": frozenset({"PENDING", "RECEIVED", "STARTED", "RETRY"}),
        "persistent": True,
        "subpolling_interval": None,
        "supports_native_join": False,
        "TimeoutError": TimeoutError,  # or a class under it
    },
    "KeyValueStoreBackend": {
        "task_keyprefix": "celery-task-meta-",
        "group_keyprefix": "celery-taskset-meta-",
        "chord_keyprefix": "chord-unlock-",
        "implements_incr": False,
    },
}


def members() -> Iterator[str]:
    """Every member, as "Class.name"."""
    for table in (PUBLISHED, ATTRIBUTES):
        for owner, names in table.items():
            for name in names:
                yield f"{owner}.{name}"


def exercises(*names: str) -> Callable[[F], F]:
    """Marks a test as the one that exercises these members."""
    unknown = set(names) - set(members())
    assert not unknown, unknown

    def mark(test: F) -> F:
        test.exercises = names  # type: ignore[attr-defined]
        return test

    return mark


def members_tests() -> dict[str, list[str]]:
    """Member -> the tests that exercise it."""
    found: dict[str, list[str]] = {name: [] for name in members()}
    module = importlib.import_module("tests.interface.test_members")
    for name, test in inspect.getmembers(module, inspect.isfunction):
        for member in getattr(test, "exercises", ()):
            found[member].append(name)
    return found


def main() -> int:
    table = members_tests()
    width = max(map(len, table))
    for member, tests in table.items():
        sys.stdout.write(f"{member:{width}}  {', '.join(tests) or 'no test'}\n")
    missing = [member for member, tests in table.items() if not tests]
    sys.stdout.write(f"{len(table)} members, {len(missing)} without a test\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
