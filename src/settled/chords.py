"""The barrier behind a chord: open, count, claim, dispatch, done, and the sweep for what was left.

The engine counts parts in its atomic step and grants the claim. What is here turns a complete
barrier into a sent body, exactly once as far as the store can tell: the body's id is fixed when
the barrier is opened, its own record shows a dispatch that was made before, and the claim is
extended just before sending. A holder that pauses for longer than its lease between those two can
still send a second time; that is the same task id, and settles the same record.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from settled import failure
from settled.errors import (
    ChordError,
    ConfigurationError,
    ContentRefused,
    DecodeError,
    ResultExpired,
    SettledError,
    StoreError,
    StoreUnavailable,
)
from settled.record import Chord, ChordState, Claim, FailurePolicy, Meta, is_ready
from settled.states import PENDING, SUCCESS

if TYPE_CHECKING:
    from settled.backends.template import BaseBackend

log = logging.getLogger("settled.chords")

CLAIM_LEASE = 10.0
"""Seconds a claimed body may take to be sent before another process takes over."""

SWEEP_INTERVAL = 1.0
"""Seconds between two looks at what is complete and undispatched."""

SWEEP_LIMIT = 100

RECOUNT_INTERVAL = 30.0
"""Seconds between two recounts of an open chord from its members' records."""

DONE_LIFE = 24 * 3600.0
"""Seconds for which a dispatched chord is remembered, so that it is not opened anew."""


class Sendable(Protocol):
    """A signature bound to an app, as the app's `signature` returns it."""

    def apply_async(self, args: Sequence[object] = ..., *, task_id: str) -> object: ...


class Body(Protocol):
    """A chord's body as its app sends it, or has it fail. An app with ways of its own has `chord_body`."""

    lease: float
    """Seconds that sending it may take."""

    @property
    def task_ids(self) -> Sequence[str]:
        """The tasks it is made of, as far as they are known."""
        ...

    def was_sent(self, metas: Mapping[str, Meta]) -> bool:
        """Whether it was sent, all of it, as the records of its tasks show."""
        ...

    def send(self, results: Sequence[object]) -> None:
        """Send it with its header's results. ChordError if it cannot ever be sent; others are tried again."""

    def fail(self, error: ChordError) -> bool:
        """Settle it as failed; False if that is not in the store yet."""
        ...


class Outcome:
    """What became of one header task, as the body of a chord with the policy "outcomes" gets it.

    `error` is the exception of a task that failed or was revoked, else None.
    """

    __slots__ = ("error", "state", "task_id", "value")

    def __init__(
        self, task_id: str, state: str, value: object = None, error: Exception | None = None
    ) -> None:
        self.task_id = task_id
        self.state = state
        self.value = value
        self.error = error

    def get(self) -> object:
        """The value, or raise the error."""
        if self.error is not None:
            raise failure.show_remote(self.error)
        return self.value

    def __repr__(self) -> str:
        held = failure.describe(self.value if self.error is None else self.error)
        return f"<Outcome {self.task_id} {self.state} {held:.80}>"

    def __reduce__(self) -> tuple[object, ...]:
        # Not every exception survives its own pickle; the stored form of any does.
        wire = None if self.error is None else failure.to_wire(self.error)
        return _outcome_from_wire, (self.task_id, self.state, self.value, wire)


def _outcome_from_wire(task_id: str, state: str, value: object, wire: object) -> Outcome:
    return Outcome(task_id, state, value, None if wire is None else failure.from_wire(wire))


def can_send(backend: BaseBackend) -> bool:
    """Whether this process's app is able to send a body."""
    app = backend.app
    able = callable(getattr(app, "chord_body", None)) or callable(getattr(app, "signature", None))
    return able and bool(getattr(app, "can_send", True))


def new_claim(backend: BaseBackend) -> Claim | None:
    """A claim for one settle; None where this process could not send the body anyway."""
    return Claim(os.urandom(8).hex(), CLAIM_LEASE) if can_send(backend) else None


def as_mapping(body: object) -> dict[str, object]:
    """A signature in its stored form."""
    if isinstance(body, Mapping):
        return dict(body)
    raise ConfigurationError(f"a chord's body must be a signature (a mapping), not {type(body).__name__}")


def body_id_of(body: Mapping[str, object], group_id: str) -> str:
    """The id the body was given, or one derived from the group's: the same each time it is asked."""
    options = body.get("options")
    given = options.get("task_id") if isinstance(options, Mapping) else None
    return str(given or uuid.uuid5(uuid.NAMESPACE_OID, group_id))


