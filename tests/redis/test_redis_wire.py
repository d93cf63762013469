"""What lies in the server after each operation: names, types, lives and values, read behind the engine's back."""

from __future__ import annotations

import json
import threading
from itertools import islice

import msgspec
import pytest

from settled import chords
from settled.chords import DONE_LIFE
from settled.testing.app import Request, Task
from tests.servers import until

BODY = {"task": "tests.body", "args": [], "kwargs": {}, "options": {"task_id": "body"}}
DAY = 24 * 3600
PATIENCE = 10.0


def keys(raw):
    return sorted(key.decode() for key in raw.keys("*"))


def kinds(raw):
    """The type of every key."""
    return {key: raw.type(key).decode() for key in keys(raw)}


def channels(raw):
    return sorted(name.decode() for name in raw.pubsub_channels())


def about(life):
    """Seconds to live as a server tells them a moment later."""
    return pytest.approx(life, abs=5)


def part(task_id, place, group="g"):
    return Request(task_id, group=group, group_index=place, chord=BODY)


def opened(backend, members=("a", "b", "c"), group="g"):
    backend.open_chord(group, members, BODY)
    return backend


# -- records ---------------------------------------------------------------------------------


def test_a_settle_makes_one_key_which_is_celerys(connect, raw):
    connect().mark_as_done("t", {"total": 42})
    assert kinds(raw) == {"celery-task-meta-t": "string"}
    assert raw.ttl("celery-task-meta-t") == about(DAY)


def test_a_record_holds_celerys_fields_in_celerys_order(connect, raw):
    connect().mark_as_done("t", {"total": 42}, request=Request("t", parent_id="p", root_id="r"))
    payload = raw.get("celery-task-meta-t")
    assert payload.startswith(
        b'{"status":"SUCCESS","result":{"total":42},"traceback":null,"children":[],"date_done":"'
    )
    assert json.loads(payload)["task_id"] == "t"
    assert json.loads(payload)["parent_id"] == "p"


@pytest.mark.parametrize(
    ("conf", "given", "life"),
    [
        ({"result_expires": 100}, None, about(100)),
        ({"result_expires": 100}, 7.5, about(7.5)),
        ({"result_expires": 100}, 0, -1),
        ({"result_expires": None}, None, -1),
        ({"result_expires": 0}, None, -1),
        ({"result_expires": 1e30}, None, -1),
    ],
)
def test_a_record_lives_as_long_as_it_is_told(connect, raw, conf, given, life):
    connect(conf=conf).store_result("t", 1, "SUCCESS", expires=given)
    assert raw.ttl("celery-task-meta-t") == life


def test_a_failure_lives_as_long_as_failures_do(connect, raw):
    backend = connect(conf={"result_expires": 100, "result_failure_expires": 1000})
    backend.mark_as_failure("failed", KeyError("x"))
    backend.mark_as_retry("retried", KeyError("x"))
    assert raw.ttl("celery-task-meta-failed") == about(1000)
    assert raw.ttl("celery-task-meta-retried") == about(100)


def test_a_life_shorter_than_a_millisecond_is_one(connect, raw, server):
    connect().store_result("t", 1, "SUCCESS", expires=1e-9)
    server.clock.advance(0.01)
    assert keys(raw) == []


@pytest.mark.parametrize("task_id", ["*", "a b", "ключ", "a\0b", "[x]", "a\nb", "{tag}", "😀"])
def test_an_id_is_in_its_key_as_it_is(connect, raw, task_id):
    backend = connect()
    backend.mark_as_done(task_id, "kept")
    assert raw.keys("*") == [b"celery-task-meta-" + task_id.encode()]
    assert backend.wait_for(task_id, timeout=0) == "kept"


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_what_is_stored_is_what_is_published_on_the_channel_of_the_same_name(connect, raw, serializer):
    with raw.pubsub() as heard:
        heard.subscribe("celery-task-meta-t")
        assert heard.get_message(timeout=PATIENCE)["type"] == "subscribe"
        connect(serializer=serializer).mark_as_done("t", [1, "ü"])
        message = heard.get_message(timeout=PATIENCE)
    assert message["data"] == raw.get("celery-task-meta-t")


def test_a_write_that_does_not_land_is_not_published(connect, raw):
    backend = connect()
    backend.mark_as_done("t", 1)
    with raw.pubsub() as heard:
        heard.subscribe("celery-task-meta-t")
        assert heard.get_message(timeout=PATIENCE)["type"] == "subscribe"
        backend.mark_as_started("t")
        raw.publish("celery-task-meta-t", "the next one")
        assert heard.get_message(timeout=PATIENCE)["data"] == b"the next one"


