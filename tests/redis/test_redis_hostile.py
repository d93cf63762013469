"""Whatever may lie in the store or come on a channel: it is named, harms nobody else, and is never run."""

from __future__ import annotations

import json
import logging
import pickle
import zlib

import pytest
from redis import RedisCluster

from settled import chords
from settled.backends.redis import RedisClusterBackend
from settled.codec import compression
from settled.errors import ContentRefused, CorruptRecord, DecodeError, StoreError, TimeoutError
from settled.record import Query
from settled.testing.app import RecordingApp, Request
from settled.testing.threads import Running
from tests.servers import Cluster, until

PATIENCE = 10.0
PUSHED = 3.0
BODY = {"task": "tests.body", "args": [], "kwargs": {}, "options": {"task_id": "body"}}

sprung = []


def spring():
    sprung.append("a pickle was loaded")


class Bomb:
    def __reduce__(self):
        return spring, ()


@pytest.fixture(autouse=True)
def nothing_is_loaded():
    yield
    assert sprung == []


def as_json(**meta):
    return json.dumps(meta).encode()


def packed(payload, content_type=b"application/x-gzip"):
    return compression.MARKER + content_type + b"\0" + payload


def inflating():
    """A small payload that would fill the memory."""
    deflate = zlib.compressobj(1)
    zeros = bytes(1 << 20)
    return packed(b"".join([*(deflate.compress(zeros) for _ in range(257)), deflate.flush()]))


WHOLE = as_json(status="SUCCESS", result=[1, 2, 3], traceback=None, children=[], task_id="t")
PICKLED = pickle.dumps({"status": "SUCCESS", "result": 1}, protocol=4)

