"""What crosses the engine boundary, and the errors."""

from __future__ import annotations

import builtins
import pickle
from uuid import UUID

import pytest

from settled import errors, record
from settled.errors import CorruptRecord, InvalidTaskId, RemoteError, SettledError
from settled.record import (
    MAX_ID_BYTES,
    Chord,
    ChordState,
    FailurePolicy,
    Settled,
    checked_id,
    holds_exception,
    is_complete,
    is_ready,
    meta_of,
    pending_meta,
)


class Text(str):
    pass


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("a", "a"),
        (UUID(int=1), str(UUID(int=1))),
        ("é", "é"),
        (Text("a"), "a"),
        ("x" * 1024, "x" * 1024),
        ("😀" * 256,) * 2,
    ],
)
def test_an_id(given, taken):
    assert checked_id(given) == taken
    assert type(checked_id(given)) is str


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "must be a str or a UUID, not NoneType"), (b"a", "not bytes"), (["a"], "not list"),
        ("", "chord id is empty"), ("\ud800", "not valid Unicode: surrogates"),
        ("x" * 1025, "1025 bytes long"),
        ("😀" * 257, "1028 bytes long"), ("x" * MAX_ID_BYTES + "é", "1026 bytes long"),
    ],
)  # fmt: skip
def test_no_id(given, said):
    with pytest.raises(InvalidTaskId, match=r"^chord id ") as caught:
        checked_id(given, "chord id")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("policy", "size", "counted", "failed", "complete"),
    [
        ("all", 0, 0, 0, True), ("all", 2, 1, 1, False), ("all", 2, 2, 1, True), ("outcomes", 2, 1, 1, False),
        ("first", 2, 1, 1, True), ("first", 2, 1, 0, False), ("first", 2, 2, 0, True),
    ],
)  # fmt: skip
def test_when_a_chord_is_complete(policy, size, counted, failed, complete):
    assert is_complete(FailurePolicy(policy), size, counted, failed) == complete
    parts = ("FAILURE",) * failed + ("SUCCESS",) * (counted - failed) + (None,) * (size - counted)
    chord = Chord("g", tuple(map(str, range(size))), b"", "body", FailurePolicy(policy))
    state = ChordState(chord, parts, False)
    assert (state.counted, state.complete) == (counted, complete)


def test_what_became_of_a_write_is_true_if_it_landed():
    assert Settled(True, "SUCCESS")
    assert not Settled(False, "SUCCESS")


def test_a_record_and_what_is_none():
    meta = {"status": "SUCCESS", "result": 1, "unknown": "kept"}
    assert meta_of(meta, "a") is meta
    for broken in (None, [], "x", 5, {}, {"status": None}, {"status": ""}, {"status": 5}):
        with pytest.raises(CorruptRecord, match="record of task 'a'"):
            meta_of(broken, "a")


def test_what_a_record_says_of_itself():
    pending = pending_meta("a")
    assert (pending["status"], pending["task_id"], pending["result"]) == ("PENDING", "a", None)
    assert not is_ready(pending)
    assert not holds_exception(pending)
    assert [is_ready({"status": state}) for state in ("SUCCESS", "FAILURE", "REVOKED", "RETRY")] == [
        True
    ] * 3 + [False]
    assert [holds_exception({"status": state}) for state in ("SUCCESS", "FAILURE", "REVOKED", "RETRY")] == [
        False
    ] + [True] * 3


def test_every_error_is_a_settled_error_and_says_what_it_means():
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(found) > 15
    for error in found:
        assert issubclass(error, SettledError)
        assert error.__doc__
    assert issubclass(errors.TimeoutError, builtins.TimeoutError)
    assert issubclass(errors.EncodeError, TypeError)


def test_a_remote_error_tells_of_the_original_and_survives_pickling():
    error = RemoteError("app.Broken", "app", ["x", 5], ["builtins.ValueError"], {"code": 7})
    assert str(error) == "app.Broken: x, 5"
    assert str(RemoteError("app.Broken")) == "app.Broken"
    again = pickle.loads(pickle.dumps(error))
    for each in (error, again):
        assert (each.exc_type, each.exc_module, each.exc_args) == ("app.Broken", "app", ("x", 5))
        assert (each.bases, each.attributes, each.exceptions) == (("builtins.ValueError",), {"code": 7}, ())
        assert each.remote_traceback is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (record.Query(), True),
        (record.Query(states=("SUCCESS",), name="add", since=5.0, until=6.0), True),
        (record.Query(states=("FAILURE",)), False),
        (record.Query(name="sub"), False),
        (record.Query(until=5.0), False),
        (record.Query(since=5.5), False),
    ],
)
def test_a_query_finds_what_has_every_field_it_names(query, found):
    assert query.matches(record.Settle("task", "SUCCESS", b"", name="add"), 5.0) is found
