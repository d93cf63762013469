"""The nesting of a chord's header, apart from its results; and the tasks in a signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import Protocol, cast

from celery.canvas import _chain, group


class Handle(Protocol):
    """Celery's AsyncResult, or its ResultSet and GroupResult, which have `results`."""

    id: str

    def as_tuple(self) -> tuple[object, ...]: ...


class Pending(Handle, Protocol):
    """Celery's AsyncResult, whose record may still be to come."""

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


def ids_in(signature: Canvas) -> Iterator[str]:
    """The ids of the tasks that a frozen signature sends, as far as they are known."""
    if isinstance(signature, group | _chain):
        for task in cast("Iterable[Canvas]", signature.tasks):
            yield from ids_in(task)
    elif task_id := signature.options.get("task_id"):
        yield str(task_id)
