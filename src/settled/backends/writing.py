"""Writing states: the half of the interface that a worker uses."""

from __future__ import annotations

import os
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from traceback import format_tb
from types import NoneType, TracebackType
from typing import TYPE_CHECKING, NamedTuple, cast

from settled import codec, failure, states
from settled.backends.protocols import Result, field, in_seconds, setting, text_field
from settled.backends.reading import Reader
from settled.codec.serializers import REGISTERED
from settled.errors import ConfigurationError, EncodeError, StoreUnavailable, TaskRevokedError
from settled.record import Claim, Meta, Part, Settle, Settled, checked_id

if TYPE_CHECKING:
    from settled.backends.outbox import Outbox  # 10 ms, for an outage: loaded when there is one

OUTBOX_BYTES = 16 * 1024 * 1024
"""What is kept in memory, default of the option `outbox`; the rest goes to the spool."""

_PLAIN = (dict, str, list, int, float, tuple, NoneType)  # to be told at once: no result handles


def _size(value: object) -> int:
    number = int(value)  # type: ignore[call-overload]
    if number < 0:
        raise ValueError("expected a number of bytes, 0 or more")
    return int(number)


def _path(value: object) -> str:
    if not str(value):
        raise ValueError("expected the path of a folder")
    return os.path.abspath(os.path.expanduser(str(value)))


KEEPING_OPTIONS: Mapping[str, Callable[[object], object]] = {"outbox": _size, "spool": _path}
"""For the `url_options` of an engine that keeps: bytes that may be in memory, and the folder of spools."""


class ExceptionInfo(NamedTuple):
    """What `fail_from_current_stack` stored."""

    type: type[BaseException]
    exception: BaseException
    traceback: str


