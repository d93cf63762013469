"""The published result-backend interface, as template methods over an engine's hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, cast

from settled import chords
from settled.backends.protocols import Result, field
from settled.backends.tree import result_from_tuple
from settled.backends.writing import Writer
from settled.errors import ChordError, ConfigurationError, DecodeError
from settled.record import Chord, ChordState, Claim, FailurePolicy, Meta, checked_id
from settled.waiting import Watcher

log = logging.getLogger("settled.backends")

CLEANUP_BATCH = 500


class BaseBackend(Writer):
    """The result backend: states, values and failures of tasks, groups and chords.

    Every method that takes a task id accepts a str or a UUID of at most 1,024 bytes and raises
    InvalidTaskId for anything else. Every method that reaches the store raises StoreUnavailable
    when it stays out of reach for `retry_deadline` seconds, and StoreError when it refuses. An engine
    that `keeps` keeps a task's write instead; see `store_result`.

    Args:
        app: what satisfies `protocols.Application`; its settings are read here, once.
        serializer: name for what is written, default the setting `result_serializer` or "json".
        max_cached_results: how many ready results are kept in memory; default the setting
            `result_cache_max` or -1: none.
        accept: serializers that may be read, default the setting `result_accept_content`,
            `accept_content`, or the serializer and json.
        url: where the store is. Other keywords are the engine's options.
    """

    _sweeper: chords.Sweeper | None = None

    # -- forgetting --------------------------------------------------------------------------

    def forget(self, task_id: str, children: bool = False) -> None:
        """Delete the record, and the group and barrier of that id; `children`: theirs as well.

        Repeatable: forgetting what is not there is not an error.
        """
        task_ids = self._family(checked_id(task_id)) if children else [checked_id(task_id)]
        self.call(self.do_forget, task_ids)
        for each in task_ids:
            self._cache.pop(each)
            self._cache.pop(("group", each))
            self.call(self.do_delete_group, each)
            if self.capabilities.chords:
                self.call(self.do_delete_chord, each)
            if self._watcher is not None:
                self._watcher.notice(each)

    def _family(self, task_id: str) -> list[str]:
        """A task, its children, theirs, and so on; members where one of them is a group."""
        found: dict[str, None] = {}
        todo: list[object] = [((task_id, None), None)]
        while todo:
            head, members = cast("tuple[object, Sequence[object] | None]", todo.pop())
            each = checked_id(head[0] if isinstance(head, (list, tuple)) else head)
            todo.extend(members or ())
            if each not in found:
                found[each] = None
                todo.extend(self._known_children(each))
        return list(found)

    def _known_children(self, task_id: str) -> Sequence[object]:
        try:
            meta = self.read_many((task_id,)).get(task_id)
        except DecodeError:
            log.warning("the record of task %r is forgotten unread: its children cannot be known", task_id)
            return ()
        return cast("Sequence[object]", (meta or {}).get("children") or ())

    # -- groups ------------------------------------------------------------------------------

    def save_group(self, group_id: str, result: Result) -> None:
        """Store the members of a group, so that `restore_group` finds them again."""
        meta: Meta = {"result": result.as_tuple()}
        if self.expires and self.stamps_expiry:
            meta["expires_at"] = self.clock() + self.expires
        payload = self.encode(meta)
        group_id = checked_id(group_id, "group id")
        self.call(self.do_write_group, group_id, payload, self.expires or None)
        self._cache.pop(("group", group_id))

    def get_group_meta(self, group_id: str, cache: bool = True) -> Meta | None:
        """`{"result": GroupResult}`, or None if the group was never saved, has expired or was deleted."""
        group_id = checked_id(group_id, "group id")
        cached = self._cache.get(("group", group_id)) if cache else None
        if cached is not None:
            return cached
        payload = self.call(self.do_read_group, group_id)
        if payload is None:
            return None
        try:
            stored = self.decode(payload)
            if not isinstance(stored, dict) or "result" not in stored:
                raise DecodeError(f"no group record but {stored!r:.80}")
            meta: Meta = {**stored, "result": result_from_tuple(stored["result"], self.app)}
        except DecodeError as exc:
            raise type(exc)(f"group {group_id!r}: {exc}") from exc
        if cache:
            self._cache.put(("group", group_id), meta)
        return meta

    def restore_group(self, group_id: str, cache: bool = True) -> object:
        """The GroupResult that was saved, or None."""
        meta = self.get_group_meta(group_id, cache=cache)
        return None if meta is None else meta["result"]

    def reload_group_result(self, group_id: str) -> None:
        """Read the group again and replace the cached one."""
        meta = self.get_group_meta(group_id, cache=False)
        if meta is None:
            self._cache.pop(("group", checked_id(group_id, "group id")))
        else:
            self._cache.put(("group", checked_id(group_id, "group id")), meta)

    def delete_group(self, group_id: str) -> None:
        """Delete the saved group; its tasks' results stay."""
        group_id = checked_id(group_id, "group id")
        self._cache.pop(("group", group_id))
        self.call(self.do_delete_group, group_id)

    # -- chords ------------------------------------------------------------------------------

    def apply_chord(
        self,
        header: Callable[..., object],
        partial_args: Sequence[object],
        group_id: str,
        body: Mapping[str, object],
        **options: object,
    ) -> object:
        """Send the header and have the body sent when all of it is settled; what the header returned.

        Args:
            header: called as `header(*partial_args, task_id=group_id)`; sends the tasks and returns
                their GroupResult.
            body: the body's signature, in its mapping form.
            result: the header's results in order, if known: the barrier is then open before the
                first task is sent.
            on_failure: a `FailurePolicy` or its value; default "all".
            countdown, interval, max_retries: for a store that cannot count; see `fallback_chord_unlock`.
        """
        group_id = checked_id(group_id, "group id")
        given = cast("Sequence[Result] | None", options.pop("result", None))
        members = None if given is None else tasks_of(given)
        policy = _policy(options.get("on_failure"))
        if not self.capabilities.chords:
            sent = header(*partial_args, task_id=group_id)
            members = members if members is not None else header_tasks(sent)
            self.fallback_chord_unlock(group_id, body, result=members, **options)  # type: ignore[arg-type]
            return sent
        if members is None:
            sent = header(*partial_args, task_id=group_id)
            self.open_chord(group_id, [result.id for result in header_tasks(sent)], body, policy)
            return sent
        self.open_chord(group_id, [result.id for result in members], body, policy)
        try:
            return header(*partial_args, task_id=group_id)
        except BaseException:
            self.call(self.do_delete_chord, group_id)
            raise

    def open_chord(
        self,
        group_id: str,
        members: Sequence[str],
        body: object,
        on_failure: FailurePolicy | str = FailurePolicy.ALL,
    ) -> str:
        """Open the barrier over these task ids, in header order; the body's task id.

        Members that are already settled are counted; the body is dispatched if that was all of
        them. Opening a barrier that is open or done changes nothing.
        """
        signature = chords.as_mapping(body)
        group_id = checked_id(group_id, "group id")
        chord = Chord(
            group_id,
            tuple(checked_id(member) for member in members),
            self.encode(signature),
            chords.body_id_of(signature, group_id),
            _policy(on_failure),
        )
        claim = self.new_claim()
        self.part_counted(group_id, claim if self.call(self.do_open_chord, chord, claim) else None)
        return chord.body_id

    def grow_chord(self, group_id: str, members: Sequence[str]) -> int:
        """Add tasks to the header of an open chord; its new size. ChordError if it is complete or unknown.

        A header task that adds to its own chord does so before it is settled itself.
        """
        size = self.call(
            self.do_grow_chord, checked_id(group_id, "group id"), [checked_id(m) for m in members]
        )
        if size is None:
            raise ChordError(f"chord {group_id!r} cannot grow: it is complete, or was never opened")
        return size

    def adopt_chord(self, group_id: str, body: object) -> None:
        """Continue a chord that another program has opened on this store; see `do_adopt_chord`.

        To be called with the body's signature before the first part of it is settled here.
        """
        signature = chords.as_mapping(body)
        group_id = checked_id(group_id, "group id")
        body_id = chords.body_id_of(signature, group_id)
        self.call(self.do_adopt_chord, Chord(group_id, (), self.encode(signature), body_id))

    def size_chord(self, group_id: str, size: int) -> None:
        """Say how many parts such a chord has: it is complete when so many are counted."""
        self.call(self.do_size_chord, checked_id(group_id, "group id"), size)
        self.part_counted(group_id, None)

    def chord_state(self, group_id: str) -> ChordState | None:
        """The barrier as it stands, or None if there is none."""
        return self.call(self.do_read_chord, checked_id(group_id, "group id"))

    def on_chord_part_return(self, task: object, propagate: bool | None = False) -> None:
        """Count the settled task of `task.request` in its chord, and dispatch the body if it was the last.

        For callers that settle by other ways than `mark_as_done` and its like, which count by
        themselves. Counting again changes nothing. `propagate` is as published: the failure
        policy belongs to the chord and is given to `apply_chord`.
        """
        request = field(task, "request") or task
        group_id, task_id = field(request, "group"), field(request, "id")
        if group_id is None or not self.capabilities.chords:
            return
        group_id = checked_id(group_id, "group id")
        claim = self.new_claim()
        claimed = self.call(self.do_count_parts, group_id, (checked_id(task_id),), claim)
        self.part_counted(group_id, claim if claimed else None)

    def fallback_chord_unlock(
        self,
        group_id: str,
        body: object,
        result: Sequence[Result] | None = None,
        countdown: float = 1,
        **kwargs: object,
    ) -> None:
        """For a store that cannot count: send the app's task `celery.chord_unlock`, which polls.

        It is sent with `(group_id, body)`, the header's results as tuples, and `countdown` seconds.
        """
        tasks = getattr(self.app, "tasks", None)
        try:
            unlock = tasks["celery.chord_unlock"]  # type: ignore[index]
        except (KeyError, TypeError) as exc:
            raise ConfigurationError(
                f"{self.url} cannot count chord parts, and the app has no task celery.chord_unlock to poll"
            ) from exc
        kwargs["result"] = [each.as_tuple() for each in result or ()]
        unlock.apply_async((group_id, body), kwargs, countdown=countdown)

    def sweep(self) -> int:
        """Dispatch chords that were left complete and undispatched; how many. Cheap if there are none."""
        return chords.sweep(self)

    def new_claim(self) -> Claim | None:
        return chords.new_claim(self)

    def part_counted(self, group_id: str, claim: Claim | None) -> None:
        if claim is not None:
            chords.dispatch(self, group_id, claim)
        self._start_sweeping()

    @property
    def watcher(self) -> Watcher:
        # Who waits, perhaps for a body, keeps chords going too.
        self._start_sweeping()
        return super().watcher

    def _start_sweeping(self) -> None:
        if getattr(self.app, "sweeps", True):
            self.start_sweeping()

    def start_sweeping(self) -> None:
        """Have a thread of this process look once a second for chords that were left undispatched.

        Using a backend starts it, unless its app says `sweeps = False`. Nothing happens if this process
        cannot send a body.
        """
        if (self._sweeper is None or not self._sweeper.alive) and chords.can_send(self):
            self.check_fork()
            with self._lock:
                if self._sweeper is None or not self._sweeper.alive:
                    self._sweeper = chords.Sweeper(self)

    # -- life --------------------------------------------------------------------------------

    def on_task_call(self, producer: object, task_id: str) -> dict[str, object]:
        """Options to publish a task with. None are needed: waiting subscribes when somebody waits."""
        return {}

    def cleanup(self) -> int:
        """Delete everything that has expired, in small batches; how many records that were.

        Nothing to do where the store expires records by itself.
        """
        if self.capabilities.expiry == "store":
            return 0
        total = 0
        while deleted := self.call(self.do_cleanup, CLEANUP_BATCH):
            total += deleted
        if total and self._watcher is not None:
            self._watcher.notice_all()
        return total

    def process_cleanup(self) -> None:
        """Called after every task by some workers. Nothing is held for one task: there is nothing to do."""

    def close(self) -> None:
        """Stop the watcher and the sweeper and close the store. The next call opens it again.

        What is still kept for the store goes to the spool; StoreUnavailable if that cannot be written.
        """
        outbox, watcher, sweeper = self._outbox, self._watcher, self._sweeper
        try:
            if outbox is not None:
                outbox.close()
        finally:
            if watcher is not None:
                watcher.close()
            if sweeper is not None:
                sweeper.stop()
            self._watcher = self._sweeper = None
            self.do_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _policy(value: object) -> FailurePolicy:
    try:
        return FailurePolicy(str(value or FailurePolicy.ALL))
    except ValueError as exc:
        known = ", ".join(repr(policy.value) for policy in FailurePolicy)
        raise ConfigurationError(f"on_failure must be one of {known}, not {value!r:.80}") from exc


def tasks_of(results: Iterable[Result]) -> list[Result]:
    """The tasks among these handles, those of groups in their group's place."""
    found: list[Result] = []
    for result in results:
        members = getattr(result, "results", None)
        found.extend([result] if members is None else tasks_of(members))
    return found


def header_tasks(sent: object) -> list[Result]:
    """The tasks of what a chord's header returned."""
    results = getattr(sent, "results", None)
    if results is None:
        raise ConfigurationError(f"a chord's header must return a GroupResult, not {type(sent).__name__}")
    return tasks_of(results)
