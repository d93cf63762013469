"""`settled wait ID...`: wait until tasks are ready, whoever runs them."""

from __future__ import annotations

import sys
import time
from argparse import Namespace

from settled.cli import store, text
from settled.delivery import Answer
from settled.errors import SettledError, TimeoutError
from settled.record import holds_exception
from settled.states import SUCCESS

TIMED_OUT = 124
"""The exit status of `timeout(1)`."""


def run(arguments: Namespace) -> int:
    """Print each as it is ready. Status 0 if all succeeded, 1 if one did not, 124 after the timeout."""
    timeout: float | None = arguments.timeout
    deadline = None if timeout is None else time.monotonic() + timeout
    failed = 0
    with store.opened(arguments.backend) as backend:
        waiting = dict.fromkeys(store.find_id(backend, typed) for typed in arguments.ids)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            for task_id, answer in backend.watcher.each(list(waiting), left):
                del waiting[task_id]
                failed += not _told(task_id, answer)
        except TimeoutError:
            return _missed(list(waiting), timeout or 0.0)
    return 1 if failed else 0


def _told(task_id: str, answer: Answer) -> bool:
    """Print what became of a task; whether it has succeeded."""
    if isinstance(answer, SettledError):
        print(f"{text.one_line(task_id)}  {text.one_line(answer)}", flush=True)
        return False
    said = [text.one_line(task_id), str(answer["status"])]
    if holds_exception(answer):
        said.append(text.reason(answer))
    print("  ".join(said), flush=True)
    return answer["status"] == SUCCESS


def _missed(waiting: list[str], timeout: float) -> int:
    """Say which tasks were not ready in time; the exit status."""
    shown = ", ".join(text.one_line(task_id) for task_id in waiting[:3]) + (
        ", ..." if len(waiting) > 3 else ""
    )
    print(f"settled wait: not ready within {timeout:g} s: {shown}", file=sys.stderr)
    return TIMED_OUT
