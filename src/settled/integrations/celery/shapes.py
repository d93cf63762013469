"""The nesting of a chord's header, apart from its results; and the tasks in a signature."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, MutableMapping, Sequence
from typing import Protocol, cast

from celery.canvas import _chain, _chord, group


class Handle(Protocol):
    """Celery's AsyncResult, or its ResultSet and GroupResult, which have `results`."""

    id: str

    def as_tuple(self) -> tuple[object, ...]: ...


class Pending(Handle, Protocol):
    """Celery's AsyncResult, whose record may still be to come."""

    on_ready: object
    _cache: object

    def _maybe_set_cache(self, meta: MutableMapping[str, object]) -> object: ...

    def maybe_throw(self, propagate: bool = ..., callback: object = ...) -> object: ...


class Many(Handle, Protocol):
    """Celery's ResultSet or GroupResult."""

    results: Sequence[Pending]


class Canvas(Protocol):
    """A signature of Celery's canvas: a task, or one with `tasks` inside."""

    options: MutableMapping[str, object]

    def delay(self, *args: object) -> object: ...


class Group(Canvas, Protocol):
    """A group of signatures."""

    tasks: Sequence[Canvas]

    def clone(self) -> Group: ...


def shape_of(results: Iterable[Handle]) -> tuple[list[object], list[str]]:
    """A list with a list in place of each group and None in that of each task, and the tasks' ids in order."""
    shape: list[object] = []
    members: list[str] = []
    for result in results:
        below = getattr(result, "results", None)
        if below is None:
            shape.append(None)
            members.append(result.id)
        else:
            inner, ids = shape_of(below)
            shape.append(inner)
            members += ids
    return shape, members


def is_flat(shape: Iterable[object]) -> bool:
    return all(each is None for each in shape)


def fold(shape: Sequence[object], values: Iterable[object]) -> list[object]:
    """The values in the nesting of `shape`. Those that a header has grown by come last."""
    left = iter(values)
    return [*_fold(shape, left), *left]


def _fold(shape: Sequence[object], left: Iterator[object]) -> list[object]:
    return [next(left) if each is None else _fold(cast("Sequence[object]", each), left) for each in shape]


def tasks_in(signature: Canvas) -> Iterator[Canvas]:
    """The signatures of single tasks in a signature."""
    if isinstance(signature, group | _chain | _chord):
        for task in cast("Iterable[Canvas]", getattr(signature.tasks, "tasks", signature.tasks)):
            yield from tasks_in(task)
        if isinstance(signature, _chord) and signature.body is not None:
            yield from tasks_in(cast("Canvas", signature.body))
    else:
        yield signature


def ids_in(signature: Canvas) -> Iterator[str]:
    """The ids of the tasks that a frozen signature sends, as far as they are known."""
    return (str(task.options["task_id"]) for task in tasks_in(signature) if task.options.get("task_id"))


def is_sent(signature: Canvas, begun: Container[str]) -> bool:
    """Whether all messages of a frozen signature were sent, as the tasks that have begun show.

    Of a chain and of a chord it is what comes first in them; the rest is sent by that.
    """
    if not isinstance(signature, group | _chain | _chord):
        return str(signature.options.get("task_id")) in begun
    tasks = cast("Sequence[Canvas]", getattr(signature.tasks, "tasks", signature.tasks))
    later = tasks[1:] if isinstance(signature, _chain) else ()
    if isinstance(signature, _chord) and signature.body is not None:
        later = (cast("Canvas", signature.body),)
    if any(task_id in begun for task in later for task_id in ids_in(task)):
        return True
    return all(is_sent(task, begun) for task in (tasks[:1] if isinstance(signature, _chain) else tasks))
