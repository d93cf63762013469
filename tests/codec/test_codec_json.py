"""JSON in kombu's form, both ways, and what cannot be stored or read."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import sys
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import ModuleType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from settled import codec
from settled.codec.json import is_plain
from settled.errors import DecodeError, EncodeError

JSON = frozenset({"json"})

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary(max_size=40)
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def decoded(payload: bytes) -> object:
    return codec.decode(payload, JSON)


def read_back(value: object) -> object:
    return decoded(codec.encode(value, "json"))


@given(VALUES)
def test_what_we_write_we_read_and_kombu_reads(value):
    payload = codec.encode(value, "json")
    assert decoded(payload) == value
    assert kombu_json.loads(payload) == value


@given(VALUES)
def test_what_kombu_writes_we_read(value):
    assert decoded(kombu_json.dumps(value).encode()) == value


KEYS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)


@given(st.dictionaries(KEYS, st.integers() | st.dictionaries(KEYS, st.none()), max_size=4))
def test_keys_become_text_as_with_kombu(value):
    assert read_back(value) == kombu_json.loads(kombu_json.dumps(value))


class Colour(enum.IntEnum):
    RED = 1


class Mood(enum.StrEnum):
    GLAD = "glad"


class Text(str):
    pass


class Real(float):
    pass


class Money:
    def __repr__(self) -> str:
        return "Money()"

    def __json__(self) -> object:
        return {"amount": Decimal("1.5"), "of": [date(2026, 1, 2)]}


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        (1, (2, "three")),
        Point(1, 2),
        OrderedDict(b=1, a=2),
        {Mood.GLAD: Mood.GLAD, Colour.RED: Colour.RED},
        [Text("a"), Real(1.5), True],
        {"money": Money()},
        {2: "int", None: "none", 1.5: "float", True: "bool"},
        math.inf,
        -math.inf,
        {"status": "SUCCESS", "result": [math.inf]},
        "\ud800",
        {"\udfff": 1, "n": 10**100},
        time(1, 2, 3, tzinfo=UTC),
    ],
    ids=repr,
)
def test_is_stored_as_kombu_stores_it(value):
    assert read_back(value) == kombu_json.loads(kombu_json.dumps(value))


def test_not_a_number_stays_one():
    assert math.isnan(read_back(math.nan))


def test_lazy_text_is_stored_as_text(monkeypatch):
    class Promise:
        def __str__(self) -> str:
            return "translated"

    functional = ModuleType("django.utils.functional")
    functional.Promise = Promise
    monkeypatch.setitem(sys.modules, "django.utils.functional", functional)
    assert read_back({"label": Promise()}) == {"label": "translated"}


@pytest.mark.parametrize("result", ["text", datetime(2026, 1, 2, tzinfo=UTC)], ids=["plain", "tagged"])
def test_a_record_begins_with_its_status(result):
    assert codec.encode({"status": "SUCCESS", "result": result}, "json").startswith(b'{"status":"SUCCESS"')


class Failing:
    def __json__(self) -> object:
        raise LookupError("row is gone")


class Wrongly:
    def __json__(self, extra: object) -> object:
        return extra


class Wrapping:
    def __json__(self) -> object:
        return {"inner": {1, 2}}


class Unruly(dict):
    def items(self):
        raise LookupError("no items today")


@pytest.mark.parametrize(
    ("data", "path", "type_name", "reason"),
    [
        ({"result": {"rows": [0, 1, 2, {"x": {1}}]}}, "result['rows'][3]['x']", "set", "__json__"),
        (object(), "value", "object", "__json__"),
        ([1, [b"", 2j]], "value[1][1]", "complex", "__json__"),
        ({"result": {("a", 1): 2}}, "result", "tuple", "a key must be str"),
        ({b"raw": 2}, "value", "bytes", "a key must be str"),
        ({3: object()}, "value[3]", "object", "__json__"),
        ({True: object()}, "value[True]", "object", "__json__"),
        ({10**60: object()}, "value[<int>]", "object", "__json__"),
        ({"not a name": object()}, "value['not a name']", "object", "__json__"),
        ({"k" * 80: object()}, f"value['{'k' * 60}'...]", "object", "__json__"),
        ({"result": 10**5000}, "result", "int", "digits"),
        ({"result": Failing()}, "result", f"{__name__}.Failing", "row is gone"),
        ({"result": Wrongly()}, "result", f"{__name__}.Wrongly", "missing 1 required"),
        ({"result": [Wrapping()]}, "result[0].__json__()['inner']", "set", "__json__"),
        ({"result": Unruly(a=1)}, "result", "dict", "no items today"),
        ({"result": [Money]}, "result[0]", "type", "__json__"),
        ({"result": bytearray(b"a")}, "result", "bytearray", "__json__"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_error_says_where_and_what(data, path, type_name, reason):
    with pytest.raises(EncodeError) as caught:
        codec.encode(data, "json")
    assert (caught.value.path, caught.value.type_name) == (path, type_name)
    assert str(caught.value).startswith(f"{path}: cannot store {type_name} with serializer 'json'")
    assert reason in str(caught.value)


class FailsOnce:
    failed = False

    def __json__(self) -> object:
        if not self.failed:
            self.failed = True
            raise LookupError("not yet")
        return "now"


def test_a_failure_that_does_not_come_again_is_told_all_the_same():
    with pytest.raises(EncodeError, match=r"value: cannot store dict .*: not yet"):
        codec.encode({"result": FailsOnce()}, "json")


def test_a_long_path_is_cut():
    value: object = object()
    for _ in range(50):
        value = [value]
    with pytest.raises(EncodeError) as caught:
        codec.encode(value, "json")
    assert caught.value.path == "value" + "[0]" * 13 + "..."


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def circular() -> list[object]:
    value: list[object] = []
    value.append({"again": value})
    return value


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_a_circle_is_refused(serializer):
    with pytest.raises(EncodeError, match="contains itself") as caught:
        codec.encode({"result": circular()}, serializer)
    assert caught.value.path == "result[0]['again']"


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_endless_nesting_is_refused(serializer):
    with pytest.raises(EncodeError, match="nested too deeply"):
        codec.encode({"result": nested(100_000)}, serializer)


class Endless:
    def __json__(self) -> object:
        return [Endless()]


def test_endless_reduction_is_refused():
    with pytest.raises(EncodeError, match="nested too deeply"):
        codec.encode(Endless(), "json")


def test_the_same_value_twice_is_no_circle():
    row = {"at": date(2026, 1, 2)}
    assert read_back([row, row]) == [row, row]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": [1, "x", None, True, (2.5, {})]}, True),
        (1.5, True),
        (None, True),
        (math.nan, False),
        ([math.inf], False),
        ({1: 2}, False),
        ({"a": {"b": {2}}}, False),
        ([Text("a")], False),
        (b"a", False),
        ([date(2026, 1, 2)], False),
    ],
)
def test_what_takes_the_fast_path(value, plain):
    assert is_plain(value) is plain


@pytest.mark.parametrize(
    "form",
    [
        {"__type__": "unheard-of", "__value__": 1},
        {"__type__": ["list"], "__value__": 1},
        {"__type__": "datetime", "__value__": 1},
        {"__type__": "datetime", "__value__": "yesterday"},
        {"__type__": "decimal", "__value__": "many"},
        {"__type__": "uuid", "__value__": {"int": 1}},
        {"__type__": "base64", "__value__": None},
        {"__type__": "bytes", "__value__": 7},
        {"__type__": "datetime"},
        {"__type__": "datetime", "value": "2026-01-02"},
        {"__type__": "datetime", "__value__": "2026-01-02", "more": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_a_dict_that_only_looks_tagged_stays_a_dict(form, serializer):
    record = {"status": "SUCCESS", "result": form}
    assert codec.decode(codec.encode(record, serializer), JSON | {"msgpack"}) == record


def test_only_the_hex_of_a_uuid_is_taken():
    form = {"__type__": "uuid", "__value__": {"hex": "0" * 32, "version": 4}}
    assert read_back(form) == UUID(int=0)


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"1e400", math.inf),
        (b"[NaN, -Infinity]", None),
        (b'"\\ud800"', "\ud800"),
        (b" \n[1]", [1]),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b'{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_what_kombu_reads_is_read(payload, value):
    if value is None:
        assert repr(decoded(payload)) == "[nan, -inf]"
    else:
        assert decoded(payload) == value


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b'{"__type__":' * 50_000,
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"1" * 5000,
        b'{"status": "SUCC',
        b"nul",
        b"1 2",
        b'"\x01"',
        b'{"__type__": "\xff"}',
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_a_damaged_payload(payload):
    with pytest.raises(DecodeError, match="damaged"):
        decoded(payload)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(payload):
    for start in (b"", b"{", b'["', b'{"__type__":'):
        try:
            decoded(start + payload)
        except DecodeError:
            continue


@given(VALUES.map(lambda value: json.dumps(value, default=str)), st.data())
def test_a_payload_cut_or_changed_anywhere_is_read_or_refused(text, data):
    payload = bytearray(text.encode())
    place = data.draw(st.integers(0, len(payload)))
    payload[place : place + 1] = data.draw(st.binary(max_size=2))
    with contextlib.suppress(DecodeError):
        decoded(bytes(payload))


@pytest.mark.parametrize("value", [{"plain": 1}, {"at": datetime(2026, 11, 22, tzinfo=UTC)}, {"b": b"\xff"}])
def test_a_payload_that_a_store_keeps_as_text_is_read_like_its_bytes(value):
    payload = codec.encode(value, "json")
    assert codec.decode(payload.decode(), frozenset({"json"})) == value
    assert codec.decode(payload, frozenset({"json"})) == value
