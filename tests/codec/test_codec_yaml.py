"""YAML as kombu writes and reads it, and how its payloads are told."""

from __future__ import annotations

import sys
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from celery import Celery
from celery.backends.base import KeyValueStoreBackend
from hypothesis import given
from hypothesis import strategies as st
from kombu import serialization

import settled
from settled import codec
from settled.codec import serializers, yaml
from settled.errors import ConfigurationError, ContentRefused, DecodeError, EncodeError
from tests.golden.values import PLAIN, RECORD, TAGGED

YAML = frozenset({"yaml"})
BOTH = frozenset({"json", "yaml"})
VALUES = {**PLAIN, **TAGGED}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


def _kombus(value: object) -> bytes:
    payload: str = serialization.dumps(value, "yaml")[2]
    return payload.encode()


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back(name):
    payload = codec.encode(VALUES[name], "yaml")
    value = codec.decode(payload, YAML, "yaml")
    assert (value, type(value)) == (VALUES[name], type(VALUES[name]))


@given(TREES)
def test_any_plain_value_comes_back_and_is_kombus(value):
    payload = codec.encode(value, "yaml")
    assert codec.decode(payload, YAML, "yaml") == value
    assert serialization.loads(payload, "application/x-yaml", "utf-8", force=True) == value
    assert codec.decode(_kombus(value), YAML, "yaml") == value


def test_a_record_of_celerys_and_a_part_are_read_whatever_the_default():
    app = Celery("yaml", set_as_current=False)
    app.conf.update(result_serializer="yaml", accept_content=["yaml"])
    theirs = KeyValueStoreBackend(app=app, url="x://")
    for value in (RECORD, [1, "id", "SUCCESS", {"a": 1}], {"result": [["g", None], []]}):
        for default in ("yaml", "json"):
            assert codec.decode(theirs.encode(value), BOTH, default) == value
            assert theirs.decode(codec.encode(value, "yaml")) == value


@pytest.mark.parametrize("default", ["yaml", "json"])
@pytest.mark.parametrize(
    "value", [RECORD, [1, "id"], {}, [], {"{": "["}, [[], {}], [{"a": "b"}], 5, -5, True, None]
)
def test_json_and_yaml_are_told_apart_by_a_reader_of_both(value, default):
    assert codec.decode(codec.encode(value, "json"), BOTH, default) == value
    assert codec.decode(codec.encode(value, "yaml"), BOTH, "yaml") == value


@pytest.mark.parametrize("value", [{}, [], [1], {"a": 1}, "", "a", "{", 5])
def test_a_reader_of_yaml_alone_reads_it(value):
    assert codec.decode(codec.encode(value, "yaml"), YAML, "yaml") == value


def test_json_with_a_reader_of_yaml_alone_is_refused():
    with pytest.raises(ContentRefused, match="payload is json"):
        codec.decode(codec.encode(RECORD, "json"), YAML, "yaml")


def test_yaml_is_read_only_where_it_is_accepted():
    payload = codec.encode(RECORD, "yaml")
    with pytest.raises(ContentRefused, match="payload is yaml"):
        codec.decode(payload, frozenset({"json"}), "yaml")
    with pytest.raises(DecodeError, match="damaged json"):
        codec.decode(payload, frozenset({"json"}))


def test_what_yaml_has_of_its_own():
    value = {
        "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "there": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
        "day": date(2026, 1, 2),
        "ids": {1, "two", date(2026, 1, 2)},
        "raw": b"\xff\0",
        7: 1.5,
        None: float("inf"),
        b"k": "bytes",
    }
    payload = codec.encode(value, "yaml")
    assert b"__type__" not in payload
    assert codec.decode(payload, YAML, "yaml") == value
    assert serialization.loads(payload, "application/x-yaml", "utf-8", force=True) == value


def test_subclasses_and_tuples_are_stored_as_their_plain_value():
    class Name(str):
        pass

    value = OrderedDict(pair=(Name("a"), Name("b")))
    assert codec.decode(codec.encode(value, "yaml"), YAML, "yaml") == {"pair": ["a", "b"]}


def test_what_yaml_lacks_is_tagged_as_in_json():
    value = {"price": Decimal("1.50"), "id": UUID(int=7), "at": time(3, 4)}
    payload = codec.encode(value, "yaml")
    assert codec.decode(payload, YAML, "yaml") == value
    assert serialization.loads(payload, "application/x-yaml", "utf-8", force=True)["price"] == {
        "__type__": "decimal",
        "__value__": "1.50",
    }


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"result": [1, object()]}, r"result\[1\]"),
        ({"result": {(1, 2): 3}}, r"result.*a key must be .*, bytes or a date"),
        ({"result": {(1, 2)}}, "result.*a key must be"),
    ],
)
def test_what_cannot_be_stored_is_named_with_its_path(value, path):
    with pytest.raises(EncodeError, match=path):
        codec.encode(value, "yaml")


def test_a_circle_and_a_depth_are_refused():
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(EncodeError, match="contains itself"):
        codec.encode(circle, "yaml")
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(EncodeError, match="nested too deeply"):
        codec.encode(deep, "yaml")


@pytest.mark.parametrize(
    "payload",
    [
        b"a: [",
        b"!!python/object/apply:os.system ['true']",
        b"at: 2026-99-99",
        b"&a {__type__: *a, __value__: *a, c: *a}",
        b"? [a]\n: b",
        b"a: \xff",
        b"a" * 10 + b": 1\n- b",
    ],
)
def test_damaged_or_hostile_yaml_is_refused(payload):
    with pytest.raises(DecodeError, match="damaged yaml"):
        codec.decode(payload, YAML, "yaml")


def test_parts_named_again_and_again_are_looked_at_once():
    lines = ["a0: &a0 {__type__: x, b: 1}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    value = codec.decode("\n".join(lines).encode(), YAML, "yaml")
    assert isinstance(value, dict)
    assert len(value) == 40


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(payload):
    try:
        codec.decode(payload, BOTH, "yaml")
    except DecodeError:
        return


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.setattr(yaml, "find_spec", lambda _name: None)
    yaml._yaml.cache_clear()
    try:
        assert codec.missing("yaml") == "pyyaml"
        assert codec.missing("json") is None
        for attempt in (
            lambda: codec.encode({}, "yaml"),
            lambda: codec.accept_set("yaml"),
            lambda: codec.decode(b"a: 1", BOTH, "yaml"),
            lambda: serializers.DECODERS["yaml"](b"a: 1"),
            lambda: settled.connect("memory://", result_serializer="yaml"),
        ):
            with pytest.raises(ConfigurationError, match="pip install pyyaml"):
                attempt()
    finally:
        yaml._yaml.cache_clear()


def test_a_backend_writes_yaml_and_its_successor_reads_it(tmp_path):
    url = f"sqlite:///{tmp_path}/results.db"
    ours, successor = (
        settled.connect(url, result_serializer="yaml"),
        settled.connect(url, accept_content=["json", "yaml"]),
    )
    try:
        ours.store_result("a", {"rows": [1, date(2026, 1, 2)]}, "SUCCESS")
        ours.mark_as_failure("b", ValueError("no", {"a": 1}))
        ours.store_result("a", None, "STARTED")
        assert successor.get_result("a") == {"rows": [1, date(2026, 1, 2)]}
        assert repr(successor.get_result("b")) == "ValueError('no', {'a': 1})"
    finally:
        ours.close()
        successor.close()
