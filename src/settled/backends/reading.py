"""Reading records and waiting for them: the half of the interface that writes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import ClassVar, Self, cast

from settled import codec, failure, states
from settled.backends.cache import ResultCache
from settled.backends.engine import Engine
from settled.backends.protocols import Application, checked_timeout, in_seconds, setting, setting_or_none
from settled.codec import compression
from settled.delivery import Answer
from settled.errors import (
    CorruptRecord,
    DecodeError,
    ResultExpired,
    ResultForgotten,
    SettledError,
    TimeoutError,
)
from settled.listening import Listening, Polling
from settled.record import (
    Gone,
    Meta,
    Presence,
    Query,
    Row,
    checked_id,
    holds_exception,
    is_ready,
    meta_of,
    pending_meta,
)
from settled.url import Location, parse, read_options
from settled.waiting import HANDED_ON, READ_BATCH, Watcher

DEFAULT_EXPIRES = 24 * 3600.0


class Reader(Engine):
    """Settings, codec, reads and waits. See `BaseBackend` for the arguments."""

    READY_STATES = states.READY_STATES
    UNREADY_STATES = states.UNREADY_STATES
    EXCEPTION_STATES = states.EXCEPTION_STATES
    TimeoutError = TimeoutError

    persistent: bool = True
    subpolling_interval: float | None = None
    supports_native_join: bool = False

    url_options: ClassVar[Mapping[str, Callable[[object], object]]] = {}
    default_url: ClassVar[str] = "unnamed://"

    def __init__(
        self,
        app: Application,
        serializer: str | None = None,
        max_cached_results: int | None = None,
        accept: Iterable[str] | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__()
        self.app = app
        conf = app.conf
        self.serializer = _text(serializer or setting(conf, "result_serializer", "json"))
        accepted = accept or setting(conf, "result_accept_content") or setting(conf, "accept_content")
        self.accept = codec.accept_set(accepted or (self.serializer, "json"))  # type: ignore[arg-type]
        method = setting(conf, "result_compression")
        self.compression = compression.method_of(_text(method)) if method else None
        url = kwargs.pop("url", None) or self.default_url
        self.location: Location = parse(url)
        self.options = read_options(
            {**self.location.options, **kwargs}, self.url_options, f"{self.location.scheme}://"
        )
        self._given = (serializer, max_cached_results, accept, {**kwargs, "url": url})
        self.expires = in_seconds(setting_or_none(conf, "result_expires", DEFAULT_EXPIRES), "result_expires")
        self.failure_expires = in_seconds(setting(conf, "result_failure_expires"), "result_failure_expires")
        self.extended = bool(setting(conf, "result_extended", False))
        limit = (
            max_cached_results if max_cached_results is not None else setting(conf, "result_cache_max", -1)
        )
        self._cache = ResultCache(int(limit))  # type: ignore[call-overload]
        self._watcher: Watcher | None = None
        self._lock = threading.Lock()

    def begin_anew(self) -> None:
        # A thread that stayed behind may have held them.
        self._lock = threading.Lock()
        self._cache = ResultCache(self._cache.limit)
        super().begin_anew()

    @property
    def url(self) -> str:
        """The backend's URL without secrets."""
        return self.location.redacted()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def __reduce__(self) -> tuple[object, ...]:
        if self.owned:
            return attrgetter("backend"), (self.app,)
        return _rebuilt, (type(self), self.app, self._given)

    def __deepcopy__(self, memo: object) -> Self:
        """A backend is a way to a store: copying a handle does not open another one."""
        return self

    # -- bytes and values ----------------------------------------------------------------------

    def encode(self, data: object) -> bytes:
        """`data` as a payload that says what it is, compressed where the setting `result_compression` says so.

        EncodeError names the path of what cannot be stored.
        """
        payload = codec.encode(data, self.serializer)
        return compression.compress(payload, self.compression) if self.compression else payload

    def decode(self, payload: bytes | str) -> object:
        """The value in `payload`. ContentRefused if its serializer is not accepted, else DecodeError."""
        return codec.decode(payload, self.accept, self.serializer)

    def exception_to_python(self, exc: object) -> Exception | None:
        """A stored exception as an exception object; see `failure.from_wire`. None stays None."""
        if exc is None or isinstance(exc, Exception):
            return exc
        if isinstance(exc, BaseException):
            return failure.from_wire(failure.to_wire(exc))
        return failure.from_wire(exc)

    # -- records -----------------------------------------------------------------------------

    def get_task_meta(self, task_id: str, cache: bool = True) -> Meta:
        """The stored record as a dict in Celery's form; that of a PENDING task if there is none.

        Raises CorruptRecord or ContentRefused, naming the task, if it cannot be read.
        """
        task_id = checked_id(task_id)
        if cache:
            self.check_fork()
            cached = self._cache.get(task_id)
            if cached is not None:
                return cached
        meta = self._get_task_meta_for(task_id)
        if cache:
            self._keep_in_cache(task_id, meta)
        return meta

    def _keep_in_cache(self, task_id: str, meta: Meta) -> None:
        """Keep what is final: a FAILURE may still give way to a later attempt's SUCCESS."""
        if meta["status"] == states.SUCCESS:
            self._cache.put(task_id, meta)
        else:
            self._cache.pop(task_id)

    def _get_task_meta_for(self, task_id: str) -> Meta:
        payload = self.call(self.do_read, (task_id,)).get(task_id)
        if payload is None or isinstance(payload, Gone):
            return pending_meta(task_id)
        return self.read_meta(task_id, payload)

    def read_meta(self, task_id: str, payload: bytes | str) -> Meta:
        """The record in `payload`; a damaged or refused one raises, naming the task."""
        try:
            meta = self.decode(payload)
            if type(meta) is dict and type(meta.get("status")) is str and meta["status"]:
                return meta  # the usual one, told at once
            return meta_of(meta, task_id)
        except DecodeError as exc:
            kind = CorruptRecord if type(exc) is DecodeError else type(exc)
            raise kind(f"task {task_id!r}: {exc}") from exc

    def get_state(self, task_id: str) -> str:
        """The task's state; PENDING if nothing is known of it."""
        return _text(self.get_task_meta(task_id)["status"])

    get_status = get_state

    def get_result(self, task_id: str) -> object:
        """The value, or the exception as an object; an unready task's meta; None if there is none."""
        return self.result_of(self.get_task_meta(task_id))

    def result_of(self, meta: Mapping[str, object]) -> object:
        """What `meta` holds, as Python sees it: the value, or the exception rebuilt."""
        if not holds_exception(meta):
            return meta.get("result")
        exc = self.exception_to_python(meta.get("result"))
        text = meta.get("traceback")
        return exc if exc is None or text is None else failure.from_wire(exc, _text(text))

    def value_of(self, meta: Mapping[str, object], propagate: bool = True) -> object:
        """What a wait for this ready record ends with: its value, or its exception raised.

        `propagate` False returns the exception instead.
        """
        result = self.result_of(meta)
        if meta["status"] not in states.PROPAGATE_STATES:
            return result
        if not isinstance(result, Exception):
            result = SettledError(
                f"task {meta.get('task_id')!r} is {meta['status']}, with no exception stored"
            )
        if propagate:
            raise failure.show_remote(result)
        return result

    def get_traceback(self, task_id: str) -> str | None:
        """The remote traceback as text."""
        text = self.get_task_meta(task_id).get("traceback")
        return None if text is None else str(text)

    def get_children(self, task_id: str) -> object:
        """The children as stored: a list of `as_tuple` forms."""
        return self.get_task_meta(task_id).get("children")

    def is_cached(self, task_id: str) -> bool:
        return checked_id(task_id) in self._cache

    def reload_task_result(self, task_id: str) -> None:
        """Read the record again and replace the cached one."""
        self._keep_in_cache(checked_id(task_id), self.get_task_meta(task_id, cache=False))

    def presence(self, task_id: str) -> Presence:
        """Unknown, pending, stored, expired or forgotten, as far as the engine can tell."""
        task_id = checked_id(task_id)
        payload = self.call(self.do_read, (task_id,)).get(task_id)
        if payload is None:
            return Presence.UNKNOWN
        if isinstance(payload, Gone):
            return Presence.EXPIRED if payload is Gone.EXPIRED else Presence.FORGOTTEN
        pending = self.read_meta(task_id, payload)["status"] == states.PENDING
        return Presence.PENDING if pending else Presence.STORED

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        """The records there are among these ids, by id, in one look."""
        payloads = self.call(self.do_read, task_ids)
        return {
            task_id: self.read_meta(task_id, payload)
            for task_id, payload in payloads.items()
            if not isinstance(payload, Gone)
        }

    def read_ready(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        """The records that are ready among these ids, by id, in as few looks as there are batches."""
        found: dict[str, Meta] = {}
        for start in range(0, len(task_ids), READ_BATCH):
            metas = self.read_many(task_ids[start : start + READ_BATCH])
            found.update((task_id, meta) for task_id, meta in metas.items() if is_ready(meta))
        return found

    def query(self, query: Query | None = None) -> Iterator[Row]:
        """Stored tasks without their results, latest write first. Needs the capability `queries`."""
        return self.call(self.do_query, query or Query())

    # -- waiting -----------------------------------------------------------------------------

    def wait_for(
        self, task_id: str, timeout: float | None = None, propagate: bool = True, interval: float = 0.5
    ) -> object:
        """Wait until the task is ready and return its value, or raise its exception.

        Args:
            timeout: seconds; None for ever, 0 to look once. Exact, also through an outage.
            propagate: False returns the exception instead of raising it.
            interval: accepted as published; waiting is pushed, and polls by its own measure.

        Raises TimeoutError, ResultExpired, ResultForgotten, CorruptRecord, or the task's own.
        """
        return self.value_of(self.wait_meta(task_id, timeout), propagate)

    def wait_meta(
        self, task_id: str, timeout: float | None = None, unready: Callable[[], object] | None = None
    ) -> Meta:
        """Wait until the task is ready and return its record. Raises as `wait_for` does.

        `unready` is called if it is not ready yet, before the wait.
        """
        task_id = checked_id(task_id)
        outcome = self.watcher.get(task_id, checked_timeout(timeout), unready)
        if outcome is None:
            raise TimeoutError(f"task {task_id!r} was not ready within {timeout} s")
        return self.outcome_meta(outcome)

    @staticmethod
    def outcome_meta(outcome: Answer) -> Meta:
        """The record a waiter was told of; raises where it was told an error."""
        if isinstance(outcome, SettledError):
            raise outcome
        return cast("Meta", outcome)

    @property
    def watcher(self) -> Watcher:
        """This process's watcher for this backend, made at the first wait."""
        watcher = self._watcher
        if watcher is None:
            self.check_fork()
            with self._lock:
                watcher = self._watcher
                if watcher is None:
                    watcher = Watcher(self._ready, self._listener_maker())
                    self._watcher = watcher
        return watcher

    def _listener_maker(self) -> Callable[[], Listening] | None:
        if not self.capabilities.shared:
            return None
        return self.do_listen if self.capabilities.push else Polling

    def _ready(self, task_ids: Sequence[str], deadline: float | None = None) -> Iterator[dict[str, Answer]]:
        """What is ready among these ids, few at a time. One try: the watcher has its own way with an outage."""
        self.check_fork()
        if deadline is None:
            payloads = self.do_read(task_ids)
        else:
            with self.within(deadline):
                payloads = self.do_read(task_ids)
        found: dict[str, Answer] = {}
        for task_id, payload in payloads.items():
            if len(found) == HANDED_ON:
                yield found
                found = {}
            if isinstance(payload, Gone):
                found[task_id] = _gone(task_id, payload)
                continue
            try:
                meta = self.read_meta(task_id, payload)
            except DecodeError as exc:
                found[task_id] = exc
            else:
                if is_ready(meta):
                    found[task_id] = meta
        if found:
            yield found

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float = 0.5,
        READY_STATES: frozenset[str] = states.READY_STATES,  # noqa: N803 - the published name
    ) -> Iterator[tuple[str, Meta]]:
        """Yield (task id, record) for each of these tasks, as they become ready.

        `timeout` seconds are for all of them together; TimeoutError when they have passed.
        With other `READY_STATES` than the usual, records are polled every `interval` seconds.
        """
        ids = [checked_id(task_id) for task_id in task_ids]
        limit = checked_timeout(timeout)
        if READY_STATES != self.READY_STATES:
            return self._poll_many(ids, limit, interval, READY_STATES)
        return (pair for arrived in self.arrivals(ids, limit) for pair in arrived)

    def arrivals(
        self, task_ids: Sequence[str], timeout: float | None
    ) -> Iterator[Sequence[tuple[str, Meta]]]:
        """As `get_many`, of valid ids: those that are seen at once are yielded together."""
        for arrived in self.watcher.arrivals(task_ids, timeout):
            for position, (_, outcome) in enumerate(arrived):
                if isinstance(outcome, SettledError):  # those before it were in time
                    yield cast("Sequence[tuple[str, Meta]]", arrived[:position])
                    raise outcome
            yield cast("Sequence[tuple[str, Meta]]", arrived)

    def _poll_many(
        self, task_ids: Sequence[str], timeout: float | None, interval: float, wanted: frozenset[str]
    ) -> Iterator[tuple[str, Meta]]:
        deadline = None if timeout is None else time.monotonic() + timeout
        missing = dict.fromkeys(task_ids)
        while missing:
            for task_id, meta in self.read_many(list(missing)).items():
                if meta["status"] in wanted:
                    del missing[task_id]
                    yield task_id, meta
            left = None if deadline is None else deadline - time.monotonic()
            if missing and left is not None and left <= 0:
                raise TimeoutError(f"{len(missing)} tasks were not ready within {timeout} s")
            if missing:
                time.sleep(interval if left is None else min(interval, left))


def _rebuilt(kind: Callable[..., object], app: Application, given: tuple[object, ...]) -> object:
    serializer, max_cached, accept, kwargs = given
    return kind(app, serializer, max_cached, accept, **cast("dict[str, object]", kwargs))


def _gone(task_id: str, why: Gone) -> SettledError:
    if why is Gone.EXPIRED:
        return ResultExpired(
            f"the result of task {task_id!r} has expired: read it sooner or raise result_expires"
        )
    return ResultForgotten(f"the result of task {task_id!r} was forgotten")


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)
