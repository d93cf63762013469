"""`settled show ID`: everything that is known of one task, or of one group."""

from __future__ import annotations

import pprint
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import cast

import msgspec

from settled.backends.base import BaseBackend
from settled.cli import store, text
from settled.errors import ConfigurationError
from settled.record import ChordState, Meta, Presence, Query, Row, holds_exception, is_ready
from settled.states import SUCCESS

LABEL = 10
SHOWN_CHILDREN = 20


def run(arguments: Namespace) -> int:
    """Show a task (or a group, or its chord). Status 2 if there is nothing by that id."""
    with store.opened(arguments.backend) as backend:
        task_id = store.find_id(backend, arguments.id)
        presence = backend.presence(task_id)
        if presence in (Presence.STORED, Presence.PENDING):
            lines = _json(backend, task_id) if arguments.json else _task(backend, task_id)
        elif _is_group(backend, task_id):
            lines = _group(backend, task_id)
        else:
            raise ConfigurationError(_nothing(task_id, presence, arguments.backend))
        for line in lines:
            print(line)
    return 0


def _nothing(task_id: str, presence: Presence, given: str | None) -> str:
    if presence is Presence.UNKNOWN:
        listing = f"settled ls{store.shown_option(given)}"
        return f"nothing is known of {task_id!r}: `{listing}` lists what is stored"
    return f"the record of {task_id!r} was there and is {presence.value}"


def _json(backend: BaseBackend, task_id: str) -> Iterator[str]:
    meta = backend.get_task_meta(task_id, cache=False)
    row = _row(backend, task_id, meta)
    yield text.json_line({**(msgspec.structs.asdict(row) if row else {}), **meta})


# -- a task --------------------------------------------------------------------------------------


def _task(backend: BaseBackend, task_id: str) -> Iterator[str]:
    meta = backend.get_task_meta(task_id, cache=False)
    row = _row(backend, task_id, meta)
    yield _field("task", task_id)
    yield _field("state", meta["status"])
    yield from _fields(meta, row)
    yield from _relations(backend, meta, task_id)
    yield ""
    yield from _outcome(backend, meta)


def _row(backend: BaseBackend, task_id: str, meta: Mapping[str, object]) -> Row | None:
    """The columns of one task, where the engine lists them: first looked for around the time it was done."""
    if not backend.capabilities.queries:
        return None
    query = Query(states=(str(meta["status"]),), limit=store.EVERYTHING)
    done = _timestamp(meta.get("date_done"))
    near = msgspec.structs.replace(query, since=done - 1, until=done + 60) if done else query
    for each in (near, query):
        for row in backend.query(each):
            if row.task_id == task_id:
                return row
    return None


def _timestamp(date_done: object) -> float | None:
    try:
        return datetime.fromisoformat(str(date_done)).timestamp()
    except ValueError:
        return None


def _fields(meta: Mapping[str, object], row: Row | None) -> Iterator[str]:
    called = text.call(meta, row.name if row else None)
    if called:
        yield _field("call", called)
    worker = meta.get("worker") or (row.worker if row else None)
    attempt = meta.get("attempt") or (row.attempt if row else None)
    if row is None:
        if meta.get("date_done"):
            yield _field("done", meta["date_done"])
    else:
        yield _field("created", text.moment(row.created))
        if row.started is not None:
            yield _field("started", text.moment(row.started))
        if row.done is not None:
            yield _field("done", text.moment(row.done) + _took(row))
    if worker:
        yield _field("worker", worker)
    if attempt:
        yield _field("attempt", f"{int(cast('int', attempt)) + 1}")
    if row is not None:
        yield _field("size", text.size(row.size))
        if row.expires is not None:
            yield _field("expires", text.moment(row.expires))


def _took(row: Row) -> str:
    if row.done is None or row.started is None:
        return ""
    return f"  (took {text.duration(max(0.0, row.done - row.started))})"


def _relations(backend: BaseBackend, meta: Mapping[str, object], task_id: str) -> Iterator[str]:
    group = meta.get("group_id") or meta.get("group")
    for name, related in (("group", group), ("parent", meta.get("parent_id")), ("root", meta.get("root_id"))):
        if related and related != task_id:
            yield _field(name, related)
    if isinstance(group, str):
        yield from _chord(backend, group)
    children = meta.get("children")
    if isinstance(children, Sequence) and children:
        yield _field("children", len(children))
        yield from _tree(backend, children, "  ")


def _tree(backend: BaseBackend, forms: Sequence[object], indent: str) -> Iterator[str]:
    """The children as stored, theirs below them."""
    ids = [_id_of(form) for form in forms[:SHOWN_CHILDREN]]
    metas = backend.read_many(ids)
    for task_id, form in zip(ids, forms, strict=False):
        meta = metas.get(task_id)
        members = form[1] if isinstance(form, Sequence) and len(form) > 1 else None
        said = f"group of {len(members)}" if members else str(meta["status"] if meta else "PENDING")
        yield f"{' ' * LABEL}{indent}{text.short_id(task_id)}  {said}  {text.call(meta or {})}".rstrip()
        yield from _tree(
            backend, members or cast("Sequence[object]", (meta or {}).get("children") or ()), indent + "  "
        )
    if len(forms) > SHOWN_CHILDREN:
        yield f"{' ' * LABEL}{indent}... and {len(forms) - SHOWN_CHILDREN:,} more"


def _id_of(form: object) -> str:
    while isinstance(form, (list, tuple)):
        form = form[0]
    return str(form)


def _outcome(backend: BaseBackend, meta: Meta) -> Iterator[str]:
    if holds_exception(meta):
        written = str(meta.get("traceback") or "").rstrip()
        yield written or text.reason(meta)
        return
    value = meta.get("result")
    if not is_ready(meta) and value is None:
        yield "(not ready)"
    elif isinstance(value, str):
        yield value
    else:
        yield pprint.pformat(value, width=max(40, shutil.get_terminal_size().columns), sort_dicts=False)


# -- a group -------------------------------------------------------------------------------------


def _is_group(backend: BaseBackend, group_id: str) -> bool:
    chorded = backend.capabilities.chords and backend.chord_state(group_id) is not None
    return chorded or backend.get_group_meta(group_id, cache=False) is not None


def _group(backend: BaseBackend, group_id: str) -> Iterator[str]:
    yield _field("group", group_id)
    yield from _chord(backend, group_id)
    state = backend.chord_state(group_id) if backend.capabilities.chords else None
    members = state.chord.members if state is not None else ()
    if not members:
        saved = backend.restore_group(group_id, cache=False)
        members = tuple(each.id for each in getattr(saved, "results", ()))
    if members:
        yield _field("members", f"{len(members):,}")
        yield from _tree(backend, members, "")


def _chord(backend: BaseBackend, group_id: str) -> Iterator[str]:
    state = backend.chord_state(group_id) if backend.capabilities.chords else None
    if state is not None:
        yield _field("chord", _chord_said(state))
        yield _field("body", f"{state.chord.body_id}  {backend.get_state(state.chord.body_id)}")


def _chord_said(state: ChordState) -> str:
    failed = sum(each is not None and each != SUCCESS for each in state.parts)
    counted = f"{state.counted:,} of {len(state.parts):,} counted" if state.parts else "all counted"
    said = [counted, f"{failed:,} failed" if failed else "", f"policy {state.chord.policy.value}"]
    said.append("dispatched" if state.done else "due" if state.complete else "open")
    return ", ".join(each for each in said if each)


def _field(name: str, value: object) -> str:
    return f"{name:<{LABEL}}{text.one_line(value)}"
