"""Celery's backend interface, answered by an engine."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import cast

import celery.backends.base as celerys
from celery import Celery, current_app, signals
from celery._state import get_current_task
from celery.exceptions import BackendGetMetaError, BackendStoreError
from celery.result import ResultSet
from kombu.exceptions import EncodeError as KombusEncodeError

from settled.app import engine_class
from settled.backends.base import BaseBackend
from settled.backends.protocols import field
from settled.errors import EncodeError, StoreError, StoreUnavailable, TimeoutError
from settled.integrations.celery.bridge import MARK, Bridge
from settled.integrations.celery.promises import attend
from settled.integrations.celery.settings import engine_settings
from settled.integrations.celery.shapes import Handle, Many, Pending, is_flat, shape_of
from settled.integrations.celery.steps import Steps
from settled.record import Meta, Presence
from settled.states import EXCEPTION_STATES, PENDING, PROPAGATE_STATES, READY_STATES, SUCCESS

log = logging.getLogger("settled.celery")

KNOWN_GROUPS = 1000
"""How many chords a process remembers to have adopted or opened: their next part costs no look."""

Answer = MutableMapping[str, object]


class Backend(celerys.Backend):
    """The result backend of a Celery app: `result_backend = "settled+redis://..."`.

    What concerns the store is the engine's; what concerns Celery (chains that fail, errbacks, canvas
    errors) is inherited. A failed write or read is Celery's BackendStoreError or BackendGetMetaError, with
    the engine's error as `__cause__`; an engine that keeps writes while the store is away raises none.

    Args:
        app: the Celery app. Its settings are read here, once.
        url: the store's URL, without the `settled+` before it.
    """

    supports_native_join = True
    supports_result_compression = True
    supports_failure_expires = True
    is_async = True
    thread_safe = True
    persistent = True

    _cache: MutableMapping[str, Answer]

    def __init__(self, app: Celery, url: str | None = None, **kwargs: object) -> None:
        given = {name: kwargs.pop(name, None) for name in ("serializer", "accept", "expires")}
        settings = engine_settings(app.conf, str(url), **given)
        super().__init__(app, url=url, serializer=given["serializer"], **kwargs)
        self.thread_safe = True
        self.bridge = Bridge(app, settings.conf, self)
        self.engine: BaseBackend = engine_class(settings.url)(
            self.bridge,
            url=settings.url,
            **settings.options,  # type: ignore[arg-type]
        )
        self.engine.owned = True  # a handle on it arrives with the app's own
        if settings.retry_deadline is not None:
            self.engine.retry_deadline = settings.retry_deadline
        self.supports_autoexpire = self.engine.capabilities.expiry == "store"
        self._known: dict[str, None] = {}
        self._connect_signals()

    def _connect_signals(self) -> None:
        signals.worker_ready.connect(self._worker_ready)
        signals.worker_process_shutdown.connect(self._process_ends)
        signals.worker_shutdown.connect(self._process_ends)

    def _worker_ready(self, sender: object = None, **_: object) -> None:
        """Chords that were left are looked for by every worker, also one that has not run a task yet."""
        if getattr(sender, "app", self.app) is self.app:
            self.bridge.works()
            self.engine.start_sweeping()

    def _process_ends(self, **_: object) -> None:
        """What is kept for a store that is away goes to the spool: a child of a worker leaves by os._exit."""
        self.engine.close()

    def as_uri(self, include_password: bool = False) -> str:
        """The URL as the setting has it, `settled+...`, without secrets unless they are asked for."""
        return f"settled+{self.url if include_password else self.engine.url}"

    # -- writing -----------------------------------------------------------------------------

    def store_result(
        self,
        task_id: str,
        result: object,
        state: str,
        traceback: object = None,
        request: object = None,
        **kwargs: object,
    ) -> object:
        """Write one state: with a request that is a chord's part, record, part and due body in one step.

        Returns the result. A value that cannot be stored raises kombu's EncodeError.
        """
        try:
            if request is not None and state in READY_STATES and field(request, "chord"):
                self._meet_chord(request)
                request.settled_part = True  # type: ignore[attr-defined]
            settled = self.engine.store_result(task_id, _as_raised(result), state, traceback, request)
        except StoreError as exc:
            raise BackendStoreError(str(exc), state=state, task_id=task_id) from exc
        if state == SUCCESS and settled.landed and settled.state != SUCCESS:
            meta = self.engine.get_task_meta(task_id, cache=False)
            raise KombusEncodeError(str(self.engine.result_of(meta)))
        return result

    def _meet_chord(self, request: object) -> None:
        """Before a part is counted: its chord is known to the store, or is made known.

        For as long as the store is away that waits: a part of a chord that nobody knows would not be counted.
        """
        self.bridge.works()
        body = cast("Mapping[str, object]", field(request, "chord"))
        group_id = cast("str | None", field(request, "group"))
        while group_id is not None and MARK not in body and group_id not in self._known:
            try:
                self.engine.adopt_chord(group_id, body)
            except StoreUnavailable as exc:
                log.warning("a part of chord %s waits for the store: %s", group_id, exc)
            else:
                self._remember(group_id)

    def _remember(self, group_id: str) -> None:
        known = self._known
        if len(known) >= KNOWN_GROUPS:
            known.pop(next(iter(known)), None)
        known[group_id] = None

    def on_chord_part_return(self, request: object, state: str, result: object, **kwargs: object) -> None:
        """Count a part. One whose state was just stored is counted already.

        A header task whose result is to be ignored is stored all the same: its chord needs it.
        """
        if not getattr(request, "settled_part", False) and field(request, "group") is not None:
            self.store_result(cast("str", field(request, "id")), result, state, request=request)

    def forget(self, task_id: str) -> None:
        self._cache.pop(task_id, None)
        self.engine.forget(task_id)

    def cleanup(self) -> None:
        self.engine.cleanup()

    # -- forms -------------------------------------------------------------------------------

    def encode(self, data: object) -> bytes:
        return self.engine.encode(data)

    def decode(self, payload: bytes | str | None) -> object:
        return None if payload is None else self.engine.decode(payload)

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> object:
        """The stored form of `exc`; for "pickle", which a worker asks of itself, one that pickles."""
        if serializer is not None:
            return super().prepare_exception(exc, serializer)
        return self.engine.prepare_exception(exc)

    def exception_to_python(self, exc: object) -> Exception | None:
        return self.engine.exception_to_python(exc)

    def prepare_value(self, result: object) -> object:
        return self.engine.prepare_value(result)

    def current_task_children(self, request: object = None) -> list[object]:
        return self.engine.current_task_children(request)

    def meta_from_decoded(self, meta: Answer) -> Answer:
        if meta["status"] in EXCEPTION_STATES and not isinstance(meta["result"], BaseException):
            found = self.engine.result_of(meta)
            # What the worker raises in its place, and stores a moment later.
            meta["result"] = KombusEncodeError(str(found)) if isinstance(found, EncodeError) else found
        return meta

    def decode_result(self, payload: bytes | str) -> Answer:
        return self.meta_from_decoded(cast("Answer", self.engine.decode(payload)))

    # -- reading -----------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: str) -> Answer:
        return self.meta_from_decoded(self.engine.get_task_meta(task_id, cache=False))

    def get_task_meta(self, task_id: str, cache: bool = True) -> Answer:
        if cache:
            cached = self._cache.get(task_id)
            if cached is not None:
                return cached
        try:
            meta = self._get_task_meta_for(task_id)
        except StoreError as exc:
            raise BackendGetMetaError(str(exc), task_id=task_id) from exc
        if meta["status"] == PENDING:
            self._ensure_not_eager()  # then that is why
        elif cache and meta["status"] == SUCCESS:
            self._cache[task_id] = meta
        return meta

    def task_result_exists(self, task_id: str) -> bool:
        return self.engine.presence(task_id) in (Presence.PENDING, Presence.STORED)

    # -- groups ------------------------------------------------------------------------------

    def _save_group(self, group_id: str, result: Handle) -> Handle:
        self.engine.save_group(group_id, result)
        return result

    def _restore_group(self, group_id: str) -> Answer | None:
        return self.engine.get_group_meta(group_id, cache=False)

    def _delete_group(self, group_id: str) -> None:
        self.engine.delete_group(group_id)

    # -- chords ------------------------------------------------------------------------------

    def apply_chord(
        self, header_result_args: tuple[object, ...], body: MutableMapping[str, object], **kwargs: object
    ) -> None:
        """Open the barrier, before the first task of the header is sent. A generator's header is made for it."""
        if not self.engine.capabilities.chords:
            super().apply_chord(header_result_args, body, **kwargs)
            return
        group_id, results = cast("tuple[str, Iterable[Handle]]", header_result_args[:2])
        shape, members = shape_of(results)
        body[MARK] = True
        stored: Mapping[str, object] = body
        if not is_flat(shape):
            stored = {**body, MARK: shape}
            self.app.GroupResult(*header_result_args).save(backend=self)
        state = self.engine.chord_state(group_id)
        if state is not None and state.done:  # a frozen chord is applied again
            self.engine.call(self.engine.do_delete_chord, group_id)
        self.engine.open_chord(group_id, members, stored)
        self._remember(group_id)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        if group_id not in self._known:
            self.engine.size_chord(group_id, chord_size)

    def add_to_chord(self, chord_id: str, result: Handle) -> None:
        """Called in a task of the header, whose request tells of a chord that Celery has opened."""
        request = getattr(get_current_task(), "request", None)
        if request is not None and request.group == chord_id and request.chord:
            self._meet_chord(request)
        self.engine.grow_chord(chord_id, [result.id])

    # -- waiting -----------------------------------------------------------------------------

    def add_pending_result(self, result: Pending, weak: bool = False) -> Pending:
        """Nothing is subscribed before somebody waits, or has a callback called; see `promises`."""
        attend(result)
        return result

    def remove_pending_result(self, result: Pending) -> Pending:
        return result

    def wait_for_pending(
        self,
        result: Pending,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Answer], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        callback: Callable[[str, object], object] | None = None,
        propagate: bool = True,
    ) -> object:
        meta = self.wait_for(result.id, timeout, interval, on_interval=on_interval)
        if on_message is not None:
            on_message(meta)
        result._maybe_set_cache(meta)
        return result.maybe_throw(propagate=propagate, callback=callback)

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Callable[[], object] | None = None,
    ) -> Answer:
        """The record of the task once it is ready. Celery's TimeoutError after `timeout` seconds."""
        steps = Steps(timeout, interval, on_interval)
        while True:
            try:
                meta = self.engine.wait_meta(task_id, steps.next(), self._ensure_not_eager)
            except TimeoutError:
                steps.passed()
            else:
                if meta["status"] in PROPAGATE_STATES:
                    steps.failed()
                return self.meta_from_decoded(meta)

    def iter_native(
        self,
        result: Many,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Answer], object] | None = None,
        on_interval: Callable[[], object] | None = None,
    ) -> Iterator[tuple[str, object]]:
        """Yield (id, record) of each task as it becomes ready, (id, results) of each group at once."""
        self._ensure_not_eager()
        waiting: dict[str, list[Pending]] = {}
        for each in result.results:
            if isinstance(each, ResultSet):
                yield each.id, each.results
            elif each._cache:
                yield each.id, each._cache
            else:
                waiting.setdefault(each.id, []).append(each)
        for task_id, meta in self.get_many(waiting, timeout, interval, True, on_message, on_interval):
            for each in waiting[task_id]:
                each._maybe_set_cache(dict(meta))
            yield task_id, meta

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Answer], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        max_iterations: int | None = None,
        READY_STATES: frozenset[str] = READY_STATES,  # noqa: N803 - Celery's name
    ) -> Iterator[tuple[str, Answer]]:
        """Yield (task id, record) of each task as it becomes ready; with `max_iterations` of those that are.

        `READY_STATES` is accepted as published: what is ready is the engine's to say.
        """
        missing = dict.fromkeys(task_ids)
        for task_id in list(missing) if self._cache else ():
            if task_id in self._cache:
                del missing[task_id]
                yield task_id, self._cache[task_id]
        if max_iterations:
            arrivals: Iterable[Sequence[tuple[str, Meta]]] = (
                list(self.engine.read_ready(list(missing)).items()),
            )
        else:
            arrivals = self._arrivals(missing, timeout, interval, on_interval)
        for arrived in arrivals:
            for task_id, meta in arrived:
                if meta["status"] != SUCCESS:
                    self.meta_from_decoded(meta)
                self._cache[task_id] = meta
                if on_message is not None:
                    on_message(meta)
                yield task_id, meta

    def _arrivals(
        self,
        task_ids: dict[str, None],
        timeout: float | None,
        interval: float,
        on_interval: Callable[[], object] | None,
    ) -> Iterator[Sequence[tuple[str, Meta]]]:
        steps = Steps(timeout, interval, on_interval)
        while task_ids:
            try:
                for arrived in self.engine.arrivals(list(task_ids), steps.next()):
                    for task_id, _ in arrived:
                        del task_ids[task_id]
                    yield arrived
            except TimeoutError:
                steps.passed()

    # -- life --------------------------------------------------------------------------------

    def __reduce__(self, args: object = (), kwargs: object = None) -> tuple[object, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _arrived, (type(self), self.url)


def _as_raised(result: object) -> object:
    """The exception that the task has raised, where Celery puts one that can be pickled in its place."""
    raised = sys.exc_info()[1]
    if raised is None or not isinstance(result, BaseException) or result.__traceback__ is None:
        return result
    return raised if result.__traceback__ is raised.__traceback__ else result


def _arrived(kind: type[Backend], url: str | None) -> Backend:
    """The backend of the app that is current where a pickled one arrives."""
    app = current_app._get_current_object()
    backend = app.backend
    return backend if isinstance(backend, kind) and backend.url == url else kind(app=app, url=url)
