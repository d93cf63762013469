"""Result handles from their stored form: `[[id, parent], children]`, children None for a task."""

from __future__ import annotations

from collections.abc import Sequence

from settled.backends.protocols import Application
from settled.errors import DecodeError
from settled.record import checked_id


def result_from_tuple(form: object, app: Application) -> object:
    """The AsyncResult or GroupResult that `as_tuple` described. DecodeError if it describes none."""
    head, members = _pair(form)
    task_id, parent = _pair(head) if isinstance(head, (list, tuple)) else (head, None)
    above = None if parent is None else result_from_tuple(parent, app)
    if members is None:
        return app.AsyncResult(checked_id(task_id), parent=above)  # type: ignore[operator]
    if not isinstance(members, Sequence):
        raise DecodeError(f"the members of group {task_id!r:.80} are no list: {members!r:.80}")
    results = [result_from_tuple(member, app) for member in members]
    return app.GroupResult(checked_id(task_id, "group id"), results, parent=above)  # type: ignore[operator]


def _pair(form: object) -> tuple[object, object]:
    if not isinstance(form, (list, tuple)) or len(form) != 2:
        raise DecodeError(f"not a stored result handle: {form!r:.80}")
    return form[0], form[1]
