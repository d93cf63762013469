"""`settled.Executor`: a `concurrent.futures.Executor` over another one, whose results are kept."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TypeAlias, TypeVar, cast

from settled.app import DEFAULT_URL, App
from settled.backends.base import BaseBackend
from settled.backends.protocols import in_seconds
from settled.errors import ConfigurationError
from settled.executor.attempts import backoff as default_backoff
from settled.executor.calls import DIGEST, Call, Key, call, checked_retries
from settled.executor.chording import Chording
from settled.executor.digest import digest_of_ids
from settled.executor.flights import Flights
from settled.executor.handles import Handle
from settled.executor.intake import Intake
from settled.executor.mapped import Mapped
from settled.executor.pool import Pool
from settled.executor.register import Register
from settled.executor.tasks import Rules, Store
from settled.groups import GroupResult
from settled.record import FailurePolicy
from settled.results import AnyResult

T = TypeVar("T")

Calls: TypeAlias = "Iterable[Call[object] | Calls]"
"""Calls, and groups of calls among them."""


class Executor(concurrent.futures.Executor):
    """Runs calls through another executor and keeps what becomes of them.

    Each result is in the store the moment it exists. A call has a key, by default a digest of the
    function, its source and the arguments: what is finished under that key is not done again, in
    this process or in any other; what is under way elsewhere is waited for; what was under way in a
    process that died is done again. A result that cannot be stored is a failure of its call.

    Args:
        inner: an executor, or what makes one when called without arguments: `ProcessPoolExecutor`,
            `lambda: ThreadPoolExecutor(8)`. One that is made here is shut down with this one, and
            made anew when it breaks because a worker died: its calls then go on. One that was given
            is left as it is; when it breaks, the calls that were with it fail with WorkerLost.
        backend: a URL, a backend or an App. With a pool of processes, one that processes share.
        idempotent: False gives calls without `key=` a fresh id each: nothing is found again.
        retries: how often a call that raised is tried again, by default. Of a call that is submitted
            again while it is under way the larger number counts.
        lease: seconds after which a call whose process died may be run by another. A process that
            lives extends its leases every third of that.
        backoff: seconds to pause after attempt 0, 1, ... has failed. Must be picklable for a pool
            of processes; default 0.1 s doubled each time, at most 60 s, give or take half.

    A call whose worker died is an attempt; after 2 + `retries` such deaths it is given up, as a
    FAILURE with WorkerLost. A call that was interrupted by Ctrl-C is left in RETRY: submitted again it
    is done again, as is one that was cancelled. A `SystemExit` is a failure and is not retried.

    Raises ConfigurationError for arguments that cannot work together; StoreUnavailable and
    StoreError wherever the store is reached.
    """

    def __init__(
        self,
        inner: concurrent.futures.Executor | Callable[[], concurrent.futures.Executor],
        backend: str | BaseBackend | App = DEFAULT_URL,
        *,
        idempotent: bool = True,
        retries: int = 0,
        lease: float = 30.0,
        backoff: Callable[[int], float] = default_backoff,
    ) -> None:
        if not in_seconds(lease, "lease"):
            raise ConfigurationError(
                "lease is the seconds after which a dead process is taken for dead: more than 0"
            )
        self._owned = isinstance(backend, str)
        self.backend = _backend_of(backend)
        self._pool = Pool(inner, self.backend.capabilities.shared)
        token = f"{os.getpid()}-{os.urandom(8).hex()}"
        self._rules = Rules(Store(self.backend), token, float(lease), backoff, self._pool.owned)
        self._register = Register()
        self._flights = Flights(self.backend, self._pool, self._rules, self._register)
        self._intake = Intake(
            self.backend, self._register, self._flights, self._rules, checked_retries(retries), idempotent
        )
        self._closed = False

    # -- submitting --------------------------------------------------------------------------

    def submit(  # type: ignore[override]
        self,
        fn: Callable[..., T],
        /,
        *args: object,
        key: Key = DIGEST,
        retries: int | None = None,
        expires: float | None = None,
        timeout: float | None = None,
        **kwargs: object,
    ) -> Handle[T]:
        """Have `fn(*args, **kwargs)` run, unless it is done; its handle.

        Args:
            key: the task id. Default a digest of the call; None for a fresh id, so that it runs.
            retries: how often it is tried again when it raises. A stored failure after fewer attempts
                than that is tried again.
            expires: seconds for which its record is kept, instead of the backend's setting; 0 for ever.
            timeout: seconds that one attempt may run. In the main thread of a worker process the call
                is interrupted with TimeLimitExceeded. In a thread nothing can stop it: the task is then
                settled as FAILURE, not tried again by this submit, and the thread runs on.

        A function that takes one of these keywords itself is given it by `functools.partial`.
        Raises ConfigurationError if no digest can be made of the call.
        """
        request = call(fn, *args, key=key, retries=retries, expires=expires, timeout=timeout, **kwargs)
        self._check_open()
        return cast("Handle[T]", self._intake.one(cast("Call[object]", request)))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[object],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Mapped[T]:
        """The values of `fn` for these arguments, in order; all calls are submitted at once.

        The iterator raises the first call's exception that it comes to, and TimeoutError when
        `timeout` seconds have passed since this call; calls that have not started are then left
        undone. Its `handles` are there to look at each. `chunksize` is accepted as published: each
        call is sent, and its result stored, by itself.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        # Equal calls are one call here: their handles are told of the same run.
        calls = [Call(cast("Callable[..., object]", fn), args, {}) for args in zip(*iterables, strict=False)]
        handles = cast("list[Handle[T]]", self._submit(calls))
        return Mapped(handles, timeout, lambda handle: self._flights.abandon(cast("Handle[object]", handle)))

    def group(self, calls: Calls) -> GroupResult:
        """Submit these calls, and the groups among them; a GroupResult whose results are their handles.

        Its id is a digest of its members' ids.
        """
        nested = [each if isinstance(each, Call) else self.group(each) for each in calls]
        handles = iter(self._submit([each for each in nested if isinstance(each, Call)]))
        results = [next(handles) if isinstance(each, Call) else each for each in nested]
        group_id = digest_of_ids("group", (each.id for each in results))
        return GroupResult(group_id, cast("list[AnyResult]", results), app=self.backend.app)

    def chord(
        self,
        calls: Iterable[Call[object]],
        body: Call[T],
        *,
        on_failure: FailurePolicy | str = FailurePolicy.ALL,
        rerun_body: bool = False,
    ) -> Handle[T]:
        """Submit these calls, and `body` when all of them are settled; the handle of the body.

        The body is called with the header's values in order, before its own arguments. The handle's
        `parent` is the header's GroupResult. Submitted again the same chord is found: calls that are
        done are not done again, and neither is a body that has succeeded.

        Args:
            on_failure: "first" fails the body with ChordError at the first failure, "all" when all are
                settled; with "outcomes" the body runs in any case, with a list of `chords.Outcome`.
            rerun_body: run the body although it is done, over the header as it is now stored. The
                body's record is forgotten first. A body with `key=None` is always run.
        """
        self._check_open()
        try:
            policy = FailurePolicy(on_failure)
        except ValueError as exc:
            known = ", ".join(repr(policy.value) for policy in FailurePolicy)
            raise ConfigurationError(f"on_failure must be one of {known}, not {on_failure!r:.80}") from exc
        chording = Chording(self._intake, list(calls), cast("Call[object]", body), policy, rerun_body)
        return cast("Handle[T]", chording.submit())

    def _submit(self, calls: Sequence[Call[object]]) -> list[Handle[object]]:
        self._check_open()
        return self._intake.many(calls, self._intake.ids(calls))

    # -- the end -----------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end the inner executor if it was made here.

        Args:
            wait: return when every call is done; else what was submitted still runs.
            cancel_futures: cancel the calls that have not started. Nothing is stored for them: they
                are left for the next time that they are submitted, and open chords stay open.
        """
        self._closed = True
        if cancel_futures:
            self._flights.abandon_all()
        if wait:
            self._register.wait()
            self._pool.shutdown(wait=True)
            if self._owned:
                self.backend.close()
        else:
            self._register.when_empty(lambda: self._pool.shutdown(wait=False))

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down and wait. On the way out of a KeyboardInterrupt or SystemExit nothing more is started."""
        self.shutdown(wait=True, cancel_futures=exc is not None and not isinstance(exc, Exception))


def _backend_of(backend: object) -> BaseBackend:
    if isinstance(backend, str):
        return App(backend).backend
    if isinstance(backend, App):
        return backend.backend
    if isinstance(backend, BaseBackend):
        return backend
    raise ConfigurationError(
        f"backend must be a URL such as 'sqlite:///results.db', a backend or an App, not {backend!r:.80}"
    )