def test_forget_leaves_nothing(connect, raw):
    backend = opened(connect())
    backend.mark_as_done("a", 1, request=part("a", 0))
    group = backend.app.GroupResult("g", [backend.app.AsyncResult("a")])
    group.save()
    group.forget()
    assert keys(raw) == []


# -- groups ----------------------------------------------------------------------------------


def test_a_saved_group_is_celerys(connect, raw):
    backend = connect()
    members = [backend.app.AsyncResult(each) for each in ("a", "b")]
    backend.save_group("g", backend.app.GroupResult("g", members))
    assert kinds(raw) == {"celery-taskset-meta-g": "string"}
    assert json.loads(raw.get("celery-taskset-meta-g")) == {
        "result": [["g", None], [[["a", None], None], [["b", None], None]]]
    }
    assert raw.ttl("celery-taskset-meta-g") == about(DAY)


def test_a_saved_group_may_live_for_ever(connect, raw):
    backend = connect(conf={"result_expires": None})
    backend.save_group("g", backend.app.GroupResult("g", []))
    assert raw.ttl("celery-taskset-meta-g") == -1


def test_a_deleted_group_is_gone(connect, raw):
    backend = connect()
    backend.save_group("g", backend.app.GroupResult("g", []))
    backend.delete_group("g")
    assert keys(raw) == []


# -- chords ----------------------------------------------------------------------------------


def test_an_open_chord_is_two_hashes_and_a_place_among_the_open(connect, raw):
    opened(connect())
    assert kinds(raw) == {
        "celery-taskset-meta-g.o": "hash",
        "celery-taskset-meta-g.m": "hash",
        "settled-open": "zset",
    }
    assert raw.hgetall("celery-taskset-meta-g.m") == {b"a": b"-0", b"b": b"-1", b"c": b"-2"}
    own = raw.hgetall("celery-taskset-meta-g.o")
    assert json.loads(own.pop(b"body")) == BODY
    assert float(own.pop(b"opened")) == pytest.approx(raw.time()[0] * 1000, abs=5000)
    assert own == {b"body_id": b"body", b"policy": b"all", b"size": b"3", b"counted": b"0", b"failed": b"0"}


def test_an_open_chord_does_not_expire(connect, raw):
    opened(connect(conf={"result_expires": 10}))
    assert {raw.ttl(key) for key in keys(raw)} == {-1}


def test_an_open_chord_is_looked_at_after_the_recount_interval(connect, raw):
    opened(connect())
    [(group, score)] = raw.zrange("settled-open", 0, -1, withscores=True)
    assert group == b"g"
    assert score / 1000 - raw.time()[0] == about(chords.RECOUNT_INTERVAL)


def test_a_member_of_several_places_has_them_all(connect, raw):
    opened(connect(), ["a", "b", "a"])
    assert raw.hgetall("celery-taskset-meta-g.m") == {b"a": b"-0,2", b"b": b"-1"}


def test_a_counted_member_has_the_letter_of_its_state(connect, raw):
    backend = opened(connect(), ["a", "b", "c", "d"])
    backend.mark_as_done("a", 1, request=part("a", 0))
    backend.mark_as_failure("b", KeyError("x"), request=part("b", 1))
    backend.mark_as_revoked("c", request=part("c", 2))
    assert raw.hgetall("celery-taskset-meta-g.m") == {b"a": b"S0", b"b": b"F1", b"c": b"R2", b"d": b"-3"}
    assert raw.hmget("celery-taskset-meta-g.o", "counted", "failed") == [b"3", b"2"]


def test_an_app_without_a_message_queue_makes_none_of_celerys_chord_keys(connect, raw):
    backend = opened(connect())
    backend.mark_as_done("a", 1, request=part("a", 0))
    assert not any(key.endswith((".j", ".t", ".s", ".d", ".c")) for key in keys(raw))


def test_a_claim_is_held_while_the_body_is_sent(connect, raw):
    backend = opened(connect(), ["a"])
    seen = {}

    def look(sent):
        seen.update(kinds(raw), life=raw.ttl("celery-taskset-meta-g.c"), due=raw.zrange("settled-due", 0, -1))

    backend.app.before_send = look
    backend.mark_as_done("a", 1, request=part("a", 0))
    assert (seen["celery-taskset-meta-g.c"], seen["settled-due"]) == ("string", "zset")
    assert seen["life"] == about(chords.CLAIM_LEASE)
    assert seen["due"] == [b"g"]