RECORDS = {
    "nothing": b"",
    "blank": b" \r\n\t",
    "zeros": bytes(64),
    "noise": bytes(range(255, 127, -1)),
    "cut": WHOLE[:-1],
    "cut in its status": WHOLE[:15],
    "twice": WHOLE * 2,
    "another encoding": WHOLE.decode().encode("utf-16"),
    "a page": b"<html><h1>502 Bad Gateway</h1></html>",
    "null": b"null",
    "NaN": b"NaN",
    "a list": b'["SUCCESS"]',
    "no status": as_json(result=1),
    "a status of NaN": b'{"status": NaN, "result": 1}',
    "a status that is a list": as_json(status=["SUCCESS"], result=1),
    "a status that is a mapping": as_json(status={"SUCCESS": 1}),
    "a status that is a number": as_json(status=1),
    "an empty status": as_json(status=""),
    "deep": b'{"status": "SUCCESS", "result": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a number of many digits": b'{"status": "SUCCESS", "result": ' + b"9" * 100_000 + b"}",
    "a truncated pickle": PICKLED[:-5],
    "a pickle cut in its status": PICKLED[: PICKLED.index(b"SUCCESS") - 1],
    "a pickle": PICKLED,
    "a bomb": pickle.dumps({"status": "SUCCESS", "result": Bomb()}, protocol=4),
    "an old bomb": pickle.dumps({"status": "SUCCESS", "result": Bomb()}, protocol=2),
    "a textual bomb": pickle.dumps(Bomb(), protocol=0),
    "a packed bomb": packed(zlib.compress(pickle.dumps({"status": "SUCCESS", "result": Bomb()}))),
    "truncated msgpack": b"\x82\xa6status\xa7SUCCESS\xa6result",
    "msgpack cut in its status": b"\x82\xa6status\xa7SUC",
    "msgpack of an extension": b"\x82\xa6status\xa7SUCCESS\xa6result\xc7\x03\x05abc",
    "truncated compression": packed(zlib.compress(WHOLE)[:-4]),
    "an unknown compression": packed(WHOLE, b"application/x-nothing"),
    "compressed noise": packed(b"noise"),
    "an unknown content": b"\0settled\0application/x-nothing\0" + WHOLE,
}

FOREIGN = {
    "list": lambda raw, key: raw.rpush(key, "SUCCESS"),
    "hash": lambda raw, key: raw.hset(key, "status", "SUCCESS"),
    "set": lambda raw, key: raw.sadd(key, "SUCCESS"),
    "zset": lambda raw, key: raw.zadd(key, {"SUCCESS": 1}),
    "stream": lambda raw, key: raw.xadd(key, {"status": "SUCCESS"}),
}
"""What may lie under a key where a string should be."""


def key(task_id):
    return f"celery-task-meta-{task_id}"


def part(task_id, place, group="g"):
    return Request(task_id, group=group, group_index=place, chord=BODY)


def test_there_are_more_than_twenty_kinds_of_each():
    assert len(RECORDS) + len(FOREIGN) > 35
    assert len(MESSAGES) > 20


# -- records -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDS)
def test_a_damaged_record_is_named_and_can_be_forgotten(connect, raw, name):
    backend = connect()
    raw.set(key("the-damaged"), RECORDS[name])
    for read in (backend.get_state, backend.get_result, backend.get_traceback, backend.presence):
        with pytest.raises(DecodeError, match="the-damaged"):
            read("the-damaged")
    with pytest.raises(DecodeError, match="the-damaged"):
        backend.wait_for("the-damaged", timeout=PATIENCE)
    backend.forget("the-damaged")
    assert backend.get_state("the-damaged") == "PENDING"


def test_who_waits_already_is_told_of_damage_and_the_others_wait_on(connect, raw):
    """Each kind of damage, one after the other, beside a waiter that none of them concerns."""
    backend = connect()
    other = Running(lambda: backend.wait_for("other", timeout=60))
    for number, payload in enumerate(RECORDS.values()):
        task_id = f"damaged-{number}"
        waiting = Running(lambda task_id=task_id: backend.wait_for(task_id, timeout=PATIENCE))
        until(lambda task_id=task_id: subscribed(raw, task_id), PATIENCE, "the subscription")
        raw.set(key(task_id), payload)
        raw.publish(key(task_id), payload)
        with pytest.raises(DecodeError, match=task_id):
            waiting.result(PUSHED)
    connect().mark_as_done("other", "unharmed")
    assert other.result(PUSHED) == "unharmed"


def test_damage_spoils_no_other_of_those_read_at_once(connect, raw):
    backend = connect()
    for number, payload in enumerate(RECORDS.values()):
        raw.set(key(f"damaged-{number}"), payload)
        backend.mark_as_done(f"whole-{number}", number)
    names = [f"{kind}-{number}" for number in range(len(RECORDS)) for kind in ("damaged", "whole")]
    found = backend.watcher.look(names)
    assert set(found) == set(names)
    for task_id, answer in found.items():
        assert isinstance(answer, DecodeError) == task_id.startswith("damaged"), task_id
        assert task_id in str(answer)


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("name", RECORDS)
def test_a_task_whose_record_is_damaged_can_be_settled_or_says_what_it_is(connect, raw, name, index):
    """A status that is seen still counts, SUCCESS is final even if cut off; any other damage gives way."""
    backend = connect(index=index)
    raw.set(key("t"), RECORDS[name])
    settled = backend.mark_as_done("t", "anew")
    assert settled.state == "SUCCESS"
    if settled.landed:
        assert backend.get_result("t") == "anew"
    else:
        assert b"SUCCESS" in RECORDS[name] or name.startswith("a packed")


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_a_record_cut_anywhere_is_no_hindrance(connect, raw, serializer):
    """A script that reads the beginning of a record never fails for its end."""
    backend = connect(serializer=serializer, accept=["json", "msgpack", "pickle"])
    backend.mark_as_failure("t", KeyError("x"), request=Request("t", retries=3))
    whole = raw.get(key("t"))
    for length in range(min(len(whole), 120)):
        raw.set(key("t"), whole[:length])
        assert backend.mark_as_done("t", "anew", request=Request("t", retries=3)).state == "SUCCESS", length


def test_a_record_that_would_fill_the_memory_is_named(connect, raw):
    backend = connect()
    raw.set(key("t"), inflating())
    with pytest.raises(CorruptRecord, match=r"'t'.*holds more than"):
        backend.wait_for("t", timeout=PATIENCE)
    assert backend.mark_as_done("t", "anew")


UNUSUAL = {
    "not first": b'{"result": 1, "task_id": "t", "status": "SUCCESS"}',
    "escaped": b'{"status": "\\u0053UCCESS", "result": 1}',
    "with blanks": b' {  "status"  :  "SUCCESS"  ,  "result": 1}',
    "on lines": b'{\n  "status": "SUCCESS",\n  "result": 1\n}',
    "behind much": b'{"result": 1, "more": "' + b"x" * 500 + b'", "status": "SUCCESS"}',
    "of another's msgpack": b"\x82\xa6result\x01\xa6status\xa7SUCCESS",
    "as long msgpack": b"\x82\xa6status\xd9\x07SUCCESS\xa6result\x01",
    "packed": packed(zlib.compress(b'{"result": 1, "status": "SUCCESS"}')),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_success_is_final_however_it_is_written(connect, raw, name):
    backend = connect(accept=["json", "msgpack"])
    raw.set(key("t"), UNUSUAL[name])
    for state in ("STARTED", "RETRY", "FAILURE", "SUCCESS", "PROGRESS"):
        settled = backend.store_result("t", "late", state)
        assert (settled.landed, settled.state) == (False, "SUCCESS")
    assert raw.get(key("t")) == UNUSUAL[name]
    assert backend.wait_for("t", timeout=0) == 1


@pytest.mark.parametrize("attempt", [b"NaN", b"1e999", b'"x"', b"null", b"[]", b"-1", b"1.5", b"{}"])
def test_a_failure_with_an_attempt_that_is_none_is_no_hindrance_to_a_read_or_a_write(connect, raw, attempt):
    backend = connect()
    raw.set(key("t"), b'{"status": "FAILURE", "result": null, "attempt": ' + attempt + b"}")
    assert backend.get_state("t") == "FAILURE"
    assert backend.mark_as_done("t", 1).state in ("SUCCESS", "FAILURE")


# -- errors that are none ------------------------------------------------------------------------

EXITS = [
    ("SystemExit", "builtins"),
    ("KeyboardInterrupt", "builtins"),
    ("GeneratorExit", "builtins"),
    ("BaseException", "builtins"),
    ("BaseExceptionGroup", "builtins"),
    ("CancelledError", "asyncio.exceptions"),
    ("system", "os"),
    ("eval", "builtins"),
    ("Popen", "subprocess"),
    ("object", "builtins"),
    ("", ""),
    ("Nested.Class.Of.Nothing", "no.such.module"),
    ("__class__.__base__", "builtins"),
]


@pytest.mark.parametrize(("name", "module"), EXITS)
@pytest.mark.parametrize("state", ["FAILURE", "REVOKED"])
def test_only_exceptions_come_out_of_a_wait(connect, raw, name, module, state):
    stored = {"exc_type": name, "exc_message": ["rm -rf /"], "exc_module": module}
    raw.set(key("t"), as_json(status=state, result=stored))
    with pytest.raises(Exception) as raised:
        connect().wait_for("t", timeout=0)
    assert "rm -rf /" in str(raised.value)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exit_that_celery_pickled_comes_out_as_an_exception(connect, raw, kind):
    raw.set(key("t"), pickle.dumps({"status": "FAILURE", "result": kind("bye")}))
    with pytest.raises(Exception, match="bye"):
        connect(serializer="pickle", accept=["pickle"]).wait_for("t", timeout=0)


RESULTS = [
    None,
    1,
    "text",
    [],
    {},
    {"exc_type": None},
    {"exc_type": ["x"]},
    {"exc_type": "KeyError", "exc_message": 5},
]


@pytest.mark.parametrize("result", RESULTS, ids=repr)
def test_a_failure_whose_exception_is_none_is_raised_all_the_same(connect, raw, result):
    raw.set(key("t"), as_json(status="FAILURE", result=result, task_id="t"))
    with pytest.raises(Exception):  # noqa: B017 - any, but one
        connect().wait_for("t", timeout=0)


# -- other types under our keys --------------------------------------------------------------------


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_type_under_the_key_of_a_record_is_named(connect, raw, kind):
    backend = connect()
    FOREIGN[kind](raw, key("the-foreign"))
    for read in (backend.get_state, backend.get_result, backend.presence):
        with pytest.raises(CorruptRecord, match="the-foreign"):
            read("the-foreign")
    with pytest.raises(CorruptRecord, match="the-foreign"):
        backend.wait_for("the-foreign", timeout=PATIENCE)
    with pytest.raises(StoreError, match="the-foreign"):
        backend.mark_as_done("the-foreign", 1)
    assert raw.type(key("the-foreign")).decode() == kind
    backend.forget("the-foreign")
    assert backend.get_state("the-foreign") == "PENDING"


@pytest.mark.parametrize("kind", FOREIGN)
def test_who_waits_already_is_told_of_another_type_and_the_others_wait_on(connect, raw, kind):
    backend = connect()
    other = Running(lambda: backend.wait_for("other", timeout=PATIENCE))
    waiting = Running(lambda: backend.wait_for("foreign", timeout=PATIENCE))
    until(lambda: subscribed(raw, "foreign") and subscribed(raw, "other"), PATIENCE, "the subscriptions")
    FOREIGN[kind](raw, key("foreign"))
    raw.publish(key("foreign"), "look!")
    with pytest.raises(CorruptRecord, match="foreign"):
        waiting.result(PUSHED)
    connect().mark_as_done("other", "unharmed")
    assert other.result(PUSHED) == "unharmed"


def test_another_type_in_a_cluster_is_named_and_spoils_no_other():
    with (
        Cluster.start() as cluster,
        RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port) as raw,
        RedisClusterBackend(RecordingApp(), url=cluster.url) as backend,
    ):
        backend.app.backend = backend
        for kind, put in FOREIGN.items():
            put(raw, key(kind))
            backend.mark_as_done(f"beside {kind}", kind)
        names = [*FOREIGN, *(f"beside {kind}" for kind in FOREIGN)]
        found = backend.watcher.look(names)
        assert {name for name in names if isinstance(found[name], CorruptRecord)} == set(FOREIGN)
        backend.open_chord("g", ["list", "beside list"], BODY)
        assert "Dependency list" in str(backend.get_result("body"))


def test_a_listing_shows_the_others(connect, raw):
    backend = connect()
    for name, payload in RECORDS.items():
        raw.set(key(name), payload)
    for kind, put in FOREIGN.items():
        put(raw, key(kind))
    backend.mark_as_done("whole", 1)
    rows = {row.task_id: row.state for row in backend.query(Query(limit=1000))}
    assert rows.pop("whole") == "SUCCESS"
    assert set(rows) <= set(RECORDS)
    assert set(rows.values()) <= {"UNREADABLE"}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_type_under_the_key_of_a_group_is_named(connect, raw, kind):
    FOREIGN[kind](raw, "celery-taskset-meta-the-group")
    with pytest.raises(StoreError, match="the-group"):
        connect().restore_group("the-group")


@pytest.mark.parametrize("name", [name for name in RECORDS if name != "nothing"])
def test_a_damaged_group_is_named(connect, raw, name):
    raw.set("celery-taskset-meta-the-group", RECORDS[name])
    with pytest.raises(DecodeError, match="the-group"):
        connect().restore_group("the-group")


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_type_under_the_key_of_a_lease_is_named(connect, raw, kind):
    FOREIGN[kind](raw, "settled-lease-the-name")
    with pytest.raises(StoreError, match="the-name"):
        connect().do_lease(["the-name"], "token", 30.0)


# -- messages ----------------------------------------------------------------------------------


MESSAGES = {
    **RECORDS,
    "a success that is none": as_json(status="SUCCESS", result="forged", task_id="awaited"),
    "a failure that is none": as_json(status="FAILURE", result=None, task_id="awaited"),
    "an exit": as_json(status="FAILURE", result={"exc_type": "SystemExit", "exc_module": "builtins"}),
    "of another task": as_json(status="SUCCESS", result="forged", task_id="other"),
    "huge": b"x" * 16_000_000,
    "protocol": b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\nx\r\n-ERR gone\r\n",
    "an unsubscription": b"*3\r\n$11\r\nunsubscribe\r\n",
    "a number": b"1",
}


def subscribed(raw, task_id):
    return key(task_id).encode() in raw.pubsub_channels()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_never_believed_and_harms_no_waiter(connect, raw, name):
    """It says where to look, and there is nothing there: who waits waits on, until there is."""
    backend = connect()
    awaited = Running(lambda: backend.wait_for("awaited", timeout=PATIENCE))
    marker = Running(lambda: backend.wait_for("marker", timeout=PATIENCE))
    until(lambda: subscribed(raw, "awaited") and subscribed(raw, "marker"), PATIENCE, "the subscriptions")
    for _ in range(3):
        raw.publish(key("awaited"), MESSAGES[name])
    writer = connect()
    writer.mark_as_done("marker", "passed")
    assert marker.result(PUSHED) == "passed"  # so the messages before it have been heard
    with pytest.raises(AssertionError, match="had not returned"):
        awaited.result(0.001)
    writer.mark_as_done("awaited", "true")
    assert awaited.result(PUSHED) == "true"


def test_a_flood_of_messages_harms_no_waiter(connect, raw):
    backend = connect()
    waiting = Running(lambda: backend.wait_for("t", timeout=PATIENCE))
    until(lambda: subscribed(raw, "t"), PATIENCE, "the subscription")
    with raw.pipeline(transaction=False) as pipe:
        for number in range(10_000):
            pipe.publish(key("t"), f"noise {number}")
        pipe.execute()
    connect().mark_as_done("t", "heard")
    assert waiting.result(PUSHED) == "heard"


def test_a_message_about_a_task_that_nobody_waits_for_any_more_is_nothing(connect, raw):
    backend = connect()
    with pytest.raises(TimeoutError):
        backend.wait_for("gone", timeout=0.05)
    waiting = Running(lambda: backend.wait_for("t", timeout=PATIENCE))
    until(lambda: subscribed(raw, "t"), PATIENCE, "the subscription")
    raw.publish(key("gone"), "garbage")
    connect().mark_as_done("t", "heard")
    assert waiting.result(PUSHED) == "heard"


# -- barriers ----------------------------------------------------------------------------------


def hurt(field, value):
    return lambda raw: raw.hset("celery-taskset-meta-g.o", field, value)


def member(value):
    return lambda raw: raw.hset("celery-taskset-meta-g.m", "b", value)


def foreign(suffix, kind):
    def put(raw):
        raw.delete(f"celery-taskset-meta-g{suffix}")
        if kind == "string":
            raw.set(f"celery-taskset-meta-g{suffix}", "garbage")
        else:
            FOREIGN[kind](raw, f"celery-taskset-meta-g{suffix}")

    return put


BARRIERS = {
    "a size that is no number": hurt("size", "three"),
    "a size beyond all bounds": hurt("size", 10**15),
    "an empty size": hurt("size", ""),
    "a count that is no number": hurt("counted", "NaN?"),
    "failures that are no number": hurt("failed", "[]"),
    "an unknown policy": hurt("policy", "whatever"),
    "a member of nothing": member(""),
    "a member without a place": member("-"),
    "a member of an unknown letter": member("X1"),
    "a member at no number": member("-one"),
    "a member at a place far away": member("-999999999"),
    "a member that is binary": member(b"\xff\xfe"),
    "a string for the barrier": foreign(".o", "string"),
    "a list for the barrier": foreign(".o", "list"),
    "a set for the barrier": foreign(".o", "set"),
    "a string for the members": foreign(".m", "string"),
    "a zset for the members": foreign(".m", "zset"),
    "a list for the claim": foreign(".c", "list"),
    "a hash for the claim": foreign(".c", "hash"),
    "a body that is no signature": hurt("body", b"[]"),
    "a body that is damaged": hurt("body", b'{"task": "te'),
    "a body that is a bomb": hurt("body", pickle.dumps(Bomb())),
    "no body": lambda raw: raw.hdel("celery-taskset-meta-g.o", "body"),
    "no body id": lambda raw: raw.hdel("celery-taskset-meta-g.o", "body_id"),
    "a body id that is binary": hurt("body_id", b"\xff"),
    "no policy": lambda raw: raw.hdel("celery-taskset-meta-g.o", "policy"),
}

SHARED = {
    "a string for the parts": foreign(".j", "string"),
    "a list for the parts": foreign(".j", "list"),
    "a string for the counted": foreign(".d", "string"),
    "a hash for the counted": foreign(".d", "hash"),
    "garbage among the counted": lambda raw: raw.sadd(
        "celery-taskset-meta-g.d", "garbage", ":", "x:y:z", b"\xff"
    ),
    "members of others among the counted": lambda raw: raw.sadd("celery-taskset-meta-g.d", "stranger:0"),
    "garbage among the parts": lambda raw: raw.zadd("celery-taskset-meta-g.j", {"garbage": 7}),
    "a size of garbage": lambda raw: raw.set("celery-taskset-meta-g.s", "garbage"),
    "a hash for the size": foreign(".s", "hash"),
    "a list for the growth": foreign(".t", "list"),
    "how many were adopted": hurt("adopted", "many"),
}


def said_or_sent(backend, caplog, group):
    """Whether it came to an end in the open: the body is settled or sent, or the log names the chord."""
    named = any(
        group in record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    )
    return named or bool(backend.app.sent) or backend.get_state("body") != "PENDING"


def open_two(backend):
    backend.open_chord("other", ["x"], {**BODY, "options": {"task_id": "other-body"}})
    backend.open_chord("g", ["a", "b"], BODY)


def errors_of(*calls):
    """The messages of what these calls raise: nothing but errors of ours."""
    said = []
    for call in calls:
        try:
            call()
        except StoreError as exc:
            said.append(str(exc))
        except DecodeError as exc:
            said.append(str(exc))
    return said


@pytest.mark.parametrize("name", BARRIERS)
def test_a_damaged_barrier_is_named_and_other_chords_go_on(connect, raw, server, caplog, name):
    """Its parts are stored whatever becomes of it; what is said of it names the group."""
    backend = connect()
    open_two(backend)
    BARRIERS[name](raw)
    said = errors_of(
        lambda: backend.mark_as_done("a", 1, request=part("a", 0)),
        lambda: backend.mark_as_done("b", 2, request=part("b", 1)),
        lambda: backend.chord_state("g"),
    )
    assert all("'g'" in message or "taskset-meta-g." in message for message in said), said
    assert [backend.get_state(task_id) for task_id in "ab"] == ["SUCCESS", "SUCCESS"]
    backend.store_result("x", "of the other", "SUCCESS")
    for _ in range(2):
        server.clock.advance(chords.RECOUNT_INTERVAL + 1)
        backend.sweep()
    assert [sent.task_id for sent in backend.app.sent if sent.task_id == "other-body"] == ["other-body"]
    assert said or said_or_sent(backend, caplog, "g"), "nothing was said of it"


@pytest.mark.parametrize("name", SHARED)
def test_damage_in_celerys_keys_is_named_and_other_chords_go_on(connect, raw, server, celery, caplog, name):
    app = celery(task_always_eager=True)
    calls = []

    @app.task(name="tests.body", shared=False)
    def body(results):
        calls.append(results)

    backend = connect(app)
    open_two(backend)
    SHARED[name](raw)
    said = errors_of(
        lambda: backend.mark_as_done("a", 1, request=part("a", 0)),
        lambda: backend.mark_as_done("b", 2, request=part("b", 1)),
    )
    assert all("taskset-meta-g." in message for message in said), said
    assert [backend.get_state(task_id) for task_id in "ab"] == ["SUCCESS", "SUCCESS"]
    backend.store_result("x", "of the other", "SUCCESS")
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    backend.sweep()
    assert ["of the other"] in calls
    assert said or calls.count([1, 2]) == 1


def test_a_hundred_damaged_chords_do_not_keep_one_from_being_swept(connect, raw, server):
    """They are due before it, and due for ever."""
    backend = connect()
    for number in range(chords.SWEEP_LIMIT + 5):
        backend.open_chord(f"damaged-{number}", ["m"], {**BODY, "options": {"task_id": f"body-{number}"}})
    backend.store_result("m", 1, "SUCCESS")
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    for number in range(chords.SWEEP_LIMIT + 5):
        raw.delete(f"celery-taskset-meta-damaged-{number}.o")
        raw.set(f"celery-taskset-meta-damaged-{number}.o", "garbage")
        raw.zadd("settled-due", {f"damaged-{number}": 1})
    backend.open_chord("whole", ["x"], BODY)
    backend.store_result("x", "whole", "SUCCESS")
    for _ in range(30):
        server.clock.advance(chords.RECOUNT_INTERVAL + 1)
        backend.sweep()
        if backend.app.sent:
            break
    assert [sent.task_id for sent in backend.app.sent] == ["body"]


def test_names_of_chords_that_are_not_there_are_let_go_of(connect, raw, server):
    backend = connect()
    names = {f"nothing-{number}": 1 for number in range(chords.SWEEP_LIMIT + 5)}
    raw.zadd("settled-due", names)
    raw.zadd("settled-open", names)
    backend.open_chord("whole", ["x"], BODY)
    backend.store_result("x", "whole", "SUCCESS")
    for _ in range(15):
        server.clock.advance(chords.RECOUNT_INTERVAL + 1)
        backend.sweep()
    assert [sent.task_id for sent in backend.app.sent] == ["body"]
    assert raw.exists("settled-due", "settled-open") == 0


def test_names_that_are_binary_are_no_hindrance_to_the_sweep(connect, raw, server, caplog):
    backend = connect()
    raw.zadd("settled-due", {b"\xff\xfe": 1})
    raw.zadd("settled-open", {b"\xfd": 1})
    backend.open_chord("whole", ["x"], BODY)
    backend.store_result("x", "whole", "SUCCESS")
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    backend.sweep()
    assert [sent.task_id for sent in backend.app.sent] == ["body"]


@pytest.mark.parametrize("name", ["settled-due", "settled-open"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_another_type_under_the_keys_of_the_sweep_is_said(connect, raw, name, kind):
    if kind == "zset":
        return
    backend = connect()
    FOREIGN[kind](raw, name)
    with pytest.raises(StoreError, match="settled-due"):
        backend.sweep()


@pytest.mark.parametrize("name", [name for name in RECORDS if name != "nothing"])
def test_a_member_whose_record_is_damaged_fails_the_body_by_its_name(connect, raw, server, name):
    backend = connect()
    backend.open_chord("g", ["a", "b"], BODY)
    backend.mark_as_done("a", 1, request=part("a", 0))
    raw.set(key("b"), RECORDS[name])
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    backend.sweep()
    assert backend.get_state("body") == "FAILURE"
    assert "Dependency b" in str(backend.get_result("body"))
    assert backend.app.sent == []


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_member_whose_record_is_of_another_type_fails_the_body_by_its_name(connect, raw, server, kind):
    backend = connect()
    backend.open_chord("g", ["a", "b"], BODY)
    backend.mark_as_done("a", 1, request=part("a", 0))
    FOREIGN[kind](raw, key("b"))
    server.clock.advance(chords.RECOUNT_INTERVAL + 1)
    backend.sweep()
    assert backend.get_state("body") == "FAILURE"
    assert "Dependency b" in str(backend.get_result("body"))


# -- the index -----------------------------------------------------------------------------------


ROWS = {
    "text": b"garbage",
    "nothing": b"",
    "json": b'{"state": "SUCCESS"}',
    "a number": b"\x05",
    "nil": b"\xc0",
    "an empty array": b"\x90",
    "a short array": b"\x91\xa7SUCCESS",
    "an array of the wrong types": b"\x9e" + b"\x81\xa1x\x01" * 14,
    "truncated": b"\x9e\xa7SUCC",
    "a pickle": PICKLED,
    "a bomb": pickle.dumps(Bomb()),
    "deep": b"\x91" * 10_000,
}


@pytest.mark.parametrize("name", ROWS)
def test_a_damaged_row_of_the_index_harms_no_write_and_no_listing(connect, raw, server, name):
    backend = connect(index=True)
    for task_id in ("damaged", "expiring", "forgotten"):
        backend.store_result(task_id, 1, "STARTED", request=Request(task_id, task="pkg.f"), expires=10)
        raw.hset("settled-index", task_id, ROWS[name])
    server.clock.advance(5)
    assert backend.mark_as_done("damaged", 2, request=Request("damaged", task="pkg.f"))
    backend.forget("forgotten")
    rows = {row.task_id: row.state for row in backend.query()}
    assert rows.pop("damaged") == "SUCCESS"
    assert rows in ({}, {"expiring": "UNREADABLE"})
    server.clock.advance(10)
    for number in range(3):
        assert backend.mark_as_done(f"other-{number}", 1, request=Request(f"other-{number}", task="pkg.f"))
    assert {row.task_id for row in backend.query()} == {"damaged", "other-0", "other-1", "other-2"}
    assert sorted(raw.hkeys("settled-index")) == [b"damaged", b"other-0", b"other-1", b"other-2"]


@pytest.mark.parametrize(
    "name", ["settled-index", "settled-index:t", "settled-index:x", "settled-index:s:SUCCESS"]
)
def test_a_record_is_stored_whatever_lies_where_the_index_should(connect, raw, name):
    backend = connect(index=True)
    raw.set(name, "garbage")
    with pytest.raises(StoreError, match="settled-index"):
        backend.mark_as_done("t", 1)
    assert backend.get_result("t") == 1


def test_what_is_refused_is_not_damaged(connect, raw):
    """The error says what to accept, not that the record is lost."""
    raw.set(key("t"), PICKLED)
    with pytest.raises(ContentRefused, match=r"'t'.*pickle"):
        connect().get_result("t")