def dispatch(backend: BaseBackend, group_id: str, claim: Claim) -> bool:
    """Send the body of a complete chord whose claim we hold, or settle it as failed. True if done here.

    An error while sending is logged and leaves the claim to run out: the next sweep tries again.
    """
    try:
        state = backend.call(backend.do_read_chord, group_id)
        if state is None or state.done:
            return False
        if sent := _deliver(backend, state, claim):
            backend.call(backend.do_finish_chord, group_id)
        return sent
    except Exception:
        # Whoever settled the last part has stored it: that must not look as if it had failed.
        log.exception(
            "the body of chord %s could not be sent; it is tried again in %s s", group_id, claim.lease
        )
        return False


def _was_sent(backend: BaseBackend, body: Body) -> bool:
    """Whether the body was sent before."""
    return body.was_sent(backend.read_many(tuple(dict.fromkeys(body.task_ids))))


def _has_begun(backend: BaseBackend, task_id: str) -> bool:
    return any(meta["status"] != PENDING for meta in backend.read_many((task_id,)).values())


def _deliver(backend: BaseBackend, state: ChordState, claim: Claim | None) -> bool:
    chord = state.chord
    try:
        body = body_of(backend, chord)
    except ContentRefused:
        if _has_begun(backend, chord.body_id):
            return True
        raise  # another process may accept it
    except (DecodeError, ConfigurationError) as exc:
        error = ChordError(f"the body of chord {chord.group_id!r} cannot be read: {exc}")
        error.__cause__ = exc
        return not backend.mark_as_failure(chord.body_id, error).kept
    if _was_sent(backend, body):
        return True
    try:
        results = header_results(backend, state)
        if results is None:
            return False
        if claim is not None:
            lease = Claim(claim.token, max(claim.lease, body.lease))
            if not backend.call(backend.do_claim_chord, chord.group_id, lease):
                return False
        body.send(results)
    except ChordError as error:
        return body.fail(error)  # else it is not in the store yet: the chord stays due until it is
    return True


def body_of(backend: BaseBackend, chord: Chord) -> Body:
    """The body as the backend's app sends it. DecodeError or ConfigurationError if it is none."""
    signature = as_mapping(backend.decode(chord.body))
    make = getattr(backend.app, "chord_body", None)
    return cast("Body", make(chord, signature)) if make else _Signature(backend, chord, signature)


class _Signature:
    """The body of an app that sends signatures one by one."""

    lease = CLAIM_LEASE

    def __init__(self, backend: BaseBackend, chord: Chord, signature: Mapping[str, object]) -> None:
        self._backend = backend
        self._signature = signature
        self.task_ids = (chord.body_id,)

    def was_sent(self, metas: Mapping[str, Meta]) -> bool:
        return any(meta["status"] != PENDING for meta in metas.values())

    def send(self, results: Sequence[object]) -> None:
        bound = cast("Sendable", self._backend.app.signature(self._signature))  # type: ignore[attr-defined]
        bound.apply_async((results,), task_id=self.task_ids[0])

    def fail(self, error: ChordError) -> bool:
        # The request it would have had: it may be a part of an outer chord itself.
        options = self._signature.get("options")
        found = dict(options) if isinstance(options, Mapping) else {}
        request = {**found, "group": found.get("group_id"), "task": self._signature.get("task")}
        return not self._backend.mark_as_failure(self.task_ids[0], error, request=request).kept


def header_results(backend: BaseBackend, state: ChordState) -> list[object] | None:
    """What the body is called with, in header order; ChordError if its policy says it must fail.

    None if it is not due any more: the failure that made it due has given way to a success.
    """
    chord = state.chord
    metas = _header_metas(backend, tuple(dict.fromkeys(chord.members)))
    settled = {
        task_id: meta for task_id, meta in metas.items() if isinstance(meta, DecodeError) or is_ready(meta)
    }
    if any(task_id not in settled for task_id in chord.members):
        metas = {**metas, **backend.call(backend.do_read_parts, chord.group_id), **settled}
    outcomes = [_outcome(backend, task_id, metas.get(task_id)) for task_id in chord.members]
    if chord.policy is FailurePolicy.OUTCOMES:
        return list(outcomes)
    counted = [outcome for outcome, part in zip(outcomes, state.parts, strict=True) if part is not None]
    for outcome in counted:
        if outcome.error is not None:
            raise ChordError(
                f"Dependency {outcome.task_id} raised {failure.describe(outcome.error)}"
            ) from outcome.error
    return None if None in state.parts else [outcome.value for outcome in outcomes]