def test_a_done_chord_leaves_a_marker_for_ours_and_one_for_celerys(connect, raw):
    backend = opened(connect(), ["a"])
    backend.mark_as_done("a", 1, request=part("a", 0))
    assert kinds(raw) == {
        "celery-task-meta-a": "string",
        "celery-taskset-meta-g.o": "hash",
        "celery-taskset-meta-g.c": "string",
    }
    assert raw.get("celery-taskset-meta-g.c") == b"done"
    own = raw.hgetall("celery-taskset-meta-g.o")
    assert sorted(own) == [b"body_id", b"done", b"policy", b"size"]
    for key in ("celery-taskset-meta-g.o", "celery-taskset-meta-g.c"):
        assert raw.ttl(key) == about(DONE_LIFE)


def test_with_a_celery_app_a_chord_is_kept_in_celerys_keys_too(connect, raw, celery):
    backend = opened(connect(celery()))
    assert raw.get("celery-taskset-meta-g.s") == b"3"
    backend.mark_as_done("c", {"x": 1}, request=part("c", 2))
    backend.mark_as_failure("a", KeyError("x"), request=part("a", 0))
    assert kinds(raw) == {
        "celery-task-meta-a": "string",
        "celery-task-meta-c": "string",
        "celery-taskset-meta-g.o": "hash",
        "celery-taskset-meta-g.m": "hash",
        "celery-taskset-meta-g.s": "string",
        "celery-taskset-meta-g.j": "zset",
        "celery-taskset-meta-g.d": "set",
        "settled-open": "zset",
    }
    (failed, first), (done, last) = raw.zrange("celery-taskset-meta-g.j", 0, -1, withscores=True)
    assert (first, last) == (0.0, 2.0)
    assert json.loads(done) == [1, "c", "SUCCESS", {"x": 1}]
    assert json.loads(failed)[:3] == [1, "a", "FAILURE"]
    assert json.loads(failed)[3]["exc_type"] == "KeyError"
    assert raw.smembers("celery-taskset-meta-g.d") == {b"a:0", b"c:2"}


def test_with_a_celery_app_a_chord_that_grows_says_so_where_celery_looks(connect, raw, celery):
    backend = opened(connect(celery()))
    assert backend.grow_chord("g", ["d", "e"]) == 5
    assert raw.get("celery-taskset-meta-g.s") == b"3"
    assert raw.get("celery-taskset-meta-g.t") == b"2"


def test_with_a_celery_app_a_later_success_takes_the_place_of_a_failed_part(connect, raw, celery):
    backend = opened(connect(celery()))
    backend.mark_as_failure("a", KeyError("x"), request=part("a", 0))
    backend.mark_as_done("a", "after all", request=part("a", 0))
    assert [json.loads(each) for each in raw.zrange("celery-taskset-meta-g.j", 0, -1)] == [
        [1, "a", "SUCCESS", "after all"]
    ]
    assert raw.smembers("celery-taskset-meta-g.d") == {b"a:0"}


def test_a_deleted_chord_leaves_nothing(connect, raw, celery):
    backend = opened(connect(celery()))
    backend.grow_chord("g", ["d"])
    backend.do_delete_chord("g")
    assert keys(raw) == []


# -- leases and the index -----------------------------------------------------------------------


def test_a_lease_is_a_key_that_holds_its_token(connect, raw):
    backend = connect()
    backend.do_lease(["name"], "token", 30.0)
    assert kinds(raw) == {"settled-lease-name": "string"}
    assert (raw.get("settled-lease-name"), raw.ttl("settled-lease-name")) == (b"token", about(30))
    backend.do_lease(["name"], "token", 0)
    assert keys(raw) == []


def test_the_index_is_a_hash_of_rows_and_sets_by_what_is_asked_for(connect, raw):
    backend = connect(index=True)
    backend.mark_as_done("t", 1, request=Request("t", task="pkg.f", group="g"))
    assert kinds(raw) == {
        "celery-task-meta-t": "string",
        "settled-index": "hash",
        "settled-index:t": "zset",
        "settled-index:x": "zset",
        "settled-index:s:SUCCESS": "zset",
        "settled-index:n:pkg.f": "zset",
        "settled-index:g:g": "zset",
    }
    row = msgspec.msgpack.decode(raw.hget("settled-index", "t"))
    assert row[:8] == ["SUCCESS", "pkg.f", "worker@kit", "default", "g", False, False, 0]


def test_the_index_forgets_what_is_forgotten(connect, raw):
    backend = connect(index=True)
    backend.mark_as_done("t", 1, request=Request("t", group="g"))
    backend.forget("t")
    assert keys(raw) == []


# -- one prefix for keys and channels -------------------------------------------------------------


def everything(backend):
    """Do whatever makes a key; nothing is finished, so that all of them stay."""
    opened(backend)
    backend.grow_chord("g", ["d"])
    backend.mark_as_done("a", 1, request=part("a", 0))
    opened(backend, ["z"], "full")
    backend.do_settle(msgspec.structs.replace(written(backend, "z", "full"), claim=None))
    backend.do_lease(["name"], "token", 30.0)
    backend.app.backend.save_group("s", backend.app.GroupResult("s", []))


