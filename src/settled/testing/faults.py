"""What goes wrong between a backend and its store, made to happen: each fault wraps one hook.

A fault is set on a backend's hook by name (`do_settle`, ...) and is used up after `times` calls.
Nothing is timed: a call that is held stays held until it is released.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from settled.backends.engine import Engine, Listener
from settled.errors import StoreUnavailable

Hook = Callable[..., object]
Fault = Callable[[Hook, tuple[object, ...]], object]


class Held:
    """A call that was stopped. `entered` is set when it has come; `release` lets it go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._go = threading.Event()

    def release(self) -> None:
        self._go.set()

    def wait(self) -> None:
        self.entered.set()
        self._go.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Calls:
    """How often a hook was called."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.count = 0

    def add(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def reach(self, count: int, timeout: float) -> bool:
        """Wait for the call number `count`; False if it does not come in `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, timeout)


class Faults:
    """Sets faults on backends, and takes them all away again."""

    def __init__(self) -> None:
        self._set: list[tuple[object, str]] = []
        self._held: list[Held] = []

    # -- the faults --------------------------------------------------------------------------

    def drop(self, backend: Engine, hook: str, times: int | None = 1) -> None:
        """The store cannot be reached: the call is never made. `times` None: for good."""

        def fault(call: Hook, args: tuple[object, ...]) -> object:
            raise StoreUnavailable(f"{hook} was dropped by a fault")

        self.wrap(backend, hook, fault, times)

    def fail_after(self, backend: Engine, hook: str, times: int | None = 1) -> None:
        """The reply is lost: the call is made, the caller is told that the store was not reached."""

        def fault(call: Hook, args: tuple[object, ...]) -> object:
            call(*args)
            raise StoreUnavailable(f"the reply of {hook} was lost by a fault")

        self.wrap(backend, hook, fault, times)

    def duplicate(self, backend: Engine, hook: str, times: int | None = 1) -> None:
        """The call is made twice; the caller gets the second answer."""

        def fault(call: Hook, args: tuple[object, ...]) -> object:
            call(*args)
            return call(*args)

        self.wrap(backend, hook, fault, times)

    def hold_before(self, backend: Engine, hook: str) -> Held:
        """One call waits before it is made."""
        held = self._new_hold()

        def fault(call: Hook, args: tuple[object, ...]) -> object:
            held.wait()
            return call(*args)

        self.wrap(backend, hook, fault, 1)
        return held

    def hold_after(self, backend: Engine, hook: str) -> Held:
        """One call is made, and its answer waits."""
        held = self._new_hold()

        def fault(call: Hook, args: tuple[object, ...]) -> object:
            answer = call(*args)
            held.wait()
            return answer

        self.wrap(backend, hook, fault, 1)
        return held

    def fail(self, backend: Engine, hook: str, error: Exception, times: int | None = 1) -> None:
        """The call is not made and raises `error`."""

        def fault(call: Hook, args: tuple[object, ...]) -> object:
            raise error

        self.wrap(backend, hook, fault, times)

    def cut_listener(self, backend: Engine) -> None:
        """The first listener loses its connection at its first wait."""

        def fault(call: Hook, args: tuple[object, ...]) -> object:
            return _CutListener(call(*args))  # type: ignore[arg-type]

        self.wrap(backend, "do_listen", fault, 1)

    def count(self, target: object, name: str) -> Calls:
        """No fault: count the calls of a hook, or of another method, that have returned."""
        calls = Calls()

        def fault(call: Hook, args: tuple[object, ...]) -> object:
            try:
                return call(*args)
            finally:
                calls.add()

        self.wrap(target, name, fault, None)
        return calls

    def skew(self, backend: Engine, seconds: float) -> None:
        """This backend's clock goes wrong by `seconds`; the store's other users keep theirs."""
        right = backend.clock
        backend.clock = lambda: right() + seconds

    # -- setting and lifting -----------------------------------------------------------------

    def wrap(self, target: object, name: str, fault: Fault, times: int | None) -> None:
        """Have the next `times` calls of `target.name` (None: all) made by `fault(call, args)`."""
        call: Hook = getattr(target, name)
        lock = threading.Lock()
        left = times

        def wrapped(*args: object) -> object:
            nonlocal left
            with lock:
                faulty = left is None or left > 0
                left = None if left is None else left - 1
            return fault(call, args) if faulty else call(*args)

        setattr(target, name, wrapped)
        self._set.append((target, name))

    def lift(self) -> None:
        """Take every fault away and release what is held."""
        for held in self._held:
            held.release()
        for target, name in self._set:
            vars(target).pop(name, None)
        self._set.clear()
        self._held.clear()

    def _new_hold(self) -> Held:
        held = Held()
        self._held.append(held)
        return held


class _CutListener:
    """A listener whose connection breaks as soon as it is waited on."""

    def __init__(self, listener: Listener) -> None:
        self.wake = listener.wake
        self.watch = listener.watch
        self.unwatch = listener.unwatch
        self.close = listener.close

    def wait(self, timeout: float) -> None:
        raise StoreUnavailable("the listener's connection was cut by a fault")