class Writer(Reader):
    """Encodes one state of one task and hands it to the engine's atomic step."""

    stamps_expiry: bool = False
    """Records carry their own expiry, `expires_at` in UTC seconds, because the store has no place for it."""

    stamps_writes: bool = False
    """An unready record says itself when it was written, for a store that lists records but keeps no times."""

    _outbox: Outbox | None = None

    # -- writing states ----------------------------------------------------------------------

    def mark_as_started(self, task_id: str, **meta: object) -> Settled:
        """Store STARTED with `meta` (pid, hostname, ...) as its result."""
        return self.store_result(task_id, meta, states.STARTED, request=meta.pop("request", None))

    def mark_as_done(self, task_id: str, result: object, request: object = None) -> Settled:
        """Store SUCCESS; count the chord part and dispatch the body if it was the last one."""
        return self.store_result(task_id, result, states.SUCCESS, request=request)

    def mark_as_failure(
        self, task_id: str, exc: BaseException, traceback: object = None, request: object = None
    ) -> Settled:
        """Store FAILURE with the whole exception. `traceback` is text; default the exception's own."""
        return self.store_result(task_id, exc, states.FAILURE, traceback=traceback, request=request)

    def mark_as_retry(
        self, task_id: str, exc: BaseException, traceback: object = None, request: object = None
    ) -> Settled:
        """Store RETRY with the exception that causes the retry."""
        return self.store_result(task_id, exc, states.RETRY, traceback=traceback, request=request)

    def mark_as_revoked(self, task_id: str, reason: str = "", request: object = None) -> Settled:
        """Store REVOKED with a TaskRevokedError that carries `reason`."""
        return self.store_result(task_id, TaskRevokedError(reason), states.REVOKED, request=request)

    def fail_from_current_stack(self, task_id: str, exc: BaseException | None = None) -> ExceptionInfo:
        """Store FAILURE with the exception being handled, or with `exc` and the current stack."""
        current = sys.exc_info()[1]
        error = exc or current
        if error is None:
            raise ConfigurationError(
                "fail_from_current_stack needs an exception: call it while one is handled"
            )
        text = failure.text_of(error if error.__traceback__ else current or error)
        self.mark_as_failure(task_id, error, text)
        return ExceptionInfo(type(error), error, text)

    def store_result(
        self,
        task_id: str,
        result: object,
        status: str,
        traceback: object = None,
        request: object = None,
        **kwargs: object,
    ) -> Settled:
        """Write one state of one task: the record, and with a chord part the barrier, in one step.

        Args:
            status: one of `states`, or any other str for a custom unready state.
            traceback: text, or a traceback object.
            request: the task's request (attributes or items): `chord`, `group`, `group_index`,
                `retries`, `children`, `parent_id`, `root_id`, `task`, `hostname`, ...
            expires: seconds for this one record, instead of the backend's setting; 0 for never.

        Returns a `Settled`, true if the write landed. A value that cannot be stored settles the
        task as FAILURE with the EncodeError; in an unready state the error is raised. With the
        capability `keeps` a write that does not reach the store is kept (`Settled.kept`) and made, behind
        those kept before it, when the store is back; StoreUnavailable only where nothing can hold it.
        """
        if not isinstance(status, str) or not status:  # type: ignore[redundant-expr]
            raise ConfigurationError(
                f"the status of task {task_id!r:.80} must be a non-empty str, not {status!r:.80}"
            )
        expires = in_seconds(kwargs.pop("expires", None), "expires")
        if kwargs:
            raise ConfigurationError(f"store_result takes no {', '.join(sorted(kwargs))}")
        task_id = checked_id(task_id)
        try:
            write = self._write(task_id, result, status, traceback, request, expires)
        except EncodeError as exc:
            if status not in states.READY_STATES:
                raise
            write = self._write(task_id, exc, states.FAILURE, None, request, expires)
        settled = self._settle_or_keep(write)
        if not settled.kept:
            self.follow_up(write, settled)
        return settled

    def _settle_or_keep(self, write: Settle) -> Settled:
        """The atomic step; where the store is away, and the engine keeps, the outbox."""
        if self._outbox is not None and self._outbox.behind(write, self.retry_deadline):
            return Settled(False, write.state, kept=True)
        try:
            return self.call(self.do_settle, write)
        except StoreUnavailable as exc:
            if not self.capabilities.keeps:
                raise
            self.outbox.keep(write, exc)
            return Settled(False, write.state, kept=True)

    @property
    def outbox(self) -> Outbox:
        """What this process keeps while the store is away, of an engine that `keeps`; made at the first need."""
        if self._outbox is None:
            from settled.backends import spool
            from settled.backends.outbox import Outbox

            self.check_fork()
            with self._lock:
                if self._outbox is None:
                    limit = cast(int, self.options.get("outbox", OUTBOX_BYTES))
                    where = self.options.get("spool")
                    self._outbox = Outbox(self, spool.store_of(self.location), where, limit)
        return self._outbox

    def follow_up(self, write: Settle, settled: Settled) -> None:
        """What follows from a write that the store has answered: waiters are told, a claimed body is sent."""
        # Not only if this write landed: the one that did may have been ours, its reply lost.
        if settled.state in states.READY_STATES:
            watcher = self._watcher
            if watcher is not None:
                watcher.notice(write.task_id)
        if write.part is not None:
            self.part_counted(write.part.group_id, write.claim if settled.claimed else None)

    @abstractmethod
    def new_claim(self) -> Claim | None:
        """A claim for one settle; None where this process could not send a body."""

    @abstractmethod
    def part_counted(self, group_id: str, claim: Claim | None) -> None:
        """A part of this chord was counted; `claim` is held if that completed it."""

    def _write(
        self,
        task_id: str,
        result: object,
        status: str,
        traceback: object,
        request: object,
        expires: float | None,
    ) -> Settle:
        ready = status in states.READY_STATES
        meta: Meta = {
            "status": status,
            "result": self.encode_result(result, status),
            "traceback": _traceback_text(result, traceback),
            "children": [],
            "date_done": _now() if ready else None,
            "task_id": task_id,
        }
        if expires is None:
            expires = self.expires_of(status)
        if expires and self.stamps_expiry:
            meta["expires_at"] = self.clock() + expires
        if self.stamps_writes and not ready:  # else `date_done` says it
            meta["updated_at"] = self.clock()
        if request is None:
            return Settle(task_id, status, self.encode(meta), 0, expires or None)
        return self._write_for(request, meta, task_id, status, expires, ready)

    def _write_for(
        self, request: object, meta: Meta, task_id: str, status: str, expires: float | None, ready: bool
    ) -> Settle:
        """The write of a task whose request is known: more fields, and perhaps a chord part."""
        group, parent, root = (text_field(request, name) for name in ("group", "parent_id", "root_id"))
        retries = field(request, "retries")
        attempt = retries if isinstance(retries, int) else 0
        name, worker = text_field(request, "task"), text_field(request, "hostname")
        route = field(request, "delivery_info")
        queue = text_field(route, "routing_key") if isinstance(route, Mapping) else None
        meta["children"] = self.current_task_children(request)
        known = {"group_id": group, "parent_id": parent, "root_id": root, "attempt": attempt or None}
        if self.extended:
            args, kwargs = field(request, "args"), field(request, "kwargs")
            meta.update(name=name, args=args, kwargs=kwargs, worker=worker, retries=attempt, queue=queue)
            meta.update(_stamps_of(request, meta))
        meta.update({key: value for key, value in known.items() if value is not None})
        chord = group if ready and self.capabilities.chords and field(request, "chord") else None
        if chord is not None:  # its part has the result as well
            meta["result"] = codec.fragment(meta["result"], self.serializer)
        payload = self._encode_meta(meta)
        part, claim = (None, None) if chord is None else self._part_of(request, chord, meta)
        return Settle(
            task_id,
            status,
            payload,
            attempt,
            expires or None,
            part,
            claim,
            name,
            worker,
            queue,
            group,
            parent,
            root,
        )

    def _part_of(self, request: object, group: str, meta: Meta) -> tuple[Part, Claim | None]:
        place = field(request, "group_index")
        value = self.part_value(str(meta["task_id"]), str(meta["status"]), meta["result"])
        return Part(group, place if isinstance(place, int) else None, value), self.new_claim()

    def part_value(self, task_id: str, status: str, result: object) -> bytes | None:
        """A chord part as other programs that count on the same store want it; None if there are none."""
        return None

    def _encode_meta(self, meta: Meta) -> bytes:
        try:
            return self.encode(meta)
        except EncodeError:
            # Notes beside the result must not cost it: what cannot be stored of them is shown as text.
            stamped = cast("Iterable[str]", meta.get("stamped_headers") or ())
            notes = {name: meta[name] for name in ("args", "kwargs", *stamped) if name in meta}
            shown = {
                name: failure.describe(note) for name, note in notes.items() if not self._can_encode(note)
            }
            children = [child for child in cast("list[object]", meta["children"]) if self._can_encode(child)]
            return self.encode(meta | shown | {"children": children})

    def _can_encode(self, value: object) -> bool:
        try:
            self.encode(value)
        except EncodeError:
            return False
        return True

    def expires_of(self, status: str) -> float | None:
        """Seconds for which a record in `status` is kept; None or 0 for ever."""
        if self.failure_expires is not None and status in states.PROPAGATE_STATES:
            return self.failure_expires
        return self.expires

    # -- what is stored for a value ------------------------------------------------------------

    def encode_result(self, result: object, status: str) -> object:
        """`result` as the record holds it: an exception in its wire form, a value prepared."""
        if status in self.EXCEPTION_STATES and isinstance(result, BaseException):
            return self.prepare_exception(result)
        return self.prepare_value(result)

    def prepare_value(self, result: object) -> object:
        """A result handle in its stored form; anything else as it is."""
        if isinstance(result, _PLAIN):
            return result
        kind = type(result)  # not the value, which may answer to any name
        if callable(getattr(kind, "as_tuple", None)) and callable(getattr(kind, "ready", None)):
            return cast("Result", result).as_tuple()
        return result

    def prepare_exception(self, exc: BaseException) -> dict[str, object]:
        """The whole exception as plain data; see `failure.to_wire`. The same for every serializer of ours."""
        if self.serializer in REGISTERED:
            return failure.to_wire(exc, storable=self._can_encode)  # a program's own may store less
        return failure.to_wire(exc)

    def prepare_expires(self, value: object, type: type | None = None) -> object:
        """`value` in seconds (float, or `type` of them); None gives the setting `result_expires`."""
        seconds = self.expires if value is None else in_seconds(value, "expires")
        return seconds if seconds is None or type is None else type(seconds)

    def prepare_persistent(self, enabled: bool | None = None) -> bool:
        """`enabled`, or the setting `result_persistent`, or what the engine is."""
        if enabled is not None:
            return enabled
        return bool(setting(self.app.conf, "result_persistent", self.persistent))

    def current_task_children(self, request: object = None) -> list[object]:
        """The tasks that this request has sent, in their stored form."""
        children = None if request is None else field(request, "children")
        return [self.prepare_value(child) for child in cast("Iterable[object]", children or ())]


def _traceback_text(result: object, traceback: object) -> str | None:
    """The traceback as it is stored: as given, or that of the exception."""
    if traceback is not None and not isinstance(traceback, TracebackType):
        return str(traceback)
    if not isinstance(result, BaseException):
        return None if traceback is None else "".join(format_tb(traceback))
    if result.__traceback__ is None and traceback is not None:
        result.__traceback__ = traceback
    return failure.text_of(result) if result.__traceback__ else None


def _stamps_of(request: object, taken: Mapping[str, object]) -> Meta:
    """The stamps of a request as the record names them; one with the name of a field is left out."""
    stamps, names = field(request, "stamps"), field(request, "stamped_headers")
    if not isinstance(stamps, Mapping) or not isinstance(names, list | tuple):
        return {}
    held = {name: stamps[name] for name in names if name in stamps and name not in taken}
    return {"stamped_headers": list(held), **held} if held else {}


def _now() -> str:
    """UTC in ISO 8601, to the microsecond."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_to_the_second(seconds)}.{nanoseconds // 1000:06}+00:00"


@lru_cache(maxsize=1)  # else a twelfth of what a write costs
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
