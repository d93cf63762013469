"""msgpack in kombu's form, both ways, with the tags of JSON for what it lacks."""

from __future__ import annotations

import struct
from collections import namedtuple
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.serialization import registry

from settled import codec
from settled.errors import DecodeError, EncodeError

ACCEPT = frozenset({"msgpack"})
CONTENT_TYPE = codec.SERIALIZERS["msgpack"]

NATIVE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.binary(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
TAGGED = (
    st.dates() | st.datetimes(timezones=st.just(UTC)) | st.times() | st.uuids() | st.decimals(allow_nan=False)
)


def kombu_loads(payload: bytes) -> object:
    return registry.loads(payload, CONTENT_TYPE, "binary", force=True)


def kombu_dumps(value: object) -> bytes:
    return registry.dumps(value, "msgpack")[2]


def read_back(value: object) -> object:
    return codec.decode(codec.encode(value, "msgpack"), ACCEPT)


@given(NATIVE)
def test_a_record_goes_both_ways(value):
    record = {"status": "SUCCESS", "result": value}
    payload = codec.encode(record, "msgpack")
    assert codec.decode(payload, ACCEPT) == kombu_loads(payload) == record
    assert codec.decode(kombu_dumps(record), ACCEPT) == record


@given(NATIVE | TAGGED | st.lists(NATIVE | TAGGED, max_size=4))
def test_any_value_is_read_back(value):
    assert read_back(value) == value


class Money:
    def __json__(self) -> object:
        return {"amount": Decimal("1.5"), "of": [date(2026, 1, 2)]}


class Level(IntEnum):
    HIGH = 3


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {2: "a", 2.5: "b", None: "c", True: "d", b"e": "f"},
            {2: "a", 2.5: "b", None: "c", True: "d", b"e": "f"},
        ),
        (Point(1, (2, 3)), [1, [2, 3]]),
        ([Level.HIGH, bytearray(b"a"), memoryview(b"b")], [3, b"a", b"b"]),
        (Money(), {"amount": Decimal("1.5"), "of": [date(2026, 1, 2)]}),
        ({"id": UUID(int=1), "raw": b"\xff"}, {"id": UUID(int=1), "raw": b"\xff"}),
        ({}, {}),
        (5, 5),
        (127, 127),
        (-1, -1),
    ],
)
def test_is_read_back_as(value, expected):
    assert read_back(value) == expected


@pytest.mark.parametrize("value", range(128))
def test_a_number_that_looks_like_text_travels_behind_a_header(value):
    payload = codec.encode(value, "msgpack")
    assert payload.startswith(b"\0settled\0application/x-msgpack\0")
    assert codec.serializer_of(payload, "json") == "msgpack"


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (2**64, "result", "64 bits"),
        ([-(2**63) - 1], "result[0]", "64 bits"),
        ({"name": "\ud800"}, "result['name']", "surrogate"),
        ({"\ud800": 1}, "result", "surrogate"),
        ({(1, 2): 3}, "result", "or bytes"),
        ([{1}], "result[0]", "__json__"),
    ],
)
def test_the_error_says_where_and_why(value, path, reason):
    with pytest.raises(EncodeError, match=reason) as caught:
        codec.encode({"result": value}, "msgpack")
    assert caught.value.path == path


@pytest.mark.parametrize(
    "payload",
    [
        b"\x81\xa6status",
        b"\xc1",
        b"\x80\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xa1\xff",
        b"\x81\x80\x01",
        b"\x91" * 100_000,
        b"\x91\xd4\x05a",
        b"\xd7\xff" + b"\xff" * 8,
    ],
    ids=lambda payload: repr(payload[:12]),
)
def test_a_damaged_payload(payload):
    with pytest.raises(DecodeError, match="damaged msgpack"):
        codec.decode(payload, ACCEPT)


def test_tags_nested_too_deeply_are_refused():
    inner = kombu_dumps("__type__")
    with pytest.raises(DecodeError, match="damaged msgpack"):
        codec.decode(b"\x91" * 100_000 + inner, ACCEPT)


def test_a_timestamp_of_another_writer_is_a_datetime():
    payload = b"\x91\xd6\xff" + struct.pack(">I", 86400)
    assert codec.decode(payload, ACCEPT) == [datetime(1970, 1, 2, tzinfo=UTC)]
    assert msgpack.unpackb(payload, timestamp=3) == [datetime(1970, 1, 2, tzinfo=UTC)]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(payload):
    for start in (b"\x81", b"\x82\xa8__type__", b"\xdf", b"\x93"):
        try:
            codec.decode(start + payload, ACCEPT)
        except DecodeError:
            continue