def written(backend, task_id, group):
    return backend._write(task_id, 1, "SUCCESS", None, part(task_id, 0, group), None)


@pytest.mark.parametrize("prefix", ["app:", "с пробелом ", "*", "a{b}c"])
@pytest.mark.parametrize("index", [False, True])
def test_every_key_begins_with_the_prefix(connect, raw, prefix, index):
    everything(connect(prefix=prefix, index=index))
    found = keys(raw)
    assert all(key.startswith(prefix) for key in found), found
    bare = {key.removeprefix(prefix) for key in found}
    wanted = {
        *("celery-task-meta-a", "celery-task-meta-z", "celery-taskset-meta-s"),
        *("celery-taskset-meta-g.o", "celery-taskset-meta-g.m"),
        *("settled-open", "settled-due", "settled-lease-name"),
    }
    assert wanted <= bare
    assert index == ("settled-index" in bare)


def test_with_a_celery_app_every_key_begins_with_the_prefix(connect, raw, celery):
    backend = opened(connect(celery(), prefix="app:"))
    backend.grow_chord("g", ["d"])
    backend.mark_as_done("a", 1, request=part("a", 0))
    backend.on_chord_part_return(Task(part("a", 0)))
    assert all(key.startswith("app:") for key in keys(raw)), keys(raw)
    suffixes = {key.rpartition(".")[2] for key in keys(raw) if "taskset" in key}
    assert suffixes == {"o", "m", "s", "t", "j", "d"}


@pytest.mark.parametrize("prefix", ["", "app:", "*"])
def test_every_channel_begins_with_the_prefix(connect, raw, prefix):
    waiting, writing = connect(prefix=prefix), connect(prefix=prefix)
    told = threading.Event()
    for task_id in ("a", "b"):
        waiting.watcher.add(task_id, lambda _: told.set())
    wanted = [f"{prefix}celery-task-meta-{task_id}" for task_id in ("a", "b")]
    until(lambda: channels(raw) == wanted, PATIENCE, "the subscription")
    assert raw.pubsub_numpat() == 0
    writing.mark_as_done("a", 1)
    assert told.wait(PATIENCE)


def test_nothing_is_subscribed_when_nobody_waits(connect, raw):
    backend = connect()
    backend.mark_as_done("t", 1)
    assert backend.wait_for("t", timeout=PATIENCE) == 1
    assert backend.get_state("other") == "PENDING"
    assert channels(raw) == []


def test_what_nobody_waits_for_any_more_is_unsubscribed(connect, raw):
    backend = connect()
    for_ever, dropped = (backend.watcher.add(task_id, print) for task_id in ("a", "b"))
    until(lambda: len(channels(raw)) == 2, PATIENCE, "the subscription")
    backend.watcher.discard(dropped)
    backend.watcher.add("c", print)
    until(
        lambda: channels(raw) == ["celery-task-meta-a", "celery-task-meta-c"],
        PATIENCE,
        "the end of one of them",
    )
    assert for_ever.task_id == "a"


def test_stores_of_two_prefixes_do_not_see_each_other(connect, raw):
    one, other = connect(prefix="one:", index=True), connect(prefix="other:", index=True)
    for backend in (one, other):
        opened(backend, ["a", "b"])
    one.mark_as_done("a", "one's", request=part("a", 0))
    assert other.get_state("a") == "PENDING"
    assert [row.task_id for row in islice(other.query(), 5)] == []
    assert [state.parts for state in (one.chord_state("g"), other.chord_state("g"))] == [
        ("SUCCESS", None),
        (None, None),
    ]
    assert other.do_lease(["n"], "theirs", 9) == one.do_lease(["n"], "ours", 9) == {"n"}
    one.forget("a")
    one.forget("g")
    assert other.chord_state("g") is not None


def test_a_scan_lists_only_what_has_the_prefix(connect):
    backends = {prefix: connect(prefix=prefix) for prefix in ("", "*", "app:", "app:app:")}
    for number, backend in enumerate(backends.values()):
        backend.mark_as_done(f"t{number}", 1)
    assert {prefix: [row.task_id for row in backend.query()] for prefix, backend in backends.items()} == {
        "": ["t0"],
        "*": ["t1"],
        "app:": ["t2"],
        "app:app:": ["t3"],
    }


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
def test_celerys_global_keyprefix_is_the_same_prefix(connect, raw, celery):
    theirs = celery(result_backend_transport_options={"global_keyprefix": "app:"}).backend
    theirs.store_result("t", 42, "SUCCESS")
    assert keys(raw) == ["app:celery-task-meta-t"]
    assert connect(prefix="app:").get_result("t") == 42