def _header_metas(backend: BaseBackend, task_ids: Sequence[str]) -> dict[str, Meta | DecodeError]:
    """The header's records; in place of one that cannot be read, why."""
    try:
        return {**backend.read_many(task_ids)}
    except DecodeError:
        return {task_id: meta for each in task_ids for task_id, meta in _one_meta(backend, each).items()}


def _one_meta(backend: BaseBackend, task_id: str) -> dict[str, Meta | DecodeError]:
    try:
        return {**backend.read_many((task_id,))}
    except DecodeError as exc:
        return {task_id: exc}


def _outcome(backend: BaseBackend, task_id: str, meta: Meta | DecodeError | None) -> Outcome:
    if isinstance(meta, DecodeError):
        return Outcome(task_id, "UNREADABLE", error=meta)
    if meta is None or not is_ready(meta):
        gone = ResultExpired(f"the result of header task {task_id!r} is no longer in the store")
        return Outcome(task_id, "EXPIRED", error=gone)
    value = backend.result_of(meta)
    if meta["status"] == SUCCESS:
        return Outcome(task_id, SUCCESS, value)
    error = (
        value
        if isinstance(value, Exception)
        else SettledError(f"task {task_id!r} failed: {failure.describe(value)}")
    )
    return Outcome(task_id, str(meta["status"]), error=error)


def unlock(
    backend: BaseBackend,
    group_id: str,
    members: Sequence[str],
    body: Mapping[str, object],
    policy: FailurePolicy,
) -> bool:
    """One poll of a chord on a store that cannot count: recompute it from the records, dispatch if due.

    True when nothing is left to do. Without claims two pollers may both send: the same task id twice.
    """
    metas = backend.read_many(tuple(dict.fromkeys(members)))
    parts = tuple(
        str(metas[task_id]["status"]) if task_id in metas and is_ready(metas[task_id]) else None
        for task_id in members
    )
    chord = Chord(group_id, tuple(members), backend.encode(dict(body)), body_id_of(body, group_id), policy)
    state = ChordState(chord, parts, False)
    if not state.complete:
        return False
    return _deliver(backend, state, None)


def sweep(backend: BaseBackend, limit: int = SWEEP_LIMIT) -> int:
    """Dispatch what is complete and undispatched, because whoever completed it died; how many."""
    if not backend.capabilities.chords or not can_send(backend):
        return 0
    return _send_due(backend, backend.call(backend.do_due_chords, limit))


def _send_due(backend: BaseBackend, group_ids: Sequence[str]) -> int:
    sent = 0
    for group_id in group_ids:
        try:
            claim = new_claim(backend) if _may_send(backend, group_id) else None
            if claim is not None and backend.call(backend.do_claim_chord, group_id, claim):
                sent += dispatch(backend, group_id, claim)
        except StoreUnavailable:
            raise
        except (StoreError, DecodeError) as exc:
            # What is damaged keeps no other from being sent.
            log.error("chord %r is due and cannot be sent: %s", group_id, exc)
    return sent


def _may_send(backend: BaseBackend, group_id: str) -> bool:
    """Whether this process can do what the chord is due for: its claim would keep those that can from it.

    An app that sends only some signatures says so by `accepts(signature)`.
    """
    accepts = getattr(backend.app, "accepts", None)
    if accepts is None:
        return True
    state = backend.call(backend.do_read_chord, group_id)
    if state is None:
        return False
    try:
        signature = as_mapping(backend.decode(state.chord.body))
        return bool(accepts(signature)) or _was_sent(backend, body_of(backend, state.chord))
    except ContentRefused:
        return _has_begun(backend, state.chord.body_id)
    except (DecodeError, ConfigurationError):
        return True  # nobody can send it: it is to fail


class Sweeper:
    """A daemon thread that sweeps one backend for as long as that lives."""

    def __init__(self, backend: BaseBackend) -> None:
        self._backend = weakref.ref(backend)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settled-sweeper", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False after a fork: threads stay behind."""
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SWEEP_INTERVAL):
            backend = self._backend()
            if backend is None:
                return
            try:
                if backend.capabilities.chords:
                    # One try: the next is in a second, and whoever closes the backend waits for this one.
                    _send_due(backend, backend.do_due_chords(SWEEP_LIMIT))
            except StoreUnavailable as exc:
                log.debug("the sweep for undispatched chords is put off: %s", exc)
            except Exception:
                log.exception("the sweep for undispatched chords failed; it is tried again")
            del backend
