"""Task ids are any text, and kept apart."""

from __future__ import annotations

import uuid

from settled.errors import InvalidTaskId
from settled.record import Chord, Part
from settled.testing.app import Request
from settled.testing.checks.expecting import raised
from settled.testing.contract import check
from settled.testing.store import Store

STRANGE = (
    "a", "A", " a", "a ", "a\n", "a\r\n", "a\t", "a/b", "a\\b", "../a", "..", ".", "/", "a:b", "a;b", "a'b", 'a"b',
    "a%b", "a%2Fb", "a_b", "a*", "a?", "[a]", "a,b", "a b", "a+b", "a=", "{a}", "$a", "#a", "a\0b", "a\0", "-a", "--",
    "null", "None", "0", "00", "1", "1.0", "é", "e\u0301", "ß", "SS", "İ", "☃", "\U0001f600", "\U0001f600" * 256,
    "x" * 1023, "x" * 1024, "celery-task-meta-a", "a.json", "CON", "nul",
)  # fmt: skip
"""Ids that some store would take for one another, or for something else."""

NO_IDS: tuple[object, ...] = (None, "", 5, b"bytes", ["a"], "x" * 1025, "\U0001f600" * 2560, "\ud800")


@check("ids")
def strange_ids_are_kept_apart(store: Store) -> None:
    """Ids with separators, wildcards, newlines, NUL, either case or any Unicode are kept apart."""
    for number, task_id in enumerate(STRANGE):
        assert store.backend.mark_as_done(task_id, number), f"{task_id!r} was taken for another id"
    assert [store.backend.get_result(task_id) for task_id in STRANGE] == list(range(len(STRANGE)))
    assert set(store.backend.do_read(STRANGE)) == set(STRANGE)


@check("ids")
def strange_ids_are_forgotten_apart(store: Store) -> None:
    """Forgetting a strange id forgets that one and no other."""
    for number, task_id in enumerate(STRANGE):
        store.backend.mark_as_done(task_id, number)
    store.backend.do_forget(STRANGE[::2])
    assert {task_id for task_id in STRANGE if store.stored(task_id) is not None} == set(STRANGE[1::2])


@check("ids")
def strange_group_ids_are_kept_apart(store: Store) -> None:
    """Groups of strange ids are kept apart."""
    for number, group_id in enumerate(STRANGE):
        store.backend.do_write_group(group_id, b"%d" % number, None)
    read = [store.backend.do_read_group(group_id) for group_id in STRANGE]
    assert [int(payload or -1) for payload in read] == list(range(len(STRANGE)))


@check("ids", "chords")
def strange_members_are_counted_apart(store: Store) -> None:
    """A chord counts members of strange ids, each in its own place."""
    store.backend.do_open_chord(Chord("g\n'\0/é", STRANGE, b"{}", "body"), None)
    for number, task_id in enumerate(STRANGE):
        state = store.backend.do_read_chord("g\n'\0/é")
        assert state is not None
        assert state.chord.members == STRANGE
        assert [part is not None for part in state.parts] == [place < number for place in range(len(STRANGE))]
        store.settle(task_id, part=Part("g\n'\0/é", number))


@check("ids", "leases")
def strange_leases_are_kept_apart(store: Store) -> None:
    """Leases of strange names are kept apart."""
    for number, name in enumerate(STRANGE):
        assert store.backend.do_lease((name,), f"token-{number}", 60.0) == {name}
    assert store.backend.do_lease(STRANGE, "token-3", 60.0) == {STRANGE[3]}


@check("ids")
def a_uuid_is_its_text(store: Store) -> None:
    """A UUID object and its text are the same id."""
    task_id = uuid.uuid4()
    store.backend.mark_as_done(task_id, 1)  # type: ignore[arg-type]
    assert store.backend.get_result(str(task_id)) == 1
    assert store.backend.get_result(task_id) == 1  # type: ignore[arg-type]


@check("ids")
def what_is_no_id_is_refused(store: Store) -> None:
    """None, empty, too long, not text: InvalidTaskId, before anything is stored."""
    backend = store.backend
    for task_id in NO_IDS:
        calls = (
            lambda each: backend.mark_as_done(each, 1),
            backend.get_state,
            lambda each: backend.wait_for(each, timeout=0),
            backend.forget,
            backend.restore_group,
            lambda each: next(backend.get_many([each], timeout=0)),
        )
        for call in calls:
            error = raised(lambda call=call, task_id=task_id: call(task_id))  # type: ignore[misc]
            assert isinstance(error, InvalidTaskId), f"{task_id!r:.40}: {error!r}"


@check("ids", "chords")
def task_group_and_chord_may_share_an_id(store: Store) -> None:
    """A task, a group and a chord of the same id do not touch each other."""
    backend = store.backend
    backend.do_write_group("same", b"group", None)
    backend.do_open_chord(Chord("same", ("same", "other"), b"{}", "body"), None)
    backend.mark_as_done("same", 5, request=Request("same", group="same", group_index=0, chord={"task": "t"}))
    state = backend.do_read_chord("same")
    assert state is not None
    assert state.parts == ("SUCCESS", None)
    assert backend.get_result("same") == 5
    assert backend.do_read_group("same") in (b"group", "group")
    backend.do_delete_group("same")
    backend.do_delete_chord("same")
    assert backend.get_result("same") == 5
