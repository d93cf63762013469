"""Handles on many tasks at once: sets of results, groups, and waiting for whichever comes first."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Self, TypeVar, cast

from settled.backends.base import BaseBackend
from settled.backends.protocols import Application
from settled.completion import as_completed, deadline_in, gather, left_until, look, wanted
from settled.errors import ConfigurationError, EncodeError
from settled.record import checked_id
from settled.results import AnyResult, ResultBase
from settled.states import PROPAGATE_STATES

T = TypeVar("T")


class ResultSet:
    """An ordered set of handles, of tasks or of groups, that can be waited for together.

    Args:
        results: the handles; the first of two that are equal stays.
        app: makes the handles' backend known where the set is empty.
    """

    def __init__(self, results: Iterable[AnyResult], app: Application | None = None) -> None:
        self.results: list[AnyResult] = list(dict.fromkeys(results))
        self.app = app

    @property
    def backend(self) -> BaseBackend:
        if self.results:
            return self.results[0].backend
        backend = getattr(self.app, "backend", None)
        if backend is None:
            raise ConfigurationError("an empty set of results knows no backend: give it app=")
        return cast("BaseBackend", backend)

    # -- waiting -----------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, object], object] | None = None,
    ) -> list[object]:
        """The values in order, when all are ready; the same as `join`."""
        return self.join(timeout, propagate, interval, callback)

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, object], object] | None = None,
    ) -> list[object]:
        """Wait for all and return their values in order.

        Args:
            timeout: seconds for all of them together; TimeoutError when they have passed.
            propagate: raise the first failure, in order, instead of returning it in its place.
            interval: accepted for compatibility; waiting is pushed.
            callback: called as `callback(task_id, value)` for each, in order; then [] is returned.
        """
        deadline = deadline_in(timeout)
        self._look()
        values: list[object] = []
        for result in self.results:
            value = result.get(left_until(deadline), propagate)
            if callback is None:
                values.append(value)
            else:
                callback(result.id, value)
        return values

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, object], object] | None = None,
    ) -> list[object]:
        """As `join`, but told as they arrive: the first failure to arrive raises at once."""
        arrived: dict[AnyResult, object] = {}
        for result in as_completed(self.results, timeout):
            value = result.get(0, propagate)
            if callback is None:
                arrived[result] = value
            else:
                callback(result.id, value)
        return [arrived[result] for result in self.results] if callback is None else []

    def __await__(self) -> Generator[object, None, list[object]]:
        return gather(*self.results).__await__()

    def _load(self) -> None:
        """Read every record that is not held yet, in one look."""
        for backend, by_id in wanted(self.results).items():
            for task_id, meta in backend.read_ready(list(by_id)).items():
                for result in by_id[task_id]:
                    result.keep(meta)

    def _look(self) -> None:
        """As `_load`, for one who waits: nothing is read while the store is out of reach."""
        look(self.results)

    def tasks(self) -> Iterator[ResultBase[object]]:
        """The handles of the tasks in it, and in the groups in it."""
        for result in self.results:
            yield from result.tasks()

    def future(self) -> asyncio.Future[list[object]]:
        """A future of the running loop that is done when every task is ready."""
        return asyncio.ensure_future(gather(*self.results, return_exceptions=True))

    # -- looking -----------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether every task is ready."""
        self._load()
        return all(result.ready() for result in self.results)

    def successful(self) -> bool:
        """Whether every task has succeeded."""
        self._load()
        return all(result.successful() for result in self.results)

    def failed(self) -> bool:
        """Whether any task has failed."""
        self._load()
        return any(result.failed() for result in self.results)

    def waiting(self) -> bool:
        """Whether any task is not ready."""
        return not self.ready()

    def completed_count(self) -> int:
        """How many of the tasks have succeeded; those of nested groups counted one by one."""
        self._load()
        return sum(
            each.completed_count() if isinstance(each, ResultSet) else each.successful()
            for each in self.results
        )

    def maybe_throw(self, propagate: bool = True) -> None:
        """Raise the exception of the first task, in order, that has failed."""
        self._load()
        for result in self.results:
            if isinstance(result, ResultSet):
                result.maybe_throw(propagate)
            elif propagate and result.state in PROPAGATE_STATES:
                result.get(0)

    def forget(self, children: bool = False) -> None:
        """Forget every task's result."""
        for result in self.results:
            result.forget(children=children)

    # -- being a collection ------------------------------------------------------------------

    def add(self, result: AnyResult) -> None:
        """Put a handle behind the others, if it is not there."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: AnyResult) -> None:
        """Take a handle out; KeyError if it is not there."""
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: AnyResult) -> None:
        """Take a handle out if it is there."""
        if result in self.results:
            self.results.remove(result)

    def update(self, results: Iterable[AnyResult]) -> None:
        for result in results:
            self.add(result)

    def clear(self) -> None:
        self.results.clear()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        made = copy.copy(self)  # the app is the same one
        made.results = copy.deepcopy(self.results, memo)
        return made

    def __iter__(self) -> Iterator[AnyResult]:
        return iter(self.results)

    def __getitem__(self, index: int) -> AnyResult:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultSet) and other.results == self.results

    def __hash__(self) -> int:
        raise TypeError("a plain set of results can change and has no hash; a GroupResult has")

    def __repr__(self) -> str:
        shown = ", ".join(str(each) for each in self.results[:5])
        return f"<{type(self).__name__} [{shown}{', ...' if len(self) > 5 else ''}]>"

    @property
    def id(self) -> str:
        raise AttributeError("a plain set of results has no id; a GroupResult has")

    def as_tuple(self) -> tuple[object, object]:
        raise EncodeError("a plain set of results cannot be stored; a GroupResult can")

    @property
    def children(self) -> list[AnyResult]:
        return self.results


class GroupResult(ResultSet):
    """The handles of a group's tasks, in order, under the group's id.

    Args:
        id: the group id.
        parent: the handle of the task that sent the group.
    """

    def __init__(
        self,
        id: str,
        results: Iterable[AnyResult] = (),
        parent: AnyResult | None = None,
        app: Application | None = None,
    ) -> None:
        super().__init__((), app)
        # A header may hold the same task at two places: unlike a set, a group keeps both.
        self.results = list(results)
        self._id = checked_id(id, "group id")
        self.parent = parent

    @property
    def id(self) -> str:
        return self._id

    def as_tuple(self) -> tuple[object, object]:
        """The stored form: `((id, parent's form), [members' forms])`."""
        parent = self.parent
        return (self.id, None if parent is None else parent.as_tuple()), [
            each.as_tuple() for each in self.results
        ]

    def save(self, backend: BaseBackend | None = None) -> None:
        """Store the members under the group's id, so that `restore` finds them from anywhere."""
        (backend or self.backend).save_group(self.id, self)

    def delete(self, backend: BaseBackend | None = None) -> None:
        """Delete what `save` stored. The tasks' results stay."""
        (backend or self.backend).delete_group(self.id)

    @classmethod
    def restore(
        cls, id: str, backend: BaseBackend | None = None, app: Application | None = None
    ) -> GroupResult | None:
        """The group saved under `id`, or None. Give the backend, or an app that has one."""
        backend = backend or cast("BaseBackend | None", getattr(app, "backend", None))
        if backend is None:
            raise ConfigurationError("GroupResult.restore needs backend= or app=")
        return cast("GroupResult | None", backend.restore_group(id))

    def forget(self, children: bool = False) -> None:
        """Forget the group, its barrier and every task's result."""
        super().forget(children)
        self.backend.forget(self.id)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupResult) and other.id == self.id and other.results == self.results

    def __reduce__(self) -> tuple[object, ...]:
        return GroupResult, (self.id, self.results, self.parent, self.app)
