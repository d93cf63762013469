"""Which serializer wrote a payload, which are accepted, and compression."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settled import codec
from settled.codec import compression
from settled.errors import ConfigurationError, ContentRefused, DecodeError

ALL = frozenset(codec.SERIALIZERS)
TELLING = ["json", "msgpack", "pickle"]


@pytest.mark.parametrize("serializer", ["yml", "", "application/json"])
def test_an_unknown_serializer_is_named_with_the_known(serializer):
    with pytest.raises(ConfigurationError, match=f"'{serializer}'; known are json, msgpack, pickle"):
        codec.encode({}, serializer)


@pytest.mark.parametrize(
    ("accept", "names"),
    [
        (None, {"json"}),
        ("json", {"json"}),
        ("json, application/x-msgpack", {"json", "msgpack"}),
        (["application/x-python-serialize", "json"], {"pickle", "json"}),
        ((name for name in ["json"]), {"json"}),
        ([], set()),
    ],
)
def test_what_is_accepted(accept, names):
    assert codec.accept_set(accept) == names


@pytest.mark.parametrize("accept", ["yml", ["json", "text/html"], [None], [3], ""])
def test_an_unknown_name_is_not_accepted(accept):
    with pytest.raises(ConfigurationError, match="known are json, msgpack, pickle"):
        codec.accept_set(accept)


@pytest.mark.parametrize("serializer", TELLING)
@pytest.mark.parametrize("value", [{}, {"status": "SUCCESS"}, [], [1], None, True, -5, 5, 200, "text", 1.5])
def test_every_payload_says_what_it_is(serializer, value):
    payload = codec.encode(value, serializer)
    assert codec.serializer_of(payload, "none of them, and not asked") == serializer
    assert codec.decode(payload, frozenset({serializer})) == value
    for other in ALL - {serializer}:
        with pytest.raises(ContentRefused, match=f"payload is {serializer}"):
            codec.decode(payload, frozenset({other}))


@pytest.mark.parametrize("accept", [frozenset(), frozenset({"msgpack"})])
def test_the_refusal_says_the_way_out(accept):
    with pytest.raises(ContentRefused, match=r"add 'json' to `accept` \(result_accept_content\)"):
        codec.decode(b"{}", accept)


@pytest.mark.parametrize("payload", ['{"a": "ä"}', bytearray(b"{}"), memoryview(b"{}"), b"{}"])
def test_what_may_hold_a_payload(payload):
    assert isinstance(codec.decode(payload, ALL), dict)


def test_a_text_column_with_a_lone_surrogate_is_damaged():
    with pytest.raises(DecodeError, match="damaged json"):
        codec.decode('{"a": "\ud800"}', ALL)


@pytest.mark.parametrize("default", codec.SERIALIZERS)
def test_a_payload_that_does_not_tell_is_of_the_default(default):
    assert codec.serializer_of(b"(dp0\n", default) == default


def test_a_default_that_is_unknown():
    with pytest.raises(ConfigurationError, match="'yml'"):
        codec.decode(b"status: SUCCESS", ALL, "yml")


@pytest.mark.parametrize(
    "payload", [b"", "", b"\0settled\0text/html\0x", b"\0settled\0", b"\0settled\0\xff\0"]
)
def test_an_empty_payload_and_an_unknown_header(payload):
    with pytest.raises(DecodeError, match=r"empty|says it is"):
        codec.decode(payload, ALL)


@given(st.binary(max_size=80), st.sampled_from(sorted(ALL)))
def test_any_bytes_are_read_or_refused(payload, default):
    for start in (b"", codec.MARKER, compression.MARKER + b"application/x-gzip\0"):
        try:
            codec.decode(start + payload, frozenset({"json", "msgpack"}), default)
        except DecodeError:
            continue
