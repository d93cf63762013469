"""Submitting a chord: its header, and the body that waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from settled.executor.attempts import is_finished
from settled.executor.bodies import Bodies, Body
from settled.executor.calls import Call
from settled.executor.digest import digest_of, digest_of_ids
from settled.executor.handles import Handle
from settled.executor.headers import Header
from settled.executor.intake import Intake, look
from settled.executor.tasks import Task
from settled.groups import GroupResult
from settled.record import Chord, FailurePolicy, Meta, checked_id, is_ready
from settled.results import AnyResult, AsyncResult
from settled.states import FAILURE


class Chording:
    """One chord on its way in. Its id and its body's are digests: submitted again, it is found again."""

    def __init__(
        self,
        intake: Intake,
        calls: Sequence[Call[object]],
        body: Call[object],
        policy: FailurePolicy,
        rerun: bool,
    ) -> None:
        self._intake = intake
        self._backend = intake.backend
        self._calls = calls
        self._call = body
        self._rerun = rerun or body.key is None
        members = intake.ids(calls)
        body_id = _body_id(body, members, policy)
        group_id = digest_of_ids("chord", (policy.value, body_id, *members))
        self._chord = Chord(group_id, tuple(members), b"", body_id, policy)
        self._signature = {"task": body.name, "args": [], "kwargs": {}, "options": {"task_id": body_id}}

    def submit(self) -> Handle[object]:
        """The handle of the body."""
        chord, backend = self._chord, self._backend
        handle: Handle[object] = Handle(chord.body_id, backend)
        task = self._intake.task(chord.body_id, self._call)
        found = look(backend, (chord.body_id,)).get(chord.body_id)
        meta = found if isinstance(found, dict) else None
        if meta is not None and self._is_done(meta, task.retries):
            handle.parent = self._header_elsewhere()
            handle.settle(meta, backend.result_of(meta))
            return handle
        if found is not None:
            self._reset(task, meta)
        self._enter(task, handle)
        return handle

    def _header_elsewhere(self) -> GroupResult:
        app, members = self._backend.app, self._chord.members
        results: list[AnyResult] = [AsyncResult(each, self._backend) for each in members]
        return GroupResult(self._chord.group_id, results, app=app)

    def _is_done(self, meta: Meta, retries: int) -> bool:
        if self._rerun:
            return False
        # A ChordError is about the header, of which more may be done by now.
        return is_finished(meta, retries) and not (meta["status"] == FAILURE and _is_chord_error(meta))

    def _reset(self, task: Task, meta: Meta | None) -> None:
        """Have a settled chord begin anew; one that is under way is left as it is."""
        if meta is not None and not is_ready(meta):
            return
        if meta is not None:
            self._backend.call(self._backend.do_forget, (task.task_id,))
        self._intake.clear(task)
        if self._backend.capabilities.chords:
            self._backend.call(self._backend.do_delete_chord, self._chord.group_id)

    def _enter(self, task: Task, handle: Handle[object]) -> None:
        bodies = Bodies.of(self._backend)
        chord, intake = self._chord, self._intake
        flight = intake.flights.enter_parked(task, handle)
        if flight is None:  # submitted before, and under way
            handle.parent = self._header_elsewhere()
            return
        body = Body(intake.flights, flight, self._call)
        bodies.add(chord.body_id, body)
        handle.add_done_callback(lambda _: bodies.remove(chord.body_id, body))
        late = intake.redone(self._calls, chord.members)
        if late and self._backend.capabilities.chords:
            self._backend.call(self._backend.do_delete_chord, chord.group_id)
        header = Header(self._backend, chord, self._signature, body, late)
        header.open()
        handles = intake.many(self._calls, chord.members, chord.group_id)
        handle.parent = GroupResult(chord.group_id, handles, app=self._backend.app)
        header.follow(handles)


def _body_id(body: Call[object], members: Sequence[str], policy: FailurePolicy) -> str:
    if isinstance(body.key, str):
        return checked_id(body.key, "key")
    return digest_of_ids("body", (digest_of(body.fn, body.args, body.kwargs), policy.value, *members))


def _is_chord_error(meta: Meta) -> bool:
    wire = meta.get("result")
    return isinstance(wire, Mapping) and wire.get("exc_type") == "ChordError"
