"""The handle of a submitted call: a result, and a future."""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from typing import Protocol, TypeVar, cast

from settled.backends.base import BaseBackend
from settled.backends.protocols import checked_timeout
from settled.delivery import Answer
from settled.errors import SettledError, TimeoutError
from settled.record import Meta
from settled.results import AnyResult, AsyncResult, ResultBase
from settled.states import PROPAGATE_STATES, SUCCESS

log = logging.getLogger("settled.executor")

T = TypeVar("T")


class Underway(Protocol):
    """What a handle asks of the call behind it while that is not done."""

    def cancel(self, handle: Handle[object]) -> bool: ...

    def running(self) -> bool: ...


class Handle(ResultBase[T], Future[T]):
    """The handle of one call submitted to an Executor.

    Everything a `concurrent.futures.Future` is, so that `concurrent.futures.wait`, `as_completed`
    and `asyncio.wrap_future` accept it, with everything of an AsyncResult but that `result()` is
    the Future's method. It is done when the call's record is ready in the store; it keeps what it
    was told then. Pickled, it becomes an AsyncResult.
    """

    _underway: Underway | None = None

    def __init__(self, id: str, backend: BaseBackend, parent: AnyResult | None = None) -> None:
        ResultBase.__init__(self, id, backend, parent)
        Future.__init__(self)

    # -- being a future ----------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        """The value, or raise the call's exception. TimeoutError after `timeout` seconds."""
        try:
            return super().result(timeout)
        except builtins.TimeoutError:
            self._check_done(timeout)
            return super().result(0)  # the call's own TimeoutError

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The call's exception, None if it has succeeded. TimeoutError after `timeout` seconds."""
        try:
            return super().exception(timeout)
        except builtins.TimeoutError:
            self._check_done(timeout)
            return super().exception(0)

    def _check_done(self, timeout: float | None) -> None:
        if not self.done():
            raise TimeoutError(f"task {self.id!r} was not ready within {timeout} s") from None

    def cancel(self) -> bool:
        """Keep the call from running, if it has not started; its record then is REVOKED.

        False if it runs or is done. Where another handle waits for the same call, only this
        handle is cancelled and the call goes on.
        """
        underway = self._underway
        if underway is None:
            return self.cancelled()
        return underway.cancel(cast("Handle[object]", self))

    def running(self) -> bool:
        underway = self._underway
        return not self.done() and underway is not None and underway.running()

    # -- being a result ----------------------------------------------------------------------

    def get(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> T:
        """As `AsyncResult.get`. CancelledError if the handle was cancelled."""
        timeout = checked_timeout(timeout)
        error = None if propagate else self.exception(timeout)
        return self.result(timeout) if error is None else cast("T", error)

    wait = get

    def __await__(self) -> Generator[object, None, T]:
        if not self.done():
            yield from self.future()
        return super().result(0)

    def future(self) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(self._meta or {})

        def told(_: Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(resolve)

        self.add_done_callback(told)
        return future

    def when_told(self, tell: Callable[[ResultBase[T]], object]) -> Callable[[], object]:
        self.add_done_callback(lambda _: tell(self))
        return bool

    def then(
        self,
        callback: Callable[[ResultBase[T]], object],
        on_error: Callable[[ResultBase[T]], object] | None = None,
    ) -> None:
        def told(_: Future[T]) -> None:
            failed = self.cancelled() or Future.exception(self) is not None
            chosen = on_error if failed else callback
            try:
                if chosen is not None:
                    chosen(self)
            except Exception:
                log.exception("the callback of task %s failed", self.id)

        self.add_done_callback(told)

    @property
    def wanted(self) -> bool:
        return self._meta is None and not self.done()

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __eq__(self, other: object) -> bool:
        # Two handles of one call are two futures: `concurrent.futures` keeps them in sets.
        return self is other

    def __copy__(self) -> AsyncResult[T]:
        return AsyncResult(self.id, self.backend, self.parent)

    def __reduce__(self) -> tuple[object, ...]:
        return AsyncResult, (self.id, self.backend, self.parent)

    @property
    def succeeded(self) -> bool:
        """Whether the handle was told of a SUCCESS. Never asks the store."""
        return self._meta is not None and self._meta["status"] == SUCCESS

    @property
    def told(self) -> bool:
        """Whether the handle holds the call's ready record."""
        return self._meta is not None

    # -- what the executor calls -----------------------------------------------------------------

    def attend(self, underway: Underway) -> None:
        """The call behind this handle is now under way."""
        self._underway = underway

    def settle(self, meta: Meta, value: object) -> None:
        """The call's record is ready; `value` is what it holds."""
        self.keep(meta)
        if meta["status"] not in PROPAGATE_STATES:
            self._tell(lambda: self.set_result(cast("T", value)))
            return
        error = (
            value
            if isinstance(value, Exception)
            else SettledError(f"task {self.id!r} failed: {value!r:.200}")
        )
        self._tell(lambda: self.set_exception(error))

    def fail(self, error: BaseException) -> None:
        """Nothing is stored, and nothing more will be here: `error` says why."""
        self._tell(lambda: self.set_exception(error))

    def drop(self) -> bool:
        """Be cancelled, whatever becomes of the call. False if it is done."""
        if self.cancelled() or not Future.cancel(self):
            return self.cancelled()
        self._underway = None
        self.set_running_or_notify_cancel()  # so that `concurrent.futures.wait` counts it as done
        return True

    def _tell(self, tell: Callable[[], None]) -> None:
        self._underway = None
        try:
            tell()
        except InvalidStateError:
            log.debug("handle %s was cancelled while its call was settled", self.id)
